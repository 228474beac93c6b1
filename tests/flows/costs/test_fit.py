"""Which children it takes to know the cost of all."""

from __future__ import annotations

import pytest
import torch
from supernet_zoo import programs

import mutandis as mu
from mutandis.errors import SettingError
from mutandis.flows.costs import fit_cost, measure
from mutandis.flows.costs.fit import cliques, neighbours, new_part
from mutandis.models import nats

X = torch.zeros(1, 3, 8, 8)


def numbers(*sizes):
    """Returns a program of choices among numbers."""
    return {f"d{i}": mu.oneof(list(range(size))) for i, size in enumerate(sizes)}


def held_against_children(cost, space, what, batch, count=12):
    """Returns whether costs of DNAs are those of children, for random ones that were not used before."""
    dnas = [space.bare().random(f"fresh {i}") for i in range(count)]
    return [cost(dna) for dna in dnas] == [measure(space.materialize(dna), what, batch) for dna in dnas]


@pytest.mark.parametrize("what", ["flops", "params", "memory_bytes"])
def test_the_costs_of_the_topology_space_are_exact(what):
    space = mu.space(nats.topology_program(channels=4, cells_per_stage=1))
    cost = fit_cost(space, what, X)
    assert cost.is_exact
    assert held_against_children(cost, space, what, X)


def test_operations_of_the_topology_space_take_one_child_per_candidate():
    cost = fit_cost(nats.topology_program(channels=4, cells_per_stage=1), "flops", X, num_checks=10)
    assert [tuple(term.table.shape) for term in cost.terms] == [(5,)] * 6
    assert cost.num_builds == 1 + 6 * 4 + 10


@pytest.mark.parametrize("what", ["flops", "params"])
def test_the_costs_of_the_size_space_are_exact_in_pairs_of_neighbours(what):
    space = mu.space(nats.size_program())
    cost = fit_cost(space, what, X)
    assert [term.indices for term in cost.terms] == [(0, 1), (1, 2), (2, 3), (3, 4)]
    assert cost.is_exact and cost.num_builds < 500 < space.size
    assert held_against_children(cost, space, what, X)


@pytest.mark.parametrize("name", programs())
def test_the_parameters_of_any_program_are_exact(name):
    program, batch = programs()[name]
    space = mu.space(program)
    cost = fit_cost(space, "params")
    assert held_against_children(cost, space, "params", batch, count=30)


def test_shared_weights_cost_what_their_children_cost():
    program = nats.topology_program(channels=4, cells_per_stage=1)
    shared, built = fit_cost(mu.share_weights(program), "flops", X), fit_cost(program, "flops", X)
    assert all(shared(dna) == built(dna) for dna in (mu.space(program).random(i) for i in range(10)))


def test_three_decisions_that_act_together_get_one_table():
    cost = fit_cost(numbers(2, 3, 4, 5), lambda c: float(c["d0"] * c["d1"] * c["d3"] + 7 * c["d2"]))
    assert sorted(term.indices for term in cost.terms) == [(0, 1, 3), (2,)]
    space = mu.space(numbers(2, 3, 4, 5))
    assert all(cost(dna) == dna.values[0] * dna.values[1] * dna.values[3] + 7 * dna.values[2]
               for dna in space.enumerate())  # fmt: skip


def test_terms_that_overlap_are_not_counted_twice():
    cost = fit_cost(numbers(3, 3, 3), lambda c: float((1 + c["d0"]) * (2 + c["d1"]) * 5 + (2 + c["d1"]) * c["d2"]))
    assert sorted(term.indices for term in cost.terms) == [(0, 1), (1, 2)]
    assert all(cost(dna) == (1 + a) * (2 + b) * 5 + (2 + b) * c
               for dna in mu.space(numbers(3, 3, 3)).enumerate() for a, b, c in [dna.values])  # fmt: skip


def test_a_ring_of_pairs_stays_pairs():
    cost = fit_cost(numbers(3, 3, 3, 3), lambda c: float(sum(c[f"d{i}"] * c[f"d{(i + 1) % 4}"] for i in range(4))))
    assert sorted(term.indices for term in cost.terms) == [(0, 1), (0, 3), (1, 2), (2, 3)]


def test_the_first_values_need_not_cost_nothing():
    cost = fit_cost(numbers(2, 2), lambda c: 100.0 + (c["d0"] == 0) * 3 - (c["d1"] == 0) * 2)
    assert [cost(dna) for dna in mu.space(numbers(2, 2)).enumerate()] == [101.0, 103.0, 98.0, 100.0]


def test_integers_and_stepped_ranges_have_costs():
    program = {"a": mu.intv(1, 4), "b": mu.floatv(0.0, 1.0, step=0.25)}
    cost = fit_cost(program, lambda child: child["a"] * child["b"])
    assert all(cost(dna) == dna.values[0] * dna.values[1] for dna in mu.space(program).enumerate())


def test_a_continuous_range_without_a_cost_is_left_out():
    cost = fit_cost({"rate": mu.floatv(0.0, 1.0), "size": mu.oneof([1, 5])}, lambda child: float(child["size"]))
    assert [term.indices for term in cost.terms] == [(1,)]


def test_a_continuous_range_with_a_cost_is_refused():
    with pytest.raises(SettingError) as caught:
        fit_cost({"size": mu.floatv(0.0, 1.0)}, lambda child: child["size"])
    assert str(caught.value) == (
        "cannot put a cost into tables\n"
        "  at:       ['size']\n"
        "  got:      'float in [0.0, 1.0]' (str)\n"
        "  expected: a decision of at most 1024 values\n"
        "  fix:      give the range a step=, or list values with mu.oneof([...])"
    )


