"""The strings of NATS-Bench."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import TOPOLOGY, needs_topology

from mutandis.errors import SchemaError
from mutandis.models.nats import EDGES, OPERATIONS, WIDTHS, operations_of, to_string, widths_of

TEXT = "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|none~0|nor_conv_3x3~1|skip_connect~2|"


def test_a_cell_reads_as_the_benchmark_writes_it():
    cell = ("nor_conv_3x3", "nor_conv_3x3", "avg_pool_3x3", "none", "nor_conv_3x3", "skip_connect")
    assert to_string(cell) == TEXT
    assert operations_of(TEXT) == cell


@given(st.lists(st.sampled_from(OPERATIONS), min_size=6, max_size=6))
def test_every_cell_survives_the_way_there_and_back(operations):
    assert operations_of(to_string(operations)) == tuple(operations)


def test_edges_lead_to_later_nodes_in_the_order_of_the_string():
    assert [node for _, node in EDGES] == sorted(node for _, node in EDGES)
    assert all(source < node for source, node in EDGES)


@needs_topology
def test_all_strings_of_the_benchmark_are_read_as_its_operations():
    with np.load(TOPOLOGY) as file:
        strings, codes = file["arch"], file["ops"]
    for text, code in zip(strings[::97], codes[::97], strict=True):
        assert operations_of(text.decode()) == tuple(OPERATIONS[index] for index in code)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "none",
        TEXT[:-1],
        TEXT.replace("~2", "~1"),
        TEXT.replace("none", "pool"),
        TEXT.replace("+", ""),
        TEXT + "+||",
    ],
)
def test_other_text_is_refused(text):
    with pytest.raises(SchemaError):
        operations_of(text)


def test_a_misspelt_operation_is_refused_with_a_close_miss():
    with pytest.raises(SchemaError) as error:
        to_string(["none"] * 5 + ["nor_conv3x3"])
    assert str(error.value) == (
        "cannot describe a cell\n"
        "  got:      ['none', 'none', 'none', 'none', 'none', 'nor_conv3x3'] (list)\n"
        "  expected: six of none, skip_connect, nor_conv_1x1, nor_conv_3x3, avg_pool_3x3; did you mean "
        "'nor_conv_3x3' or 'nor_conv_1x1'?\n"
        "  fix:      give one operation per edge, in the order of EDGES"
    )


def test_widths_read_as_the_benchmark_writes_them():
    assert widths_of("8:16:24:32:64") == (8, 16, 24, 32, 64)
    assert WIDTHS[0] == 8 and WIDTHS[-1] == 64


@pytest.mark.parametrize("text", ["", "8:16", "8:16:24:32:65", "8:16:24:32:-8", "a:8:8:8:8"])
def test_other_widths_are_refused(text):
    with pytest.raises(SchemaError, match="cannot read widths"):
        widths_of(text)
