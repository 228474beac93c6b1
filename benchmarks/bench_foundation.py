"""The foundation beside PyGlove 0.4.5: objects, spaces, the sampling loop, in one run.

    pip install -c constraints.txt -e '.[benchmarks]'
    python benchmarks/bench_foundation.py [--quick] [--json FILE]        # ten minutes; a quick one takes one

Every measurement runs in a process of its own. Figures are CPU seconds, the best of several rounds; what is
compared with a plain class runs in turns with it in one process. Rates of the two libraries come from the same work:
the same fields, the same spaces, the same number of candidates. Memory is the growth of the resident set.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import mutandis as mu

FIELDS = (1, 2.0, "b")


def cpu_seconds(work: Callable[[], Any], *, rounds: int) -> float:
    """Returns the least CPU seconds that `work` takes, garbage collected before each round."""
    least = float("inf")
    for _ in range(rounds):
        gc.collect()
        start = time.process_time()
        work()
        least = min(least, time.process_time() - start)
    return least


def microseconds(work: Callable[[], Any], *, number: int, rounds: int = 5) -> float:
    """Returns the microseconds of one call of `work`."""

    def repeat() -> None:
        for _ in range(number):
            work()

    return cpu_seconds(repeat, rounds=rounds) / number * 1e6


def resident_bytes() -> int:
    """Returns the resident memory of this process."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# What each library does, in its own words. ------------------------------------------------------------------------


@mu.symbolize
class Leaf:
    """Three fields."""

    def __init__(self, x, y=1.0, z="a"):
        self.x, self.y, self.z = x, y, z


@mu.symbolize
class Node:
    """Three fields, one of them an object."""

    def __init__(self, x, y, child):
        self.x, self.y, self.child = x, y, child


class Mutandis:
    """The same things in mutandis."""

    Leaf, Node = Leaf, Node

    def tree(self, branches: int, leaves: int) -> Any:
        return {"items": [{"name": f"m{i}", "leaves": [self.Leaf(j, float(j), "k") for j in range(leaves)]}
                          for i in range(branches)]}  # fmt: skip

    def clone(self, x: Any) -> Any:
        return mu.clone(x)

    def rebind(self, x: Any, path: str, value: Any) -> Any:
        return mu.rebind(x, {path: value})

    def round_trip(self, x: Any) -> Any:
        return mu.from_json(json.loads(json.dumps(mu.to_json(x))))

    def choices(self, number: int) -> Any:
        return {f"x{i}": mu.oneof([0, 1, 2, 3, 4]) for i in range(number)}

    def drawer(self, program: Any) -> Callable[[int], Any]:
        space = mu.space(program)
        return lambda seed: space.materialize(space.random(seed))

    def size_of_picks(self, k: int, n: int) -> int:
        return mu.space(mu.manyof(k, list(range(n)))).size

    def sample(self, program: Any, kind: str, trials: int) -> Any:
        algorithm = mu.algorithms.Random() if kind == "random" else mu.algorithms.RegularizedEvolution(100, 10)
        return mu.sample(program, algorithm, trials=trials, seed=1)


class PyGlove:
    """The same things in PyGlove."""

    def __init__(self) -> None:
        import pyglove as pg

        class Leaf(pg.Object):
            x: int
            y: float = 1.0
            z: str = "a"

        class Node(pg.Object):
            x: int
            y: float
            child: Any

        self.pg, self.Leaf, self.Node = pg, Leaf, Node

    def tree(self, branches: int, leaves: int) -> Any:
        pg = self.pg
        return pg.Dict(items=[pg.Dict(name=f"m{i}", leaves=[self.Leaf(j, float(j), "k") for j in range(leaves)])
                              for i in range(branches)])  # fmt: skip

    def clone(self, x: Any) -> Any:
        return x.clone(deep=True)

    def rebind(self, x: Any, path: str, value: Any) -> Any:
        return x.rebind({path: value})

    def round_trip(self, x: Any) -> Any:
        return self.pg.from_json_str(self.pg.to_json_str(x))

    def choices(self, number: int) -> Any:
        return self.pg.Dict(**{f"x{i}": self.pg.oneof([0, 1, 2, 3, 4]) for i in range(number)})

    def drawer(self, program: Any) -> Callable[[int], Any]:
        import random

        template, spec, rng = self.pg.template(program), self.pg.dna_spec(program), random.Random(1)
        return lambda seed: template.decode(self.pg.random_dna(spec, rng))

    def size_of_picks(self, k: int, n: int) -> int:
        return self.pg.dna_spec(self.pg.manyof(k, list(range(n)))).space_size

    def sample(self, program: Any, kind: str, trials: int) -> Any:
        pg = self.pg
        algorithm = pg.geno.Random(1)
        if kind != "random":
            mutate = pg.evolution.mutators.Uniform(seed=1)
            algorithm = pg.evolution.regularized_evolution(mutate, population_size=100, tournament_size=10, seed=1)
        return pg.sample(program, algorithm, trials)


