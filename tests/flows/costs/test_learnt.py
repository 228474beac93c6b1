"""Costs learnt from measured children."""

from __future__ import annotations

import pytest
import torch
from tables import FBNET, LATENCY, OFA, TOPOLOGY, needs_fbnet, needs_latency, needs_topology

import mutandis as mu
from mutandis.errors import SettingError
from mutandis.flows.costs import learn_cost
from mutandis.hyper import DNA

PROGRAM = {"a": mu.oneof([0, 1, 2], name="a"), "b": mu.oneof([mu.oneof([5, 6], name="c"), 7], name="b")}


def true_cost(dna):
    a, b, c = dna.values
    return 2.0 + (0.0, 1.0, 4.0)[a] + (0.5, 3.0)[b] + (0.0 if c is None else (0.0, 0.25)[c])


def test_a_sum_over_decisions_is_learnt_exactly():
    space = mu.space(PROGRAM)
    every = list(space.enumerate())
    cost = learn_cost(PROGRAM, every * 3, [true_cost(dna) for dna in every] * 3)
    assert cost.is_exact and cost.num_builds == 3 * len(every)
    assert [cost(dna) for dna in every] == pytest.approx([true_cost(dna) for dna in every])
    chances = {"a": torch.tensor([0.2, 0.3, 0.5]), "b": torch.tensor([0.4, 0.6]), "c": torch.tensor([0.5, 0.5])}
    weights = {0: 0.2, 1: 0.3, 2: 0.5}
    mean = 2.0 + sum(weights[a] * (0.0, 1.0, 4.0)[a] for a in range(3)) + 0.4 * 0.5 + 0.6 * 3.0
    assert 0.0 < cost.expected(chances).item() - mean < 0.25


def test_the_error_is_seen_on_children_that_were_left_out():
    space = mu.space({"a": mu.oneof(list(range(4))), "b": mu.oneof(list(range(4)))})
    every = list(space.enumerate())
    cost = learn_cost(space, every, [float(a * b) for a, b in (dna.values for dna in every)])
    assert not cost.is_exact and 0.05 < cost.error < 2.0
    assert learn_cost(space, every, [1.0] * 16, num_checks=0).error == 0.0


def test_candidates_that_were_never_seen_cost_nothing_more():
    space = mu.space(mu.oneof(list(range(3)), name="a"))
    dnas = [space.dna({"a": i}) for i in (0, 1, 0, 1, 0)]
    cost = learn_cost(space, dnas, [1.0, 2.0, 1.0, 2.0, 1.0], num_checks=0)
    assert [cost(dna) for dna in space.enumerate()] == pytest.approx([1.0, 2.0, 1.0])


@pytest.mark.parametrize(("count", "costs", "match"), [
    (3, [1.0, 2.0], "at:       learn_cost.costs\n  got:      '2 costs'"),
    (3, [1.0, 2.0, float("nan")], "3 finite numbers"),
    (2, [1.0, 2.0], "at:       learn_cost.dnas\n  got:      '2 children'"),
])  # fmt: skip
def test_what_nothing_can_be_learnt_from_is_refused(count, costs, match):
    space = mu.space(PROGRAM)
    with pytest.raises(SettingError, match=match):
        learn_cost(space, [space.random(i) for i in range(count)], costs)


def test_a_range_without_an_end_of_values_is_refused():
    space = mu.space(mu.floatv(0.0, 1.0, name="p"))
    with pytest.raises(SettingError, match="a decision with a list of values"):
        learn_cost(space, [space.random(i) for i in range(9)], [1.0] * 9)


def rank_correlation(first, second):
    ranks = [torch.argsort(torch.argsort(torch.tensor(row, dtype=torch.float64))).double() for row in (first, second)]
    return float(torch.corrcoef(torch.stack(ranks))[0, 1])


