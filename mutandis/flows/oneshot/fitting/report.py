"""`mu.flows.lowering_report`: what each decision is to an algorithm when weights are shared."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mutandis.algorithms import Algorithm
from mutandis.algorithms.oneshot.protocol import Needs, OneShot, SharedSearch
from mutandis.errors import LoweringError, MutandisError, SettingError
from mutandis.flows import supernet
from mutandis.flows.costs.measures import Forward, call
from mutandis.flows.oneshot.fitting.fits import Fit, Run, fits_of
from mutandis.flows.oneshot.fitting.scales import scaling_candidates
from mutandis.flows.oneshot.inventory import Inventory
from mutandis.flows.oneshot.running import storage_of
from mutandis.flows.oneshot.sampled import SampledSearch
from mutandis.flows.supernet.report import LoweringReport
from mutandis.flows.supernet.verify import tensors_in

_WIDEST = 56
"""Characters of a cell."""


@dataclass(frozen=True, slots=True)
class FitReport:
    """What becomes of each decision; printed, a table.

    Attributes:
        lowering: What becomes of it in the shared program.
        algorithm: The name of the algorithm.
        fits: What it is to the algorithm, one per decision; empty where the program or the space was refused.
        refusals: Why the algorithm cannot run, the first reason first; empty where it can.
        notes: What is possible and yet a bad idea.
    """

    lowering: LoweringReport
    algorithm: str
    fits: tuple[Fit, ...]
    refusals: tuple[MutandisError, ...]
    notes: tuple[str, ...] = ()

    @property
    def is_possible(self) -> bool:
        """Whether the algorithm can search the shared program."""
        return not self.refusals

    def require(self) -> None:
        """Raises the first reason why the algorithm cannot run.

        Raises:
            MutandisError: there is one.
        """
        if self.refusals:
            raise self.refusals[0]

    def __str__(self) -> str:
        rows = [("decision", "values", "shared", self.algorithm)]
        rows += [(role.decision, _short(role.values), _short(str(role)), str(fit))
                 for role, fit in zip(self.lowering.roles, self.fits, strict=False)]  # fmt: skip
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        lines = ["  ".join([f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False)] + [row[3]])
                 for row in rows]  # fmt: skip
        lines = lines if self.fits else []
        lines += [f"{self.algorithm} cannot search this program: {error}" for error in self.refusals]
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(lines if lines else ["nothing to tell"])


def lowering_report(
    program: Any, algorithm: Algorithm | None = None, batch: Any = None, *, forward: Forward = call,
    loss: Callable[[Any, Any], Tensor] | None = None, norm: str | None = None, positions: str = "leading",
    seed: int = 0, **settings: Any,
) -> LoweringReport | FitReport:  # fmt: skip
    """Returns what would become of each decision of a program if its weights were shared and an algorithm searched it.

        print(mu.flows.lowering_report(program, mu.algorithms.DARTS(), x))

    Nothing is trained. With a batch, a pass shows whether the loss has a gradient for each decision, and which
    candidates scale their own outputs.

    Args:
        program: As for `share_weights`, or what it has made.
        algorithm: The algorithm; without one, the report is on the shared program alone, as for all that sample
            children.
        batch: As for `share_weights`.
        forward: Runs a child on the batch, where it is not called.
        loss: `loss(child, batch)`, where the sum of squares of what `forward` returns has not the gradients that count.
        norm: As for `one_shot`: `any` to run an algorithm in spite of candidates that scale their own outputs.
        positions: As for `share_weights`; by default places that cannot be proven are listed and not refused.
        seed: Likewise.
        **settings: Further arguments of `share_weights`.

    Returns:
        A table; with the reasons, if it cannot work.

    Raises:
        SettingError: the algorithm is none.
    """
    if algorithm is not None and not isinstance(algorithm, Algorithm):
        fix = f"write {algorithm.__name__}()" if isinstance(algorithm, type) else "pass an example as batch="
        raise SettingError("cannot report on an algorithm", at="lowering_report.algorithm", got=algorithm,
                           expected="an algorithm, or None", fix=fix)  # fmt: skip
    if isinstance(program, supernet.Shared):
        shared, lowering = program, program.report()
        batch = program.batch if batch is None else batch
    else:
        try:
            shared = supernet.share_weights(program, batch, positions=positions, seed=seed, **settings)
        except LoweringError as error:
            refused = LoweringReport((), (), 0, error)
            return refused if algorithm is None else FitReport(refused, type(algorithm).__name__, (), (error,))
        lowering = shared.report()
    if algorithm is None:
        return lowering
    run: Run | None = None
    own = shared._builder.roots.run
    if batch is not None:
        batch = _varied(batch)
        if own is not None and forward is call:
            forward = lambda child, given: own(child, *(given if isinstance(given, tuple) else (given,)))  # noqa: E731
        run = lambda child: _squares(forward(child, batch)) if loss is None else loss(child, batch)  # noqa: E731
    try:
        search = _begin(shared, algorithm, seed)
    except MutandisError as error:
        return FitReport(lowering, type(algorithm).__name__, (), (error,))
    return fit_report(shared, type(algorithm).__name__, search, run, norm=norm, lowering=lowering)


def fit_report(
    shared: supernet.Shared, name: str, search: SharedSearch, run: Run | None, *, norm: str | None = None,
    lowering: LoweringReport | None = None, fixes_norms: bool = True,
) -> FitReport:  # fmt: skip
    """Returns what each decision of a shared program is to a search.

    Args:
        shared: The shared program; it stands where it stood afterwards.
        name: Of the algorithm.
        search: A search for this alone: it is drawn from.
        run: Returns the loss of a live program, or None where there is no batch.
        norm: What norms do; by default what the algorithm needs.
        lowering: What becomes of the decisions in the shared program; without it, this is left out of the report.
        fixes_norms: Whether the loop leaves the scales of candidates' norms alone where that is needed.
    """
    before, needs = shared.dna, search.needs
    notes: list[str] = []
    try:
        fits = fits_of(shared, search, run)
        refusals: list[MutandisError] = [fit.refusal for fit in fits if fit.refusal is not None]
        if needs.kernels not in ("any", shared._store.kernels):
            refusals.append(_kernel_refusal(shared._store.kernels, needs.kernels, name))
        if needs.is_virtual and not refusals:
            refusals += _looking_ahead(lowering or shared.report())
        own = (
            {} if run is None or refusals else own_scales(shared, needs, run, norm if fixes_norms else norm or "given")
        )
        if own and needs.norm == "batch_no_affine" and norm in (None, "batch_no_affine"):
            refusals.append(_scale_refusal(shared, own, name))
        elif own:
            notes.append(_note(own))
    finally:
        if before is not None:
            shared.materialize(before)
    return FitReport(lowering or LoweringReport((), (), 0), name, tuple(fits), tuple(refusals), tuple(notes))


def _begin(shared: supernet.Shared, algorithm: Algorithm, seed: int) -> SharedSearch:
    space = shared.space.bare()
    if not isinstance(algorithm, OneShot):
        return SampledSearch(algorithm, space, seed, 1)
    try:
        return algorithm.start_shared(space, seed=seed)
    except SettingError:
        with contextlib.suppress(SettingError):  # Perhaps it only wants a cost.
            return algorithm.start_shared(space, seed=seed, cost=_Nothing())
        raise


class _Nothing:
    """A cost for algorithms that want one."""

    def __call__(self, dna: Any) -> float:
        return 1.0


def _looking_ahead(lowering: LoweringReport) -> list[MutandisError]:
    """Returns refusals of parts of weights, which no step ahead can be taken of."""
    return [
        LoweringError(
            "cannot look a step ahead",
            at=role.decision,
            got=str(role),
            expected="whole weights, which choices among layers have",
            fix="use a first-order algorithm, such as DARTS(order=1)",
        )
        for role in lowering.roles
        if role.tensors
    ]


def own_scales(
    shared: supernet.Shared, needs: Needs, run: Callable[[Any], Any], norm: str | None
) -> dict[str, tuple[int, ...]]:
    """Returns the candidates that scale their own outputs, where an algorithm suffers from that; see `scales`."""
    is_hard = needs.outcome == "loss" and needs.selection in ("gate", "subset") and not needs.probes
    if not is_hard:
        return {}
    fixed = Inventory(shared).norms if (norm or needs.norm) == "batch_no_affine" else set()
    trained = {storage_of(p) for p in shared.module.parameters() if p.requires_grad} - fixed
    return scaling_candidates(shared, run, trained)


def _kernel_refusal(given: str, wanted: str, name: str) -> LoweringError:
    """Returns the error for kernels that share weights in another way than an algorithm wants."""
    return LoweringError(
        "cannot train kernels in the way that was asked for",
        at="share_weights, kernels",
        got=given,
        expected=f"{wanted!r}, which {name} was set to",
        fix=f"pass kernels={wanted!r} to mu.share_weights, or leave the setting of {name} out",
    )


def _scale_refusal(shared: supernet.Shared, own: dict[str, tuple[int, ...]], name: str) -> LoweringError:
    """Returns the error for candidates that scale their own outputs."""
    path, candidates = next(iter(own.items()))
    labels = shared.space.point(path).candidates
    return LoweringError(
        "cannot tell which candidate is best where candidates scale their own outputs",
        at=path if len(own) == 1 else f"{path} and {len(own) - 1} more",
        got=[labels[k] if k < len(labels) else k for k in candidates],
        expected=f"candidates whose outputs do not grow with their weights: {name} learns from <dL/do, o>, which "
                 "training the scale of o drives to 0",
        fix="end each candidate with a norm, whose scale one_shot leaves at 1 (in a loop of your own, "
            "share_weights(..., norms='no_affine') does); pass norm='any' to run all the same; or use an algorithm "
            "that runs all candidates, such as GDAS(form='all') or DARTS()",
    )  # fmt: skip


def _note(own: dict[str, tuple[int, ...]]) -> str:
    return (f"candidates of {', '.join(own)} scale their own outputs, which weakens the signal of hard draws; end them "
            "with a norm without scale")  # fmt: skip


def _short(text: str) -> str:
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 3]}..."


def module_loss(shared: supernet.Shared) -> Run | None:
    """Returns a loss of the live module on the batch that `share_weights` was given, if it was."""
    if shared.batch is None:
        return None
    batch, run = _varied(shared.batch), shared._builder.roots.run
    return lambda child: _squares(shared.module(*batch) if run is None else run(child, *batch))


def _varied(batch: Any) -> Any:
    """Returns a batch with noise in the place of tensors of one number, which would tell nothing about norms."""
    if isinstance(batch, tuple):
        return tuple(_varied(part) for part in batch)
    if not isinstance(batch, Tensor) or not batch.is_floating_point() or bool((batch != batch.flatten()[:1]).any()):
        return batch
    noise = torch.randn(batch.shape, generator=torch.Generator().manual_seed(0))
    return noise.to(batch)


def _squares(result: Any) -> Tensor:
    total = sum(t.float().square().sum() for t in tensors_in(result) if t.is_floating_point())
    assert isinstance(total, Tensor)
    return total


__all__ = ["FitReport", "fit_report", "lowering_report", "module_loss", "own_scales"]
