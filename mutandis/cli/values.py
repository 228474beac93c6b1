"""What people write on a command line, as numbers: sizes of memory, lengths of time, names of objectives."""

from __future__ import annotations

import argparse
import math
import re

_BYTES = {
    "": 1, "b": 1,
    "k": 10**3, "kb": 10**3, "m": 10**6, "mb": 10**6, "g": 10**9, "gb": 10**9, "t": 10**12, "tb": 10**12,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
}  # fmt: skip
_SECONDS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)([dhms])")


def memory_bytes(text: str) -> int:
    """Returns a size of memory in bytes: `4GB` (10^9), `512MiB` (2^20) or a number of bytes.

    Raises:
        argparse.ArgumentTypeError: it is none, or not above 0.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-zA-Z]*)\s*", text)
    unit = None if found is None else _BYTES.get(found[2].lower())
    size = 0 if found is None or unit is None else int(float(found[1]) * unit)
    if size <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write 4GB, 512MiB or a number of bytes")
    return size


def seconds(text: str) -> float:
    """Returns a length of time in seconds: `90`, `1.5`, `10m`, `1h30m`, `2d`.

    Raises:
        argparse.ArgumentTypeError: it is none, or not above 0.
    """
    plain = text.strip().lower()
    parts = _PART.findall(plain)
    if parts and "".join(number + unit for number, unit in parts) == plain:
        length = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    else:
        try:
            length = float(plain)
        except ValueError:
            length = 0.0
    if not 0 < length < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no length of time; write 90 (seconds), 10m or 1h30m")
    return length


def count(text: str) -> int:
    """Returns a whole number of at least 1.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 1")
    return number


def port(text: str) -> int:
    """Returns the number of a port.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: a number from 1 to 65535")
    return int(text)


def names(text: str) -> tuple[str, ...]:
    """Returns names that are separated by commas: `accuracy,-latency_ms`.

    Raises:
        argparse.ArgumentTypeError: one is empty.
    """
    found = tuple(part.strip() for part in text.split(","))
    if not all(name.lstrip("-") for name in found):
        raise argparse.ArgumentTypeError(f"{text!r} has an empty name; write accuracy,-latency_ms")
    return found


def assignment(text: str) -> tuple[str, str]:
    """Returns the name and the text of `name=value`.

    Raises:
        argparse.ArgumentTypeError: there is no name or no `=`.
    """
    name, equals, value = text.partition("=")
    if not equals or not name.strip().isidentifier():
        raise argparse.ArgumentTypeError(f"{text!r} is no setting; write NAME=VALUE, such as population_size=50")
    return name.strip(), value.strip()


__all__ = ["assignment", "count", "memory_bytes", "names", "port", "seconds"]
