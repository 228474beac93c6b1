"""NATS-Bench's networks and spaces, counted against its tables."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tables import SIZE, TOPOLOGY, needs_size, needs_topology

import mutandis as mu
from mutandis.errors import SettingError
from mutandis.models.nats import SizeNetwork, TopologyNetwork, operations_of, size_program, topology_program
from mutandis.models.nats.networks import Cell
from mutandis.models.nats.operations import Operation

CLASSES = {"cifar10": 10, "cifar100": 100, "imagenet16": 120}


def count(net):
    return sum(parameter.numel() for parameter in net.parameters())


@needs_topology
@pytest.mark.parametrize("row", [0, 11, 284, 1462, 6111, 15000])
@pytest.mark.parametrize("dataset", CLASSES)
def test_a_cell_has_as_many_parameters_as_the_benchmark_counted(row, dataset):
    with np.load(TOPOLOGY) as file:
        arch, expected = file["arch"][row].decode(), file[f"{dataset}_params"][row]
    assert count(TopologyNetwork(operations_of(arch), num_classes=CLASSES[dataset])) == expected


@needs_size
@pytest.mark.parametrize("row", [0, 11, 284, 30000, 32767])
@pytest.mark.parametrize("dataset", CLASSES)
def test_widths_have_as_many_parameters_as_the_benchmark_counted(row, dataset):
    with np.load(SIZE) as file:
        widths, expected = [int(width) for width in file["channels"][row]], file[f"{dataset}_params"][row]
    assert count(SizeNetwork(widths, CLASSES[dataset])) == expected


def test_the_spaces_have_their_published_sizes():
    assert mu.space(topology_program()).size == 15_625
    assert mu.space(size_program()).size == 32_768


def test_one_decision_stands_for_an_edge_of_all_cells():
    space = mu.space(topology_program(channels=4, cells_per_stage=2))
    child = space.materialize(space.dna({"edge 0 to 1": 3, "edge 0 to 2": 0, "edge 1 to 2": 1, "edge 0 to 3": 2,
                                         "edge 1 to 3": 4, "edge 2 to 3": 1}))  # fmt: skip
    cells = [cell for cell in child.cells if isinstance(cell, Cell)]
    assert len(cells) == 6
    assert {tuple(type(edge).__name__ for edge in cell.edges) for cell in cells} == {
        ("ReluConvNorm", "Zero", "Identity", "ReluConvNorm", "Pool", "Identity")
    }
    assert cells[0].edges[0][1].weight is not cells[1].edges[0][1].weight


def test_a_child_names_its_cell_and_encodes_to_its_dna():
    space = mu.space(topology_program(channels=4, cells_per_stage=1))
    dna = space.random(5)
    child = space.materialize(dna)
    assert operations_of(child.arch) == tuple(operation.name for operation in mu.arguments(child)["operations"])
    assert space.encode(child) == dna


@pytest.mark.parametrize("program", [lambda: topology_program(channels=4, cells_per_stage=1), size_program])
def test_a_child_trains(program):
    torch.manual_seed(0)
    space = mu.space(program())
    child = space.materialize(space.dna_at(space.size - 1) if program is size_program else space.dna_at(9999))
    optimizer = torch.optim.SGD(child.parameters(), lr=0.05)
    x, y = torch.randn(8, 3, 8, 8), torch.arange(8) % 4
    losses = []
    for _ in range(12):
        loss = torch.nn.functional.cross_entropy(child(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_a_cell_sums_its_edges():
    skip, nothing = Operation("skip_connect"), Operation("none")
    cell = Cell([skip, skip, skip, nothing, skip, skip], 2, 2)
    x = torch.randn(1, 2, 3, 3)
    # Node 1 is x, node 2 is x + x, node 3 is 0 + x + 2 x.
    assert torch.allclose(cell(x), 3 * x)


def test_other_numbers_of_widths_are_refused():
    with pytest.raises(SettingError, match="five widths"):
        SizeNetwork([8, 8])


def test_a_program_is_saved_and_read():
    program = topology_program()
    assert mu.equal(mu.from_json(mu.to_json(program)), program)
