"""Algorithms and schedulers by name, with settings as text."""

from __future__ import annotations

import dataclasses

import pytest

import mutandis as mu
from mutandis.algorithms import Algorithm, schedulers
from mutandis.algorithms.evolution import Last, Tournament, Uniform, UniformCrossover
from mutandis.cli.choices import (
    ALIASES,
    algorithm_class,
    algorithm_names,
    choose_algorithm,
    choose_scheduler,
    read_value,
    scheduler_class,
    scheduler_names,
    settings_of,
    type_name,
)
from mutandis.errors import SettingError

REA = mu.algorithms.RegularizedEvolution


def message(function, *arguments, **keywords):
    with pytest.raises(SettingError) as caught:
        function(*arguments, **keywords)
    return str(caught.value)


@pytest.mark.parametrize(
    "name", ["REA", "rea", "RegularizedEvolution", "regularized_evolution", "Regularized Evolution"]
)
def test_names_are_read_without_case_and_punctuation(name):
    assert choose_algorithm(name) == REA()


@pytest.mark.parametrize(("name", "cls"), [("RS", "Random"), ("bo", "GaussianProcess"), ("nsga-ii", "NSGA2"),
                                           ("cma-es", "CMAES"), ("hc", "HillClimb"), ("tpe", "TPE")])  # fmt: skip
def test_common_short_names_are_known(name, cls):
    assert algorithm_class(name) is getattr(mu.algorithms, cls)


@pytest.mark.parametrize("name", algorithm_names())
def test_every_algorithm_has_readable_settings(name):
    cls = algorithm_class(name)
    assert issubclass(cls, Algorithm)
    assert list(settings_of(cls)) == [field.name for field in dataclasses.fields(cls)]


@pytest.mark.parametrize("name", scheduler_names())
def test_every_scheduler_has_readable_settings(name):
    assert issubclass(scheduler_class(name), schedulers.Scheduler)
    assert settings_of(scheduler_class(name))


def test_every_short_name_leads_to_something():
    assert set(ALIASES.values()) <= {*algorithm_names(), *scheduler_names()}


def test_settings_are_typed_by_the_algorithm():
    settings = [("population_size", "50"), ("tournament_size", "5"), ("mutation", "Uniform(weight=None)")]
    assert choose_algorithm("REA", settings) == REA(50, 5, Uniform())


def test_settings_may_be_written_as_a_call_and_be_added_to():
    assert choose_algorithm("REA(50)", [("tournament_size", "5")]) == REA(50, 5)
    assert choose_algorithm("Deduped(rea(20, tournament_size=3), retries=4)") == mu.algorithms.Deduped(REA(20, 3), 4)
    assert choose_algorithm("Deduped", [("algorithm", "REA")]) == mu.algorithms.Deduped(REA())


def test_the_algebra_of_evolution_is_read():
    text = "Evolution((Tournament(5) * 2) >> UniformCrossover() >> Uniform(), Last(30), population_size=30)"
    made = mu.algorithms.Evolution((Tournament(5) * 2) >> UniformCrossover() >> Uniform(), Last(30), population_size=30)
    assert choose_algorithm(text) == made
    assert mu.equal(choose_algorithm("Evolution(Uniform() + Uniform(), Last(3))").reproduction, Uniform() + Uniform())


def test_a_scheduler_is_not_taken_for_the_algorithm_of_its_name():
    settings = [("min_fidelity", "1"), ("max_fidelity", "81")]
    assert choose_scheduler("asha", settings) == schedulers.ASHA(1.0, 81.0)
    assert choose_algorithm("asha", settings) == mu.algorithms.ASHA(1.0, 81.0)
    members = choose_scheduler("AnyOf((Patience(3), Median()))").members
    assert members == (schedulers.Patience(3), schedulers.Median())


@pytest.mark.parametrize(("text", "hint", "value"), [
    ("3", int, 3), ("3", float, 3.0), ("1e-3", float, 1e-3), ("3", int | None, 3), ("None", int | None, None),
    ("none", str | None, "None"), ("yes", bool, True), ("0", bool, False), ("3", str, "3"), ("a=b", str, "a=b"),
    ("(1, 2)", tuple[int, ...], (1, 2)), ("[1.5]", list[float], [1.5]), ("{'a': -1}", dict[str, int], {"a": -1}),
    ("2.5", int | float, 2.5), ("word", int | str, "word"),
])  # fmt: skip
def test_a_text_is_read_by_the_type_of_its_setting(text, hint, value):
    expected = None if text == "none" else value
    found = read_value(text, hint, at="x")
    assert found == expected and type(found) is type(expected)


