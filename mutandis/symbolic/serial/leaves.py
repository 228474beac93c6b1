"""Leaves as values: when two are equal, and the bytes that stand for one in a fingerprint.

Type comes first (`1` is neither `True` nor `1.0`), then the kind decides: nan equals nan, `0.0` equals `-0.0`,
arrays and tensors compare by dtype, shape and elements, functions by identity. Bytes of equal leaves are equal.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import math
import re
import sys
import types
from typing import Any

from mutandis.symbolic.serial.names import public_name

FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType, type)
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def equal_leaf(a: Any, b: Any) -> bool | None:
    """Returns whether two leaves of one type are equal; None when neither arrays nor plain values.

    Args:
        a: The first leaf.
        b: The second, of the very same type.

    Returns:
        The answer, or None for objects whose attributes have to be compared.
    """
    if isinstance(a, float):
        return a == b or (a != a and b != b)
    if isinstance(a, complex):
        return equal_leaf(a.real, b.real) and equal_leaf(a.imag, b.imag)
    if isinstance(a, FUNCTIONS):
        return a is b
    torch = sys.modules.get("torch")
    if torch is not None:
        if isinstance(a, torch.Tensor):
            return _equal_tensors(a, b, torch)
        if isinstance(a, torch.nn.Module):
            return None
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(a, (numpy.ndarray, numpy.generic)):
        return _equal_arrays(a, b, numpy)
    if dataclasses.is_dataclass(a):
        return None
    if isinstance(a, functools.partial):
        return None
    try:
        return (a == b) is True
    except Exception:  # An `==` that refuses to answer leaves identity, which was tested already.
        return False


def _equal_tensors(a: Any, b: Any, torch: Any) -> bool:
    if a.dtype != b.dtype or a.shape != b.shape or a.layout != b.layout or a.is_meta != b.is_meta:
        return False
    if a.requires_grad != b.requires_grad:
        return False
    if a.is_meta or (a.layout is torch.strided and a.device == b.device and torch.equal(a, b)):
        return True
    first, second = _numbers(a, torch), _numbers(b, torch)
    return bool(((first == second) | ((first != first) & (second != second))).all())


def _numbers(tensor: Any, torch: Any) -> Any:
    """Returns the elements on the CPU, as a dense tensor of a dtype that can be computed with."""
    plain = tensor.detach().cpu()
    if plain.layout is not torch.strided:
        plain = plain.to_dense()
    if plain.is_quantized:
        plain = plain.dequantize()
    if plain.is_complex():
        plain = torch.view_as_real(plain.resolve_conj().contiguous())
    return plain.float() if plain.is_floating_point() and plain.element_size() < 4 else plain


def _equal_arrays(a: Any, b: Any, numpy: Any) -> bool:
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.dtype.hasobject:
        return repr(a.tolist()) == repr(b.tolist())
    return bool(numpy.array_equal(a, b, equal_nan=a.dtype.kind in "fcmM"))


def leaf_bytes(value: Any) -> bytes | None:
    """Returns bytes that stand for a leaf, the same in every process; None for objects with attributes.

    Args:
        value: A leaf; its type is told apart by the caller.

    Returns:
        The bytes; equal leaves of one type have the same.
    """
    if isinstance(value, float):
        return b"nan" if value != value else repr(float(value) + 0.0).encode()
    if isinstance(value, complex):
        return b"".join(leaf_bytes(part) or b"" for part in (value.real, value.imag))
    if isinstance(value, FUNCTIONS):
        return _function_bytes(value)
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
    if torch is not None and isinstance(value, torch.Tensor):
        return _tensor_bytes(value, torch)
    if torch is not None and isinstance(value, torch.nn.Module):
        return None
    if numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic)):
        return _array_bytes(value, numpy)
    if dataclasses.is_dataclass(value) or isinstance(value, functools.partial):
        return None
    by_identity: Any = object.__eq__
    if type(value).__eq__ is by_identity and hasattr(value, "__dict__"):
        return None
    return _ADDRESS.sub("", repr(value)).encode()


def _function_bytes(function: Any) -> bytes:
    name = public_name(function)
    if name is None:
        name = f"{getattr(function, '__module__', '')}:{getattr(function, '__qualname__', '')}"
    code = getattr(function, "__code__", None)
    if code is None or "<lambda>" not in name:
        return name.encode()
    constants = [const for const in code.co_consts if not isinstance(const, types.CodeType)]
    return name.encode() + bytes(code.co_code) + repr((code.co_names, constants)).encode()


def _tensor_bytes(value: Any, torch: Any) -> bytes:
    head: bytes = f"{value.dtype}{tuple(value.shape)}{value.layout}{value.requires_grad}".encode()
    if value.is_meta or value.numel() == 0:
        return head
    numbers = _numbers(value, torch).contiguous()
    if numbers.is_floating_point():
        numbers = torch.where(numbers != numbers, math.nan, numbers + 0.0)  # One nan, and no -0.0.
    raw: bytes = numbers.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return head + hashlib.blake2b(raw, digest_size=16).digest()


def _array_bytes(value: Any, numpy: Any) -> bytes:
    head = f"{value.dtype.str}{value.shape}".encode()
    if value.dtype.hasobject:
        return head + _ADDRESS.sub("", repr(value.tolist())).encode()
    numbers = numpy.ascontiguousarray(value)
    if value.dtype.kind == "c":
        numbers = numpy.stack([numbers.real, numbers.imag])
    if numbers.dtype.kind == "f":
        numbers = numpy.where(numpy.isnan(numbers), numpy.nan, numbers + 0.0).astype(numbers.dtype)
    return head + hashlib.blake2b(numbers.tobytes(), digest_size=16).digest()
