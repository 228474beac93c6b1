"""How a search begins: arguments are checked, the program becomes a space, the study is opened and caught up with."""

from __future__ import annotations

import importlib
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import Any

from mutandis.algorithms import Algorithm, Search
from mutandis.algorithms.schedulers import Pacing, Scheduler
from mutandis.errors import SchemaError, SettingError, SpaceError, StorageError
from mutandis.flows.engine import Engine, resumed
from mutandis.flows.shared import SharedEngine
from mutandis.flows.studies import Study
from mutandis.flows.studies.objectives import parse_objectives
from mutandis.flows.studies.stores.headers import header_of
from mutandis.flows.studies.stores.records import StudyHeader
from mutandis.flows.window import WINDOW
from mutandis.hyper import Point, SearchSpace, space, trace
from mutandis.symbolic.serial.documents import from_json, to_json


def begin(
    program: Any,
    algorithm: Algorithm,
    *,
    study: Study | str | os.PathLike[str] | None,
    objectives: Sequence[str] | str,
    seed: int,
    where: Callable[[Point], bool] | str | None = None,
    scheduler: Scheduler | None = None,
    deterministic: bool = False,
) -> tuple[SearchSpace, Engine | SharedEngine]:
    """Returns the space of a search, and its engine, which has been through the trials of the study.

    The arguments are those of `sample`, which documents them.

    Raises:
        SpaceError: the program has no decisions, or the study is of quite another space.
        SettingError: an argument is none, or the algorithm cannot search this space.
    """
    if not isinstance(algorithm, Algorithm):
        raise SettingError(
            "cannot search with this algorithm",
            at="algorithm",
            got=algorithm,
            expected="an instance of a mu.algorithms class",
            fix=f"write {algorithm.__name__}()" if isinstance(algorithm, type) else "use mu.algorithms.Random()",
        )
    if scheduler is not None and not isinstance(scheduler, Scheduler):
        raise SettingError(
            "cannot schedule trials",
            at="scheduler",
            got=scheduler,
            expected="an instance of a mu.algorithms.schedulers class",
            fix=f"write {scheduler.__name__}(...)" if isinstance(scheduler, type) else "use schedulers.Median()",
        )
    searched = as_space(program, where)
    record = as_study(study)
    chosen = parse_objectives(objectives)

    def header() -> StudyHeader:
        made = header_of(searched, algorithm=algorithm, objectives=tuple(map(str, chosen)), seed=seed)
        extra: dict[str, Any] = {"window": WINDOW} if deterministic else {}
        if scheduler is not None:
            extra["scheduler"] = _written(scheduler)[0]
        return replace(made, notes={**made.notes, **extra})

    _need_same_order(record, deterministic)
    bare = searched.bare()

    def anew() -> tuple[Search, Pacing | None]:
        search = algorithm.start(bare, seed=seed, num_objectives=len(chosen))
        pacing = None if scheduler is None else scheduler.start(seed=seed, num_objectives=len(chosen))
        return search, pacing

    first = [anew()]  # What refuses the space does so before the study is touched.

    def start() -> tuple[Search, Pacing | None]:
        return first.pop() if first else anew()

    record.open(searched, chosen, header)
    if record.archive is None:
        return searched, resumed(start, searched, record, is_windowed=deterministic)
    parts = [_written(algorithm)[1], _written(scheduler)[1], seed, list(map(str, chosen)), bare.fingerprint]
    run = blake2b(json.dumps([*parts, deterministic]).encode(), digest_size=8).hexdigest()
    return searched, SharedEngine(searched, record, start, run, is_windowed=deterministic)


def as_study(study: Any) -> Study:
    """Returns a study: the one that is given, the one that a path or an address opens, or a new one in memory.

    Raises:
        SettingError: it is none of these.
        StorageError: the store cannot be opened.
    """
    if study is None or isinstance(study, (str, os.PathLike)):
        return Study(study)
    if isinstance(study, Study):
        return study
    raise SettingError(
        "cannot record a search",
        at="study",
        got=study,
        expected="a mu.Study, or a path or address that it opens",
        fix='pass study="search.db", or study=mu.Study()',
    )