def test_an_unknown_algorithm_suggests_close_ones():
    text = message(choose_algorithm, "RandomSerch")
    known = ", ".join(algorithm_names())
    assert text == (
        f"cannot find an algorithm\n  got:      'RandomSerch' (str)\n  expected: one of {known}; did you mean 'Random' "
        "or 'Grid'?\n  fix:      mutandis algorithms tells more of each"
    )
    assert "did you mean 'NSGA3' or 'NSGA2'?" in message(choose_algorithm, "ngsa")
    assert "did you mean" not in message(choose_algorithm, "zzz")


def test_an_unknown_scheduler_is_refused():
    assert message(choose_scheduler, "Medain") == (
        "cannot find a scheduler\n  got:      'Medain' (str)\n"
        f"  expected: one of {', '.join(scheduler_names())}; did you mean 'Median'?\n"
        "  fix:      mutandis algorithms --schedulers tells more of each"
    )


@pytest.mark.parametrize(("name", "settings", "text"), [
    ("REA", [("popsize", "3")],
     "cannot find a setting\n  at:       RegularizedEvolution\n  got:      'popsize' (str)\n  expected: one of "
     "population_size, tournament_size, mutation; did you mean 'population_size'?\n"
     "  fix:      mutandis algorithms RegularizedEvolution lists them"),
    ("Random", [("x", "3")],
     "cannot find a setting\n  at:       Random\n  got:      'x' (str)\n  expected: one of no settings at all\n"
     "  fix:      mutandis algorithms Random lists them"),
    ("REA", [("population_size", "many")],
     "cannot read a setting\n  at:       RegularizedEvolution.population_size\n  got:      'many' (str)\n"
     "  expected: int\n  fix:      mutandis algorithms NAME lists settings and their defaults"),
    ("HillClimb", [("drift", "maybe")],
     "cannot read a setting\n  at:       HillClimb.drift\n  got:      'maybe' (str)\n  expected: bool\n"
     "  fix:      mutandis algorithms NAME lists settings and their defaults"),
    ("REA", [("population_size", "0")],
     "cannot use a setting\n  at:       RegularizedEvolution.population_size\n  got:      0 (int)\n"
     "  expected: an int >= 1\n  fix:      give a larger whole number"),
    ("PBT", [], "cannot make PBT\n  at:       PBT\n  expected: interval given\n  fix:      --set interval=..."),
])  # fmt: skip
def test_settings_that_do_not_fit_are_refused(name, settings, text):
    assert message(choose_algorithm, name, settings) == text


def test_missing_settings_of_a_scheduler_name_its_option():
    assert message(choose_scheduler, "ASHA", [("min_fidelity", "1")]) == (
        "cannot make ASHA\n  at:       ASHA\n  expected: max_fidelity given\n"
        "  fix:      --scheduler-set max_fidelity=..."
    )


@pytest.mark.parametrize(("text", "reason"), [
    ("REA(__import__('os'))", "cannot find an algorithm"),
    ("REA(os.system('ls'))", "only a name can be called"),
    ("REA(2 ** 3)", "only operations of an evolution are combined, by >>, + and *"),
    ("REA('a' * 9)", "only operations of an evolution are combined, by >>, + and *"),
    ("REA([x for x in ()])", "malformed node"),
    ("REA(", "was never closed"),
    ("REA() + 1 or (3)", "it is no call of a name"),
])  # fmt: skip
def test_an_expression_of_anything_else_is_refused(text, reason):
    assert reason in message(choose_algorithm, text)


def test_too_many_arguments_are_refused():
    assert "cannot make Random" in message(choose_algorithm, "Random(1)")


@pytest.mark.parametrize(("hint", "text"), [(int, "int"), (int | None, "int | None"), (Algorithm, "Algorithm"),
                                            (tuple[int, ...], "tuple[int, ...]")])  # fmt: skip
def test_types_are_shown_without_modules(hint, text):
    assert type_name(hint) == text
    assert type_name(settings_of(mu.algorithms.QLearning)["epsilon"][0]) == "float | Schedule"
