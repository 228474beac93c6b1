"""Modules, parameters and other objects that a program makes when it is built, and that share no weights.

The first of each class that stands at a place is kept, with what was learnt, counted or scaled since. From later ones
it takes the attributes and buffers in which these differ from the one before: those hang on decisions.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import torch
from torch import nn

from mutandis.errors import LoweringError
from mutandis.flows.supernet.around.digests import attributes_of, digest
from mutandis.flows.supernet.around.held import Held, has_state

_TABLES = ("_parameters", "_buffers", "_modules")


class Others:
    """The other objects of a program with shared weights.

    Attributes:
        swaps: The tensors that stand in the places of those of new objects, by the id of these, as of now.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[str, type], Any] = {}
        self._births: dict[tuple[str, type], dict[str, dict[str, Any]]] = {}
        self._before: dict[tuple[str, type], dict[str, dict[str, Any]]] = {}
        self._saved: dict[tuple[str, str], Any] = {}
        self.swaps: dict[int, Any] = {}

    def keep(self, held: Held, live: Collection[int]) -> Any:
        """Returns what stands in the place of what a child has made.

        A module around one that shares weights stands there itself, with those of its own tensors that are kept.

        Args:
            held: What the child has made.
            live: The modules that share weights, by id.

        Raises:
            LoweringError: its tensors are of other shapes.
        """
        made, key = held.value, (held.at, type(held.value))
        kept = self._kept.get(key)
        self._before[key] = self._births.get(key, {})
        self._births[key] = {name: _birth(part) for name, part in _parts(made)}
        if kept is None:
            kept = self._kept[key] = made
            self._load(key, kept, live)
            return kept
        before, after = _own_tensors(kept, live), _own_tensors(made, live)
        if _shapes(before) != _shapes(after):
            raise LoweringError(
                "cannot keep what a program makes when it is built: children have it in different shapes",
                at=held.at,
                got=_shapes(after),
                expected=f"{_shapes(before)}, as of the first child",
                fix="make it an argument of the program, so that its weights are shared too",
            )
        self.swaps.update({id(tensor): before[name] for name, tensor in after.items()})
        if isinstance(made, nn.Module) and any(id(module) in live for module in made.modules()):
            for name, tensor in before.items():
                _graft(made, name, tensor)
            self._kept[key] = kept = made
        return kept

    def settle(self, held: Held) -> None:
        """Lets what is kept take the settings that changed, once everything stands in its place."""
        made, key = held.value, (held.at, type(held.value))
        kept, before = self._kept[key], self._before[key]
        if kept is made:
            return
        parts = dict(_parts(kept))
        for name, part in _parts(made):
            for attribute, value in self._births[key][name].items():
                if before[name].get(attribute) != value:
                    _set(parts[name], attribute, part)

    def pairs(self, held: Held, live: Collection[int]) -> Iterator[tuple[torch.Tensor, Any]]:
        """Yields the tensors of a new object, and those that are kept in their places."""
        kept = self._kept.get((held.at, type(held.value)))
        before = {} if kept is None else _own_tensors(kept, live)
        for name, tensor in _own_tensors(held.value, live).items():
            if name in before:
                yield tensor, before[name]

    def state(self, live: Collection[int]) -> list[dict[str, Any]]:
        """Returns the state of all, as `load` takes it: what they say it is, or else their attributes that are data."""
        return [{"at": at, "kind": kind.__qualname__, "state": _state_of(kept, live)}
                for (at, kind), kept in self._kept.items()]  # fmt: skip

    def load(self, state: list[dict[str, Any]]) -> None:
        """Goes on from a state: objects take it up when a child makes them."""
        self._saved = {(item["at"], item["kind"]): item["state"] for item in state}

    def _load(self, key: tuple[str, type], kept: Any, live: Collection[int]) -> None:
        state = self._saved.pop((key[0], key[1].__qualname__), None)
        if state is None:
            return
        if isinstance(kept, (nn.Module, nn.Parameter)):
            with torch.no_grad():
                for name, tensor in _own_tensors(kept, live).items():
                    tensor.copy_(state[name])
        elif has_state(kept):
            kept.load_state_dict(state)
        else:
            kept.__dict__.update(state)


def _state_of(kept: Any, live: Collection[int]) -> Any:
    if isinstance(kept, (nn.Module, nn.Parameter)):
        return {name: tensor.detach().clone() for name, tensor in _own_tensors(kept, live).items()}
    if has_state(kept):
        return kept.state_dict()
    return {name: value for name, value in kept.__dict__.items() if _is_data(value)}


def _is_data(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_is_data, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(_is_data, value))
    return isinstance(value, (int, float, str, bytes, type(None))) or type(value) is torch.Tensor


def _parts(value: Any) -> list[tuple[str, Any]]:
    """Returns what of an object has settings, by name."""
    if isinstance(value, nn.Parameter):
        return []
    return list(value.named_modules()) if isinstance(value, nn.Module) else [("", value)]


def _own_tensors(value: Any, live: Collection[int]) -> dict[str, torch.Tensor]:
    """Returns the tensors of an object by name, but for those of modules that share weights."""
    if isinstance(value, nn.Parameter):
        return {"": value}
    found: dict[str, torch.Tensor] = {}
    for name, part in _parts(value) if isinstance(value, nn.Module) else ():
        if id(part) not in live:
            tensors = (*part._parameters.items(), *part._buffers.items())
            found.update((f"{name}.{own}".removeprefix("."), t) for own, t in tensors if t is not None)
    return found


def _graft(module: nn.Module, name: str, tensor: torch.Tensor) -> None:
    """Puts a tensor into the place of one of a module."""
    above, _, own = name.rpartition(".")
    part = module.get_submodule(above)
    table: Any = part._parameters if own in part._parameters else part._buffers
    table[own] = tensor


def _shapes(tensors: dict[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _birth(part: Any) -> dict[str, Any]:
    if not isinstance(part, nn.Module):
        return attributes_of(part)
    own = {name: value for name, value in attributes_of(part).items() if name not in _TABLES and "_hooks" not in name}
    return own | {f"_buffers.{name}": digest(buffer) for name, buffer in part._buffers.items()}


def _set(kept: Any, attribute: str, made: Any) -> None:
    table, _, name = attribute.rpartition(".")
    if table:
        if kept._buffers[name] is not None:
            kept._buffers[name].copy_(made._buffers[name])
    else:
        object.__setattr__(kept, attribute, made.__dict__[attribute])


__all__ = ["Others"]
