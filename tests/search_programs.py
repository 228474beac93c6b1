"""Programs whose children run in worker processes: these must be importable there."""

from __future__ import annotations

import os
import signal
import time

import mutandis as mu


@mu.symbolize
class Trainer:
    """Its reward is exact; what else it does hangs on its mood."""

    def __init__(self, x, mood="calm"):
        self.x, self.mood = x, mood

    def run(self):
        if self.mood == "raises":
            raise ValueError(f"x is {self.x}")
        if self.mood == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.mood == "hangs":
            time.sleep(60)
        return -float((self.x - 7) ** 2)


def quadratic(child):
    return -float((child["x"] - 7) ** 2)


def reporting(child, feedback):
    for step in range(1, 6):
        feedback.report({"reward": child["x"] * step}, step=step)
        if feedback.should_stop():
            break
    return float(child["x"] * step)


def slow_for_small(child):
    time.sleep(0.02 * (10 - child["x"]))
    return float(child["x"])


def checkpointed(child, feedback):
    start = 0
    if feedback.inherited is not None:
        start = int((feedback.inherited / "epoch").read_text())
    (feedback.checkpoint / "epoch").write_text(str(int(feedback.fidelity)))
    return {"reward": float(child["x"]), "trained": feedback.fidelity - start}


def nothing(child):
    return None
