"""Which decisions a fact depends on."""

from __future__ import annotations

import pytest
from torch import nn

import mutandis as mu
from mutandis.errors import LoweringError
from mutandis.flows.supernet.lowering.children import Builder
from mutandis.flows.supernet.lowering.dependencies import Dependencies, is_number


def explored(program):
    known = Dependencies(Builder(mu.space(program), 0))
    known.explore(0)
    return known


@mu.symbolize
class Net(nn.Module):
    def __init__(self, a, b, c=0, d=0):
        super().__init__()
        self.layer = nn.Linear(a, b)
        self.both = a * b
        self.larger = max(a, b)
        self.rare = a == 3 and b == 2 and c == 1
        self.plain = 7


def depends(known, path, aspect):
    return known.of[path, aspect]


def test_each_fact_depends_on_what_changes_it():
    known = explored(Net(mu.oneof([1, 2]), mu.oneof([1, 2, 3])))
    assert depends(known, "", ".both") == depends(known, "", ".larger") == {0, 1}
    assert depends(known, "layer", ".in_features") == {0} and depends(known, "layer", ".out_features") == {1}
    assert depends(known, "layer", "tensors") == {0, 1}
    assert depends(known, "", ".plain") == depends(known, "", "layers") == set()


def test_what_a_rare_combination_changes_is_found_in_a_small_space():
    known = explored(Net(mu.oneof([1, 2, 3]), mu.oneof([1, 2, 3]), mu.oneof([0, 1, 2])))
    assert depends(known, "", ".rare") == {0, 1, 2}


def test_a_child_that_is_not_as_expected_is_noticed_and_explained():
    wide = [mu.intv(1, 9) for _ in range(3)]
    known = explored(Net(*wide))
    assert depends(known, "", ".rare") == set()  # A thousandth of the children: none of those built.
    assert not known.learn(known.child((3, 2, 1)))
    assert depends(known, "", ".rare")
    assert known.learn(known.child((3, 2, 1)))


@mu.symbolize
class Tower(nn.Module):
    """Layers of which the first ones run, each with a width, and one that reads the last of them."""

    def __init__(self, depth, *widths):
        super().__init__()
        inputs = [2, *widths]
        self.body = nn.Sequential(*(nn.Linear(a, b) for a, b in zip(inputs[:depth], widths[:depth], strict=True)))
        self.read = nn.Linear(widths[depth - 1], 1)


def test_widths_are_varied_at_depths_between_the_extremes():
    """The third one counts at the largest depth and the first one at the smallest; the second at a depth of 2 alone."""
    widths = [mu.intv(1, 64) for _ in range(3)]  # So many that random children seldom agree in all but one.
    known = explored(Tower(mu.oneof([1, 2, 3]), *widths))
    assert depends(known, "read", "tensors") == {0, 1, 2, 3}
    assert depends(known, "body.1", "tensors") == {1, 2} and depends(known, "body.0", "tensors") == {1}


def test_conditional_decisions_are_varied_where_they_are_active():
    inner = mu.oneof([1, 2])
    known = explored(mu.nn.Sequential(mu.oneof([mu.nn.ReLU(), mu.nn.Linear(2, inner)])))
    assert depends(known, "0", "kind") == {0} and depends(known, "0", "tensors") >= {1}


def test_existence_is_a_fact_of_its_own():
    @mu.symbolize
    class Deep(nn.Module):
        def __init__(self, depth, width):
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))

    known = explored(Deep(mu.oneof([1, 3]), mu.oneof([2, 4])))
    assert depends(known, "layers.2", "exists") == {0} and depends(known, "layers.2", "tensors") == {1}
    assert depends(known, "layers", "layers") == {0}


def test_the_extremes_are_the_largest_and_the_smallest_by_weights():
    @mu.symbolize
    class Shrinking(nn.Linear):
        def __init__(self, divisor, width, act):
            super().__init__(16 // divisor, width)
            self.act = act

    known = explored(Shrinking(mu.oneof([4, 1, 2]), mu.intv(2, 5), mu.oneof(["a", "b"])))
    assert known.extreme(True) == (1, 5, 0)
    assert known.extreme(False, (0, 3, 1)) == (1, 2, 1)  # The smallest divisor, whatever it makes.


def test_numbers_are_ints_and_floats():
    assert is_number(3) and is_number(2.5) and not is_number(True) and not is_number("3")
    known = explored(Net(mu.intv(1, 2), 2, mu.oneof(["x", "y"]), mu.boolv()))
    assert [known.is_number(p) for p in known._space.points] == [True, False, False]
    assert [known.literal(i, v) for i, v in enumerate((2, 1, 1))] == [2, "y", True]


def test_combinations_that_cannot_be_built_are_passed_over():
    @mu.symbolize
    class Picky(nn.Linear):
        def __init__(self, a, b):
            if a > b:
                raise ValueError("a > b")
            super().__init__(a, b)

    known = explored(Picky(mu.oneof([1, 2]), mu.oneof([1, 2])))
    assert depends(known, "", ".out_features") == {1}

    @mu.symbolize
    class Never(nn.Linear):
        def __init__(self, a):
            raise ValueError("never")

    with pytest.raises(ValueError, match="never"):
        explored(Never(mu.oneof([1, 2])))


def test_a_weight_that_an_attribute_holds_is_refused():
    @mu.symbolize
    class Alias(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.layer = nn.Linear(2, width)
            self.mine = [self.layer.weight]

    with pytest.raises(LoweringError, match="a plain attribute holds beside the registered one") as error:
        explored(Alias(mu.oneof([1, 2])))
    assert error.value.at == "mine"


def test_every_candidate_is_tried_at_every_place_of_a_choice_of_many():
    ops = [mu.nn.Linear(2, 2, bias=b % 2 == 0) if b else mu.nn.ReLU() for b in range(6)]
    program = mu.manyof(3, ops)
    known = explored(mu.bind(_stack, program))
    seen = {(place, pick) for values in known.children for place, pick in enumerate(values[0])}
    assert seen == {(place, pick) for place in range(3) for pick in range(6)}


def _stack(layers) -> nn.Sequential:
    return nn.Sequential(*layers)


def test_what_is_remembered_does_not_grow_without_end(monkeypatch):
    known = explored(Net(*(mu.intv(1, 9) for _ in range(3))))
    before = len(known.seen(("", ".both")))
    monkeypatch.setattr("mutandis.flows.supernet.lowering.dependencies._MOST", before)
    for number in range(1, 10):
        assert known.learn(known.child((number, 10 - number, 5)))
    assert len(known.seen(("", ".both"))) == before
