"""Directories that are made when asked for, and go with their object or by hand."""

from __future__ import annotations

from mutandis.flows.studies.checkpoints import Checkpoint


def test_a_directory_is_made_when_it_is_first_asked_for():
    checkpoint = Checkpoint("mutandis-test-")
    assert checkpoint.made is None
    path = checkpoint.path
    assert path.is_dir()
    assert path.name.startswith("mutandis-test-")
    assert checkpoint.path == checkpoint.made == path


def test_two_checkpoints_are_two_directories():
    first, second = Checkpoint("mutandis-test-"), Checkpoint("mutandis-test-")
    assert first.path != second.path


def test_a_directory_goes_with_what_is_in_it_when_its_object_goes():
    checkpoint = Checkpoint("mutandis-test-")
    path = checkpoint.path
    (path / "weights").write_text("w")
    del checkpoint
    assert not path.exists()


def test_a_directory_that_is_gone_already_is_no_error():
    checkpoint = Checkpoint("mutandis-test-")
    checkpoint.path.rmdir()
    del checkpoint


def test_a_directory_with_a_place_outlives_its_object(tmp_path):
    place = tmp_path / "s.db.checkpoints" / "trial-3"
    checkpoint = Checkpoint("", place)
    assert checkpoint.made is None and not place.exists()
    assert checkpoint.path == place == checkpoint.made
    (place / "weights").write_text("w")
    del checkpoint
    again = Checkpoint("", place)
    assert (again.made / "weights").read_text() == "w"
    again.remove()
    assert again.made is None and not place.exists()
    again.remove()


def test_only_what_has_a_place_is_removed_by_hand():
    checkpoint = Checkpoint("mutandis-test-")
    path = checkpoint.path
    checkpoint.remove()
    assert path.exists()
