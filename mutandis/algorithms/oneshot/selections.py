"""Selections: what each decision of a program reads while it runs on shared weights. Plain data.

An algorithm makes selections; the layers of a supernet consume them and never know who chose. A decision (a point of
the space, named by its index) reads one of five. Its *candidates* are those of a choice or of several picks; of a
range, the values that the policy weighs, which a `Value` then brings itself.

*Notation*: o_i = output of candidate i, m = what leaves the decision, n = number of candidates.

============================  ===============================================================  ======================
selection                     what the supernet computes                                       gradient to the policy
============================  ===============================================================  ======================
`Index(k)`                    m = o_k                                                          none
`Gate(k, g)`                  m = g[k] o_k, where g[k] = 1                                     dL/dg[k]
`Gate(k, g, probe)`           the same plus sum over j in probe of g[j] o_j, where g[j] = 0    dL/dg[k], dL/dg[j]
`Subset(indices, w)`          m = sum over j of w[j] align(o_indices[j]) (+ offset)            through w and offset
`Mixture(w)`                  m = sum over all i of w[i] align(o_i)                            through w
`Value(v)`                    v itself stands for the decision                                 through v, if a tensor
============================  ===============================================================  ======================

What a supernet owes an algorithm:

- A candidate that no selection names does not run, and the `.grad` of its weights stays None, not zero, so that
  neither momentum nor weight decay moves it.
- Probed candidates run under `torch.no_grad()`: their weights learn nothing, and what is inside them neither. Their
  outputs are constants that g[j] multiplies.
- `align` is the identity for outputs of one shape; where sizes differ, it is what `mode` says: zeros for the channels
  that a size does not have, behind norm and activation (`mask`, Wan et al. 2020, arXiv 2004.05565), or channels
  interpolated to the largest of the sizes that run (`interpolate`, Dong and Yang 2019, arXiv 1905.09717).
- At a decision of several picks, `Value` holds the raw picks and `Subset` the picks with a weight each: pick j is
  multiplied by w[j] (which is 1, for its gradient), and the program gets the list of them, not their sum.
- Decisions below a candidate that runs have a selection too, even where the candidate is only probed.
- Tensors are float64 on the CPU. Reading w[j], a tensor without dimensions, keeps dtype and device of an output that
  it multiplies; a whole vector needs `w.to(output)`.
- A weight of exactly 1 or 0 is multiplied all the same, for its gradient.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mutandis.errors import DecisionError
from mutandis.hyper import DNA, Point, SearchSpace

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Index:
    """Candidate `index` of a choice runs, alone.

    Attributes:
        index: k, from 0.
    """

    index: int

    @property
    def runs(self) -> tuple[int, ...]:
        """The candidates that run."""
        return (self.index,)


@dataclass(frozen=True, slots=True, eq=False)
class Gate:
    """Candidate `index` runs, times a gate that is 1.

    Attributes:
        index: k, from 0.
        gate: `[n]` float64, one-hot at k, a leaf that takes the gradient.
        probe: Other candidates whose gates want a gradient; they run without one of their own.
    """

    index: int
    gate: Tensor
    probe: tuple[int, ...] = ()

    @property
    def runs(self) -> tuple[int, ...]:
        """The candidates that run, the one that counts first."""
        return (self.index, *self.probe)


@dataclass(frozen=True, slots=True, eq=False)
class Subset:
    """Some candidates run, and are added with weights; at a decision of several picks they are listed instead.

    Attributes:
        indices: The candidates; in order, and possibly repeated, for several picks.
        weights: `[len(indices)]` float64, one weight each.
        offset: A number that is 0, to be added to m for its gradient; None where there is none.
        mode: How sizes are brought into line: `mask` or `interpolate`.
    """

    indices: tuple[int, ...]
    weights: Tensor
    offset: Tensor | None = None
    mode: str = "mask"

    @property
    def runs(self) -> tuple[int, ...]:
        """The candidates that run."""
        return self.indices


@dataclass(frozen=True, slots=True, eq=False)
class Mixture:
    """All candidates run, and are added with weights.

    Attributes:
        weights: `[n]` float64.
        mode: How sizes are brought into line: `mask` or `interpolate`.
    """

    weights: Tensor
    mode: str = "mask"

    @property
    def runs(self) -> tuple[int, ...]:
        """The candidates that run: all."""
        return tuple(range(len(self.weights)))


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """A value stands for the decision: a number of a range, or the raw picks of several.

    Attributes:
        value: A number, a float64 tensor without dimensions whose gradient reaches the policy, or a tuple of indices.
    """

    value: Any

    @property
    def runs(self) -> tuple[int, ...]:
        """The candidates that run: the picks, if these are picks."""
        return self.value if isinstance(self.value, tuple) else ()


Selection = Index | Gate | Subset | Mixture | Value


class Selections(Mapping[int, Selection]):
    """One selection for every decision that is active: its condition holds for a candidate that runs.

    Args:
        number: Which draw of its search this is; -1 where nobody waits for an answer.
        items: The selections by index of the point.

    Attributes:
        number: As above.
    """

    __slots__ = ("_items", "number")

    def __init__(self, number: int, items: Mapping[int, Selection]) -> None:
        self.number = number
        self._items = dict(items)

    def __getitem__(self, index: int) -> Selection:
        return self._items[index]

    def __iter__(self) -> Iterator[int]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        return f"Selections({self.number}, {self._items})"

    @property
    def is_single_path(self) -> bool:
        """Whether every choice runs one candidate, without probes: the selections are those of a DNA."""
        return all(
            isinstance(s, (Index, Value)) or (isinstance(s, Gate) and not s.probe) or _is_one(s)
            for s in self._items.values()
        )

    def dna(self, space: SearchSpace) -> DNA:
        """Returns the DNA whose candidates run, gates and weights left aside.

        Args:
            space: The space that the selections were made for.

        Raises:
            DecisionError: a decision runs several candidates.
        """
        values: list[Any] = [None] * len(space.points)
        for index, selection in self._items.items():
            values[index] = _raw(space.points[index], selection)
        return DNA(space.bare(), tuple(values))


def _is_one(selection: Selection) -> bool:
    return isinstance(selection, Subset) and len(selection.indices) == 1


def _raw(point: Point, selection: Selection) -> Any:
    """Returns the raw value that a selection amounts to."""
    if isinstance(selection, Value):
        value = selection.value
        return point.check(float(value.detach())) if hasattr(value, "detach") else value
    if point.kind == "many" and isinstance(selection, Subset):
        return selection.indices
    if isinstance(selection, (Index, Gate)) or _is_one(selection):
        return selection.runs[0]
    raise DecisionError("cannot read a DNA off selections", at=point.path, got=selection,
                        expected="one candidate that runs",
                        fix="ask `selections.is_single_path` first")  # fmt: skip


def selections_of(dna: DNA, number: int = -1) -> Selections:
    """Returns the selections of a DNA: an `Index` for a choice, a `Value` for all else."""
    points = dna.space.points
    return Selections(number, {
        i: Index(value) if points[i].kind == "choice" else Value(value)
        for i, value in enumerate(dna.values) if value is not None
    })  # fmt: skip


def is_reached(point: Point, made: Mapping[int, Selection]) -> bool:
    """Returns whether a decision is active, given the selections of those before it."""
    if not point.conditions:
        return True
    return any(parent in made and candidate in made[parent].runs for parent, candidate in point.conditions)


def sizes(point: Point) -> Sequence[float] | None:
    """Returns the candidates of a choice if all are numbers, so that they have a largest; else None."""
    labels = point.candidates
    are_numbers = all(isinstance(label, (int, float)) and not isinstance(label, bool) for label in labels)
    return labels if point.kind == "choice" and are_numbers else None


__all__ = ["Gate", "Index", "Mixture", "Selection", "Selections", "Subset", "Value", "is_reached", "selections_of",
           "sizes"]  # fmt: skip
