"""The space of TAS: its candidates and size, its published networks, and its children on shared weights."""

from __future__ import annotations

import pytest
import torch

import mutandis as mu
from mutandis.errors import LoweringError, SettingError
from mutandis.models.resnet import (
    CifarResNet,
    depth_candidates,
    full_widths,
    resnet_macs,
    resnet_program,
    thinned_widths,
    width_candidates,
)

# What TAS found, from the configurations of its released code: widths without the image's, depths, classes, and the
# estimated cost in millions.
PUBLISHED = {
    "ResNet-20 on CIFAR-10": (
        "16 6 4 4 4 4 4 32 32 12 19 32 28 64 64 64 64 64 44", [3, 3, 3], 10, 22.444472,
    ),
    "ResNet-20 on CIFAR-100": (
        "16 4 4 4 4 6 4 32 32 9 19 32 28 64 64 64 64 64 64", [3, 3, 3], 100, 22.433792,
    ),
    "ResNet-32 on CIFAR-10": (
        "16 6 4 12 4 4 16 9 9 6 14 32 32 9 19 28 9 32 19 32 9 64 64 64 64 64 64 64 32 38 32", [5, 5, 5], 10, 34.945344,
    ),
    # The estimate of the configuration of ResNet-56, 57.93305, takes the blocks that are left out for the input of the
    # next stage.
    "ResNet-56 on CIFAR-10": (
        "16 16 16 14 11 9 16 12 16 6 16 4 8 4 14 6 4 4 4 32 32 32 32 32 32 22 28 32 32 19 9 19 16 9 25 16 9 64 64 64 "
        "64 64 64 64 64 64 51 19 19 32 19 19 32 19 25", [5, 5, 5], 10, 59.85843,
    ),
}  # fmt: skip
SMALL = {"base": 8, "ratios": (0.5, 0.75, 1.0), "num_classes": 5}


def images(size=8):
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks_cost_what_their_authors_say(name):
    widths, depths, num_classes, millions = PUBLISHED[name]
    widths = [int(width) for width in widths.split()]
    assert resnet_macs(widths, depths, num_classes) == round(millions * 1e6)
    net = CifarResNet(widths, depths, num_classes)
    assert mu.flows.measure(net, "flops", torch.zeros(1, 3, 32, 32)) == 2 * round(millions * 1e6)


def test_published_widths_are_candidates():
    for widths, _, _, _ in PUBLISHED.values():
        found = [int(width) for width in widths.split()]
        full = full_widths(len(found) + 1)
        assert all(width in width_candidates(most) for width, most in zip(found, full, strict=True))


# TAS, Table 3, by its pruned networks and ratios: 40.8M, 69M, 125M; projections are in it.
@pytest.mark.parametrize(
    ("depth", "shortcut", "macs"),
    [
        (20, "projection", 40_813_184), (32, "projection", 69_124_736), (56, "projection", 125_747_840),
        (20, "padding", 40_551_040), (110, "padding", 252_887_680),
    ],
)  # fmt: skip
def test_unpruned_networks_have_their_published_cost(depth, shortcut, macs):
    assert resnet_macs(full_widths(depth), [(depth - 2) // 6] * 3, shortcut=shortcut) == macs


@pytest.mark.parametrize("shortcut", ["padding", "projection", "always"])
@pytest.mark.parametrize("seed", range(6))
def test_the_cost_of_a_child_is_what_is_measured(seed, shortcut):
    space = mu.space(resnet_program(14, **SMALL, in_channels=1, shortcut=shortcut))
    child = space.materialize(space.random(seed))
    measured = mu.flows.measure(child, "flops", torch.zeros(1, 1, 16, 16))
    assert measured == 2 * resnet_macs(**mu.arguments(child), size=16)


def test_the_candidates_of_a_width_are_those_of_the_paper():
    assert width_candidates(16) == [4, 6, 8, 9, 11, 12, 14, 16]
    assert width_candidates(64) == [19, 25, 32, 38, 44, 51, 57, 64]
    assert width_candidates(3, (0.1, 0.2, 1.0)) == [1, 3]


@pytest.mark.parametrize(
    ("num_blocks", "expected"),
    [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (5, [1, 3, 5]), (9, [1, 3, 5, 7, 9]), (4, [1, 3, 4])],
)
def test_the_candidates_of_a_depth_are_those_of_the_released_code(num_blocks, expected):
    assert depth_candidates(num_blocks) == expected


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        ({}, 8**19 * 3**3),
        ({"depth": 32}, 8**31 * 3**3),
        ({"depth": 56, "is_depth_searched": False}, 8**55),
        ({"widths": "stage"}, 8**12 * 3**3),
        ({"widths": "none"}, 3**3),
        ({"depth": 8}, 8**7),  # One block per stage leaves no depth to decide.
    ],
)
def test_a_space_has_its_size(settings, size):
    assert mu.space(resnet_program(**settings)).size == size


