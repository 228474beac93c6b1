"""Numbers as people write them."""

from __future__ import annotations

import argparse

import pytest

from mutandis.cli.values import assignment, count, memory_bytes, names, port, seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [("4GB", 4_000_000_000), ("512MiB", 536_870_912), ("1.5 gib", 1_610_612_736), ("2k", 2000), ("100", 100),
     ("7B", 7), (".5TB", 500_000_000_000)],
)  # fmt: skip
def test_sizes_of_memory(text, size):
    assert memory_bytes(text) == size


@pytest.mark.parametrize(
    ("text", "length"),
    [("90", 90.0), ("1.5", 1.5), ("10m", 600.0), ("1h30m", 5400.0), ("2d", 172800.0), ("1e3", 1000.0), ("0.5S", 0.5)],
)
def test_lengths_of_time(text, length):
    assert seconds(text) == length


@pytest.mark.parametrize(("read", "text", "value"), [
    (count, "3", 3), (port, "8080", 8080), (port, "65535", 65535), (names, "a, -b", ("a", "-b")), (names, "a", ("a",)),
    (assignment, "a=b=c", ("a", "b=c")), (assignment, " a = ", ("a", "")),
])  # fmt: skip
def test_other_values(read, text, value):
    assert read(text) == value


@pytest.mark.parametrize(("read", "text", "message"), [
    (memory_bytes, "4XB", "'4XB' is no size; write 4GB, 512MiB or a number of bytes"),
    (memory_bytes, "0", "'0' is no size; write 4GB, 512MiB or a number of bytes"),
    (memory_bytes, "-1GB", "'-1GB' is no size; write 4GB, 512MiB or a number of bytes"),
    (seconds, "0", "'0' is no length of time; write 90 (seconds), 10m or 1h30m"),
    (seconds, "10m5", "'10m5' is no length of time; write 90 (seconds), 10m or 1h30m"),
    (seconds, "nan", "'nan' is no length of time; write 90 (seconds), 10m or 1h30m"),
    (seconds, "inf", "'inf' is no length of time; write 90 (seconds), 10m or 1h30m"),
    (count, "1.5", "'1.5' is no whole number of at least 1"),
    (count, "0", "'0' is no whole number of at least 1"),
    (port, "0", "'0' is no port: a number from 1 to 65535"),
    (port, "65536", "'65536' is no port: a number from 1 to 65535"),
    (names, "a,,b", "'a,,b' has an empty name; write accuracy,-latency_ms"),
    (names, "-", "'-' has an empty name; write accuracy,-latency_ms"),
    (assignment, "=3", "'=3' is no setting; write NAME=VALUE, such as population_size=50"),
])  # fmt: skip
def test_what_is_no_value_is_refused(read, text, message):
    with pytest.raises(argparse.ArgumentTypeError) as caught:
        read(text)
    assert str(caught.value) == message
