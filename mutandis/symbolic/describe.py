"""A program as a tree of text, for people."""

from __future__ import annotations

import inspect
import sys
from typing import Any

from mutandis.errors import short_repr
from mutandis.symbolic.compare import equal
from mutandis.symbolic.paths import Key, Path, Step
from mutandis.symbolic.record import is_abstract, is_symbolic, real_class, spec_for
from mutandis.symbolic.traverse import children, edited
from mutandis.symbolic.undecided import Undecided

_LINE = 100


def describe(x: Any) -> str:
    """Returns a tree of text: classes, arguments that differ from their defaults, and what is undecided.

    Args:
        x: A symbolic object, an undecided value, or a list, tuple or dict of them.

    Returns:
        One line per node. A node that stands at several places has a number, `#1`, and its children stand at
        the first place only. Built modules show how many parameters they have.
    """
    numbers = _numbers(x)
    lines: list[str] = []
    _draw(x, "", "", lines, numbers, set())
    return "\n".join(lines)


def _nodes_below(x: Any) -> list[tuple[str, Any]]:
    """Returns the children of a node that are worth a line, with their labels."""
    found = [(_label(step), child) for step, child in children(x)]
    if is_symbolic(x):
        parameters = spec_for(x).signature.parameters
        found = [
            (label, child)
            for label, child in found
            if label not in parameters or not is_default(parameters[label], child)
        ]
        found += [(f"edit {where}", child) for where, child in edited(x)]
    return found


def is_default(parameter: inspect.Parameter, value: Any) -> bool:
    """Returns whether an argument says no more than leaving it out."""
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        return not value
    return parameter.default is not parameter.empty and equal(value, parameter.default)


def _label(step: Step) -> str:
    return str(Path((step,))) if isinstance(step, (Key, int)) else step


def _is_node(x: Any) -> bool:
    return is_symbolic(x) or isinstance(x, Undecided) or (
        isinstance(x, (list, tuple, dict)) and any(_is_node(child) for _, child in children(x)))  # fmt: skip


def _numbers(x: Any) -> dict[int, int]:
    """Returns the number of each node that stands at several places."""
    seen: set[int] = set()
    shared: dict[int, int] = {}
    stack = [x]
    while stack:
        node = stack.pop()
        if is_symbolic(node) or isinstance(node, Undecided):
            if id(node) in seen:
                shared.setdefault(id(node), len(shared) + 1)
                continue
            seen.add(id(node))
        stack.extend(child for _, child in reversed([*children(node), *edited(node)]))
    return shared


def _draw(x: Any, label: str, indent: str, lines: list[str], numbers: dict[int, int], drawn: set[int]) -> None:
    mark = f" #{numbers[id(x)]}" if id(x) in numbers else ""
    prefix = f"{indent}{label} = " if label else indent
    if not _is_node(x):
        lines.append(prefix + _shortened(x, _LINE - len(prefix)))
        return
    if mark and id(x) in drawn:
        lines.append(f"{prefix}{_head(x)}{mark} (see above)")
        return
    drawn.add(id(x))
    below = [(name, child) for name, child in _nodes_below(x)]
    if is_symbolic(x) and not any(_is_node(child) for _, child in below):
        inside = ", ".join(f"{name}={_shortened(child, 40)}" for name, child in below)
        line = f"{prefix}{_head(x)}({inside}){mark}{_notes(x)}"
        if len(line) <= _LINE:
            lines.append(line)
            return
    if isinstance(x, Undecided) and (
        "function" in x._mu_settings_() or not any(_is_node(child) for _, child in below)
    ):  # A computed value reads best as its formula.
        lines.append(f"{prefix}{_shortened(x, _LINE - len(prefix))}{mark}")
        return
    lines.append(f"{prefix}{_head(x)}{mark}{_notes(x)}")
    for name, child in below:
        _draw(child, name, indent + "  ", lines, numbers, drawn)


def _head(x: Any) -> str:
    if isinstance(x, Undecided):
        name = x._mu_settings_().get("name")
        return type(x).__name__.lower() + (f" {name!r}" if isinstance(name, str) else "")
    if getattr(type(x), "_mu_has_own_spec_", False):
        word = "bind" if getattr(type(x), "_mu_is_call_", False) else "partial"
        return f"{word} {getattr(x.function, '__qualname__', None) or short_repr(x.function)}"
    return real_class(x).__name__ if is_symbolic(x) else type(x).__name__


def _notes(x: Any) -> str:
    if isinstance(x, Undecided) or not is_symbolic(x):
        return ""
    if is_abstract(x):
        return "  (abstract)"
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(x, torch.nn.Module):
        return ""
    if any(torch.nn.parameter.is_lazy(p) for p in x.parameters()):
        return "  (parameters not known yet)"
    count = sum(p.numel() for p in x.parameters())
    return f"  ({count:,} parameter{'' if count == 1 else 's'})" if count else ""


def _shortened(x: Any, room: int) -> str:
    if isinstance(x, (list, tuple, dict, str, int, float, Undecided)):
        text = " ".join(repr(x).split())
    elif callable(x) and hasattr(x, "__qualname__"):
        text = x.__qualname__
    else:
        text = short_repr(x)
    room = max(room, 20)
    return text if len(text) <= room else text[: room - 3] + "..."
