from __future__ import annotations

import json
import pickle

import pytest

from mutandis.errors import SettingError
from mutandis.hyper import Rng, as_rng, uniform_at

KNOWN_A = 0.3462394506703623
KNOWN_B = 0.06520773164288585


def test_the_stream_never_changes():
    assert [Rng(0, "a").random(), Rng(0, "b").random()] == [KNOWN_A, KNOWN_B]


def test_names_and_types_of_names_make_streams():
    assert len({Rng(s, *n).random() for s, n in [(0, ()), (1, ()), (0, ("a",)), (0, (0,)), ("0", ())]}) == 5


def test_a_stream_goes_on_from_its_state():
    rng = Rng(3)
    for _ in range(13):
        rng.random()
        state = json.loads(json.dumps(rng.state()))
        again = Rng()
        again.set_state(state)
        copied = pickle.loads(pickle.dumps(rng))
        assert [again.random() for _ in range(9)] == [copied.random() for _ in range(9)]


def test_deriving_does_not_move_the_stream():
    a, b = Rng(0), Rng(0)
    child = a.derive("x")
    assert a.random() == b.random()
    assert child.random() == Rng(0).derive("x").random() != Rng(0).derive("y").random()


def test_all_methods_of_random_work_and_repeat():
    def numbers(rng):
        items = list(range(9))
        rng.shuffle(items)
        return [rng.randrange(10**30), rng.gauss(0, 1), rng.sample(range(9), 3), rng.choice("abc"), items,
                rng.getrandbits(7), rng.uniform(1, 2)]  # fmt: skip

    assert numbers(Rng(1)) == numbers(Rng(1))
    assert 0 <= Rng(1).getrandbits(7) < 128


def test_numbers_are_uniform():
    rng = Rng(0)
    values = [rng.random() for _ in range(4000)]
    assert abs(sum(values) / 4000 - 0.5) < 0.02
    assert min(values) >= 0 and max(values) < 1
    places = [uniform_at(0, "x", i) for i in range(2000)]
    assert abs(sum(places) / 2000 - 0.5) < 0.03


def test_a_generator_stays_what_it_is():
    rng = Rng(0)
    assert as_rng(rng) is rng
    assert as_rng(5, "x").random() == Rng(5, "x").random()


def test_bad_seeds_and_states_are_refused():
    with pytest.raises(SettingError, match="cannot seed a generator"):
        Rng([1])
    with pytest.raises(SettingError, match="cannot restore a generator"):
        Rng().set_state([1, 2])
