"""The median rule, and other percentiles."""

from __future__ import annotations

import random
import statistics

import pytest

from mutandis.algorithms.schedulers import Directive, Median, Percentile
from mutandis.errors import SettingError
from mutandis.testing import SchedulerContract

CONTINUE, STOP = Directive.CONTINUE, Directive.STOP


class TestMedian(SchedulerContract):
    scheduler = Median(min_trials=3)


class TestMedianAtIntervals(SchedulerContract):
    scheduler = Median(min_trials=2, warmup=4, interval=3)


class TestPercentile(SchedulerContract):
    scheduler = Percentile(25, min_trials=3)


def after(settings, *courses, num_objectives=1):
    """Returns a run with peers that reported these rewards at steps 1, 2, ..."""
    pacing = settings.start(seed=0, num_objectives=num_objectives)
    for trial, course in enumerate(courses):
        for step, found in enumerate(course, 1):
            pacing.report(trial, step, found if isinstance(found, tuple) else (found,))
        pacing.finish(trial, (0.0,) * num_objectives)
    return pacing


def answers(pacing, *rewards, trial=100):
    return [pacing.report(trial, step, (found,)) for step, found in enumerate(rewards, 1)]


@pytest.mark.parametrize(("reward", "directive"), [(2.9, STOP), (3.0, CONTINUE), (3.1, CONTINUE)])
def test_below_the_median_is_stopped_and_at_it_goes_on(reward, directive):
    assert answers(after(Median(), [1], [2], [3], [4], [5]), reward) == [directive]


def test_of_an_even_number_the_median_lies_between_the_two_in_the_middle():
    peers = [[1], [2], [3], [4]]
    assert answers(after(Median(min_trials=4), *peers), 2.4) == [STOP]
    assert answers(after(Median(min_trials=4), *peers), 2.6) == [CONTINUE]


def test_peers_are_taken_at_their_average_and_the_trial_at_its_best():
    pacing = after(Median(min_trials=1), [0, 10])  # Averages 0 and 5.
    assert answers(pacing, 4.9, 4.9) == [CONTINUE, STOP]
    assert answers(pacing, 5.1, 0.0, trial=101) == [CONTINUE, CONTINUE]


def test_peers_are_taken_at_the_same_step():
    pacing = after(Median(min_trials=1), [1, 9], [1])
    assert answers(pacing, 1.0, 4.9) == [CONTINUE, STOP]


def test_too_few_peers_stop_nobody():
    assert answers(after(Median(min_trials=3), [5], [5]), 0.0) == [CONTINUE]
    assert answers(after(Median(min_trials=3), [5], [5], [5]), 0.0) == [STOP]


def test_failed_and_running_trials_are_no_peers():
    pacing = after(Median(min_trials=1))
    pacing.report(0, 1, (5.0,))
    pacing.report(1, 1, (5.0,))
    pacing.finish(1, None)
    assert answers(pacing, 0.0) == [CONTINUE]


def test_stopped_trials_are_peers_as_far_as_they_came():
    pacing = after(Median(min_trials=1), [1, 1])
    assert answers(pacing, 0.0, trial=1) == [STOP]
    pacing.finish(1, (0.0,))
    assert answers(pacing, 0.6, 0.6) == [CONTINUE, STOP]  # The median is 0.5 at step 1, and 1 at step 2.


def test_nobody_is_stopped_during_the_warmup():
    pacing = after(Median(min_trials=1, warmup=3), [1] * 5)
    assert answers(pacing, 0, 0, 0) == [CONTINUE, CONTINUE, STOP]


def test_a_trial_is_judged_once_in_an_interval():
    pacing = after(Median(min_trials=1, interval=3), [1] * 9)
    found = [pacing.report(100, step, (reward,)) for step, reward in [(1, 1.0), (2, 1.0)]]
    assert found == [CONTINUE, CONTINUE]
    pacing = after(Median(min_trials=1, warmup=2, interval=3), [0, 0, 0, 9, 9, 9])  # Averages 0 0 0 2.25 3.6 4.5
    assert answers(pacing, 1, 1, 1, 1, 1, 1) == [*[CONTINUE] * 4, STOP, STOP]


def test_a_diverged_trial_is_stopped_where_it_has_peers():
    assert answers(after(Median(min_trials=1), [1]), float("nan")) == [STOP]
    assert answers(after(Median(min_trials=2), [1]), float("nan")) == [CONTINUE]


def test_the_reports_of_a_peer_that_are_not_finite_are_left_out():
    pacing = after(Median(min_trials=1), [float("nan"), 4, 6])
    assert answers(pacing, 0, 4.5, 4.5) == [CONTINUE, CONTINUE, STOP]


