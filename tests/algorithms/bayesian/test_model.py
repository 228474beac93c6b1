"""Gaussian-process regression: known posteriors, gradients, hyper-parameters."""

from __future__ import annotations

import math

import numpy as np
import pytest

import mutandis as mu
from mutandis.algorithms.bayesian.features import Features
from mutandis.algorithms.bayesian.kernel import Hyper
from mutandis.algorithms.bayesian.model import CENTRE, Posterior, cholesky, fit, loss, make_problem
from mutandis.hyper import space

SPACE = space([mu.oneof(["a", "b"], name="op"), mu.floatv(0.0, 1.0, name="x")])
HYPER = Hyper(amplitude=1.0, noise=1e-6, scales=(0.5, 0.5))
LABELS = np.array([0.0, 1.0, 0.5])


def rows(*points):
    features = Features(SPACE.bare())
    return features.encode(features.place([SPACE.dna({"x": x, "op": op}) for x, op in points]))


def posterior(extra=()):
    return Posterior(HYPER, Features(SPACE.bare()).owner, rows((0.0, 0), (1.0, 0), (0.5, 1), *extra), LABELS)


@pytest.mark.parametrize(
    ("point", "mean", "deviation"),
    [
        ((0.75, 0), 0.8459108014125657, 0.362683827825044),
        ((0.75, 1), 0.5408007351640282, 0.41162252595197),
        ((0.25, 0), 0.23504887418088266, 0.36268382782504427),
    ],
)
def test_the_posterior_has_its_known_values(point, mean, deviation):
    found = posterior().predict(rows(point))
    assert found[0][0] == pytest.approx(mean, abs=1e-10)
    assert found[1][0] == pytest.approx(deviation, abs=1e-10)


def test_the_level_is_that_of_generalised_least_squares():
    features, owner = rows((0.0, 0), (1.0, 0), (0.5, 1)), Features(SPACE.bare()).owner
    weighted = features * HYPER.column_weights(owner)
    r = np.sqrt(5 * ((weighted[:, None] - weighted[None]) ** 2).sum(axis=2))
    inverse = np.linalg.inv((1 + r + r * r / 3) * np.exp(-r) + 1e-6 * np.eye(3))
    level = inverse.sum(axis=0) @ LABELS / inverse.sum()
    model = Posterior(HYPER, owner, features, LABELS, has_level=True)
    assert model.level == pytest.approx(level, abs=1e-10)
    plain = Posterior(HYPER, owner, features, LABELS - level)
    place = rows((0.75, 0), (0.1, 1))
    np.testing.assert_allclose(model.predict(place)[0], plain.predict(place)[0] + level, atol=1e-10)
    assert model.gradient(place[0])[0] == pytest.approx(model.predict(place)[0][0], abs=1e-12)
    assert posterior().level == 0.0


def test_far_from_all_results_the_process_is_at_its_level():
    narrow = Hyper(amplitude=1.0, noise=1e-6, scales=(0.01, 0.01))
    model = Posterior(
        narrow, Features(SPACE.bare()).owner, rows((0.0, 0), (0.1, 0)), np.array([3.0, 5.0]), has_level=True
    )
    assert model.predict(rows((1.0, 1)))[0][0] == pytest.approx(4.0, abs=1e-4)


def test_labels_that_are_shifted_shift_the_process():
    features, owner = rows((0.0, 0), (1.0, 0), (0.5, 1)), Features(SPACE.bare()).owner
    place = rows((0.75, 0))
    found = [Posterior(HYPER, owner, features, LABELS + shift, has_level=True).predict(place) for shift in (0.0, 7.0)]
    np.testing.assert_allclose(found[1][0], found[0][0] + 7.0, atol=1e-9)
    np.testing.assert_allclose(found[1][1], found[0][1], atol=1e-12)


def test_points_without_a_label_lower_the_deviation_and_leave_the_mean():
    before, after = posterior(), posterior(extra=[(0.75, 0)])
    place = rows((0.75, 0), (0.1, 1))
    np.testing.assert_allclose(after.predict(place)[0], before.predict(place)[0], atol=1e-12)
    assert after.predict(place)[1][0] < 2e-3
    assert after.predict(place)[1][1] < before.predict(place)[1][1]


