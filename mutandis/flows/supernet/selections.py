"""What runs at a choice: one arm, one arm times a gate, or several arms with weights.

A selection is what an algorithm hands over for a decision; the layers only consume it. An index needs no layer at all,
since the arm itself stands in the tree. For the others a `Choice` stands where the arms would.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from mutandis.errors import DecisionError, LoweringError
from mutandis.hyper import Point
from mutandis.hyper.points import CHOICE


@dataclass(frozen=True, eq=False)
class Gate:
    """One arm times a gate that is 1: its gradient says what the arm is worth (Hu et al. 2020, arXiv 2002.09128).

    Attributes:
        index: The arm.
        gate: A tensor of no dimensions.
    """

    index: int
    gate: torch.Tensor

    @property
    def weights(self) -> dict[int, torch.Tensor]:
        """The weight of each arm that runs."""
        return {self.index: self.gate}


@dataclass(frozen=True, eq=False)
class Subset:
    """Some arms with weights; the others do not run (Dong and Yang 2019, arXiv 1910.04465, eq. 7).

    Attributes:
        indices: The arms.
        values: `[len(indices)]`, their weights in this order.
    """

    indices: tuple[int, ...]
    values: torch.Tensor

    @property
    def weights(self) -> dict[int, torch.Tensor]:
        """The weight of each arm that runs."""
        return dict(zip(self.indices, self.values, strict=True))


@dataclass(frozen=True, eq=False)
class Mixture:
    """All arms with weights (Liu et al. 2019, arXiv 1806.09055, eq. 2).

    Attributes:
        values: `[number of arms]`, their weights.
    """

    values: torch.Tensor

    @property
    def weights(self) -> dict[int, torch.Tensor]:
        """The weight of each arm that runs."""
        return dict(enumerate(self.values))


Selection = Gate | Subset | Mixture


class Choice(nn.Module):
    """Arms at one place of the live program, and the selection that says what runs.

    Args:
        arms: The arms that run, by index.
        selection: Their weights.
        at: Where the choice stands, for errors.
    """

    def __init__(self, arms: Mapping[int, nn.Module], selection: Selection, at: str) -> None:
        super().__init__()
        self.arms = nn.ModuleDict({str(index): arm for index, arm in arms.items()})
        self.selection = selection
        self.at = at

    def forward(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Returns the weighted sum of the outputs of the arms that run."""
        total: torch.Tensor | None = None
        for index, weight in self.selection.weights.items():
            output = self.arms[str(index)](*args, **kwargs)
            if not isinstance(output, torch.Tensor):
                raise self._refusal("one tensor from each arm", type(output).__name__)
            if total is not None and total.shape != output.shape:
                raise self._refusal(f"outputs of one shape, as of the others {tuple(total.shape)}", tuple(output.shape))
            total = output * weight if total is None else total + output * weight
        assert total is not None  # A selection has an arm.
        return total

    def _refusal(self, expected: str, got: Any) -> LoweringError:
        return LoweringError("cannot add up the arms of a choice", at=self.at, got=got, expected=expected,
                             fix="select one arm at a time")  # fmt: skip


def need_arms(point: Point, selection: Selection, is_number: bool) -> None:
    """Refuses a selection for a decision that has no arms, or not these."""
    arms = list(selection.weights)
    if point.kind != CHOICE or is_number:
        raise LoweringError(
            "cannot run several arms of this decision",
            at=point.path,
            got=point.describe(),
            expected="a choice among layers or things that make layers",
            fix="decide it in the DNA; to mix sizes, put layers of several sizes among the candidates",
        )
    if not arms or any(not 0 <= arm < point.num_candidates for arm in arms) or (
            isinstance(selection, Mixture) and len(arms) != point.num_candidates):  # fmt: skip
        raise DecisionError("cannot use a selection", at=point.path, got=arms,
                            expected=f"arms in [0, {point.num_candidates}), all of them for a Mixture",
                            fix="give one weight per candidate, in their order")  # fmt: skip


__all__ = ["Choice", "Gate", "Mixture", "Selection", "Subset", "need_arms"]
