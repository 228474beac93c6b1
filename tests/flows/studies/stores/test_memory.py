"""The contract in memory, and what is special there."""

from __future__ import annotations

import pytest

from mutandis.flows.studies.stores.memory import MemoryMedium
from mutandis.testing import StoreContract


class TestMemory(StoreContract):
    is_shared = False

    @pytest.fixture
    def where(self):
        return None


def write_and_raise(medium):
    with medium.exclusive("study") as writer:
        assert writer.append(["a"]) == 1
        writer.forget(0)
        raise KeyError


def test_a_block_that_raises_writes_nothing():
    medium = MemoryMedium()
    medium.beat("study", 0, 1)
    with pytest.raises(KeyError):
        write_and_raise(medium)
    assert medium.read("study", 0).lines == []
    assert medium.beats("study") == {(0, 1): 1}
    assert medium.studies() == ()
