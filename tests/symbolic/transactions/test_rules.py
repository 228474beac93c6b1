"""Guides: paths and rules in one form."""

from __future__ import annotations

import pickle

import pytest

import mutandis as mu
from mutandis.errors import SettingError
from mutandis.symbolic.paths import Key
from mutandis.symbolic.transactions.rules import DELETE, KEEP, PathGuide, RuleGuide


def test_a_path_guide_answers_at_the_ends_and_leads_below():
    guide = PathGuide.of({"a.b[0]": 1, "c['k']": 2})
    assert guide.ask("a", None, None) is KEEP
    assert guide.below("a").below("b").ask(0, None, None) == 1
    assert guide.below("c").ask(Key("k"), None, None) == 2
    assert guide.below("z") is None
    assert guide.steps() == ("a", "c")
    assert {str(path): change for path, change in guide.ends()} == {"a.b[0]": 1, "c['k']": 2}


def test_a_key_may_be_written_as_a_name_and_a_name_as_a_key():
    assert PathGuide.of({"tags.train": 1}).below("tags").ask(Key("train"), None, None) == 1
    assert PathGuide.of({"['lr']": 1}).ask("lr", None, None) == 1


def test_a_rule_guide_hands_over_plain_keys():
    seen = []
    guide = RuleGuide(lambda k, v, p: seen.append((k, v, p)) or v)
    assert guide.ask(Key("k"), 1, None) is KEEP
    assert seen == [("k", 1, None)]


def test_keys_that_are_no_paths_are_refused():
    with pytest.raises(SettingError, match="write paths as text"):
        PathGuide.of({1.5: 2})


def test_marks_print_as_they_are_written():
    assert repr(mu.Insert(3)) == "mu.Insert(3)" and repr(DELETE) == "mu.DELETE"
    assert pickle.loads(pickle.dumps(DELETE)) is DELETE
