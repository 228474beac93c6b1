"""Rebinding trees: names, paths, rules, lists, holders, transactions."""

from __future__ import annotations

import copy
import dataclasses
import gc

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mutandis as mu
from mutandis.errors import PathError, SettingError, SymbolicError
from mutandis.symbolic.record import is_abstract, record_of
from mutandis.symbolic.undecided import Undecided


@mu.symbolize
class Node:
    built = 0

    def __init__(self, value=0, child=None, extra=()):
        type(self).built += 1
        self.value, self.child, self.extra = value, child, extra
        self.sum = value + (child.sum if isinstance(child, Node) else 0)


class Choice(Undecided):
    def __init__(self, candidates):
        self.candidates = candidates

    def _mu_items_(self):
        return (("candidates", self.candidates),)

    def _mu_replace_(self, items):
        return Choice(items["candidates"])


def test_names_and_paths_change_arguments_and_rebuild_holders_children_first():
    leaf = Node(1)
    root = Node(2, Node(3, leaf), extra=[Node(4)])
    assert root.rebind({"child.child.value": 10, "extra[0].value": 5}, value=20) is root
    assert (leaf.value, root.child.sum, root.sum, root.extra[0].sum) == (10, 13, 33, 5)
    assert root.child.child is leaf


def test_each_touched_object_is_built_once():
    shared = Node(1)
    root = Node(0, Node(1, shared), extra=[shared, Node(2, shared)])
    Node.built = 0
    root.rebind({"child.value": 5, "child.child.value": 7})
    assert Node.built == 4
    assert root.extra[1].sum == 9


def test_holders_outside_the_root_are_rebuilt_too():
    leaf = Node(1)
    holder = Node(1, leaf)
    leaf.rebind(value=5)
    assert holder.sum == 6


def test_an_equal_value_is_no_change():
    root = Node(1.5, [float("nan")])
    Node.built = 0
    root.rebind(value=float("1.5"), child=[float("nan")])
    assert Node.built == 0


def test_one_is_not_true():
    assert Node(1).rebind(value=True).value is True


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("chidl.value", "did you mean 'child'"),
        ("child.valeu", "one of the children of child (Node): value, child, extra; did you mean 'value'"),
        ("extra[5]", "extra[5]"),
        ("child.value.x", "child.value.x"),
        ("extra[0]['b']", "extra[0]['b']"),
    ],
)
def test_unknown_paths_are_refused_and_nothing_changes(path, text):
    root = Node(1, Node(2), extra=[{"a": 1}])
    Node.built = 0
    with pytest.raises(PathError) as caught:
        root.rebind({"value": 9, path: 1})
    assert text in str(caught.value)
    assert root.value == 1 and mu.arguments(root)["value"] == 1 and Node.built == 0


def test_unknown_names_are_refused_with_close_misses():
    with pytest.raises(PathError, match="did you mean 'value'"):
        Node(1).rebind(valu=3)


def test_overlapping_paths_are_refused():
    with pytest.raises(SettingError, match="one leads through the other"):
        Node(1, Node(2)).rebind({"child": Node(1), "child.value": 2})


@pytest.mark.parametrize("rule", [lambda: 1, lambda a, b, c, d: a, "name", lambda *, k: k])
def test_rules_of_wrong_arity_are_refused(rule):
    with pytest.raises(SettingError, match="cannot use a rule"):
        Node(1).rebind(rule)


def test_rules_see_every_node_with_key_value_and_parent():
    root = Node(1, Node(2), extra=[{"a": 3}])
    seen = []
    root.rebind(lambda k, v, p: seen.append((k, v, p)) or v)
    assert [k for k, _, _ in seen] == ["", "value", "child", "value", "child", "extra", "extra", 0, "a"]
    assert seen[3][2] is root.child
    root.rebind(lambda k, v: v + 1 if k == "value" else v)
    assert (root.value, root.child.value) == (2, 3)
    root.rebind(lambda v: v * 10 if type(v) is int else v)
    assert (root.value, root.child.value, root.extra[0]) == (20, 30, {"a": 30})


def test_children_of_a_replaced_node_are_not_visited():
    root = Node(1, Node(2, Node(3)))
    seen = []

    def rule(k, v):
        seen.append(k)
        return Node(7) if k == "child" and isinstance(v, Node) else v

    root.rebind(rule)
    assert root.child.value == 7
    assert seen == ["", "value", "child", "extra"]


