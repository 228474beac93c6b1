"""The contract catches executors that break it; each is planted here with one defect."""

from __future__ import annotations

import dataclasses

import pytest

from mutandis.flows.executors import Executor, Inline
from mutandis.testing import ExecutorContract


class Planted(Executor):
    """An inline executor whose pools are spoilt."""

    def __init__(self, spoil):
        self.spoil = spoil

    def open(self, task, on_message, **limits):
        pool = Inline().open(task, on_message, **limits)
        self.spoil(pool)
        return pool


def spoilt(change):
    """Returns what changes the outcomes of a pool."""

    def spoil(pool):
        wait = pool.wait
        pool.wait = lambda timeout=None: change(wait(timeout))

    return spoil


def lets_exceptions_through(pool):
    task = pool._task

    def run(payload, talk):
        try:
            return task(payload, talk)
        except Exception as error:
            raise SystemExit from error

    pool._task = run


def mixes_keys_up(pool):
    on_message = pool._on_message
    pool._on_message = lambda key, data: on_message(key + 1, data)


def forgets_cancelled_jobs(pool):
    cancel = pool.cancel

    def forget(key):
        cancel(key)
        pool._cancelled = []

    pool.cancel = forget


DEFECTS = {
    "gives the wrong result": (spoilt(lambda found: [dataclasses.replace(o, value=0) for o in found]),
                               "test_every_job_has_one_outcome"),
    "tells of a job twice": (spoilt(lambda found: [*found, *found]), "test_every_job_has_one_outcome"),
    "hides failures": (spoilt(lambda found: [dataclasses.replace(o, kind="returned") for o in found]),
                       "test_an_exception_is_an_outcome"),
    "drops the reason": (spoilt(lambda found: [dataclasses.replace(o, reason=None) for o in found]),
                         "test_an_exception_is_an_outcome"),
    "mixes keys up": (mixes_keys_up, "test_jobs_say_things_and_are_answered"),
    "lets exceptions through": (lets_exceptions_through, "test_an_exception_is_an_outcome"),
    "forgets cancelled jobs": (forgets_cancelled_jobs, "test_a_waiting_job_can_be_cancelled"),
}  # fmt: skip


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_is_caught(defect, monkeypatch):
    spoil, name = DEFECTS[defect]
    monkeypatch.setattr("mutandis.testing.executor_contract.PATIENCE_S", 0.3)

    class Suite(ExecutorContract):
        executor = Planted(spoil)
        isolates = False

    heard = []
    suite = Suite()
    arguments = {"heard": heard} if name == "test_jobs_say_things_and_are_answered" else {}
    with suite._open(heard) as pool, pytest.raises((AssertionError, SystemExit)):
        getattr(suite, name)(pool, **arguments)


@pytest.mark.parametrize("name", sorted({name for _, name in DEFECTS.values()}))
def test_a_sound_executor_passes_what_caught_them(name):
    class Suite(ExecutorContract):
        executor = Inline()
        isolates = False

    heard = []
    suite = Suite()
    arguments = {"heard": heard} if name == "test_jobs_say_things_and_are_answered" else {}
    with suite._open(heard) as pool:
        getattr(suite, name)(pool, **arguments)