@pytest.mark.parametrize(("percentile", "bar"), [(0, 5), (25, 4), (50, 3), (75, 2), (100, 1), (10, 4.6)])
def test_the_best_share_of_the_peers_sets_the_bar(percentile, bar):
    pacing = after(Percentile(percentile), [3], [1], [5], [2], [4])
    assert answers(pacing, bar - 1e-9) == [STOP]
    assert answers(pacing, bar + 1e-9, trial=101) == [CONTINUE]


def test_it_agrees_with_a_plain_median_over_a_whole_run():
    draw, pacing, ended = random.Random(0), Median(min_trials=4).start(seed=0), []
    for trial in range(60):
        course, found = [], CONTINUE
        while found is CONTINUE and len(course) < 8:
            course.append(round(draw.random(), 3))
            found = pacing.report(trial, len(course), (course[-1],))
            peers = [sum(c[: len(course)]) / len(course) for c in ended if len(c) >= len(course)]
            is_bad = len(peers) >= 4 and max(course) < statistics.median(peers)
            assert found is (STOP if is_bad else CONTINUE)
        ended.append(course)
        pacing.finish(trial, (course[-1],))
    assert {1, 2, 8} <= {len(course) for course in ended}


# Several objectives.

CLOUD = [(0.0, 1.0), (0.5, 0.5), (1.0, 0.0), (0.4, 0.4), (0.3, 0.3), (0.2, 0.2), (0.1, 0.1)]


@pytest.mark.parametrize(
    ("point", "directive"),
    [
        ((1.0, 0.0), CONTINUE),  # On the front.
        ((0.6, 0.45), CONTINUE),  # Beyond it.
        ((0.45, 0.35), CONTINUE),  # One peer dominates it; the ranks of the peers are 0 0 0 1 2 3 4.
        ((0.3, 0.35), STOP),  # Two do.
        ((0.05, 0.05), STOP),
    ],
)
def test_of_several_objectives_those_are_stopped_that_more_peers_dominate_than_usual(point, directive):
    pacing = after(Median(), *([point] for point in CLOUD), num_objectives=2)
    assert pacing.report(100, 1, point) is directive


def test_what_nobody_dominates_is_never_stopped():
    draw, pacing = random.Random(1), Percentile(0, min_trials=2).start(seed=0, num_objectives=3)
    seen = []
    for trial in range(80):
        point = tuple(draw.random() for _ in range(3))
        dominated = any(all(a >= b for a, b in zip(other, point)) for other in seen)
        found = pacing.report(trial, 1, point)
        assert found is CONTINUE or dominated
        assert found is STOP or not dominated or len(seen) < 2
        seen.append(point)
        pacing.finish(trial, point)


def test_equal_peers_do_not_dominate_each_other():
    peers = [(0.5, 10.0), (0.6, 9.0), (2.0, 2.0), *[(1.0, 1.0)] * 9]  # Their ranks are 0 three times and 1 nine times.
    pacing = after(Median(), *([point] for point in peers), num_objectives=2)
    assert pacing.report(100, 1, (0.4, 8.0)) is STOP  # Two dominate it.
    assert pacing.report(101, 1, (1.0, 1.0)) is CONTINUE


@pytest.mark.parametrize("num_objectives", [2, 3])
def test_ranks_count_the_peers_that_dominate(num_objectives):
    draw = random.Random(num_objectives)
    points = [tuple(float(draw.randrange(4)) for _ in range(num_objectives)) for _ in range(50)]

    def rank(point, others):
        return sum(o != point and all(a >= b for a, b in zip(o, point)) for o in others)

    bar = statistics.median(rank(point, points) for point in points)
    pacing = after(Median(), *([point] for point in points), num_objectives=num_objectives)
    for trial, point in enumerate(points, 100):
        assert pacing.report(trial, 1, point) is (STOP if rank(point, points) > bar else CONTINUE)


@pytest.mark.parametrize(
    ("make", "at"),
    [
        (lambda: Median(min_trials=0), "Median.min_trials"),
        (lambda: Median(warmup=-1), "Median.warmup"),
        (lambda: Median(interval=0), "Median.interval"),
        (lambda: Percentile(-1), "Percentile.percentile"),
        (lambda: Percentile(101), "Percentile.percentile"),
        (lambda: Percentile("25"), "Percentile.percentile"),
        (lambda: Percentile(25, interval=True), "Percentile.interval"),
    ],
)
def test_impossible_settings_are_refused(make, at):
    with pytest.raises(SettingError, match=f"at: +{at}\n"):
        make()
