"""`mu.one_shot`: the published recipe of weight sharing as a function; a loop of your own can do all of it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mutandis.algorithms import Algorithm
from mutandis.algorithms.oneshot.protocol import Cost, OneShot, SharedSearch
from mutandis.algorithms.oneshot.single_path import SPOS
from mutandis.errors import SettingError
from mutandis.flows.costs.measures import memory_bytes, modules_of
from mutandis.flows.oneshot.fitting.report import fit_report
from mutandis.flows.oneshot.inventory import Inventory
from mutandis.flows.oneshot.logbook import Logbook
from mutandis.flows.oneshot.measuring import Loss, Measures, Metric
from mutandis.flows.oneshot.recipe import Recipe, cosine
from mutandis.flows.oneshot.result import Memory, OneShotResult
from mutandis.flows.oneshot.running import forked, moved, running
from mutandis.flows.oneshot.sampled import SampledSearch, need_weighed
from mutandis.flows.oneshot.saving import Checkpoint
from mutandis.flows.oneshot.session import Session, peek
from mutandis.flows.oneshot.teams.team import Team
from mutandis.flows.supernet import Shared
from mutandis.hyper import Rng

_FEWEST_CHOICES = 3
"""With fewer choices, chance alone makes the share of candidates without weights large."""


def one_shot(
    shared: Shared, algorithm: Algorithm, *, train: Iterable[Any], valid: Iterable[Any], epochs: int,
    loss: Loss | None = None, metric: Metric | None = None, cost: Cost | None = None,
    optimizer: Callable[[list[Tensor]], torch.optim.Optimizer] | None = None,
    schedule: Callable[[float], float] | None = cosine, clip: float | None = 5.0, norm: str | None = None,
    train_with: str | None = None, num_candidates: int = 100, evaluation: Iterable[Any] | None = None,
    num_eval_batches: int = 1, num_calibration: int = 20, precision: str = "auto", collapse: float = 0.8,
    checkpoint: str | Path | None = None, tensorboard: Any = None, progress: bool | None = None, seed: int = 0,
) -> OneShotResult:  # fmt: skip
    """Trains shared weights and a policy over the children together, and returns what the policy has found.

        shared = mu.share_weights(program)
        result = mu.one_shot(shared, mu.algorithms.RSPS(), train=loader, valid=other, epochs=50)
        result.dna, result.child()

    For another algorithm, only that argument changes. With each weight step on a batch of `train` comes, when the
    algorithm wants it, a policy step on a batch of `valid`. Any algorithm of trials is fine too: see `train_with`.

    Where torch.distributed was started (torchrun), all processes call this alike, each with its share of the data, such
    as loaders with a `DistributedSampler`. Gradients, losses and rewards are means over the processes, so that all draw
    the same selections and end with the same weights; the first one writes files and shows progress.

    Args:
        shared: The shared program, on the device to train on; its weights are trained.
        algorithm: What learns the policy.
        train: Batches that can be gone through every epoch, such as a DataLoader.
        valid: Likewise; other data than `train`, or the policy favours what overfits.
        epochs: How often `train` is gone through.
        loss: `loss(child, batch)` to a tensor; by default cross-entropy of the module on batches `(x, y)`.
        metric: `metric(child, batch)` to a number, larger is better; by default accuracy, or with `loss=` its
            negative. It rewards the policy and ranks candidates at the end.
        cost: What a child costs, such as `fit_cost(...)`, for algorithms that weigh it; refused by others.
        optimizer: Makes the optimizer of a list of weights; by default SGD as published.
        schedule: The factor of its step size by the fraction of the run, or None.
        clip: Largest norm of the gradient of the weights, or None.
        norm: What norms do; by default what the algorithm needs. `batch_no_affine`: scales and shifts that only some
            children have are not trained. `recalibrate`: running statistics are measured anew for each child that
            is evaluated. `any` also runs algorithms that need norms without scales on candidates that scale their own
            outputs, which are refused otherwise. Else, and by default, evaluated children use the statistics of the
            batch.
        train_with: For algorithms of trials: `uniform` (the default) trains weights on random paths, and searches on
            them at the end; `proposals` trains on what is proposed, and rewards it on a batch of `valid` at once.
        num_candidates: For these, how many DNAs are measured at the end.
        evaluation: Batches that candidates are measured on at the end; by default `valid`.
        num_eval_batches: How many of these, the same for all candidates.
        num_calibration: How many batches of `train` running statistics are measured on.
        precision: In which type passes run where that is safe: `float32`, `bfloat16`, `float16` (with scaled losses),
            or `auto`, which is bfloat16 on CUDA and float32 elsewhere.
        collapse: A warning is given when late in the run the likeliest architecture has candidates without weights
            at this share of the choices, where there are at least three; above 1 for never.
        checkpoint: A file, written after each epoch; where it exists, the run goes on from it, bit for bit on a CPU
            with as many threads.
        tensorboard: A folder, or an open `SummaryWriter`.
        progress: Whether to show a bar; by default where standard error is a terminal.
        seed: Of the search, and of torch's random numbers during the run; those outside stay as they are.

    Returns:
        The result; norms of the found child are calibrated.

    Raises:
        SettingError: a setting is out of its range, or the algorithm refuses the space.
        LoweringError: the program cannot run what the algorithm selects; found out before training.
        StorageError: the checkpoint belongs to another run.
    """
    if not isinstance(shared, Shared):
        raise SettingError("cannot train shared weights", at="one_shot.shared", got=shared,
                           expected="a program whose weights are shared",
                           fix="pass mu.share_weights(program)")  # fmt: skip
    recipe = Recipe(epochs=epochs, loss=loss, metric=metric, optimizer=optimizer, schedule=schedule, clip=clip,
                    norm=norm, num_eval_batches=num_eval_batches, num_calibration=num_calibration, precision=precision,
                    collapse=collapse, seed=seed)  # fmt: skip
    begin = _starter(shared, algorithm, cost, train_with, num_candidates)
    measured_on = valid if evaluation is None else evaluation
    name = re.sub(r" at 0x[0-9a-fA-F]+", "", repr(algorithm))  # Addresses of functions differ between processes.
    run = {"algorithm": name, "space": shared.space.fingerprint, "epochs": epochs, "seed": seed,
           "train_with": train_with}  # fmt: skip
    device = next(shared.module.parameters()).device
    rank = Team(device).rank
    with forked(device, Rng(seed, "one shot", "torch", *([f"rank {rank}"] if rank else [])).getrandbits(62)):
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        search = begin(seed)
        inventory = Inventory(shared)
        session = Session(shared, search, recipe, train, valid, inventory)
        try:
            _need_fit(shared, algorithm, begin(seed), session, train, norm)
            expected = _expected_bytes(shared, begin(seed), session.measures, train)
            is_leader = session.team.is_leader
            is_watched = is_leader and len(inventory.free) >= _FEWEST_CHOICES
            logbook = Logbook(epochs * session.num_steps, epochs, collapse=collapse if is_watched else math.inf,
                              progress=progress if is_leader else False,
                              tensorboard=tensorboard if is_leader else None)  # fmt: skip
            saved = None if checkpoint is None else Checkpoint(checkpoint, run, (train, valid))
            _train(shared, session, search, recipe, logbook, saved)
        finally:
            session.close()
        return _finish(shared, session, search, recipe, train, measured_on, expected)


def _starter(shared: Shared, algorithm: Algorithm, cost: Cost | None, train_with: str | None,
             num_candidates: int) -> Callable[[int], SharedSearch]:  # fmt: skip
    """Returns what begins a search.

    Raises:
        SettingError: the algorithm is none, or a setting has no effect on it.
    """
    space = shared.space.bare()
    if isinstance(algorithm, OneShot):
        if train_with is not None:
            raise SettingError("cannot choose how weights are trained", at="one_shot.train_with", got=train_with,
                               expected=f"None for {type(algorithm).__name__}, which has a way of its own",
                               fix="leave it out")  # fmt: skip
        need_weighed(algorithm, cost, "one_shot.cost")
        return lambda seed: algorithm.start_shared(space, seed=seed, cost=cost)
    if not isinstance(algorithm, Algorithm):
        raise SettingError("cannot search shared weights", at="one_shot.algorithm", got=algorithm,
                           expected="an algorithm", fix="write mu.algorithms.Random() or another")  # fmt: skip
    need_weighed(algorithm, cost, "one_shot.cost")
    if train_with == "proposals":
        return lambda seed: SampledSearch(algorithm, space, seed, num_candidates)
    if train_with not in (None, "uniform"):
        raise SettingError("cannot choose how weights are trained", at="one_shot.train_with", got=train_with,
                           expected="'uniform' or 'proposals'", fix="leave it out")  # fmt: skip
    return lambda seed: SPOS(algorithm, num_trials=num_candidates).start_shared(space, seed=seed)


def _train(shared: Shared, session: Session, search: SharedSearch, recipe: Recipe, logbook: Logbook,
           saved: Checkpoint | None) -> None:  # fmt: skip
    try:
        if saved is not None:
            saved.load(shared, session, search)
        while len(session.history) < recipe.epochs:
            logbook.epoch(session.run_epoch(logbook.tell))
            if saved is not None:
                saved.save(shared, session, search)
    finally:
        logbook.close()


def _finish(shared: Shared, session: Session, search: SharedSearch, recipe: Recipe, train: Iterable[Any],
            measured_on: Iterable[Any], expected: int) -> OneShotResult:  # fmt: skip
    """Derives the result, and calibrates the norms of its child."""
    measures = session.measures
    batches: list[Any] = []

    def worth(dna: Any) -> float:
        if not batches:  # Loaded only for algorithms that measure candidates; the same for all.
            given = zip(range(recipe.num_eval_batches), measured_on, strict=False)
            batches.extend(moved(batch, measures.device) for _, batch in given)
        return session.team.mean(measures.worth(dna, batches, train, recipe.num_calibration))

    dna = search.derive(worth)
    measures.calibrate(dna, train, recipe.num_calibration)
    session.team.copy_first(shared.module.buffers())
    peak = torch.cuda.max_memory_allocated(measures.device) if measures.device.type == "cuda" else None
    return OneShotResult(dna, search.probabilities(), tuple(session.history), Memory(expected, peak), shared, search)


def _need_fit(shared: Shared, algorithm: Algorithm, twin: SharedSearch, session: Session, train: Iterable[Any],
              norm: str | None) -> None:  # fmt: skip
    """Refuses what the algorithm cannot learn, before anything is trained.

    Raises:
        LoweringError: there is such a decision, or candidates take the signal away.
    """
    batch = moved(peek(train), session.measures.device)
    run = lambda child: session.measures.loss_of(child, batch)  # noqa: E731
    fit_report(shared, type(algorithm).__name__, twin, run, norm=norm).require()


def _expected_bytes(shared: Shared, twin: SharedSearch, measures: Measures, train: Iterable[Any]) -> int:
    """Runs a weight and a policy step without effect: what cannot run is refused, and the memory it takes is known.

    Args:
        shared: The shared program.
        twin: A search like that of the run, for this alone.
        measures: Runs children.
        train: Batches; the first is used.
    """
    batch = moved(peek(train), measures.device)
    needs = twin.needs
    twin.progress(0.0)
    draws = [] if needs.is_one_pass else [twin.weights()]
    draws += [] if needs.data == "none" else [twin.policy()]
    saved = 0
    for selections in draws:
        with running(shared, selections) as child:
            roots = nn.ModuleList(modules_of(child))
            live = sum(p.numel() * p.element_size() for p in {id(p): p for p in roots.parameters()}.values())
            taken = memory_bytes(roots, batch, partial(_run, measures, child))
            saved = max(saved, int(taken) - live)
    everything = [(p.numel() * p.element_size(), p.requires_grad) for p in shared.module.parameters()]
    return saved + sum(size * (2 if is_trained else 1) for size, is_trained in everything)


def _run(measures: Measures, child: Any, modules: Any, batch: Any) -> Tensor:
    return measures.loss_of(child, batch)


__all__ = ["one_shot"]
