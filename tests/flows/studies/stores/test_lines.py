"""Lines with a checksum."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutandis.flows.studies.stores.lines import may_be_ours, scan, seal

TEXTS = ['{"v":1,"a":1}', '{"v":1,"study":"x"}', '{"v":1,"crc":"00000000"}']
DATA = b"".join(seal(text, "s t\u00fcdy") for text in TEXTS)


def test_a_line_is_json_and_comes_back():
    assert [json.loads(line)["study"] for line in DATA.splitlines()] == ["s t\u00fcdy"] * 3
    found = scan(DATA)
    assert [(text, study) for _, text, study in found.lines] == [(text, "s t\u00fcdy") for text in TEXTS]
    assert (found.end, found.damaged) == (len(DATA), [])


def test_a_line_is_as_it_was_released():
    assert seal('{"v":1}', "study") == b'{"v":1,"study":"study","crc":"05164c5d"}\n'


@pytest.mark.parametrize("cut", range(len(DATA)))
def test_bytes_that_are_cut_anywhere_hold_the_lines_before(cut):
    ends = [end for end, _, _ in scan(DATA).lines]
    found = scan(DATA[:cut])
    whole = [end for end in ends if end <= cut]
    assert [end for end, _, _ in found.lines] == whole
    assert (found.end, found.damaged) == (max(whole, default=0), [])


@given(st.integers(0, len(DATA) - 1), st.integers(1, 255))
def test_a_byte_that_changed_damages_its_line_alone(place, change):
    data = bytearray(DATA)
    data[place] ^= change
    ends = [0] + [end for end, _, _ in scan(DATA).lines]
    hit = next(i for i in range(3) if ends[i] <= place < ends[i + 1])
    kept = {text for _, text, _ in scan(bytes(data)).lines}
    lost = {TEXTS[hit]} | ({TEXTS[hit + 1]} if place == ends[hit + 1] - 1 and hit < 2 else set())
    assert kept == set(TEXTS) - lost


def test_damaged_lines_are_told_when_a_whole_one_follows():
    first, second, third = DATA.splitlines(keepends=True)
    found = scan(first + b"x\n" + second[:-9] + b"\n" + third + b"torn\n")
    assert found.damaged == [len(first), len(first) + 2]
    assert found.end == len(first) + 2 + len(second) - 8 + len(third)


@pytest.mark.parametrize(("data", "expected"), [
    (b"", True), (b"{", True), (b'{"v":1,"ki', True), (b"\0\0", True), (b'{"v":1\0\0', True),
    (b"hello", False), (b'{"x":1', False), (b'{"v":1}\n', False), (b"\n", False),
])  # fmt: skip
def test_only_the_beginning_of_a_line_may_be_ours(data, expected):
    assert may_be_ours(data) == expected
