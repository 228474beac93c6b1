"""Sixty seconds to the idea: decorate, rebind, annotate, search.

    python examples/hello.py [--trials 60]        # a second; needs nothing but the package

A "program" here is a coffee machine, so that nothing distracts from the four moves. In your case it is a model and
its trainer.
"""

from __future__ import annotations

import argparse

import mutandis as mu


# 1. Decorate. The class stays what it was for all code that exists.
@mu.symbolize
class Grinder:
    def __init__(self, grind: int, burr: str = "flat"):
        self.grind, self.burr = grind, burr


@mu.symbolize
class Espresso:
    def __init__(self, grinder: Grinder, celsius: float, seconds: int = 30):
        self.grinder, self.celsius, self.seconds = grinder, celsius, seconds

    def taste(self) -> float:
        """Larger is better; 10 is perfect, and a conical burr needs a finer grind."""
        finest = 4 if self.grinder.burr == "conical" else 7
        return 10 - abs(self.grinder.grind - finest) - abs(self.celsius - 93) / 4 - abs(self.seconds - 27) / 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=60)
    options = parser.parse_args()

    # 2. Mutate: an object knows what it was built from, so it can be edited by path or by rule.
    cup = Espresso(Grinder(7), celsius=93.0)
    finer = cup.clone().rebind({"grinder.grind": 5})
    doubled = cup.clone().rebind(lambda key, value: value * 2 if key == "seconds" else value)
    print("as written        ", cup.taste())
    print("finer grind       ", finer.taste(), mu.diff(cup, finer))
    print("twice the seconds ", doubled.taste())

    # 3. Annotate: put a hyper value where a value shall be found. One tree, one space.
    program = Espresso(
        Grinder(mu.intv(1, 12), burr=mu.oneof(["flat", "conical"])),
        celsius=mu.floatv(80.0, 98.0),
        seconds=mu.intv(15, 45),
    )
    print(mu.space(program).describe())

    # 4. Search, in a loop that you own. Another algorithm is another word in this line.
    loop = mu.sample(program, mu.algorithms.RegularizedEvolution(population_size=10), trials=options.trials)
    for child, feedback in loop:
        feedback(child.taste())

    best = loop.study.best
    print(f"best of {len(loop.study)} trials: {best.reward:.2f}")
    print(mu.to_python(best.child()))


if __name__ == "__main__":
    main()
