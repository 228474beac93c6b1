"""What each of two processes does for test_distributed.py: `two_ranks.py RANK FOLDER`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch.distributed as dist

import mutandis as mu
from mutandis.integrations import distributed_sample


def program():
    return {"x": mu.floatv(1e-6, 1.0, scale="log"), "op": mu.oneof(["pool", {"k": mu.oneof([3, 5])}])}


@mu.symbolize
class Fragile:
    def __init__(self, x):
        self.x = 1 / x


def searched(rank):
    loop = distributed_sample(
        program(), mu.algorithms.RegularizedEvolution(4, 2), trials=6, seed=3 + rank,
        stop=lambda trial: len(trial.curve) >= 2,
    )  # fmt: skip
    children, lengths, checkpoint = [], [], None
    for child, feedback in loop:
        op = child["op"] if isinstance(child["op"], str) else child["op"]["k"]
        children.append([feedback.id, child["x"], op])
        for step in range(1, 4):
            feedback.report({"reward": child["x"] + rank}, step=step)
            if feedback.should_stop():
                break
        lengths.append(step)
        checkpoint = str(feedback.shared_checkpoint())
        feedback(child["x"] + 100 * rank)
    study = loop.study
    found = {"children": children, "lengths": lengths, "checkpoint": checkpoint, "is_leader": loop.is_leader,
             "rewards": None if study is None else [trial.reward for trial in study]}  # fmt: skip
    if study is not None:
        found["states"] = [trial.state for trial in study]
        found["curves"] = [[[step, metrics["reward"]] for step, metrics in trial.curve] for trial in study]
    return found


def skipped():
    loop = distributed_sample(program(), mu.algorithms.Random(), trials=2)
    for number, (_, feedback) in enumerate(loop):
        feedback.skip("tired") if number == 0 else feedback.fail("broken")
    return None if loop.study is None else [trial.state for trial in loop.study]


def refused(make):
    """Returns the error of making a loop and taking its first child."""
    try:
        next(make())
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def main(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    random = mu.algorithms.Random()
    found = searched(rank)
    found["skipped"] = skipped()
    broken = refused(lambda: distributed_sample(Fragile(mu.oneof([0, 0.0])), random))
    found["broken"] = broken.partition(":")[0] if rank == 0 else broken
    found["mismatch"] = refused(lambda: distributed_sample({"x": mu.oneof([1, 2 + rank])}, random))
    found["refused"] = refused(lambda: distributed_sample(program(), random, trials=rank))
    (folder / f"rank{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
