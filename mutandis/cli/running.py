"""`mutandis run` and `mutandis resume`: searches that can be continued by the name of their study."""

from __future__ import annotations

import argparse
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from mutandis.algorithms import Algorithm
from mutandis.cli import output
from mutandis.cli.choices import choose_algorithm, choose_scheduler
from mutandis.cli.entry import DONE, FAILED, INTERRUPTED
from mutandis.cli.records import show_trials, shown_name, study_facts, study_record
from mutandis.cli.studies import merged, open_study, recall, remember
from mutandis.cli.targets import absolute, folder_of, import_place, load_function, load_program
from mutandis.errors import MutandisError, SettingError, closest
from mutandis.flows import Study, search
from mutandis.flows.executors import Executor, Pool
from mutandis.flows.executors.base import OnMessage, Task
from mutandis.flows.search import EXECUTORS
from mutandis.flows.studies.stores import space_of
from mutandis.symbolic.serial.documents import from_json

_BEST = 5
_TRIALS = 100


def run(options: argparse.Namespace) -> int:
    """Searches a program and shows the five best trials.

    Raises:
        MutandisError: a target, an option or the search itself is not possible; the message says why.
    """
    program = load_program(options.target)
    options.target = absolute(options.target)
    if options.objective is not None:
        options.objective = absolute(options.objective)
    options.objectives = options.objectives or ("reward",)
    options.algorithm = options.algorithm or ("NSGA2" if len(options.objectives) > 1 else "RegularizedEvolution")
    options.trials = options.trials or _TRIALS
    algorithm = choose_algorithm(options.algorithm, options.settings)
    folder = folder_of(options.target)
    arguments = _prepared(options, program, folder)
    study = Study() if options.study is None else open_study(options.study, options.name, make=True)
    return _search(options, study, program, algorithm, arguments, folder)


def resume(options: argparse.Namespace) -> int:
    """Continues a study with what it records, and what the options say anew.

    Raises:
        MutandisError: something is not recorded and not said, or the search is not possible; the message says which.
    """
    for place in options.imports:
        import_place(place)
    study = open_study(options.study, options.name)
    recorded = recall(study)
    for name in ("target", "objective"):
        if getattr(options, name) is not None:
            setattr(options, name, absolute(getattr(options, name)))
    chosen = merged(options, recorded)
    folder = folder_of(chosen.target) if options.target is not None else recorded.get("folder", os.getcwd())
    program = _recorded_program(chosen, study, folder)
    algorithm = _recorded_algorithm(chosen, study)
    header = study.archive.header if study.archive is not None else None
    if header is not None:
        chosen.objectives = chosen.objectives or header.objectives
        chosen.seed = header.seed if chosen.seed is None else chosen.seed
    if chosen.trials is None:
        raise SettingError("cannot resume a study", at="--trials", got=None,
                           expected=f"how many trials it shall have in all; it has {len(study)}",
                           fix=f"--trials {max(2 * len(study), _TRIALS)}")  # fmt: skip
    return _search(chosen, study, program, algorithm, _prepared(chosen, program, folder), folder)


def _recorded_program(chosen: argparse.Namespace, study: Study, folder: str) -> Any:
    if chosen.target is not None:
        return load_program(chosen.target, folder=folder)
    header = study.archive.header if study.archive is not None else None
    if header is None:
        raise SettingError("cannot resume a study", at="TARGET", got=None, expected="the program, which it does not "
                           "record", fix=f"mutandis resume {chosen.study} SCRIPT.py:NAME")  # fmt: skip
    try:
        return space_of(header).program
    except MutandisError as error:
        error.add_note(f"give the program: mutandis resume {chosen.study} SCRIPT.py:NAME")
        raise


