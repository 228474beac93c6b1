"""What a study is made of: events in one order, as plain data and as one line of JSON each.

    Opened     what the study is about; once, and again each time its program grows
    Claimed    a worker starts a trial, or takes one over (`attempt` 2 and above)
    Reported   a point of a learning curve
    Released   a worker gives its trial back unfinished
    Finished   the result of a trial; exactly one per trial

Every line names the version of its schema. A line of an older version is upgraded while it is read, one of a newer
version is refused, so that a study may hold lines of several versions. Floats come back bit for bit; nan and the
infinities, which JSON lacks, are written `{"$float": "nan"}`. Text is ASCII with escapes, which every file system and
data base keeps.
"""

from __future__ import annotations

import json
import math
import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from mutandis.errors import SchemaError, StorageError

JSON = dict[str, Any]

VERSION = 1
"""The version of the schema that this package writes."""

UPGRADES: dict[int, Callable[[JSON], JSON]] = {}
"""How a line of an older version becomes one of the next; one entry per released version before `VERSION`."""


@dataclass(frozen=True, slots=True)
class StudyHeader:
    """What a study is about.

    Attributes:
        fingerprint: Version of the space.
        points: The decisions as JSON.
        objectives: Names, with a minus in front where smaller is better.
        program: The program that is searched, as the JSON text of `mu.to_json`; None where it cannot be written.
        python: The same as Python code, for people.
        algorithm: Settings of the search, as the JSON text of `mu.to_json`; None where they cannot be written.
        seed: Seed of the search.
        notes: Anything else that the loop wants to find again.
    """

    fingerprint: str = ""
    points: tuple[JSON, ...] = ()
    objectives: tuple[str, ...] = ("reward",)
    program: str | None = None
    python: str | None = None
    algorithm: str | None = None
    seed: int = 0
    notes: JSON = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Opened:
    """What the study is about, from here on."""

    kind: ClassVar[str] = "opened"
    header: StudyHeader
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Claimed:
    """A worker starts a trial.

    Attributes:
        number: The trial, contiguous from 0.
        attempt: How often it was started, from 1.
        worker: Who runs it: see `leases.this_worker`.
        lease: Seconds after which a worker whose heartbeat stands still counts as lost.
        losses: How many of the attempts before were lost (and not given back).
        proposal: The decisions and whatever belongs to them, as the loop wrote it.
        at: Wall-clock time, seconds since 1970; for people only, nothing is decided by it.
    """

    kind: ClassVar[str] = "claimed"
    number: int
    attempt: int
    worker: str
    lease: float
    losses: int
    proposal: JSON
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Reported:
    """A point of the learning curve of one attempt; those of an earlier attempt no longer count."""

    kind: ClassVar[str] = "reported"
    number: int
    attempt: int
    step: float
    metrics: JSON


