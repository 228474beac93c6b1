"""Every algorithm of trials searches a program whose weights are shared, without a word of change."""

from __future__ import annotations

import functools

import pytest
import torch
from workers import contract_algorithms

import mutandis as mu
from mutandis.algorithms import GNAS, NSGA2, NSGA3, TPE, RegularizedEvolution

ALGORITHMS = {**contract_algorithms(), "GNAS": GNAS((("choice",),))}
del ALGORITHMS["PNAS"]  # Climbs the levels of programs that grow, which this one does not.
X = torch.linspace(-1.0, 1.0, 2 * 3 * 6 * 6).reshape(2, 3, 6, 6)


@functools.cache
def shared():
    """Returns a program with a width and three operations."""
    width = mu.oneof([2, 4])
    block = mu.oneof([mu.nn.Conv2d(width, width, 3, padding=1), mu.nn.ReLU(), mu.nn.Identity()], name="choice")
    torch.manual_seed(0)
    net = mu.nn.Sequential(mu.nn.Conv2d(3, width, 1), block, mu.nn.Conv2d(width, 2, 1))
    return mu.share_weights({"op": net}, X)


def worth(program):
    with torch.no_grad():
        return -float(program["op"](X).square().mean())


def search(algorithm, trials, **options):
    loop = mu.sample(shared(), algorithm, trials=trials, seed=1, **options)
    found = []
    for child, feedback in loop:
        value = worth(child)
        found.append((feedback.dna, value))
        feedback(value if "objectives" not in options else {"worth": value, "width": child["op"][0].out_channels})
    return loop.study, found


@pytest.mark.parametrize("name", ALGORITHMS)
def test_children_of_every_algorithm_run_on_the_shared_weights(name):
    study, found = search(ALGORITHMS[name], 10)
    assert found and len(study.trials) == len(found)
    for dna, value in found[-2:]:
        assert worth(shared().export(dna)) == pytest.approx(value, abs=1e-5)
    longest = max(trial.fidelity or 0.0 for trial in study.trials)
    assert study.best.reward == max(trial.reward for trial in study.trials if (trial.fidelity or 0.0) == longest)


@pytest.mark.parametrize("algorithm", [NSGA2(population_size=4), NSGA3(population_size=4)])
def test_several_objectives_lead_to_a_front_of_children(algorithm):
    study, _ = search(algorithm, 12, objectives=("worth", "-width"))
    assert study.front
    for trial in study.front:
        child = shared().export(trial.dna)
        assert trial.metrics["width"] == child["op"][0].out_channels


@pytest.mark.parametrize("algorithm", [RegularizedEvolution(4, 2), TPE(num_startup=4)])
def test_the_best_of_all_children_is_found(algorithm):
    best = max(worth(shared().materialize(dna)) for dna in shared().space.enumerate())
    study, _ = search(algorithm, 40)
    assert study.best.reward == pytest.approx(best, abs=1e-6)
