"""One PostgreSQL server for all tests of stores, and a file of lines."""

from __future__ import annotations

import postgres
import pytest

from mutandis.flows.studies.stores import StudyHeader, open_store


@pytest.fixture(scope="session")
def server():
    with postgres.server() as made:
        yield made


@pytest.fixture
def path(tmp_path):
    """A study with two results, closed."""
    path = tmp_path / "study.jsonl"
    with open_store(path) as store:
        log = store.open("study", StudyHeader())
        for i in range(2):
            log.finish(log.claim({"x": i}), {"state": "completed", "rewards": [0.5]})
    return path
