"""Costs from tables of operations."""

from __future__ import annotations

import json

import pytest
import supernet_zoo as zoo
import torch
from torch import nn

import mutandis as mu
from mutandis.errors import SettingError, StorageError
from mutandis.flows.costs import measure_table, operations, read_table, table_cost
from mutandis.flows.costs.tables import operation_key


def program():
    width = mu.oneof([4, 8], name="width")
    layer = mu.oneof([mu.nn.Conv2d(width, width, 3, padding=1), mu.nn.Identity(), mu.nn.MaxPool2d(3, 1, 1)], name="op")
    return mu.nn.Sequential(mu.nn.Conv2d(3, width, 1), layer, mu.nn.ReLU())


X = torch.zeros(2, 3, 8, 8)


def every_key():
    space = mu.space(program())
    return sorted({key for dna in space.enumerate() for key in operations(space.materialize(dna), X)})


@pytest.mark.parametrize(("layer", "shape", "expected"), [
    (nn.Conv2d(3, 16, 3, stride=2, padding=1), (1, 3, 32, 32), "Conv2d-3x32x32-16x16x16-k3-s2"),
    (nn.Conv2d(4, 4, (3, 1), groups=4, dilation=2), (1, 4, 8, 8), "Conv2d-4x8x8-4x4x8-k3x1-s1-d2-g4"),
    (nn.Linear(6, 2), (5, 6), "Linear-6-2"),
    (nn.MaxPool2d(2), (1, 4, 8, 8), "MaxPool2d-4x8x8-4x4x4-k2-s2-d1"),
    (nn.ReLU(), (1, 7), "ReLU-7-7"),
])  # fmt: skip
def test_a_key_names_class_sizes_and_settings(layer, shape, expected):
    given = torch.zeros(shape)
    found = operation_key(layer, given, layer(given))
    assert found == expected.replace("-d1", "") or found == expected


def test_the_operations_of_a_child_are_told_in_their_order():
    space = mu.space(program())
    child = space.materialize(space.dna({"width": 0, "op": 0}))
    child.train()
    assert operations(child, X) == ["Conv2d-3x8x8-4x8x8-k1-s1", "Conv2d-4x8x8-4x8x8-k3-s1", "ReLU-4x8x8-4x8x8"]
    assert child.training and not any(m._forward_hooks for m in child.modules())


def test_a_layer_that_runs_twice_counts_twice():
    relu = nn.ReLU()
    assert operations(nn.Sequential(relu, nn.Flatten(), relu), torch.zeros(1, 2, 2)).count("ReLU-2x2-2x2") == 1
    assert operations(nn.Sequential(relu, relu), torch.zeros(1, 2)) == ["ReLU-2-2"] * 2


def test_the_cost_of_a_child_is_the_sum_of_its_operations():
    table = {key: float(number + 1) for number, key in enumerate(every_key())}
    cost, space = table_cost(program(), table, X), mu.space(program())
    assert cost.is_exact
    for dna in space.enumerate():
        assert cost(dna) == sum(table[key] for key in operations(space.materialize(dna), X))
    uniform = {"width": torch.full((2,), 0.5), "op": torch.full((3,), 1 / 3)}
    mean = sum(map(cost, space.enumerate())) / 6
    assert cost.expected(uniform).item() == pytest.approx(mean)


def test_a_shared_program_is_priced_without_building_its_children():
    table = {key: float(number + 1) for number, key in enumerate(every_key())}
    shared = mu.share_weights(program(), X)
    built = shared.num_builds
    cost = table_cost(shared, table, X)
    plain = table_cost(program(), table, X)
    assert all(cost(dna) == plain(dna) == shared.cost(dna, cost) for dna in shared.space.enumerate())
    assert shared.num_builds <= built + 6


def test_keys_of_your_own_name_what_counts():
    def key(layer, given, made):
        return f"conv{layer.kernel_size[0]}" if isinstance(layer, nn.Conv2d) else None

    cost = table_cost(program(), {"conv1": 1.0, "conv3": 10.0}, X, key=key)
    assert [cost(dna) for dna in mu.space(program()).enumerate()] == [11.0, 1.0, 1.0] * 2


def test_an_operation_that_the_table_misses_is_refused_or_has_the_default():
    table = dict.fromkeys(every_key(), 1.0)
    del table["Conv2d-4x8x8-4x8x8-k3-s1"]
    with pytest.raises(SettingError) as caught:
        table_cost(program(), table, X)
    assert str(caught.value).splitlines()[:3] == [
        "cannot look up a cost",
        "  at:       Conv2d-4x8x8-4x8x8-k3-s1",
        "  got:      'no such operation in the table' (str)",
    ]
    assert "did you mean 'Conv2d-8x8x8-8x8x8-k3-s1'" in str(caught.value)
    cost = table_cost(program(), table, X, default=100.0)
    assert cost(mu.space(program()).dna({"width": 0, "op": 0})) == 102.0


@pytest.mark.parametrize("bad", ["3 ms", None, float("nan"), True])
def test_what_is_no_number_is_refused(bad):
    with pytest.raises(SettingError, match=r"cannot read costs\n  at:       table\['conv'\]"):
        table_cost(program(), {"conv": bad}, X)


def test_times_are_measured_here_for_every_operation_of_the_children():
    table = measure_table(program(), X, num_children=30, repeats=3)
    assert set(table) == set(every_key()) and all(0.0 < value < 1000.0 for value in table.values())
    cost = table_cost(program(), table, X)
    assert cost.is_exact and cost(mu.space(program()).dna({"width": 1, "op": 0})) > 0.0


def test_children_stay_as_they_were_when_their_operations_are_measured():
    batch = zoo.images()
    shared = mu.share_weights(zoo.programs()["residual"][0], batch)
    before = {name: tensor.clone() for name, tensor in shared.module.state_dict().items()}
    measure_table(shared, batch, num_children=3, repeats=1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in shared.module.state_dict().items())


@pytest.mark.parametrize(("name", "text"), [
    ("a.json", json.dumps({"conv": 1.5, "pool": 2})),
    ("b.json", json.dumps({"conv": {"mean": 1.5, "count": 10}, "pool": {"ms": 2.0}})),
    ("c.csv", "operation,ms\nconv,1.5\npool,2\n"),
    ("d.csv", "conv,1.5,extra\npool,2,\n\n"),
])  # fmt: skip
def test_tables_are_read_from_files(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert read_table(tmp_path / name) == {"conv": 1.5, "pool": 2.0}


@pytest.mark.parametrize(("name", "text"), [("a.json", "[1, 2]"), ("b.json", "{"), ("c.csv", "a,1\nb,two\n"), ("", "")])
def test_a_file_that_is_no_table_is_refused(tmp_path, name, text):
    path = tmp_path / (name or "missing.json")
    if name:
        path.write_text(text)
    with pytest.raises(StorageError, match=f"cannot read a table of costs\n  at:       .*{path.name}"):
        read_table(path)
