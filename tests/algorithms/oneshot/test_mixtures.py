"""DARTS and SETN: known gradients of both orders, the alternating fixed points, and what they derive."""

from __future__ import annotations

import pytest
import torch
from oneshot_probe import TRIPLE, probed, vector
from toy_supernet import BEST, SPACE, Ahead, Data, Net, combine, run_shared, successes

import mutandis as mu
from mutandis.algorithms import DARTS, GDAS, SETN, SNAS
from mutandis.algorithms.oneshot import Index, Mixture, Selections, Subset, TopEdges, Value
from mutandis.algorithms.oneshot.mixtures import unrolled_gradients
from mutandis.errors import SettingError

QUICK = {"learning_rate": 0.03, "weight_decay": 0.0, "init_std": 0.0}
LOGITS = [[0.0, 0.5, -0.5]]


def loss_of(chosen):
    outputs = [lambda o=o: torch.tensor(o, dtype=torch.float64) for o in (2.0, -1.0, 0.0)]
    return (combine(chosen[0], outputs) - 1) ** 2


@pytest.mark.parametrize("algorithm", [DARTS(), SETN()])
@pytest.mark.parametrize("is_backward_first", [False, True])
def test_the_gradient_is_that_of_the_mixture(algorithm, is_backward_first):
    search, seen = probed(algorithm, LOGITS)
    chosen = search.policy()
    assert chosen[0].weights.tolist() == pytest.approx([0.3071958857, 0.5064803911, 0.1863237232], abs=1e-8)
    loss = loss_of(chosen)
    assert float(loss.detach()) == pytest.approx((0.1079113804 - 1) ** 2, abs=1e-8)
    if is_backward_first:
        loss.backward()
    search.feedback(chosen, loss=loss)
    assert seen.last[0] == pytest.approx([-1.0370384603, 1.0011649895, 0.0358734708], abs=1e-8)


def test_darts_trains_weights_on_the_mixture_without_a_gradient():
    chosen = probed(DARTS(), LOGITS)[0].weights()
    assert isinstance(chosen[0], Mixture)
    assert not chosen[0].weights.requires_grad


@pytest.mark.parametrize("order", [1, 2])
def test_the_policy_of_darts_moves_before_the_weights_as_in_its_first_algorithm(order):
    space = mu.space(mu.oneof([1, 2])).bare()
    first, late = (DARTS(order, policy_first=p).start_shared(space, seed=0).needs for p in (True, False))
    assert DARTS(order).policy_first and first.policy_first and not late.policy_first
    assert not SETN().start_shared(space, seed=0).needs.policy_first


def test_setn_trains_weights_on_uniform_paths():
    search, _ = probed(SETN(), [[9.0, 0.0, 0.0]])
    drawn = [search.weights()[0] for _ in range(300)]
    assert all(isinstance(selection, Index) for selection in drawn)
    assert all(70 < sum(s.index == k for s in drawn) < 130 for k in range(3))


class Scalar:
    """L_val = a w - 2 a + 1 and L_tr = w^2 - 2 a w + a^2, with a the value of the decision."""

    def __init__(self, w, rate, momentum=0.0, decay=0.0, buffer=0.0):
        self.w, self.learning_rate = w, rate
        self.momentum, self.decay, self.buffer = momentum, decay, buffer
        self.calls = []

    def weights(self):
        return [vector(self.w)]

    def stepped(self, gradients):
        slope = gradients[0] + self.decay * self.w
        return [vector(self.w) - self.learning_rate * (self.momentum * self.buffer + slope)]

    def loss(self, selections, data, weights):
        self.calls.append((data, float(weights[0].detach())))
        a, w = selections[0].value, weights[0][0]
        return a * w - 2 * a + 1 if data == "valid" else w * w - 2 * a * w + a * a


def hypergradient(a, hook):
    leaf = torch.tensor(a, dtype=torch.float64, requires_grad=True)
    return float(unrolled_gradients([leaf], lambda tables: Selections(0, {0: Value(tables[0])}), hook)[0])


@pytest.mark.parametrize(("rate", "slope"), [(0.0, -4.0), (0.1, -2.8), (0.5, 2.0)])
def test_the_second_order_gradient_sees_the_step_of_the_weights(rate, slope):
    assert hypergradient(2.0, Scalar(-2.0, rate)) == pytest.approx(slope, abs=1e-9)


def test_the_second_order_gradient_unrolls_the_real_optimizer():
    hook = Scalar(-2.0, 0.1, momentum=0.9, decay=3e-4, buffer=0.3)
    assert hypergradient(2.0, hook) == pytest.approx(-2.82694, abs=1e-9)
    assert hook.calls[1] == ("valid", pytest.approx(-1.22694, abs=1e-9))
    shifts = [w + 2.0 for data, w in hook.calls[2:]]
    assert shifts == pytest.approx([0.01, -0.01], abs=1e-9)


@pytest.mark.parametrize(("rate", "fixed"), [(0.0, 2.0), (0.1, 5 / 3), (0.5, 1.0)])
def test_alternating_steps_end_where_they_should(rate, fixed):
    a, w = 2.0, -2.0
    for _ in range(400):
        a -= 0.1 * hypergradient(a, Scalar(w, rate))
        w -= 0.1 * (2 * w - 2 * a)
    assert (a, w) == pytest.approx((fixed, fixed), abs=1e-4)


def test_a_flat_valid_loss_leaves_the_first_order():
    class Flat(Scalar):
        def loss(self, selections, data, weights):
            return selections[0].value * 3.0 + 0.0 * weights[0][0]

    assert hypergradient(2.0, Flat(1.0, 0.5)) == 3.0