def test_the_largest_child_is_the_unpruned_network():
    space = mu.space(resnet_program(20))
    child = space.materialize(space.dna({point.path: point.num_candidates - 1 for point in space.points}))
    assert list(mu.arguments(child)["widths"]) == full_widths(20)
    assert list(mu.arguments(child)["depths"]) == [3, 3, 3]


def test_with_one_width_per_stage_all_its_outputs_agree():
    space = mu.space(resnet_program(20, widths="stage"))
    widths = mu.arguments(space.materialize(space.random(4)))["widths"]
    assert len({widths[0], *widths[2:8:2]}) == len(set(widths[8:14:2])) == len(set(widths[14:20:2])) == 1


def test_thinning_keeps_the_same_part_of_every_layer():
    assert thinned_widths(0.5, 20) == [8] * 7 + [16] * 6 + [32] * 6
    assert thinned_widths(0.01, 8, base=4) == [1] * 7


@pytest.mark.parametrize("widths", ["layer", "stage", "none"])
def test_a_child_encodes_to_its_dna_and_a_program_is_saved(widths):
    program = resnet_program(14, widths=widths, **SMALL)
    space = mu.space(program)
    dna = space.random(1)
    child = space.materialize(dna)
    assert space.encode(child) == dna
    assert mu.equal(mu.from_json(mu.to_json(program)), program)


@pytest.mark.parametrize(
    "settings", [{"widths": "stage"}, {"widths": "none", "shortcut": "padding"}, {"shortcut": "always"}], ids=str
)
def test_children_on_shared_weights_are_exact_at_proven_places(settings):
    shared = mu.share_weights(resnet_program(14, **{**SMALL, **settings}), images())
    for seed in range(3):
        found = shared.verify(shared.space.random(100 + seed), images())
        assert found.error < 1e-12
        assert found.positions == "proven"


# Where neighbours decide apart, what a channel is the sum of differs from child to child, which no label shows; the
# leading places are right by construction.
@pytest.mark.parametrize(
    "settings", [{"is_depth_searched": False}, {"widths": "stage", "shortcut": "padding"}], ids=str
)
def test_children_on_shared_weights_are_exact_at_leading_places(settings):
    program = resnet_program(14, **{**SMALL, "ratios": (0.5, 1.0), **settings})
    shared = mu.share_weights(program, images(), positions="leading")
    for seed in range(3):
        assert shared.verify(shared.space.random(100 + seed), images()).error < 1e-12


@pytest.mark.parametrize("algorithm", ["TAS", "FBNetV2", "TuNAS"])
def test_sizes_are_searched_by_gradients_and_by_rewards(algorithm):
    program = resnet_program(14, **SMALL, widths="stage")
    shared = mu.share_weights(program, images(), seed=0)
    batches = [(images(), torch.tensor([0, 1]))] * 2
    result = mu.one_shot(shared, getattr(mu.algorithms, algorithm)(), train=batches, valid=batches, epochs=2, seed=0,
                         num_calibration=1, progress=False)  # fmt: skip
    assert result.child()(images()).shape == (2, 5)
    assert all(entropy > 0 for entropy in result.history[-1].entropy.values())