def test_a_rule_that_matches_the_root_returns_the_new_object():
    root = Node(1)
    made = root.rebind(lambda v: Node(9) if isinstance(v, Node) else v)
    assert made is not root and made.value == 9 and root.value == 1


def test_a_shared_node_is_replaced_wherever_it_stands():
    shared = Node(3)
    root = Node(1, shared, extra=[shared])
    root.rebind(lambda v: Node(8) if isinstance(v, Node) and v.value == 3 else v)
    assert root.child is root.extra[0] and root.child.value == 8


def test_lists_are_edited_by_insert_and_delete_counted_as_they_were():
    root = Node(extra=["a", "b", "c"])
    root.rebind({"extra[0]": mu.DELETE, "extra[1]": mu.Insert("x"), "extra[2]": "C", "extra[3]": mu.Insert("end")})
    assert root.extra == ["x", "b", "C", "end"]
    root.rebind({"extra[-1]": "last"})
    assert root.extra[-1] == "last"


def test_dicts_are_edited_by_insert_and_delete():
    root = Node(extra={"a": 1, "b": 2})
    root.rebind({"extra['a']": mu.DELETE, "extra['c']": mu.Insert(3)})
    assert root.extra == {"b": 2, "c": 3}
    with pytest.raises(SettingError, match="cannot insert under a key that exists"):
        root.rebind({"extra['b']": mu.Insert(3)})


def test_deleting_an_argument_resets_it_to_its_default():
    @mu.symbolize
    class Needs:
        def __init__(self, a, b=2):
            self.a, self.b = a, b

    thing = Needs(1, b=5)
    thing.rebind(b=mu.DELETE)
    assert thing.b == 2
    with pytest.raises(SettingError, match="cannot delete an argument that has no default"):
        thing.rebind(a=mu.DELETE)


def test_plain_roots_are_edited_in_place():
    items = [Node(1), {"k": 2}]
    assert mu.rebind(items, {"[0].value": 5, "[1]['k']": 6}) is items
    assert items[0].value == 5 and items[1] == {"k": 6}
    table = {"a": 1}
    assert mu.rebind(table, a=2) is table and table == {"a": 2}
    assert mu.rebind((1, 2), {0: 3}) == (3, 2)


def test_variable_arguments_are_reached_by_index_and_key():
    @mu.symbolize
    class Many:
        def __init__(self, *items, **options):
            self.items, self.options = items, options

    many = Many(1, Node(2), a=3)
    many.rebind({"[1].value": 5, "a": 4, "b": 6})
    assert many.items[1].value == 5 and many.options == {"a": 4, "b": 6}
    many.rebind(b=mu.DELETE)
    many.rebind({"items[0]": mu.DELETE})
    assert many.options == {"a": 4} and len(many.items) == 1


def test_a_mutated_list_argument_does_not_reach_the_record():
    given_list = [1, 2]
    root = Node(extra=given_list)
    given_list.append(3)
    root.extra.append(4)
    assert root.rebind(value=1).extra == [1, 2]


def test_an_abstract_object_becomes_concrete_in_place_and_back():
    root = Node(mu.REQUIRED, Node(2))
    holder = Node(1, root)
    assert is_abstract(holder)
    assert root.rebind(value=3) is root
    assert root.sum == 5 and holder.sum == 6
    root.rebind(value=mu.REQUIRED)
    assert is_abstract(holder)
    root.rebind(value=4)
    assert holder.sum == 7


def test_candidates_are_reached_and_one_object_stays_one_decision():
    choice = Choice([Node(1), Node(2)])
    root = Node(choice, extra=[choice])
    first = choice.candidates[0]
    root.rebind({"value.candidates[0].value": 5})
    assert first.value == 5 and mu.arguments(root)["value"] is choice
    root.rebind({"value.candidates[1]": mu.DELETE})
    args = mu.arguments(root)
    assert args["value"] is args["extra"][0] and len(args["value"].candidates) == 1


def test_an_exception_in_init_puts_everything_back():
    @mu.symbolize
    class Picky:
        def __init__(self, child, limit=10):
            self.child, self.limit = child, limit
            if child.sum > limit:
                raise OverflowError("too much")

    root = Picky(Node(1, Node(2)))
    root.note = "mine"
    state, inner = dict(vars(root)), dict(vars(root.child))
    with pytest.raises(OverflowError, match="too much") as caught:
        root.rebind({"child.child.value": 50, "limit": 20})
    assert caught.value.__notes__ == ["while building Picky"]
    assert vars(root) == state and vars(root.child) == inner
    assert mu.arguments(root.child.child)["value"] == 2 and root.child.sum == 3
    assert root.rebind(limit=30).note == "mine"


