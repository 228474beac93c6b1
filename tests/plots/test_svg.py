"""Elements, scales and axes."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutandis.plots.svg import Scale, axes, element, fitted, picture, short, text


def test_an_element_escapes_its_attributes_and_leaves_out_none():
    made = element("text", text("<a & b>"), class_='"x"', stroke_width=2.5, y=None, x=3.0)
    assert made == '<text class="&quot;x&quot;" stroke-width="2.5" x="3">&lt;a &amp; b&gt;</text>'


def test_a_scale_maps_ends_and_middle_and_keeps_outsiders_at_the_edge():
    scale = Scale(0.0, 10.0, 100.0, 300.0)
    assert [scale(value) for value in (0.0, 5.0, 10.0, -5.0, 99.0)] == [100.0, 200.0, 300.0, 100.0, 300.0]


def test_a_log_scale_gives_equal_factors_equal_lengths():
    scale = Scale(0.01, 100.0, 0.0, 400.0, is_log=True)
    assert [scale(value) for value in (0.01, 0.1, 1.0, 10.0)] == pytest.approx([0.0, 100.0, 200.0, 300.0])
    assert scale.ticks() == pytest.approx([0.01, 0.1, 1.0, 10.0, 100.0])


def test_a_scale_of_one_value_puts_it_in_the_middle():
    assert Scale(3.0, 3.0, 0.0, 10.0)(3.0) == 5.0
    assert Scale(3.0, 3.0, 0.0, 10.0).ticks() == [3.0]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.0, 10.0, [0, 2, 4, 6, 8, 10]), (0.13, 0.97, [0.2, 0.4, 0.6, 0.8]), (-5.0, 5.0, [-4, -2, 0, 2, 4])],
)
def test_ticks_are_round(low, high, expected):
    assert Scale(low, high, 0.0, 1.0).ticks() == pytest.approx(expected)


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_lie_within_the_range_and_are_few(low, width):
    ticks = Scale(low, low + width, 0.0, 1.0).ticks()
    slack = 1e-6 * max(abs(low), width)
    assert len(ticks) <= 7
    assert all(low - slack <= tick <= low + width + slack for tick in ticks)


def test_a_fitted_scale_leaves_air_at_both_ends():
    scale = fitted([1.0, 3.0], 0.0, 1.0, margin=0.1)
    assert (scale.low, scale.high) == pytest.approx((0.8, 3.2))
    log = fitted([1.0, 100.0], 0.0, 1.0, is_log=True, margin=0.5)
    assert (log.low, log.high) == pytest.approx((0.1, 1000.0))
    assert fitted([0.0, 0.0], 0.0, 1.0).high > 0.0


@pytest.mark.parametrize(
    ("value", "shown"), [(0.12345, "0.1235"), (64_123.0, "64,123"), (-20_000, "-20,000"), (1e8, "1e+08"), (3, "3")]
)
def test_numbers_are_short(value, shown):
    assert short(value) == shown


def test_a_picture_is_well_formed_and_has_a_title():
    scale = Scale(0.0, 1.0, 0.0, 100.0)
    root = ET.fromstring(picture(100, 50, "A < B", axes(scale, scale, "x & y", "<y>")))
    assert root.attrib["viewBox"] == "0 0 100 50"
    assert root[0].text == "A < B"
    assert "x & y" in "".join(root.itertext())
