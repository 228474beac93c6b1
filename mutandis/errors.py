"""The errors of mutandis: one root, a class per kind of cause, each also a builtin.

A message says what failed, at which symbolic path, what was given, what was expected and how to mend it.
"""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Iterable

_SHORT = reprlib.Repr()
_SHORT.maxstring = 80
_SHORT.maxother = 80
_SHORT.maxlist = 6
_SHORT.maxdict = 6
_SHORT.maxlevel = 3

_NOTHING = object()


_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+(?=>)")


def short_repr(value: object) -> str:
    """Returns a one-line text of `value` that never fails and never fills a screen."""
    try:
        text = _SHORT.repr(value)
        if text.startswith("<") and " instance at 0x" in text:  # What reprlib says when a repr fails.
            repr(value)
    except Exception as error:  # A broken user `__repr__` must not hide the error that is being reported.
        text = f"<{type(value).__name__}, whose repr fails with {type(error).__name__}>"
    text = _ADDRESS.sub("", " ".join(text.split()))
    return text if len(text) <= 160 else text[:157] + "..."


def in_words(error: BaseException) -> str:
    """Returns the class of an exception and what it says, or the class alone where it says nothing."""
    return f"{type(error).__name__}: {error}".removesuffix(": ")


def closest(name: str, names: Iterable[object]) -> str:
    """Returns `; did you mean 'x'?` for the best matches of `name`, or nothing.

    Args:
        name: What was written.
        names: What could have been written.

    Returns:
        A text to append to a message; empty when nothing is close.
    """
    matches = difflib.get_close_matches(name, dict.fromkeys(str(n) for n in names), n=3, cutoff=0.55)
    if not matches:
        return ""
    return "; did you mean " + " or ".join(repr(match) for match in matches) + "?"


class MutandisError(Exception):
    """The root of all errors that mutandis raises on purpose.

    Args:
        problem: What failed, in a few words.
        at: The symbolic path (or the name of the setting) where it failed.
        got: The value that was given.
        expected: What would have been right.
        fix: How to mend it.
    """

    def __init__(
        self,
        problem: str,
        *,
        at: object = None,
        got: object = _NOTHING,
        expected: str | None = None,
        fix: str | None = None,
    ) -> None:
        lines = [problem]
        place = "" if at is None else str(at)
        if at is not None:
            lines.append(f"  at:       {place or '(the root)'}")
        if got is not _NOTHING:
            lines.append(f"  got:      {short_repr(got)} ({type(got).__name__})")
        if expected is not None:
            lines.append(f"  expected: {expected}")
        if fix is not None:
            lines.append(f"  fix:      {fix}")
        super().__init__("\n".join(lines))
        self.problem = problem
        self.at = None if at is None else place
        self.got = None if got is _NOTHING else short_repr(got)
        self.expected = expected
        self.fix = fix

    def __str__(self) -> str:
        return str(self.args[0])

    def __reduce__(self) -> tuple[object, ...]:
        return (_revive, (type(self), self.args[0], dict(self.__dict__)))


def _revive(cls: type[MutandisError], message: str, state: dict[str, object]) -> MutandisError:
    error = cls.__new__(cls)
    error.args = (message,)
    error.__dict__.update(state)
    return error


class SettingError(MutandisError, ValueError):
    """A setting is out of its range, or does not go with another one."""


class DecisionError(MutandisError, ValueError):
    """A decision cannot be used: outside its range, unknown, missing, or of another space."""


class SpaceError(MutandisError, ValueError):
    """A program does not describe a search space, or not this one."""


class LoweringError(MutandisError, ValueError):
    """A program, or a part of it, cannot share weights."""


class UndecidedError(MutandisError, TypeError):
    """An undecided value was used as if it were decided."""


class AbstractError(MutandisError, RuntimeError):
    """An object whose arguments are not decided was used as if it were built."""


class PathError(MutandisError, KeyError):
    """A symbolic path leads nowhere."""


class SymbolicError(MutandisError, TypeError):
    """Something cannot be made symbolic, or is not symbolic."""


class SchemaError(MutandisError, ValueError):
    """A value cannot be written as JSON, or JSON cannot be read."""


class SpaceExhausted(MutandisError, RuntimeError):
    """A search has nothing left to propose."""


class FeedbackError(MutandisError, RuntimeError):
    """A trial was answered wrongly: twice, or without what the search needs."""


class SearchError(MutandisError, RuntimeError):
    """A search cannot go on, since its trials fail one after the other."""


class ExecutorError(MutandisError, RuntimeError):
    """Jobs cannot be sent to where they shall run."""


class StorageError(MutandisError, OSError):
    """A study cannot be read or written."""


class MissingDependency(MutandisError, ImportError):
    """An optional library is needed and cannot be imported."""


class MutandisWarning(UserWarning):
    """What mutandis warns about: something that was ignored, lost or re-initialised."""
