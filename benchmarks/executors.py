"""How trials speed up with workers: jobs that sleep, so that cores do not matter, against the ideal.

    python benchmarks/executors.py [--sleep 0.2] [--jobs 40] [--workers 1 2 4 8] [--executors inline processes ray]

The ideal is `jobs * sleep / workers`; the ratio is the ideal over what was measured, 1 at best. Workers are started
and have run one job each before the clock runs; how long that took is shown beside it. Jobs are handed out as
`mu.search` does: one as soon as a worker is free. Ray runs on this machine, with room for all workers.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from mutandis.flows.executors import Pool
from mutandis.flows.search import EXECUTORS


def doze(seconds: float, talk: Any) -> float:
    time.sleep(seconds)
    return seconds


def run(pool: Pool, jobs: int, seconds: float) -> None:
    submitted = ended = 0
    while ended < jobs:
        while pool.num_free and submitted < jobs:
            pool.submit(submitted, seconds)
            submitted += 1
        ended += len(pool.wait())


def measure(name: str, workers: int, jobs: int, seconds: float) -> dict[str, Any]:
    """Returns what one executor takes: to start, and for the jobs, in seconds."""
    start = time.perf_counter()
    with EXECUTORS[name]().open(doze, lambda key, data: None, workers=workers) as pool:
        for key in range(workers):  # All at once, so that each worker starts.
            pool.submit(key, 1.0 if workers > 1 else 0.0)
        ended = 0
        while ended < workers:
            ended += len(pool.wait())
        warm = time.perf_counter()
        run(pool, jobs, seconds)
        took = time.perf_counter() - warm
    return {"executor": name, "workers": workers, "start_s": round(warm - start, 2), "jobs_s": round(took, 3),
            "ratio": round(jobs * seconds / workers / took, 3)}  # fmt: skip


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sleep", type=float, default=0.2)
    parser.add_argument("--jobs", type=int, default=40)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--executors", nargs="+", choices=list(EXECUTORS), default=["inline", "processes", "ray"])
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args(arguments)
    rows = []
    print("executor   workers  start s  jobs s  ratio to ideal")
    for name in options.executors:
        for workers in options.workers:
            if name == "inline" and workers > 1:
                continue
            row = measure(name, workers, options.jobs, options.sleep)
            rows.append(row)
            print("{executor:10} {workers:7} {start_s:8.2f} {jobs_s:7.2f} {ratio:7.3f}".format(**row), flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))
    return rows


if __name__ == "__main__":
    main()
