"""What torch does with a value that is not decided, and what it hides from the tree."""

from __future__ import annotations

import functools
from collections import deque

import pytest

import mutandis as mu
from mutandis.errors import SpaceError, UndecidedError

torch = pytest.importorskip("torch")
nn = torch.nn


def v():
    return mu.oneof([1, 2])


@mu.symbolize
class Net(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.fc = nn.Linear(2, width)


class Plain(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.width = width


class Holder:
    def __init__(self, value):
        self.value = value


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: nn.Conv2d(3, v(), 3), "Conv2d"),
        (lambda: nn.Conv2d(3, 4, v()), "Conv2d"),
        (lambda: nn.Linear(3, v()), "Linear"),
        (lambda: nn.Linear(v(), 3), "Linear"),
        (lambda: nn.BatchNorm2d(v()), "BatchNorm2d"),
        (lambda: nn.BatchNorm2d(4, eps=v()), "BatchNorm2d"),
        (lambda: nn.Dropout(v()), "Dropout"),
        (lambda: nn.Embedding(v(), 3), "Embedding"),
        (lambda: nn.LSTM(3, v()), "LSTM"),
        (lambda: nn.LSTM(v(), 3), "LSTM"),
        (lambda: nn.LSTM(3, 3, v()), "LSTM"),
        (lambda: nn.MaxPool2d(v()), "MaxPool2d"),
        (lambda: nn.LeakyReLU(v()), "LeakyReLU"),
        (lambda: nn.GroupNorm(v(), 8), "GroupNorm"),
        (lambda: nn.LayerNorm(v()), "LayerNorm"),
        (lambda: nn.MultiheadAttention(v(), 2), "MultiheadAttention"),
        (lambda: nn.Linear(3, v() * 2), "Linear"),
        (lambda: nn.Sequential(v()), "Sequential"),
    ],
)
def test_plain_layers_refuse_undecided_arguments_and_name_the_symbolic_one(make, name):
    with pytest.raises(UndecidedError) as error:
        make()
    assert f"mu.nn.{name}" in str(error.value)
    assert "mu.bind" in str(error.value)


@pytest.mark.parametrize(
    "use",
    [lambda: torch.zeros(v()), lambda: torch.ones(2) * v(), lambda: v() * torch.ones(2), lambda: torch.relu(v())],
)
def test_torch_functions_refuse_undecided_values(use):
    with pytest.raises(UndecidedError, match=r"mu\.derive"):
        use()


def test_plain_optimizers_refuse_undecided_rates():
    with pytest.raises(UndecidedError, match=r"mu\.partial\(torch\.optim\.SGD"):
        torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=mu.floatv(0.1, 1.0))


@pytest.mark.parametrize(
    ("program", "at", "remedy"),
    [
        (lambda: {"m": nn.Sequential(Net(v()))}, "['m'][0]", "mu.nn.Sequential"),
        (lambda: [Plain(v())], "[0].width", "mu.bind(Plain, ...)"),
        (lambda: [nn.ModuleDict({"a": nn.Sequential(Plain(v()))})], "[0].a[0].width", "mu.nn.ModuleDict"),
        (lambda: [Holder([v()])], "[0].value[0]", "mu.bind(Holder, ...)"),
        (lambda: [functools.partial(print, v())], "[0].args[0]", "mu.partial"),
        (lambda: [deque([v()])], "[0][0]", "a plain list, tuple or dict"),
        (lambda: mu.oneof([Plain(v())]), "candidates[0].width", "mu.bind(Plain, ...)"),
    ],
)
def test_a_hidden_decision_is_found_and_refused(program, at, remedy):
    with pytest.raises(SpaceError) as error:
        mu.space(program())
    assert error.value.problem == "cannot see a decision that is hidden in a plain object"
    assert error.value.at == at
    assert remedy in error.value.fix


