"""Studies: the best, the front, the tables."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

import mutandis as mu
from mutandis.algorithms import Grid, Random
from mutandis.errors import MissingDependency, MutandisWarning, SettingError, SpaceError, StorageError
from mutandis.flows.studies.objectives import parse_objectives
from mutandis.hyper import Proposal


def study_of(rewards, **options):
    """Returns a study of trials that were answered with `rewards`, in order; None skips."""
    loop = mu.sample({"x": mu.intv(1, 99)}, Grid(), trials=len(rewards), **options)
    for reward, (_, feedback) in zip(rewards, loop):
        feedback.skip("no") if reward is None else feedback(reward)
    return loop.study


def ids(trials):
    return [trial.id for trial in trials]


def test_a_new_study_is_empty():
    study = mu.Study()
    assert (len(study), study.trials, study.best, study.front, study.top()) == (0, (), None, (), ())
    assert (study.rows(), study.counts()) == ([], {})
    assert bool(study)


def test_the_best_is_the_largest_and_the_first_of_equals():
    assert study_of([1, 3, 2, 3]).best.id == 1


def test_the_best_is_the_smallest_where_the_objective_has_a_minus():
    study = study_of([{"loss": 3}, {"loss": 1}, {"loss": 2}], objectives="-loss")
    assert study.best.id == 1
    assert study.best.reward == 1.0


def test_trials_without_a_reward_are_never_best():
    assert study_of([None, float("nan"), float("inf"), -5]).best.id == 3


def test_a_study_of_failures_has_no_best():
    assert study_of([None, float("nan")]).best is None


def test_the_front_holds_what_nothing_else_beats():
    points = [(0.5, 10), (0.9, 50), (0.4, 20), (0.9, 60), (0.6, 30), (0.5, 10)]
    study = study_of_two(points)
    assert ids(study.front) == [0, 1, 4, 5]
    assert study.best.id == 1


def study_of_two(points):
    loop = mu.sample({"x": mu.intv(1, 99)}, Random(), trials=len(points), objectives=("accuracy", "-latency"))
    for (accuracy, latency), (_, feedback) in zip(points, loop):
        feedback({"accuracy": accuracy, "latency": latency})
    return loop.study


def test_rewards_are_recorded_as_they_were_measured():
    study = study_of_two([(0.5, 10)])
    assert study.trials[0].rewards == (0.5, 10.0)
    assert study.signed(study.trials[0]) == (0.5, -10.0)


def test_the_front_of_one_objective_holds_the_best():
    assert ids(study_of([1, 3, 2, None]).front) == [1]


def test_the_top_are_the_best_first():
    assert ids(study_of([1, 4, None, 2, 3]).top(3)) == [1, 4, 3]


def test_the_top_names_every_dna_once():
    study = mu.Study()
    for reward, (_, feedback) in zip([1, 2, 3, 4, 5, 6], mu.sample(mu.boolv(), Random(), trials=6, study=study)):
        feedback(reward)
    top = study.top(6)
    assert len({trial.dna for trial in top}) == len(top) == 2
    assert top[0] is study.best


def test_a_stopped_trial_counts_wherever_it_has_a_reward():
    loop = mu.sample(mu.boolv(), Random(), trials=1, stop=lambda trial: True)
    for _, feedback in loop:
        feedback.should_stop()
        feedback(1)
    study = loop.study
    assert study.best is study.front[0] is study.top()[0] is study.trials[0]


# Fidelities.


def study_of_lengths(*trials, objectives="reward"):
    """Returns a study of trials that end in a state, with a fidelity and rewards."""
    study, space = mu.Study(), mu.space(mu.intv(1, 99))
    study.open(space, parse_objectives(objectives))
    for number, (state, fidelity, *rewards) in enumerate(trials):
        record = study.add(space.dna({"": number + 1}))
        study.finish(replace(record, state=state, fidelity=fidelity, rewards=tuple(map(float, rewards))))
    return study


def test_the_best_is_looked_for_at_the_largest_fidelity_alone():
    study = study_of_lengths(
        ("paused", 1, 9), ("paused", 3, 5), ("completed", 9, 2), ("stopped", 3, 8), ("completed", 9, 3)
    )
    assert study.best.id == 4


def test_the_top_lists_the_largest_fidelity_first():
    study = study_of_lengths(
        ("paused", 1, 9), ("paused", 3, 5), ("completed", 9, 2), ("stopped", 3, 8), ("completed", 9, 3)
    )
    assert ids(study.top(9)) == [4, 2, 3, 1, 0]


def test_who_trained_as_long_as_it_liked_trained_longest():
    study = study_of_lengths(("completed", None, 1), ("stopped", 50, 9), ("stopped", None, 7), ("completed", None, 2))
    assert study.best.id == 3
    assert ids(study.top(9)) == [3, 0, 1, 2]


def test_the_front_holds_the_largest_fidelity_alone():
    study = study_of_lengths(
        ("paused", 1, 9, 9),
        ("completed", 3, 1, 2),
        ("completed", 3, 2, 1),
        ("completed", 3, 1, 1),
        objectives=("a", "b"),
    )
    assert ids(study.front) == [1, 2]


def test_rows_have_fidelity_and_parent_where_there_are_any():
    study = study_of_lengths(("paused", 1, 9), ("completed", None, 5))
    study.finish(replace(study.add(study.trials[0].dna, parent=0), state="completed", rewards=(1.0,), fidelity=3))
    assert [(row.get("fidelity"), row.get("parent")) for row in study.rows()] == [(1, None), (None, None), (3, 0)]


def test_states_are_counted():
    assert study_of([1, None, float("nan"), 2]).counts() == {"completed": 2, "skipped": 1, "failed": 1}


def test_a_study_is_a_sequence_of_trials():
    study = study_of([1, 2])
    assert len(study) == 2
    assert list(study) == list(study.trials)
    assert ids(study.trials) == [0, 1]


def test_a_study_prints_its_name_and_length():
    assert repr(mu.Study(name="mine")) == "Study('mine', 0 trials)"


def test_rows_are_flat_and_readable():
    loop = mu.sample({"op": mu.oneof(["conv", "pool"]), "x": mu.intv(1, 9)}, Grid(), trials=1)
    for _, feedback in loop:
        feedback(3, metrics={"loss": 0.5})
    (row,) = loop.study.rows()
    assert row.pop("seconds") >= 0
    assert row == {"id": 0, "state": "completed", "reward": 3.0, "loss": 0.5, "['op']": "conv", "['x']": 1}


def test_rows_of_trials_without_a_reward_leave_it_out():
    assert "reward" not in study_of([None]).rows()[0]


def test_a_data_frame_needs_pandas(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingDependency) as error:
        study_of([1]).to_frame()
    assert str(error.value) == (
        "cannot make a data frame\n"
        "  at:       Study.to_frame\n"
        "  expected: pandas\n"
        "  fix:      pip install 'mutandis[frame]', or use study.rows()"
    )


def test_a_data_frame_is_made_of_the_rows(monkeypatch):
    class Pandas:
        DataFrame = staticmethod(lambda rows: ("frame", rows))

    monkeypatch.setitem(sys.modules, "pandas", Pandas)
    study = study_of([1])
    assert study.to_frame() == ("frame", study.rows())


def test_a_name_that_is_no_text_is_refused():
    with pytest.raises(SettingError) as error:
        mu.Study(name=3)
    assert str(error.value) == (
        "cannot name a study\n"
        "  at:       name\n"
        "  got:      3 (int)\n"
        "  expected: a text\n"
        '  fix:      write mu.Study(name="my search")'
    )


# In a store.


def searched(where, trials=5, program=None, algorithm=None, seed=0, **options):
    loop = mu.sample(program or {"x": mu.intv(1, 99)}, algorithm or Random(), trials=trials, seed=seed, study=where,
                     **options)  # fmt: skip
    for child, feedback in loop:
        feedback.report({"loss": 1.0}, step=0.5)
        feedback({"reward": child["x"], "time": 2.0})
    return loop.study


@pytest.fixture(params=["study.db", "study.jsonl"])
def path(request, tmp_path):
    return tmp_path / request.param


def test_a_study_in_a_store_is_what_it_would_be_in_memory(path):
    kept, memory = searched(path), searched(None)
    read = mu.Study(path)
    for study in (kept, read):
        assert [replace(t, seconds=0.0, worker="0") for t in study.trials] == [
            replace(t, seconds=0.0) for t in memory.trials
        ]
        assert study.best.id == memory.best.id
        assert ids(study.front) == ids(memory.front) and ids(study.top(3)) == ids(memory.top(3))
        assert study.counts() == {"completed": 5}
        assert list(map(str, study.objectives)) == ["reward"]
        assert study.space.fingerprint == memory.space.fingerprint
    assert read.best.child() == {"x": read.best.reward}
    assert repr(read) == "Study('study', 5 trials)"


def test_a_reader_sees_what_others_write(path):
    reader = mu.Study(path)
    assert (len(reader), reader.best, reader.space, reader.objectives) == (0, None, None, ())
    loop = mu.sample({"x": mu.intv(1, 99)}, Random(), study=path)
    _, feedback = next(loop)
    feedback.report({"loss": 1.0}, step=1)
    assert [(t.state, t.curve) for t in reader.trials] == [("running", ((1, {"loss": 1.0}),))]
    feedback(3)
    assert reader.best.reward == 3.0
    loop.close()


def test_two_studies_live_in_one_store(path):
    searched(mu.Study(path, name="a"), 2)
    searched(mu.Study(path, name="b"), 3)
    assert (len(mu.Study(path, name="a")), len(mu.Study(path, name="b")), len(mu.Study(path))) == (2, 3, 0)


def test_a_study_resumes_what_it_began_with(path):
    whole = searched(None, 12, algorithm=mu.algorithms.RegularizedEvolution(4, 2), seed=3)
    searched(path, 6, algorithm=mu.algorithms.RegularizedEvolution(4, 2), seed=3)
    for child, feedback in mu.Study(path).resume(trials=12):
        feedback(child["x"])
    assert [t.dna for t in mu.Study(path).trials] == [t.dna for t in whole.trials]


def test_a_study_resumes_with_its_scheduler(path):
    pace = mu.algorithms.schedulers.Median(3)
    searched(path, 2, scheduler=pace)
    assert "Median" in mu.Study(path).archive.header.notes["scheduler"]
    loop = mu.Study(path).resume(trials=3)
    for _, feedback in loop:
        feedback(1)
    assert len(loop.study) == 3


@pytest.mark.parametrize("where", [None, "empty.db"])
def test_a_study_that_nothing_was_searched_in_cannot_resume(where, tmp_path):
    with pytest.raises(StorageError) as error:
        mu.Study(None if where is None else tmp_path / where).resume()
    assert str(error.value) == (
        "cannot resume a study\n"
        "  at:       study\n"
        "  expected: a study in a store that a search has opened\n"
        "  fix:      call mu.sample(program, algorithm, study=...) as the script did"
    )


def test_a_study_whose_algorithm_cannot_be_written_cannot_resume(path):
    searched(path, 2, algorithm=mu.algorithms.Constrained(Random(), lambda dna: True))
    with pytest.raises(StorageError, match="whose algorithm and scheduler can be written as JSON"):
        mu.Study(path).resume()


def test_flows_record_in_a_store_too(path):
    program = {"x": mu.intv(1, 9)}
    list(mu.flows.Joint(Random()).run(program, lambda child: child["x"], budget=4, study=mu.Study(path)))
    assert mu.Study(path).counts() == {"completed": 4}


# Spaces that grow.

OLD = {"x": mu.intv(1, 9), "op": mu.oneof(["a", "b"])}
CHANGES = {
    "a candidate more": ({**OLD, "op": mu.oneof(["c", "b", "a"])}, 0),
    "a wider range": ({**OLD, "x": mu.intv(0, 99)}, 0),
    "a decision more": ({**OLD, "new": mu.oneof([1, 2], default=2)}, 0),
    "a candidate less": ({**OLD, "op": mu.oneof(["b", "c"])}, "op"),
    "a narrower range": ({**OLD, "x": mu.intv(1, 5)}, "x"),
    "a decision less": ({"x": mu.intv(1, 9), "op": "b"}, "op"),
}


@pytest.mark.filterwarnings("ignore:the space has changed")
@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("change", CHANGES)
def test_trials_are_carried_to_a_space_that_has_changed_or_set_aside(change, kept, tmp_path):
    new, lost = CHANGES[change]
    study = mu.Study(tmp_path / "study.db") if kept else mu.Study()
    searched(study, 12, OLD)
    old = [trial.dna.literals() for trial in study.trials]
    told = []
    loop = mu.sample(new, Telling(told), trials=13, study=study)
    aside = study.set_aside
    expected = {"op": {n for n, d in enumerate(old) if d["['op']"] == "a"},
                "x": {n for n, d in enumerate(old) if d["['x']"] > 5}, 0: set()}[lost]  # fmt: skip
    assert set(aside) == expected and len(expected) < 12
    for trial in study.trials:
        if trial.id in aside:
            assert trial.dna.literals() == old[trial.id]
        else:
            kept_values = {key: value for key, value in trial.dna.literals().items() if key != "['new']"}
            assert kept_values.items() <= old[trial.id].items()
            assert trial.dna.space.fingerprint == loop.space.fingerprint
            assert trial.child()["x"] == old[trial.id]["['x']"]
    assert told == [trial.dna for trial in study.trials if trial.id not in aside]
    assert study.best.id not in aside and not aside.keys() & set(ids(study.top(99)))
    child, feedback = next(loop)
    feedback(1)
    if kept:
        read = mu.Study(tmp_path / "study.db")
        assert [t.dna for t in read.trials] == [t.dna for t in study.trials]
        assert read.set_aside == aside and read.best.id == study.best.id
        assert read.trials[12].child() == child
    loop.close()


class Telling(mu.algorithms.Algorithm):
    """Proposes the default, and keeps what it is told."""

    def __init__(self, told):
        self.told = told

    def start(self, space, *, seed, num_objectives=1):
        del self.told[:]
        return Teller(space, self.told)


class Teller(mu.algorithms.Search):
    def __init__(self, space, told):
        self.space, self.told = space, told

    def propose(self):
        return Proposal(0, self.space.default())

    def feedback(self, feedback):
        self.told.append(feedback.dna)

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


def test_a_warning_says_how_many_are_set_aside_and_why():
    study = searched(None, 12, {"x": mu.intv(1, 9)})
    low = sum(trial.reward <= 5 for trial in study.trials)
    with pytest.warns(MutandisWarning) as caught:
        mu.sample({"x": mu.intv(1, 5)}, Random(), study=study)
    text = str(caught[0].message)
    assert text.startswith(f"the space has changed: {low} of 12 trials are re-encoded, and {12 - low} are set aside: ")
    assert text.endswith("; see study.set_aside") and "was 9 and is int in [1, 5] now" in text


@pytest.mark.parametrize("kept", [False, True])
def test_a_study_of_quite_another_space_is_refused_and_stays_as_it_was(kept, tmp_path):
    study = searched(tmp_path / "study.db" if kept else None, 3)
    with pytest.raises(SpaceError, match="cannot continue a study with another space") as error:
        mu.sample({"y": mu.intv(1, 99)}, Random(), study=study)
    assert error.value.__notes__ == ["no trial fits: 3 because ['y'] is new and has no default"]
    assert study.best.child()["x"] == study.best.reward
    assert study.set_aside == {}


@pytest.mark.filterwarnings("ignore:the space has changed")
def test_an_old_program_takes_its_study_back(tmp_path):
    path = tmp_path / "study.db"
    searched(path, 4, OLD)
    searched(path, 6, CHANGES["a decision more"][0])
    study = searched(path, 8, OLD)
    assert study.set_aside.keys() == {t.id for t in study.trials[4:6] if t.dna.literals().get("['new']") != 2}
    assert [t.dna.literals() for t in study.trials[:4]] == [
        t.dna.literals() for t in searched(None, 4, OLD).trials]  # fmt: skip
