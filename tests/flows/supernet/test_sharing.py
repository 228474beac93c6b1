"""What can share weights and what cannot, and that the program itself is left alone."""

from __future__ import annotations

import copy

import pytest
import supernet_zoo as zoo
import torch
import torch.utils.data
from torch import nn

import mutandis as mu
from mutandis.errors import LoweringError, SettingError, SpaceError
from mutandis.flows import lowering_report
from mutandis.hyper import HyperValue


def test_what_is_no_program_with_modules_and_decisions_is_refused():
    with pytest.raises(SpaceError, match="program without decisions"):
        mu.share_weights(mu.nn.Linear(2, 2))
    with pytest.raises(LoweringError, match="program without modules"):
        mu.share_weights({"x": mu.oneof([1, 2])})
    for name, options in (
        ("positions", "'proven' or 'leading'"),
        ("sizes", "'proven' or 'largest'"),
        ("check", "'sampled' or 'always'"),
    ):
        with pytest.raises(SettingError, match=f"{name}(.|\n)*{options}"):
            mu.share_weights(mu.oneof([mu.nn.ReLU(), mu.nn.Tanh()]), **{name: "some"})


def test_what_shares_weights_already_is_refused():
    program, batch = zoo.programs()["concat"]
    with pytest.raises(LoweringError) as caught:
        mu.share_weights(mu.share_weights(program, batch))
    assert str(caught.value) == (
        "cannot share weights twice\n"
        "  got:      Shared(2 decisions, 170 shared weights) (Shared)\n"
        "  expected: a program, or its space\n"
        "  fix:      use it as it is, or copy.deepcopy(shared) for another one"
    )


def test_a_traced_function_is_refused():
    traced = mu.trace(lambda: mu.oneof([nn.ReLU(), nn.Tanh()]))
    with pytest.raises(LoweringError) as error:
        mu.share_weights(traced)
    text = str(error.value)
    assert text.startswith("cannot share the weights of a function that decides as it runs\n  got:      ")
    assert text.endswith(
        "  expected: a program whose modules can be seen before it runs\n"
        "  fix:      write the decisions as arguments of symbolic objects"
    )


def test_nothing_in_a_program_is_changed():
    program, batch = zoo.programs()["residual"]
    before = mu.to_json(program)
    mu.share_weights(program, batch)
    assert mu.to_json(program) == before
    assert all(isinstance(v, HyperValue) for v in mu.arguments(program).values())


def test_a_symbolic_call_stays_a_call():
    def build(width) -> nn.Sequential:
        return nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 2))

    shared = mu.share_weights(mu.bind(build, mu.oneof([2, 5])), zoo.features(3, 4))
    live = shared.materialize(shared.space.dna({shared.points[0].path: 0}))
    assert live()[0].out_features == 2 and live() is live()


def test_a_space_is_taken_for_its_program():
    program, batch = zoo.programs()["concat"]
    shared = mu.share_weights(mu.space(program), batch)
    assert shared.points == mu.space(program).points


def test_with_a_batch_four_children_are_verified(monkeypatch):
    program, batch = zoo.programs()["concat"]
    seen = []
    kind = type(mu.share_weights(program, batch))
    monkeypatch.setattr(kind, "verify", lambda self, dna, x: seen.append(dna.values))
    mu.share_weights(program, batch)
    assert {(0, 1), (1, 0)} < set(seen) and 3 <= len(seen) <= 4


def test_the_report_is_reached_without_loading_torch_before():
    program, batch = zoo.programs()["arms"]
    assert lowering_report(program, batch=batch).is_possible


def kernels():
    size = mu.oneof([3, 5, 1], name="size")
    pad = size // 2
    depthwise = mu.nn.Conv2d(4, 4, size, padding=pad, groups=4)
    return mu.nn.Sequential(
        mu.nn.Conv2d(3, 4, 1), depthwise, mu.nn.BatchNorm2d(4), mu.nn.Conv2d(4, 2, size, padding=pad)
    )


def test_kernels_of_several_sizes_have_weights_of_their_own_if_they_shall():
    shared = mu.share_weights(kernels(), zoo.images(), kernels="separate")
    shapes = {name: tuple(p.shape) for name, p in shared.module.named_parameters() if name[0] in "13"}
    assert shapes == {
        f"{path}.{name}<{k}x{k}>": (out,) if name == "bias" else (out, inputs, k, k)
        for path, out, inputs in (("1", 4, 1), ("3", 2, 4)) for name in ("weight", "bias") for k in (3, 5, 1)
    }  # fmt: skip
    assert "0.weight" in dict(shared.module.named_parameters())  # One size only.
    for index, size in enumerate((3, 5, 1)):
        dna = shared.space.dna({"size": index})
        shared.module.zero_grad()
        live = shared.materialize(dna)
        live(zoo.images()).square().sum().backward()
        used = {n for n, p in shared.module.named_parameters() if p.grad is not None and n[0] in "13"}
        assert used == {f"{path}.{name}<{size}x{size}>" for path in "13" for name in ("weight", "bias")}
        found = shared.verify(dna, zoo.images())
        assert found.error < 1e-12 and found.positions == "proven"
        assert torch.equal(shared.export(dna)[3].weight, live[3].weight)
    cropped = mu.share_weights(kernels(), zoo.images())
    assert cropped.module.state_dict()["3.weight"].shape == (2, 4, 5, 5)


