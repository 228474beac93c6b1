"""Decisions inside of arms that run beside each other."""

from __future__ import annotations

import pytest
import supernet_zoo as zoo
import torch

import mutandis as mu
from mutandis.errors import DecisionError, LoweringError
from mutandis.flows.supernet import Gate
from mutandis.flows.supernet.choices.contexts import Context
from mutandis.flows.supernet.lowering.partition import Part
from mutandis.flows.supernet.selections import Mixture, Subset


@pytest.fixture
def space():
    """Outer choice a of 3; in its first arm a choice b, in that a number c; in its second arm a number d; e apart."""
    c, d = mu.intv(1, 9, name="c"), mu.intv(1, 9, name="d")
    b = mu.oneof([[c], "none"], name="b")
    return mu.space([mu.oneof([[b], [d], "none"], name="a"), mu.intv(1, 9, name="e")])


def part(*decisions, arms=(0, 1)):
    return Part("net", decisions, False, decisions, frozenset(arms))


def test_decisions_below_an_arm_are_those_given_those_of_the_dna_or_the_first(space):
    values = [1, None, None, 5, 7]  # a, b, c, d, e.
    context = Context(space, {0: Mixture(torch.ones(3))}, {2: 4})
    with context.arms(0, values) as inside:
        assert inside == {0: [0, 0, 4, None, 7], 1: [1, None, None, 5, 7], 2: [2, None, None, None, 7]}
    assert values == [1, None, None, 5, 7]


def test_inside_of_its_arms_a_choice_is_open_no_more_and_others_are(space):
    context = Context(space, {0: Mixture(torch.ones(3)), 1: Subset((0, 1), torch.ones(2))}, {})
    values = [2, None, None, None, 7]
    assert context.find(part(0, 1), values) == 0
    with context.arms(0, values) as inside:
        assert context.find(part(0, 1), inside[0]) == 1
        assert context.find(part(0, 1), inside[1]) is None  # b is not active there.
        with context.arms(1, inside[0]) as deeper:
            assert context.find(part(0, 1), deeper[0]) is None
    assert context.find(part(0, 1), values) == 0


def test_only_parts_that_are_arms_and_hang_on_the_decision_are_choices(space):
    context = Context(space, {0: Mixture(torch.ones(3))}, {})
    values = [0, 0, 1, None, 7]
    assert context.find(part(0, arms=()), values) is None
    assert context.find(part(4), values) is None
    assert not Context(space, {}, {}) and context


def test_a_selection_that_no_layer_reads_is_refused(space):
    context = Context(space, {0: Mixture(torch.ones(3)), 1: Mixture(torch.ones(2))}, {})
    values = [1, None, None, 5, 7]
    with context.arms(0, values):
        pass
    with pytest.raises(LoweringError) as error:
        context.check(values)
    assert str(error.value) == (
        "cannot run several arms of a choice at once\n"
        "  at:       [0].candidates[0][0]\n"
        "  got:      'a value that code branches on, or layers that others hold in plain attributes' (str)\n"
        "  expected: a choice among layers, each where one module registers it\n"
        "  fix:      write the branches as layers, or use an algorithm that takes one candidate at a time, such as "
        "ENAS(), RSPS() or TuNAS(op_warmup=0.0)"
    )


def test_a_selection_of_a_decision_that_is_active_nowhere_is_no_mistake(space):
    context = Context(space, {0: Subset((1, 2), torch.ones(2)), 1: Mixture(torch.ones(2))}, {})
    values = [1, None, None, 5, 7]
    with context.arms(0, values):
        pass
    context.check(values)


def nested():
    """A choice straight below a choice, beside one that stands in a layer of another arm, and a number in that."""
    size = mu.oneof([3, 2], name="size")
    deep = mu.oneof([mu.nn.Tanh(), mu.nn.Sequential(mu.nn.Linear(4, size), mu.nn.Linear(size, 4))], name="deep")
    inner = mu.oneof([mu.nn.Linear(4, 4), mu.nn.Sigmoid()], name="inner")
    arms = [inner, mu.nn.Sequential(mu.nn.Linear(4, 4), deep, mu.nn.ReLU()), mu.nn.Identity()]
    program = mu.nn.Sequential(mu.nn.Linear(4, 4), mu.oneof(arms, name="outer"), mu.nn.Linear(4, 2))
    shared = mu.share_weights(program, zoo.features(3, 4))
    shared.module.double()
    return shared


def by_hand(tensors, x, outer, inner, deep, size):
    """The same with weights for each choice, written out."""

    def layer(name, x, rows=None, columns=None):
        weight = next(t for key, t in tensors.items() if key.startswith(f"{name}.weight["))
        bias = next(t for key, t in tensors.items() if key.startswith(f"{name}.bias["))
        return x @ weight[:rows, :columns].T + bias[:rows]

    x = x @ tensors["0.weight"].T + tensors["0.bias"]
    first = inner[0] * layer("1", x) + inner[1] * torch.sigmoid(x)
    hidden = layer("1.0", x)
    second = deep[0] * torch.tanh(hidden) + deep[1] * layer("1.1.1", layer("1.1.0", hidden, size), None, size)
    x = outer[0] * first + outer[1] * torch.relu(second) + outer[2] * x
    return x @ tensors["2.weight"].T + tensors["2.bias"]


