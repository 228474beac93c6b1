"""What is not decided yet."""

from __future__ import annotations

import copy
import pickle

import mutandis as mu
from mutandis.symbolic.undecided import Required, Undecided


@mu.symbolize
class Node:
    def __init__(self, x, y=2):
        self.x, self.y = x, y


def test_a_bare_undecided_value_has_no_children_and_no_settings():
    value = Undecided()
    assert value._mu_items_() == ()
    assert value._mu_replace_({}) is value
    assert value._mu_settings_() == {}


def test_required_is_one_object_in_every_copy():
    assert isinstance(mu.REQUIRED, Required)
    assert repr(mu.REQUIRED) == "mu.REQUIRED"
    for again in (copy.copy(mu.REQUIRED), copy.deepcopy(mu.REQUIRED), pickle.loads(pickle.dumps(mu.REQUIRED))):
        assert again is mu.REQUIRED


def test_required_makes_an_object_abstract_until_it_is_given():
    node = Node(mu.REQUIRED)
    assert mu.clone(node).rebind(x=1).x == 1
