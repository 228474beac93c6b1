"""The journal of a transaction: what objects were like before, so that an exception puts everything back.

It saves instance dicts with the tables of modules inside, slots, the content of list, dict and set
subclasses, and the values of tensors in modules that somebody else's `__init__` is given.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any

from mutandis.symbolic.abstract import _SWAP, is_abstract_type

_TABLES = (dict, list, set)


class Journal:
    """Undo steps of one transaction, and the state of torch's generators at its begin."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []
        self._saved: set[int] = set()
        self._tensors: dict[int, tuple[Any, int, Any]] = {}
        self._keep: list[Any] = []
        self._random = _random_state()

    def save(self, value: Any) -> None:
        """Remembers an object: class, attributes, slots, content."""
        if id(value) in self._saved:
            return
        self._saved.add(id(value))
        self._keep.append(value)
        self._undo.append(_restorer(value))

    def save_modules(self, modules: Iterable[Any], *, tensors: bool) -> None:
        """Remembers modules and all modules below them.

        Args:
            modules: Live modules.
            tensors: Whether to copy the values of their parameters and buffers too.
        """
        for root in modules:
            for module in root.modules():
                self.save(module)
                if tensors:
                    self._save_tensors(module)

    def _save_tensors(self, module: Any) -> None:
        for table in (module._parameters, module._buffers):
            for tensor in table.values():
                if tensor is None or id(tensor) in self._tensors or hasattr(tensor, "materialize"):
                    continue
                self._tensors[id(tensor)] = (tensor, tensor._version, tensor.detach().clone())

    def renew_tensors(self) -> None:
        """Gives tensors that were written to since they were saved their values back."""
        for key, (tensor, version, value) in list(self._tensors.items()):
            if tensor._version != version:
                with sys.modules["torch"].no_grad():
                    tensor.copy_(value)
                self._tensors[key] = (tensor, tensor._version, value)

    def restore_random(self) -> None:
        """Sets torch's generators to what they were, so that a rebuild draws from nobody's stream."""
        _set_random_state(self._random)

    def roll_back(self) -> None:
        """Puts everything back."""
        for undo in reversed(self._undo):
            undo()
        self.renew_tensors()
        self.restore_random()


def _random_state() -> Any:
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() and torch.cuda.is_initialized() else None
    return torch.get_rng_state(), cuda


def _set_random_state(state: Any) -> None:
    if state is None:
        return
    torch = sys.modules["torch"]
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state_all(state[1])


def instance_dict(value: Any) -> dict[str, Any] | None:
    """Returns the `__dict__` of an object, abstract or not, or None."""
    try:
        found = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return None
    return found if isinstance(found, dict) else None


def _restorer(value: Any) -> Callable[[], None]:
    cls = type(value)
    attributes = instance_dict(value)
    before = None if attributes is None else dict(attributes)
    tables = _tables(before or {})
    slots = _slots(value)
    content = _content(value)

    def undo() -> None:
        if type(value) is not cls:
            _SWAP.__set__(value, cls)
        if attributes is not None and before is not None:
            attributes.clear()
            attributes.update(before)
        for table, items in tables:
            _refill(table, items)
        for name, item in slots.items():
            if item is not _MISSING:
                object.__setattr__(value, name, item)
            else:
                try:
                    object.__delattr__(value, name)
                except AttributeError:
                    pass
        if content is not None:
            _refill(value, content)

    return undo


def _tables(attributes: dict[str, Any]) -> list[tuple[Any, Any]]:
    """Returns (container, copy) of the containers that an object's attributes name."""
    return [(item, item.copy()) for item in attributes.values() if isinstance(item, _TABLES) and hasattr(item, "copy")
            and type(item).__module__ in ("builtins", "collections")]  # fmt: skip


_MISSING = object()


def _slots(value: Any) -> dict[str, Any]:
    """Returns the values of an object's slots by name; `_MISSING` where none is set."""
    found: dict[str, Any] = {}
    for base in type(value).__mro__:
        own = base.__dict__.get("__slots__", ())
        for name in (own,) if isinstance(own, str) else own:
            if name in ("__dict__", "__weakref__"):
                continue
            if name.startswith("__") and not name.endswith("__"):
                name = f"_{base.__name__.lstrip('_')}{name}"
            try:
                found[name] = object.__getattribute__(value, name)
            except AttributeError:
                found[name] = _MISSING
    return found


def _content(value: Any) -> Any:
    """Returns a copy of the elements of an instance of a list, dict or set subclass."""
    if is_abstract_type(type(value)):
        return None
    for kind in _TABLES:
        if isinstance(value, kind):
            return kind(value)
    return None


def _refill(table: Any, items: Any) -> None:
    if isinstance(table, list):
        list.__setitem__(table, slice(None), items)
        return
    base: Any = dict if isinstance(table, dict) else set
    base.clear(table)
    base.update(table, items)
