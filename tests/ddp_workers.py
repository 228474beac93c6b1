"""Two real processes that train shared weights together, and what a single one does with the same data."""

from __future__ import annotations

import contextlib
import socket

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from toy_shared import images, new_cells, squared, toy_batches, toy_program

import mutandis as mu
from mutandis.algorithms.oneshot.enas import ENAS
from mutandis.algorithms.oneshot.gates import DSNAS, ProxylessNAS
from mutandis.algorithms.oneshot.gumbel import GDAS, SNAS
from mutandis.algorithms.oneshot.mixtures import DARTS
from mutandis.algorithms.oneshot.single_path import RSPS
from mutandis.algorithms.oneshot.tunas import TuNAS
from mutandis.errors import MutandisError

SIZE = 2
ALGORITHMS = {
    "RSPS": RSPS(num_candidates=4),
    "ENAS": ENAS(num_candidates=4, num_steps=1, batch_size=2),
    "TuNAS": TuNAS(),
    "DARTS": DARTS(learning_rate=0.05),
    "DARTS second order": DARTS(order=2, learning_rate=0.05),
    "GDAS": GDAS(learning_rate=0.05),
    "SNAS": SNAS(learning_rate=0.05),
    "DSNAS": DSNAS(learning_rate=0.05),
    "ProxylessNAS": ProxylessNAS(every=1, learning_rate=0.05),
    "evolution": mu.algorithms.RegularizedEvolution(2, 2),
}

OWN = ("DARTS", "GDAS", "SNAS", "DSNAS", "TuNAS")


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def share_of(batches, rank):
    """Returns every second example of each batch."""
    return [tuple(part[rank::SIZE] for part in batch) for batch in batches]


def program():
    width = mu.oneof([4, 8, 6], name="width")
    middle = mu.oneof([mu.nn.Linear(width, width), mu.nn.Identity(), mu.nn.Tanh()], name="middle")
    return mu.nn.Sequential(mu.nn.Linear(4, width), mu.nn.ReLU(), middle, mu.nn.Linear(width, 1))


