"""Expectations of costs: exact, and with a gradient that is right."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from oneshot_probe import probed

import mutandis as mu
from mutandis.algorithms.oneshot.gates import DSNAS, ProxylessNAS
from mutandis.algorithms.oneshot.gumbel import GDAS, SNAS
from mutandis.algorithms.oneshot.mixtures import DARTS, SETN
from mutandis.algorithms.oneshot.resources import ResourceConstrained
from mutandis.algorithms.oneshot.sizes import TAS, FBNetV2
from mutandis.algorithms.oneshot.tables.policy import Policy
from mutandis.errors import SettingError
from mutandis.flows.costs import fit_cost
from mutandis.hyper.rng import Rng
from mutandis.models import nats

X = torch.zeros(1, 3, 8, 8)


@functools.cache
def fitted(name):
    """Returns a space and the operations of its children, in millions."""
    if name == "topology":
        program = nats.topology_program(channels=4, cells_per_stage=1)
    else:
        program = nats.size_program()
    return mu.space(program), fit_cost(program, lambda child: mu.flows.measure(child, "flops", X) / 1e6)


def chances(space, seed):
    """Returns random probabilities by name of the decision."""
    generator = torch.Generator().manual_seed(seed)
    rows = {p.key: torch.rand(p.num_candidates, generator=generator, dtype=torch.float64) for p in space.points}
    return {key: (row / row.sum()).requires_grad_() for key, row in rows.items()}


@pytest.mark.parametrize("name", ["topology", "size"])
def test_the_expectation_under_certainty_is_the_cost(name):
    space, cost = fitted(name)
    for seed in range(5):
        dna = space.bare().random(seed)
        sure = {p.key: torch.eye(p.num_candidates, dtype=torch.float64)[v]
                for p, v in zip(space.points, dna.values, strict=True)}  # fmt: skip
        assert float(cost.expected(sure)) == pytest.approx(cost(dna), rel=1e-12)


@pytest.mark.parametrize("name", ["topology", "size"])
def test_the_gradient_of_the_expectation_is_that_of_finite_differences(name):
    space, cost = fitted(name)
    given = chances(space, 0)
    cost.expected(given).backward()
    for key, row in given.items():
        assert bool((row.grad != 0).any())
        for place in range(len(row)):
            values = []
            for sign in (1, -1):
                moved = {k: r.detach().clone() for k, r in given.items()}
                moved[key][place] += sign * 1e-4
                values.append(float(cost.expected(moved)))
            assert float(row.grad[place]) == pytest.approx((values[0] - values[1]) / 2e-4, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("name", ["topology", "size"])
def test_the_gradient_of_logits_is_not_zero(name):
    space, cost = fitted(name)
    policy = Policy(space, Rng(0), init_std=0.5)
    tables = policy.leaves()
    total = cost.expected(policy, tables)
    given = {p.key: torch.softmax(t, 0) for p, t in zip(space.points, tables, strict=True)}
    assert torch.equal(total, cost.expected(given))
    slopes = torch.autograd.grad(total, tables)
    assert all(float(slope.abs().max()) > 1e-6 for slope in slopes)
    for slope in slopes:
        assert float(slope.sum()) == pytest.approx(0.0, abs=1e-12)  # A softmax does not feel a common shift.


def conditional():
    wide, deep = mu.oneof([2, 3], name="wide"), mu.oneof([4, 6, 9], name="deep")
    arms = mu.oneof([mu.nn.Linear(wide, wide), mu.nn.Sequential(mu.nn.Linear(wide, deep), mu.nn.Linear(deep, wide)),
                     mu.nn.Identity()], name="arm")  # fmt: skip
    return mu.nn.Sequential(mu.nn.Linear(5, wide), arms, mu.nn.Linear(wide, mu.oneof([1, 2], name="out")))


def test_the_expectation_of_a_conditional_space_is_the_sum_over_its_children():
    space = mu.space(conditional())
    cost = fit_cost(space, "params")
    assert cost.is_exact and space.is_conditional
    given = chances(space, 3)
    total = 0.0
    for dna in space.enumerate():
        share = 1.0
        for point, value in zip(space.points, dna.values, strict=True):
            share *= 1.0 if value is None else float(given[point.key][value].detach())
        total += share * mu.flows.measure(space.materialize(dna), "params")
    assert cost.expected(given).item() == pytest.approx(total, rel=1e-12)


def test_the_expectation_over_picks_is_the_sum_over_their_orders():
    program = {"layers": mu.manyof(2, [mu.nn.Linear(1, 1), mu.nn.Linear(2, 2), mu.nn.Linear(3, 3)], name="layers")}
    space = mu.space(program)
    cost = fit_cost(space, lambda child: float(sum(layer.in_features**2 for layer in child["layers"])))
    policy = Policy(space, Rng(1), init_std=1.0)
    (part,) = policy.parts
    expected = sum(float(chance) * sum((i + 1) ** 2 for i in picks) for picks, chance in policy.outcomes(part))
    assert float(cost.expected(policy)) == pytest.approx(expected, rel=1e-12)


def test_a_cost_in_the_loss_makes_a_policy_cheap():
    space, cost = fitted("topology")
    algorithm = ResourceConstrained(DARTS(learning_rate=0.1, weight_decay=0.0), cost)
    search = algorithm.start_shared(space.bare(), seed=0)
    before = float(cost.expected(search.policy_tables))
    for _ in range(80):
        search.feedback(search.policy(), loss=torch.zeros((), dtype=torch.float64, requires_grad=True) * 1.0)
    assert float(cost.expected(search.policy_tables)) < 0.51 * before
    assert cost(search.derive()) == min(cost(dna) for dna in space.bare().enumerate())


DIFFERENTIABLE = {
    "DARTS": DARTS(), "SETN": SETN(num_candidates=2), "GDAS": GDAS(), "GDAS autodl": GDAS(form="autodl"),
    "GDAS all": GDAS(form="all"), "SNAS": SNAS(), "DSNAS": DSNAS(), "ProxylessNAS": ProxylessNAS(),
    "ProxylessNAS all": ProxylessNAS(paths="all"), "FBNetV2": FBNetV2(), "TAS": TAS(),
}  # fmt: skip


def nothing(selections):
    """Returns a loss of 0 whose graph leads to all that the selections hold, with gradients of 0."""
    fields = ("weights", "gate", "offset", "value")
    tensors = [getattr(s, name, None) for s in selections.values() for name in fields]
    return sum((0.0 * t.sum() for t in tensors if isinstance(t, torch.Tensor)), torch.zeros((), dtype=torch.float64))


@pytest.mark.parametrize("form", ["linear", "relative", "power"])
@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_the_cost_pulls_on_the_policy_as_its_finite_differences_say(name, form):
    width = mu.oneof([2, 4, 8], name="width")
    program = mu.nn.Sequential(mu.nn.Linear(3, width), mu.oneof([mu.nn.Linear(width, width), mu.nn.Tanh()], name="op"))
    cost, space = fit_cost(program, "params"), mu.space(program).bare()
    budget = None if form == "linear" else 20.0
    constrained = ResourceConstrained(DIFFERENTIABLE[name], cost, form=form, weight=0.7, budget=budget)
    logits = [[0.3, -0.2, 0.5], [0.4, -0.1]]
    search, seen = probed(constrained, logits, space=space, fraction=0.5)
    chosen = search.policy()
    loss = nothing(chosen) + (2.0 if form == "power" else 0.0)
    search.feedback(chosen, loss=loss)

    def total(rows):
        expected = float(cost.expected({p.key: torch.softmax(torch.tensor(row, dtype=torch.float64), 0)
                                        for p, row in zip(space.points, rows, strict=True)}))  # fmt: skip
        if form == "linear":
            return 0.7 * expected
        if form == "relative":
            return 0.7 * (expected - 20.0) / 20.0
        return 0.7 * 2.0 * (math.log(expected) / math.log(20.0)) ** 0.3

    step = 1e-5
    for place, row in enumerate(logits):
        for entry in range(len(row)):
            moved = [[value + sign * step * (p == place and e == entry) for e, value in enumerate(values)]
                     for sign in (1, -1) for p, values in enumerate(logits)]  # fmt: skip
            slope = (total(moved[:2]) - total(moved[2:])) / (2 * step)
            assert seen.last[place][entry] == pytest.approx(slope, rel=1e-5, abs=1e-8)
    assert max(abs(value) for row in seen.last for value in row) > 1e-3


def test_chances_of_another_length_are_refused():
    space, cost = fitted("size")
    given = {**chances(space, 0), "width 2": torch.ones(3) / 3}
    with pytest.raises(SettingError) as caught:
        cost.expected(given)
    assert str(caught.value) == (
        "cannot take the expectation of a cost\n"
        "  at:       widths[2]\n"
        "  got:      (3,) (tuple)\n"
        "  expected: the chances of its values, as a tensor of shape (8,)\n"
        "  fix:      pass {path: probabilities} for each decision that the cost depends on"
    )


def test_decisions_without_a_cost_may_be_missing():
    program = {"layer": mu.nn.Linear(mu.oneof([1, 2], name="size"), 1), "rate": mu.floatv(0.1, 1.0, name="rate")}
    cost = fit_cost(program, "params")
    assert float(cost.expected({"size": torch.tensor([0.25, 0.75])})) == 2 * 0.25 + 3 * 0.75
    policy = Policy(mu.space(program), Rng(0), init_std=0.0)
    assert float(cost.expected(policy)) == 2.5


def test_a_model_shows_its_tables():
    _, cost = fitted("size")
    assert repr(cost) == f"CostModel(base={cost.base:g}, tables=[8x8, 8x8, 8x8, 8x8], error=0)"