def test_widths_of_kernels_with_weights_of_their_own_are_parts_of_each():
    size, width = mu.oneof([3, 5], name="size"), mu.oneof([4, 2], name="width")
    program = mu.nn.Sequential(mu.nn.Conv2d(3, width, size, padding=size // 2), mu.nn.Conv2d(width, 2, 1))
    shared = mu.share_weights(program, zoo.images(), kernels="separate")
    assert shared.module.state_dict()["0.weight<5x5>"].shape == (4, 3, 5, 5)
    for dna in shared.space.enumerate():
        assert shared.verify(dna, zoo.images()).error < 1e-12
    again = copy.deepcopy(shared)
    assert set(again.module.state_dict()) == set(shared.module.state_dict())


def normed(conv) -> nn.Module:
    return nn.utils.parametrizations.weight_norm(conv)


def conv_of(inputs, outputs, size) -> nn.Module:
    return normed(nn.Conv2d(inputs, outputs, size, padding=size // 2))


@pytest.mark.parametrize("kernels", ["crop", "separate"])
def test_kernels_under_a_weight_norm_are_the_centre_too(kernels):
    size = mu.oneof([5, 3], name="size")
    program = mu.nn.Sequential(mu.bind(conv_of, 3, 4, size), mu.nn.ReLU())
    shared = mu.share_weights(program, zoo.images(), kernels=kernels)
    with torch.no_grad():
        for parameter in shared.module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    small = shared.materialize(shared.space.dna({"size": 1}))
    inner = small[0].parametrizations.weight.original1
    state = shared.module.state_dict()
    name = "0.parametrizations.weight.original1"
    if kernels == "crop":
        assert state[name].shape == (4, 3, 5, 5) and torch.equal(inner, state[name][:, :, 1:4, 1:4])
    else:
        assert torch.equal(inner, state[f"{name}<3x3>"]) and f"{name}<5x5>" in state
    for dna in shared.space.enumerate():
        assert shared.verify(dna, zoo.images()).error < 1e-12


@mu.symbolize
class NormedConcat(nn.Module):
    """Two branches side by side, read by a layer whose weight is computed from a length and a direction."""

    def __init__(self, first, second):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, first, 1), nn.Conv2d(3, second, 1)
        self.out = normed(nn.Conv2d(first + second, 4, 1))

    def forward(self, x):
        return self.out(torch.cat([self.a(x), self.b(x)], 1))


def test_a_weight_norm_behind_a_concatenation_reads_the_places_that_belong_to_it():
    shared = mu.share_weights(NormedConcat(mu.oneof([2, 4]), mu.oneof([3, 2])), zoo.images())
    live = shared.materialize(shared.space.dna({"first": 0, "second": 0}))
    whole = shared.module.state_dict()["out.parametrizations.weight.original1"]
    assert torch.equal(live.out.parametrizations.weight.original1, whole[:, [0, 1, 4, 5, 6]])
    assert [shared.verify(dna, zoo.images()).positions for dna in shared.space.enumerate()] == ["proven"] * 4


def rnn_of(width) -> nn.Module:
    return nn.utils.parametrizations.weight_norm(nn.GRU(3, width), "weight_hh_l0")


def test_gates_under_a_weight_norm_are_blocks():
    shared = mu.share_weights(mu.bind(rnn_of, mu.oneof([2, 4])), torch.zeros(2, 1, 3), positions="leading")
    live = shared.materialize(shared.space.dna({shared.points[0].path: 0}))()
    whole = shared.module.state_dict()["parametrizations.weight_hh_l0.original1"]
    assert torch.equal(live.parametrizations.weight_hh_l0.original1, whole[[0, 1, 4, 5, 8, 9]][:, :2])


def test_a_setting_for_kernels_that_is_none_is_refused():
    with pytest.raises(SettingError) as error:
        mu.share_weights(kernels(), zoo.images(), kernels="apart")
    assert str(error.value) == (
        "cannot share weights\n"
        "  at:       kernels\n"
        "  got:      'apart' (str)\n"
        "  expected: 'crop' or 'separate' or 'transform'\n"
        "  fix:      leave it out"
    )


@pytest.mark.parametrize(
    "given",
    [torch.utils.data.DataLoader([1, 2]), torch.zeros(2, 2).numpy(), torch.nn.Linear(2, 2)],
    ids=["loader", "array", "module"],
)
def test_what_is_no_input_of_a_module_is_refused(given):
    with pytest.raises(SettingError) as error:
        mu.share_weights(mu.nn.Linear(2, mu.oneof([2, 3])), given)
    assert str(error.value) == (
        "cannot share weights\n"
        "  at:       batch\n"
        f"  got:      '{type(given).__name__}' (str)\n"
        "  expected: tensors, as the module is called with\n"
        "  fix:      pass next(iter(loader))[0], or torch.as_tensor(x) of an array"
    )
