"""The contract catches stores that break it; each is planted here with one defect."""

from __future__ import annotations

import inspect

import pytest

from mutandis.flows.studies.stores import Store
from mutandis.flows.studies.stores.medium import Line
from mutandis.flows.studies.stores.memory import MemoryMedium
from mutandis.testing import StoreContract
from mutandis.testing.store_contract import HEADER

QUICK = {"test_numbers_are_contiguous_from_zero", "test_a_number_that_another_worker_took_is_not_given_again",
         "test_what_is_recorded_comes_back_exactly", "test_a_trial_ends_once", "test_reading_on_gives_what_is_new",
         "test_what_json_cannot_hold_is_refused_and_leaves_nothing_behind",
         "test_studies_of_a_store_do_not_touch_each_other", "test_a_store_that_is_opened_again_is_as_it_was",
         "test_heartbeats_of_trials_that_ended_are_dropped", "test_a_worker_that_beats_keeps_its_trial",
         "test_a_trial_that_was_given_back_is_taken_at_once", "test_only_one_gets_what_was_left",
         "test_an_unknown_study_is_not_made_without_a_header"}  # fmt: skip


class LosesTheLatestLine(MemoryMedium):
    def read(self, study, cursor):
        lines = super().read(study, cursor)
        return lines[:-1] if len(lines) > 1 else lines


class ReadsFromTheStart(MemoryMedium):
    def read(self, study, cursor):
        return super().read(study, 0)


class MixesStudies(MemoryMedium):
    def read(self, study, cursor):
        return super().read("study", cursor)


class NeverBeats(MemoryMedium):
    def beat(self, study, number, attempt):
        pass


class KeepsHeartbeats(MemoryMedium):
    def beats(self, study):
        self.kept = {**getattr(self, "kept", {}), **super().beats(study)}
        return dict(self.kept)


class ForgetsWhenItIsClosed(MemoryMedium):
    def close(self):
        self._lines.clear()


class DamagesTexts(MemoryMedium):
    def read(self, study, cursor):
        return [Line(line.cursor, line.text.replace("5e-324", "0.0")) for line in super().read(study, cursor)]


class NamesNoStudies(MemoryMedium):
    def studies(self):
        return ()


def broken_by(medium):
    """Returns the quick tests of the contract that a medium fails."""

    class Contract(StoreContract):
        def open_at(self, where, **settings):
            return Store(medium(), **settings)

    failed = set()
    for name in QUICK:
        contract = Contract()
        store = contract.open_at(None, lease=0.2, worker="first")
        test = getattr(contract, name)
        try:
            given = {"store": store, "log": store.open("study", HEADER)}
            test(**{key: given[key] for key in inspect.signature(test).parameters})
        except (Exception, pytest.fail.Exception):
            failed.add(name)
    return failed


def test_a_right_medium_passes():
    assert broken_by(MemoryMedium) == set()


@pytest.mark.parametrize(("medium", "test"), [
    (LosesTheLatestLine, "test_reading_on_gives_what_is_new"),
    (ReadsFromTheStart, "test_reading_on_gives_what_is_new"),
    (MixesStudies, "test_studies_of_a_store_do_not_touch_each_other"),
    (NeverBeats, "test_a_worker_that_beats_keeps_its_trial"),
    (KeepsHeartbeats, "test_heartbeats_of_trials_that_ended_are_dropped"),
    (ForgetsWhenItIsClosed, "test_a_store_that_is_opened_again_is_as_it_was"),
    (DamagesTexts, "test_what_is_recorded_comes_back_exactly"),
    (NamesNoStudies, "test_an_unknown_study_is_not_made_without_a_header"),
], ids=lambda value: getattr(value, "__name__", ""))  # fmt: skip
def test_a_defect_is_caught(medium, test):
    assert test in broken_by(medium)
