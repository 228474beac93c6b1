"""Several arms at once: weighted sums, gates, and nothing that is not selected."""

from __future__ import annotations

import pytest
import supernet_zoo as zoo
import torch
from torch import nn

import mutandis as mu
from mutandis.errors import DecisionError, LoweringError
from mutandis.flows.supernet import Choice, Gate, Mixture, Subset
from mutandis.models.nats import topology_program


@pytest.fixture
def shared():
    arms = [mu.nn.Linear(4, 4), mu.nn.Sequential(mu.nn.Linear(4, 4), mu.nn.ReLU()), mu.nn.Identity()]
    return mu.share_weights(mu.nn.Sequential(mu.nn.Linear(4, 4), mu.oneof(arms, name="arm"), mu.nn.Tanh()))


@pytest.fixture
def outputs(shared):
    """Returns the output of each arm, run alone."""
    x = zoo.features(3, 4)
    return [shared.materialize(shared.space.dna({"arm": k}))(x).detach() for k in range(3)]


def test_a_mixture_is_the_weighted_sum_of_the_arms(shared):
    x, weights = zoo.features(3, 4), torch.tensor([0.2, 0.3, 0.5], requires_grad=True)
    first = shared.space.dna({"arm": 0})
    stem = shared.materialize(first)[0](x)
    parts = [shared.materialize(shared.space.dna({"arm": k}))[1](stem) for k in range(3)]
    expected = torch.tanh(sum(w * part for w, part in zip(weights, parts, strict=True)))
    wanted = torch.autograd.grad(expected.sum(), weights, retain_graph=True)[0]
    with shared.select(first, {"arm": Mixture(weights)}) as live:
        assert isinstance(live[1], Choice) and isinstance(live[0], nn.Linear)
        found = live(x)
        found.sum().backward()
    assert torch.allclose(found, expected) and torch.allclose(weights.grad, wanted)
    assert all(p.grad is not None for p in shared.module.parameters())


@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_one_hot_mixture_is_the_child(shared, outputs, index):
    weights = torch.eye(3)[index]
    with shared.select(shared.space.dna({"arm": 0}), {"arm": Mixture(weights)}) as live:
        assert torch.allclose(live(zoo.features(3, 4)), outputs[index])


def test_arms_outside_of_a_subset_do_not_run_and_get_no_gradient(shared):
    weights = torch.tensor([0.6, 0.4], requires_grad=True)
    shared.module.zero_grad()
    with shared.select(shared.space.dna({"arm": 1}), {"arm": Subset((0, 2), weights)}) as live:
        assert sorted(live[1].arms) == ["0", "2"]
        live(zoo.features(3, 4)).sum().backward()
    missing = {name for name, p in shared.module.named_parameters() if p.grad is None}
    assert missing == {"1.0.weight[0=1]", "1.0.bias[0=1]"}
    assert bool(weights.grad.ne(0).all())


def test_a_gate_of_one_changes_nothing_and_has_a_gradient(shared, outputs):
    gate = torch.ones((), requires_grad=True)
    with shared.select(shared.space.dna({"arm": 0}), {"arm": Gate(1, gate)}) as live:
        found = live(zoo.features(3, 4))
        found.sum().backward()
    assert torch.equal(found.detach(), outputs[1]) and float(gate.grad) != 0


def test_afterwards_the_child_stands_there_alone(shared, outputs):
    dna = shared.space.dna({"arm": 2})
    with pytest.raises(KeyError), shared.select(dna, {"arm": Mixture(torch.ones(3))}):
        raise KeyError
    live = shared.materialize(dna)
    assert type(live[1]).__name__ == "Identity" and torch.equal(live(zoo.features(3, 4)), outputs[2])
    assert shared.verify(dna, zoo.features(3, 4)).error == 0.0


def test_a_selection_for_the_child_that_stands_there_already_is_seen_and_forgotten(shared):
    dna = shared.space.dna({"arm": 1})
    shared.materialize(dna)
    with shared.select(dna, {"arm": Mixture(torch.ones(3))}) as live:
        assert isinstance(live[1], Choice)
    assert isinstance(live[1], nn.Sequential) and shared.materialize(dna) is live


def test_a_choice_at_many_places_is_mixed_at_all_of_them():
    shared = mu.share_weights(topology_program(channels=2, cells_per_stage=1))
    dna = shared.space.random(0)
    alphas = torch.zeros(6, 5, requires_grad=True)
    mixtures = {p.key: Mixture(w) for p, w in zip(shared.points, alphas.softmax(1), strict=True)}
    x = zoo.images(size=8)
    with shared.select(dna, mixtures) as live:
        assert sum(isinstance(m, Choice) for m in live.modules()) == 18
        live(x).square().sum().backward()
    assert bool(alphas.grad.ne(0).any(1).all())
    hot = {p.key: Mixture(torch.eye(5)[value]) for p, value in zip(shared.points, dna.values, strict=True)}
    with shared.select(dna, hot) as live:
        mixed = live.eval()(x)
    assert torch.allclose(mixed, shared.materialize(dna)(x), atol=1e-6)