def _recorded_algorithm(chosen: argparse.Namespace, study: Study) -> Algorithm:
    if chosen.algorithm is not None:
        return choose_algorithm(chosen.algorithm, chosen.settings)
    header = study.archive.header if study.archive is not None else None
    if header is None or header.algorithm is None or chosen.settings:
        raise SettingError("cannot resume a study", at="--algorithm", got=None,
                           expected="the algorithm, which it does not record in words",
                           fix="--algorithm NAME, with its settings")  # fmt: skip
    found = from_json(header.algorithm)
    assert isinstance(found, Algorithm)  # Searches record nothing else.
    return found


def _prepared(options: argparse.Namespace, program: Any, folder: str) -> dict[str, Any]:
    """Returns the arguments of the search that options ask for; nothing is opened or made."""
    objective = None if options.objective is None else load_function(options.objective, folder=folder)
    if objective is None and isinstance(program, (dict, list, tuple)):
        raise SettingError("cannot search without an objective", at="--objective", got=program,
                           expected="a function of the child, since a child of this program cannot be run",
                           fix="--objective SCRIPT.py:FUNCTION")  # fmt: skip
    scheduler = None if options.scheduler is None else choose_scheduler(options.scheduler, options.scheduler_settings)
    return {
        "objective": objective, "scheduler": scheduler, "executor": _executor(options.executor or "processes"),
        "trials": options.trials, "workers": options.workers or 1, "objectives": options.objectives or ("reward",),
        "seed": options.seed or 0, "timeout": options.timeout, "trial_timeout": options.trial_timeout,
        "memory_bytes": options.memory_bytes, "deterministic": bool(options.deterministic),
        "max_failures": options.max_failures or 10,
    }  # fmt: skip


def _search(
    options: argparse.Namespace,
    study: Study,
    program: Any,
    algorithm: Algorithm,
    arguments: dict[str, Any],
    folder: str,
) -> int:
    if study.archive is not None:
        arguments["executor"] = _Noting(arguments["executor"], lambda: remember(study, options, folder))
    if len(study) - study.counts().get("running", 0) >= options.trials:
        output.note(
            f"nothing to do: {shown_name(study, options.study)} has {len(study)} trials; --trials says how many in all"
        )
    with _interruptible() as interrupts:
        search(program, algorithm, study=study, **arguments)
    _show_result(options, study)
    if interrupts:
        return INTERRUPTED
    if study.best is None and len(study):
        output.note("no trial has a reward")
        return FAILED
    return DONE


def _show_result(options: argparse.Namespace, study: Study) -> None:
    best = study.top(_BEST)
    if options.json:
        output.show_json(study_record(study, best))
        return
    if best:
        show_trials(study, best, title=f"the best of {len(study)} trials")
    else:
        output.show_facts(study_facts(study, options.study))
    if options.study is None and output.is_terminal():
        output.note("the trials are not kept; --study s.db keeps them")


def _executor(name: str) -> Executor:
    if name not in EXECUTORS:
        raise SettingError("cannot run trials", at="--executor", got=name,
                           expected=f"one of {', '.join(EXECUTORS)}{closest(name, EXECUTORS)}",
                           fix="leave it out for worker processes of this machine")  # fmt: skip
    return EXECUTORS[name]()


class _Noting(Executor):
    """An executor that notes something first: when a pool is opened, the study is, and no trial has begun."""

    def __init__(self, executor: Executor, note: Callable[[], None]) -> None:
        self._executor, self._note = executor, note

    def open(
        self,
        task: Task,
        on_message: OnMessage,
        *,
        workers: int = 1,
        timeout: float | None = None,
        memory_bytes: int | None = None,
    ) -> Pool:
        self._note()
        return self._executor.open(task, on_message, workers=workers, timeout=timeout, memory_bytes=memory_bytes)


@contextmanager
def _interruptible() -> Iterator[list[int]]:
    """Notes that Ctrl-C was pressed, since a search that it ends returns as others do."""
    interrupts: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield interrupts
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        interrupts.append(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, before)


__all__ = ["resume", "run"]
