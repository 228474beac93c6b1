"""Lines with a checksum, and how to read them out of bytes that may be torn or damaged.

A line is JSON with the CRC-32 of everything before it as its last entry:

    {"v":1,"kind":"released","number":3,"attempt":1,"study":"study","crc":"5d41402a"}
"""

from __future__ import annotations

import json
from typing import NamedTuple
from zlib import crc32

_HEAD = b'{"v":'
_TAIL = b',"crc":"'
_LENGTH = len(_TAIL) + 8 + len(b'"}\n')


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
    body = f'{text[:-1]},"study":{json.dumps(study)}'.encode("ascii")
    return b'%b,"crc":"%08x"}\n' % (body, crc32(body))


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
    body, tail = line[:-_LENGTH], line[-_LENGTH:]
    if tail[: len(_TAIL)] != _TAIL or tail[-3:] != b'"}\n' or tail[len(_TAIL) : -3] != b"%08x" % crc32(body):
        return None
    text, _, study = body.decode("ascii").rpartition(',"study":')
    return text + "}", json.loads(study)
