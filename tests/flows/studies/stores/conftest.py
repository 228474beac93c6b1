"""One PostgreSQL server for all tests of stores."""

from __future__ import annotations

import postgres
import pytest


@pytest.fixture(scope="session")
def server():
    with postgres.server() as made:
        yield made
