"""Children, walks, queries and look-ups."""

from __future__ import annotations

import collections
from collections import OrderedDict

import pytest
from torch import nn

import mutandis as mu
from mutandis.errors import PathError, SettingError
from mutandis.symbolic.traverse import children, inner, walk


@mu.symbolize
class Block(nn.Module):
    def __init__(self, width, given=None):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3)
        self.alias = self.conv
        self.rest = nn.Sequential(OrderedDict([("first", nn.ReLU()), ("second", nn.Linear(1, 1))]))
        self.table = nn.ModuleDict({"a b": nn.Identity()})
        self.given = given


@mu.symbolize
class Options:
    def __init__(self, *items, **named):
        self.items, self.named = items, named


Pair = collections.namedtuple("Pair", "a b")


def paths(value):
    return [str(path) for path, _, _ in walk(value)]


def test_arguments_elements_and_keys_are_children():
    made = Options(1, [2, {"k": 3}], Pair(4, 5), x=6)
    assert paths(made) == [
        "", "items", "items[0]", "items[1]", "items[1][0]", "items[1][1]", "items[1][1]['k']",
        "items[2]", "items[2][0]", "items[2][1]", "x",
    ]  # fmt: skip
    assert children(3) == []


def test_layers_built_inside_init_are_visited_once_under_their_first_name():
    assert paths(Block(1)) == [
        "", "width", "given", "conv", "rest", "rest.first", "rest.second", "table", "table['a b']",
    ]  # fmt: skip


def test_a_module_that_is_an_argument_is_reached_through_the_argument_only():
    layer = nn.Sequential(nn.ReLU())
    made = Block(1, layer)
    assert "given" in paths(made)
    assert [str(path) for path, _ in inner(made)].count("given") == 0
    assert sum(node is layer for _, node, _ in walk(made)) == 1


def test_parents_come_with_their_children():
    made = Block(1)
    parents = {str(path): parent for path, _, parent in walk(made)}
    assert parents["rest.first"] is made.rest
    assert parents["conv"] is made


def test_a_shared_node_is_visited_once():
    block = Block(1)
    assert sum(node is block for _, node, _ in walk([block, block, {"x": block}])) == 1


def test_query_by_predicate_class_and_expression():
    made = [Block(1), {"x": 2}]
    assert list(mu.query(made, nn.Conv2d)) == ["[0].conv"]
    assert mu.query(made, lambda value: value == 2 if isinstance(value, int) else False) == {"[1]['x']": 2}
    assert list(mu.query(made, lambda path, value: path.endswith("second"))) == ["[0].rest.second"]
    assert list(mu.query(made, lambda k, v, parent: isinstance(parent, nn.ModuleDict))) == ["[0].table['a b']"]
    assert list(mu.query(made, r".*width")) == ["[0].width"]


def test_query_with_a_wrong_number_of_parameters_is_refused():
    with pytest.raises(SettingError, match="change the number of its parameters"):
        mu.query([1], lambda a, b, c, d: True)
    with pytest.raises(SettingError, match="pass a function"):
        mu.query([1], 3)


@pytest.mark.parametrize("path", ["conv", "rest.first", "rest[1]", "table['a b']", "width"])
def test_get_follows_arguments_and_layers(path):
    if path == "rest[1]":
        with pytest.raises(PathError):
            mu.symbolic.get(Block(1), path)
    else:
        assert mu.symbolic.get(Block(1), path) is not None


def test_get_of_an_unknown_path_says_what_exists_there():
    with pytest.raises(PathError) as caught:
        mu.symbolic.get({"m": Block(1)}, "n")
    message = str(caught.value)
    assert "one of the children of the root (dict): ['m']" in message
    with pytest.raises(PathError, match=r"did you mean 'width'"):
        mu.symbolic.get({"m": Block(1)}, "['m'].widht")


def test_traverse_gives_paths_and_nodes():
    assert list(mu.symbolic.traverse([1, (2,)])) == [("", [1, (2,)]), ("[0]", 1), ("[1]", (2,)), ("[1][0]", 2)]
