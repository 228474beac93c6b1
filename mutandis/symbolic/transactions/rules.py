"""How a rebind is told what to change: by path or by a rule; `Insert` and `DELETE`.

Both forms become a guide: it answers, for each child of a node, what to put there and how to go on below.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from mutandis.errors import SettingError
from mutandis.symbolic.paths import Key, Path, Step
from mutandis.symbolic.traverse import arity

KEEP = object()
"""A guide's answer for a child that stays."""


class Insert:
    """A value to insert: before an index of a list, or under a new key of a dict.

    Args:
        value: What to insert.
    """

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return f"mu.Insert({self.value!r})"


class Delete:
    """The type of `DELETE`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "mu.DELETE"

    def __reduce__(self) -> str:
        return "DELETE"


DELETE = Delete()
"""Removes an element of a list or dict, or an edit of a layer; resets an argument to its default."""


class Guide(Protocol):
    """What a plan asks while it goes through a tree."""

    everywhere: bool

    def ask(self, step: Step, child: Any, parent: Any) -> Any:
        """Returns what to put in the place of a child, or `KEEP`."""

    def below(self, step: Step) -> Guide | None:
        """Returns the guide for what lies below a child; None when nothing changes there."""

    def steps(self) -> tuple[Step, ...]:
        """Returns the steps that must exist."""


class RuleGuide:
    """Asks a user's rule about every node.

    Args:
        rule: `f(value)`, `f(key, value)` or `f(key, value, parent)`; it returns the value itself to keep it.

    Raises:
        SettingError: the rule takes another number of arguments.
    """

    everywhere = True

    def __init__(self, rule: Callable[..., Any]) -> None:
        self._rule = rule
        self._arity = arity(rule, "rule")

    def ask(self, step: Step, child: Any, parent: Any) -> Any:
        """Returns what the rule says, or `KEEP` when it returns the child itself."""
        key = step.key if isinstance(step, Key) else step
        answer = self._rule(*((child,), (key, child), (key, child, parent))[self._arity - 1])
        return KEEP if answer is child else answer

    def below(self, step: Step) -> RuleGuide:
        """Returns the guide itself: a rule sees every node."""
        return self

    def steps(self) -> tuple[Step, ...]:
        """Returns nothing: a rule asks for no path."""
        return ()


class PathGuide:
    """A tree of paths with the changes at their ends."""

    everywhere = False

    def __init__(self) -> None:
        self.change: Any = KEEP
        self._below: dict[Step, PathGuide] = {}
        self._has_keys = False

    @classmethod
    def of(cls, changes: Mapping[Any, Any]) -> PathGuide:
        """Returns the guide of `{path: value}`.

        Raises:
            PathError: a path cannot be read.
            SettingError: one path leads through another, or is given twice.
        """
        root = cls()
        for text, value in changes.items():
            if not isinstance(text, (str, int, Path)):
                raise SettingError("cannot rebind", at=repr(text), got=text, expected="a path",
                                   fix="write paths as text, such as 'model.blocks[1].kernel_size'")  # fmt: skip
            path = Path.parse(text)
            node = root
            for step in path:
                if node.change is not KEEP:
                    raise _overlap(path)
                node._has_keys = node._has_keys or isinstance(step, Key)
                node = node._below.setdefault(step, cls())
            if node.change is not KEEP or node._below:
                raise _overlap(path)
            node.change = value
        return root

    def ask(self, step: Step, child: Any, parent: Any) -> Any:
        """Returns the change at a child, or `KEEP`."""
        found = self._find(step)
        return KEEP if found is None else found.change

    def below(self, step: Step) -> PathGuide | None:
        """Returns what changes below a child, or None."""
        found = self._find(step)
        return found if found is not None and found._below else None

    def steps(self) -> tuple[Step, ...]:
        """Returns the steps that changes lead through."""
        return tuple(self._below)

    def take(self, prefix: tuple[Step, ...]) -> PathGuide | None:
        """Returns the guide at the end of several steps, or None."""
        node: PathGuide | None = self
        for step in prefix:
            node = node._find(step) if node is not None else None
        return node

    def ends(self) -> Iterator[tuple[Path, Any]]:
        """Yields (path, change) for every change here and below."""
        if self.change is not KEEP:
            yield Path(), self.change
        for step, node in self._below.items():
            for path, change in node.ends():
                yield Path((step, *path)), change

    def _find(self, step: Step) -> PathGuide | None:
        found = self._below.get(step)
        if found is not None or not self._below:
            return found
        if isinstance(step, Key):  # `tags.train` is understood for `tags['train']`.
            found = self._below.get(step.key) if isinstance(step.key, (str, int)) else None
        elif self._has_keys and isinstance(step, str):
            found = self._below.get(Key(step))
        return found


def _overlap(path: Path) -> SettingError:
    return SettingError(
        "cannot rebind two paths of which one leads through the other",
        at=path,
        expected="paths that do not contain each other",
        fix="put the inner change into the outer value, or rebind twice",
    )
