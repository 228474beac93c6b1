"""The protocol of search algorithms: frozen settings that start live searches.

An algorithm sees points only, never a program, a study or a flow. Whatever a search learns comes as
`Feedback`, which may be late, out of order, unasked for, or never come.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar, dataclass_transform

from mutandis.errors import SettingError, closest
from mutandis.hyper import DNA, Feedback, Proposal, SearchSpace
from mutandis.symbolic.classes.decorate import symbolize_class

JSON = dict[str, Any]
T = TypeVar("T")


class Search(abc.ABC):
    """One run of an algorithm on one space: everything that changes while it runs."""

    @abc.abstractmethod
    def propose(self) -> Proposal:
        """Returns the next DNA to try; any number may be pending at once.

        Raises:
            SpaceExhausted: nothing is left to propose.
        """

    @abc.abstractmethod
    def feedback(self, feedback: Feedback) -> None:
        """Learns from a result. It may come late, out of order, unasked for, or never."""

    @abc.abstractmethod
    def state_dict(self) -> JSON:
        """Returns the state as JSON; a fresh search that loads it proposes the same DNA next."""

    @abc.abstractmethod
    def load_state_dict(self, state: JSON) -> None:
        """Goes on from a state of a search of the same algorithm, space and seed."""


class Algorithm(abc.ABC):
    """Settings of a search method: immutable, comparable, cloneable, itself searchable.

    Attributes:
        objectives: `one`, or `many` for an algorithm that can weigh several rewards against each other.
    """

    objectives: ClassVar[str] = "one"

    @abc.abstractmethod
    def start(self, space: SearchSpace, *, seed: int, num_objectives: int = 1) -> Search:
        """Begins one run on `space`; all randomness of the run derives from `seed`.

        Args:
            space: The space; only its points are used.
            seed: Seed of the run.
            num_objectives: How many rewards each feedback carries.

        Raises:
            SettingError: the algorithm cannot search this space, or not for so many objectives.
        """

    def check_objectives(self, num_objectives: int) -> None:
        """Refuses several objectives where the algorithm has only one.

        Raises:
            SettingError: there are more objectives than it can handle.
        """
        if num_objectives > 1 and self.objectives == "one":
            raise SettingError(
                "cannot search for several objectives",
                at=type(self).__name__,
                got=num_objectives,
                expected="one objective",
                fix="combine the metrics into one reward, or use an algorithm for several objectives",
            )


symbolize_class(Algorithm)


@dataclass_transform(frozen_default=True)
def settings(cls: type[T]) -> type[T]:
    """Makes a class of settings: a frozen dataclass that is symbolic, so that it can itself be searched."""
    return symbolize_class(dataclass(frozen=True)(cls))


def need_int(name: str, value: object, low: int) -> None:
    """Refuses a setting that is not an int of at least `low`.

    Raises:
        SettingError: it is not.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise SettingError("cannot use a setting", at=name, got=value, expected=f"an int >= {low}",
                           fix="give a larger whole number")  # fmt: skip


def need_number(
    name: str,
    value: object,
    *,
    low: float = -math.inf,
    above: float = -math.inf,
    high: float = math.inf,
    below: float = math.inf,
    fix: str = "",
) -> None:
    """Refuses a setting that is not a finite number within bounds: `low` and `high` are allowed, the others not.

    Raises:
        SettingError: it is not.
    """
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if is_number and low <= value <= high and above < value < below:  # type: ignore[operator]
        return
    bounds = ((">=", low), (">", above), ("<=", high), ("<", below))
    words = " and ".join(f"{sign} {bound:g}" for sign, bound in bounds if math.isfinite(bound))
    raise SettingError("cannot use a setting", at=name, got=value, expected=f"a finite number {words}".rstrip(),
                       fix=fix or ("give a number within these bounds" if words else "give a number"))  # fmt: skip


def need_one_of(name: str, value: object, words: Sequence[str], *, fix: str = "") -> None:
    """Refuses a setting that is none of some words.

    Raises:
        SettingError: it is none of them.
    """
    if value not in words:
        expected = " or ".join(map(repr, words)) + (closest(value, words) if isinstance(value, str) else "")
        raise SettingError("cannot use a setting", at=name, got=value, expected=expected,
                           fix=fix or f"write {words[0]!r}")  # fmt: skip


def need_instance(name: str, value: object, kind: type, example: str) -> None:
    """Refuses a setting that is not an instance of a class, such as the class itself.

    Raises:
        SettingError: it is not.
    """
    if not isinstance(value, kind):
        fix = f"write {value.__name__}(...), not the class" if isinstance(value, type) else f"use {example}"
        raise SettingError("cannot use a setting", at=name, got=value, expected=f"a {kind.__name__}", fix=fix)


def to_state(dna: DNA) -> list[Any]:
    """Returns the raw values of a DNA as JSON."""
    return [list(value) if isinstance(value, tuple) else value for value in dna.values]


def from_state(space: SearchSpace, values: Sequence[Any]) -> DNA:
    """Returns the DNA that `to_state` wrote."""
    return DNA(space, tuple(tuple(value) if isinstance(value, list) else value for value in values))