@pytest.mark.parametrize(("algorithm", "shortcut"), [("TAS", "projection"), ("FBNetV2", "always")])
def test_every_width_and_depth_is_searched_by_mixtures_within_a_cost(algorithm, shortcut):
    program = resnet_program(14, base=4, ratios=(0.5, 1.0), num_classes=5, shortcut=shortcut)
    cost = mu.flows.fit_cost(mu.bind(resnet_macs, **mu.arguments(program)), lambda call: call() / 1e3)
    assert cost.is_exact
    shared = mu.share_weights(program, images(), positions="leading", seed=0)
    depths = tuple(point.name for point in shared.points if point.hints == "depth")
    inner = mu.algorithms.TAS(full=depths) if algorithm == "TAS" else mu.algorithms.FBNetV2(warmup=0.0)
    constrained = mu.algorithms.ResourceConstrained(inner, cost, form="band", budget=500.0)
    batches = [(images(), torch.tensor([0, 1]))] * 2
    result = mu.one_shot(shared, constrained, train=batches, valid=batches, epochs=2, seed=0, num_calibration=1,
                         progress=False)  # fmt: skip
    assert len(result.history[-1].entropy) == 16
    built = mu.space(program).materialize(result.dna)
    assert cost(result.dna) == pytest.approx(resnet_macs(**mu.arguments(built)) / 1e3)
    assert shared.verify(result.dna, images()).error < 1e-12
    built.load_state_dict(result.child().state_dict())
    assert torch.equal(built.eval()(images()), shared.materialize(result.dna).eval()(images()))


def test_widths_of_layers_are_not_mixed_where_shortcuts_pad():
    """Channels that a smaller size does not have are masked where a layer reads them, and padding is no layer."""
    program = resnet_program(8, base=4, ratios=(0.5, 1.0), num_classes=5, shortcut="padding")
    shared = mu.share_weights(program, images(), positions="leading")
    chosen = {point.path: mu.flows.supernet.Mixture(torch.ones(2) / 2) for point in shared.points}
    with pytest.raises(LoweringError, match="cannot mix the sizes of a decision"), shared.select(
            shared.space.random(0), chosen):  # fmt: skip
        pass


@pytest.mark.slow
@pytest.mark.parametrize("shortcut", ["padding", "projection", "always"])
def test_every_layer_of_resnet_20_decides_on_shared_weights(shortcut):
    program = resnet_program(20, base=8, num_classes=5, shortcut=shortcut)
    shared = mu.share_weights(program, images(), positions="leading")
    for seed in range(5):
        assert shared.verify(shared.space.random(seed), images()).error < 1e-12


def test_a_search_samples_networks():
    program = resnet_program(14, **SMALL)
    loop = mu.sample(program, mu.algorithms.RegularizedEvolution(8, 3), trials=24, seed=0)
    for child, feedback in loop:
        feedback(-abs(resnet_macs(**mu.arguments(child)) - 2.4e6) / 2.4e6)
    assert loop.study.best.reward > -0.1


@pytest.mark.parametrize("settings", [{"widths": "stage"}, {}, {"shortcut": "padding"}], ids=str)
def test_the_cost_of_a_dna_is_known_without_building_it(settings):
    program = resnet_program(20, **settings)
    cost = mu.flows.fit_cost(mu.bind(resnet_macs, **mu.arguments(program)), lambda call: call(), most_builds=20_000)
    space = mu.space(program)
    assert cost.is_exact
    for seed in range(50):
        dna = space.random(seed)
        assert cost(dna) == resnet_macs(**mu.arguments(space.materialize(dna)))


def test_a_network_that_is_not_published_is_refused():
    with pytest.raises(SettingError) as error:
        resnet_program(18)
    assert str(error.value) == (
        "cannot find a ResNet\n"
        "  at:       depth\n"
        "  got:      18 (int)\n"
        "  expected: 6 n + 2, such as 20, 32, 56 or 110\n"
        "  fix:      take the nearest of these"
    )


def test_unknown_widths_are_refused():
    with pytest.raises(SettingError) as error:
        resnet_program(20, widths="block")
    assert str(error.value) == (
        "cannot make a space of networks\n"
        "  at:       resnet_program.widths\n"
        "  got:      'block' (str)\n"
        "  expected: one of layer, stage, none\n"
        "  fix:      leave it out: every layer decides"
    )
