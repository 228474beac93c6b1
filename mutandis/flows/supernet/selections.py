"""What runs at a choice: one arm, one arm times a gate, or several arms with weights.

A selection is what an algorithm hands over for a decision; the layers only consume it. An index needs no layer at all,
since the arm itself stands in the tree. For the others a `Choice` stands where the arms would.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import nn

from mutandis.errors import DecisionError, LoweringError
from mutandis.flows.supernet.choices.folding import Folds
from mutandis.flows.supernet.choices.weighing import is_transformed, weighted_sum
from mutandis.hyper import Point
from mutandis.hyper.points import CHOICE

MASK, INTERPOLATE = "mask", "interpolate"
MODES = (MASK, INTERPOLATE)
"""How the sizes of a number are mixed: channels are masked, or those of smaller sizes are spread out to all."""


@dataclass(frozen=True, eq=False)
class Gate:
    """One arm times a gate that is 1: its gradient says what the arm is worth (Hu et al. 2020, arXiv 2002.09128).

    Probed arms run without gradients of their own, for those of their gates (Cai et al. 2019, arXiv 1812.00332).

    Attributes:
        index: The arm.
        gate: A tensor of no dimensions.
        probes: Gates of other arms, which are 0, by arm.
    """

    index: int
    gate: torch.Tensor
    probes: Mapping[int, torch.Tensor] = field(default_factory=dict)
    offset: ClassVar[None] = None

    @property
    def weights(self) -> Mapping[int, torch.Tensor]:
        """The weight of each arm that runs."""
        return {self.index: self.gate, **self.probes}


@dataclass(frozen=True, eq=False)
class Subset:
    """Some arms with weights; the others do not run (Dong and Yang 2019, arXiv 1910.04465, eq. 7).

    Attributes:
        indices: The arms.
        values: `[len(indices)]`, their weights in this order.
        offset: A number without dimensions that is added to the sum, for its gradient; None where there is none.
        mode: One of `MODES`, for numbers.
    """

    indices: tuple[int, ...]
    values: torch.Tensor
    offset: torch.Tensor | None = None
    mode: str = MASK

    @cached_property
    def weights(self) -> Mapping[int, torch.Tensor]:
        """The weight of each arm that runs."""
        return dict(zip(self.indices, _apart(self.values), strict=True))


@dataclass(frozen=True, eq=False)
class Mixture:
    """All arms with weights (Liu et al. 2019, arXiv 1806.09055, eq. 2).

    Attributes:
        values: `[number of arms]`, their weights.
        mode: One of `MODES`, for numbers.
    """

    values: torch.Tensor
    mode: str = MASK
    offset: ClassVar[None] = None

    @cached_property
    def weights(self) -> Mapping[int, torch.Tensor]:
        """The weight of each arm that runs."""
        return dict(enumerate(_apart(self.values)))


def _apart(values: torch.Tensor) -> Sequence[torch.Tensor]:
    """Returns the numbers of a vector, with their gradients wherever this is asked first."""
    if not torch.is_grad_enabled() or torch.is_inference_mode_enabled():
        with torch.inference_mode(False), torch.enable_grad():
            return _apart(values)
    return (values.reshape(()),) if values.numel() == 1 else values.unbind()


Selection = Gate | Subset | Mixture


class Choice(nn.Module):
    """Arms at one place of the live program, and the selection that says what runs.

    Args:
        arms: The arms that run, by index.
        selection: Their weights.
        at: Where the choice stands, for errors.
        index: Of the decision.
    """

    def __init__(self, arms: Mapping[int, nn.Module], selection: Selection, at: str, index: int = -1) -> None:
        super().__init__()
        self.arms = nn.ModuleDict({str(index): arm for index, arm in arms.items()})
        self.selection = selection
        self.at = at
        self._index, self._by_index, self._folds = index, dict(arms), Folds()

    def forward(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Returns the weighted sum of the outputs of the arms that run."""
        weights = self.selection.weights
        if len(weights) == 1:
            for index, weight in weights.items():
                return self._gated(index, weight, args, kwargs)
        outputs: list[torch.Tensor] = []
        for index in weights:
            with torch.no_grad() if index in self._probes else nullcontext():
                output = self.arms[str(index)](*args, **kwargs)
            if not isinstance(output, torch.Tensor):
                raise self._refusal("one tensor from each arm", type(output).__name__)
            if outputs and outputs[0].shape != output.shape:
                expected = f"outputs of one shape, as of the others {tuple(outputs[0].shape)}"
                raise self._refusal(expected, tuple(output.shape))
            outputs.append(output)
        return weighted_sum(outputs, list(weights.values()), self.selection.offset)

    def _gated(self, index: int, weight: torch.Tensor, args: Any, kwargs: Any) -> torch.Tensor:
        """Returns the output of the only arm that runs, times its weight."""
        arm, offset = self._by_index[index], self.selection.offset
        fold = None if is_transformed() else self._folds.find(arm)
        if fold is not None:
            output = fold[1](arm, fold[0], args, kwargs, weight, offset)
            if output is not None:
                return output  # type: ignore[no-any-return]
        output = arm(*args, **kwargs)
        if not isinstance(output, torch.Tensor):
            raise self._refusal("one tensor from each arm", type(output).__name__)
        return weighted_sum((output,), (weight,), offset)

    def arm(self, values: Sequence[Any]) -> nn.Module | None:
        """Returns the arm that raw values choose; None where it does not run here."""
        return self._by_index.get(values[self._index])

    @property
    def _probes(self) -> Mapping[int, torch.Tensor]:
        return self.selection.probes if isinstance(self.selection, Gate) else {}

    def _refusal(self, expected: str, got: Any) -> LoweringError:
        return LoweringError("cannot add up the arms of a choice", at=self.at, got=got, expected=expected,
                             fix="select one arm at a time")  # fmt: skip


def need_arms(point: Point, selection: Selection) -> None:
    """Refuses a selection for a decision that has no arms, or not these."""
    arms = list(selection.weights)
    if point.kind != CHOICE:
        raise LoweringError(
            "cannot run several arms of this decision",
            at=point.path,
            got=point.describe(),
            expected="a choice among layers or things that make layers",
            fix="decide it in the DNA",
        )
    if not arms or any(not 0 <= arm < point.num_candidates for arm in arms) or (
            isinstance(selection, Mixture) and len(arms) != point.num_candidates):  # fmt: skip
        raise DecisionError("cannot use a selection", at=point.path, got=arms,
                            expected=f"arms in [0, {point.num_candidates}), all of them for a Mixture",
                            fix="give one weight per candidate, in their order")  # fmt: skip


def decided_twice(point: Point, value: Any) -> DecisionError:
    """Returns the error for a raw value of a decision that the DNA has."""
    return DecisionError("cannot decide twice", at=point.path, got=value,
                         expected="a selection, or a decision that the DNA leaves out",
                         fix="put the value into the DNA")  # fmt: skip


__all__ = ["INTERPOLATE", "MASK", "MODES", "Choice", "Gate", "Mixture", "Selection", "Subset", "decided_twice",
           "need_arms"]  # fmt: skip
