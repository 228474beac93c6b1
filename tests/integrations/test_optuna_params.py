"""Decisions as parameters of Optuna: one to one, legal for Optuna, readable, and refused with a reason."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import strategies
from hypothesis import given
from hypothesis import strategies as st

import mutandis as mu
from mutandis.errors import DecisionError, MissingDependency
from mutandis.hyper import Point, SearchSpace
from mutandis.testing import contract_spaces

optuna = pytest.importorskip("optuna")
from mutandis.integrations.optuna_params import Parameters, distinct, readable  # noqa: E402

RANGES = {
    "float": lambda: mu.floatv(-1.0, 2.0),
    "log float": lambda: mu.floatv(1e-5, 1.0, scale="log"),
    "steps of a tenth": lambda: mu.floatv(0.1, 0.7, step=0.1),
    "steps that do not divide": lambda: mu.floatv(0.0, 1.0, step=0.3),
    "steps finer than floats tell": lambda: mu.floatv(1e7, 1e7 + 1, step=1e-2),
    "log steps": lambda: mu.floatv(0.5, 8.0, step=0.5, scale="log"),
    "int": lambda: mu.intv(-3, 9),
    "int steps": lambda: mu.intv(16, 70, step=8),
    "an end that rounding has moved": lambda: mu.floatv(0.0, 0.7999999999999999, step=0.1),
    "log int steps": lambda: mu.intv(2, 100, step=3, scale="log"),
    "log int": lambda: mu.intv(1, 1000, scale="log"),
}


def params_of(program, decisions):
    space = mu.space(program)
    return Parameters(space).write(space.dna(decisions))[0]


def up_to_three():
    """Returns a space of a varying number of ordered picks, which no hyper value makes yet."""
    return SearchSpace((Point(index=0, path="ops", kind="many", num_candidates=2, candidates=("a", "b"), k_max=3,
                              distinct=False),))  # fmt: skip


def distribution_of(program):
    space = mu.space(program)
    return next(iter(Parameters(space).write(space.default())[1].values()))


def is_legal(params, distributions):
    """Returns whether Optuna takes a trial of these, and gives the same values back from its numbers."""
    optuna.trial.create_trial(value=0.0, params=params, distributions=distributions)
    return all(
        distributions[name].to_external_repr(distributions[name].to_internal_repr(value)) == value
        for name, value in params.items()
    )


def refusal(program, params, texts: Any = None):
    with pytest.raises(DecisionError) as caught:
        Parameters(mu.space(program)).read(params, texts or {})
    return str(caught.value)


@pytest.mark.parametrize("space", contract_spaces().values(), ids=contract_spaces())
@pytest.mark.parametrize("seed", range(8))
def test_every_dna_of_the_contract_spaces_comes_back(space, seed):
    parameters, dna = Parameters(space), space.random(seed)
    params, distributions, texts = parameters.write(dna)
    assert parameters.read(params, texts) == dna and is_legal(params, distributions)


@pytest.mark.parametrize("program", RANGES.values(), ids=RANGES)
@pytest.mark.parametrize("seed", range(20))
def test_every_number_of_a_range_comes_back_and_is_legal_in_optuna(program, seed):
    space = mu.space({"x": program()})
    parameters, dna = Parameters(space), space.random(seed)
    params, distributions, _ = parameters.write(dna)
    assert parameters.read(params, {}) == dna and is_legal(params, distributions)


@pytest.mark.parametrize("program", RANGES.values(), ids=RANGES)
@pytest.mark.parametrize("end", [0.0, 1.0])
def test_the_ends_of_a_range_come_back_and_are_legal_in_optuna(program, end):
    space = mu.space({"x": program()})
    parameters, dna = Parameters(space), space.from_unit([end])
    params, distributions, _ = parameters.write(dna)
    assert parameters.read(params, {}) == dna and is_legal(params, distributions)


@given(strategies.spaces_and_dnas())
def test_every_dna_of_random_programs_comes_back(drawn):
    space, dna = drawn
    parameters = Parameters(space)
    params, distributions, texts = parameters.write(dna)
    assert parameters.read(params, texts) == dna and is_legal(params, distributions)


def test_only_active_decisions_have_parameters():
    program = {"op": mu.oneof(["pool", {"kernel": mu.oneof([3, 5], name="kernel")}], name="op")}
    assert params_of(program, {"op": 0}) == {"op": "pool"}
    assert params_of(program, {"op": 1, "kernel": 1}) == {"op": "{'kernel': kernel}", "kernel": 5}


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        (mu.floatv(1e-5, 1.0, scale="log"), optuna.distributions.FloatDistribution(1e-5, 1.0, log=True)),
        (mu.floatv(0.0, 1.0, step=0.3), optuna.distributions.FloatDistribution(0.0, 0.9, step=0.3)),
        (mu.floatv(0.5, 8.0, step=0.5, scale="log"), optuna.distributions.FloatDistribution(0.5, 8.0, log=True)),
        (mu.intv(16, 70, step=8), optuna.distributions.IntDistribution(16, 64, step=8)),
        (mu.intv(1, 100, scale="log"), optuna.distributions.IntDistribution(1, 100, log=True)),
        (mu.oneof([16, "a", None]), optuna.distributions.CategoricalDistribution((16, "a", None))),
        (mu.oneof([1, True]), optuna.distributions.CategoricalDistribution(("1", "True"))),
    ],
)
def test_a_decision_has_the_distribution_that_says_most(program, expected):
    assert distribution_of(program) == expected


def test_a_subset_is_a_yes_or_no_for_each_candidate():
    assert params_of(mu.subset(["a", "b", 3], min=0, name="used"), {"used": [0, 2]}) == {
        "used[a]": True, "used[b]": False, "used[3]": True,
    }  # fmt: skip


def test_a_permutation_is_a_label_for_each_place():
    assert params_of(mu.permutate(["a", "b", "c"], name="order"), {"order": [2, 0, 1]}) == {
        "order#0": "c", "order#1": "a", "order#2": "b",
    }  # fmt: skip


def test_a_varying_number_of_picks_is_counted():
    program = up_to_three()
    assert params_of(program, {"ops": [1, 1]}) == {"ops#count": 2, "ops#0": "b", "ops#1": "b"}
    assert params_of(program, {"ops": []}) == {"ops#count": 0}


@pytest.mark.parametrize("picks", [(), (1,), (1, 0, 1)])
def test_a_varying_number_of_picks_comes_back(picks):
    space = up_to_three()
    params, distributions, _ = Parameters(space).write(space.dna({"ops": picks}))
    assert Parameters(space).read(params, {}).values == (picks,) and is_legal(params, distributions)


def test_an_open_ended_program_is_a_text_and_no_parameter():
    space = mu.space(mu.evolve([1], lambda program, rng: [*program, 2], name="code"))
    params, distributions, texts = Parameters(space).write(space.default())
    assert params == distributions == {} and list(texts) == ["code"]
    assert Parameters(space).read({}, texts) == space.default()


@pytest.mark.parametrize("name", ["lr", "['a']", "['b']"])
def test_a_parameter_is_found_by_the_name_and_by_every_path(name):
    shared = mu.floatv(0.0, 1.0, name="lr")
    space = mu.space({"a": shared, "b": shared})
    assert Parameters(space).read({name: 0.25}, {})["lr"] == 0.25


def test_the_parts_of_picks_are_found_by_the_path_too():
    space = mu.space({"order": mu.permutate(["a", "b"], name="o")})
    assert Parameters(space).read({"['order']#0": "b", "order#1": "a"}, {}).values == ((1, 0),)


def test_parameters_of_inactive_decisions_are_left_aside():
    space = mu.space({"op": mu.oneof(["pool", mu.intv(1, 3, name="kernel")], name="op")})
    assert Parameters(space).read({"op": "pool", "kernel": 99}, {}).to_dict() == {"['op']": 0}


def test_a_decision_without_a_parameter_takes_its_default():
    space = mu.space({"lr": mu.floatv(0.0, 1.0, name="lr"), "width": mu.oneof([8, 16], default=16, name="width")})
    assert Parameters(space).read({"lr": 0.5}, {}).literals() == {"['lr']": 0.5, "['width']": 16}


def test_a_whole_float_stands_for_an_int_and_true_stands_for_no_number():
    space = mu.space(mu.oneof([1, 2], name="x"))
    assert Parameters(space).read({"x": 2.0}, {}).values == (1,)
    assert "one of 1, 2" in refusal(mu.oneof([1, 2], name="x"), {"x": True})


def test_a_value_outside_its_range_is_refused():
    assert refusal({"lr": mu.floatv(0.0, 1.0)}, {"lr": 2.0}) == (
        "cannot use decision\n  at:       ['lr']\n  got:      2.0 (float)\n  expected: a number in [0.0, 1.0]\n"
        "  fix:      pass a value that the range allows"
    )


def test_a_value_between_two_steps_is_refused():
    assert "at 0.0 + i * 0.25" in refusal({"x": mu.floatv(0.0, 1.0, step=0.25)}, {"x": 0.3})


def test_a_value_beyond_the_end_by_less_than_a_step_is_refused():
    assert "a number in [0.0, 1.0]" in refusal({"x": mu.floatv(0.0, 1.0, step=0.25)}, {"x": 1.1})


def test_an_unknown_label_is_refused_and_the_right_one_suggested():
    assert refusal({"op": mu.oneof(["conv", "pool"])}, {"op": "cnv"}) == (
        "cannot use a label\n  at:       ['op']\n  got:      'cnv' (str)\n"
        "  expected: one of 'conv', 'pool'; did you mean 'conv'?\n"
        "  fix:      write the label of a candidate, as print(space.describe()) does"
    )


def test_an_unknown_parameter_is_refused_and_the_right_one_suggested():
    assert refusal({"rate": mu.floatv(0.0, 1.0)}, {"rates": 0.5}) == (
        "cannot find the decision of a parameter\n  at:       rates\n  got:      0.5 (float)\n"
        "  expected: the name or the path of a decision; did you mean 'rate' or \"['rate']\"?\n"
        "  fix:      name the decision so: mu.oneof([...], name=...)"
    )


def test_a_missing_parameter_is_refused():
    assert refusal({"lr": mu.floatv(0.0, 1.0)}, {}) == (
        "cannot leave out a decision\n  at:       ['lr']\n  got:      [] (list)\n"
        "  expected: a parameter called \"['lr']\"\n"
        "  fix:      give the decision a default=, which trials without it take"
    )


@pytest.mark.parametrize("count", [1.5, True, "2", 4, -1])
def test_a_wrong_number_of_picks_is_refused(count):
    assert "expected: an int in [0, 3]" in refusal(up_to_three(), {"ops#count": count})


def test_a_subset_takes_answers_of_yes_and_no_only():
    assert refusal(mu.subset(["a", "b"], name="used"), {"used[a]": True, "used[b]": 1}) == (
        "cannot use a parameter\n  at:       used[b]\n  got:      1 (int)\n  expected: True or False\n"
        "  fix:      say of each candidate whether it is picked"
    )


@given(st.lists(st.text("ab (2)", max_size=5)))
def test_distinct_texts_differ_and_stay_where_they_can(texts):
    made = distinct(texts)
    assert len(set(made)) == len(texts)
    assert all(new.startswith(old) for old, new in zip(texts, made, strict=True))


def test_labels_that_optuna_would_mix_up_become_texts():
    assert readable([1, 1.0, "a"]) == ("1", "1.0", "a")
    assert readable(["a", "a"]) == ("a", "a (2)")
    assert readable([1, "1"]) == (1, "1")


def test_a_missing_optuna_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingDependency) as caught:
        Parameters(mu.space({"x": mu.oneof([1, 2])}))
    assert str(caught.value) == (
        "cannot speak to Optuna\n  at:       mu.integrations\n  expected: the package optuna\n"
        "  fix:      pip install 'mutandis[optuna]'"
    )
