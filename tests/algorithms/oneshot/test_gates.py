"""DSNAS and ProxylessNAS: known gradients of gates, two paths, and what runs."""

from __future__ import annotations

import collections
import math

import pytest
import torch
from oneshot_probe import probed, vector
from toy_supernet import BEST, combine, run_shared, successes

import mutandis as mu
from mutandis.algorithms import DSNAS, ProxylessNAS, ResourceConstrained
from mutandis.algorithms.oneshot import Gate, Index, TableCost
from mutandis.algorithms.oneshot.gates import gate_slopes, leader, shift_back
from mutandis.errors import SettingError

QUICK = {"learning_rate": 0.03, "weight_decay": 0.0, "init_std": 0.0}
LOGITS = [[0.0, 0.5, -0.5]]
ARMS = [lambda: vector(5, 5), lambda: vector(1, 3), lambda: vector(7, -1)]
UPSTREAM = vector(0.4, -0.2)


@pytest.mark.parametrize("is_backward_first", [False, True])
def test_dsnas_weighs_the_score_by_the_gradient_of_its_gate(is_backward_first):
    search, seen = probed(DSNAS(), LOGITS, uniform=[0.5])
    chosen = search.policy()
    assert (chosen[0].index, chosen[0].probe, chosen[0].gate.tolist()) == (1, (), [0.0, 1.0, 0.0])
    loss = UPSTREAM @ combine(chosen[0], ARMS)
    if is_backward_first:
        loss.backward()
    search.feedback(chosen, loss=loss)
    assert seen.last[0] == pytest.approx([0.0614391771, -0.0987039218, 0.0372647446], abs=1e-8)


def test_dsnas_in_expectation_moves_towards_the_smaller_gradient():
    total, chances = torch.zeros(3, dtype=torch.float64), torch.softmax(vector(*LOGITS[0]), 0)
    for index, slope in enumerate((0.7, -0.2, -0.3)):
        place = float(chances[:index].sum() + chances[index] / 2)
        search, seen = probed(DSNAS(), LOGITS, uniform=[place])
        chosen = search.policy()
        search.feedback(chosen, loss=slope * chosen[0].gate[index])
        total += chances[index] * vector(*seen.last[0])
    assert total.tolist() == pytest.approx([0.1972677043, -0.1305928919, -0.0666748124], abs=1e-8)


def test_all_probed_gates_move_the_policy():
    search, seen = probed(ProxylessNAS(paths="all"), LOGITS, uniform=[0.5])
    chosen = search.policy()
    assert (chosen[0].index, chosen[0].probe) == (1, (0, 2))
    search.feedback(chosen, loss=chosen[0].gate @ vector(0.4, -0.2, 0.1))
    assert seen.last[0] == pytest.approx([0.1105245798, -0.1216640091, 0.0111394293], abs=1e-8)


def test_probed_outputs_reach_their_gates():
    search, seen = probed(ProxylessNAS(paths="all"), LOGITS, uniform=[0.5])
    chosen = search.policy()
    search.feedback(chosen, loss=UPSTREAM @ combine(chosen[0], ARMS))
    slopes = vector(*(float(UPSTREAM @ arm()) for arm in ARMS))
    wanted = gate_slopes(vector(*LOGITS[0]), slopes, (0, 1, 2))
    assert seen.last[0] == pytest.approx(wanted.tolist(), abs=1e-10)


def test_two_paths_compare_the_two_alone():
    # First draw 1 of p = (.307, .506, .186); then 0 of what is left; then 1 of softmax(.5, 0) = (.622, .378) to run.
    search, seen = probed(ProxylessNAS(), LOGITS, uniform=[0.5, 0.1, 0.1])
    chosen = search.policy()
    assert (chosen[0].index, chosen[0].probe) == (1, (0,))
    assert torch.softmax(vector(0.5, 0.0), 0).tolist() == pytest.approx([0.6224593312, 0.3775406688], abs=1e-9)
    search.feedback(chosen, loss=chosen[0].gate @ vector(0.4, -0.2, 0.1))
    assert seen.last[0] == pytest.approx([0.1410022273, -0.1410022273, 0.0], abs=1e-8)


