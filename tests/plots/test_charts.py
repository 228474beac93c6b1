"""The pictures of a study."""

from __future__ import annotations

import dataclasses
import re
import xml.etree.ElementTree as ET

import pytest

import mutandis as mu
from mutandis.plots import charts

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def study():
    program = {"x": mu.floatv(0.0, 1.0), "op": mu.oneof(["<a>", {"depth": mu.intv(1, 3)}])}
    loop = mu.sample(program, mu.algorithms.Random(), trials=12, objectives=("accuracy", "-cost"))
    for number, (child, feedback) in enumerate(loop):
        if number == 3:
            feedback.skip("no reason")
        else:
            feedback({"accuracy": child["x"], "cost": 1 - child["x"] ** 2 if number % 2 else 2.0})
    return loop.study


def dots(svg, kind="dot"):
    return [c for c in ET.fromstring(svg).iter(f"{SVG}circle") if kind in c.attrib["class"].split()]


def test_every_rated_trial_is_a_dot_with_its_record(study):
    found = dots(charts.search_curve(study))
    assert len(found) == 11
    assert found[0][0].text == str(study.trials[0])


def test_the_line_of_the_best_goes_up_only_where_a_trial_is_better(study):
    svg = charts.search_curve(study)
    path = next(ET.fromstring(svg).iter(f"{SVG}path")).attrib["d"]
    best, steps = float("-inf"), 0
    for trial in study.trials:
        if trial.rewards and trial.rewards[0] > best:
            best, steps = trial.rewards[0], steps + 1
    assert path.count("V") == steps - 1
    heights = [float(v) for v in re.findall(r"(?:V|M [0-9.]+) ([0-9.]+)", path)]
    assert heights == sorted(heights, reverse=True)  # Up is a smaller coordinate.


def test_where_smaller_is_better_the_line_goes_down(study):
    svg = charts.search_curve(study, 1)
    assert "cost (smaller is better)" in svg
    path = next(ET.fromstring(svg).iter(f"{SVG}path")).attrib["d"]
    heights = [float(v) for v in re.findall(r"(?:V|M [0-9.]+) ([0-9.]+)", path)]
    assert heights == sorted(heights)


def test_the_front_is_marked(study):
    svg = charts.pareto_front(study)
    assert len(dots(svg)) == 11
    assert len(dots(svg, "best")) == len(study.front)
    line = next(ET.fromstring(svg).iter(f"{SVG}polyline"))
    assert len(line.attrib["points"].split()) == len(study.front)


def test_bars_show_shares_the_largest_longest():
    root = ET.fromstring(charts.importance_bars({"a & b": 0.5, "c": 0.25, "none": 0.0}))
    widths = [float(bar.attrib["width"]) for bar in root.iter(f"{SVG}rect")]
    assert widths[0] == pytest.approx(2 * widths[1])
    assert len(widths) == 2
    assert "50%" in "".join(root.itertext())


def test_a_trial_is_a_line_that_breaks_where_a_decision_was_not_active(study):
    keys = [point.key for point in study.space.points]
    root = ET.fromstring(charts.parallel_coordinates(study, keys))
    lines = [line.attrib["points"].split() for line in root.iter(f"{SVG}polyline")]
    whole = sum(len(line) == len(keys) + 1 for line in lines)
    active = sum(trial.rewards is not None and None not in trial.dna.values for trial in study.trials)
    assert whole == active
    assert "<a>" in "".join(root.itertext())


def test_the_best_trials_have_the_strongest_lines(study):
    root = ET.fromstring(charts.parallel_coordinates(study, ["['x']"]))
    lines = list(root.iter(f"{SVG}polyline"))
    assert lines[0].attrib["class"] == "strand s0"
    assert lines[-1].attrib["class"] == "strand s4"
    assert lines[-1][0].text == str(study.best)


def test_a_timeline_has_a_row_per_worker_and_a_bar_per_trial(study):
    trials = [dataclasses.replace(t, worker=f"host {t.id % 3}", seconds=2.0) for t in study.trials]
    root = ET.fromstring(charts.timeline(trials, {t.id: 100.0 + t.id for t in trials[:9]}))
    bars = list(root.iter(f"{SVG}rect"))
    assert len(bars) == 9
    assert len({bar.attrib["y"] for bar in bars}) == 3
    assert float(bars[0].attrib["x"]) == 130.0  # The first one begins at nought.
    assert "bar skipped" in {bar.attrib["class"] for bar in bars}


def test_bars_within_one_pixel_are_drawn_once(study):
    trials = [dataclasses.replace(study.trials[t % 2], id=t, worker="one", seconds=0.001,
                                  state="failed" if t == 500 else "completed") for t in range(2000)]  # fmt: skip
    root = ET.fromstring(charts.timeline(trials, {t: 0.001 * t for t in range(2000)}))
    bars = list(root.iter(f"{SVG}rect"))
    assert 500 < len(bars) < 700
    assert sum("failed" in bar.attrib["class"] for bar in bars) == 1


@pytest.fixture(scope="module")
def long_study():
    loop = mu.sample({"x": mu.floatv(0.0, 1.0)}, mu.algorithms.Random(), trials=900, objectives=("a", "b"))
    for child, feedback in loop:
        feedback({"a": child["x"], "b": 1 - child["x"] if feedback.trial.id % 100 == 7 else -1.0})
    return loop.study


def test_a_long_search_has_a_dot_in_few_and_the_best_ones(long_study, monkeypatch):
    monkeypatch.setattr(charts, "MOST_DOTS", 100)
    svg = charts.search_curve(long_study)
    found, best = dots(svg), float("-inf")
    shown = {dot[0].text for dot in found}
    assert 100 <= len(found) < 120
    assert {dot.attrib["r"] for dot in found} == {"3.5"}
    for trial in long_study.trials:
        if trial.reward > best:
            best = trial.reward
            assert str(trial) in shown
    assert {str(trial) for trial in long_study.front} <= {dot[0].text for dot in dots(charts.pareto_front(long_study))}


def test_many_dots_are_small(long_study):
    found = dots(charts.search_curve(long_study), "many")
    assert len(found) == 900 and {dot.attrib["r"] for dot in found} == {"2"}


@pytest.mark.parametrize(
    "svg",
    [
        charts.search_curve(mu.Study()), charts.pareto_front(mu.Study()), charts.importance_bars({}),
        charts.parallel_coordinates(mu.Study(), ["x"]), charts.timeline([], {}),
    ],
)  # fmt: skip
def test_nothing_to_show_is_no_picture(svg):
    assert svg == ""


def test_one_objective_has_no_front():
    loop = mu.sample(mu.oneof([1, 2]), mu.algorithms.Grid())
    for child, feedback in loop:
        feedback(child)
    assert charts.pareto_front(loop.study) == ""
