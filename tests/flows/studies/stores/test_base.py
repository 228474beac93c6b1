"""What a store is beyond the contract that every medium runs."""

from __future__ import annotations

import pytest

from mutandis.errors import SettingError, StorageError
from mutandis.flows.studies.stores import StudyHeader, open_store


@pytest.mark.parametrize("name", ["", "a\nb", "a\0", None, 3])
def test_a_study_has_a_printable_name(name):
    with pytest.raises(SettingError, match="a text of printable characters"):
        open_store().open(name, StudyHeader())


def test_an_empty_store_says_so():
    with pytest.raises(StorageError, match="a store that has some"):
        open_store().open("study")