def resume(study: Study, options: Mapping[str, Any]) -> Any:
    """Returns the loop that goes on with what a study in a store began with; see `Study.resume`.

    Raises:
        StorageError: there is nothing that says how.
        SchemaError: a class or function is not imported here.
    """
    len(study)  # Reads what is there.
    origin = None if study.archive is None else study.archive.origin
    if origin is None:
        raise _cannot_resume(study, "a study in a store that a search has opened")
    header = origin.header
    scheduler = header.notes.get("scheduler", "")
    if header.algorithm is None or scheduler is None:
        raise _cannot_resume(study, "a study whose algorithm and scheduler can be written as JSON")
    chosen = {
        "objectives": header.objectives, "seed": header.seed, "scheduler": from_json(scheduler) if scheduler else None,
        "deterministic": "window" in header.notes, **options,
    }  # fmt: skip
    loop = importlib.import_module("mutandis.flows.sample")  # The loop is built on this file.
    return loop.sample(origin.whole(), from_json(header.algorithm), study=study, **chosen)


def _cannot_resume(study: Study, expected: str) -> StorageError:
    return StorageError("cannot resume a study", at=study.name, expected=expected,
                        fix="call mu.sample(program, algorithm, study=...) as the script did")  # fmt: skip


def _written(settings: Any) -> tuple[str | None, str]:
    """Returns settings as JSON text, or None, and a text that tells them apart from others in any process."""
    try:
        text = to_json(settings)
    except SchemaError:
        return None, re.sub(r" at 0x[0-9a-fA-F]+", "", repr(settings))
    return text, text


def _need_same_order(study: Study, deterministic: bool) -> None:
    """Refuses to search a study in two ways of taking results in.

    Raises:
        SettingError: its trials were made in the other way.
    """
    header = None if study.archive is None else study.archive.header
    if header is not None and ("window" in header.notes) != deterministic and len(study):
        raise SettingError(
            "cannot continue a study",
            at="deterministic",
            got=deterministic,
            expected=f"{not deterministic}, as its {len(study)} trials were made",
            fix=f"pass deterministic={not deterministic}, or start a new study",
        )


def need_order(deterministic: bool, scheduler: Scheduler | None, workers: int = 1) -> None:
    """Refuses what would make decisions hang on who is first.

    Raises:
        SettingError: a deterministic search has a scheduler, or more workers than its window is wide.
    """
    if deterministic and (workers > WINDOW or scheduler is not None):
        raise SettingError(
            "cannot search deterministically",
            at="scheduler" if scheduler is not None else "workers",
            got=scheduler or workers,
            expected=f"at most {WINDOW} workers and no scheduler, whose decisions hang on who reports first",
            fix="leave deterministic out",
        )


def need_amount(name: str, value: Any, kinds: Any) -> None:
    """Refuses a limit that is neither None nor a number above 0.

    Raises:
        SettingError: it is not.
    """
    if value is not None and (not isinstance(value, kinds) or isinstance(value, bool) or not value > 0):
        what = "an int" if kinds is int else "a number"
        raise SettingError("cannot sample", at=name, got=value, expected=f"{what} above 0, or None for no limit",
                           fix=f"give a larger number, or leave {name} out")  # fmt: skip


def as_space(program: Any, where: Callable[[Point], bool] | str | None = None) -> SearchSpace:
    """Returns the space of a program, or the part of it that `where` takes.

    Raises:
        SpaceError: there is nothing to decide.
    """
    if callable(program) and hasattr(program, "__code__"):
        program = trace(program)
    made = space(program)
    if not made.points:
        raise SpaceError(
            "cannot sample a program without decisions",
            got=program,
            expected="at least one hyper value in its arguments",
            fix="put mu.oneof([...]), mu.floatv(low, high) or another hyper value where something shall be searched",
        )
    if where is None:
        return made
    outer, _ = made.split(where)
    if not outer.points:
        raise SpaceError(
            "cannot sample: `where` takes no decision",
            at="where",
            got=where,
            expected=f"some of {', '.join(point.path or '(the root)' for point in made.points[:8])}",
            fix="test your predicate on mu.space(program).points",
        )
    return outer


__all__ = ["as_space", "as_study", "begin", "need_amount", "need_order", "resume"]
