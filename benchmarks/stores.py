"""Study stores beside Optuna's: trials per second, time to open, memory per trial.

    python benchmarks/stores.py [--trials 400] [--rounds 3] [--postgres URL] [--json FILE]

A trial is the same work for both: begin, five decisions, a child program of 2.3 kB, three reports of one metric, and
the result, each at once visible to other processes. Every measurement runs in processes of its own on an empty store.
All stores are measured in turn, `--rounds` times over; a ratio is the median of those within one round, with the
smallest and the largest, so that a machine that others use too shifts both sides alike.

Classes of durability: Optuna's SQLite (rollback journal, synchronous=FULL) and its journal file (fsync after each
append) write results that survive a power cut. Ours do with `durability="power"`; with the default, `process`, results
survive the death of any process, and a power cut may take the latest. Ratios are given for both, and for Optuna's two
on a memory disk (/dev/shm), where nothing waits for a disk and only the CPU counts.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PROGRAM = "x" * 2300
PROCESSES = (1, 2, 4)


def ours(where: str, durability: str, trials: int) -> None:
    from mutandis.flows.studies.stores import StudyHeader, open_store

    with open_store(where, durability=durability) as store:
        log = store.open("study", StudyHeader())
        for i in range(trials):
            dna = {"a": i % 5, "b": i % 7, "c": 0.1 * i, "d": 1e-3, "e": 3}
            lease = log.claim({"dna": dna, "program": PROGRAM})
            assert lease is not None
            for step in range(3):
                log.report(lease, {"loss": 1.0 / (step + 1)}, step=step)
            log.finish(lease, {"state": "completed", "rewards": [0.5]})


def optunas(where: str, trials: int) -> None:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.RandomSampler()  # The cheapest: what is measured is the storage.
    study = optuna.load_study(study_name="study", storage=_optuna_storage(where), sampler=sampler)
    floats, ints = optuna.distributions.FloatDistribution(0.0, 1e9), optuna.distributions.IntDistribution(0, 9)
    for _ in range(trials):
        trial = study.ask({"a": ints, "b": ints, "c": floats, "d": floats, "e": ints})
        trial.set_user_attr("program", PROGRAM)
        for step in range(3):
            trial.report(1.0 / (step + 1), step)
        study.tell(trial, 0.5)


def _optuna_storage(where: str) -> Any:
    import optuna

    if where.endswith(".log"):
        backend = optuna.storages.journal.JournalFileBackend(where)
        return optuna.storages.JournalStorage(backend)
    return optuna.storages.RDBStorage(f"sqlite:///{where}", engine_kwargs={"connect_args": {"timeout": 60}})


def optuna_prepare(where: str) -> None:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    optuna.create_study(study_name="study", storage=_optuna_storage(where), sampler=optuna.samplers.RandomSampler())


def _timed(work: Any, arguments: tuple[Any, ...], barrier: Any, results: Any) -> None:
    import warnings

    warnings.simplefilter("ignore")
    if work is ours:
        import mutandis.flows.studies.stores  # noqa: F401 - importing is not measured.
    else:
        import optuna  # noqa: F401
    barrier.wait()
    start, cpu = time.time(), time.process_time()
    work(*arguments)
    results.put((start, time.time(), time.process_time() - cpu))


def rate(work: Any, arguments: tuple[Any, ...], trials: int, count: int) -> tuple[float, float]:
    """Returns trials per second of wall time, and CPU milliseconds per trial, of `count` processes together."""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(count), context.Queue()
    share = trials // count
    running = [context.Process(target=_timed, args=(work, (*arguments, share), barrier, results)) for _ in range(count)]
    for process in running:
        process.start()
    times = [results.get(timeout=600) for _ in running]
    for process in running:
        process.join()
    wall = max(end for _, end, _ in times) - min(start for start, _, _ in times)
    return share * count / wall, 1e3 * sum(cpu for _, _, cpu in times) / (share * count)


def cases(folder: Path, fast: Path, postgres: str | None) -> list[tuple[str, str, Any, tuple[Any, ...], int]]:
    """Returns (name, durability, work, arguments, how many times as many trials) of what is measured."""
    made: list[tuple[str, str, Any, tuple[Any, ...], int]] = [
        ("sqlite", "power", ours, (f"{folder}/power.db", "power"), 2),
        ("jsonl", "power", ours, (f"{folder}/power.jsonl", "power"), 2),
        ("sqlite", "process", ours, (f"{folder}/process.db", "process"), 10),
        ("jsonl", "process", ours, (f"{folder}/process.jsonl", "process"), 10),
        ("sqlite", "memory disk", ours, (f"{fast}/ours.db", "power"), 10),
        ("jsonl", "memory disk", ours, (f"{fast}/ours.jsonl", "power"), 10),
        ("optuna sqlite", "power", optunas, (f"{folder}/optuna.db",), 0),
        ("optuna journal", "power", optunas, (f"{folder}/optuna.log",), 1),
        ("optuna sqlite", "memory disk", optunas, (f"{fast}/optuna.db",), 0),
        ("optuna journal", "memory disk", optunas, (f"{fast}/optuna.log",), 1),
    ]
    if postgres:
        made += [("postgresql", d, ours, (postgres, d), 1) for d in ("power", "process")]
    return made


_OPEN = """
import sys, time, resource
from mutandis.flows.studies.stores import open_store
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start, cpu = time.perf_counter(), time.process_time()
log = open_store(sys.argv[1]).open("study")
opened, opened_cpu = time.perf_counter() - start, time.process_time() - cpu
start, cpu = time.perf_counter(), time.process_time()
trials = log.trials()
print(opened, opened_cpu, time.perf_counter() - start, time.process_time() - cpu, len(trials))
"""

_MEMORY = """
import sys, tracemalloc
from mutandis.flows.studies.stores import StudyHeader, open_store
log = open_store(sys.argv[1]).open("memory", StudyHeader())
def work(count):
    for i in range(count):
        lease = log.claim({"dna": {"a": i}})
        log.report(lease, {"loss": 0.5}, step=1)
        log.finish(lease, {"state": "completed", "rewards": [0.5]})
