"""The policy over a space: only active decisions count, and every sum is exact."""

from __future__ import annotations

import collections
import json
import math

import pytest
import torch

import mutandis as mu
from mutandis.algorithms.oneshot.selections import Index, Mixture, Value
from mutandis.algorithms.oneshot.tables import normals
from mutandis.algorithms.oneshot.tables.policy import Policy
from mutandis.algorithms.oneshot.tables.relaxations import Noise
from mutandis.errors import SettingError
from mutandis.hyper import Rng
from mutandis.testing import contract_spaces

CONDITIONAL = mu.space({"x": mu.oneof(["a", {"z": mu.oneof([1, 2])}])})
SHARED = mu.oneof([1, 2, 3])
TWO_PARENTS = mu.space([mu.oneof([{"w": SHARED}, "plain", mu.oneof(["p", "q"])]),
                        mu.oneof(["none", {"w": SHARED}])])  # fmt: skip
DEEP = mu.space(mu.oneof(["a", {"y": mu.oneof(["b", {"z": mu.oneof([1, 2])}])}]))
FINITE = ["choice", "int", "permutation", "subset", "shared"]


def policy(space, logits=None, **options):
    made = Policy(space, Rng(0), **options)
    if logits is not None:
        made.set_state(logits)
    return made


def conditional():
    return policy(CONDITIONAL, [[0.0, 1.0], [0.5, 0.0]])


def children(space):
    return list(space.bare().enumerate())


def test_inactive_decisions_take_no_part_in_the_probability():
    found = [float(conditional().log_prob(dna)) for dna in children(CONDITIONAL)]
    assert found == pytest.approx([-1.3132616875, -0.7873386717, -1.2873386717], abs=1e-8)
    assert sum(map(math.exp, found)) == pytest.approx(1.0, abs=1e-12)


def test_the_entropy_is_that_of_the_children():
    made = conditional()
    assert float(made.entropy()) == pytest.approx(1.0667833275, abs=1e-8)
    own = [float(h) for h in made.entropies()]
    assert own[0] == pytest.approx(0.5822031089, abs=1e-8)
    assert sum(own) == pytest.approx(1.2450504274, abs=1e-8)


def test_tables_of_inactive_decisions_have_no_gradient():
    made = conditional()
    leaves = made.leaves()
    slopes = torch.autograd.grad(made.log_prob(children(CONDITIONAL)[0], leaves), leaves, allow_unused=True)
    assert slopes[1] is None
    assert slopes[0].tolist() == pytest.approx([0.7310585786, -0.7310585786], abs=1e-8)


def test_inclusion_follows_plackett_and_luce():
    made = policy(mu.space(mu.manyof(2, list("abc"))), [[0.0, 1.0, 2.0]])
    found = made.chances(made.parts[0]).tolist()
    assert found == pytest.approx([0.2981137702, 0.7552715289, 0.9466147008], abs=1e-8)


@pytest.mark.parametrize("space", [*(contract_spaces()[name] for name in FINITE), CONDITIONAL, DEEP, TWO_PARENTS])
def test_probabilities_sum_to_one_and_their_entropy_is_exact(space):
    made = policy(space, init_std=1.0, most=32)
    logs = [float(made.log_prob(dna)) for dna in children(space)]
    assert math.fsum(map(math.exp, logs)) == pytest.approx(1.0, abs=1e-10)
    assert float(made.entropy()) == pytest.approx(-math.fsum(math.exp(lp) * lp for lp in logs), abs=1e-10)


@pytest.mark.parametrize("space", [CONDITIONAL, DEEP, TWO_PARENTS, contract_spaces()["shared"],
                                   mu.space(mu.manyof(2, [{"u": mu.oneof([1, 2])}, "b", "c"]))])  # fmt: skip
def test_reach_is_the_probability_of_the_children_in_which_a_decision_is_active(space):
    made = policy(space, init_std=1.0)
    wanted = [0.0] * len(space.points)
    for dna in children(space):
        for point in dna.active:
            wanted[point.index] += math.exp(made.log_prob(dna))
    assert [float(r) for r in made.reach()] == pytest.approx(wanted, abs=1e-10)


def test_an_expected_cost_is_the_mean_over_the_children():
    made = policy(TWO_PARENTS, init_std=1.0)
    costs = {p.index: [float(10 * p.index + i * i) for i in range(p.num_candidates)] for p in TWO_PARENTS.points}
    wanted = sum(
        math.exp(made.log_prob(dna)) * sum(costs[p.index][dna[p.index]] for p in dna.active)
        for dna in children(TWO_PARENTS)
    )
    assert float(made.expected(costs)) == pytest.approx(wanted, abs=1e-10)


def test_a_candidate_that_is_picked_twice_costs_twice():
    made = policy(mu.space(mu.manyof(2, ["a", "b"], distinct=False)), [[0.0, 0.0], [0.0, 0.0]])
    assert float(made.expected({0: [3.0, 5.0]})) == pytest.approx(8.0, abs=1e-12)


