"""Symbolizing classes in place: identity, recording, inheritance, refusals."""

from __future__ import annotations

import abc
import dataclasses
import enum
import inspect
import typing

import attrs
import pytest
import torch
from torch import nn

import mutandis as mu
from mutandis.errors import SymbolicError
from mutandis.symbolic.undecided import Undecided


class Hole(Undecided):
    """An undecided value without any kind."""

    __slots__ = ()


HOLE = Hole()


@mu.symbolize
class Point:
    def __init__(self, x, y=1.0, z="a"):
        self.x, self.y, self.z = x, y, z


def test_the_class_stays_the_object_that_was_written():
    class Plain:
        def __init__(self, x):
            self.x = x

    assert mu.symbolize(Plain) is Plain
    assert type(Plain(1)) is Plain


def test_arguments_are_remembered_with_defaults_in_signature_order():
    assert mu.arguments(Point(1, z="b")) == {"x": 1, "y": 1.0, "z": "b"}


def test_decorating_twice_wraps_once():
    before = Point.__init__
    assert mu.symbolize(Point) is Point
    assert Point.__init__ is before


def test_signature_name_and_source_of_init_stay_readable():
    assert str(inspect.signature(Point)) == "(x, y=1.0, z='a')"
    assert Point.__init__.__qualname__ == "Point.__init__"
    assert inspect.getfullargspec(Point.__init__).args == ["self", "x", "y", "z"]


def test_wrong_calls_fail_as_undecorated_ones_do():
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'x'"):
        Point()


def test_both_forms_of_super_record_the_outermost_arguments():
    @mu.symbolize
    class Base:
        def __init__(self, x):
            self.x = x

    @mu.symbolize
    class New(Base):
        def __init__(self, y):
            super().__init__(y * 2)

    @mu.symbolize
    class Old(Base):
        def __init__(self, y):
            super(Old, self).__init__(y * 3)  # noqa: UP008

    assert mu.arguments(New(2)) == {"y": 2}
    assert New(2).x == 4
    assert mu.arguments(Old(2)) == {"y": 2}
    assert Old(2).x == 6


def test_diamond_inheritance_keeps_one_record_of_the_lowest_class():
    @mu.symbolize
    class A:
        def __init__(self, **kwargs):
            self.seen = ["A"]

    class B(A):
        def __init__(self, b, **kwargs):
            super().__init__(**kwargs)
            self.seen.append("B")

    class C(A):
        def __init__(self, c, **kwargs):
            super().__init__(**kwargs)
            self.seen.append("C")

    class D(B, C):
        def __init__(self, b, c):
            super().__init__(b, c=c)
            self.seen.append("D")

    made = D(1, 2)
    assert mu.arguments(made) == {"b": 1, "c": 2}
    assert made.seen == ["A", "C", "B", "D"]


def test_an_undecorated_late_subclass_records_its_own_arguments():
    class Child(Point):
        def __init__(self, *args):
            super().__init__(*args, z="child")

    assert mu.arguments(Child(1, 2.0)) == {"args": (1, 2.0)}


def test_a_subclass_without_init_records_through_the_inherited_one():
    class Child(Point):
        pass

    assert mu.arguments(Child(5)) == {"x": 5, "y": 1.0, "z": "a"}
    assert type(mu.clone(Child(5))) is Child


def test_calling_init_again_records_again():
    made = Point(1)
    made.__init__(5)
    assert mu.arguments(made)["x"] == 5


def test_varargs_and_keywords_are_remembered_under_their_names():
    @mu.symbolize
    class Layers:
        def __init__(self, first, /, *rest, flag=False, **options):
            self.all = (first, *rest)

    made = Layers(1, 2, 3, flag=True, depth=4)
    assert mu.arguments(made) == {"first": 1, "rest": (2, 3), "flag": True, "options": {"depth": 4}}
    assert mu.arguments(mu.clone(made)) == mu.arguments(made)


def test_a_parameter_called_self_reaches_the_keywords():
    @mu.symbolize
    class Odd:
        def __init__(this, x, **k):
            this.k = k

    assert Odd(1, self=5).k == {"self": 5}


def test_a_dataclass_keeps_its_features():
    @mu.symbolize
    @dataclasses.dataclass
    class Config:
        width: int
        depth: int = 2

    made = Config(3)
    assert mu.arguments(made) == {"width": 3, "depth": 2}
    assert dataclasses.asdict(made) == {"width": 3, "depth": 2}
    assert made == Config(3)
    assert mu.arguments(dataclasses.replace(made, depth=5))["depth"] == 5


def test_frozen_and_slotted_dataclasses_keep_arguments_in_their_fields():
    @mu.symbolize
    @dataclasses.dataclass(frozen=True, slots=True)
    class Config:
        width: int
        depth: int = 2

    assert mu.arguments(Config(3)) == {"width": 3, "depth": 2}
    assert mu.arguments(mu.clone(Config(3), depth=7)) == {"width": 3, "depth": 7}


