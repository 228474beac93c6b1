"""A verification that finds what is wrong, and leaves everything as it was."""

from __future__ import annotations

import pytest
import supernet_zoo as zoo
import torch

import mutandis as mu
from mutandis.errors import LoweringError
from mutandis.flows.supernet.assembly import Assembly
from mutandis.flows.supernet.verify import as_double, tensors_in


@pytest.fixture
def shared():
    return mu.share_weights(*zoo.programs()["concat"])


@pytest.fixture
def dna(shared):
    return shared.space.dna({"first": 1, "second": 0})


def test_weights_gradients_buffers_mode_and_generator_are_as_before(shared, dna):
    batch = zoo.images()
    other = shared.space.dna({"first": 0, "second": 0})
    live = shared.materialize(other).eval()
    live(batch).sum().backward()
    tensors = dict(shared.module.state_dict(keep_vars=True))
    before = {
        name: (t.data_ptr(), t.clone(), None if t.grad is None else t.grad.clone()) for name, t in tensors.items()
    }
    generator = torch.random.get_rng_state()
    assert shared.verify(dna, batch).error < 1e-9
    for name, (pointer, value, gradient) in before.items():
        assert tensors[name].data_ptr() == pointer and torch.equal(tensors[name], value)
        assert gradient is None or torch.equal(tensors[name].grad, gradient)
    assert torch.equal(torch.random.get_rng_state(), generator)
    assert shared.dna == other and not live.training and shared.materialize(other) is live


def test_without_a_batch_trees_are_compared(shared, dna):
    found = shared.verify(dna)
    assert (found.modules, found.tensors, found.error, found.positions) == (5, 0, None, "proven")


def wrong_attribute(live):
    live.out.kernel_size = (2, 2)


def wrong_class(live):
    live._modules["out"] = torch.nn.Identity()


def wrong_shape(live):
    live.out._parameters["weight"] = torch.zeros(4, 3, 1, 1)


def missing_layer(live):
    live._modules["out"] = None


def another_weight(live):
    live.b._parameters["bias"] = torch.nn.Parameter(live.b.bias.detach().clone() + 1)


def another_output(live):
    live.out.register_forward_hook(lambda module, inputs, output: output * 1.001)


def no_gradient(live):
    live.a.register_forward_hook(lambda module, inputs, output: output.detach())


def another_statistic(live):
    live.norm.momentum = 0.1
    live.norm.register_forward_hook(lambda module, inputs, output: _count(module))


def _count(module):
    module.num_batches_tracked.add_(1)


@pytest.mark.parametrize(
    ("defect", "place"),
    [
        (wrong_attribute, "out, kernel_size"),
        (wrong_class, "out, kind"),
        (wrong_shape, "out, tensors"),
        (missing_layer, "layers"),
        (another_weight, "gradient of b.bias, largest entry"),
        (another_output, "output 0, largest difference"),
        (no_gradient, "gradient of a.weight, largest entry"),
        (another_statistic, "norm.num_batches_tracked after the pass, largest difference"),
    ],
)  # fmt: skip
def test_a_defect_is_found_and_named(shared, dna, defect, place, monkeypatch):
    switch = Assembly.switch
    monkeypatch.setattr(Assembly, "switch", lambda self, values: (switch(self, values), defect(self.roots[0])))
    with pytest.raises(LoweringError, match="differs from the child that was really built") as error:
        shared.verify(dna, zoo.images())
    assert error.value.at == place


def test_a_weight_of_another_candidate_is_found(monkeypatch):
    shared = mu.share_weights(mu.nn.Sequential(mu.nn.Linear(4, 4), mu.oneof([mu.nn.Linear(4, 4), mu.nn.Linear(4, 4)])))
    switch, first = Assembly.switch, shared.space.dna({shared.points[0].path: 0})
    monkeypatch.setattr(Assembly, "switch", lambda self, values: switch(self, first.values))
    with pytest.raises(LoweringError, match="differs from the child that was really built") as error:
        shared.verify(shared.space.dna({shared.points[0].path: 1}))
    assert error.value.at == "1, weight"


def test_positions_that_were_not_proven_are_said_to_be_unknown():
    shared = mu.share_weights(zoo.programs()["concat"][0], positions="leading")
    assert [shared.verify(dna).positions for dna in shared.space.enumerate()].count("proven") == 1


def test_nested_outputs_are_compared_in_full():
    tensors = [torch.ones(1), torch.zeros(2), torch.ones(3)]
    assert [t.shape for t in tensors_in({"a": tensors[:2], "b": (tensors[2], None, 3)})] == [(1,), (2,), (3,)]
    doubled = as_double((torch.ones(1), [torch.ones(1, dtype=torch.int64)], {"x": 3}))
    assert [t.dtype for t in tensors_in(doubled)] == [torch.float64, torch.int64] and doubled[2] == {"x": 3}


def test_an_error_of_the_program_passes_with_the_child_and_the_place():
    inside = mu.nn.Sequential(mu.nn.Flatten(), mu.nn.Linear(9, 2))
    with pytest.raises(RuntimeError, match=r"shapes cannot be multiplied") as error:
        mu.share_weights(mu.nn.Sequential(mu.oneof([mu.nn.ReLU(), mu.nn.Tanh()]), inside), torch.ones(2, 3))
    assert error.value.__notes__ == ["while running the child {args[0]: ReLU()}, in its module 1.1"]