def test_two_paths_keep_the_chance_of_the_others():
    before = vector(*LOGITS[0])
    table = before - 0.1 * gate_slopes(before, vector(0.4, -0.2, 0.1), (1, 0))
    shift_back(table, before, (1, 0))
    assert table.tolist() == pytest.approx([-0.0176468579, 0.5105535876, -0.5], abs=1e-8)
    assert float(torch.softmax(table, 0)[2]) == pytest.approx(0.1863237232, abs=1e-8)


def test_a_real_step_keeps_the_chance_of_the_others_too():
    space = mu.space(mu.oneof(["a", "b", "c"]))
    search = ProxylessNAS(learning_rate=0.1).start_shared(space, seed=0)
    search.policy_tables.set_state(LOGITS)
    search.noise.uniform = iter([0.5, 0.1, 0.1]).__next__
    chosen = search.policy()
    search.feedback(chosen, loss=chosen[0].gate @ vector(0.4, -0.2, 0.1))
    (row,) = search.probabilities().values()
    assert row[2] == pytest.approx(0.1863237232, abs=1e-10)
    assert row[0] < 0.3071 and row[1] > 0.5065


@pytest.mark.parametrize("algorithm", [DSNAS(), ProxylessNAS(), ProxylessNAS(paths="all")])
def test_paths_are_drawn_with_their_probability(algorithm):
    search, _ = probed(algorithm, LOGITS)
    counts = collections.Counter(search.weights()[0].index for _ in range(1500))
    gates = collections.Counter(search.policy()[0].index for _ in range(1500))
    for found in (counts, gates):
        for index, chance in enumerate([0.3072, 0.5065, 0.1863]):
            # A two-path draw takes pairs without replacement first, which is less sharp than p itself.
            slack = 0.1 if algorithm.__class__ is ProxylessNAS and algorithm.paths == "two" else 0.05
            assert found[index] / 1500 == pytest.approx(chance, abs=slack)
    assert isinstance(search.weights()[0], Index)


def test_a_single_candidate_has_a_gate_of_its_own():
    search = ProxylessNAS().start_shared(mu.space(mu.oneof(["only"])), seed=0)
    chosen = search.policy()
    assert isinstance(chosen[0], Gate) and chosen[0].runs == (0,)
    search.feedback(chosen, loss=3.0 * chosen[0].gate[0])
    assert search.probabilities() == {"": [1.0]}


def test_a_gate_that_no_one_used_moves_nothing():
    space = mu.space([mu.oneof(["a", "b"]), mu.oneof(["a", "b"])])
    search, seen = probed(DSNAS(), [[0.0, 0.0], [0.0, 0.0]], space=space)
    chosen = search.policy()
    search.feedback(chosen, loss=chosen[0].gate.sum())
    assert seen.last[1] is None and seen.last[0] is not None


def test_decisions_below_a_probe_are_chosen_and_learn_nothing():
    space = mu.space(mu.oneof([{"z": mu.oneof(["c", "d"])}, "b"]))
    search, seen = probed(ProxylessNAS(paths="all"), [[-9.0, 9.0], [0.0, 0.0]], space=space)
    chosen = search.policy()
    assert chosen[0].index == 1 and 1 in chosen
    inner = [lambda: vector(1.0), lambda: vector(2.0)]
    output = combine(chosen[0], [lambda: combine(chosen[1], inner), lambda: vector(3.0)])
    search.feedback(chosen, loss=output.sum())
    assert seen.last[0] is not None and seen.last[1] is None


def test_continuous_ranges_move_by_their_own_gradient():
    space = mu.space([mu.oneof(["a", "b"]), mu.floatv(0.0, 4.0)])
    search, seen = probed(DSNAS(), [[0.0, 0.0], [0.0]], space=space)
    chosen = search.policy()
    search.feedback(chosen, loss=chosen[0].gate.sum() * chosen[1].value)
    assert seen.last[1] == pytest.approx([1.0], abs=1e-12)