def test_the_note_names_the_place():
    root = Node(1, Node(2))
    with pytest.raises(TypeError) as caught:
        root.rebind({"child.value": "text"})
    assert caught.value.__notes__ == ["while building child (Node)"]


@dataclasses.dataclass(frozen=True)
class Plain:
    pass


@mu.symbolize
@dataclasses.dataclass(frozen=True)
class Frozen:
    x: int
    y: object = None


@mu.symbolize
@dataclasses.dataclass(frozen=True, slots=True)
class FrozenSlots:
    x: int
    y: object = None


@mu.symbolize
@attrs.frozen
class FrozenAttrs:
    x: int
    y: object = None


@pytest.mark.parametrize("cls", [Frozen, FrozenSlots, FrozenAttrs])
def test_frozen_values_are_replaced_and_their_holders_rebuilt(cls):
    inner = cls(1)
    root = Node(0, cls(2, inner), extra=[inner])
    root.rebind({"child.y.x": 7})
    assert root.child.y == cls(7) and inner.x == 1
    assert root.child.y is root.extra[0]
    made = inner.rebind(x=3)
    assert made == cls(3) and made is not inner


def test_on_rebind_takes_a_change_in_place():
    @mu.symbolize
    class Hot:
        def __init__(self, rate, child=None):
            self.rate, self.child, self.log = rate, child, []

        def on_rebind(self, changes):
            self.log.append(changes)
            self.rate = mu.arguments(self)["rate"]
            return None if self.rate < 5 else NotImplemented

    hot = Hot(1, Node(2))
    hot.rebind({"child.value": 4}, rate=2)
    assert hot.log == [{"child.value": (2, 4), "rate": (1, 2)}]
    report = mu.rebind(hot, rate=3, report=True)
    assert hot.rate == 3 and report.in_place == ("",) and report.rebuilt == ()
    assert hot.rebind(rate=9).log == []


def test_a_cycle_is_refused():
    root = Node(1, Node(2))
    with pytest.raises(SettingError, match="cannot put an object inside itself"):
        root.rebind({"child.child": root})
    assert root.child.child is None


def test_values_that_are_not_symbolic_are_refused():
    with pytest.raises(SymbolicError, match="cannot treat a value as a symbolic object"):
        mu.rebind(object(), {"a": 1})


def test_the_report_reads_well():
    report = mu.rebind(Node(1, Node(2)), {"child.value": 3}, report=True)
    assert report.rebuilt == ("child", "")
    assert str(report) == (
        "rebind: 2 rebuilt, 0 tensors kept, 0 made anew\n  rebuilt:   child\n  rebuilt:   (the root)"
    )


def test_a_deep_copy_is_rebuilt_and_the_original_is_not():
    root = Node(1, Node(2))
    again = copy.deepcopy(root)
    again.child.rebind(value=7)
    assert (again.sum, root.sum) == (8, 3)


def test_the_list_of_holders_stays_bounded():
    leaf = Node(1)
    for _ in range(10_000):
        Node(1, leaf)
    gc.collect()
    assert len(record_of(leaf).holders) < 100


def test_partial_calls_take_changes():
    part = mu.partial(dict, a=1)
    part.rebind(a=2)
    part.rebind(b=3)
    assert part() == {"a": 2, "b": 3}

    def function(x, y=2):
        return (x, y)

    part = mu.partial(function)
    part.rebind(x=5)
    assert part(y=1) == (5, 1)
    part.rebind(x=mu.DELETE)
    assert part(7) == (7, 2)


@given(st.lists(st.integers(), min_size=1, max_size=5), st.integers(0, 4), st.integers())
def test_rebind_and_undo_is_identity(values, index, new):
    root = Node(extra=list(values))
    path = f"extra[{index % len(values)}]"
    old = mu.symbolic.get(root, path)
    root.rebind({path: new}).rebind({path: old})
    assert mu.arguments(root)["extra"] == values


@given(st.lists(st.integers(), max_size=5), st.integers(0, 5))
def test_insert_and_delete_is_identity(values, index):
    root = Node(extra=list(values))
    path = f"extra[{min(index, len(values))}]"
    root.rebind({path: mu.Insert(99)})
    assert mu.symbolic.get(root, path) == 99
    assert root.rebind({path: mu.DELETE}).extra == values
