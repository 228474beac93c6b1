"""From a policy to a DNA: most likely, best of several, strongest edges."""

from __future__ import annotations

import math

import pytest

import mutandis as mu
from mutandis.algorithms.oneshot import TopEdges, top_edges
from mutandis.algorithms.oneshot.derive import best_of, most_likely, top_dnas
from mutandis.algorithms.oneshot.tables.policy import Policy
from mutandis.errors import DecisionError, SettingError
from mutandis.hyper import Rng
from mutandis.testing import contract_spaces

NODE = [[0.8, 0.15, 0.05], [0.1, 0.2, 0.7], [0.3, 0.4, 0.3]]
TWO = mu.space([mu.oneof(["a", "b", "c"]), mu.oneof(["a", "b", "c"])]).bare()


def policy(space, rows=None, **options):
    made = Policy(space, Rng(0), **options)
    if rows is not None:
        made.set_state(rows)
    return made


def test_edges_are_as_strong_as_their_best_operation_that_is_not_none():
    assert top_edges(NODE, none=0) == [(1, 2), (2, 1)]


def test_pooled_pairs_may_repeat_an_edge_and_published_edges_may_not():
    rows = [[0.1, 0.46, 0.44], [0.3, 0.4, 0.3], [0.6, 0.25, 0.15]]
    assert top_edges(rows, none=0, pooled=True) == [(0, 1), (0, 2)]
    assert top_edges(rows, none=0) == [(0, 1), (1, 1)]


def test_without_a_none_every_operation_counts():
    assert top_edges(NODE, none=None, keep=1) == [(0, 0)]


def test_equal_edges_keep_their_order():
    assert top_edges([[0.5, 0.5], [0.5, 0.5], [0.5, 0.5]], none=None) == [(0, 0), (1, 0)]


@pytest.mark.parametrize(
    ("path", "none", "message"),
    [("e0", 3, "cannot cut an edge\n  at:       [0]\n  got:      'one of [none, skip, conv]' (str)\n"
      "  expected: a choice with a candidate 3 that cuts it\n"
      "  fix:      put the operation that gives zeros at one place on all edges"),
     ("rate", 0, "cannot cut an edge\n  at:       [1]\n  got:      'float in [0.0, 1.0]' (str)\n"
      "  expected: a choice with a candidate 0 that cuts it\n"
      "  fix:      put the operation that gives zeros at one place on all edges")],
)  # fmt: skip
def test_edges_that_cannot_be_cut_are_refused(path, none, message):
    space = mu.space([mu.oneof(["none", "skip", "conv"], name="e0"), mu.floatv(0.0, 1.0, name="rate")])
    with pytest.raises(SettingError) as caught:
        TopEdges(((path,),), none=none)(policy(space))
    assert str(caught.value) == message


def test_edges_that_do_not_exist_are_refused():
    with pytest.raises(DecisionError):
        TopEdges((("nowhere",),), none=0)(policy(TWO))


def test_the_most_likely_child_takes_active_decisions_only():
    space = mu.space({"x": mu.oneof(["a", {"z": mu.oneof([1, 2])}])})
    assert most_likely(policy(space, [[1.0, 0.0], [0.0, 5.0]])).values == (0, None)
    assert most_likely(policy(space, [[0.0, 1.0], [0.0, 5.0]])).values == (1, 1)


@pytest.mark.parametrize(
    ("value", "rows", "found"),
    [
        (mu.manyof(2, list("abc")), [[0.0, 1.0, 2.0]], (2, 1)),
        (mu.manyof(2, list("abc"), ordered=False), [[0.0, 1.0, 2.0]], (1, 2)),
        (mu.manyof(2, list("abc"), distinct=False), [[0.0, 1.0, 2.0], [3.0, 0.0, 0.0]], (2, 0)),
        (mu.subset(list("abc"), min=0, max=2), [[0.0, 0.0, 1.0], [0.0, 1.0, 2.0]], (1, 2)),
        (mu.subset(list("abc"), min=0, max=2), [[1.0, 0.0, 0.0], [0.0, 1.0, 2.0]], ()),
        (mu.floatv(0.0, 4.0), [[0.0]], 2.0),
        (mu.oneof([1, 2, 3]), [[1.0, 1.0, 0.0]], 0),
    ],
)
def test_the_most_likely_value_of_each_kind(value, rows, found):
    assert most_likely(policy(mu.space(value), rows)).values == (found,)


