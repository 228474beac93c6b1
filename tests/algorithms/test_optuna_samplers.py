"""Samplers of Optuna: encodings there and back, states, foreign and failed trials, what is refused."""

from __future__ import annotations

import json
import pickle
import sys
import warnings

import pytest

import mutandis as mu
from mutandis.algorithms import Optuna
from mutandis.algorithms.optuna_samplers import _Recorded, decide
from mutandis.errors import MissingDependency, SettingError, SpaceExhausted
from mutandis.hyper import Feedback, Point, SearchSpace, permutate
from mutandis.testing import answer, contract_spaces, run

optuna = pytest.importorskip("optuna", reason="the adapter needs optuna")

KINDS = {
    **contract_spaces(),
    "stepped float": mu.space(mu.floatv(0.1, 0.9, step=0.1)),
    "stepped log float": mu.space(mu.floatv(1.0, 9.0, step=2.0, scale="log")),
    "stepped int": mu.space(mu.intv(1, 9, step=3)),
    "stepped log int": mu.space(mu.intv(1, 64, step=3, scale="log")),
    "picks in order": mu.space(mu.manyof(2, ["a", "b", "c", "d"])),
    "slots": mu.space(mu.manyof(3, ["a", "b"], distinct=False)),
    "multiset": mu.space(mu.manyof(3, ["a", "b"], distinct=False, ordered=False)),
    "any subset": mu.space(mu.subset(["a", "b", "c"], min=0, max=3)),
    "order": mu.space(permutate(["a", "b", "c"])),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_known_point_is_recorded_as_the_sampler_would_have_decided_it(name):
    space = KINDS[name].bare()
    search = Optuna("RandomSampler").start(space, seed=0)
    for seed in range(20):
        dna = space.random(seed)
        search.feedback(Feedback(None, dna, rewards=(float(seed),)))
        trial = search._study.trials[-1]
        again = optuna.trial.FixedTrial(trial.params)
        assert search._decided(_Fixed(again), None) == dna
        assert trial.values == [float(seed)]


class _Fixed:
    """Answers of a trial whose parameters are known."""

    def __init__(self, trial):
        self.category = lambda name, count, wanted: trial.suggest_categorical(name, tuple(range(count)))
        self.whole = lambda name, low, high, *, step=1, log=False, wanted: trial.suggest_int(
            name, low, high, step=step, log=log
        )
        self.real = lambda name, low, high, *, log, wanted: trial.suggest_float(name, low, high, log=log)


@pytest.mark.parametrize("name", ["any subset", "picks in order", "slots", "multiset", "stepped float", "stepped int"])
def test_every_value_can_be_decided(name):
    space = KINDS[name].bare()
    assert set(run(Optuna("RandomSampler").start(space, seed=0), 200)) == set(space.enumerate())


def test_only_active_decisions_become_parameters():
    space = mu.space(mu.oneof([{"x": mu.floatv(0.0, 1.0, name="x")}, "none"], name="branch")).bare()
    search = Optuna("RandomSampler").start(space, seed=0)
    run(search, 20)
    found = {tuple(trial.params) for trial in search._study.trials}
    assert found == {("branch",), ("branch", "x")}


def test_a_lehmer_code_counts_among_those_that_are_left():
    record = _Recorded()
    point = mu.space(permutate(["a", "b", "c"])).points[0]
    assert decide(point, "p", record, (2, 0, 1)) == (2, 0, 1)
    assert record.params == {"p#0": 2, "p#1": 0, "p#2": 0}


def test_failed_trials_are_failed_trials_of_the_study():
    search = Optuna("RandomSampler").start(KINDS["choice"].bare(), seed=0)
    proposal = search.propose()
    search.feedback(Feedback(proposal.id, proposal.dna))
    search.feedback(Feedback(None, proposal.dna))
    assert [trial.state.name for trial in search._study.trials] == ["FAIL", "FAIL"]


def test_a_sampler_learns_from_foreign_results():
    space = mu.space(mu.floatv(0.0, 1.0, name="x")).bare()
    search = Optuna("TPESampler", {"n_startup_trials": 5}).start(space, seed=0)
    for place in range(40):
        dna = space.dna({"x": place / 39})
        search.feedback(Feedback(None, dna, rewards=(-abs(place / 39 - 0.75),)))
    found = [search.propose().dna["x"] for _ in range(10)]
    assert sum(abs(x - 0.75) < 0.2 for x in found) >= 8


def test_proposals_are_those_of_the_bare_library():
    space = mu.space([mu.floatv(0.0, 1.0, name="x"), mu.oneof(["a", "b"], name="op")]).bare()
    search = Optuna(lambda seed: optuna.samplers.TPESampler(seed=5)).start(space, seed=0)
    ours = [tuple(dna.values) for dna in run(search, 20)]
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=5), direction="maximize")
    theirs = []
    for _ in range(20):
        trial = study.ask()
        theirs.append((trial.suggest_float("x", 0.0, 1.0), trial.suggest_categorical("op", (0, 1))))
        study.tell(trial, theirs[-1][0] + 2 * theirs[-1][1])
    assert ours == theirs