def test_gradients_of_the_posterior_are_derivatives():
    model, place, step = posterior(extra=[(0.3, 1)]), rows((0.6, 0))[0], 1e-6
    mean, deviation, by_mean, by_deviation = model.gradient(place)
    column = Features(SPACE.bare()).decisions[1].columns.start
    moved = np.array([place, place])
    moved[:, column] += [-step, step]
    means, deviations = model.predict(moved)
    assert (mean, deviation) == pytest.approx([float(v[0]) for v in model.predict(place[None])], abs=1e-12)
    assert by_mean[column] == pytest.approx((means[1] - means[0]) / (2 * step), rel=1e-5)
    assert by_deviation[column] == pytest.approx((deviations[1] - deviations[0]) / (2 * step), rel=1e-5)


def data(count=12):
    generator = np.random.default_rng(3)
    features = Features(SPACE.bare())
    dnas = [SPACE.random(seed) for seed in range(count)]
    labels = np.array([math.sin(4 * dna["x"]) + 0.3 * dna["op"] for dna in dnas]) + 0.01 * generator.normal(size=count)
    return features.encode(features.place(dnas)), features.owner, labels


def test_the_loss_is_the_negative_log_posterior():
    encoded, owner, labels = data()
    logs = np.log([0.5, 0.02, 0.3, 0.7])
    weighted = encoded * Hyper(0.5, 0.02, (0.3, 0.7)).column_weights(owner)
    r2 = ((weighted[:, None] - weighted[None]) ** 2).sum(axis=2)
    r = np.sqrt(5 * r2)
    matrix = 0.5 * (1 + r + r * r / 3) * np.exp(-r) + 0.02 * np.eye(len(labels))
    expected = 0.5 * labels @ np.linalg.solve(matrix, labels) + 0.5 * np.linalg.slogdet(2 * np.pi * matrix)[1]
    centre = np.log([0.039, 0.0039, 0.5, 0.5])
    expected += 0.01 * ((logs - centre) ** 2).sum()
    assert loss(logs, make_problem(encoded, owner, 2, labels))[0] == pytest.approx(expected, rel=1e-10)


def test_the_gradient_of_the_loss_is_its_derivative():
    encoded, owner, labels = data()
    problem, logs, step = make_problem(encoded, owner, 2, labels), np.log([0.5, 0.02, 0.3, 0.7]), 1e-5
    numeric = [
        (loss(logs + step * unit, problem)[0] - loss(logs - step * unit, problem)[0]) / (2 * step) for unit in np.eye(4)
    ]
    assert loss(logs, problem)[1] == pytest.approx(numeric, rel=1e-6)


def test_a_fit_finds_which_decision_matters():
    features = Features(SPACE.bare())
    dnas = [SPACE.random(seed) for seed in range(30)]
    encoded = features.encode(features.place(dnas))
    labels = np.array([math.sin(6 * dna["x"]) for dna in dnas])
    found = fit(encoded, features.owner, 2, labels, None)
    assert found.scales[0] > 5 * found.scales[1]
    assert found.noise < 1e-3


def test_a_fit_never_ends_above_its_start():
    encoded, owner, labels = data()
    start = Hyper(1.0, 0.01, (1.0, 0.1))
    found, problem = fit(encoded, owner, 2, labels, start), make_problem(encoded, owner, 2, labels)
    logs = [np.log([h.amplitude, h.noise, *h.scales]) for h in (found, start)]
    assert loss(logs[0], problem)[0] <= loss(logs[1], problem)[0]


def test_hyper_parameters_stay_within_their_bounds():
    encoded, owner, _ = data()
    found = fit(encoded, owner, 2, np.zeros(len(encoded)), CENTRE_OF_TWO)
    assert 1e-3 <= found.amplitude <= 10
    assert 1e-10 <= found.noise <= 1
    assert all(1e-2 <= scale <= 1e2 for scale in found.scales)


CENTRE_OF_TWO = Hyper(CENTRE.amplitude, CENTRE.noise, CENTRE.scales * 2)


def test_a_singular_matrix_gets_a_larger_diagonal():
    matrix = np.ones((3, 3))
    factor, _ = cholesky(matrix, 1.0)
    np.testing.assert_allclose(factor @ factor.T, matrix, atol=1e-6)


def test_a_regular_matrix_is_left_as_it_is():
    root = np.random.default_rng(0).normal(size=(75, 75))
    matrix = root @ root.T + np.eye(75)
    factor, inverse = cholesky(matrix, 1.0)
    np.testing.assert_allclose(factor, np.linalg.cholesky(matrix), atol=1e-10)
    np.testing.assert_allclose(inverse @ factor, np.eye(75), atol=1e-10)