@pytest.mark.parametrize(
    ("logits", "lead", "found"),
    [([0.0, 0.5, -0.5], 0.3, None), ([0.0, 0.5, -0.5], 0.19, 1), ([0.0, 0.5, -0.5], 0.2, None), ([3.0, 0.0], 0.3, 0),
     ([0.0], 1.0, 0), ([0.0, 0.0], 0.01, None)],
)  # fmt: skip
def test_a_candidate_leads_by_a_share(logits, lead, found):
    # softmax(0, .5, -.5) is (.307, .506, .186): the first leads the second by .199.
    assert leader(vector(*logits), lead) == found


def test_a_settled_decision_runs_its_leader_and_rests():
    space = mu.space([mu.oneof(["a", "b"]), mu.oneof(["a", "b"])])
    search, seen = probed(DSNAS(early_fix=0.3), [[1.0, 0.0], [0.0, 0.1]], space=space)
    for _ in range(20):
        assert search.weights()[0] == Index(0)
        chosen = search.policy()
        assert chosen[0] == Index(0) and isinstance(chosen[1], Gate)
    search.feedback(chosen, loss=2.0 * chosen[1].gate.sum())
    assert seen.last[0] is None and seen.last[1] is not None


def test_a_cost_does_not_move_what_is_settled():
    space = mu.space([mu.oneof(["a", "b"], name="x"), mu.oneof(["a", "b"], name="y")])
    costly = ResourceConstrained(DSNAS(early_fix=0.3), TableCost({"x": [1.0, 2.0], "y": [1.0, 2.0]}))
    search, seen = probed(costly, [[1.0, 0.0], [0.0, 0.1]], space=space)
    chosen = search.policy()
    search.feedback(chosen, loss=chosen[1].gate.sum())
    assert seen.last[0] is None and seen.last[1] is not None


def test_without_early_fixing_nothing_is_settled():
    search, seen = probed(DSNAS(), [[9.0, 0.0, 0.0]])
    chosen = search.policy()
    assert isinstance(chosen[0], Gate)
    search.feedback(chosen, loss=chosen[0].gate.sum())
    assert seen.last[0] is not None


@pytest.mark.parametrize(("limit", "is_above"), [(3.0, True), (3.5, True), (3.6, False)])
def test_a_draw_above_the_limit_pays_for_what_it_has_drawn(limit, is_above):
    cost = TableCost({"": [1.0, 3.0, 2.0]}, base=0.5)
    search, seen = probed(DSNAS(limit=limit, cost_weight=0.1), LOGITS, uniform=[0.5], cost=cost)
    chosen = search.policy()
    search.feedback(chosen, loss=UPSTREAM @ combine(chosen[0], ARMS))
    p = torch.softmax(vector(*LOGITS[0]), 0)
    wanted = vector(0.0614391771, -0.0987039218, 0.0372647446)
    if is_above:  # d(0.1 * 3 * p_1) / dA.
        wanted = wanted + 0.3 * p[1] * (vector(0, 1, 0) - p)
    assert seen.last[0] == pytest.approx(wanted.tolist(), abs=1e-8)


def test_a_limit_needs_a_table_of_costs():
    with pytest.raises(SettingError) as caught:
        probed(DSNAS(limit=1.0), LOGITS)
    assert str(caught.value) == (
        "cannot use a setting\n  at:       one_shot.cost\n  got:      None (NoneType)\n  expected: a TableCost\n"
        '  fix:      use cost=TableCost({"op": [1.0, 2.0]}) with DSNAS(limit=...)'
    )


def test_a_decision_that_is_not_active_costs_nothing():
    space = mu.space({"x": mu.oneof(["a", {"z": mu.oneof([1, 2], name="z")}])})
    cost = TableCost({"z": [9.0, 9.0]})
    search, seen = probed(DSNAS(limit=1.0, cost_weight=1.0), [[9.0, 0.0], [0.0, 0.0]], space=space, cost=cost)
    chosen = search.policy()
    search.feedback(chosen, loss=chosen[0].gate.sum())
    assert seen.last[1] is None


