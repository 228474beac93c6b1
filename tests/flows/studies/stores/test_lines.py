"""Lines with a checksum."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutandis.flows.studies.stores.lines import may_be_ours, scan, seal, studies_of

TEXTS = ['{"v":1,"a":1}', '{"v":1,"study":"x"}', '{"v":1,"crc":"00000000"}']
DATA = b"".join(seal(text, "s t\u00fcdy") for text in TEXTS)


NAME = "s t\u00fcdy"


def test_a_line_is_json_and_comes_back():
    assert [json.loads(line)["study"] for line in DATA.splitlines()] == [NAME] * 3
    found = scan(DATA, 0, NAME)
    assert [line.text for line in found.lines] == TEXTS
    assert (found.end, found.damaged) == (len(DATA), [])


def test_positions_are_counted_from_that_of_the_first_byte():
    first = DATA.index(b"\n") + 1
    assert scan(DATA[first:], first, NAME).lines == scan(DATA, 0, NAME).lines[1:]
    torn = scan(DATA[first:] + b"x\n", first, NAME)
    assert (torn.end, torn.damaged) == (len(DATA), [])
    assert scan(b"x\n" + DATA, 7, NAME).damaged == [7]
    assert scan(b"torn", 7, NAME) == ([], 7, [])


@pytest.mark.parametrize("name", ["s", "t\u00fcdy", "another", 'a","study":"x', ""])
def test_lines_of_other_studies_are_passed_over(name):
    data = DATA + seal(TEXTS[1], name) + DATA
    found = scan(data, 0, name)
    assert [line.text for line in found.lines] == TEXTS[1:2]
    assert (found.end, found.damaged) == (len(data), [])
    assert [line.text for line in scan(data, 0, NAME).lines] == TEXTS * 2


def test_a_study_that_a_line_speaks_of_is_not_taken_for_its_own():
    line = seal('{"v":1,"x":{"a":1,"study":"other"}}', NAME)
    assert scan(line, 0, "other") == ([], len(line), [])
    assert len(scan(line, 0, NAME).lines) == 1
    assert studies_of(line) == {NAME}


def test_studies_are_told_of_whole_lines_alone():
    assert studies_of(DATA + seal("{1}", "x,y") + b"damaged\n\n" + seal("{1}", "z") + seal("{1}", "torn")[:-1]) == {
        NAME, "x,y", "z",
    }  # fmt: skip


def test_a_line_is_as_it_was_released():
    assert seal('{"v":1}', "study") == b'{"v":1,"study":"study","crc":"05164c5d"}\n'


@pytest.mark.parametrize("cut", range(len(DATA)))
def test_bytes_that_are_cut_anywhere_hold_the_lines_before(cut):
    ends = [line.cursor for line in scan(DATA, 0, NAME).lines]
    found = scan(DATA[:cut], 0, NAME)
    whole = [end for end in ends if end <= cut]
    assert [line.cursor for line in found.lines] == whole
    assert (found.end, found.damaged) == (max(whole, default=0), [])


@given(st.integers(0, len(DATA) - 1), st.integers(1, 255))
def test_a_byte_that_changed_damages_its_line_alone(place, change):
    data = bytearray(DATA)
    data[place] ^= change
    ends = [0] + [line.cursor for line in scan(DATA, 0, NAME).lines]
    hit = next(i for i in range(3) if ends[i] <= place < ends[i + 1])
    kept = {line.text for line in scan(bytes(data), 0, NAME).lines}
    lost = {TEXTS[hit]} | ({TEXTS[hit + 1]} if place == ends[hit + 1] - 1 and hit < 2 else set())
    assert kept == set(TEXTS) - lost


def test_damaged_lines_are_told_when_a_whole_one_follows():
    first, second, third = DATA.splitlines(keepends=True)
    found = scan(first + b"x\n" + second[:-9] + b"\n" + third + b"torn\n", 0, NAME)
    assert found.damaged == [len(first), len(first) + 2]
    assert found.end == len(first) + 2 + len(second) - 8 + len(third)


@pytest.mark.parametrize(("data", "expected"), [
    (b"", True), (b"{", True), (b'{"v":1,"ki', True), (b"\0\0", True), (b'{"v":1\0\0', True),
    (b"hello", False), (b'{"x":1', False), (b'{"v":1}\n', False), (b"\n", False),
])  # fmt: skip
def test_only_the_beginning_of_a_line_may_be_ours(data, expected):
    assert may_be_ours(data) == expected
