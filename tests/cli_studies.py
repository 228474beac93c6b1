"""A small study in a file, for the tests of the command line."""

from __future__ import annotations

import mutandis as mu


def make_study(where, objectives=("accuracy", "-cost"), trials=12, program=None, seed=0):
    program = {"x": mu.intv(0, 20), "kind": mu.oneof(["a", "b"])} if program is None else program
    loop = mu.sample(
        program, mu.algorithms.Random(), trials=trials, objectives=objectives, study=mu.Study(str(where)), seed=seed
    )
    for child, feedback in loop:
        if feedback.trial.id == 3:
            feedback.skip("too wide")
        else:
            feedback({"accuracy": -float((child["x"] - 7) ** 2), "cost": child["x"], "reward": child["x"]})
    return loop.study
