"""The ensemble of linear models: closed forms, leave-one-out by hand, programs of any length."""

from __future__ import annotations

import numpy as np
import pytest

import mutandis as mu
from mutandis.algorithms.predictors.ranks import kendall_tau
from mutandis.algorithms.predictors.ridge import _PENALTIES, RidgeEnsemble, ridge
from mutandis.errors import SettingError

SPACE = mu.space([mu.oneof(list("abcd")) for _ in range(5)]).bare()


def product_of_two(dna):
    return float((dna.values[0] == dna.values[1]) - 0.1 * dna.values[2])


def quality(predictor, count=150):
    dnas = [SPACE.random(seed) for seed in range(count + 150)]
    truth = [product_of_two(dna) for dna in dnas]
    regressor = predictor.start(SPACE, seed=0)
    regressor.fit(dnas[:count], truth[:count])
    return kendall_tau(regressor.predict(dnas[count:])[0], truth[count:])


def left_out_errors(columns, scores, penalty):
    centred, rest = columns - columns.mean(0), scores - scores.mean()
    found = []
    for i in range(len(scores)):
        keep = np.arange(len(scores)) != i
        inner = centred[keep]
        weights = np.linalg.solve(inner.T @ inner + penalty * np.eye(columns.shape[1]), inner.T @ rest[keep])
        found.append(rest[i] - centred[i] @ weights)
    return float(np.sum(np.square(found)))


def test_the_penalty_has_the_smallest_leave_one_out_error():
    rng = np.random.default_rng(1)
    columns = rng.standard_normal((15, 6))
    scores = columns[:, 0] + 0.7 * rng.standard_normal(15)
    penalty = min(_PENALTIES, key=lambda p: left_out_errors(columns, scores, p))
    assert penalty not in (_PENALTIES[0], _PENALTIES[-1])
    centred, rest = columns - columns.mean(0), scores - scores.mean()
    expected = np.linalg.solve(centred.T @ centred + penalty * np.eye(6), centred.T @ rest)
    assert ridge(columns, scores).weights == pytest.approx(expected, abs=1e-10)


def test_interactions_find_what_two_decisions_do_together():
    assert quality(RidgeEnsemble()) > 0.7
    assert quality(RidgeEnsemble(interactions=False)) < 0.55


def test_members_differ_and_their_spread_is_the_deviation():
    dnas = [SPACE.random(seed) for seed in range(30)]
    regressor = RidgeEnsemble(3).start(SPACE, seed=0)
    regressor.fit(dnas, [product_of_two(dna) for dna in dnas])
    columns = regressor._columns(dnas[:4])
    single = np.stack([(columns - m.offset) @ m.weights + m.level for m in regressor._members])
    mean, deviation = regressor.predict(dnas[:4])
    assert len({tuple(m.weights) for m in regressor._members}) == 3
    assert mean == pytest.approx(single.mean(0))
    assert deviation == pytest.approx(single.std(0))


def test_a_fit_leaves_no_trace_in_the_next():
    dnas = [SPACE.random(seed) for seed in range(20)]
    used, fresh = (RidgeEnsemble().start(SPACE, seed=0) for _ in range(2))
    used.fit(dnas[:13], list(range(13)))
    for regressor in (used, fresh):
        regressor.fit(dnas, list(range(20)))
    assert used.predict(dnas)[0].tolist() == fresh.predict(dnas)[0].tolist()


def test_fewer_results_than_members_are_fitted():
    regressor = RidgeEnsemble(5).start(SPACE, seed=0)
    regressor.fit([SPACE.random(0)], [2.0])
    mean, deviation = regressor.predict([SPACE.random(1)])
    assert np.isfinite(mean).all() and (deviation > 0).all()


def growing():
    blocks = [{"op": mu.oneof(["bad", "fair", "good"], name=f"op {i}")} for i in range(4)]
    return mu.space(mu.oneof([blocks[: i + 1] for i in range(4)])).bare()


def test_pooled_columns_carry_over_to_longer_programs():
    space = growing()
    short = [dna for dna in space.enumerate() if dna.values[0] < 2]
    long = [dna for dna in space.enumerate() if dna.values[0] == 3]

    def mean(dna):
        return float(np.mean([value for value in dna.values[1:] if value is not None]))

    found = {}
    for pooled in (False, True):
        regressor = RidgeEnsemble(interactions=False, pooled=pooled).start(space, seed=0)
        regressor.fit(short, [mean(dna) for dna in short])
        found[pooled] = kendall_tau(regressor.predict(long)[0], [mean(dna) for dna in long])
    assert found[True] > 0.8 > found[False]


def test_one_member_is_refused():
    with pytest.raises(SettingError, match=r"RidgeEnsemble.num_members"):
        RidgeEnsemble(1)
