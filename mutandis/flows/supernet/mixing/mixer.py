"""Numbers in selections: the live program stands at the largest size, and its layers mix the others in."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn

from mutandis.errors import DecisionError
from mutandis.flows.supernet.assembly import Assembly, Home
from mutandis.flows.supernet.lowering.children import Child
from mutandis.flows.supernet.lowering.dependencies import Dependencies
from mutandis.flows.supernet.mixing.hooks import mixing
from mutandis.flows.supernet.mixing.plans import Candidates, Plan, Planner
from mutandis.flows.supernet.mixing.proof import Proof
from mutandis.flows.supernet.mixing.refusals import refusal
from mutandis.flows.supernet.mixing.weighing import mode_of
from mutandis.flows.supernet.selections import INTERPOLATE, MODES, Mixture, Selection
from mutandis.flows.supernet.store import Store
from mutandis.hyper import Point, SearchSpace
from mutandis.hyper.points import CHOICE

Switch = Callable[[tuple[Any, ...]], Any]


class SizeMixer:
    """Mixes the sizes of decisions for numbers.

    Args:
        space: The space of the program.
        known: Knows which decisions what depends on.
        store: The shared tensors.
        live: Returns the live program.
        switch: Switches it to raw values.
        meet: Builds the child of raw values, for its parts.
        build: Builds the child of raw values, to be changed.
        batch: Positional arguments of the module, floats in float64; None where there is no example.
        is_strict: Whether what is not mixed channel by channel is refused; else it is as the largest size has it.
    """

    def __init__(self, space: SearchSpace, known: Dependencies, store: Store, live: Callable[[], Assembly],
                 switch: Switch, meet: Switch, build: Callable[[tuple[Any, ...]], Child],
                 batch: tuple[Any, ...] | None, *, is_strict: bool) -> None:  # fmt: skip
        self._space, self._known, self._live = space, known, live
        self._switch, self._meet, self._build, self._batch = switch, meet, build, batch
        self._is_strict = is_strict
        self._planner = Planner(known, store, live, self._meet_values, self._module, is_strict=is_strict)
        self._proof = Proof(space, known, store, live, switch, self._plans_at)
        self._weights: dict[int, list[int]] = {}
        self._proven: set[int] = set()

    def enlarge(self, values: tuple[Any, ...], numbers: Mapping[int, Selection],
                below: dict[int, Any]) -> tuple[Any, ...]:  # fmt: skip
        """Returns raw values at which the largest of the selected sizes stand, once they are known to mix well.

        Args:
            values: What all other decisions are.
            numbers: The selections, by index of the decision.
            below: Takes the largest sizes of decisions that the values leave out.

        Raises:
            LoweringError: sizes cannot be mixed.
        """
        self.prove(values, tuple(numbers))
        given = list(values)
        for index, selection in numbers.items():
            weights = self.weights_of(index, values)
            largest = max(selection.weights, key=lambda candidate: (weights[candidate], candidate))
            if given[index] is None:
                below[index] = largest
            else:
                given[index] = largest
        return tuple(given)

    def weights_of(self, index: int, values: tuple[Any, ...]) -> list[int]:
        """Returns how many weights the child of each candidate has, the other decisions being the same."""
        if index not in self._weights:
            point, found = self._known.point(index), []
            for candidate in range(point.num_candidates):
                given = self._known.forced(point, values)
                given[index] = candidate
                self._switch(self._repaired(given))
                found.append(sum(math.prod(loan.shape) for loan, _ in self._live().loans()))
            self._weights[index] = found
        return self._weights[index]

    def prove(self, values: tuple[Any, ...], indices: Sequence[int]) -> None:
        """Makes sure, once and where that is asked for, that with all weight on one size a mixture is its child.

        Args:
            values: What the other decisions are.
            indices: The decisions.

        Raises:
            LoweringError: it is not, and where it first differs; or there is no batch to see it on.
        """
        new = [index for index in indices if index not in self._proven]
        if not new or not self._is_strict:
            return
        if self._batch is None:
            raise refusal(self._known.point(new[0]), "", "a batch, on which masks are held against real children",
                          "pass batch=x to mu.share_weights, an example of what the module is called with")  # fmt: skip
        values = self._known.extreme(True, values)  # A width may count only where a depth is the largest.
        weights = {index: self.weights_of(index, values) for index in new}
        orders = {i: sorted(range(len(row)), key=lambda c: (-row[c], -c)) for i, row in weights.items()}
        self._proof.run(values, orders, self._batch)
        self._proven.update(new)

    @contextmanager
    def running(self, roots: Sequence[nn.Module], numbers: Mapping[int, Selection]) -> Iterator[None]:
        """Lets a live program that stands at the largest sizes mix them for a while.

        Raises:
            LoweringError: sizes cannot be mixed.
        """
        plans = self._plans_at(roots, {i: tuple(selection.weights) for i, selection in numbers.items()})
        self._need_plain({i for i, selection in numbers.items() if mode_of(selection) == INTERPOLATE}, plans)
        with mixing(plans, numbers):
            yield

    def _plans_at(self, roots: Sequence[nn.Module], chosen: Candidates) -> list[tuple[nn.Module, Plan]]:
        modules = list({id(module): module for root in roots for module in root.modules()}.values())
        self._planner.prepare(modules, chosen)
        found = [(module, self._planner.plan(module, chosen)) for module in modules]
        plans = [(module, plan) for module, plan in found if plan is not None]
        return plans + [inside for _, plan in plans for inside in plan.inside()]

    def _need_plain(self, decisions: set[int], plans: Sequence[tuple[nn.Module, Plan]]) -> None:
        """Refuses to interpolate channels that stand side by side with others, or are spread out."""
        made = {(plan.outputs, plan.made) for _, plan in plans}
        for module, plan in plans if decisions else ():
            for weighing in plan.weighings:
                ours = decisions.intersection(weighing.decisions)
                if not ours or not weighing.is_read:
                    continue
                makers = [sizes for decisions, sizes in made if decisions == weighing.decisions]
                blocks = {block_of(weighing.sizes, sizes) for sizes in makers} - {0}
                weighing.block = 1 if 1 in blocks else max(blocks, default=1)
                if not weighing.is_leading or not (1 in blocks or len(blocks) == 1):  # Not known where from.
                    home = self._live().home_of(module)
                    where = f"module {home.path} ({type(module).__name__})" if home is not None else ""
                    raise refusal(self._known.point(min(ours)), where,
                                  "channels to interpolate that come from one layer, not from a concatenation",
                                  "use masks, as FBNetV2() does")  # fmt: skip

    def _meet_values(self, changes: Mapping[int, Any]) -> None:
        self._meet(self._repaired(self._changed(changes)))

    def _module(self, home: Home, changes: Mapping[int, Any]) -> nn.Module:
        given = self._changed(dict(zip(home.part.decisions, home.values, strict=True)))
        return self._build(self._repaired([changes.get(i, value) for i, value in enumerate(given)])).tree[home.path]

    def _changed(self, changes: Mapping[int, Any]) -> list[Any]:
        values = self._live().values
        assert values is not None  # Asked after a switch.
        return [changes.get(i, value) for i, value in enumerate(values)]

    def _repaired(self, given: Sequence[Any]) -> tuple[Any, ...]:
        return self._space.repair(given, lambda point: point.first()).values  # type: ignore[no-any-return]


def block_of(sizes: Sequence[int], made: Sequence[int]) -> int:
    """Returns how many places each of the channels that a layer makes has where they are read; 0 for no one number."""
    blocks = {size // channels if size % channels == 0 else 0 for size, channels in zip(sizes, made, strict=True)}
    return blocks.pop() if len(blocks) == 1 else 0


def need_sizes(point: Point, selection: Selection) -> None:
    """Refuses a selection that does not fit a decision for a number.

    Raises:
        LoweringError: the decision is a range, which has no candidates.
        DecisionError: there are no such candidates, or no such mode.
    """
    if point.kind != CHOICE:
        raise refusal(point, "", "a choice among some sizes", "write mu.oneof([...]) for the range")
    candidates = list(selection.weights)
    if not candidates or any(not 0 <= c < point.num_candidates for c in candidates) or (
            isinstance(selection, Mixture) and len(candidates) != point.num_candidates):  # fmt: skip
        raise DecisionError("cannot use a selection", at=point.key or "(the root)", got=candidates,
                            expected=f"candidates in [0, {point.num_candidates}), all of them for a Mixture",
                            fix="give one weight per candidate, in their order")  # fmt: skip
    if mode_of(selection) not in MODES:
        raise DecisionError("cannot use a selection", at=point.key or "(the root)", got=mode_of(selection),
                            expected=f"a mode: {' or '.join(MODES)}", fix="leave it out, for masks")  # fmt: skip


__all__ = ["SizeMixer", "block_of", "need_sizes"]
