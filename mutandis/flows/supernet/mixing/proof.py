"""Whether masks are what they claim to be: all weight on one size must be the child of that size.

Seen on a batch, in float64, with disturbed weights (a layer that starts at zero hides what comes before it), norms in
training mode and everything else, such as dropout, in evaluation. Every candidate of every decision takes part once,
many decisions at a time, below every candidate of the other choices; a decision that fails is found by itself then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from mutandis.errors import LoweringError
from mutandis.flows.supernet.assembly import Assembly
from mutandis.flows.supernet.lowering.dependencies import Dependencies
from mutandis.flows.supernet.mixing.hooks import mixing
from mutandis.flows.supernet.mixing.plans import Candidates, Plan
from mutandis.flows.supernet.mixing.refusals import refusal
from mutandis.flows.supernet.selections import Selection, Subset
from mutandis.flows.supernet.store import Store
from mutandis.flows.supernet.verify import doubled, tensors_in
from mutandis.hyper import DNA, Rng, SearchSpace
from mutandis.hyper.points import CHOICE

_CLOSE = 1e-6
_RANDOM = 2
_DISTURBANCE = 0.1
_SEED = 0

Outputs = dict[str, list[torch.Tensor]]
"""What each module returned, by name, in the order in which they ran."""
Plans = Callable[[Sequence[nn.Module], Candidates], list[tuple[nn.Module, Plan]]]
Orders = Mapping[int, Sequence[int]]
"""The candidates of decisions, the largest first."""


class Proof:
    """Holds mixtures against children.

    Args:
        space: The space of the program.
        known: Knows which decisions are for numbers.
        store: The shared tensors.
        live: Returns the live program.
        switch: Switches it to raw values.
        plans: Returns what modules do when candidates run at once.
    """

    def __init__(self, space: SearchSpace, known: Dependencies, store: Store, live: Callable[[], Assembly],
                 switch: Callable[[tuple[Any, ...]], Any], plans: Plans) -> None:  # fmt: skip
        self._space, self._known, self._store = space, known, store
        self._live, self._switch, self._plans = live, switch, plans
        self._mixed: set[int] = set()
        self._is_joint = False

    def run(self, values: tuple[Any, ...], orders: Orders, batch: tuple[Any, ...]) -> None:
        """Proves some decisions.

        Args:
            values: Raw values at which the largest candidates stand.
            orders: The decisions.
            batch: Positional arguments of the module, floats in float64.

        Raises:
            LoweringError: a mixture is not the child.
        """
        for context, picks in self._cases(values, orders):
            place = self._difference(context, picks, orders, batch)
            if place is None:
                continue
            for index, pick in picks.items():
                alone = self._difference(context, {index: pick}, orders, batch)
                if alone is not None:
                    raise self._refusal(index, alone)
            raise self._refusal(min(picks), place)
        for index in orders.keys() - self._mixed:
            raise refusal(self._space.points[index], "", "the size of something that a layer of torch reads: input "
                          "channels or features, a kernel, or how many layers an nn.Sequential has")  # fmt: skip

    def _cases(self, values: tuple[Any, ...], orders: Orders) -> Iterator[tuple[tuple[Any, ...], dict[int, int]]]:
        """Yields values of the other decisions and a candidate of each number."""
        choices = [p for p in self._space.points if p.kind == CHOICE and not self._known.is_number(p)]
        rng, rows = Rng(_SEED, "sizes"), {i: list(order) for i, order in orders.items()}
        turns = max([len(order) for order in orders.values()] + [p.num_candidates for p in choices])
        for turn in range(2 * turns + _RANDOM):
            if turns <= turn < 2 * turns and not self._is_joint:
                continue
            if turn == turns:  # What a layer is may hang on whether neighbours agree: from here on they may not.
                rows = {i: rng.sample(list(order), len(order)) for i, order in orders.items()}
            given = list(values)
            for point in choices if 0 < turn < 2 * turns else ():
                if given[point.index] is not None:
                    given[point.index] = (given[point.index] + turn) % point.num_candidates
            picks = {i: row[turn % len(row)] if turn < 2 * turns else rng.choice(row) for i, row in rows.items()}
            context = self._repaired(given, {i: order[0] for i, order in orders.items()})
            active = {i: pick for i, pick in picks.items() if context[i] is not None}
            if active and self._space.allows(DNA(self._space.bare(), self._repaired(context, active))):
                yield context, active

    def _repaired(self, values: Sequence[Any], changes: Mapping[int, Any]) -> tuple[Any, ...]:
        given = [changes.get(i, value) for i, value in enumerate(values)]
        return self._space.repair(given, lambda point: point.first()).values  # type: ignore[no-any-return]

    def _difference(self, context: tuple[Any, ...], picks: Mapping[int, int], orders: Orders,
                    batch: tuple[Any, ...]) -> str | None:  # fmt: skip
        """Returns where a mixture with all its weight on some candidates first differs from the child, or None."""
        chosen = {i: (orders[i][0], pick) for i, pick in picks.items()}
        hot: dict[int, Selection] = {i: Subset(pair, torch.tensor([0.0, 1.0])) for i, pair in chosen.items()}
        self._switch(self._repaired(context, picks))
        child = self._outputs(batch, [], {})
        self._switch(self._repaired(context, {i: orders[i][0] for i in orders}))
        plans = self._plans(self._live().roots, chosen)
        for _, plan in plans:
            self._mixed |= plan.decisions
            self._is_joint = self._is_joint or bool(plan.behind) or plan.branch is not None
        try:
            mixed = self._outputs(batch, plans, hot)
        except RuntimeError as error:  # Of sizes that do not fit each other.
            return f"where the mixture cannot run: {str(error).splitlines()[0]}"
        return difference(child, mixed)

    def _outputs(self, batch: tuple[Any, ...], plans: Sequence[tuple[nn.Module, Plan]],
                 hot: Mapping[int, Selection]) -> Outputs:  # fmt: skip
        live = self._live()
        root = live.roots[0] if len(live.roots) == 1 else nn.ModuleList(live.roots)
        found: Outputs = {}
        with (
            doubled(self._store, live),
            torch.random.fork_rng(devices=[]),
            mixing(plans, hot, is_proof=True),
            noting(root, found),
        ):
            torch.default_generator.manual_seed(_SEED)
            self._disturb()
            with torch.no_grad():
                found[""] = [tensor.detach() for tensor in tensors_in(live.run(batch))]
        return found

    def _disturb(self) -> None:
        for key in self._store.every_key():
            tensor = self._store.tensor(key)
            if isinstance(tensor, nn.Parameter) and tensor.is_floating_point():
                tensor.data.add_(torch.randn(tensor.shape, dtype=tensor.dtype).to(tensor.device), alpha=_DISTURBANCE)

    def _refusal(self, index: int, place: str) -> LoweringError:
        return refusal(self._space.points[index], place,
                       "code between two layers of this size that treats each channel alone, such as batch norm, "
                       "activations, sums, pooling in space")  # fmt: skip


def difference(child: Outputs, mixed: Outputs) -> str | None:
    """Returns the module at which a mixture first differs from a child; None where their results are equal.

    Args:
        child: The outputs of a child.
        mixed: Those of the mixture; more channels where they are not read yet.
    """
    results, others = child[""], mixed[""]
    if len(results) == len(others) and all(map(_are_equal, results, others)):
        return None
    for name, outputs in child.items():
        others = mixed.get(name, [])
        cut = [_leading(b, a) for a, b in zip(outputs, others)]
        if len(outputs) != len(others) or not all(b is not None and _are_equal(a, b) for a, b in zip(outputs, cut)):
            return f"module {name}" if name else "what the module returns"
    return "what the module returns"


def _leading(tensor: torch.Tensor, like: torch.Tensor) -> torch.Tensor | None:
    """Returns the leading part of a tensor that has the shape of another, or None."""
    if tensor.dim() != like.dim() or any(a < b for a, b in zip(tensor.shape, like.shape)):
        return None
    return tensor[tuple(slice(size) for size in like.shape)]


def _are_equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    if a.shape != b.shape:
        return False
    if not a.is_floating_point() or a.numel() == 0:
        return torch.equal(a, b)
    return bool(torch.allclose(a, b, rtol=_CLOSE, atol=_CLOSE * float(a.abs().nan_to_num().max()), equal_nan=True))


@contextmanager
def noting(root: nn.Module, found: Outputs) -> Iterator[None]:
    """Notes what every module of a tree returns; norms over the batch train meanwhile, all else is in evaluation."""
    modes = [(module, module.training) for module in root.modules()]
    handles: list[Any] = []
    for name, module in root.named_modules():
        module.training = isinstance(module, nn.modules.batchnorm._NormBase)
        handles.append(module.register_forward_hook(_noting(name, found), with_kwargs=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes:
            module.training = mode


def _noting(name: str, found: Outputs) -> Callable[..., None]:
    def note(module: nn.Module, inputs: Any, named: Any, output: Any) -> None:
        found.setdefault(name, []).extend(tensor.detach() for tensor in tensors_in(output))

    return note


__all__ = ["Proof", "difference", "noting"]