def test_the_most_likely_children_come_in_order():
    made = policy(TWO, [[0.1, 0.5, -0.2], [0.3, 0.0, 0.4]])
    found = top_dnas(made, 4)
    logs = [float(made.log_prob(dna)) for dna in found]
    assert [dna.values for dna in found[:2]] == [(1, 2), (1, 0)]
    assert {dna.values for dna in found[2:]} == {(0, 2), (1, 1)}
    assert logs == pytest.approx([-1.719211, -1.819211, -2.119211, -2.119211], abs=1e-6)


@pytest.mark.parametrize("name", ["choice", "permutation", "subset", "shared", "int"])
def test_the_most_likely_children_are_exact_in_any_space(name):
    space = contract_spaces()[name].bare()
    made = policy(space, init_std=1.0, most=32)
    ranked = sorted(space.enumerate(), key=lambda dna: -float(made.log_prob(dna)))
    found = top_dnas(made, 12)
    assert found == ranked[:12]


def test_a_decision_below_several_others_is_ranked_with_its_own_chance():
    inner = {"z": mu.oneof([1, 2, 3])}
    space = mu.space([mu.oneof([inner, "b"]), mu.oneof(["c", {"y": mu.oneof([1, 2])}])]).bare()
    made = policy(space, init_std=1.0)
    ranked = sorted(space.enumerate(), key=lambda dna: -float(made.log_prob(dna)))
    assert top_dnas(made, len(ranked) + 5) == ranked


def test_only_what_is_needed_is_looked_at():
    space = mu.space([mu.oneof([1, 2, 3, 4, 5]) for _ in range(40)])
    made = policy(space, init_std=1.0)
    found = top_dnas(made, 20)
    assert found[0] == most_likely(made)
    logs = [float(made.log_prob(dna)) for dna in found]
    assert logs == sorted(logs, reverse=True)


def test_the_best_measured_candidate_wins_and_each_is_measured_once():
    dnas = [TWO.dna({"[0]": a, "[1]": b}) for a, b in [(0, 0), (1, 2), (0, 0), (2, 1)]]
    asked = []
    assert best_of("X", dnas, lambda dna: asked.append(dna) or [0.1, 0.9, 0.9][len(asked) - 1]) == dnas[1]
    assert asked == [dnas[0], dnas[1], dnas[3]]


@pytest.mark.parametrize("bad", [None, math.nan, math.inf])
def test_failures_are_no_candidates(bad):
    dnas = [TWO.dna({"[0]": a, "[1]": 0}) for a in range(2)]
    assert best_of("X", dnas, lambda dna: bad if dna == dnas[0] else -5.0) == dnas[1]
    with pytest.raises(SettingError) as caught:
        best_of("X", dnas, lambda dna: bad)
    assert str(caught.value) == (
        "cannot derive a result\n  at:       X.derive\n  got:      '2 failures' (str)\n"
        "  expected: at least one candidate that could be measured\n"
        "  fix:      look at what evaluate returns: None and nan are failures"
    )


def test_measuring_needs_a_measure():
    with pytest.raises(SettingError) as caught:
        best_of("X", [], None)
    assert str(caught.value) == (
        "cannot derive a result\n  at:       X.derive\n  got:      None (NoneType)\n"
        "  expected: a function that measures a DNA on the shared weights\n"
        "  fix:      pass evaluate=lambda dna: accuracy of shared.materialize(dna)"
    )
