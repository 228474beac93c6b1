"""Which part of each shared tensor a child uses: by the rule of its layer, or where labels show that it stands."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from mutandis.errors import LoweringError
from mutandis.flows.supernet.cuts import Cut, is_whole, plain_place
from mutandis.flows.supernet.lowering.children import Builder, Child
from mutandis.flows.supernet.lowering.dependencies import Dependencies
from mutandis.flows.supernet.lowering.labels import Desk
from mutandis.flows.supernet.lowering.layers import Full
from mutandis.flows.supernet.lowering.positions import Finder, Labels
from mutandis.flows.supernet.lowering.spares import Spare
from mutandis.flows.supernet.store import Store
from mutandis.flows.supernet.tensors.loans import Loan
from mutandis.flows.supernet.verify import as_double
from mutandis.hyper import DNA

_LARGER = 3


class Placer:
    """Places children in the shared tensors.

    Args:
        builder: Builds children.
        known: Knows which are larger.
        store: The shared tensors.
        batch: Positional arguments of the module, or None.
        positions: `proven` to refuse what cannot be proven, `leading` to take the leading places then.

    Attributes:
        batch: The batch, floats in float64; None where there is none.
        unproven: Modules of which it is not known which places a smaller child should use.
    """

    def __init__(
        self, builder: Builder, known: Dependencies, store: Store, batch: tuple[Any, ...] | None, positions: str
    ) -> None:
        self._builder, self._known, self._store = builder, known, store
        self.batch = None if batch is None else as_double(batch)
        self._positions = positions
        self._passes: dict[tuple[Any, ...], Labels] = {}
        self._desk = Desk()
        self.unproven: set[str] = set()

    def loans(self, child: Child) -> list[tuple[Loan, Cut]]:
        """Returns what a child shares and which part of it.

        Raises:
            LoweringError: it cannot be told, and what cannot be told is refused.
        """
        loans = [(loan, self._store.cut(child, loan)) for loan in self._store.loans(child)]
        if all(is_whole(cut) for _, cut in loans):
            return loans
        self._place(child, sorted({loan.path for loan, cut in loans if not is_whole(cut)}))
        return [(loan, self._store.cut(child, loan)) for loan, _ in loans]

    def _place(self, child: Child, cut: list[str]) -> None:
        """Finds where the cut tensors of a child stand, by comparing it with larger children."""
        unknown, failure, failed_at = cut, None, ""
        if self.batch is not None:
            full = Full()
            for loan in self._store.loans(child):
                shape = tuple(self._store.tensor(loan.key).shape)
                path, name = plain_place(child.tree, loan.path, loan.name)
                full.shapes[loan.path, loan.name] = shape
                full.note(path, child.tree[path], name, shape)
            spare = Spare(child, lambda: self._builder.build(child.values))
            try:
                finder = Finder(spare.fresh, self.batch, full, lambda: self._references(child.values, cut), self._desk,
                                self.unproven)  # fmt: skip
                places, unknown, failure, failed_at = finder.places(), finder.unknown, finder.failure, finder.failed_at
            finally:
                spare.give_back()
            child.places = places
        self.unproven.update(unknown)
        if unknown and self._positions == "proven":
            if isinstance(failure, LoweringError):
                raise failure
            if failure is not None:
                raise self._cannot_run(child, failure, failed_at)
            raise unknown_positions(unknown, self.batch is not None)

    def _cannot_run(self, child: Child, failure: Exception, path: str) -> LoweringError:
        return LoweringError(
            f"cannot run a child on the batch: {type(failure).__name__}: {failure}",
            at=f"module {path}" if path else "the root",
            got=DNA(self._builder.space.bare(), child.values),
            expected="a batch that goes through every child, and in every child sizes that fit together",
            fix="pass another batch, a tuple only for several arguments; make sizes that meet one decision, or "
                "mu.derive one from the other; or pass "
                "positions='leading' if only labels in the place of outputs cannot go through",
        )  # fmt: skip

    def _references(self, values: tuple[Any, ...], paths: list[str]) -> Iterator[Labels]:
        """Yields passes through larger children: the largest, the largest alike, and those with most of a layer."""
        chosen = [self._known.extreme(True, values, wiring=wiring) for wiring in (False, True)]
        for path in paths:
            sizes = sorted(self._known.seen((path, "tensors")), key=lambda seen: -_weight(seen[0]))
            chosen += [other for _, other in sizes[:_LARGER]]
        for other in dict.fromkeys(chosen):
            if other not in self._passes:
                assert self.batch is not None  # Asked only where there is one.
                self._passes[other] = Labels(self._builder.build(other), self.batch, desk=self._desk)
            yield self._passes[other]


def unknown_positions(paths: Sequence[str], has_batch: bool) -> LoweringError:
    """Returns the error for tensors of which nobody knows where the part of a child stands."""
    shown = ", ".join(path or "(the root)" for path in paths[:4])
    shown += f" and {len(paths) - 4} more" if len(paths) > 4 else ""
    fix = "keep its input size fixed, or pass positions='leading' if the leading places are right for you"
    if not has_batch:
        fix = "pass batch=x, an example of what the module is called with, or positions='leading'"
    return LoweringError(
        "cannot tell which places of a shared weight belong to a smaller child",
        at=f"module {shown}",
        expected="input channels that can be followed from layer to layer",
        fix=fix,
    )


def _weight(tensors: Sequence[tuple[Any, ...]]) -> int:
    return sum(math.prod(tensor[2]) for tensor in tensors if len(tensor) > 4)


__all__ = ["Placer", "unknown_positions"]