@pytest.mark.parametrize("algorithm", [DSNAS(delay=0.25), ProxylessNAS(delay=0.25)])
@pytest.mark.parametrize(("fraction", "moves"), [(0.0, False), (0.24, False), (0.25, True)])
def test_the_policy_rests_until_the_delay_is_over(algorithm, fraction, moves):
    search, seen = probed(algorithm, LOGITS, fraction=fraction)
    chosen = search.policy()
    search.feedback(chosen, loss=chosen[0].gate.sum())
    assert bool(seen.gradients) == moves


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DSNAS(early_fix=0.0), "DSNAS.early_fix\n  got:      0.0 (float)\n"
         "  expected: a finite number > 0 and <= 1\n  fix:      give a number within these bounds"),
        (lambda: ProxylessNAS(rule="rl"), "ProxylessNAS.rule\n  got:      'rl' (str)\n"
         "  expected: 'gradient' or 'reinforce'\n  fix:      write 'gradient'"),
        (lambda: ProxylessNAS(baseline_rate=1.5), "ProxylessNAS.baseline_rate\n  got:      1.5 (float)\n"
         "  expected: a finite number > 0 and <= 1\n  fix:      give a number within these bounds"),
    ],
)  # fmt: skip
def test_wrong_settings_are_refused(make, message):
    with pytest.raises(SettingError) as caught:
        make()
    assert str(caught.value) == "cannot use a setting\n  at:       " + message


def test_a_target_needs_rewards():
    with pytest.raises(SettingError) as caught:
        ProxylessNAS(target=80.0)
    assert str(caught.value) == (
        "cannot weigh a cost\n  at:       ProxylessNAS.target\n  got:      80.0 (float)\n"
        "  expected: None for rule='gradient', which learns from a loss\n"
        "  fix:      write ResourceConstrained(ProxylessNAS(), cost)"
    )


@pytest.mark.parametrize(
    ("value", "shown", "fix"),
    [(mu.intv(1, 3), "int in [1, 3]", "write the values as mu.oneof([...])"),
     (mu.floatv(0.0, 1.0, step=0.5), "float in [0.0, 1.0] step 0.5", "write the values as mu.oneof([...])"),
     (mu.manyof(2, [1, 2]), "2 in order of [1, 2]",
      "write one mu.oneof per place, or use an algorithm that learns from rewards, such as TuNAS() or ENAS()")],
)  # fmt: skip
def test_decisions_without_gates_are_refused(value, shown, fix):
    with pytest.raises(SettingError) as caught:
        DSNAS().start_shared(mu.space({"x": value}), seed=0)
    assert str(caught.value) == (
        f"cannot relax a decision\n  at:       ['x']\n  got:      {shown!r} (str)\n"
        f"  expected: what DSNAS has a gradient for: choices and continuous ranges\n  fix:      {fix}"
    )


def test_needs_differ():
    one, other = probed(DSNAS(), LOGITS)[0].needs, probed(ProxylessNAS(every=3), LOGITS)[0].needs
    assert (one.data, one.is_one_pass, one.norm, one.probes) == ("train", True, "batch_affine", False)
    assert (other.data, other.is_one_pass, other.every, other.probes) == ("valid", False, 3, True)
    assert math.isclose(ProxylessNAS().learning_rate, 1e-3)


@pytest.mark.parametrize(("algorithm", "steps"), [(DSNAS(**QUICK), 1000), (ProxylessNAS(every=1, **QUICK), 900)])
def test_the_toy_supernet_is_solved(algorithm, steps):
    assert run_shared(algorithm, steps, 0) == BEST


@pytest.mark.slow
@pytest.mark.parametrize(
    ("algorithm", "is_fixed"),
    [(DSNAS(**QUICK), False), (DSNAS(**QUICK), True), (ProxylessNAS(every=1, **QUICK), False),
     (ProxylessNAS(paths="all", every=1, **QUICK), False)],
)  # fmt: skip
def test_nine_of_ten_seeds_solve_the_toy_supernet(algorithm, is_fixed):
    assert successes(algorithm, 1500, range(10), is_fixed=is_fixed) >= 9
