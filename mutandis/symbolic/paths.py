"""Symbolic paths: they read as the code that reaches the value."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from mutandis.errors import PathError


@dataclass(frozen=True, slots=True)
class Key:
    """A step into a dictionary, written `['key']`."""

    key: Any


Step = str | int | Key

_NAME = re.compile(r"[^\W\d]\w*")
_ITEM = re.compile(r"\[\s*(-?\d+|'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|[^\[\]]+)\s*\]")


class Path:
    """An immutable sequence of steps from a root to a value.

    A `str` step is an attribute or argument, an `int` step an index, a `Key` step a dictionary key.
    """

    __slots__ = ("_text", "steps")

    steps: tuple[Step, ...]

    def __init__(self, steps: Iterable[Step] = ()) -> None:
        self.steps = tuple(steps)
        self._text: str | None = None

    @classmethod
    def parse(cls, text: str | int | Path) -> Path:
        """Reads a path as it is written.

        Args:
            text: Such as `model.blocks[1].kernel_size` or `aug['train'].p`; an int is an index.

        Returns:
            The path.

        Raises:
            PathError: the text is not a path.
        """
        if isinstance(text, Path):
            return text
        if isinstance(text, int):
            return cls((text,))
        steps: list[Step] = []
        position = 0
        while position < len(text):
            if text[position] == "[":
                match = _ITEM.match(text, position)
                if match is None:
                    raise _unreadable(text, position)
                steps.append(_item_step(match.group(1)))
                position = match.end()
                continue
            if text[position] == ".":
                if position == 0 or position + 1 == len(text):
                    raise _unreadable(text, position)
                position += 1
            elif position:
                raise _unreadable(text, position)
            match = _NAME.match(text, position) or re.compile(r"\d+").match(text, position)
            if match is None:
                raise _unreadable(text, position)
            word = match.group()
            steps.append(int(word) if word.isdigit() else word)
            position = match.end()
        return cls(steps)

    def __truediv__(self, step: Step) -> Path:
        return Path((*self.steps, step))

    def __add__(self, other: Path) -> Path:
        return Path(self.steps + other.steps)

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, str):
            return str(self) == other
        return isinstance(other, Path) and self.steps == other.steps

    def __hash__(self) -> int:
        return hash(str(self))

    def __lt__(self, other: Path) -> bool:
        return str(self) < str(other)

    @property
    def parent(self) -> Path:
        """The path without its last step."""
        return Path(self.steps[:-1])

    @property
    def name(self) -> Step | None:
        """The last step, or None for the root."""
        return self.steps[-1] if self.steps else None

    def startswith(self, other: Path) -> bool:
        """Returns whether `other` is this path or leads to it."""
        return self.steps[: len(other.steps)] == other.steps

    def __str__(self) -> str:
        if self._text is None:
            self._text = "".join(_written(step, index) for index, step in enumerate(self.steps))
        return self._text

    def __repr__(self) -> str:
        return f"Path({str(self)!r})"


def _written(step: Step, index: int) -> str:
    if isinstance(step, str):
        return f".{step}" if index else step
    if isinstance(step, int):
        return f"[{step}]"
    return f"[{step.key!r}]"


def _item_step(text: str) -> Step:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return Key(text.strip())
    return value if isinstance(value, int) and not isinstance(value, bool) else Key(value)


def _unreadable(text: str, position: int) -> PathError:
    return PathError(
        "cannot read a symbolic path",
        at=text,
        got=text[position:],
        expected="names joined by dots and items in brackets",
        fix="write it as code, such as model.blocks[1].kernel_size or aug['train'].p",
    )