def noisy(child):
    a, b = child["d0"], child["d1"]
    return 10.0 + a + 2 * b + 0.3 * ((a * 31 + b * 17) % 7 / 7 - 0.5)


def test_a_cost_with_noise_is_flagged_where_it_is_accepted():
    cost = fit_cost(numbers(6, 6), noisy, is_additive=True, tolerance=0.1)
    assert not cost.is_exact and 0.0 < cost.error < 0.1
    assert abs(cost(mu.space(numbers(6, 6)).dna_at(20)) - 10 - 3 - 4) < 1.0


def test_a_cost_that_does_not_fit_is_refused():
    with pytest.raises(SettingError) as caught:
        fit_cost(numbers(6, 6), lambda child: float(child["d0"] * child["d1"]), is_additive=True)
    first, got, expected, fix = str(caught.value).splitlines()
    assert first == "cannot put a cost into tables"
    assert got == "  got:      'an error of 1, relative to the costs, on 24 random children' (str)"
    assert expected == "  expected: at most 0"
    assert fix == ("  fix:      pass tolerance= to accept it, or a cost function of your own where children cannot be "
                   "compared")  # fmt: skip


def test_too_many_children_are_refused():
    with pytest.raises(SettingError) as caught:
        fit_cost(numbers(9, 9, 9, 9), lambda c: float(c["d0"] * c["d1"] * c["d2"] * c["d3"]), most_builds=500)
    assert str(caught.value) == (
        "cannot put a cost into tables\n"
        "  got:      'more than 500 children' (str)\n"
        "  expected: decisions that act together with few others\n"
        "  fix:      raise most_builds=, or pass is_additive=True with a tolerance="
    )


def test_latency_fits_within_a_tolerance():
    program = mu.nn.Sequential(mu.oneof([mu.nn.Linear(8, 8), mu.nn.Identity()]))
    cost = fit_cost(program, "latency_ms", torch.zeros(2, 8), is_additive=True, tolerance=float("inf"), num_checks=2)
    assert all(cost(dna) > 0.0 for dna in mu.space(program).enumerate())


def tower(child):
    """The weights of layers of which the first ones run, and of one that reads the last of them."""
    widths = [child[f"d{i}"] + 2 for i in range(4)]
    runs = widths[: child["depth"]]
    return float(sum(a * b for a, b in zip([3, *runs], [*runs, 5], strict=True)))


def test_a_depth_that_hides_widths_takes_tables_of_three():
    """The first depth is the smallest, at which most widths do nothing; the last layer reads one of four widths."""
    program = {**numbers(6, 6, 6, 6), "depth": mu.oneof([1, 2, 3, 4], name="depth")}
    cost, space = fit_cost(program, tower), mu.space(program)
    assert cost.is_exact and cost.num_builds < 800 < space.size / 6
    assert sorted(term.indices for term in cost.terms) == [(0, 1, 4), (1, 2, 4), (2, 3, 4)]
    assert all(cost(dna) == tower(space.materialize(dna)) for dna in (space.bare().random(i) for i in range(200)))


@pytest.mark.parametrize("seed", range(4))
def test_two_decisions_that_act_under_one_value_of_a_third_are_found(seed):
    def priced(child):
        total = 10.0
        for first in range(0, 12, 3):
            a, b, c = (child[f"d{first + i}"] for i in range(3))
            total += (a + b + a * b) * (c == 3) + c
        return total

    cost = fit_cost(numbers(*[3, 3, 6] * 4), priced, seed=seed)
    assert cost.is_exact and [term.indices for term in cost.terms] == [(0, 1, 2), (3, 4, 5), (6, 7, 8), (9, 10, 11)]


def test_decisions_that_act_in_pairs_are_not_put_into_one_table():
    def priced(child):
        a, b, c = (child[f"d{i}"] for i in range(3))
        return float(a * b + b * c + a * c)

    cost = fit_cost(numbers(8, 8, 8), priced)
    assert [term.indices for term in cost.terms] == [(0, 1), (0, 2), (1, 2)] and cost.num_builds < 300


def test_tables_start_where_children_cost_much():
    cost = fit_cost(numbers(3, 3), lambda c: float((c["d0"] + 1) * (c["d1"] + 1)))
    assert cost.base == 9.0 and cost.terms[0].table[2, 2] == 0.0
    assert fit_cost(numbers(3, 3), lambda c: float(c["d0"] + c["d1"]) + 1.0).base == 1.0


def test_the_largest_sets_of_joined_nodes_are_found():
    edges = {(0, 1), (0, 2), (1, 2), (2, 3), (4, 5)}
    assert sorted(cliques(range(7), edges)) == [(0, 1, 2), (2, 3), (4, 5), (6,)]
    assert list(cliques([], set())) == []


def test_neighbours_are_those_of_both_sides_of_an_edge():
    assert neighbours([1, 2, 3], {(1, 2), (2, 3)}) == {1: {2}, 2: {1, 3}, 3: {2}}


def test_inclusion_and_exclusion_leaves_out_what_is_known():
    costs = torch.tensor([[1.0, 2.0], [4.0, 9.0]], dtype=torch.float64)
    seen = {(7,)}
    assert new_part(costs, (7, 8), seen).tolist() == [[0.0, 1.0], [0.0, 5.0]]
    assert seen == {(7,), (8,), (7, 8)}
    assert new_part(costs, (7, 8), set(), (1, 1)).tolist() == [[-8.0, -7.0], [-5.0, 0.0]]
