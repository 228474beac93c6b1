"""What each decision of a shared program reads under an algorithm, and what cannot work.

Selections are drawn as the algorithm would draw them, each is tried alone, and one pass with all of them shows which
decisions the loss has no gradient for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mutandis.algorithms.oneshot.protocol import SharedSearch
from mutandis.algorithms.oneshot.selections import Gate, Index, Mixture, Selection, Selections, Subset, Value
from mutandis.errors import LoweringError
from mutandis.flows import supernet
from mutandis.flows.costs.measures import modules_of, quiet
from mutandis.flows.oneshot.running import running
from mutandis.flows.oneshot.teams.relay import Relay
from mutandis.hyper import Point

Run = Callable[[Any], Tensor]
"""Returns the loss of a live program."""
_DRAWS, _ENOUGH = 32, 8
"""How many draws are looked at, at most and where all decisions were seen."""


@dataclass(frozen=True, slots=True)
class Fit:
    """What one decision is to an algorithm.

    Attributes:
        decision: Its name or path.
        reads: What it reads in a policy step, in words; "" where it was never active.
        refusal: Why the algorithm cannot search it, or None.
    """

    decision: str
    reads: str
    refusal: LoweringError | None = None

    def __str__(self) -> str:
        return self.reads if self.refusal is None else f"refused: {self.refusal.args[0].splitlines()[0]}"


def fits_of(shared: supernet.Shared, search: SharedSearch, run: Run | None) -> list[Fit]:
    """Returns what each decision is to a search; draws from it, so take one for this alone.

    Args:
        shared: The shared program; where it stands changes.
        search: The search.
        run: Returns the loss of a live program on a batch; None leaves out what only a pass can show.
    """
    richest: dict[int, Selection] = {}
    shown: dict[int, Selection] = {}
    moved: set[int] = set()
    refused: dict[int, LoweringError] = {}
    for number, draw in enumerate(_draws(search)):
        for index, selection in draw.items():
            if index not in refused and (index not in richest or _rank(selection) > _rank(richest[index])):
                richest[index] = selection
                _try_alone(shared, draw, index, refused)
                moved.discard(index)
        wanted = [index for index in draw if index not in moved and _runs(shared, draw, index)]
        if wanted and run is not None and not refused:
            _try_all(shared, draw, run, refused)
            moved.update(wanted)
        shown.update(draw if draw.number >= 0 else {i: s for i, s in draw.items() if i not in shown})
        seen = richest.keys() if run is None or refused else moved
        if number >= _ENOUGH and len(seen) == len(shared.points):
            break
    return [Fit(point.key or "(the root)", _in_words(shown.get(point.index), search), refused.get(point.index))
            for point in shared.points]  # fmt: skip


def _draws(search: SharedSearch) -> Iterator[Selections]:
    """Yields draws of policy and weight steps at the start and near the end of the run."""
    needs = search.needs
    for number in range(_DRAWS):
        search.progress(0.0 if number % 2 == 0 else 0.5)
        if needs.data != "none":
            yield search.policy()
        if not needs.is_one_pass:
            yield search.weights()


def _rank(selection: Selection) -> int:
    """Returns how much a selection asks of a program."""
    return 0 if isinstance(selection, (Index, Value)) else (Gate, Subset, Mixture).index(type(selection)) + 1


def _try_alone(shared: supernet.Shared, draw: Selections, index: int, refused: dict[int, LoweringError]) -> None:
    chosen = {**_above(shared, draw, shared.points[index]), index: draw[index]}
    try:
        with running(shared, Selections(-1, chosen)):
            pass
    except LoweringError as error:
        refused[index] = error


def _above(shared: supernet.Shared, draw: Selections, point: Point) -> dict[int, Selection]:
    """Returns the candidates of the choices above a decision that make it active."""
    made: dict[int, Selection] = {}
    for parent, candidate in point.conditions:
        if parent in draw and candidate in draw[parent].runs and not made:
            plain = Index(candidate) if shared.points[parent].kind == "choice" else draw[parent]
            made = {**_above(shared, draw, shared.points[parent]), parent: plain}
    return made


def _runs(shared: supernet.Shared, draw: Selections, index: int) -> bool:
    """Returns whether a decision stands in candidates that run with gradients, all the way up."""
    conditions = shared.points[index].conditions
    return not conditions or any(
        parent in draw and candidate in draw[parent].runs and candidate not in getattr(draw[parent], "probe", ())
        and _runs(shared, draw, parent) for parent, candidate in conditions
    )  # fmt: skip


def _try_all(shared: supernet.Shared, draw: Selections, run: Run,
             refused: dict[int, LoweringError]) -> None:  # fmt: skip
    """Runs a draw; refuses the decisions that the loss has no gradient for, where one is wanted."""
    relays = {index: Relay(Selections(-1, {index: selection})) for index, selection in draw.items()}
    copies = Selections(-1, {index: relay.copies[index] for index, relay in relays.items()})
    leaves = [(index, leaf) for index, relay in relays.items() for leaf in relay.leaves]
    found: list[Tensor | None] = [None] * len(leaves)
    grad = (torch.inference_mode(False), torch.enable_grad())
    with running(shared, copies) as child, quiet(nn.ModuleList(modules_of(child))), grad[0], grad[1]:
        loss = run(child)
        if leaves and loss.requires_grad:
            found = list(torch.autograd.grad(loss, [leaf for _, leaf in leaves], allow_unused=True))
    reached = {index for (index, _), slope in zip(leaves, found, strict=True) if slope is not None}
    for index in dict(leaves):
        if index not in reached and shared.points[index].num_candidates != 1 and _runs(shared, draw, index):
            refused[index] = _without_path(shared.points[index])


def _without_path(point: Point) -> LoweringError:
    return LoweringError(
        "cannot learn a decision that the loss does not depend on",
        at=point.path,
        got=point.describe(),
        expected="a gradient of the loss by the weights of its candidates",
        fix="let the loss use what the decision decides, or search it with an algorithm that learns from rewards",
    )


def _in_words(selection: Selection | None, search: SharedSearch) -> str:
    if selection is None:
        return ""
    how = {"loss": ", learnt by gradients", "reward": ", learnt by rewards", "none": ""}[search.needs.outcome]
    if isinstance(selection, Mixture):
        return f"all candidates at once{how}"
    if isinstance(selection, Subset) and len(selection.indices) == 1:
        return f"one candidate, straight through{how}"
    if isinstance(selection, Subset):
        return f"{len(selection.indices)} of the candidates, weighted{how}"
    if isinstance(selection, Gate):
        return f"one candidate times a gate{', others probed' * bool(selection.probe)}{how}"
    return f"one {'value' if isinstance(selection, Value) else 'candidate'} at a time{how}"


__all__ = ["Fit", "Run", "fits_of"]
