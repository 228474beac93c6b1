"""Several arms at once: weighted sums, gates, and nothing that is not selected."""

from __future__ import annotations

import re

import pytest
import supernet_zoo as zoo
import torch
from torch import nn

import mutandis as mu
from mutandis.errors import DecisionError, LoweringError
from mutandis.flows.costs import measures
from mutandis.flows.supernet import Choice, Gate, Mixture, Subset
from mutandis.flows.supernet.choices import weighing
from mutandis.models.nats import EDGES, OPERATIONS, Operation, topology_program


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
    with pytest.raises(LoweringError, match="cannot mix the sizes of a decision"), sizes.select(
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
        "  fix:      make what else it decides a decision of its own, or select one arm at a time, as ENAS(), RSPS() "
        "and TuNAS(op_warmup=0.0) do"
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


def test_an_arm_with_a_width_of_its_own_is_mixed_at_that_width():
    width = mu.oneof([2, 4], name="width")
    inner = mu.nn.Sequential(mu.nn.Linear(4, width), mu.nn.ReLU(), mu.nn.Linear(width, 4))
    program = mu.nn.Sequential(mu.oneof([mu.nn.Identity(), inner], name="arm"))
    shared = mu.share_weights(program, zoo.features(3, 4))
    weights, x = torch.tensor([0.3, 0.7], requires_grad=True), zoo.features(3, 4)
    tensors = dict(shared.module.named_parameters())
    first, last = (tensors[f"0.{k}.weight[0=1]"] for k in (0, 2))
    bias, shift = (tensors[f"0.{k}.bias[0=1]"] for k in (0, 2))
    for dna, given, size in (
        (shared.space.dna({"arm": 0}), {"width": 1}, 4),
        (shared.space.dna({"arm": 0}), {"width": 0}, 2),
        (shared.space.dna({"arm": 0}), {}, 2),
        (shared.space.dna({"arm": 1, "width": 1}), {}, 4),
    ):
        hidden = torch.relu(x @ first[:size].T + bias[:size])
        wanted = weights[0] * x + weights[1] * (hidden @ last[:, :size].T + shift)
        expected = torch.autograd.grad(wanted.square().sum(), [weights, first, last, bias, shift])
        shared.module.zero_grad()
        weights.grad = None
        with shared.select(dna, {"arm": Mixture(weights), **given}) as live:
            found = live(x)
            found.square().sum().backward()
        assert torch.allclose(found, wanted)
        grads = (t.grad for t in (weights, first, last, bias, shift))
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(grads, expected, strict=True))
        assert not isinstance(shared.materialize(dna)[0], Choice)


class HandCell(nn.Module):
    """All operations of all edges of a cell, weighted."""

    def __init__(self, channels):
        super().__init__()
        self.edges = nn.ModuleList(nn.ModuleList(Operation(n)(channels) for n in OPERATIONS) for _ in EDGES)
        self.rows = []

    def forward(self, x):
        nodes = [x]
        for node in range(1, 4):
            parts = [
                sum(w * op(nodes[source]) for w, op in zip(self.rows[e], self.edges[e], strict=True))
                for e, (source, end) in enumerate(EDGES) if end == node
            ]  # fmt: skip
            nodes.append(sum(parts))
        return nodes[-1]


