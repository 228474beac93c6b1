"""DARTS' networks, counted against the published figures."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import mutandis as mu
from mutandis.errors import SettingError
from mutandis.models.darts import DARTS_V1, DARTS_V2, Edge, Network, genotype, network_of, parse_genotype
from mutandis.models.darts.networks import Cell

IMAGENET = {"channels": 48, "num_cells": 14, "num_classes": 1000, "stem": "imagenet"}
PDARTS = parse_genotype(
    "Genotype(normal=[('skip_connect', 0), ('dil_conv_3x3', 1), ('skip_connect', 0), ('sep_conv_3x3', 1),"
    " ('sep_conv_3x3', 1), ('sep_conv_3x3', 3), ('sep_conv_3x3', 0), ('dil_conv_5x5', 4)], normal_concat=range(2, 6),"
    " reduce=[('avg_pool_3x3', 0), ('sep_conv_5x5', 1), ('sep_conv_3x3', 0), ('dil_conv_5x5', 2), ('max_pool_3x3', 0),"
    " ('dil_conv_3x3', 1), ('dil_conv_3x3', 1), ('dil_conv_5x5', 3)], reduce_concat=range(2, 6))"
)
SKIPS = [[Edge(0, "skip_connect"), Edge(1, "skip_connect")]]


def count(net):
    return sum(parameter.numel() for parameter in net.parameters())


def small(**settings):
    return Network(SKIPS, SKIPS, 2, 3, 4, **settings)


# Printed by the authors' code: 3.349 MB and 4.719 MB; P-DARTS (Chen et al. 2019) has 3,433,798 and, with the auxiliary
# head, 3,910,224.
@pytest.mark.parametrize(("cells", "settings", "expected"), [
    (DARTS_V2, {}, 3_349_342),
    (DARTS_V2, IMAGENET, 4_718_752),
    (PDARTS, {}, 3_433_798),
    (PDARTS, {"has_auxiliary": True}, 3_910_224),
])  # fmt: skip
def test_a_network_has_the_published_number_of_parameters(cells, settings, expected):
    assert count(network_of(cells, **settings)) == expected


def test_the_first_order_cells_have_fewer_parameters():
    assert count(network_of(DARTS_V1)) == 3_169_414


@pytest.mark.parametrize(("stem", "size"), [("cifar", 32), ("imagenet", 224)])
def test_an_auxiliary_head_speaks_in_training_only(stem, size):
    net = Network(SKIPS, SKIPS, 4, 6, 5, stem=stem, has_auxiliary=True)
    logits, second = net(torch.randn(2, 3, size, size))
    assert logits.shape == second.shape == (2, 5)
    assert net.eval()(torch.randn(2, 3, size, size)).shape == (2, 5)


@pytest.mark.parametrize(("stem", "parts"), [("cifar", 1), ("imagenet", 8)])
def test_a_stem_divides_the_size_and_two_cells_halve_it(stem, parts):
    net, sizes = Network(SKIPS, SKIPS, 4, 6, 5, stem=stem), []
    for cell in net.cells:
        cell.register_forward_hook(lambda module, given, result: sizes.append(tuple(result.shape[1:3])))
    net(torch.randn(2, 3, 64, 64))
    side = 64 // parts
    assert sizes == [(4, side)] * 2 + [(8, side // 2)] * 2 + [(16, side // 4)] * 2


def test_a_cell_sums_the_edges_of_a_node_and_puts_nodes_side_by_side():
    nodes = [[Edge(0, "skip_connect"), Edge(1, "skip_connect")], [Edge(2, "skip_connect"), Edge(0, "none")]]
    cell = Cell(nodes, [2, 3], (2, 2), 2, is_reduction=False, after_reduction=False, is_search=False)
    cell.inputs = nn.ModuleList([nn.Identity(), nn.Identity()])
    older, newer = torch.randn(2, 1, 2, 3, 3)
    assert torch.equal(cell(older, newer), torch.cat([older + newer, older + newer], 1))


def test_only_the_nodes_of_the_concat_are_put_out():
    nodes = [[Edge(0, "skip_connect"), Edge(1, "none")], [Edge(1, "skip_connect"), Edge(0, "none")]]
    cell = Cell(nodes, [3], (2, 2), 2, is_reduction=False, after_reduction=False, is_search=False)
    cell.inputs = nn.ModuleList([nn.Identity(), nn.Identity()])
    older, newer = torch.randn(2, 1, 2, 3, 3)
    assert torch.equal(cell(older, newer), newer)


def test_a_network_puts_out_the_nodes_that_its_genotype_names():
    pairs = [("skip_connect", 0), ("skip_connect", 1)] * 3
    net = network_of(genotype(pairs, pairs, [2, 4], [3]), channels=2, num_cells=3)
    assert [cell.concat for cell in net.cells] == [(2, 4), (3,), (3,)]


def test_two_edges_may_read_the_same_node():
    nodes = [[Edge(1, "skip_connect"), Edge(1, "skip_connect")]]
    cell = Cell(nodes, [2], (2, 2), 2, is_reduction=False, after_reduction=False, is_search=False)
    cell.inputs = nn.ModuleList([nn.Identity(), nn.Identity()])
    older, newer = torch.randn(2, 1, 2, 3, 3)
    assert torch.equal(cell(older, newer), 2 * newer)


def test_paths_but_the_identity_are_dropped_in_training_for_whole_images():
    nodes = [[Edge(0, "avg_pool_3x3"), Edge(1, "skip_connect")]]
    cell = Cell(nodes, [2], (2, 2), 2, is_reduction=False, after_reduction=False, is_search=False)
    cell.inputs = nn.ModuleList([nn.Identity(), nn.Identity()])
    torch.manual_seed(0)
    added = cell(torch.ones(400, 2, 3, 3), torch.zeros(400, 2, 3, 3), 0.25)
    each = added.flatten(1)
    assert torch.equal(each.min(1).values, each.max(1).values)
    assert set(each[:, 0].tolist()) == {0.0, torch.tensor(1 / 0.75).item()}
    assert float((each[:, 0] == 0).float().mean()) == pytest.approx(0.25, abs=0.06)
    assert torch.equal(cell.eval()(torch.ones(1, 2, 3, 3), torch.zeros(1, 2, 3, 3), 0.25), torch.ones(1, 2, 3, 3))
    identity = cell.train()(torch.zeros(8, 2, 3, 3), torch.ones(8, 2, 3, 3), 0.99)
    assert torch.equal(identity, torch.ones(8, 2, 3, 3))


def test_the_rate_of_dropped_paths_may_be_set_while_training():
    net = Network([[Edge(0, "avg_pool_3x3"), Edge(1, "avg_pool_3x3")]], SKIPS, 2, 3, 4, drop_path=0.0)
    x = torch.randn(4, 3, 8, 8)
    assert torch.equal(net(x), net(x))
    net.drop_path = 0.5
    assert not torch.equal(net(x), net(x))


@pytest.mark.parametrize(("settings", "place", "got", "expected"), [
    ({"stem": "mnist"}, "stem", "'mnist' (str)", "'cifar' or 'imagenet'"),
    ({"num_cells": 2}, "num_cells", "2 (int)", "at least 3, two of which reduce"),
])  # fmt: skip
def test_a_network_that_cannot_be_built_is_refused(settings, place, got, expected):
    with pytest.raises(SettingError) as error:
        Network(SKIPS, SKIPS, **{"channels": 2, "num_cells": 3, **settings})
    text = str(error.value)
    assert text.startswith(f"cannot build a DARTS network\n  at:       {place}\n  got:      {got}\n")
    assert f"\n  expected: {expected}\n" in text


def test_a_network_is_saved_and_read():
    net = network_of(DARTS_V2, channels=4, num_cells=3, drop_path=0.1)
    again = mu.from_json(mu.to_json(net))
    assert mu.equal(again, net)
    assert [p.shape for p in again.parameters()] == [p.shape for p in net.parameters()]


@pytest.mark.slow
def test_the_imagenet_network_multiplies_530_million_times():
    """Of convolutions and the linear layer; the paper prints 574 million, and does not say what is counted."""
    found = mu.flows.measure(network_of(DARTS_V2, **IMAGENET), "flops", torch.zeros(1, 3, 224, 224)) / 2
    assert found == 529_911_552
