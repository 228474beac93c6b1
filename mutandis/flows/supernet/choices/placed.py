"""Which choices stand in the live program while a selection holds, so that their arms come back in one go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from mutandis.flows.supernet.selections import Choice


class Placed:
    """The choices that were put into modules since a selection began."""

    def __init__(self) -> None:
        self._places: list[tuple[nn.Module, str, Choice]] = []

    def add(self, holder: nn.Module, name: str, choice: Choice) -> None:
        """Notes that a choice stands in a module under a name."""
        self._places.append((holder, name, choice))

    def leave(self, values: Sequence[Any]) -> bool:
        """Puts the arms of raw values in the places of the choices, in the mode of what holds them.

        Args:
            values: The raw values.

        Returns:
            Whether every choice had the arm; if not, nothing is changed.
        """
        arms = [choice.arm(values) for _, _, choice in self._places]
        if None in arms:
            return False
        for (holder, name, _), arm in zip(self._places, arms, strict=True):
            holder._modules[name] = arm
            if arm.training is not holder.training:  # type: ignore[union-attr]
                arm.train(holder.training)  # type: ignore[union-attr]
        return True


__all__ = ["Placed"]