def kernels():
    size = mu.oneof([1, 3, 5], name="size")
    return mu.nn.Sequential(mu.nn.Unflatten(1, (1, 4)), mu.nn.Conv1d(1, 2, size, padding=size // 2), mu.nn.Flatten(),
                            mu.nn.Linear(8, 1))  # fmt: skip


def own_loop(x, wrap, made=program, **settings):
    """Trains in a loop of one's own, and returns what was decided, which gradients were missing, and the weights."""
    shared = mu.share_weights(made(), x[:2], **settings)
    model = wrap(shared.module)
    optimizer = torch.optim.SGD(shared.module.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    shared.guard(optimizer)
    seen, missing = [], []
    for _, feedback in mu.sample(shared, mu.algorithms.Reinforce(), trials=6, seed=3):
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        missing.append([name for name, p in shared.module.named_parameters() if p.grad is None])
        optimizer.step()
        feedback(-mean(loss.detach()))
        seen.append(feedback.dna.values)
    return {"seen": seen, "missing": missing, "weights": state_of(shared)}


def own_steps(name, rank, wrap):
    """Trains weights and policy in the loop of `mu.flows.steps`, on a share of the data or on all of it."""
    shared = mu.share_weights(toy_program())
    model = wrap(shared.module)
    optimizer = torch.optim.SGD(shared.module.parameters(), lr=0.05, momentum=0.9)
    shared.guard(optimizer)
    batches = toy_batches(12, 0, size=16)
    batches = iter(batches if rank is None else share_of(batches, rank))
    loop = mu.flows.steps(shared, ALGORITHMS[name], num_steps=6, norm="any", seed=2)
    for _, step in loop:
        loss = squared(model, next(batches))
        if step.trains_weights:
            loss.backward()
        if step.moves_weights:
            optimizer.step()
            optimizer.zero_grad()
        step(-loss.detach() if step.wants == "reward" else loss)
    return {"policy": loop.search.probabilities(), "weights": state_of(shared)}


def mean(value):
    """Returns the mean over the processes, of which there may be one."""
    if dist.is_initialized():
        dist.all_reduce(value)
        value = value / dist.get_world_size()
    return float(value)


def state_of(shared):
    return {name: tensor.clone() for name, tensor in shared.module.state_dict().items()}


def searched(name, rank=None, made=toy_program, **changes):
    """Runs `mu.one_shot` on a share of the data, or on all of it."""
    train, valid = toy_batches(4, 0, size=16), toy_batches(2, 1, size=16)
    if rank is not None:
        train, valid = share_of(train, rank), share_of(valid, rank)
    settings = {"train": train, "valid": valid, "epochs": 2, "loss": squared, "num_candidates": 4, "collapse": 2.0,
                "train_with": "proposals" if name == "evolution" else None, "seed": 5, "norm": "any"}  # fmt: skip
    shared = mu.share_weights(made())
    result = mu.one_shot(shared, ALGORITHMS[name], **{**settings, **changes})
    return {"dna": result.dna.values, "policy": dict(result.policy), "weights": state_of(shared),
            "losses": [epoch.loss for epoch in result.history]}  # fmt: skip


def with_dropout():
    """The toy, its inputs dropped by other random numbers on each process."""
    return mu.nn.Sequential(mu.nn.Dropout(0.5), toy_program())


def killed_and_continued(rank, folder):
    """Stops all processes in the middle of the third epoch, and goes on from the file."""
    calls = []

    def breaks(child, batch):
        calls.append(1)
        if len(calls) > 24:
            raise KeyboardInterrupt
        return squared(child, batch)

    def run(**changes):
        return searched("DARTS", rank, epochs=3, made=with_dropout, **changes)

    with contextlib.suppress(KeyboardInterrupt):
        run(checkpoint=folder / "run.pt", loss=breaks)
    wrote = (folder / "run.pt").exists()
    return {"wrote": wrote, "again": run(checkpoint=folder / "run.pt"), "whole": run()}


def distributed(module):
    return DistributedDataParallel(module, find_unused_parameters=True)


def refused(**changes):
    try:
        searched("RSPS", **changes)
    except MutandisError as error:
        return str(error)
    return "nothing"


class Told(list):
    """Batches that hear which epoch begins, as those of a loader with a `DistributedSampler` do."""

    def __init__(self, batches, hear):
        super().__init__(batches)
        self.sampler, self.set_epoch = self, hear


def with_norms(rank):
    """Trains a network with batch norms, whose statistics each process would have of its own."""
    shared = new_cells()
    begun = []
    train = Told(images(2, rank), lambda epoch: begun.append((epoch, state_of(shared))))
    mu.one_shot(shared, RSPS(num_candidates=2), train=train, valid=images(1, 5 + rank), epochs=2, num_calibration=2)
    return {"begun": begun, "end": state_of(shared)}


def work(rank, port, folder):
    """What one of the processes does; its findings are left in a file."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=SIZE)
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    found = {
        "own loop": own_loop(x[rank::SIZE], distributed),
        "kernels": own_loop(x[rank::SIZE], distributed, kernels, kernels="transform"),
        **{name: searched(name, rank) for name in ALGORITHMS},
        **{f"steps of {name}": own_steps(name, rank, distributed) for name in OWN},
        "continued": killed_and_continued(rank, folder),
        "norms": with_norms(rank),
        "other seed": refused(rank=rank, seed=rank),
        "other length": refused(rank=rank, train=toy_batches(2 + rank, 0)),
    }
    try:
        own_loop(x[rank::SIZE], DistributedDataParallel)
    except RuntimeError as error:
        found["without the option"] = str(error)
    torch.save(found, folder / f"{rank}.pt")
