"""The space of SPOS and DSNAS: its size, the networks that were found in it, and its children on shared weights."""

from __future__ import annotations

import pytest
import torch

import mutandis as mu
from mutandis.errors import SettingError
from mutandis.models.shufflenet import DSNAS_BLOCKS, SPOS_BLOCKS, ShuffleBlock, shufflenet, shufflenet_program

SMALL = {"stages": ((8, 2), (16, 2)), "num_classes": 4, "stem_channels": 4, "last_channels": 16, "stem_stride": 1}


def count(net):
    return sum(parameter.numel() for parameter in net.parameters())


def images(batch=2, size=8):
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(0))


def test_the_space_has_its_published_size():
    space = mu.space(shufflenet_program())
    assert space.size == 4**20
    assert [point.num_candidates for point in space.points] == [4] * 20


def test_the_network_of_spos_has_its_published_cost():
    net = shufflenet(SPOS_BLOCKS)
    assert mu.flows.measure(net, "flops", torch.zeros(1, 3, 224, 224)) == 2 * 322_918_720  # 323M.
    assert count(net) == 3_558_464  # Published as 3.5M.


def test_the_network_of_dsnas_has_its_published_cost():
    # 324M in Table 3 of the paper, which counts additions in the last layer, too: 2 x 1024 - 1 for each class.
    macs = mu.flows.measure(shufflenet(DSNAS_BLOCKS), "flops", torch.zeros(1, 3, 224, 224)) // 2
    assert macs == 323_326_400
    assert round((macs + 1023 * 1000) / 1e6) == 324


@pytest.mark.parametrize(
    ("number", "macs", "params"),
    [
        (0, 295_842_496, 3_154_880), (1, 313_654_976, 3_211_968), (2, 340_373_696, 3_297_600),
        (3, 358_825_920, 3_870_816),
    ],
)  # fmt: skip
def test_networks_of_one_kind_of_block_span_the_space(number, macs, params):
    net = shufflenet([number] * 20)
    assert mu.flows.measure(net, "flops", torch.zeros(1, 3, 224, 224)) == 2 * macs
    assert count(net) == params


def test_the_numbers_of_a_dna_are_those_of_the_published_networks():
    space = mu.space(shufflenet_program(**SMALL))
    numbers = (2, 0, 3, 1)
    child = space.materialize(space.dna({f"block {place}": number for place, number in enumerate(numbers)}))
    assert mu.equal(child, shufflenet(numbers, **SMALL))
    assert tuple(space.encode(child).to_numbers()) == numbers


def test_a_program_is_saved_and_read():
    program = shufflenet_program(**SMALL)
    assert mu.equal(mu.from_json(mu.to_json(program)), program)


def test_children_on_shared_weights_are_exact_at_proven_places():
    shared = mu.share_weights(shufflenet_program(**SMALL), images())
    for seed in range(5):
        found = shared.verify(shared.space.random(seed), images())
        assert found.error < 1e-12
        assert found.positions == "proven"


def test_the_cost_of_a_dna_adds_up_over_the_blocks():
    program = shufflenet_program(**SMALL)
    cost = mu.flows.fit_cost(program, "flops", images(1))
    assert cost.is_exact
    assert [len(term.indices) for term in cost.terms] == [1] * 4
    space = mu.space(program)
    dna = space.random(7)
    assert cost(dna) == mu.flows.measure(space.materialize(dna), "flops", images(1))


def test_a_search_samples_networks():
    loop = mu.sample(shufflenet_program(**SMALL), mu.algorithms.RegularizedEvolution(8, 3), trials=30, seed=0)
    for child, feedback in loop:
        feedback(sum(isinstance(block, ShuffleBlock) for block in child.blocks))
    assert loop.study.best.reward == 4


def gratings(count, seed):
    """Returns noisy waves of four directions, in batches."""
    made = torch.Generator().manual_seed(seed)
    y = torch.randint(0, 4, (count,), generator=made)
    angle = y * torch.pi / 4
    rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    along = angle.cos()[:, None, None] * rows + angle.sin()[:, None, None] * columns
    phase = 2 * torch.pi * torch.rand(count, 1, 1, 1, generator=made)
    x = torch.sin(1.7 * along[:, None] + phase).repeat(1, 3, 1, 1) + 0.5 * torch.randn(count, 3, 8, 8, generator=made)
    return list(zip(x.split(32), y.split(32), strict=True))


def is_small(dna):
    return sum(dna.to_numbers()) <= 6


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    "algorithm",
    [
        mu.algorithms.SPOS(
            mu.algorithms.Constrained(mu.algorithms.RegularizedEvolution(10, 3), is_small), num_trials=30
        ),
        mu.algorithms.DSNAS(learning_rate=0.01),
    ],
    ids=lambda algorithm: type(algorithm).__name__,
)  # fmt: skip
def test_a_small_network_is_found_on_shared_weights(algorithm, seed):
    train, valid, test = gratings(512, seed), gratings(256, 100 + seed), gratings(256, 200 + seed)
    shared = mu.share_weights(shufflenet_program(**SMALL, dropout=0.0), seed=seed)
    result = mu.one_shot(shared, algorithm, train=train, valid=valid, epochs=15, seed=seed, progress=False,
                         optimizer=lambda weights: torch.optim.SGD(weights, lr=0.1, momentum=0.9))  # fmt: skip
    child = result.child().eval()
    with torch.no_grad():
        hits = sum(int((child(x).argmax(1) == y).sum()) for x, y in test)
    assert hits / 256 > 0.6  # Chance is a quarter; the shared weights are not trained again.
    assert is_small(result.dna) or not isinstance(algorithm, mu.algorithms.SPOS)


@pytest.mark.parametrize("numbers", [(0, 1, 2), (0, 1, 2, 4), (0, 1, -1, 2)])
def test_other_numbers_are_refused(numbers):
    with pytest.raises(SettingError) as error:
        shufflenet(numbers, **SMALL)
    assert str(error.value) == (
        "cannot build a ShuffleNetV2\n"
        "  at:       numbers\n"
        f"  got:      {list(numbers)} (list)\n"
        "  expected: 4 numbers in [0, 4)\n"
        "  fix:      give the number of the block at each place: 0, 1, 2 for kernel sizes 3, 5, 7, and 3 for the "
        "Xception-like one"
    )
