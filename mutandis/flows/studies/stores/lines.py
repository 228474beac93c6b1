"""Lines with a checksum, and how to read them out of bytes that may be torn or damaged.

A line is JSON with the CRC-32 of everything before it as its last entry:

    {"v":1,"kind":"released","number":3,"attempt":1,"study":"study","crc":"5d41402a"}
"""

from __future__ import annotations

import functools
import json
from typing import NamedTuple
from zlib import crc32

_HEAD = b'{"v":'
_TAIL = b',"crc":"%08x"}\n'
_LENGTH = len(_TAIL % 0)


class Found(NamedTuple):
    """What `scan` found.

    Attributes:
        lines: (where the line ends, its text without study and checksum, study), in order.
        end: Where the last whole line ends, counted from the start of the bytes; what follows is torn.
        damaged: Where damaged lines begin that stand before a whole one.
    """

    lines: list[tuple[int, str, str]]
    end: int
    damaged: list[int]


def seal(text: str, study: str) -> bytes:
    """Returns the line of an event, ready to be written.

    Args:
        text: One JSON object, ASCII, with at least one entry.
        study: The study it belongs to.
    """
    body = f'{text[:-1]},"study":{_quoted(study)}'.encode("ascii")
    return body + _TAIL % crc32(body)


def scan(data: bytes) -> Found:
    """Reads lines out of bytes.

    Args:
        data: Bytes that begin where a line begins.
    """
    lines: list[tuple[int, str, str]] = []
    bad: list[int] = []
    start = end = num_damaged = 0
    while (stop := data.find(b"\n", start)) >= 0:
        opened = _open(data[start : stop + 1])
        if opened is None:
            bad.append(start)
        else:
            lines.append((stop + 1, *opened))
            end, num_damaged = stop + 1, len(bad)
        start = stop + 1
    return Found(lines, end, bad[:num_damaged])


def may_be_ours(data: bytes) -> bool:
    """Returns whether bytes without any whole line can be the torn first line of a study."""
    begun = data.rstrip(b"\0")  # A power cut may leave zeros where bytes were to come.
    return b"\n" not in begun and _HEAD.startswith(begun[: len(_HEAD)])


def _open(line: bytes) -> tuple[str, str] | None:
    """Returns text and study of a whole line, or None where it is none."""
    body = line[:-_LENGTH]
    if line[-_LENGTH:] != _TAIL % crc32(body):
        return None
    text, _, study = body.decode("ascii").rpartition(',"study":')
    return text + "}", _unquoted(study)


_quoted = functools.lru_cache(maxsize=64)(json.dumps)
_unquoted = functools.lru_cache(maxsize=64)(json.loads)