@dataclass(frozen=True, slots=True)
class Released:
    """A worker gave its trial back: the next one that looks takes it."""

    kind: ClassVar[str] = "released"
    number: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The result of a trial.

    Attributes:
        number: The trial.
        attempt: The attempt that finished it.
        result: Its state, rewards and whatever else the loop wrote.
        at: Wall-clock time, seconds since 1970; for people only.
    """

    kind: ClassVar[str] = "finished"
    number: int
    attempt: int
    result: JSON
    at: float = 0.0


Event = Opened | Claimed | Reported | Released | Finished


def _names(cls: type[Any]) -> tuple[str, ...]:
    return tuple(name for name in cls.__dataclass_fields__ if name != "kind")


_FIELDS: dict[type, tuple[tuple[str, ...], Callable[[Any], tuple[Any, ...]]]] = {
    cls: (("v", "kind", *_names(cls)), operator.attrgetter(*_names(cls)))
    for cls in (Claimed, Reported, Released, Finished)
}
_KINDS: dict[str, type[Any]] = {cls.kind: cls for cls in (Opened, Claimed, Reported, Released, Finished)}
_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
_LENIENT = json.JSONEncoder(separators=(",", ":"))


def encode(event: Event) -> str:
    """Returns an event as one line of JSON, without the end of the line.

    Raises:
        StorageError: it holds something that JSON cannot.
    """
    if isinstance(event, Opened):
        header = {name: getattr(event.header, name) for name in StudyHeader.__dataclass_fields__}
        data: JSON = {"v": VERSION, "kind": event.kind, "header": header, "at": event.at}
    else:
        names, values = _FIELDS[type(event)]
        data = dict(zip(names, (VERSION, event.kind, *values(event)), strict=True))
    try:
        try:
            return _ENCODER.encode(data)
        except ValueError:  # There is a float that JSON lacks, or a cycle.
            return _ENCODER.encode(_spelled(json.loads(_LENIENT.encode(data))))
    except (TypeError, ValueError, RecursionError) as error:
        raise StorageError(
            "cannot record an event",
            at=event.kind,
            got=error,
            expected="dicts with text keys, lists, texts, numbers, bools and None",
            fix="turn values into these before they are recorded",
        ) from None


def decode(text: str) -> Event:
    """Returns the event of a line.

    Raises:
        SchemaError: the line is of a newer version, or no event.
    """
    try:
        data = json.loads(text, object_hook=_read_float) if '"$float"' in text else json.loads(text)
        version = data.pop("v")
        while version in UPGRADES and version < VERSION:
            data, version = UPGRADES[version](data), version + 1
        if version != VERSION:
            raise _version_error(version)
        kind = _KINDS[data.pop("kind")]
        if kind is Opened:
            header = data["header"]
            header["points"], header["objectives"] = tuple(header["points"]), tuple(header["objectives"])
            data["header"] = StudyHeader(**header)
        return kind(**data)  # type: ignore[no-any-return]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, SchemaError):
            raise
        raise SchemaError(
            "cannot read an event of a study",
            got=text,
            expected="a line that a study wrote",
            fix="open the file with the store that wrote it, and do not edit it",
        ) from error


@dataclass(frozen=True, slots=True)
class Unread:
    """A claim of which no more was read than the rules need: most end before anybody asks for the rest.

    Attributes:
        number: The trial.
        attempt: How often it was started.
        text: All of it.
    """

    number: int
    attempt: int
    text: str


def decode_rule(text: str) -> Event | Unread | None:
    """Returns the event of a line as far as the rules of a study hang on it.

    Returns:
        None for a report, which changes nothing; a result without what it says; the beginning of a claim.

    Raises:
        SchemaError: the line is of a newer version, or no event.
    """
    begun = _BEGIN.match(text)
    if begun is None or begun[1] != str(VERSION):
        return decode(text)
    kind, number, attempt = begun[2], int(begun[3]), int(begun[4])
    if kind == "reported":
        return None
    return Finished(number, attempt, {}) if kind == "finished" else Unread(number, attempt, text)


_BEGIN = re.compile(r'\{"v":([0-9]+),"kind":"(reported|finished|claimed)","number":([0-9]+),"attempt":([0-9]+),')


def _version_error(version: object) -> SchemaError:
    return SchemaError(
        "cannot read a study",
        at="v",
        got=version,
        expected=f"a schema version that this release knows, at most {VERSION}",
        fix="read it with the release of mutandis that wrote it, or a later one",
    )


def _spelled(value: Any) -> Any:
    """Returns a value with nan and the infinities spelled out."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": repr(value)}
    if isinstance(value, dict):
        return {key: _spelled(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_spelled(item) for item in value]
    return value


def _read_float(data: JSON) -> Any:
    if len(data) == 1 and data.get("$float") in ("nan", "inf", "-inf"):
        return float(data["$float"])
    return data


@dataclass(frozen=True, slots=True)
class Lease:
    """The right of one worker to finish one trial, until another one takes it over.

    Attributes:
        number: The trial.
        attempt: Which attempt this is, from 1.
        worker: Who holds it.
        seconds: The promise: the heartbeat never stands still for so long.
        losses: How many of the attempts before were lost.
        proposal: What is to be tried.
    """

    number: int
    attempt: int
    worker: str
    seconds: float
    losses: int
    proposal: JSON


def lease_of(claim: Claimed) -> Lease:
    """Returns the lease that a claim gave."""
    return Lease(claim.number, claim.attempt, claim.worker, claim.lease, claim.losses, claim.proposal)


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """All that a store knows of one trial.

    Attributes:
        number: Contiguous from 0.
        attempt: The latest attempt.
        worker: Who ran that.
        proposal: What was tried.
        curve: (step, metrics) of the latest attempt, as they were reported.
        result: What `finish` was given, or None while it runs.
    """

    number: int
    attempt: int
    worker: str
    proposal: JSON
    curve: tuple[tuple[float, JSON], ...] = ()
    result: JSON | None = None


def fold(events: Iterable[Event]) -> tuple[TrialRecord, ...]:
    """Returns the trials that events tell of, by number."""
    claims: dict[int, Claimed] = {}
    curves: dict[int, list[tuple[float, JSON]]] = {}
    results: dict[int, JSON] = {}
    for event in events:
        if isinstance(event, Claimed):
            claims[event.number] = event
            curves.pop(event.number, None)
        elif isinstance(event, Reported) and event.number in claims and claims[event.number].attempt == event.attempt:
            curves.setdefault(event.number, []).append((event.step, event.metrics))
        elif isinstance(event, Finished):
            results.setdefault(event.number, event.result)
    return tuple(
        TrialRecord(c.number, c.attempt, c.worker, c.proposal, tuple(curves.get(n, ())), results.get(n))
        for n, c in sorted(claims.items())
    )