# The measurements; each returns figures by name. ------------------------------------------------------------------


def measure_objects(library: Any, quick: bool) -> dict[str, float]:
    scale = 10 if quick else 1
    leaf, node = library.Leaf, library.Node
    deep = node(1, 2.0, node(2, 3.0, leaf(3, 4.0, "b")))
    tree = library.tree(30, 10)
    values = iter(range(100, 10_000_000))
    return {
        "construct, 3 fields": microseconds(lambda: leaf(*FIELDS), number=20_000 // scale),
        "construct, 3 objects deep": microseconds(
            lambda: node(1, 2.0, node(2, 3.0, leaf(3, 4.0, "b"))), number=5_000 // scale
        ),
        "clone, 3 objects deep": microseconds(lambda: library.clone(deep), number=2_000 // scale),
        "rebind one leaf, 3 objects deep": microseconds(
            lambda: library.rebind(deep, "child.child.x", next(values)), number=2_000 // scale
        ),
        "rebind one leaf of 300 objects": microseconds(
            lambda: library.rebind(tree, "items[15].leaves[5].x", next(values)), number=1_000 // scale
        ),
        "clone 300 objects": microseconds(lambda: library.clone(tree), number=10),
        "JSON round trip, 3 objects deep": microseconds(lambda: library.round_trip(deep), number=2_000 // scale),
        "JSON round trip of 300 objects": microseconds(lambda: library.round_trip(tree), number=5),
    }


def measure_spaces(library: Any, quick: bool) -> dict[str, float]:
    draw = library.drawer(library.choices(100))
    seeds = iter(range(10_000_000))
    number = (1000 if isinstance(library, Mutandis) else 10) // (5 if quick else 1)
    return {
        "random DNA and child, 100 oneofs": microseconds(lambda: draw(next(seeds)), number=number, rounds=3),
        "size of manyof(10 of 20)": microseconds(lambda: library.size_of_picks(10, 20), number=1, rounds=3),
    }


def measure_sampling(library: Any, quick: bool, kind: str) -> dict[str, float]:
    """Trials per CPU second, bytes per trial, and how the last fifth compares with the first."""
    ours = isinstance(library, Mutandis)
    trials = (50_000 if ours else 2_000 if kind == "random" else 3_000) // (5 if quick else 1)
    program = library.choices(10)
    for child, feedback in library.sample(program, kind, 50):  # Warms up caches and lazy imports.
        feedback(float(child["x0"]))
    gc.collect()
    memory, start = resident_bytes(), time.process_time()
    marks = [start]
    study = []
    loop = library.sample(program, kind, trials)
    for done, (child, feedback) in enumerate(loop, 1):
        feedback(sum(child[f"x{i}"] for i in range(10)) / 10)
        if done % (trials // 5) == 0:
            marks.append(time.process_time())
    study.append(loop)  # The study stays alive until its memory is read.
    gc.collect()
    seconds = marks[-1] - start
    return {
        f"sampling loop, {kind}": seconds / trials * 1e6,
        f"memory of a trial, {kind}": (resident_bytes() - memory) / trials,
        f"flatness, {kind}": (marks[-1] - marks[-2]) / (marks[1] - marks[0]),
        f"trials, {kind}": trials,
    }


def measure_plain(quick: bool) -> dict[str, float]:
    """Ratios of a symbolic class to the same class undecorated, measured in turns."""
    import torch
    from torch import nn

    torch.set_num_threads(1)

    class Plain:
        def __init__(self, x, y=1.0, z="a"):
            self.x, self.y, self.z = x, y, z

    class Net(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.inner, self.outer = nn.Linear(64, width), nn.Linear(width, 64)

        def forward(self, x):
            return self.outer(torch.relu(self.inner(x)))

    leaf, scale = Mutandis().Leaf, 10 if quick else 1
    plain_net, net = Net(64), mu.symbolize(type("Net", (Net,), {"__module__": __name__}))(64)
    plain, symbolic, x = Plain(*FIELDS), leaf(*FIELDS), torch.zeros(8, 64)
    pairs: dict[str, tuple[Callable[[], Any], Callable[[], Any], int]] = {
        "construct, 3 fields": (lambda: leaf(*FIELDS), lambda: Plain(*FIELDS), 50_000),
        "attribute read": (lambda: symbolic.x, lambda: plain.x, 500_000),
        "attribute read of a module": (lambda: net.training, lambda: plain_net.training, 500_000),
        "forward of a module": (lambda: net(x), lambda: plain_net(x), 4_000),
    }
    ratios = {}
    for name, (ours, theirs, number) in pairs.items():
        times = [[microseconds(work, number=number // scale, rounds=1) for work in (ours, theirs)] for _ in range(15)]
        ratios[name] = min(a for a, _ in times) / min(b for _, b in times)
    return ratios


def measure_import(module: str) -> dict[str, float]:
    """CPU seconds of an import above an empty interpreter's, and whether torch was loaded."""
    code = f"import time; t = time.process_time(); import {module}; print(time.process_time() - t)"
    found = [float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
             for _ in range(5)]  # fmt: skip
    check = f"import {module}, sys; print(int('torch' in sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True).stdout
    return {"import": min(found), "loads torch": float(loaded)}


LIBRARIES = {"mutandis": Mutandis, "pyglove": PyGlove}
SECTIONS: dict[str, Callable[[Any, bool], dict[str, float]]] = {
    "objects": measure_objects,
    "spaces": measure_spaces,
    "random": lambda library, quick: measure_sampling(library, quick, "random"),
    "evolution": lambda library, quick: measure_sampling(library, quick, "evolution"),
}


def in_own_process(section: str, library: str, quick: bool) -> dict[str, float]:
    """Runs one section in a fresh interpreter and returns its figures."""
    command = [sys.executable, __file__, "--section", section, "--library", library, *(["--quick"] if quick else [])]
    print(f"{section}: {library} ...", file=sys.stderr, flush=True)
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise SystemExit(f"{section} of {library} failed:\n{result.stderr}")
    return json.loads(result.stdout.splitlines()[-1])


def table(figures: dict[str, dict[str, dict[str, float]]], plain: dict[str, float]) -> str:
    """Returns the ratios as a Markdown table."""
    wanted = {
        "construct, 3 fields": 100, "random DNA and child, 100 oneofs": 100,
        "sampling loop, random": 100, "sampling loop, evolution": 100,
        "memory of a trial, random": 20, "memory of a trial, evolution": 20,
        "clone, 3 objects deep": 10, "rebind one leaf, 3 objects deep": 10, "JSON round trip, 3 objects deep": 10,
    }  # fmt: skip
    rows = ["| measured | mutandis | PyGlove | ratio | wanted |", "|---|---:|---:|---:|---:|"]
    for section, by_library in figures.items():
        for name, ours in by_library["mutandis"].items():
            theirs = by_library["pyglove"][name]
            if name.startswith(("flatness", "trials", "loads")):
                continue
            unit = "B" if name.startswith("memory") else "s" if section == "import" else "us"
            goal = f"{wanted[name]}x" if name in wanted else ""
            rows.append(f"| {name} | {ours:,.3g} {unit} | {theirs:,.4g} {unit} | {theirs / ours:,.1f}x | {goal} |")
    for section in ("random", "evolution"):
        ours, theirs = figures[section]["mutandis"], figures[section]["pyglove"]
        cells = [
            f"{found[f'flatness, {section}']:.2f} in {found[f'trials, {section}']:,.0f}" for found in (ours, theirs)
        ]
        rows.append(f"| last fifth to first fifth, {section} | {' | '.join(cells)} | | flat |")
    limits = {"construct, 3 fields": "3", "attribute read": "1.05", "attribute read of a module": "1.05",
              "forward of a module": "1.02"}  # fmt: skip
    rows += ["", "| symbolic class to the same class undecorated | ratio | at most |", "|---|---:|---:|"]
    rows += [f"| {name} | {ratio:.3f} | {limits[name]} |" for name, ratio in plain.items()]
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="about a tenth of the work")
    parser.add_argument("--json", help="where to write all figures")
    parser.add_argument("--section", choices=[*SECTIONS, "plain"], help=argparse.SUPPRESS)
    parser.add_argument("--library", choices=LIBRARIES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.section == "plain":
        print(json.dumps(measure_plain(options.quick)))
        return
    if options.section:
        library = LIBRARIES[options.library]()
        print(json.dumps(SECTIONS[options.section](library, options.quick)))
        return
    figures: dict[str, dict[str, dict[str, float]]] = {
        section: {name: in_own_process(section, name, options.quick) for name in LIBRARIES} for section in SECTIONS
    }
    figures["import"] = {name: measure_import(name) for name in LIBRARIES}
    plain = in_own_process("plain", "mutandis", options.quick)
    print(table(figures, plain))
    print(f"\nimport mutandis loads torch: {'yes' if figures['import']['mutandis']['loads torch'] else 'no'}")
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"{machine}, load {os.getloadavg()[0]:.2f}")
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"figures": figures, "plain": plain, "python": platform.python_version()}, file, indent=1)


if __name__ == "__main__":
    main()