def test_an_expected_width_weighs_the_widths():
    made = policy(mu.space(mu.oneof([4, 6, 8])), [[math.log(p) for p in (0.2, 0.3, 0.5)]])
    assert float(made.expected({0: (4.0, 6.0, 8.0)})) == pytest.approx(6.6, abs=1e-12)


def test_an_expected_depth_weighs_the_blocks():
    made = policy(mu.space(mu.oneof([1, 3, 5])), [[math.log(p) for p in (0.2, 0.3, 0.5)]])
    assert float(made.expected({0: (10.0, 30.0, 50.0)})) == pytest.approx(36.0, abs=1e-10)


def test_the_gradient_of_an_expected_cost_is_right_by_finite_differences():
    made = policy(TWO_PARENTS, init_std=1.0)
    costs = {p.index: [float(i + 1) for i in range(p.num_candidates)] for p in TWO_PARENTS.points}
    leaves = made.leaves()
    slopes = torch.autograd.grad(made.expected(costs, leaves), leaves)
    for table, slope in zip(made.tables, slopes, strict=True):
        for i in range(len(table)):
            table[i] += 1e-6
            above = float(made.expected(costs))
            table[i] -= 2e-6
            below = float(made.expected(costs))
            table[i] += 1e-6
            assert float(slope[i]) == pytest.approx((above - below) / 2e-6, abs=1e-7)


@pytest.mark.parametrize("name", contract_spaces())
def test_single_paths_are_children_drawn_with_their_probability(name):
    space = contract_spaces()[name].bare()
    made, noise = policy(space, init_std=0.7, continuous="options", most=5), Noise(Rng(2))

    def choose(part, logits):
        return Index(noise.option(torch.softmax(logits, 0).tolist()))

    counts = collections.Counter(made.select(0, made.tables, choose, noise, 1.0).dna(space) for _ in range(1500))
    for dna, count in counts.most_common(4):
        assert space.dna(dna.to_json()) == dna
        chance = math.exp(made.log_prob(dna))
        assert abs(count - 1500 * chance) < 4.5 * math.sqrt(1500 * chance * (1 - chance)) + 1


def test_a_mixture_makes_all_below_it_active_and_an_index_only_its_own():
    made = conditional()
    mixture = made.select(0, made.tables, lambda part, logits: Mixture(torch.softmax(logits, 0)), Noise(Rng(0)), 1.0)
    assert list(mixture) == [0, 1]
    single = made.select(0, made.tables, lambda part, logits: Index(0), Noise(Rng(0)), 1.0)
    assert list(single) == [0]


def test_smooth_values_are_values_with_a_gradient():
    made = policy(mu.space({"rate": mu.floatv(1e-3, 1e-1, scale="log")}), [[0.0]])
    leaves = made.leaves()
    chosen = made.select(0, leaves, None, Noise(Rng(0)), 1.0)[0]
    assert isinstance(chosen, Value)
    assert float(chosen.value.detach()) == pytest.approx(1e-2, rel=1e-12)
    (slope,) = torch.autograd.grad(chosen.value, leaves)
    assert float(slope) == pytest.approx(1e-2 * math.log(100) / 4, rel=1e-10)
    assert float(made.log_prob(made.space.random(0))) == 0.0
    assert made.entropy_by_path() == {"['rate']": 0.0}
    assert made.chances_by_path() == {}


def test_leaves_are_copies():
    made = conditional()
    leaves = made.leaves()
    assert [leaf.requires_grad for leaf in leaves] == [True, True]
    assert leaves[0].data_ptr() != made.tables[0].data_ptr()
    assert not made.tables[0].requires_grad


def test_tables_start_near_zero_from_the_seed():
    first, second = (Policy(CONDITIONAL, Rng(seed)).state() for seed in (1, 1))
    assert first == second != Policy(CONDITIONAL, Rng(2)).state()
    assert all(0 < abs(x) < 0.01 for row in first for x in row)
    assert Policy(CONDITIONAL, Rng(1), init_std=0.0).state() == [[0.0, 0.0], [0.0, 0.0]]


def test_the_state_is_exact_json():
    first, second = policy(CONDITIONAL), conditional()
    second.set_state(json.loads(json.dumps(first.state())))
    assert second.state() == first.state()


def test_a_decision_below_too_many_choices_is_refused():
    deep = mu.oneof([1, 2])
    many = [mu.oneof([{"w": deep}, *range(30)]) for _ in range(3)]
    with pytest.raises(SettingError) as caught:
        policy(mu.space(many)).reach()
    assert str(caught.value) == (
        "cannot weigh a decision\n  at:       [0].candidates[0]['w']\n  got:      29791 (int)\n"
        "  expected: at most 20000 combinations of the choices above it\n  fix:      let it hang on fewer choices"
    )


def test_long_orders_are_left_out_of_what_is_watched():
    made = policy(mu.space({"order": mu.permutate(list(range(9))), "op": mu.oneof([1, 2])}), init_std=0.0)
    assert made.entropy_by_path() == {"['op']": pytest.approx(math.log(2), abs=1e-12)}
    assert made.chances_by_path() == {"['op']": [0.5, 0.5]}