@needs_latency
@needs_topology
@pytest.mark.parametrize("device", ["eyeriss", "fpga"])
def test_two_tables_of_nas_bench_201_are_sums_and_are_learnt_from_sixty_cells(device):
    numpy = pytest.importorskip("numpy")
    with numpy.load(LATENCY) as file, numpy.load(TOPOLOGY) as cells:
        column = [str(name, "ascii") if isinstance(name, bytes) else name for name in file["devices"]].index(device)
        times, ops = file["latency_ms"][:, column].astype(float), cells["ops"]
    space = mu.space([mu.oneof(["none", "skip", "1x1", "3x3", "pool"]) for _ in range(6)])
    chosen = numpy.random.Generator(numpy.random.PCG64(0)).permutation(len(ops))[:90]
    dnas = [DNA(space.bare(), tuple(int(o) for o in ops[row])) for row in chosen]
    cost = learn_cost(space, dnas, times[chosen].tolist())
    assert cost.error < 1e-6  # The file has seven digits.
    others = numpy.random.Generator(numpy.random.PCG64(1)).permutation(len(ops))[:500]
    for row in others:
        assert cost(DNA(space.bare(), tuple(int(o) for o in ops[row]))) == pytest.approx(times[row], rel=1e-5)
    per_op = cost.terms[0].table - cost.terms[0].table[0]
    if device == "eyeriss":  # 1.67954 + 0.24576 n(1x1) + 1.47456 (n(3x3) + n(pool)).
        assert per_op.tolist() == pytest.approx([0.0, 0.0, 0.24576, 1.47456, 1.47456], abs=1e-5)


@needs_fbnet
@pytest.mark.parametrize(("device", "least"), [("pixel3", 0.9), ("1080ti_64", 0.95)])
def test_latencies_of_fbnet_are_nearly_sums(device, least):
    numpy = pytest.importorskip("numpy")
    with numpy.load(FBNET) as file:
        names = [name.decode() for name in file["devices"]]
        arch, times = file["arch"][:2000], file["latency_ms"][:2000, names.index(device)].astype(float)
    space = mu.space([mu.oneof(list(range(int(arch.max()) + 1))) for _ in range(arch.shape[1])])
    dnas = [DNA(space.bare(), tuple(int(o) for o in row)) for row in arch]
    cost = learn_cost(space, dnas[:1500], times[:1500].tolist())
    assert rank_correlation([cost(dna) for dna in dnas[1500:]], times[1500:].tolist()) > least


@needs_fbnet
def test_latencies_of_once_for_all_children_are_learnt_from_sizes():
    numpy = pytest.importorskip("numpy")
    with numpy.load(OFA) as file:
        kernels, expansions, depths, sizes = (file[name][:2000] for name in ("ks", "e", "d", "r"))
        times = file["latency_ms"][:2000, 2].astype(float)
    levels = sorted({int(r) for r in sizes})
    space = mu.space({
        "r": mu.oneof(levels), "d": [mu.oneof([2, 3, 4]) for _ in range(5)],
        "ks": [mu.oneof([3, 5, 7]) for _ in range(20)], "e": [mu.oneof([3, 4, 6]) for _ in range(20)],
    })  # fmt: skip
    paths = [point.path for point in space.points]

    def dna(row):
        named = {"['r']": levels.index(int(sizes[row]))}
        named |= {f"['d'][{i}]": int(depths[row][i]) - 2 for i in range(5)}
        named |= {f"['ks'][{i}]": {3: 0, 5: 1, 7: 2}.get(int(kernels[row][i]), 0) for i in range(20)}
        named |= {f"['e'][{i}]": {3: 0, 4: 1, 6: 2}.get(int(expansions[row][i]), 0) for i in range(20)}
        return DNA(space.bare(), tuple(named[path] for path in paths))

    dnas = [dna(row) for row in range(2000)]
    cost = learn_cost(space, dnas[:1500], times[:1500].tolist())
    assert rank_correlation([cost(one) for one in dnas[1500:]], times[1500:].tolist()) > 0.8
