"""Search spaces from the static MobileNetV2, their weights shared."""

from __future__ import annotations

import pytest
import torch

import mutandis as mu
from mutandis.models.mobilenet import (
    filter_choices,
    mobilenet_v2,
    scale_filters,
    search_bottlenecks,
    search_filters,
)

RULES = {"S1": [search_bottlenecks], "S2": [search_filters], "S3": [search_bottlenecks, search_filters]}
X = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def small():
    return mobilenet_v2(stages=[(1, 8, 1, 1), (6, 16, 2, 2)], stem_filters=8, head_filters=16, num_classes=4,
                        in_channels=1, stem_stride=1)  # fmt: skip


def searched(name, program):
    for rule in RULES[name]:
        program.rebind(rule)
    return program


@pytest.fixture(scope="module")
def shared():
    return {name: mu.share_weights(searched(name, small()), X) for name in RULES}


def batches(count):
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(6, 1, 8, 8, generator=generator), torch.arange(6) % 4) for _ in range(count)]


@pytest.mark.parametrize(("name", "size"), [
    ("S1", 6**16), ("S2", 4 * 5 * 6 * 7**4), ("S3", 6**16 * 4 * 5 * 6 * 7**4),
])  # fmt: skip
def test_sixteen_bottlenecks_decide_for_one_of_six_and_seven_stages_for_a_width(name, size):
    assert mu.space(searched(name, mobilenet_v2())).size == size


@pytest.mark.parametrize(("filters", "expected"), [
    (16, [8, 16, 24, 32]), (24, [16, 24, 32, 40, 48]), (32, [16, 24, 32, 40, 48, 64]),
    (64, [32, 40, 48, 64, 80, 96, 128]), (96, [48, 64, 72, 96, 120, 144, 192]),
    (160, [80, 104, 120, 160, 200, 240, 320]), (320, [160, 200, 240, 320, 400, 480, 640]),
])  # fmt: skip
def test_widths_are_multiples_of_eight(filters, expected):
    assert filter_choices(filters) == expected


def test_halves_are_rounded_upwards_and_nothing_is_rounded_to_none():
    assert (scale_filters(24, 0.5), scale_filters(4, 0.5), scale_filters(10, 0.5, 2)) == (16, 8, 6)


@pytest.mark.parametrize("name", RULES)
def test_the_static_network_is_a_child(name):
    space = mu.space(searched(name, mobilenet_v2(num_classes=7)))
    values = {p.path: p.candidates.index({"kernel_size": 3, "expansion": 6}.get(p.hints)) for p in space.points
              if p.hints != "filters"}  # fmt: skip
    widths = iter((16, 24, 32, 64, 96, 160, 320))
    values |= {p.path: p.candidates.index(next(widths)) for p in space.points if p.hints == "filters"}
    assert mu.equal(space.materialize(space.dna(values)), mobilenet_v2(num_classes=7))


def test_the_first_bottleneck_and_what_is_searched_already_are_left_alone():
    program = searched("S3", small())
    before = mu.clone(program)
    assert mu.arguments(mu.arguments(program)["stages"][0])["bottlenecks"][0].expansion == 1
    assert mu.equal(searched("S3", program), before)


def test_the_rules_leave_everything_else_as_it_is():
    assert search_bottlenecks(7) == 7
    assert search_filters("kernel_size", 7) == 7


@pytest.mark.parametrize("name", RULES)
def test_a_child_encodes_to_its_dna_and_a_program_is_saved_and_read(name):
    program = searched(name, small())
    space = mu.space(program)
    assert all(space.encode(space.materialize(space.random(i))) == space.random(i) for i in range(4))
    assert mu.equal(mu.from_json(mu.to_json(program)), program)


@pytest.mark.parametrize("name", RULES)
def test_children_with_shared_weights_are_those_that_are_really_built(shared, name):
    for seed in range(12):
        found = shared[name].verify(shared[name].space.random(seed), X)
        assert found.error < 1e-9
        assert found.positions == "proven"


@pytest.mark.parametrize("name", RULES)
def test_the_shared_weights_are_as_large_as_the_largest_child(shared, name):
    space = shared[name].space
    largest = space.materialize(space.dna({p.path: p.num_candidates - 1 for p in space.points}))
    total = sum(p.numel() for p in shared[name].module.parameters())
    assert total == sum(p.numel() for p in largest.parameters())


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("algorithm", ["TuNAS", "RSPS", "SPOS", "FBNetV2", "TAS"])
def test_an_algorithm_searches_shared_weights(shared, name, algorithm):
    result = mu.one_shot(shared[name], getattr(mu.algorithms, algorithm)(), train=batches(2), valid=batches(2),
                         epochs=1)  # fmt: skip
    assert result.child()(X).shape == (4, 4)


def test_a_target_for_madds_is_kept_to(shared):
    """With nothing to learn from the labels, the reward is the cost alone."""
    cost = mu.flows.fit_cost(shared["S1"], "flops", X[:1])
    costs = sorted(cost(dna) for dna in shared["S1"].space.enumerate())
    target = costs[len(costs) // 3]
    algorithm = mu.algorithms.TuNAS(target=target, exponent=-10.0, learning_rate=0.2, delay=0.0, op_warmup=0.0,
                                    size_warmup=0.0)  # fmt: skip
    result = mu.one_shot(shared["S1"], algorithm, train=batches(1), valid=batches(1), epochs=120, cost=cost,
                         metric=lambda child, batch: 0.0)  # fmt: skip
    assert abs(cost(result.dna) / target - 1) < 0.1


@pytest.mark.parametrize("name", RULES)
def test_a_search_by_trials_runs(name):
    loop = mu.sample(searched(name, small()), mu.algorithms.RegularizedEvolution(4, 2), trials=6)
    for child, feedback in loop:
        feedback(-child(X).square().mean().item())
    assert len(loop.study.trials) == 6


@pytest.mark.slow
def test_the_published_network_shares_weights():
    x = torch.randn(2, 3, 32, 32)
    shared = mu.share_weights(searched("S3", mobilenet_v2(num_classes=10)), x)
    found = shared.verify(shared.space.random(0), x)
    assert found.error < 1e-9
    assert found.positions == "proven"
