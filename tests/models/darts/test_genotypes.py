"""Genotypes are read, written, checked and derived."""

from __future__ import annotations

import pytest

from mutandis.errors import SchemaError
from mutandis.models.darts import DARTS_V1, DARTS_V2, OPERATIONS, derive_genotype, genotype, parse_genotype
from mutandis.models.darts.genotypes import edge_path

PAIRS = [("sep_conv_3x3", 0), ("skip_connect", 1), ("max_pool_3x3", 2), ("dil_conv_5x5", 0)]
KNOWN = f"operations among {', '.join(OPERATIONS)}; did you mean 'sep_conv_3x3' or 'sep_conv_5x5' or 'dil_conv_3x3'?"


@pytest.mark.parametrize("cells", [DARTS_V1, DARTS_V2])
def test_a_genotype_is_read_from_its_text(cells):
    assert parse_genotype(str(cells)) == cells


def test_the_text_is_that_of_the_published_code():
    cells = genotype(PAIRS, PAIRS)
    pairs = "[('sep_conv_3x3', 0), ('skip_connect', 1), ('max_pool_3x3', 2), ('dil_conv_5x5', 0)]"
    assert str(cells) == f"Genotype(normal={pairs}, normal_concat=[2, 3], reduce={pairs}, reduce_concat=[2, 3])"


def test_ranges_in_a_text_are_understood():
    text = f"Genotype(normal={PAIRS}, normal_concat=range(2, 4), reduce={PAIRS}, reduce_concat=range(3, 4))"
    assert parse_genotype(text) == genotype(PAIRS, PAIRS, [2, 3], [3])


@pytest.mark.parametrize("text", [
    "", "Genotype(", "Genotype(normal=[])", "Genotype([], [], [], [])", "print(normal=1)",
    f"Genotype(normal={PAIRS}, normal_concat=[2, 3], reduce=open('x'), reduce_concat=[2])",
    f"Genotype(normal={PAIRS}, normal_concat=[2, 3], reduce={PAIRS}, reduce_concat=list(range(2, 4)))",
])  # fmt: skip
def test_other_texts_are_refused(text):
    with pytest.raises(SchemaError, match="cannot read a genotype"):
        parse_genotype(text)


def test_a_text_is_refused_in_words():
    with pytest.raises(SchemaError) as error:
        parse_genotype("Genotype()")
    assert str(error.value) == (
        "cannot read a genotype\n"
        "  got:      'Genotype()' (str)\n"
        "  expected: Genotype(normal=[('sep_conv_3x3', 1), ...], normal_concat=..., reduce=..., reduce_concat=...)\n"
        "  fix:      take the text from str(genotype)"
    )


@pytest.mark.parametrize(("normal", "concat", "expected"), [
    (PAIRS[:3], None, "two pairs of an operation and a node for each node"),
    ([], None, "two pairs of an operation and a node for each node"),
    ([("sep_conv_3x4", 0), *PAIRS[1:]], None, KNOWN),
    ([("sep_conv_3x3", 2), *PAIRS[1:]], None, "operations that read earlier nodes"),
    ([("sep_conv_3x3", -1), *PAIRS[1:]], None, "operations that read earlier nodes"),
    (PAIRS, [1, 2], "an output made of nodes 2 to 3"),
    (PAIRS, [], "an output made of nodes 2 to 3"),
])  # fmt: skip
def test_a_cell_that_cannot_be_built_is_refused(normal, concat, expected):
    with pytest.raises(SchemaError) as error:
        genotype(normal, PAIRS, concat)
    assert str(error.value) == (
        "cannot describe a cell\n"
        "  at:       normal\n"
        f"  got:      {normal} (list)\n"
        f"  expected: {expected}\n"
        "  fix:      copy the tuples as they were published, such as DARTS_V2"
    )


def test_the_cell_that_is_wrong_is_named():
    with pytest.raises(SchemaError, match="at:       reduce"):
        genotype(PAIRS, PAIRS[:1])


def chances(best):
    """Returns a row whose largest entry beside `none` is a given one."""
    name, strength = best
    return [0.9] + [strength if operation == name else 0.01 for operation in OPERATIONS[1:]]


def test_the_two_strongest_edges_of_a_node_are_kept_and_none_does_not_count():
    wanted = {
        (0, 2): ("sep_conv_3x3", 0.05), (1, 2): ("skip_connect", 0.08),
        (0, 3): ("dil_conv_5x5", 0.06), (1, 3): ("avg_pool_3x3", 0.03), (2, 3): ("max_pool_3x3", 0.07),
    }  # fmt: skip
    policy = {edge_path(cell, *edge): chances(best) for edge, best in wanted.items() for cell in ("normal", "reduce")}
    policy[edge_path("reduce", 1, 3)] = chances(("avg_pool_3x3", 0.2))
    cells = derive_genotype(policy, num_nodes=2)
    first = (("skip_connect", 1), ("sep_conv_3x3", 0))
    assert cells.normal == (*first, ("max_pool_3x3", 2), ("dil_conv_5x5", 0))
    assert cells.reduce == (*first, ("avg_pool_3x3", 1), ("max_pool_3x3", 2))
    assert cells.normal_concat == cells.reduce_concat == (2, 3)


def test_of_equal_edges_and_operations_the_first_are_kept():
    policy = {edge_path(cell, source, node): [1 / 8] * 8
              for cell in ("normal", "reduce") for node in (2, 3) for source in range(node)}  # fmt: skip
    assert derive_genotype(policy, num_nodes=2).normal == (("max_pool_3x3", 0), ("max_pool_3x3", 1)) * 2


def test_a_policy_over_something_else_is_refused():
    with pytest.raises(SchemaError) as error:
        derive_genotype({"net.normal[0][0].operation": [0.5, 0.5]}, at="net.")
    assert str(error.value) == (
        "cannot derive a genotype\n"
        "  at:       net.normal[0][0].operation\n"
        "  got:      [0.5, 0.5] (list)\n"
        "  expected: a chance of each of the 8 operations\n"
        "  fix:      pass the policy of a search in supernet_program()"
    )
