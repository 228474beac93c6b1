"""Abstract objects refuse use, keep identity, and travel through copy and pickle."""

from __future__ import annotations

import abc
import copy
import pickle
import subprocess
import sys
from collections import OrderedDict

import pytest
import torch
from torch import nn

import mutandis as mu
from mutandis.errors import AbstractError
from mutandis.symbolic.abstract import abstract_class
from mutandis.symbolic.building import settle
from mutandis.symbolic.record import is_abstract, remember


@mu.symbolize
class Net(nn.Module):
    def __init__(self, width, p=0.1):
        super().__init__()
        self.layer = nn.Linear(2, width)

    def forward(self, x):
        return self.layer(x)


@mu.symbolize
class Bag(dict):
    def __init__(self, size):
        super().__init__(a=size)

    def __iter__(self):
        return super().__iter__()


@mu.symbolize
class Data(torch.utils.data.Dataset):
    def __init__(self, size):
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        return index


@mu.symbolize
class Shape(abc.ABC):  # noqa: B024 - only the metaclass matters here
    def __init__(self, n):
        self.n = n


def test_an_object_with_an_undecided_argument_does_not_run_init():
    made = Net(mu.REQUIRED)
    assert is_abstract(made)
    assert isinstance(made, Net)
    assert isinstance(made, nn.Module)
    assert made.__class__ is Net
    assert issubclass(type(made), Net)


def test_reading_an_attribute_names_the_undecided_path_and_the_remedy():
    with pytest.raises(AbstractError) as caught:
        _ = Net(mu.REQUIRED).layer
    assert str(caught.value) == (
        "cannot read attribute 'layer': the Net is abstract\n"
        "  at:       width = mu.REQUIRED\n"
        "  expected: an object whose arguments are all decided\n"
        "  fix:      give the missing arguments by rebind(...), sample children with mu.sample(program, "
        "algorithm), or build one with mu.space(program).materialize(dna)"
    )


@pytest.mark.parametrize(
    ("value", "use"),
    [
        (Net(mu.REQUIRED), lambda v: v(1)),
        (Net(mu.REQUIRED), lambda v: v.parameters()),
        (Net(mu.REQUIRED), lambda v: setattr(v, "x", 1)),
        (Data(mu.REQUIRED), len),
        (Data(mu.REQUIRED), lambda v: v[0]),
        (Bag(mu.REQUIRED), iter),
    ],
)
def test_every_use_is_refused(value, use):
    with pytest.raises(AbstractError, match="is abstract"):
        use(value)


def test_probes_of_private_names_see_nothing():
    made = Net(mu.REQUIRED)
    assert not hasattr(made, "_repr_html_")
    assert getattr(made, "__array__", None) is None


def test_repr_reads_as_the_call():
    assert repr(Net(mu.REQUIRED)) == "Net(width=mu.REQUIRED, p=0.1)"


@pytest.mark.parametrize("cls", [Net, Bag, Data, Shape])
@pytest.mark.parametrize("copier", [copy.deepcopy, copy.copy, lambda v: pickle.loads(pickle.dumps(v))])
def test_abstract_objects_are_copied_and_pickled_as_abstract(cls, copier):
    made = copier(cls(mu.REQUIRED))
    assert is_abstract(made)
    assert isinstance(made, cls)
    assert mu.arguments(made) == mu.arguments(cls(mu.REQUIRED))


def test_settling_keeps_the_identity_and_runs_init():
    made = Net(mu.REQUIRED)
    place = id(made)
    remember(made, (3, 0.1))
    settle(made)
    assert id(made) == place
    assert type(made) is Net
    assert made(torch.zeros(1, 2)).shape == (1, 3)


def test_a_parent_of_an_abstract_object_is_abstract():
    @mu.symbolize
    class Parent(nn.Module):
        def __init__(self, layers, options):
            super().__init__()

    assert is_abstract(Parent([Net(mu.REQUIRED)], {}))
    assert is_abstract(Parent([], {"a": (1, Net(mu.REQUIRED))}))
    assert not is_abstract(Parent([Net(1)], {}))


def test_registries_of_subclasses_do_not_see_generated_classes():
    registry = []

    @mu.symbolize
    class Base:
        def __init_subclass__(cls, *, needed="", **kwargs):
            super().__init_subclass__(**kwargs)
            registry.append(cls.__name__)

        def __init__(self, x):
            self.x = x

    assert is_abstract(Base(mu.REQUIRED))
    assert registry == []


def test_abstract_wrappers_of_torch_classes_pickle():
    made = pickle.loads(pickle.dumps(mu.nn.Conv2d(3, mu.REQUIRED, 3)))
    assert is_abstract(made)
    assert isinstance(made, nn.Conv2d)
    assert mu.arguments(made)["in_channels"] == 3


def test_containers_of_torch_wait_for_their_content():
    made = mu.nn.Sequential(OrderedDict(a=Net(1)))
    assert not is_abstract(made)
    assert is_abstract(mu.nn.Sequential(Net(1), Net(mu.REQUIRED)))


def test_an_operator_that_a_class_leaves_open_works_while_it_is_abstract():
    @mu.symbolize
    class Step:
        _mu_open_ = ("__rshift__",)

        def __init__(self, size):
            self.size = size

        def __rshift__(self, other):
            return [self, other]

        def __len__(self):
            return 3

    step = Step(mu.REQUIRED)
    assert step >> 1 == [step, 1]
    with pytest.raises(mu.errors.MutandisError):
        len(step)


READER = """
import pickle, sys
import mutandis as mu

cls, abstract, concrete = pickle.load(sys.stdin.buffer)
space = mu.space(abstract)
assert isinstance(abstract, cls) and mu.equal(concrete, space.materialize(space.dna({"width": 1})))
print([space.materialize(dna).area() for dna in space.enumerate()], concrete.area())
"""


def test_a_class_that_is_pickled_by_value_makes_abstract_objects_in_a_process_that_never_saw_it():
    cloudpickle = pytest.importorskip("cloudpickle")

    @mu.symbolize
    class Local:
        def __init__(self, width, height=2):
            self.width, self.height = width, height

        def area(self):
            return self.width * self.height

    abstract = Local(mu.oneof([3, 4]))
    assert is_abstract(abstract)  # Generates the class that must not go along.
    data = cloudpickle.dumps((Local, abstract, Local(4)))
    read = subprocess.run([sys.executable, "-c", READER], input=data, capture_output=True, timeout=60)
    assert (read.stdout.decode().strip(), read.stderr.decode()) == ("[6, 8] 8", "")


def test_the_abstract_class_of_a_class_is_made_once():
    assert abstract_class(Net) is abstract_class(Net) is type(Net(mu.oneof([1, 2])))