@pytest.mark.parametrize("size", [0, 1])
@pytest.mark.parametrize("arm", [0, 1, 2])
def test_mixtures_in_arms_of_mixtures_are_those_that_are_written_out(arm, size):
    shared, x = nested(), zoo.features(3, 4).double()
    raw = [torch.randn(n, dtype=torch.float64, generator=torch.Generator().manual_seed(n)) for n in (3, 2, 2)]
    outer, inner, deep = (t.softmax(0).requires_grad_() for t in raw)
    tensors = dict(shared.module.named_parameters())
    leaves = [outer, inner, deep, *tensors.values()]
    wanted = by_hand(tensors, x, outer, inner, deep, (3, 2)[size])
    expected = torch.autograd.grad(wanted.square().sum(), leaves)
    decided = {"outer": arm, **({"inner": 1} if arm == 0 else {}), **({"deep": 0} if arm == 1 else {})}
    dna = shared.space.dna(decided)
    given = {"outer": Mixture(outer), "inner": Mixture(inner), "deep": Mixture(deep), "size": size}
    with shared.select(dna, given) as live:
        found = live(x)
        gradients = torch.autograd.grad(found.square().sum(), leaves)
    assert torch.allclose(found, wanted, rtol=1e-12)
    assert all(torch.allclose(a, b, rtol=1e-10, atol=1e-12) for a, b in zip(gradients, expected, strict=True))
    before = shared.materialize(dna)(x)
    assert torch.equal(before, shared.export(dna)(x)) and shared.verify(dna, x).error < 1e-12


def test_gradients_of_nested_selections_are_those_of_finite_differences():
    shared, x = nested(), zoo.features(3, 4).double()
    outer, deep = torch.tensor([0.5, 0.2], dtype=torch.float64), torch.tensor([0.6, 0.4], dtype=torch.float64)
    gate = torch.ones((), dtype=torch.float64)
    tensors = [outer, deep, gate, *shared.module.parameters()]

    def run():
        given = {"outer": Subset((1, 0), outer), "deep": Mixture(deep), "inner": Gate(0, gate), "size": 0}
        with shared.select(shared.space.dna({"outer": 2}), given) as live:
            return live(x).square().sum()

    for tensor in tensors:
        tensor.requires_grad_()
    gradients = torch.autograd.grad(run(), tensors)
    for tensor, gradient in zip(tensors, gradients, strict=True):
        for place in range(0, tensor.numel(), 3):
            values = []
            for shift in (1e-6, -1e-6):
                with torch.no_grad():
                    tensor.view(-1)[place] += shift
                    values.append(float(run()))
                    tensor.view(-1)[place] -= shift
            assert float(gradient.reshape(-1)[place]) == pytest.approx(
                (values[0] - values[1]) / 2e-6, rel=1e-5, abs=1e-7
            )


def test_arms_that_do_not_run_get_no_gradient_however_deep_they_stand():
    shared, x = nested(), zoo.features(3, 4).double()
    given = {"outer": Subset((1, 2), torch.tensor([0.5, 0.5])), "deep": Gate(0, torch.ones(()))}
    with shared.select(shared.space.dna({"outer": 2}), given) as live:
        live(x).sum().backward()
    missing = {name.partition("[")[0] for name, p in shared.module.named_parameters() if p.grad is None}
    assert missing == {f"{path}.{name}" for path in ("1", "1.1.0", "1.1.1") for name in ("weight", "bias")}


def test_parts_that_no_child_had_before_are_built_when_they_are_mixed():
    size = mu.intv(1, 900, name="size")
    inner = mu.nn.Sequential(mu.nn.Linear(4, size), mu.nn.Linear(size, 4))
    shared = mu.share_weights(mu.nn.Sequential(mu.oneof([mu.nn.Identity(), inner], name="arm")), zoo.features(3, 4))
    before, dna = shared.num_builds, shared.space.dna({"arm": 0})
    for count in (1, 0):
        with shared.select(dna, {"arm": Mixture(torch.tensor([0.5, 0.5])), "size": 337}) as live:
            mixed = live(zoo.features(3, 4))
            assert live[0].arms["1"][0].out_features == 337
        assert (shared.num_builds > before) == bool(count)
        before = shared.num_builds
    alone = shared.materialize(shared.space.dna({"arm": 1, "size": 337}))(zoo.features(3, 4))
    assert torch.allclose(mixed, (zoo.features(3, 4) + alone) / 2)


def test_a_raw_value_that_is_none_of_the_decision_is_refused():
    shared = nested()
    with pytest.raises(DecisionError, match="cannot use decision"), shared.select(
            shared.space.dna({"outer": 2}), {"size": 2}):  # fmt: skip
        pass


def test_a_single_arm_is_the_one_of_the_values_where_no_decision_depends_on_another(space):
    plain = mu.space([mu.oneof(["x", "y"], name="a"), mu.oneof(["x", "y"], name="b")])
    context = Context(plain, {0: Subset((1,), torch.ones(1)), 1: Mixture(torch.ones(2))}, {})
    assert context.single(0, [1, 0]) and not context.single(0, [0, 0]) and not context.single(1, [1, 0])
    assert not Context(space, {0: Subset((1,), torch.ones(1))}, {}).single(0, [1, None, None, 5, 7])