def test_a_network_of_shared_cells_is_that_which_is_written_by_hand(monkeypatch):
    monkeypatch.setattr(weighing, "SMALL", 0)
    program = topology_program(channels=2, cells_per_stage=1)
    shared = mu.share_weights(program)
    shared.module.double()
    hand = mu.space(program).materialize(mu.space(program).random(0))
    for place in (0, 2, 4):
        hand.cells[place] = HandCell(2 * 2 ** (place // 2))
    state = {re.sub(r"(edges\.\d+)\.(.*)\[\d+=(\d+)\]", r"\1.\3.\2", name): tensor
             for name, tensor in shared.module.state_dict().items()}  # fmt: skip
    hand.double().load_state_dict(state)
    rows = torch.randn(6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    hot = torch.eye(5, dtype=torch.float64)[3]
    straight = hot - rows[2].softmax(0).detach() + rows[2].softmax(0)
    weights = [rows[0].softmax(0), rows[1].softmax(0) * hot, hot * straight, *rows[3:].softmax(1)]
    selections = [Mixture(weights[0]), Subset((3,), weights[1][3:4]), Gate(3, weights[2][3]),
                  *map(Mixture, weights[3:5]), Subset((0, 4, 2), weights[5][[0, 4, 2]])]  # fmt: skip
    for place in (0, 2, 4):
        hand.cells[place].rows = [*weights[:5], weights[5] * torch.tensor([1.0, 0.0, 1.0, 0.0, 1.0])]
    x = zoo.images(size=8).double()
    wanted = hand(x)
    wanted.square().sum().backward(retain_graph=True)
    expected, rows.grad = rows.grad, None
    given = dict(zip((p.key for p in shared.points), selections, strict=True))
    with shared.select(shared.space.random(3), given) as live:
        found = live(x)
        found.square().sum().backward()
    assert torch.allclose(found, wanted, rtol=1e-10) and torch.allclose(rows.grad, expected, rtol=1e-8, atol=1e-10)
    theirs = dict(hand.named_parameters())
    for name, tensor in shared.module.named_parameters():
        other = theirs[re.sub(r"(edges\.\d+)\.(.*)\[\d+=(\d+)\]", r"\1.\3.\2", name)].grad
        assert (tensor.grad is None and not other.any()) or torch.allclose(tensor.grad, other, rtol=1e-8, atol=1e-10)


def test_probed_arms_give_their_gates_a_gradient_and_learn_nothing(shared, outputs):
    gates = torch.tensor([0.0, 1.0, 0.0], requires_grad=True)
    probe = Gate(1, gates[1], {0: gates[0], 2: gates[2]})
    shared.module.zero_grad()
    x, dna = zoo.features(3, 4), shared.space.dna({"arm": 1})
    with shared.select(dna, {"arm": probe}) as live:
        found = live(x)
        found.sum().backward()
    assert torch.equal(found.detach(), outputs[1])
    missing = {name for name, p in shared.module.named_parameters() if p.grad is None}
    assert missing == {"1.weight[0=0]", "1.bias[0=0]"}
    mixed = gates.detach().requires_grad_()
    with shared.select(dna, {"arm": Mixture(mixed)}) as live:
        live(x).sum().backward()
    assert torch.allclose(gates.grad, mixed.grad)


def test_an_offset_of_a_subset_changes_nothing_and_has_a_gradient(shared, outputs):
    offset = torch.zeros((), requires_grad=True)
    with shared.select(shared.space.dna({"arm": 0}), {"arm": Subset((1,), torch.ones(1), offset)}) as live:
        found = live(zoo.features(3, 4))
        found.sum().backward()
    assert torch.equal(found.detach(), outputs[1])
    assert float(offset.grad) == pytest.approx(float((1 - outputs[1] ** 2).sum()))


def test_arms_are_in_the_mode_of_the_program(shared):
    dna, both = shared.space.dna({"arm": 0}), {"arm": Subset((0, 1), torch.ones(2))}
    shared.materialize(dna).eval()
    with shared.select(dna, both) as live:
        assert not any(module.training for module in live.modules())
    shared.materialize(dna).train()
    with shared.select(dna, both) as live:
        assert all(module.training for module in live.modules())
        choice = live[1]
    with shared.select(dna, {"arm": Subset((0, 1), torch.zeros(2))}) as live:
        assert live[1] is choice and not live(zoo.features(3, 4)).equal(torch.ones(3, 4))
        assert torch.equal(live[1](zoo.features(3, 4)), torch.zeros(3, 4))


def test_an_arm_whose_mode_was_changed_alone_is_in_that_of_the_program_again(shared):
    first, second = (shared.space.dna({"arm": k}) for k in (0, 1))
    both = {"arm": Subset((0, 1), torch.ones(2))}
    with shared.select(first, both):
        pass
    shared.materialize(second).eval()
    shared.materialize(first).train()
    with shared.select(first, both) as live:
        assert all(module.training for module in live.modules())


def test_weights_that_are_read_first_without_gradients_have_theirs_all_the_same(shared):
    weights = torch.ones(3, requires_grad=True)
    mixture = Mixture(weights)
    with torch.no_grad():
        assert len(mixture.weights) == 3
    with shared.select(shared.space.dna({"arm": 0}), {"arm": mixture}) as live:
        live(zoo.features(3, 4)).sum().backward()
    assert weights.grad is not None


def test_a_decision_that_the_dna_has_is_not_given_twice(shared):
    with pytest.raises(DecisionError) as error, shared.select(shared.space.dna({"arm": 0}), {"arm": 1}):
        pass
    assert str(error.value) == (
        "cannot decide twice\n"
        "  at:       args[1]\n"
        "  got:      1 (int)\n"
        "  expected: a selection, or a decision that the DNA leaves out\n"
        "  fix:      put the value into the DNA"
    )


@mu.symbolize
class Beside(nn.Module):
    """A module that a list holds beside the register, so that the whole is looked up at once."""

    def __init__(self, block):
        super().__init__()
        self.block = block
        self.all = [block]

    def forward(self, x):
        return self.all[0](x)


def test_a_choice_in_a_module_that_is_held_by_an_attribute_is_refused_and_not_overlooked():
    shared = mu.share_weights(Beside(mu.oneof([mu.nn.Linear(2, 2), mu.nn.Tanh()], name="block")))
    dna = shared.space.dna({"block": 1})
    with pytest.raises(LoweringError, match="cannot run several arms of a choice at once"), shared.select(
            dna, {"block": Mixture(torch.ones(2))}):  # fmt: skip
        pass
    assert torch.equal(shared.materialize(dna)(torch.ones(1, 2)), torch.ones(1, 2).tanh())


def library_network() -> nn.Module:
    """Builds what somebody else wrote."""
    return nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))


@pytest.mark.parametrize("inside", [False, True], ids=["the program", "an argument"])
def test_layers_of_one_class_put_into_a_library_network_are_arms(inside):
    network = mu.bind(library_network)
    network.rebind({"[2]": mu.oneof([mu.nn.Linear(4, 4), mu.nn.Linear(4, 4, bias=False)], name="arm")})
    program = mu.nn.Sequential(network) if inside else network
    shared = mu.share_weights(program, zoo.features(3, 4))
    x, outputs = zoo.features(3, 4), []

    def run(live):
        return measures.call(live, x)

    for index in range(2):
        outputs.append(run(shared.materialize(shared.space.dna({"arm": index}))).detach().clone())
    weights = torch.tensor([0.3, 0.7], requires_grad=True)
    with shared.select(shared.space.dna({"arm": 0}), {"arm": Mixture(weights)}) as live:
        mixed = run(live)
        mixed.sum().backward()
    torch.testing.assert_close(mixed.detach(), 0.3 * outputs[0] + 0.7 * outputs[1])
    torch.testing.assert_close(weights.grad, torch.stack([output.sum() for output in outputs]))


def test_a_choice_in_a_layer_put_into_a_library_network_has_arms():
    network, inner = mu.bind(library_network), mu.oneof([mu.nn.Linear(4, 4), mu.nn.Linear(4, 4, bias=False)], name="in")
    network.rebind({"[2]": mu.nn.Sequential(inner, mu.nn.Tanh())})
    shared = mu.share_weights(network, zoo.features(3, 4))
    weights = torch.tensor([0.5, 0.5], requires_grad=True)
    with shared.select(shared.space.dna({"in": 0}), {"in": Mixture(weights)}) as live:
        measures.call(live, zoo.features(3, 4)).sum().backward()
    assert weights.grad is not None
