"""What an object looks like when it is made, as a value that can be compared with that of a later one.

What differs between two objects that two children made at one place, hangs on their decisions; what is equal may have
changed since by what was done with the object.
"""

from __future__ import annotations

import functools
import types
from typing import Any

import torch
from torch import nn

from mutandis.symbolic.record import LEAVES

_MOST = 4096  # Numbers of a tensor that are compared; of larger ones the shape is.
_DEEPEST = 5


def digest(value: Any, depth: int = 0) -> Any:
    """Returns what tells apart two values that were made alike from other settings."""
    if depth > _DEEPEST:
        return type(value)
    if isinstance(value, types.FunctionType):
        inside = [_content(cell) for cell in value.__closure__ or ()]
        return "function", value.__code__, digest(inside, depth + 1), digest(value.__defaults__, depth + 1)
    if type(value) in LEAVES:
        return type(value), value
    if isinstance(value, torch.Tensor):
        numbers = value.tolist() if value.numel() <= _MOST and value.device.type != "meta" else None
        return "tensor", value.shape, value.dtype, numbers
    if isinstance(value, (list, tuple)):
        return type(value), [digest(item, depth + 1) for item in value]
    if isinstance(value, dict):
        return type(value), [(key, digest(item, depth + 1)) for key, item in value.items()]
    if isinstance(value, (set, frozenset)):
        return type(value), sorted(map(repr, value))
    if isinstance(value, functools.partial):
        return "partial", digest((value.func, value.args, value.keywords), depth + 1)
    if isinstance(value, types.MethodType):
        return "method", value.__func__
    return _of_object(value, depth)


def _of_object(value: Any, depth: int) -> Any:
    kind = type(value)
    if isinstance(value, (type, types.BuiltinFunctionType, types.ModuleType)):
        return kind, id(value)
    if isinstance(value, (nn.Module, torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler)):
        return kind  # Whichever it is, another one is kept in its place.
    if hasattr(value, "tobytes"):
        return kind, value.tobytes() if getattr(value, "size", 0) <= _MOST else getattr(value, "shape", None)
    attributes = getattr(value, "__dict__", None)
    return (kind, attributes_of(value, depth + 1)) if isinstance(attributes, dict) else kind


def attributes_of(value: Any, depth: int = 0) -> dict[str, Any]:
    """Returns the digest of each attribute of an object."""
    return {name: digest(item, depth + 1) for name, item in value.__dict__.items() if name != "_mu_"}


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # Nothing was put there yet.
        return None


__all__ = ["attributes_of", "digest"]