def test_attrs_classes_frozen_and_slotted_work():
    @mu.symbolize
    @attrs.frozen
    class Config:
        width: int
        _depth: int = 2

    made = Config(3, depth=4)
    assert mu.arguments(made) == {"width": 3, "depth": 4}
    assert mu.arguments(attrs.evolve(made, width=9)) == {"width": 9, "depth": 4}


def test_a_slotted_value_with_an_undecided_field_is_abstract():
    @mu.symbolize
    @dataclasses.dataclass(slots=True)
    class Config:
        width: int

        def __post_init__(self):
            self.width += 1

    made = Config(HOLE)
    assert mu.arguments(made) == {"width": HOLE}
    with pytest.raises(RuntimeError, match="the Config is abstract"):
        _ = made.width


def test_a_dataclass_decorator_above_symbolize_is_reported_with_the_order():
    @dataclasses.dataclass
    @mu.symbolize
    class Config:
        width: int

    with pytest.raises(SymbolicError, match="outermost decorator"):
        mu.arguments(Config(1))


def test_a_slotted_decorator_above_symbolize_is_reported_with_the_order():
    @attrs.define
    @mu.symbolize
    class Config:
        width: int

    with pytest.raises(SymbolicError, match="outermost decorator"):
        mu.arguments(Config(1))


def test_a_dataclass_that_inherits_from_a_symbolic_one_is_symbolic():
    @mu.symbolize
    @dataclasses.dataclass
    class Base:
        a: int

    @dataclasses.dataclass
    class Child(Base):
        b: int = 2

    assert mu.arguments(Child(1)) == {"a": 1, "b": 2}


def test_a_class_without_init_has_no_arguments():
    @mu.symbolize
    class Empty:
        pass

    assert mu.arguments(Empty()) == {}


def test_generic_abstract_and_keyword_subclass_hooks_work():
    seen = []
    V = typing.TypeVar("V")

    @mu.symbolize
    class Base(typing.Generic[V], abc.ABC):
        def __init_subclass__(cls, tag="", **kwargs):
            super().__init_subclass__(**kwargs)
            seen.append((cls.__name__, tag))

        def __init__(self, x):
            self.x = x

    class Child(Base[int], tag="t"):
        def __init__(self, y):
            super().__init__(y)

    assert seen == [("Child", "t")]
    assert mu.arguments(Child(1)) == {"y": 1}
    assert mu.arguments(Base[int](3)) == {"x": 3}


def test_an_exception_in_init_passes_unchanged_with_a_note():
    @mu.symbolize
    class Broken:
        def __init__(self, x):
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine") as caught:
        Broken(1)
    assert caught.value.__notes__ == ["while building Broken"]


class Colour(enum.Enum):
    RED = 1


class Pair(typing.NamedTuple):
    a: int


class OnlyNew:
    def __new__(cls, x):
        return object.__new__(cls)


class Described(typing.Protocol):
    x: int


class Slotted:
    __slots__ = ("x",)

    def __init__(self, x):
        self.x = x


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        (Colour, "an Enum is a fixed set"),
        (Pair, "a NamedTuple is a leaf container"),
        (OnlyNew, "built by __new__ alone"),
        (Described, "a Protocol describes objects"),
        (Slotted, "no room for a record"),
        (torch.Tensor, "a tensor or generator is a leaf"),
        (nn.Parameter, "a tensor or generator is a leaf"),
        (torch.Generator, "a tensor or generator is a leaf"),
        (int, "its value is fixed by __new__"),
    ],
)
def test_what_cannot_be_symbolized_is_refused_with_the_reason(target, reason):
    with pytest.raises(SymbolicError, match=reason) as caught:
        mu.symbolize(target)
    assert "mu.bind(" in str(caught.value)


def test_a_value_is_refused():
    with pytest.raises(SymbolicError, match="a class or a function"):
        mu.symbolize(3)


def test_a_list_argument_that_changes_later_leaves_the_record_alone():
    layers = [1, 2]
    made = Point(layers)
    layers.append(3)
    assert mu.arguments(made)["x"] == [1, 2]


def test_a_generator_argument_is_kept_as_a_list_and_passed_as_an_iterator():
    @mu.symbolize
    class Sum:
        def __init__(self, numbers):
            self.total = sum(numbers)

    made = Sum(i for i in range(4))
    assert made.total == 6
    assert mu.arguments(made)["numbers"] == [0, 1, 2, 3]
    assert mu.clone(made).total == 6


def test_modules_compare_and_hash_by_identity():
    @mu.symbolize
    class Layer(nn.Module):
        def __init__(self, n):
            super().__init__()
            self.w = nn.Parameter(torch.zeros(n))

    a, b = Layer(4), Layer(4)
    assert a != b
    assert len({a, b}) == 2
    assert len(list(nn.Sequential(a, b).parameters())) == 2


def test_type_hints_and_attributes_of_user_classes_are_untouched():
    assert "x" in vars(Point(1))
    assert not hasattr(Point, "get")  # Class access stays free, so that dataclass fields may use the name.