@pytest.mark.parametrize("space", [*(contract_spaces()[name] for name in FINITE), CONDITIONAL, DEEP, TWO_PARENTS])
def test_the_divergence_is_the_mean_log_ratio_of_the_children(space):
    made, other = policy(space, init_std=1.0, most=32), policy(space, init_std=1.0, most=32)
    other.set_state([[0.7 * x - 0.2 * i for i, x in enumerate(row)] for row in other.state()])
    pairs = [(float(made.log_prob(dna)), float(other.log_prob(dna))) for dna in children(space)]
    wanted = math.fsum(math.exp(a) * (a - b) for a, b in pairs)
    assert float(made.divergence(other.tables)) == pytest.approx(wanted, abs=1e-10)
    assert float(made.divergence(made.tables)) == pytest.approx(0.0, abs=1e-12)
    assert wanted > 0.0 or len(pairs) == 1


def test_the_divergence_counts_a_decision_as_often_as_it_is_active():
    made = policy(CONDITIONAL, [[0.0, 1.0], [0.5, 0.0]])
    other = [torch.tensor(row, dtype=torch.float64) for row in ([0.0, 1.0], [0.0, 0.0])]
    chances = torch.softmax(made.tables[1], 0)
    own = float((chances * (chances.log() - math.log(0.5))).sum())
    assert float(made.divergence(other)) == pytest.approx(0.7310585786 * own, abs=1e-10)


def test_the_divergence_has_its_gradient():
    made = policy(CONDITIONAL, [[0.0, 1.0], [0.5, 0.0]])
    leaves = made.leaves()
    (slope,) = torch.autograd.grad(made.divergence(made.tables, leaves), leaves[:1])
    assert slope.tolist() == pytest.approx([0.0, 0.0], abs=1e-12)
    other = [table + torch.arange(len(table)) for table in made.tables]
    assert all(float(s.abs().sum()) > 1e-3 for s in torch.autograd.grad(made.divergence(other, leaves), leaves))


NORMAL = mu.space({"x": mu.oneof(["a", {"lr": mu.floatv(1e-4, 1.0, scale="log")}]), "y": mu.floatv(2.0, 6.0),
                   "n": mu.intv(1, 3)})  # fmt: skip


def test_normal_ranges_count_with_their_densities_when_they_are_active():
    made = policy(NORMAL, [[0.0, 1.0], [0.0, 0.0], [1.0, -1.0], [0.0] * 3], continuous="normal")
    assert [part.kind for part in made.parts] == ["options", "normal", "normal", "options"]
    space = NORMAL.bare()
    without, within = (space.repair([x, 1e-2, 5.0, 2], lambda point: None) for x in (0, 1))
    y = normals.log_density(made.tables[2], 0.75)
    rest = float(y) + math.log(1 / 3)
    assert float(made.log_prob(without)) == pytest.approx(-1.3132616875 + rest, abs=1e-8)
    lr = float(normals.log_density(made.tables[1], 0.5))
    assert float(made.log_prob(within)) == pytest.approx(-0.3132616875 + rest + lr, abs=1e-8)


def test_normal_ranges_join_entropy_and_divergence_by_their_reach():
    made = policy(NORMAL, [[0.0, 1.0], [0.5, 0.3], [1.0, -1.0], [0.0] * 3], continuous="normal")
    other = [table + 0.3 for table in made.tables]
    reach = 0.7310585786
    lr, y = (normals.divergence(made.tables[i], other[i]) for i in (1, 2))
    assert float(made.divergence(other)) == pytest.approx(float(reach * lr + y), abs=1e-9)
    parts = [float(normals.entropy(made.tables[i])) for i in (1, 2)]
    wanted = 0.5822031089 + reach * parts[0] + parts[1] + math.log(3)
    assert float(made.entropy()) == pytest.approx(wanted, abs=1e-8)


def test_normal_ranges_are_drawn_within_themselves():
    made, noise = policy(NORMAL, init_std=1.0, continuous="normal"), Noise(Rng(5))
    lrs, ys = [], []
    for _ in range(300):
        chosen = made.select(0, made.tables, lambda part, logits: Index(len(logits) - 1), noise, 1.0)
        lrs.append(chosen[1].value)
        ys.append(chosen[2].value)
    assert all(1e-4 <= lr <= 1.0 for lr in lrs) and all(2.0 <= y <= 6.0 for y in ys)
    wanted = float(normals.moments(made.tables[2])[0])
    assert sum((y - 2.0) / 4.0 for y in ys) / 300 == pytest.approx(wanted, abs=0.06)


def test_continuous_ranges_have_no_list_of_values():
    made = policy(NORMAL, continuous="normal")
    with pytest.raises(SettingError) as caught:
        list(made.outcomes(made.parts[2]))
    assert str(caught.value) == (
        "cannot list the values of a decision\n  at:       ['y']\n  got:      'float in [2.0, 6.0]' (str)\n"
        "  expected: finitely many values, or a policy that cuts ranges into some\n"
        "  fix:      write the values as mu.oneof([...])"
    )
