"""From an address to a store."""

from __future__ import annotations

from pathlib import Path

import pytest

from mutandis.errors import SettingError, StorageError
from mutandis.flows.studies.stores import open_store, register_scheme, registry
from mutandis.flows.studies.stores.jsonl import JSONLMedium
from mutandis.flows.studies.stores.memory import MemoryMedium
from mutandis.flows.studies.stores.registry import file_of
from mutandis.flows.studies.stores.sqlite import SQLiteMedium


@pytest.mark.parametrize(("name", "kind"), [("a.db", SQLiteMedium), ("a", SQLiteMedium), ("a.jsonl", JSONLMedium)])
@pytest.mark.parametrize("of", [str, Path])
def test_a_path_is_a_file_of_its_kind(tmp_path, name, kind, of):
    with open_store(of(tmp_path / name)) as store:
        assert type(store._medium) is kind
    assert (tmp_path / name).exists()


def test_nothing_is_memory():
    assert type(open_store()._medium) is MemoryMedium


def test_an_sqlite_address_is_a_path(tmp_path):
    with open_store(f"sqlite:///{tmp_path}/a.db") as store:
        assert type(store._medium) is SQLiteMedium
    assert (tmp_path / "a.db").exists()


def test_an_unknown_address_is_refused_without_what_may_be_secret():
    with pytest.raises(StorageError) as error:
        open_store("redis://me:secret@host")
    assert str(error.value) == (
        "cannot open a store\n  at:       where\n  got:      'redis://...' (str)\n"
        "  expected: one of postgres, postgresql, postgresql+psycopg, sqlite, or a path\n"
        "  fix:      use a path for a file: study.db or study.jsonl"
    )


@pytest.mark.parametrize("where", ["", 3, b"a.db"])
def test_what_is_no_address_is_refused(where):
    with pytest.raises(SettingError, match="a path, an address, or None"):
        open_store(where)


@pytest.mark.parametrize(("name", "value", "expected"), [
    ("lease", 0, "a number of seconds above 0"), ("attempts", 0, "an int >= 1"), ("attempts", True, "an int >= 1"),
    ("attempts", 1.5, "an int >= 1"), ("durability", "none", "'process'"),
])  # fmt: skip
def test_settings_out_of_range_are_refused(name, value, expected):
    with pytest.raises(SettingError, match=f"at: +{name}\n(.|\n)*expected: {expected}"):
        open_store(**{name: value})


def test_settings_reach_the_store(tmp_path):
    with open_store(tmp_path / "a.jsonl", lease=7, attempts=9, durability="power", worker="w") as store:
        assert (store._lease, store._attempts, store._worker, store._medium._file._is_synced) == (7.0, 9, "w", True)


def test_a_scheme_can_be_added_once(monkeypatch):
    monkeypatch.setattr(registry, "_SCHEMES", dict(registry._SCHEMES))
    medium, seen = MemoryMedium(), []
    register_scheme("test")(lambda where, durability: seen.append((where, durability)) or medium)
    assert open_store("test://x", durability="power")._medium is medium
    assert seen == [("test://x", "power")]
    with pytest.raises(SettingError, match="cannot register a store"):
        register_scheme("test")(lambda where, durability: medium)


@pytest.mark.parametrize(("where", "file"), [("a/b.db", "a/b.db"), ("sqlite:///b.db", "b.db"),
                                             ("sqlite:////a/b.db", "/a/b.db"), ("postgresql://h/b", None)])  # fmt: skip
def test_the_file_of_an_address_is_known(where, file):
    assert file_of(where) == (file and Path(file))


@pytest.mark.parametrize("name", ["study.db", "study.jsonl"])
def test_a_folder_that_is_not_there_is_told(tmp_path, name):
    path = tmp_path / "no" / name
    with pytest.raises(StorageError) as error:
        open_store(path)
    assert str(error.value) == (
        f"cannot open a store\n  at:       {path}\n"
        "  got:      'a path in what is no folder' (str)\n"
        f"  expected: a file, or where one can be made\n  fix:      make the folder first: mkdir -p {path.parent}"
    )


@pytest.mark.parametrize("form", ["{}", "sqlite:///{}"])
def test_a_folder_is_no_store(tmp_path, form):
    with pytest.raises(StorageError) as error:
        open_store(form.format(tmp_path))
    assert str(error.value) == (
        f"cannot open a store\n  at:       {tmp_path}\n  got:      'a folder' (str)\n"
        f"  expected: a file, or where one can be made\n  fix:      name a file in it: {tmp_path / 'study.db'}"
    )


@pytest.mark.parametrize("form", ["~/study.db", "~/study.jsonl", "sqlite:///~/study.db"])
def test_a_path_may_begin_at_home(tmp_path, monkeypatch, form):
    monkeypatch.setenv("HOME", str(tmp_path))
    place = tmp_path / Path(form).name
    assert file_of(form) == place
    open_store(form).close()
    assert place.exists()