def test_a_used_up_sampler_ends_the_search():
    search = Optuna("BruteForceSampler").start(KINDS["choice"].bare(), seed=0)
    made = run(search, 20)
    assert len(set(made)) == len(made) == 6
    with pytest.raises(SpaceExhausted, match="the sampler of Optuna has stopped the study"):
        search.propose()


def test_experimental_samplers_make_no_noise_and_filters_stay():
    before = list(warnings.filters)
    run(Optuna("QMCSampler", {"warn_independent_sampling": False}).start(KINDS["float"].bare(), seed=0), 3)
    assert warnings.filters == before


def test_the_verbosity_of_optuna_stays():
    before = optuna.logging.get_verbosity()
    run(Optuna().start(KINDS["float"].bare(), seed=0), 3)
    assert optuna.logging.get_verbosity() == before


def test_the_front_of_two_objectives_is_found():
    space = mu.space(mu.floatv(0.0, 1.0, name="x")).bare()
    search = Optuna("NSGAIISampler", {"population_size": 8}).start(space, seed=0, num_objectives=2)
    for _ in range(30):
        proposal = search.propose()
        x = proposal.dna["x"]
        search.feedback(Feedback(proposal.id, proposal.dna, rewards=(x, -(x**2))))
    assert all(trial.values[1] == -(trial.values[0] ** 2) for trial in search._study.best_trials)
    assert len(search._study.best_trials) == 30


def test_infinite_rewards_survive_the_state():
    space = KINDS["float"].bare()
    search = Optuna("RandomSampler").start(space, seed=0)
    search.feedback(answer(search.propose(), float("-inf")))
    other = Optuna("RandomSampler").start(space, seed=0)
    other.load_state_dict(json.loads(json.dumps(search.state_dict(), allow_nan=False)))
    assert other._study.trials[0].values == [float("-inf")]
    assert other.propose().dna == search.propose().dna


def test_a_state_of_another_sampler_is_refused():
    space = KINDS["float"].bare()
    search = Optuna("RandomSampler").start(space, seed=0)
    search.propose()
    with pytest.raises(SettingError) as error:
        Optuna("RandomSampler").start(space, seed=1).load_state_dict(search.state_dict())
    assert error.value.at == "proposal 0"
    assert error.value.fix == "use the same version of optuna, and a sampler that follows its seed"


def test_settings_compare_and_pickle():
    made = Optuna("TPESampler", {"multivariate": True})
    assert pickle.loads(pickle.dumps(made)) == made != Optuna("TPESampler")
    assert Optuna(optuna.samplers.RandomSampler) == Optuna(optuna.samplers.RandomSampler)


def test_an_instance_is_refused_with_what_to_write():
    with pytest.raises(SettingError) as error:
        Optuna(optuna.samplers.RandomSampler())
    assert error.value.problem == "cannot use an instance of a sampler"
    assert error.value.fix == (
        'write Optuna("RandomSampler", {...}) or Optuna(lambda seed: RandomSampler(seed=seed, ...))'
    )


def test_a_seed_among_the_options_is_refused():
    with pytest.raises(SettingError, match="cannot set the seed of a sampler"):
        Optuna("TPESampler", {"seed": 3})


def test_options_of_a_function_are_refused():
    with pytest.raises(SettingError, match="cannot pass options to a function"):
        Optuna(lambda seed: None, {"a": 1})


def test_an_unknown_sampler_suggests_the_right_one():
    with pytest.raises(SettingError, match="did you mean 'TPESampler'"):
        Optuna("TPESample").start(KINDS["float"].bare(), seed=0)


def test_an_open_ended_decision_is_refused():
    with pytest.raises(SettingError, match="cannot suggest an open-ended decision"):
        Optuna().start(SearchSpace([Point(index=0, path="program", kind="custom")]), seed=0)


def test_without_optuna_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingDependency) as error:
        Optuna().start(KINDS["float"].bare(), seed=0)
    assert str(error.value) == (
        "cannot start Optuna\n"
        "  at:       Optuna\n"
        "  expected: the package optuna\n"
        "  fix:      pip install 'mutandis[optuna]'"
    )
