"""The shared tensors: as large as any child needs, named by their place."""

from __future__ import annotations

import pytest
import supernet_zoo as zoo
import torch
from torch import nn

import mutandis as mu
from mutandis.errors import LoweringError


def shapes(shared):
    return {name: tuple(tensor.shape) for name, tensor in shared.module.state_dict().items()}


def test_a_tensor_is_as_large_in_each_axis_as_any_child_has_it():
    @mu.symbolize
    class Net(nn.Linear):
        def __init__(self, n):
            super().__init__(n, 12 - n)

    shared = mu.share_weights(Net(mu.oneof([2, 4, 9])), positions="leading")
    assert shapes(shared) == {"weight": (10, 9), "bias": (10,)}
    assert bool(shared.module.state_dict()["weight"].ne(0).all())


def test_a_tensor_that_no_child_has_in_full_is_initialised_as_far_as_children_go():
    @mu.symbolize
    class Net(nn.Embedding):
        def __init__(self, n):
            super().__init__(n, 12 - n, padding_idx=0)

    weight = mu.share_weights(Net(mu.oneof([2, 4, 9])), positions="leading").module.state_dict()["weight"]
    assert weight.shape == (9, 10)
    assert bool(weight[0, :10].eq(0).all())  # What a child sets to zero stays zero.
    assert bool(weight[1:].ne(0).any(1).all()) and 0.5 < float(weight[1:].std()) < 1.5


def test_weights_of_candidates_are_named_by_decision_and_candidate():
    program = mu.nn.Sequential(mu.oneof([mu.nn.Linear(3, 3), mu.nn.Identity(), mu.nn.Linear(3, 3, bias=False)]))
    assert shapes(mu.share_weights(program)) == {
        "0.weight[0=0]": (3, 3), "0.bias[0=0]": (3,), "0.weight[0=2]": (3, 3)}  # fmt: skip


@pytest.mark.parametrize("around", [lambda net: net, lambda net: {"net": net}], ids=["alone", "in a program"])
def test_whole_networks_that_look_alike_have_weights_of_their_own(around):
    shared = mu.share_weights(around(mu.oneof([mu.nn.Linear(3, 3), mu.nn.Linear(3, 3)])))
    assert len(shapes(shared)) == 4
    lives = [shared.materialize(dna) for dna in shared.space.enumerate()]
    first, other = (live["net"] if isinstance(live, dict) else live for live in lives)
    assert first is not other and first.weight is not other.weight


def test_picks_have_weights_by_place_and_candidate():
    ops = [mu.nn.Linear(3, 3), mu.nn.Conv1d(2, 2, 1), mu.nn.ReLU()]
    shared = mu.share_weights(mu.bind(_stack, mu.manyof(2, ops)))
    assert set(shapes(shared)) == {
        f"{i}.{name}[0:{i}={pick}]" for i in (0, 1) for pick in (0, 1) for name in ("weight", "bias")
    }


def _stack(layers) -> nn.Sequential:
    return nn.Sequential(*layers)


def test_a_number_that_changes_the_class_of_a_layer_gives_each_class_its_weights():
    @mu.symbolize
    class Net(nn.Module):
        def __init__(self, n):
            super().__init__()
            self.layer = nn.Linear(n, n) if n > 2 else nn.Bilinear(n, n, n)

    shared = mu.share_weights(Net(mu.oneof([2, 3])))
    assert sorted(shapes(shared).values()) == [(2,), (2, 2, 2), (3,), (3, 3)]
    for dna in shared.space.enumerate():
        shared.verify(dna)


def test_weights_that_are_frozen_stay_frozen():
    @mu.symbolize
    class Net(nn.Module):
        def __init__(self, act):
            super().__init__()
            self.layer = nn.Linear(2, 2)
            self.layer.weight.requires_grad_(False)
            self.act = act

    shared = mu.share_weights(Net(mu.oneof([mu.nn.ReLU(), mu.nn.Tanh()])))
    assert {name: p.requires_grad for name, p in shared.module.named_parameters()} == {
        "layer.weight": False, "layer.bias": True}  # fmt: skip


def test_running_statistics_are_shared_and_other_buffers_are_not():
    shared = mu.share_weights(*zoo.programs()["transformer"])
    assert not any("wave" in name for name in shapes(shared))
    assert {"norm.running_mean", "norm.num_batches_tracked"} <= shapes(
        mu.share_weights(*zoo.programs()["concat"])
    ).keys()


def test_a_tensor_of_another_rank_is_refused():
    @mu.symbolize
    class Net(nn.Module):
        def __init__(self, n):
            super().__init__()
            self.scale = nn.Parameter(torch.ones([2] * n))

    with pytest.raises(LoweringError, match="whose number of dimensions depends on a number"):
        mu.share_weights(Net(mu.oneof([1, 2])))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_the_live_program_follows_to_another_type_and_back(dtype):
    program, batch = zoo.programs()["transformer"]
    shared = mu.share_weights(program, batch)
    live = shared.materialize(shared.space.random(2)).eval()
    wanted = live(batch)
    shared.module.to(dtype)
    assert live(batch).dtype == dtype
    live(batch).float().sum().backward()
    assert {p.grad.dtype for p in shared.module.parameters() if p.grad is not None} == {dtype}
    shared.module.float()
    assert torch.allclose(live(batch), wanted, atol=5e-2 if dtype != torch.float64 else 1e-6)


def test_another_device_is_followed_by_weights_and_by_what_layers_hold():
    program, batch = zoo.programs()["transformer"]
    shared = mu.share_weights(program, batch)
    shared.module.to("meta")  # A device without numbers: shapes run through it.
    for seed in range(3):
        live = shared.materialize(shared.space.random(seed))
        assert live(batch.to("meta")).shape == (2, 5, 11)
        assert {t.device.type for t in (*live.parameters(), *live.buffers())} == {"meta"}
    with pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor"):
        shared.module.to("cpu")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_passes_in_half_precision_train_whole_weights(dtype):
    program, batch = zoo.programs()["residual"]
    shared = mu.share_weights(program, batch)
    optimizer = torch.optim.SGD(shared.module.parameters(), 0.1, momentum=0.9)
    shared.guard(optimizer)
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    before = shared.module.get_parameter("head.weight").detach().clone()
    for seed in range(4):
        live = shared.materialize(shared.space.random(seed))
        with torch.autocast("cpu", dtype):
            loss = live(batch).float().square().mean()
        assert live.stem(batch).dtype == torch.float32  # Outside of the scope nothing is cast.
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    after = shared.module.get_parameter("head.weight")
    assert after.dtype == torch.float32 and not torch.equal(after, before) and bool(torch.isfinite(after).all())
    assert scaler.get_scale() == 256.0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_weights_train_on_a_gpu_as_on_the_cpu():
    program, batch = zoo.programs()["residual"]
    found = []
    for device in ("cpu", "cuda"):
        shared = mu.share_weights(program, batch)
        shared.module.to(device)
        optimizer = torch.optim.SGD(shared.module.parameters(), 0.1, momentum=0.9)
        shared.guard(optimizer)
        for seed in range(4):
            optimizer.zero_grad()
            shared.materialize(shared.space.random(seed))(batch.to(device)).square().mean().backward()
            optimizer.step()
        found.append({name: tensor.cpu() for name, tensor in shared.module.state_dict().items()})
    assert all(torch.allclose(found[0][name], found[1][name], atol=1e-4) for name in found[0])
