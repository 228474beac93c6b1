"""What is selected is what runs, and gradients come back to the selections."""

from __future__ import annotations

from collections import namedtuple

import pytest
import torch
import toy_sizes as toy
from torch import nn
from toy_shared import NAMES, Curve, cells, toy_program

import mutandis as mu
from mutandis.algorithms.oneshot.gates import DSNAS
from mutandis.algorithms.oneshot.gumbel import GDAS
from mutandis.algorithms.oneshot.mixtures import DARTS
from mutandis.algorithms.oneshot.selections import Gate, Index, Mixture, Selections, Subset, Value
from mutandis.algorithms.oneshot.sizes import TAS, FBNetV2
from mutandis.algorithms.oneshot.tunas import TuNAS
from mutandis.errors import LoweringError
from mutandis.flows.costs.measures import modules_of
from mutandis.flows.oneshot.running import forked, layers_of, moved, running

X = torch.linspace(-1, 1, 10).reshape(5, 2)
PARTS = [Curve(name) for name in NAMES]


def outputs(column):
    with torch.no_grad():
        return torch.stack([part(X[:, column]) for part in PARTS]).double()


@pytest.fixture(scope="module")
def shared():
    return mu.share_weights(toy_program())


def leaf(*values):
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def test_indices_run_the_child(shared):
    with running(shared, Selections(0, {0: Index(1), 1: Index(3)})) as child:
        assert torch.allclose(child(X).double(), outputs(0)[1] + outputs(1)[3])
        assert shared.dna == shared.space.dna({"curve 0": 1, "curve 1": 3})


def test_a_mixture_weighs_all(shared):
    w = leaf(0.1, 0.2, 0.3, 0.4)
    with running(shared, Selections(0, {0: Mixture(w), 1: Index(0)})) as child:
        result = child(X)
    result.sum().backward()
    assert torch.allclose(result.detach().double(), w.detach() @ outputs(0) + outputs(1)[0])
    assert torch.allclose(w.grad, outputs(0).sum(1), atol=1e-6)


def test_a_subset_runs_only_some(shared):
    w = leaf(0.25, 0.5)
    with running(shared, Selections(0, {0: Index(0), 1: Subset((3, 1), w)})) as child:
        result = child(X)
    assert torch.allclose(result.detach().double(), outputs(0)[0] + 0.25 * outputs(1)[3] + 0.5 * outputs(1)[1])


def test_an_offset_of_zero_has_a_gradient_and_no_effect(shared):
    w, offset = leaf(1.0), torch.zeros((), dtype=torch.float64, requires_grad=True)
    selections = Selections(0, {0: Subset((2,), w, offset), 1: Index(0)})
    with running(shared, selections) as child:
        result = child(X)
    assert torch.allclose(result.detach().double(), outputs(0)[2] + outputs(1)[0])
    (3.0 * result).sum().backward()
    assert float(offset.grad) == pytest.approx(3.0 * len(X))
    with running(shared, Selections(0, {0: Subset((2,), w, None), 1: Index(0)})) as child:
        assert not any(layer._forward_hooks for layer in layers_of(child))


def test_a_gate_has_the_gradient_of_its_candidate_alone(shared):
    gate = leaf(0.0, 0.0, 1.0, 0.0)
    with running(shared, Selections(0, {0: Gate(2, gate), 1: Index(0)})) as child:
        result = child(X)
    result.sum().backward()
    assert torch.allclose(result.detach().double(), outputs(0)[2] + outputs(1)[0])
    assert gate.grad.tolist() == pytest.approx([0.0, 0.0, float(outputs(0)[2].sum()), 0.0], abs=1e-6)


def test_probed_gates_have_the_gradients_of_their_candidates(shared):
    gate = leaf(0.0, 0.0, 1.0, 0.0)
    with running(shared, Selections(0, {0: Gate(2, gate, (0, 3)), 1: Index(0)})) as child:
        result = child(X)
    result.sum().backward()
    sums = outputs(0).sum(1).tolist()
    assert torch.allclose(result.detach().double(), outputs(0)[2] + outputs(1)[0])
    assert gate.grad.tolist() == pytest.approx([sums[0], 0.0, sums[2], sums[3]], abs=1e-6)


def test_candidates_that_do_not_run_get_no_gradient():
    shared = cells()
    selections = {i: Index(2) for i in range(6)} | {0: Subset((3,), leaf(1.0))}
    with running(shared, Selections(0, selections)) as child:
        child(torch.randn(2, 3, 8, 8)).sum().backward()
    names = {name for name, p in shared.module.named_parameters() if p.grad is not None and "edges.0" in name}
    assert names and all("[0=3]" in name for name in names)