def test_a_decision_made_inside_a_built_module_is_found():
    @mu.symbolize
    class Outer(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.inner = Net(mu.oneof([1, 2]))

    with pytest.raises(SpaceError, match="hidden in a plain object"):
        mu.space(Outer(3))


def test_plain_modules_as_candidates_are_copied_per_child():
    plain = nn.Linear(2, 2)
    space = mu.space({"op": mu.oneof([plain, nn.Identity()]), "fixed": plain2})
    a, b = (space.materialize(space.dna_at(0)) for _ in range(2))
    assert a["op"] is not plain and a["op"] is not b["op"]
    assert a["fixed"] is b["fixed"] is plain2
    with torch.no_grad():
        a["op"].weight.zero_()
    assert plain.weight.abs().sum() > 0 and b["op"].weight.abs().sum() > 0
    assert space.encode(a) == space.encode(b) == space.dna_at(0)


plain2 = nn.Linear(2, 2)


def test_a_plain_module_that_stands_twice_is_copied_once():
    plain = nn.Linear(2, 2)
    child = mu.space(mu.oneof([[plain, plain]])).materialize(mu.space(mu.oneof([[plain, plain]])).default())
    assert child[0] is child[1] is not plain


def test_tensor_leaves_keep_their_memory():
    tensor = torch.ones(3)
    space = mu.space([tensor, mu.oneof([tensor, 1])])
    child = space.materialize(space.default())
    assert child[0].data_ptr() == child[1].data_ptr() == tensor.data_ptr()


def test_a_module_is_built_with_its_decided_width():
    space = mu.space(Net(mu.oneof([8, 16])))
    net = space.materialize(space.dna_at(1))
    assert net.fc.weight.shape == (16, 2)
    assert space.encode(net) == space.dna_at(1)
    assert [type(m) for m in net.modules()] == [Net, nn.Linear]


def test_a_decision_in_place_of_a_layer_built_inside():
    net = mu.rebind(Net(), {"fc": mu.oneof([mu.nn.Linear(2, 3), mu.nn.Identity()])})
    space = mu.space(net)
    assert [p.path for p in space.points] == ["fc"]
    children = [space.materialize(dna) for dna in space.enumerate()]
    assert [type(c.fc).__name__ for c in children] == ["Linear", "Identity"]
    assert [space.encode(c) for c in children] == list(space.enumerate())


def test_a_space_of_modules_reads_the_same_in_its_labels():
    space = mu.space(mu.oneof([mu.nn.Conv2d(3, 4, 3), nn.Linear(1, 2), torch.relu, torch.ones(2, 2)]))
    labels = space.points[0].candidates
    assert labels[0] == "Conv2d(3, 4, 3)"
    assert labels[1] == "Linear(in_features=1, out_features=2, bias=True)"  # A plain module: its own repr.
    assert labels[3] == "Tensor(2, 2)"


def test_the_refusal_of_a_plain_layer_is_whole():
    with pytest.raises(UndecidedError) as error:
        nn.Linear(3, v())
    assert str(error.value) == (
        "cannot build a torch layer from a value: it is not decided yet\n"
        "  got:      oneof([1, 2]) (OneOf)\n"
        "  expected: a decided value\n"
        "  fix:      write mu.nn.Linear(...) instead of nn.Linear(...), or mu.bind(Linear, ...); to compute with the "
        "value use mu.derive(f, value)"
    )


def test_the_refusal_of_a_plain_optimizer_is_whole():
    with pytest.raises(UndecidedError) as error:
        torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=mu.floatv(0.1, 1.0))
    assert str(error.value) == (
        "cannot compare a value: it is not decided yet\n"
        "  got:      floatv(0.1, 1.0) (FloatV)\n"
        "  expected: a decided value\n"
        "  fix:      write mu.partial(torch.optim.SGD, ...) or mu.optim.SGD(...), not the plain class"
    )


def test_the_refusal_of_a_torch_function_is_whole():
    with pytest.raises(UndecidedError) as error:
        torch.relu(v())
    assert str(error.value) == (
        "cannot use a value in a torch function: it is not decided yet\n"
        "  got:      oneof([1, 2]) (OneOf)\n"
        "  expected: a decided value\n"
        "  fix:      pass it to something symbolic (a class with @mu.symbolize, mu.nn.Conv2d, mu.bind(f, ...)), or "
        "compute with it by mu.derive(f, value)"
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda: mu.nn.Conv2d(3, v(), 3),
        lambda: mu.nn.Linear(3, v()),
        lambda: mu.nn.BatchNorm2d(v()),
        lambda: mu.nn.Dropout(mu.oneof([0.1, 0.2])),
        lambda: mu.nn.Embedding(v(), 3),
        lambda: mu.nn.LSTM(3, v()),
    ],
)
def test_symbolic_layers_take_what_plain_ones_refuse(make):
    space = mu.space(make())
    assert space.size == 2
    assert isinstance(space.materialize(space.dna_at(1)), nn.Module)
