"""Lines with a checksum, and how to read them out of bytes that may be torn or damaged.

A line is JSON with the CRC-32 of everything before it as its last entry:

    {"v":1,"kind":"released","number":3,"attempt":1,"study":"study","crc":"5d41402a"}
"""

from __future__ import annotations

import functools
import json
from typing import NamedTuple
from zlib import crc32

from mutandis.flows.studies.stores.medium import Line

_HEAD = b'{"v":'
_STUDY = b',"study":'
_TAIL = b',"crc":"%08x"}'
_LENGTH = len(_TAIL % 0)


class Found(NamedTuple):
    """What `scan` found.

    Attributes:
        lines: The lines of the study that was asked for, without study and checksum, in order.
        end: Where the last whole line of any study ends; what follows is torn.
        damaged: Where damaged lines begin that stand before a whole one.
    """

    lines: list[Line]
    end: int
    damaged: list[int]


def seal(text: str, study: str) -> bytes:
    """Returns the line of an event, ready to be written.

    Args:
        text: One JSON object, ASCII, with at least one entry.
        study: The study it belongs to.
    """
    body = text[:-1].encode("ascii") + _mark(study)
    return body + _TAIL % crc32(body) + b"\n"


def scan(data: bytes, start: int, study: str) -> Found:
    """Reads the lines of one study out of bytes, and looks whether all are whole.

    Args:
        data: Bytes that begin where a line begins.
        start: The position of the first of them: all positions are counted as it is.
        study: The study.
    """
    mark = _mark(study)
    lines: list[Line] = []
    bad: list[int] = []
    first = end = start
    num_damaged = 0
    for line in data.split(b"\n")[:-1]:
        stop, body = first + len(line) + 1, line[:-_LENGTH]
        if line[-_LENGTH:] == _TAIL % crc32(body):
            end, num_damaged = stop, len(bad)
            if body.endswith(mark):
                lines.append(Line(stop, body[: -len(mark)].decode("ascii") + "}"))
        else:
            bad.append(first)
        first = stop
    return Found(lines, end, bad[:num_damaged])


def studies_of(data: bytes) -> set[str]:
    """Returns the names in the whole lines of bytes that begin where a line begins."""
    names: set[bytes] = set()
    for line in data.split(b"\n")[:-1]:
        body = line[:-_LENGTH]
        if line[-_LENGTH:] == _TAIL % crc32(body):
            names.add(body.rpartition(_STUDY)[2])
    return set(map(json.loads, names))


def may_be_ours(data: bytes) -> bool:
    """Returns whether bytes without any whole line can be the torn first line of a study."""
    begun = data.rstrip(b"\0")  # A power cut may leave zeros where bytes were to come.
    return b"\n" not in begun and _HEAD.startswith(begun[: len(_HEAD)])


@functools.lru_cache(maxsize=64)
def _mark(study: str) -> bytes:
    """Returns what every line of a study has before its checksum."""
    return _STUDY + json.dumps(study).encode("ascii")
