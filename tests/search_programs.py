"""Programs whose children run in worker processes: these must be importable there."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

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


def reporting_words(child, feedback):
    """Reports something that is no number, but for 7."""
    feedback.report({"reward": 1.0 if child["x"] == 7 else "good"}, step=1)
    return 1.0


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


def moody(child, feedback):
    """Ends in all ways that leave its process alive: by number, so that every executor records the same."""
    x = child["x"]
    for step in range(1, x % 3 + 1):
        feedback.report({"loss": x / step}, step=step)
    if x % 4 == 1:
        raise ValueError(f"x is {x}")
    if x % 4 == 2:
        feedback.skip(f"{x} is not wanted")
        return None
    if x % 4 == 3:
        (feedback.checkpoint / "seen").write_text(str(x))
    return {"reward": float(x), "twice": 2.0 * x}


def gated(child, feedback):
    """Waits from the trial on that its folder is named after, until there is a file `go`; tells where it runs.

    The folder is in the environment, as `GATE`, and so is for how many seconds every trial runs, as `PAUSE`.
    """
    time.sleep(float(os.environ.get("PAUSE", "0")))
    folder = Path(os.environ["GATE"])
    (folder / f"trial-{feedback.trial}-{feedback.attempt}-{os.getpid()}").touch()
    while feedback.trial >= int(folder.name) and not (folder / "go").exists():
        time.sleep(0.02)
    return quadratic(child)


def stubborn(child):
    """Hangs for 0, and fails for all others."""
    if child["x"] == 0:
        time.sleep(60)
    raise ValueError(f"x is {child['x']}")
