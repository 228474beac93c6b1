from __future__ import annotations

import copy
import math
import pickle

import pytest

import mutandis as mu
from mutandis.errors import SettingError, SpaceError, UndecidedError
from mutandis.hyper import ManyOf


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: mu.oneof([]),
            "cannot choose among nothing\n"
            "  at:       oneof.candidates\n"
            "  got:      [] (list)\n"
            "  expected: a list of at least one candidate\n"
            "  fix:      write oneof([a, b])",
        ),
        (
            lambda: mu.oneof("abc"),
            "cannot choose among this\n"
            "  at:       oneof.candidates\n"
            "  got:      'abc' (str)\n"
            "  expected: a list of at least one candidate\n"
            "  fix:      write oneof([a, b])",
        ),
        (
            lambda: mu.manyof(3, [1, 2]),
            "cannot pick so many candidates\n"
            "  at:       manyof.k\n"
            "  got:      3 (int)\n"
            "  expected: an int in [0, 2], the number of candidates\n"
            "  fix:      lower it, add candidates, or pass distinct=False",
        ),
        (
            lambda: mu.subset([1, 2], min=2, max=1),
            "cannot pick a subset\n"
            "  at:       subset.min\n"
            "  got:      2 (int)\n"
            "  expected: at most max=1\n"
            "  fix:      swap min and max",
        ),
        (
            lambda: mu.floatv(1.0, 1.0),
            "cannot make a range\n"
            "  at:       floatv.low\n"
            "  got:      1.0 (float)\n"
            "  expected: less than high=1.0\n"
            "  fix:      swap low and high; a single value needs no decision",
        ),
        (
            lambda: mu.floatv(0.0, 1.0, scale="log"),
            "cannot make a log range\n"
            "  at:       floatv.low\n"
            "  got:      0.0 (float)\n"
            "  expected: a number above 0\n"
            "  fix:      raise low above 0, or use scale='linear'",
        ),
        (
            lambda: mu.intv(1, 8, step=0),
            "cannot make a range\n"
            "  at:       intv.step\n"
            "  got:      0 (int)\n"
            "  expected: a number above 0\n"
            "  fix:      pass a positive step",
        ),
        (
            lambda: mu.intv(1.5, 8),
            "cannot make a range\n"
            "  at:       intv.low\n"
            "  got:      1.5 (float)\n"
            "  expected: an int\n"
            "  fix:      write intv(1, 8)",
        ),
        (
            lambda: mu.oneof([1, 2], default=3),
            "cannot use a default\n"
            "  at:       oneof.default\n"
            "  got:      3 (int)\n"
            "  expected: one of the candidates: 1, 2\n"
            "  fix:      pass one of the candidates, the same object or an equal one",
        ),
        (
            lambda: mu.intv(1, 9, step=2, default=4),
            "cannot use a default\n"
            "  at:       intv.default\n"
            "  got:      4 (int)\n"
            "  expected: a value in [1, 9] at 1 + i * 2\n"
            "  fix:      move the default into the range",
        ),
        (
            lambda: mu.manyof(2, [1, 2, 3], default=[1, 1]),
            "cannot use a default\n"
            "  at:       manyof.default\n"
            "  got:      [1, 1] (list)\n"
            "  expected: a list of 2 different candidates\n"
            "  fix:      pass a list of candidates",
        ),
    ],
)
def test_a_space_that_cannot_be_is_refused_with_the_whole_story(make, message):
    with pytest.raises(SpaceError) as error:
        make()
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: mu.oneof([1, 2], when="steps"),
            "cannot use a setting\n"
            "  at:       oneof.when\n"
            "  got:      'steps' (str)\n"
            "  expected: one of 'build', 'step', 'sample'; did you mean 'step'?\n"
            "  fix:      pass when='build'",
        ),
        (
            lambda: mu.floatv(1.0, 2.0, scale="exp"),
            "cannot use a setting\n"
            "  at:       floatv.scale\n"
            "  got:      'exp' (str)\n"
            "  expected: one of 'linear', 'log'\n"
            "  fix:      pass scale='linear'",
        ),
        (
            lambda: mu.boolv(name=3),
            "cannot name a decision\n"
            "  at:       boolv.name\n"
            "  got:      3 (int)\n"
            "  expected: a text\n"
            "  fix:      pass name='width'",
        ),
    ],
)
def test_a_bad_setting_is_refused_with_the_whole_story(make, message):
    with pytest.raises(SettingError) as error:
        make()
    assert str(error.value) == message


