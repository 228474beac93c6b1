"""The joint space of FCNet."""

from __future__ import annotations

import json
from pathlib import Path

import mutandis as mu
from mutandis.models.tabular import fcnet_program
from mutandis.models.tabular.fcnet import CANDIDATES


def test_the_space_has_its_published_size():
    assert mu.space(fcnet_program()).size == 62_208


def test_a_child_holds_its_settings():
    space = mu.space(fcnet_program())
    child = space.materialize(space.default())
    assert mu.arguments(child) == {name: values[0] for name, values in CANDIDATES.items()}
    assert child.widths == (16, 16)


def test_the_candidates_are_those_of_the_table(tmp_path):
    path = Path(__file__).parents[4] / "shared" / "data" / "hpo_fcnet" / "space.json"
    if path.exists():
        assert json.loads(path.read_text()) == CANDIDATES
    assert list(CANDIDATES) == sorted(CANDIDATES)
