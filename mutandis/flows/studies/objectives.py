"""Objectives: which metrics count, and which way is better."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mutandis.errors import FeedbackError, SettingError, closest


@dataclass(frozen=True, slots=True)
class Objective:
    """A metric that a search makes larger, or smaller where `sign` is -1."""

    name: str
    sign: int = 1

    def __str__(self) -> str:
        return self.name if self.sign > 0 else f"-{self.name}"


def parse_objectives(objectives: Sequence[str] | str) -> tuple[Objective, ...]:
    """Reads `("accuracy", "-latency_ms")`: a minus in front means that smaller is better.

    Raises:
        SettingError: there is none, one is no name, or one stands twice.
    """
    names = tuple(objectives) if isinstance(objectives, Iterable) and not isinstance(objectives, str) else (objectives,)
    fits = bool(names) and all(isinstance(name, str) and name.lstrip("-") for name in names)
    if not fits or len({name.lstrip("-") for name in names}) != len(names):
        raise SettingError(
            "cannot use objectives",
            at="objectives",
            got=objectives,
            expected="different names of metrics, such as ('accuracy', '-latency_ms')",
            fix="name each metric once; a minus in front makes smaller better",
        )
    return tuple(Objective(name.removeprefix("-"), -1 if name.startswith("-") else 1) for name in names)


def as_number(name: str, value: Any) -> float:
    """Returns a metric as a float: a number, or a tensor or array of one.

    Raises:
        FeedbackError: it is none of these.
    """
    try:
        if isinstance(value, (int, float)):
            return float(value)
        return float(value.item())
    except (AttributeError, TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise FeedbackError(
            "cannot use a metric",
            at=name,
            got=value,
            expected="a number, or a tensor or array with one element",
            fix="reduce it first, such as loss.mean().item()",
        ) from error


def as_point(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Returns metrics as floats by name.

    Raises:
        FeedbackError: one is no number.
    """
    return {str(name): as_number(str(name), value) for name, value in metrics.items()}


def as_step(step: Any) -> float:
    """Returns a step as an int where it is whole, else as a float.

    Raises:
        FeedbackError: it is no finite number.
    """
    number = as_number("step", step)
    if not math.isfinite(number):
        raise FeedbackError("cannot use a step", at="step", got=step, expected="a finite number",
                            fix="count what is done, such as the epochs")  # fmt: skip
    return int(number) if number.is_integer() else number


def read_rewards(objectives: tuple[Objective, ...], given: Any) -> tuple[tuple[float, ...], dict[str, float] | None]:
    """Returns the rewards and all metrics of an answer.

    Args:
        objectives: The objectives of the study.
        given: A number (for one objective) or a mapping of metrics.

    Raises:
        FeedbackError: an objective is missing, or something is no number.
    """
    if isinstance(given, Mapping):
        metrics = as_point(given)
        missing = [objective.name for objective in objectives if objective.name not in metrics]
        if missing:
            raise FeedbackError(
                "cannot rate a trial without its objective",
                at=missing[0],
                got=sorted(metrics),
                expected=f"a metric called {missing[0]!r}{closest(missing[0], metrics)}",
                fix="give it in the dict, or name other objectives in mu.sample(..., objectives=...)",
            )
        return tuple(metrics[objective.name] for objective in objectives), metrics
    if len(objectives) > 1:
        raise FeedbackError(
            "cannot rate a trial with one number",
            at="feedback",
            got=given,
            expected=f"a dict with {', '.join(objective.name for objective in objectives)}",
            fix="write feedback({...})",
        )
    return (as_number(objectives[0].name, given),), None


def is_valid(rewards: tuple[float, ...]) -> bool:
    """Returns whether every reward is a finite number."""
    return all(math.isfinite(reward) for reward in rewards)