work(100)
tracemalloc.start()
for part in range(2):
    before = tracemalloc.get_traced_memory()[0]
    work(1000)
    print((tracemalloc.get_traced_memory()[0] - before) / 1000)
"""


def script(text: str, where: str) -> list[float]:
    """Runs a program in a process of its own and returns the numbers that it prints."""
    done = subprocess.run([sys.executable, "-c", text, where], capture_output=True, text=True, check=True)
    return [float(word) for word in done.stdout.split()]


def measure(trials: int, rounds: int, postgres: str | None, num_opened: int) -> dict[str, Any]:
    """Returns all figures."""
    folder, fast = Path(tempfile.mkdtemp(prefix="stores-")), Path(tempfile.mkdtemp(prefix="stores-", dir="/dev/shm"))
    found: dict[str, Any] = {"rates": [], "open": [], "memory": []}
    try:
        for count, number in itertools.product(PROCESSES, range(rounds)):
            for name, durability, work, arguments, times in cases(folder, fast, postgres):
                for path in (*folder.iterdir(), *fast.iterdir()):
                    path.unlink()
                if work is optunas:
                    optuna_prepare(*arguments)
                total = trials * times if times else max(trials // 8, 8)
                per_second, cpu_ms = rate(work, arguments, total, count)
                row = {"store": name, "class": durability, "processes": count, "round": number, "trials": total,
                       "trials_per_s": round(per_second, 1), "cpu_ms_per_trial": round(cpu_ms, 3)}  # fmt: skip
                found["rates"].append(row)
                print(f"{name:16}{durability:14}{count} process(es) {total:6} trials "
                      f"{per_second:10,.1f} trials/s {cpu_ms:9.3f} CPU ms", flush=True)  # fmt: skip
        for name in ("big.db", "big.jsonl"):
            ours(str(folder / name), "process", num_opened)
            opened, opened_cpu, read, read_cpu, count = script(_OPEN, str(folder / name))
            found["open"].append({"store": name, "trials": count, "open_s": opened, "open_cpu_s": opened_cpu,
                                  "read_s": read, "read_cpu_s": read_cpu})  # fmt: skip
            print(f"{name:16}{count:,.0f} trials: open {opened:.2f} s ({opened_cpu:.2f} CPU), "
                  f"read all {read:.2f} s ({read_cpu:.2f} CPU)")  # fmt: skip
        for name in ("memory.db", "memory.jsonl"):
            first, second = script(_MEMORY, str(folder / name))
            found["memory"].append({"store": name, "bytes_per_trial": [first, second]})
            print(f"{name:16}{first:.1f} then {second:.1f} bytes of memory per trial")
    finally:
        shutil.rmtree(folder)
        shutil.rmtree(fast)
    return found


def ratios(found: dict[str, Any]) -> None:
    """Prints ours to Optuna's, class by class: the median of the rounds, the smallest and the largest."""
    rows = {(r["store"], r["class"], r["processes"], r["round"]): r["trials_per_s"] for r in found["rates"]}
    rounds = range(1 + max(number for *_, number in rows))
    pairs = (("power", "power"), ("process", "power"), ("memory disk", "memory disk"))
    for mine, theirs in (("sqlite", "optuna sqlite"), ("jsonl", "optuna journal")):
        for durability, rival in pairs:
            shown = []
            for n in PROCESSES:
                found_here = [rows[mine, durability, n, i] / rows[theirs, rival, n, i] for i in rounds]
                shown.append(f"{statistics.median(found_here):.1f} [{min(found_here):.1f}-{max(found_here):.1f}]")
            print(f"{mine} ({durability}) to {theirs} ({rival}): {', '.join(shown)} with {PROCESSES} processes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--opened", type=int, default=10_000, help="trials of the study that is opened")
    parser.add_argument("--postgres", help="address of an empty data base, to measure it too")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = {"load": os.getloadavg(), **measure(options.trials, options.rounds, options.postgres, options.opened)}
    ratios(found)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