def test_values_and_picks_stand_in_the_child():
    program = mu.nn.Sequential(mu.nn.Dropout(mu.floatv(0.0, 0.5, name="p")), mu.nn.Linear(2, mu.oneof([1, 2])))
    shared = mu.share_weights(program, X)
    with running(shared, Selections(0, {0: Value(torch.tensor(0.25)), 1: Index(1)})) as child:
        assert child[0].p == 0.25 and child[1].out_features == 2


def test_a_value_that_wants_a_gradient_is_refused():
    shared = mu.share_weights(mu.nn.Sequential(mu.nn.Dropout(mu.floatv(0.0, 0.5, name="p")), mu.nn.Linear(2, 2)), X)
    with pytest.raises(LoweringError) as caught, running(shared, Selections(0, {0: Value(leaf(0.25)[0])})):
        pass
    assert str(caught.value) == (
        "cannot learn a decision from the gradient of a loss\n"
        "  at:       args[0].p\n"
        "  got:      'float in [0.0, 0.5]' (str)\n"
        "  expected: a choice among layers, whose outputs can be weighed\n"
        "  fix:      search it with an algorithm that learns from rewards, such as TuNAS() or ENAS()"
    )


def test_the_modules_of_a_program_and_of_a_call_are_found():
    linear = nn.Linear(1, 1)
    assert modules_of(linear) == [linear]
    shared = mu.share_weights(mu.bind(nn.Linear, 2, mu.oneof([1, 2])), X)
    child = shared.materialize(shared.space.random(0))
    assert [type(root) for root in modules_of(child)] == [nn.Linear]


def test_random_numbers_are_put_back():
    state = torch.random.get_rng_state()
    with forked(torch.device("cpu"), 5):
        first = torch.rand(2)
    with forked(torch.device("cpu"), 5):
        assert torch.equal(torch.rand(2), first)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_batches_move_with_what_they_hold():
    Pair = namedtuple("Pair", "x y")
    batch = {"a": (torch.ones(1), [torch.zeros(2)]), "b": Pair(torch.ones(3), "text")}
    made = moved(batch, torch.device("meta"))
    assert made["a"][0].is_meta and made["a"][1][0].is_meta and made["b"].x.is_meta
    assert made["b"].y == "text" and type(made["b"]) is Pair


@pytest.mark.parametrize("mode", ["mask", "interpolate"])
def test_sizes_are_mixed_as_the_selection_says(mode):
    width = mu.oneof([1, 2], name="width")
    shared = mu.share_weights(mu.nn.Sequential(mu.nn.Linear(2, width), mu.nn.Linear(width, 1)), X)
    w = leaf(0.25, 0.75)
    for selection in (Mixture(w, mode), Subset((1, 0), w.flip(0), None, mode)):
        with running(shared, Selections(0, {0: selection})) as child:
            result = child(X)
        first, last = shared.materialize(shared.space.dna({"width": 1}))
        y = first(X)
        mixed = y * torch.tensor([1.0, 0.75]) if mode == "mask" else y * 0.75 + y[:, :1].expand(-1, 2) * 0.25
        assert torch.allclose(result, last(mixed), atol=1e-6)


@pytest.mark.parametrize("name", ["sizes", "resnet", "mobilenet"])
@pytest.mark.parametrize("algorithm", [FBNetV2(warmup=0.5), TAS(), DARTS(), DSNAS(), GDAS(form="all"), TuNAS()],
                         ids=lambda algorithm: type(algorithm).__name__)  # fmt: skip
def test_a_loop_of_ones_own_searches_sizes(name, algorithm):
    if (name, type(algorithm)) == ("mobilenet", TAS):
        name = "resnet"  # Its flattened channels are refused.
    shared = toy.shared_of(name)
    search = algorithm.start_shared(shared.space.bare(), seed=0)
    optimizer = torch.optim.SGD(shared.module.parameters(), 0.01, momentum=0.9)
    guard = shared.guard(optimizer)
    before = [table.clone() for table in search.policy_tables.tables]
    for step in range(4):
        search.progress(step / 4)
        if not search.needs.is_one_pass:
            with running(shared, search.weights()) as child:
                toy.passed(child)
            optimizer.step()
            optimizer.zero_grad()
        chosen = search.policy()
        with running(shared, chosen) as child:
            loss = toy.trained(child)(toy.images()).square().mean()
            if search.needs.outcome == "reward":
                search.feedback(chosen, reward=-float(loss.detach()))
            else:
                search.feedback(chosen, loss=loss)
    guard.remove()
    assert all(bool(torch.isfinite(p).all()) for p in shared.module.parameters())
    assert any(not torch.equal(a, b) for a, b in zip(before, search.policy_tables.tables, strict=True))
    assert shared.space.allows(search.derive())
