"""Workers that share a study, and are killed: programs, loops, and processes that run them."""

from __future__ import annotations

import importlib
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import mutandis as mu

PROGRAM = {"x": mu.intv(0, 31), "op": mu.oneof([{"lr": mu.floatv(1e-3, 1.0, scale="log")}, "pool", "skip"])}
SIMPLE = mu.subset(["a", "b", "c", "d", "e"])  # It has levels, which some algorithms climb.


def reward_of(dna):
    """Returns a reward that hangs on every decision."""
    numbers = [value if isinstance(value, (int, float)) else len(str(value)) for value in dna.to_numbers()]
    return sum((place + 1) * value for place, value in enumerate(numbers))


def answer(loop, kill_at=None, moment="before"):
    """Runs a loop to its end, or to the trial at which its process is killed: before its answer, or after."""
    for _, feedback in loop:
        if feedback.trial.id == kill_at and moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        if feedback.fidelity is not None and not feedback.checkpoint.joinpath("done").exists():
            feedback.checkpoint.joinpath("done").write_text("some")
        feedback(reward_of(feedback.dna))
        if feedback.trial.id == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
    return loop.study


def in_child(work):
    """Runs a function in a forked process, and returns by which signal that ended."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def contract_algorithms():
    """Returns the algorithms of the contract suite by name."""
    module = importlib.import_module("algorithms.test_contract")
    found = {name.removeprefix("Test"): getattr(cls, "algorithm", None) for name, cls in vars(module).items()}
    return {name: algorithm for name, algorithm in found.items() if isinstance(algorithm, mu.algorithms.Algorithm)}


def decisions(study):
    """Returns the decisions of all trials by number."""
    return [trial.dna.values for trial in study.trials]


def start(script, *arguments):
    """Starts a script of text in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": f"{Path(mu.__file__).parents[1]}:{Path(__file__).parent}"}
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


CHAOS = """
import sys, time, mutandis as mu
from workers import PROGRAM, reward_of
where, trials, seconds, deterministic = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4] == "True"
study = mu.Study(where, lease=5, attempts=1000)
algorithm = mu.algorithms.RegularizedEvolution(8, 3)
for child, feedback in mu.sample(PROGRAM, algorithm, trials=trials, study=study, deterministic=deterministic):
    time.sleep(seconds)
    feedback(reward_of(feedback.dna))
print("done")
"""


def chaos(where, *, workers, trials, seconds, every=None, deterministic=False, seed=0):
    """Runs workers on one study until all have left by themselves; a random one is killed every so many seconds.

    Returns:
        How many were killed.
    """
    rng, kills = random.Random(seed), 0
    begin = [CHAOS, where, trials, seconds, deterministic]
    running = [start(*begin) for _ in range(workers)]
    while running:
        try:
            running[0].wait(every or 300)
        except subprocess.TimeoutExpired:
            victim = rng.randrange(len(running))
            running[victim].kill()
            running[victim].communicate()
            running[victim] = start(*begin)
            kills += 1
            continue
        done = running.pop(0)
        out, err = done.communicate()
        assert done.returncode == 0 and out == "done\n", err
    return kills