def test_a_candidate_of_several_layers_is_one_arm_even_if_only_one_layer_differs():
    edges = mu.arguments(topology_program(channels=2, cells_per_stage=1))["operations"]
    only = [mu.oneof([c for c in e.candidates if c.name.startswith("nor")], name=e.name) for e in edges]
    shared = mu.share_weights(mu.clone(topology_program(channels=2, cells_per_stage=1), operations=only))
    with shared.select(shared.space.random(0), {"edge 0 to 1": Mixture(torch.ones(2))}) as live:
        assert [type(m).__name__ for m in live.cells[0].edges[0].arms.values()] == ["ReluConvNorm", "ReluConvNorm"]


def test_numbers_and_unknown_arms_are_refused(shared):
    dna = shared.space.dna({"arm": 0})
    with (
        pytest.raises(DecisionError, match="all of them for a Mixture"),
        shared.select(dna, {"arm": Mixture(torch.ones(2))}),
    ):
        pass
    with pytest.raises(DecisionError, match=r"arms in \[0, 3\)"), shared.select(dna, {"arm": Gate(3, torch.ones(()))}):
        pass
    with pytest.raises(DecisionError), shared.select(dna, {"other": Mixture(torch.ones(3))}):
        pass
    sizes = mu.share_weights(*zoo.programs()["widths of layers"])
    point = sizes.points[0].path
    with pytest.raises(LoweringError, match="cannot run several arms of this decision"), sizes.select(
            sizes.space.dna({point: 0}), {point: Mixture(torch.ones(3))}):  # fmt: skip
        pass


def test_arms_whose_outputs_do_not_fit_are_refused():
    choice = Choice({0: nn.Linear(4, 2), 1: nn.Linear(4, 3)}, Mixture(torch.ones(2)), "net.block")
    with pytest.raises(LoweringError) as error:
        choice(torch.ones(1, 4))
    assert str(error.value) == (
        "cannot add up the arms of a choice\n"
        "  at:       net.block\n"
        "  got:      (1, 3) (tuple)\n"
        "  expected: outputs of one shape, as of the others (1, 2)\n"
        "  fix:      select one arm at a time"
    )
    pair = Choice({0: nn.LSTM(4, 2)}, Gate(0, torch.ones(())), "net.rnn")
    with pytest.raises(LoweringError, match="one tensor from each arm"):
        pair(torch.ones(1, 4))


def test_a_choice_that_decides_more_than_its_place_is_refused():
    @mu.symbolize
    class Net(nn.Module):
        def __init__(self, block):
            super().__init__()
            self.block = block
            self.many = isinstance(block, nn.Identity)
            self.last = nn.ModuleList([nn.Linear(2, 2) for _ in range(2)])

        def forward(self, x):
            return self.last[self.many](self.block(x))

    shared = mu.share_weights(Net(mu.oneof([mu.nn.Linear(2, 2), mu.nn.Identity()], name="block")))
    with pytest.raises(LoweringError) as error, shared.select(
            shared.space.dna({"block": 0}), {"block": Mixture(torch.ones(2))}):  # fmt: skip
        pass
    assert str(error.value) == (
        "cannot run several arms of a choice at once\n"
        "  at:       block, many\n"
        "  expected: a choice that only decides which layer stands at a place\n"
        "  fix:      select one arm at a time, or make what else it decides a decision of its own"
    )


def test_arms_of_a_width_that_is_decided_elsewhere_are_mixed_at_that_width():
    width = mu.oneof([4, 2])
    arms = mu.oneof([mu.nn.Linear(width, width), mu.nn.Identity()], name="arm")
    program = mu.nn.Sequential(mu.nn.Linear(4, width), arms, mu.nn.Linear(width, 1))
    shared = mu.share_weights(program, zoo.features(3, 4))
    for dna in shared.space.enumerate():
        with shared.select(dna, {"arm": Mixture(torch.tensor([0.0, 1.0]))}) as live:
            mixed = live(zoo.features(3, 4))
            assert live[1].arms["0"].in_features == live[0].out_features
        assert torch.allclose(mixed, live[2](live[0](zoo.features(3, 4))))


def test_an_arm_with_decisions_of_its_own_is_refused():
    width = mu.oneof([2, 4])
    inner = mu.nn.Sequential(mu.nn.Linear(4, width), mu.nn.Linear(width, 4))
    program = mu.nn.Sequential(mu.oneof([inner, mu.nn.Identity()], name="arm"))
    shared = mu.share_weights(program, zoo.features(3, 4))
    dna = shared.space.random(0)
    with (
        pytest.raises(LoweringError, match="cannot run several arms"),
        shared.select(dna, {"arm": Mixture(torch.ones(2))}),
    ):
        pass
    assert type(shared.materialize(dna)[0]) is not Choice
