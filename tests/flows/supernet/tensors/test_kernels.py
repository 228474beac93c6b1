"""Kernels of several sizes, each made of the next larger one."""

from __future__ import annotations

import copy
import pickle

import pytest
import supernet_zoo as zoo
import torch
from torch import nn
from torch.nn import functional as F

import mutandis as mu
from mutandis.errors import LoweringError
from mutandis.flows.supernet.tensors.kernels import (
    centre,
    descending,
    flat_centre,
    joined,
    matrix_cuts,
    size_of,
    steps_to,
)

SIZES = (3, 7, 5)


def chained(weight, matrices, size):
    """Returns a kernel as the paper makes it: crop, multiply by the matrix, crop that, and so on."""
    for target in sorted(matrices, reverse=True):
        if target >= size and target < weight.shape[-1]:
            start = (weight.shape[-1] - target) // 2
            inner = weight[..., start : start + target, start : start + target]
            weight = F.linear(inner.reshape(*inner.shape[:2], -1), matrices[target]).reshape(inner.shape)
    return weight


def draw(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", [3, 5, 7])
def test_a_kernel_is_the_centre_of_the_next_larger_one_times_its_matrix(size):
    weight, matrices = draw(4, 2, 7, 7), {5: draw(25, 25, seed=1), 3: draw(9, 9, seed=2)}
    steps = steps_to((size, size), [(7, 7), (5, 5), (3, 3)])
    parts = [weight[:, :, 1:6, 1:6] if steps else weight]
    parts += [matrices[step[0]] if rows is None else matrices[step[0]][rows]
              for step, (rows, _) in zip(steps, matrix_cuts(steps, (7, 7)) if steps else (), strict=True)]  # fmt: skip
    assert torch.allclose(joined(parts, (size, size)), chained(weight, matrices, size), rtol=1e-12)


def test_places_of_a_centre():
    assert centre((3, 5), (7, 5)) == ((2, 3), None)
    assert flat_centre((1, 3), (3, 3), (3, 3)).tolist() == [3, 4, 5]
    assert flat_centre((3, 3), (5, 5), (7, 7)).tolist() == [6, 7, 8, 11, 12, 13, 16, 17, 18]
    assert flat_centre((3,), (4,), (5,)).tolist() == [1, 2, 3]  # As in 5, where 4 begins at 0 and 3 at 1.
    assert flat_centre((3,), (4,), (6,)).tolist() == [0, 1, 2]
    assert size_of((None, (0, 2), (1, 3), None), (4, 4, 5, 7)) == (3, 7)
    assert steps_to((5,), [(7,), (5,), (3,)]) == ((5,),) and steps_to((7,), [(7,), (5,)]) == ()


def test_sizes_are_put_in_order_and_must_lie_within_one_another():
    assert descending([(3, 3), (7, 7), (5, 3)], "net") == ((7, 7), (5, 3), (3, 3))
    with pytest.raises(LoweringError) as error:
        descending([(1, 7), (7, 1), (7, 7)], "net.conv.weight")
    assert str(error.value) == (
        "cannot make kernels of larger ones\n"
        "  at:       net.conv.weight\n"
        "  got:      ((1, 7), (7, 1)) (tuple)\n"
        "  expected: sizes of which each lies within the next larger one\n"
        "  fix:      choose square kernels, or pass kernels='crop'"
    )


def program():
    size, width = mu.oneof(list(SIZES), name="size"), mu.oneof([6, 4], name="width")
    pad = size // 2
    return mu.nn.Sequential(
        mu.nn.Conv2d(3, width, size, padding=pad),
        mu.nn.BatchNorm2d(width),
        mu.nn.Conv2d(width, width, size, padding=pad, groups=width, bias=False),
        mu.nn.Conv2d(width, 2, 1),
    )


@pytest.fixture
def shared():
    made = mu.share_weights(program(), zoo.images(), kernels="transform")
    disturb(made)
    return made


def disturb(shared, amount=0.1):
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in shared.module.named_parameters():
            if "<to" in name:
                parameter.add_(amount * torch.randn(parameter.shape, generator=generator))


def expected(state, size, width, x):
    """Returns what a child makes of a batch, in training mode, from the shared state."""

    def kernel(path):
        matrices = {k: state[f"{path}.weight<to {k}x{k}>"] for k in (3, 5)}
        return chained(state[f"{path}.weight"], matrices, size)

    x = F.conv2d(x, kernel("0")[:width], state["0.bias"][:width], padding=size // 2)
    x = F.batch_norm(x, None, None, state["1.weight"][:width], state["1.bias"][:width], training=True)
    x = F.conv2d(x, kernel("2")[:width], padding=size // 2, groups=width)
    return F.conv2d(x, state["3.weight"][:, :width], state["3.bias"])


def test_matrices_are_parameters_of_the_shared_module_and_the_identity_at_first():
    made = mu.share_weights(program(), zoo.images(), kernels="transform")
    found = {name: p for name, p in made.module.named_parameters() if "<" in name}
    assert {name: tuple(p.shape) for name, p in found.items()} == {
        f"{path}.weight<to {k}x{k}>": (k * k, k * k) for path in "02" for k in (5, 3)
    }
    assert all(torch.equal(p, torch.eye(len(p))) and p.requires_grad for p in found.values())
    cropped = mu.share_weights(program(), zoo.images())
    assert cropped.module.state_dict().keys() == made.module.state_dict().keys() - found.keys()
    for dna in made.space.enumerate():  # With the identity, a kernel is the centre of the largest.
        assert torch.allclose(made.materialize(dna)(zoo.images()), cropped.materialize(dna)(zoo.images()), atol=1e-6)


def test_children_compute_what_the_paper_says(shared):
    x, state = zoo.images(), shared.module.state_dict()
    for dna in shared.space.enumerate():
        size, width = SIZES[dna["size"]], (6, 4)[dna["width"]]
        live = shared.materialize(dna)
        assert torch.allclose(live(x), expected(state, size, width, x), atol=1e-5)
        assert live[0].weight.shape == (width, 3, size, size)
        exported = shared.export(dna)
        assert type(exported[0]) is type(live[0]) and exported[0].weight.is_leaf
        assert not any("<" in name for name in exported.state_dict())
        assert torch.allclose(exported(x), live(x), atol=1e-6)
        assert shared.verify(dna, x).error < 1e-10


def test_gradients_are_those_of_finite_differences(shared):
    shared.module.double()
    x = zoo.images().double()
    dna = shared.space.dna({"size": 0, "width": 1})

    def loss():
        return shared.materialize(dna)(x).square().sum()

    shared.module.zero_grad()
    loss().backward()
    for name in ("0.weight", "0.weight<to 5x5>", "0.weight<to 3x3>", "2.weight<to 5x5>"):
        parameter = shared.module.state_dict(keep_vars=True)[name]
        direction = torch.randn(parameter.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
        values = []
        for shift in (1e-5, -1e-5):
            with torch.no_grad():
                parameter.add_(direction, alpha=shift)
                values.append(float(loss()))
                parameter.sub_(direction, alpha=shift)
        slope = float((parameter.grad * direction).sum())
        assert abs((values[0] - values[1]) / 2e-5 - slope) < 1e-5 * (1 + abs(slope)), name


@pytest.mark.parametrize(
    ("size", "used"),
    [(7, {"0.weight": 49}), (5, {"0.weight": 25, "5": 25}), (3, {"0.weight": 25, "5": 9, "3": 9})],
)
def test_gradients_come_to_the_places_that_a_size_uses(shared, size, used):
    """The inner rows of the first matrix make what the second one multiplies; to the others no gradient comes."""
    shared.module.zero_grad()
    dna = shared.space.dna({"size": SIZES.index(size), "width": 0})
    shared.materialize(dna)(zoo.images()).square().sum().backward()
    grads = {name: p.grad for name, p in shared.module.named_parameters() if name.startswith("0.weight")}
    assert {name for name, grad in grads.items() if grad is not None} == {
        name if "." in name else f"0.weight<to {name}x{name}>" for name in used
    }
    assert int(grads["0.weight"].ne(0).any(0).any(0).sum()) == used["0.weight"]
    for name in used.keys() - {"0.weight"}:
        assert int(grads[f"0.weight<to {name}x{name}>"].ne(0).any(1).sum()) == used[name]


@pytest.mark.parametrize("order", [("3",), ("5", "3"), ("3", "5"), ("7", "3")])
def test_a_guard_leaves_alone_what_no_size_has_used(shared, order):
    optimizer = torch.optim.SGD(shared.module.parameters(), 0.01, momentum=0.9, weight_decay=0.1)
    shared.guard(optimizer)

    def step(sizes):
        optimizer.zero_grad()
        for size in sizes:
            dna = shared.space.dna({"size": SIZES.index(int(size)), "width": 0})
            shared.materialize(dna)(zoo.images()).square().mean().backward()
        optimizer.step()

    step("357")  # States for all.
    before = {name: p.detach().clone() for name, p in shared.module.named_parameters()}
    for _ in range(2):
        step(order)
    moved = {name: before[name] != p for name, p in shared.module.named_parameters()}
    rows = moved["0.weight<to 5x5>"].any(1)
    inner = flat_centre((3, 3), (5, 5), (7, 7))
    assert bool(rows[inner].all()) and int(rows.sum()) == (25 if "5" in order else 9)
    assert bool(moved["0.weight<to 3x3>"].any(1).all())
    assert int(moved["0.weight"].any(0).any(0).sum()) == (49 if "7" in order else 25)


def test_training_with_a_guard_is_training_without_where_only_gradients_count():
    """Plain SGD leaves alone by itself what has no gradient; so the guard must change nothing."""
    found = []
    for is_guarded in (False, True):
        shared = mu.share_weights(program(), zoo.images(), kernels="transform")
        optimizer = torch.optim.SGD(shared.module.parameters(), 0.05)
        if is_guarded:
            shared.guard(optimizer)
        for seed in range(6):
            optimizer.zero_grad()
            shared.materialize(shared.space.random(seed))(zoo.images()).square().mean().backward()
            optimizer.step()
        found.append(shared.module.state_dict())
    assert all(torch.allclose(found[0][name], found[1][name], atol=1e-6) for name in found[0])
    assert not torch.equal(found[0]["0.weight<to 5x5>"], torch.eye(25))


def test_kernels_follow_a_step_a_loaded_state_and_another_type(shared):
    dna = shared.space.dna({"size": 0, "width": 0})
    x = zoo.images()
    live = shared.materialize(dna)
    before = live(x)
    twin = mu.share_weights(program(), x, kernels="transform")
    twin.module.load_state_dict(shared.module.state_dict())
    assert torch.allclose(twin.materialize(dna)(x), before, atol=1e-6)
    with torch.no_grad():
        shared.module.get_parameter("0.weight<to 3x3>")[0].mul_(3)
    assert not torch.allclose(live(x), before, atol=1e-2)
    shared.module.double()
    assert live(x.double()).dtype == torch.float64 and live[0].weight.dtype == torch.float64


@pytest.mark.parametrize("again", [copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))], ids=["copied", "pickled"])
def test_a_copy_has_matrices_of_its_own(shared, again):
    twin = again(shared)
    for dna in shared.space.enumerate():
        assert torch.equal(twin.materialize(dna)(zoo.images()), shared.materialize(dna)(zoo.images()))
    mine, others = (dict(s.module.named_parameters()) for s in (shared, twin))
    assert mine.keys() == others.keys() and all(mine[name] is not others[name] for name in mine)


def test_passes_in_half_precision_make_kernels_in_full():
    shared = mu.share_weights(program(), zoo.images(), kernels="transform")
    live = shared.materialize(shared.space.dna({"size": 0, "width": 0}))
    with torch.autocast("cpu", torch.bfloat16):
        live(zoo.images()).float().sum().backward()
        assert live[0].weight.dtype == torch.float32
    assert shared.module.get_parameter("0.weight<to 5x5>").grad.dtype == torch.float32


def test_progressive_shrinking_trains_the_matrices_and_resumes_exactly(tmp_path):
    algorithm = mu.algorithms.OnceForAll.published(kernels=["size"], depths=[], widths=["width"], transform=True,
                                                   num_trials=4)  # fmt: skip
    batches = [(zoo.images(), torch.arange(len(zoo.images())) % 2) for _ in range(3)]

    def run(epochs, **settings):
        shared = mu.share_weights(mu.nn.Sequential(program(), mu.nn.AdaptiveAvgPool2d(1), mu.nn.Flatten()),
                                  zoo.images(), kernels="transform")  # fmt: skip
        schedule = mu.algorithms.OnceForAll.published_schedule
        result = mu.one_shot(shared, algorithm, train=batches, valid=batches, epochs=epochs, schedule=schedule,
                             progress=False, **settings)  # fmt: skip
        return shared, result

    def breaks(child, batch):
        calls.append(1)
        if len(calls) > 20:
            raise KeyboardInterrupt
        return F.cross_entropy(child(batch[0]), batch[1])

    calls: list[int] = []
    file = tmp_path / "run.pt"
    with pytest.raises(KeyboardInterrupt):
        run(6, checkpoint=file, loss=breaks)
    loss = lambda child, batch: F.cross_entropy(child(batch[0]), batch[1])  # noqa: E731
    (again, found), (whole, other) = run(6, checkpoint=file, loss=loss), run(6, loss=loss)
    assert file.exists() and found.dna == other.dna
    first, second = again.module.state_dict(), whole.module.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["0.0.weight<to 5x5>"], torch.eye(25))


@mu.symbolize
class Ranged(nn.Module):
    """A kernel out of a range, of which few sizes are built before children are asked for."""

    def __init__(self, size, width):
        super().__init__()
        self.conv = nn.Conv1d(2, width, size, padding=size // 2)

    def forward(self, x):
        return self.conv(x)[..., :6]


def test_a_size_that_is_met_later_changes_none_of_the_others():
    net = Ranged(mu.intv(1, 21, name="size"), mu.intv(1, 8, name="width"))
    shared = mu.share_weights(net, torch.ones(1, 2, 6), kernels="transform")
    x = torch.randn(2, 2, 6, generator=torch.Generator().manual_seed(0))
    known = [k for k in range(1, 21) if f"conv.weight<to {k}>" in shared.module.state_dict()]
    assert 2 < len(known) < 20
    disturb(shared)
    outputs = {k: shared.materialize(shared.space.dna({"size": k, "width": 5}))(x) for k in known}
    late = next(k for k in range(2, 20) if k not in known)
    shared.verify(shared.space.dna({"size": late, "width": 5}), x)
    assert f"conv.weight<to {late}>" in shared.module.state_dict()
    for size, output in outputs.items():
        assert torch.allclose(shared.materialize(shared.space.dna({"size": size, "width": 5}))(x), output, atol=1e-6)
    twin = copy.deepcopy(shared)
    assert twin.module.state_dict().keys() == shared.module.state_dict().keys()


def test_sizes_of_transformed_kernels_are_not_mixed(shared):
    dna = shared.space.dna({"size": 1, "width": 0})
    weights = mu.flows.supernet.Mixture(torch.full((3,), 1 / 3))
    with pytest.raises(LoweringError) as error, shared.select(dna, {"size": weights}):
        pass
    assert str(error.value) == (
        "cannot mix the sizes of a decision\n"
        "  at:       size, module 0 (Conv2d)\n"
        "  got:      'one of [3, 7, 5]' (str)\n"
        "  expected: kernels that are parts of one another, or of one size\n"
        "  fix:      pass kernels='crop' to mu.share_weights, or use an algorithm that runs one size at a time, "
        "such as OnceForAll(...)"
    )


def normed(width):
    size = mu.oneof([5, 3], name="size")
    return mu.nn.Sequential(mu.bind(weight_normed, 3, width, size), mu.nn.Flatten(1), mu.nn.ReLU())


@pytest.mark.parametrize("size", SIZES)
def test_widths_are_mixed_at_every_size_of_the_kernel(shared, size):
    """Matrices treat all channels alike, and so do masks."""
    x = zoo.images()
    dnas = [shared.space.dna({"size": SIZES.index(size), "width": i}) for i in range(2)]
    for index, dna in enumerate(dnas):
        expected = shared.materialize(dna)(x)
        hot = mu.flows.supernet.Mixture(torch.eye(2)[index])
        with shared.select(dnas[0], {"width": hot}) as live:
            assert torch.allclose(live(x), expected, atol=1e-5)


def weight_normed(inputs, outputs, size) -> nn.Module:
    return nn.utils.parametrizations.weight_norm(nn.Conv2d(inputs, outputs, size, padding=size // 2))


def test_kernels_that_are_computed_from_other_tensors_are_not_transformed():
    with pytest.raises(LoweringError) as error:
        mu.share_weights(normed(4), zoo.images(), kernels="transform")
    assert str(error.value) == (
        "cannot transform a kernel that is computed from other tensors\n"
        "  at:       0.parametrizations.weight.original1\n"
        "  got:      'ParametrizationList' (str)\n"
        "  expected: a convolution with a weight of its own\n"
        "  fix:      pass kernels='crop' or kernels='separate'"
    )


@pytest.mark.parametrize("layer", [nn.Conv1d, nn.Conv3d, nn.ConvTranspose2d])
def test_every_kind_of_convolution_has_its_matrices(layer):
    dims = {nn.Conv1d: 1, nn.Conv3d: 3}.get(layer, 2)
    size = mu.oneof([3, 1, 5], name="size")
    made = mu.symbolize(layer)(2, 3, size, padding=size // 2)
    x = torch.randn(2, 2, *[5] * dims, generator=torch.Generator().manual_seed(0))
    shared = mu.share_weights(made, x, kernels="transform")
    disturb(shared)
    names = {name for name in shared.module.state_dict() if "<" in name}
    assert names == {f"weight<to {'x'.join([str(k)] * dims)}>" for k in (1, 3)}
    for dna in shared.space.enumerate():
        assert shared.verify(dna, x).error < 1e-10