def test_the_second_order_gradient_of_a_net_is_the_derivative_through_the_step():
    data, net = Data(0), Net(0)
    net.weights = [w.detach().double().requires_grad_() for w in net.weights]
    train, valid = ((f.double(), y.double()) for f, y in (data.batch(), data.batch()))
    search, seen = probed(DARTS(order=2), [[0.1 * i * layer for i in range(4)] for layer in range(4)], space=SPACE)
    before = [w.item() for w in net.weights]
    search.feedback(search.policy(), virtual=Ahead(net, train, valid))
    assert [w.item() for w in net.weights] == before
    assert all(w.grad is None for w in net.weights)

    leaves = search.policy_tables.leaves()
    mixture = {i: Mixture(torch.softmax(table, 0)) for i, table in enumerate(leaves)}
    slopes = torch.autograd.grad(net.loss(mixture, train), net.weights, create_graph=True)
    ahead = [w - Ahead.learning_rate * g for w, g in zip(net.weights, slopes, strict=True)]
    wanted = torch.autograd.grad(net.loss(mixture, valid, ahead), leaves)
    for found, exact in zip(seen.last, wanted, strict=True):
        assert found == pytest.approx(exact.tolist(), abs=1e-5)


def test_several_picks_have_no_second_order():
    with pytest.raises(SettingError) as caught:
        DARTS(order=2).start_shared(mu.space(mu.manyof(2, [1, 2, 3])), seed=0)
    assert str(caught.value) == (
        "cannot take a second-order step\n  at:       (the root)\n  got:      '2 in order of [1, 2, 3]' (str)\n"
        "  expected: choices and ranges, whose mixtures need no random numbers\n  fix:      use DARTS(order=1)"
    )


def test_picks_in_too_many_orders_are_refused_before_training():
    space = mu.space(mu.permutate(list(range(9))))
    assert len(DARTS().start_shared(space, seed=0).policy()[0].indices) == 9
    with pytest.raises(SettingError, match="cannot sum over the orders of picks"):
        SETN().start_shared(space, seed=0)


def test_several_picks_are_drawn_in_the_first_order():
    search = DARTS().start_shared(mu.space(mu.manyof(2, ["a", "b", "c"])), seed=0)
    chosen = search.policy()
    assert isinstance(chosen[0], Subset) and len(chosen[0].indices) == 2
    before = search.policy_tables.state()
    search.feedback(chosen, loss=chosen[0].weights[0] * 2.0)
    assert search.policy_tables.state() != before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"order": 3}, "DARTS.order\n  got:      3 (int)\n  expected: 1 or 2\n  fix:      write order=1"),
        ({"learning_rate": 0.0}, "DARTS.learning_rate\n  got:      0.0 (float)\n  expected: a finite number > 0\n"
         "  fix:      give a number within these bounds"),
        ({"cells": 3}, "DARTS.cells\n  got:      3 (int)\n  expected: a TopEdges\n"
         "  fix:      use TopEdges(nodes, none=0)"),
    ],
)  # fmt: skip
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(SettingError) as caught:
        DARTS(**settings)
    assert str(caught.value) == "cannot use a setting\n  at:       " + message


@pytest.mark.parametrize("make", [DARTS, GDAS, SNAS])
@pytest.mark.parametrize(("keep", "found"), [(1, (0, 2, 0)), (2, (0, 2, 1)), (3, (1, 2, 1)), (None, (0, 2, 1))])
def test_cells_keep_their_best_edges(make, keep, found):
    cells = None if keep is None else TopEdges((("e0", "e1", "e2"),), none=0, keep=keep)
    space = mu.space([mu.oneof(["none", "skip", "conv"], name=f"e{i}") for i in range(3)])
    search = make(cells=cells).start_shared(space, seed=0)
    rows = [[0.8, 0.15, 0.05], [0.1, 0.2, 0.7], [0.3, 0.4, 0.3]]
    search.policy_tables.set_state([[float(torch.tensor(p).log()) for p in row] for row in rows])
    assert search.derive().values == found


@pytest.mark.parametrize("make", [DARTS, GDAS, SNAS])
def test_what_keeps_no_edges_is_refused(make):
    with pytest.raises(SettingError) as caught:
        make(cells=2)
    assert str(caught.value) == (
        f"cannot use a setting\n  at:       {make.__name__}.cells\n  got:      2 (int)\n  expected: a TopEdges\n"
        "  fix:      use TopEdges(nodes, none=0)"
    )


def test_setn_measures_its_most_likely_children():
    search, _ = probed(SETN(num_candidates=2), [[0.0, 2.0, 1.0]])
    asked = []
    assert search.derive(lambda dna: asked.append(dna.values) or -len(asked)).values == (1,)
    assert asked == [(1,), (2,)]
    assert search.derive(lambda dna: {1: 0.1, 2: 0.3}[dna.values[0]]).values == (2,)
    assert TRIPLE.points[0].num_candidates == 3


@pytest.mark.parametrize("algorithm", [DARTS(**QUICK), DARTS(order=2, **QUICK), SETN(num_candidates=20, **QUICK)])
def test_the_toy_supernet_is_solved(algorithm):
    assert run_shared(algorithm, 400, 0) == BEST


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", [DARTS(**QUICK), DARTS(order=2, **QUICK), SETN(num_candidates=20, **QUICK)])
def test_nine_of_ten_seeds_solve_the_toy_supernet(algorithm):
    assert successes(algorithm, 600, range(10)) >= 9