@pytest.mark.parametrize(
    "text",
    [
        "oneof([16, 32], name='width')",
        "oneof([1, 2], hints='h', default=2, when='step')",
        "manyof(2, [1, 2, 3])",
        "manyof(2, [1, 2, 3], distinct=False, ordered=False)",
        "permutate([1, 2])",
        "subset([1, 2, 3], min=1, max=2)",
        "floatv(0.001, 1.0, scale='log')",
        "intv(1, 9, step=2)",
        "boolv(default=True)",
        "oneof([1, [floatv(0.0, 1.0)]])",
    ],
)
def test_a_repr_reads_as_code(text):
    names = {name: getattr(mu, name) for name in ("oneof", "manyof", "permutate", "subset", "floatv", "intv", "boolv")}
    assert repr(eval(text, names)) == text


def test_settings_rebuild_the_value():
    value = mu.oneof([1, [mu.intv(1, 2)]], name="n", default=1, hints={"a": 1}, when="sample")
    again = type(value)(**value._mu_settings_())
    assert repr(again) == repr(value)
    other = value._mu_replace_({"candidates": ["x", "y"]})
    assert (other.default, other.name, other.when) == ("x", "n", "sample")


def test_true_is_no_candidate_where_one_is():
    with pytest.raises(SpaceError):
        mu.oneof([0, 1], default=True)


@pytest.mark.parametrize(
    "value", [mu.oneof([1, 2], name="w"), mu.subset([1, 2]), mu.floatv(0.0, 1.0), mu.boolv(default=False)]
)
def test_values_copy_and_pickle(value):
    assert repr(copy.deepcopy(value)) == repr(pickle.loads(pickle.dumps(value))) == repr(value)


def test_identity_survives_a_copy_of_the_whole():
    value = mu.oneof([1, 2])
    for made in (copy.deepcopy([value, value]), pickle.loads(pickle.dumps([value, value]))):
        assert made[0] is made[1]
        assert mu.space(made).size == 2


def test_values_are_equal_by_identity_only():
    a, b = mu.oneof([1, 2]), mu.oneof([1, 2])
    assert a == a and a != b
    assert len({a, b}) == 2


@pytest.mark.parametrize(
    "use",
    [
        bool, int, float, iter, len, list, range, lambda v: [1, 2][v], lambda v: v[0], lambda v: v(),
        lambda v: v == 1, lambda v: v != 1, lambda v: v < 1, lambda v: v >= 1, lambda v: max(v, 3), lambda v: v.shape,
        lambda v: 1 in v, lambda v: f"{v:.2f}", lambda v: math.sqrt(v), lambda v: v @ v, lambda v: v & 1, complex,
    ],
)  # fmt: skip
def test_use_as_a_decided_value_is_refused(use):
    for value in (mu.oneof([1, 2]), mu.oneof([1, 2]) * 2):
        with pytest.raises(UndecidedError, match=r"mu\.derive"):
            use(value)


def test_the_refusal_is_whole():
    with pytest.raises(UndecidedError) as error:
        bool(mu.oneof([1, 2]))
    assert str(error.value) == (
        "cannot use a value as a condition: it is not decided yet\n"
        "  got:      oneof([1, 2]) (OneOf)\n"
        "  expected: a decided value\n"
        "  fix:      pass it to something symbolic (a class with @mu.symbolize, mu.nn.Conv2d, mu.bind(f, ...)), or "
        "compute with it by mu.derive(f, value)"
    )


def test_the_remedy_names_the_plain_class_it_was_handed_to():
    class Plain:
        def __init__(self, size):
            self.items = list(range(size))

    with pytest.raises(UndecidedError, match=r"decorate Plain with @mu.symbolize, or write mu\.bind\(Plain, \.\.\.\)"):
        Plain(mu.oneof([1, 2]))


def test_unordered_picks_follow_the_candidates():
    space = mu.space(mu.manyof(2, ["a", "b", "c"], ordered=False))
    assert space.materialize(space.dna({"": [2, 0]})) == ["a", "c"]


