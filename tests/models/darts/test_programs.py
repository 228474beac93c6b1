"""DARTS' space as a supernet of all edges and as a space of genotypes, its weights shared."""

from __future__ import annotations

import pytest
import torch

import mutandis as mu
from mutandis.errors import SchemaError
from mutandis.models.darts import (
    DARTS_V2,
    OPERATIONS,
    cell_program,
    derive_genotype,
    genotype_of,
    network_of,
    node_edges,
    supernet_program,
)

SMALL = {"channels": 2, "num_cells": 3, "num_classes": 3, "num_nodes": 2}
PROGRAMS = {"supernet": supernet_program, "cells": cell_program}


def images(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [(torch.randn(6, 3, 8, 8, generator=generator), torch.arange(6) % 3) for _ in range(count)]


X = images(1)[0][0]


@pytest.fixture(scope="module")
def shared():
    """Returns both small programs with shared weights."""
    return {name: mu.share_weights(program(**SMALL)) for name, program in PROGRAMS.items()}


def test_the_spaces_have_their_published_sizes():
    """Liu et al. 2019, Sec. 3.1.1: about 10^9 cells of each kind, hence 10^18."""
    assert mu.space(cell_program()).size == (1 * 3 * 6 * 10 * 7**8) ** 2 == 1_076_746_950_455_072_400
    assert mu.space(supernet_program()).size == 8**28


def test_the_search_network_has_the_published_number_of_weights():
    """The authors' code prints 1.93 MB for 16 channels and 8 cells; it is all weights but alphas."""
    space = mu.space(supernet_program())
    net = space.materialize(space.dna({point.path: 0 for point in space.points}))
    total = sum(parameter.numel() for parameter in net.parameters())
    for operation in range(1, len(OPERATIONS)):
        other = space.materialize(space.dna({point.path: operation for point in space.points}))
        total += sum(p.numel() for name, p in other.named_parameters() if ".nodes." in name)
    assert total == 1_930_618


@pytest.mark.parametrize("seed", range(4))
def test_a_genotype_is_read_off_a_child_and_makes_the_same_network(seed):
    space = mu.space(cell_program(**SMALL, is_search=False))
    dna = space.random(seed)
    child = space.materialize(dna)
    assert space.encode(child) == dna
    again = network_of(genotype_of(child), channels=2, num_cells=3, num_classes=3)
    again.load_state_dict(child.state_dict())
    assert torch.equal(again(X), child(X))


def test_one_decision_stands_for_an_edge_of_all_cells_of_its_kind():
    space = mu.space(supernet_program(**{**SMALL, "num_cells": 6}))
    child = space.materialize(space.dna({p.path: 4 if "normal" in p.path else 3 for p in space.points}))
    kinds = [{type(layer).__name__ for node in cell.nodes for layer in node.values()} for cell in child.cells]
    normal, reduce = {"SeparableConv"}, {"FactorizedReduce", "Identity"}
    assert kinds == [normal, normal, reduce, normal, reduce, normal]


def test_published_cells_are_children_of_the_space():
    space = mu.space(cell_program(channels=4, num_cells=3, is_search=False))
    found = network_of(DARTS_V2, channels=4, num_cells=3)
    values = {}
    for cell, pairs in (("normal", DARTS_V2.normal), ("reduce", DARTS_V2.reduce)):
        for node in range(2, 6):
            two = sorted(pairs[2 * node - 4 : 2 * node - 2], key=lambda pair: pair[1])
            values[f"{cell} inputs of {node}"] = [source for _, source in two]
            values.update({f"{cell} edge {s} to {node}": OPERATIONS.index(name) - 1 for name, s in two})
    child = space.materialize(space.dna(values))
    assert sum(p.numel() for p in child.parameters()) == sum(p.numel() for p in found.parameters())
    assert sorted(genotype_of(child).reduce) == sorted(DARTS_V2.reduce)


def test_a_supernet_child_with_other_than_two_edges_is_no_genotype():
    space = mu.space(supernet_program(**SMALL))
    values = {point.name: 1 for point in space.points}
    with pytest.raises(SchemaError) as error:
        genotype_of(space.materialize(space.dna(values)))
    assert str(error.value) == (
        "cannot write a genotype\n"
        "  at:       normal node 3\n"
        "  got:      [('max_pool_3x3', 0), ('max_pool_3x3', 1), ('max_pool_3x3', 2)] (list)\n"
        "  expected: two edges that connect\n"
        "  fix:      take the strongest ones by derive_genotype(result.policy)"
    )
    values |= {"normal edge 1 to 3": 0, "reduce edge 0 to 3": 0}
    cells = genotype_of(space.materialize(space.dna(values)))
    assert [source for _, source in cells.normal] == [0, 1, 0, 2]
    assert [source for _, source in cells.reduce] == [0, 1, 1, 2]


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_is_saved_and_read(name):
    program = PROGRAMS[name](**SMALL)
    assert mu.equal(mu.from_json(mu.to_json(program)), program)


@pytest.mark.parametrize("name", PROGRAMS)
def test_children_with_shared_weights_are_those_that_are_really_built(shared, name):
    space = shared[name].space
    for seed in range(12):
        found = shared[name].verify(space.random(seed), X)
        assert found.error < 1e-9
        assert found.positions == "proven"


def test_an_edge_has_the_same_weights_whichever_other_edge_is_chosen(shared):
    """Per cell: 5 edges; an edge has 6 weights of its own for each kind of separable or dilated convolution."""
    cells, supernet = (set(dict(shared[name].module.named_parameters())) for name in ("cells", "supernet"))
    assert len(cells) == len(supernet)
    before = len(cells)
    for seed in range(20):
        shared["cells"].materialize(shared["cells"].space.random(seed))
    assert len(list(shared["cells"].module.parameters())) == before


@pytest.mark.parametrize("name", ["RSPS", "TuNAS", "DARTS", "GDAS", "SNAS", "SETN", "DSNAS", "ProxylessNAS"])
def test_an_algorithm_finds_cells_in_the_supernet(shared, name):
    result = mu.one_shot(shared["supernet"], getattr(mu.algorithms, name)(), train=images(2), valid=images(2, 1),
                         epochs=1, collapse=2.0)  # fmt: skip
    assert shared["supernet"].space.allows(result.dna)
    if result.policy:
        cells = derive_genotype(result.policy, num_nodes=2)
        assert network_of(cells, channels=2, num_cells=3)(X).shape == (6, 10)
        assert "none" not in dict((*cells.normal, *cells.reduce))


@pytest.mark.parametrize("name", ["DARTS", "GDAS"])
def test_a_child_with_the_two_strongest_edges_is_the_genotype_of_the_policy(shared, name):
    cells = mu.algorithms.oneshot.TopEdges(node_edges(2), none=0)
    result = mu.one_shot(shared["supernet"], getattr(mu.algorithms, name)(cells=cells), train=images(2),
                         valid=images(2, 1), epochs=1, collapse=2.0)  # fmt: skip
    found, expected = genotype_of(result.child()), derive_genotype(result.policy, num_nodes=2)
    assert [sorted(cell) for cell in (found.normal[:2], found.normal[2:], found.reduce[2:])] == [
        sorted(cell) for cell in (expected.normal[:2], expected.normal[2:], expected.reduce[2:])]  # fmt: skip


def test_second_order_darts_runs_on_the_supernet(shared):
    result = mu.one_shot(shared["supernet"], mu.algorithms.DARTS(order=2), train=images(2), valid=images(2, 1),
                         epochs=1, collapse=2.0)  # fmt: skip
    assert derive_genotype(result.policy, num_nodes=2).normal_concat == (2, 3)


@pytest.mark.parametrize(("algorithm", "more"), [
    (mu.algorithms.RSPS(), {}), (mu.algorithms.TuNAS(), {}),
    (mu.algorithms.RegularizedEvolution(4, 2), {"num_candidates": 6}),
], ids=["RSPS", "TuNAS", "evolution"])  # fmt: skip
def test_an_algorithm_finds_cells_in_the_space_of_genotypes(shared, algorithm, more):
    result = mu.one_shot(shared["cells"], algorithm, train=images(2), valid=images(2, 1), epochs=1,
                         collapse=2.0, **more)  # fmt: skip
    cells = genotype_of(result.child())
    assert len(cells.normal) == len(cells.reduce) == 4


def test_a_search_by_trials_runs():
    loop = mu.sample(cell_program(**SMALL), mu.algorithms.RegularizedEvolution(4, 2), trials=6)
    for child, feedback in loop:
        feedback(-child(X).square().mean().item())
    assert len(loop.study.trials) == 6


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_the_whole_space_shares_weights(name):
    shared = mu.share_weights(PROGRAMS[name](channels=2, num_cells=3, num_classes=3), X)
    for seed in range(8):
        found = shared.verify(shared.space.random(seed), X)
        assert found.error < 1e-9
        assert found.positions == "proven"
