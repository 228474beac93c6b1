"""How a tree is cut into parts, and which weights belong to which choice."""

from __future__ import annotations

import pytest
import supernet_zoo as zoo
from torch import nn

import mutandis as mu
from mutandis.errors import LoweringError
from mutandis.flows.supernet.lowering.children import Builder
from mutandis.flows.supernet.lowering.dependencies import Dependencies
from mutandis.flows.supernet.lowering.partition import Partition, variant_of
from mutandis.models.nats import topology_program


def cut(program):
    space = mu.space(program)
    builder = Builder(space, 0)
    known = Dependencies(builder)
    known.explore(0)
    return Partition(space, known, builder.roots.names())


def parts(partition):
    return {part.path: (part.decisions, part.is_unit) for part in partition.every_part()}


def test_an_edge_of_a_cell_is_one_unit_of_one_decision():
    partition = cut(topology_program(channels=2, cells_per_stage=1))
    found = parts(partition)
    assert found[""] == ((), False) and found["cells.0.edges"] == ((), False)
    assert [found[f"cells.2.edges.{e}"] for e in range(6)] == [((e,), True) for e in range(6)]
    assert not any(path.startswith("cells.0.edges.0.") for path in found)
    assert partition.late[""] == {"arch", "_mu_"}
    assert partition.tags("cells.0.edges.3.1") == ((3, -1),) and partition.tags("stem.0") == ()


def test_a_setting_that_is_a_decision_is_copied():
    partition = cut(zoo.programs()["lstm"][0])
    assert partition.copies == {("dropout", "p"): 2}


def test_attributes_with_few_values_belong_to_the_part():
    found = parts(cut(zoo.programs()["residual"][0]))
    assert found["block"][0] == (0, 1)  # It keeps 1 / sqrt(hidden).


def test_numbers_share_weights_and_things_do_not():
    width, partition = (
        0,
        cut(mu.nn.Sequential(mu.nn.Linear(mu.oneof([2, 4]), 2), mu.oneof([mu.nn.ReLU(), mu.nn.PReLU()]))),
    )
    assert partition.tags(str(width)) == () and partition.tags("1") == ((1, -1),)


def test_candidates_that_look_alike_are_parts_of_their_own():
    partition = cut(mu.nn.Sequential(mu.oneof([mu.nn.Linear(2, 2), mu.nn.Linear(2, 2)])))
    assert parts(partition)["0"] == ((0,), True)


def test_a_choice_that_decides_a_size_elsewhere_separates_the_weights_there():
    @mu.symbolize
    class Net(nn.Module):
        def __init__(self, kind):
            super().__init__()
            self.last = nn.Linear({"small": 2, "large": 4}[kind], 1)
            self.other = nn.Linear(1, 1)

    partition = cut(Net(mu.oneof(["small", "large"])))
    assert partition.tags("last") == ((0, -1),) and partition.tags("other") == ()


def test_a_list_that_grows_at_its_end_is_fine_and_one_that_shifts_is_not():
    cut(zoo.Deep(mu.oneof([1, 2, 3])))
    with pytest.raises(LoweringError, match="which layer stands at a place of a list"):
        cut(zoo.Stages(mu.oneof([1, 2])))


@mu.symbolize
class Shortcut(nn.Module):
    """Layers that are there only where two widths differ, and whose sizes these widths are."""

    def __init__(self, inputs, outputs):
        super().__init__()
        layers = [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs)]
        self.short = nn.Sequential(*(layers if inputs != outputs else []))


def test_a_list_that_is_there_or_not_does_not_shift():
    partition = cut(Shortcut(mu.oneof([2, 4]), mu.oneof([2, 4, 6])))
    assert parts(partition)["short"] == ((0, 1), True)


def test_a_variant_is_the_candidate_or_the_pick_at_a_place():
    assert variant_of([(0, -1), (1, 1), (2, -1)], (3, (7, 8), None)) == ((0, -1, 3), (1, 1, 8), (2, -1, None))


def test_a_text_that_sums_up_layers_does_not_bind_them_together():
    @mu.symbolize
    class Net(nn.Module):
        def __init__(self, a, b):
            super().__init__()
            self.layers = nn.ModuleList([a, b])
            self.summary = f"{type(a).__name__}+{type(b).__name__}"

    a, b = (mu.oneof([mu.nn.ReLU(), mu.nn.Tanh()]) for _ in range(2))
    partition = cut(Net(a, b))
    assert parts(partition)[""] == ((), False) and "summary" in partition.late[""]
    assert partition.side_effects(0) == []


def test_what_a_choice_decides_beside_its_arms_is_told():
    @mu.symbolize
    class Net(nn.Module):
        def __init__(self, block, size):
            super().__init__()
            self.block = block
            self.last = nn.Linear(size, 1)

    size = mu.oneof(["a", "b"])
    partition = cut(Net(mu.nn.ReLU(), mu.derive({"a": 1, "b": 2}.get, size)))
    assert partition.side_effects(0) == ["last tensors", "last.in_features"]


@mu.symbolize
class Named(nn.Module):
    """A layer for each of some names, at a place of its own."""

    def __init__(self, names):
        super().__init__()
        self.layers = nn.ModuleDict({name: nn.Linear(2, 3 if name == "c" else 2) for name in names})


def test_which_of_several_picks_have_a_layer_does_not_part_its_weights():
    partition = cut(Named(mu.manyof(2, ["a", "b", "c"], ordered=False)))
    assert {partition.tags(f"layers.{name}") for name in "abc"} == {()}


def test_a_choice_of_whether_there_is_a_layer_parts_its_weights():
    partition = cut(Named(mu.oneof([["a"], ["a", "b"]])))
    assert partition.tags("layers.a") == () and partition.tags("layers.b") == ((0, -1),)