def test_subsets_are_drawn_uniformly():
    space = mu.space(mu.subset([1, 2, 3]))
    counts: dict[tuple[int, ...], int] = {}
    for seed in range(1600):
        picks = space.random(seed)[""]
        counts[picks] = counts.get(picks, 0) + 1
    assert len(counts) == 8
    assert min(counts.values()) > 150


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: mu.manyof(1, []),
            "cannot choose among nothing\n"
            "  at:       manyof.candidates\n"
            "  got:      [] (list)\n"
            "  expected: a list of at least one candidate\n"
            "  fix:      write manyof(k, [a, b])",
        ),
        (
            lambda: mu.oneof({"a": 1}),
            "cannot choose among this\n"
            "  at:       oneof.candidates\n"
            "  got:      {'a': 1} (dict)\n"
            "  expected: a list of at least one candidate\n"
            "  fix:      write oneof([a, b])",
        ),
        (
            lambda: mu.oneof(mu.oneof([1, 2])),
            "cannot choose among this\n"
            "  at:       oneof.candidates\n"
            "  got:      oneof([1, 2]) (OneOf)\n"
            "  expected: a list of at least one candidate\n"
            "  fix:      write oneof([a, b])",
        ),
        (
            lambda: mu.subset([1, 2], max=3),
            "cannot pick so many candidates\n"
            "  at:       subset.min, max\n"
            "  got:      3 (int)\n"
            "  expected: an int in [0, 2], the number of candidates\n"
            "  fix:      lower it, or add candidates",
        ),
        (
            lambda: mu.manyof(-1, [1], distinct=False),
            "cannot pick so many candidates\n"
            "  at:       manyof.k\n"
            "  got:      -1 (int)\n"
            "  expected: an int >= 0\n"
            "  fix:      pass a whole number of picks",
        ),
        (
            lambda: mu.manyof(True, [1]),
            "cannot pick so many candidates\n"
            "  at:       manyof.k\n"
            "  got:      True (bool)\n"
            "  expected: an int in [0, 1], the number of candidates\n"
            "  fix:      pass a whole number of picks",
        ),
        (
            lambda: mu.intv(4, 2),
            "cannot make a range\n"
            "  at:       intv.low\n"
            "  got:      4 (int)\n"
            "  expected: less than high=2\n"
            "  fix:      swap low and high; a single value needs no decision",
        ),
        (
            lambda: mu.intv(-1, 4, scale="log"),
            "cannot make a log range\n"
            "  at:       intv.low\n"
            "  got:      -1 (int)\n"
            "  expected: a number above 0\n"
            "  fix:      raise low above 0, or use scale='linear'",
        ),
        (
            lambda: mu.floatv(math.nan, 1.0),
            "cannot make a range\n"
            "  at:       floatv.low\n"
            "  got:      nan (float)\n"
            "  expected: a finite number\n"
            "  fix:      write floatv(0.0, 1.0)",
        ),
        (
            lambda: mu.evolve([1], []),
            "cannot evolve a program\n"
            "  at:       evolve.rules\n"
            "  got:      [] (list)\n"
            "  expected: one or more functions rule(program, rng) that return a program\n"
            "  fix:      pass a function or a list of functions",
        ),
        (
            lambda: mu.evolve([mu.oneof([1, 2])], lambda program, rng: program),
            "cannot evolve a program\n"
            "  at:       evolve.seed_program\n"
            "  got:      [oneof([1, 2])] (list)\n"
            "  expected: a program without hyper values\n"
            "  fix:      decide them, or let a rule change those places",
        ),
    ],
)
def test_other_spaces_that_cannot_be_are_refused_with_the_whole_story(make, message):
    with pytest.raises(SpaceError) as error:
        make()
    assert str(error.value) == message


@pytest.mark.parametrize(
    "value",
    [
        lambda: mu.oneof([1, 2, 3]),
        lambda: mu.subset([1, 2], min=1),
        lambda: mu.intv(1, 3),
        lambda: mu.floatv(0.0, 1.0, step=0.5),
        lambda: mu.manyof(1, [1, 2, 3]),
        lambda: mu.boolv(),
    ],
)
def test_a_clone_has_decisions_of_its_own(value):
    program = [value()]
    space = mu.space([program, mu.clone(program)])
    assert len(space.points) == 2
    assert space.size == mu.space(program).size ** 2


def test_a_value_whose_constructor_refused_can_be_shown():
    half_built = object.__new__(ManyOf)
    assert repr(half_built) == "<manyof without settings>"
    with pytest.raises(AttributeError, match="k_min"):
        _ = half_built.k_min
