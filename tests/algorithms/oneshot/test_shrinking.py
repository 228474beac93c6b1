"""Progressive shrinking: which sizes are open when, the phases as published, and the sandwich rule."""

from __future__ import annotations

import json

import pytest
from toy_supernet import BEST, run_shared

import mutandis as mu
from mutandis.algorithms import Deduped, OnceForAll, Random, RegularizedEvolution
from mutandis.algorithms.oneshot import Phase
from mutandis.algorithms.oneshot.shrinking import descending
from mutandis.errors import DecisionError, SettingError

SIZES = mu.space({"kernel": mu.oneof([3, 7, 5], name="kernel"), "depth": mu.intv(2, 4, name="depth"),
                  "act": mu.oneof(["relu", "gelu"], name="act")}).bare()  # fmt: skip
MOBILE = mu.space({
    "resolution": mu.oneof([128, 160, 192, 224], name="resolution"), "kernel": mu.oneof([3, 5, 7], name="kernel"),
    "depth": mu.oneof([2, 3, 4], name="depth"), "width": mu.oneof([3, 4, 6], name="width"),
}).bare()  # fmt: skip
EVOLUTION = Deduped(RegularizedEvolution(population_size=20, tournament_size=5))


def value(dna):
    return 10.0 * dna.values[0] + dna.values[1]


@pytest.mark.parametrize(
    ("num_sizes", "done", "count"),
    [(4, -0.1, 1), (4, 0.0, 2), (4, 0.3, 2), (4, 0.34, 3), (4, 0.67, 4), (4, 1.0, 4), (4, 3.0, 4), (1, 0.0, 1),
     (2, 0.0, 2)],
)  # fmt: skip
def test_sizes_open_one_after_the_other(num_sizes, done, count):
    assert Phase(("x",), is_gradual=True).count(num_sizes, done) == count


@pytest.mark.parametrize(("name", "values"), [("kernel", [1, 2, 0]), ("depth", [4, 3, 2])])
def test_sizes_come_largest_first(name, values):
    assert descending(SIZES.point(name)) == values


def seen(search, fraction):
    search.progress(fraction)
    drawn = [search.weights().dna(SIZES).values for _ in range(60)]
    return [sorted({values[i] for values in drawn}) for i in range(3)]


def test_stages_open_their_decisions_in_turn():
    search = OnceForAll((("kernel",), ("depth",)), warmup=0.2).start_shared(SIZES, seed=0)
    assert seen(search, 0.1) == [[1], [4], [0, 1]]
    assert seen(search, 0.2) == [[1, 2], [4], [0, 1]]
    assert seen(search, 0.45) == [[0, 1, 2], [4], [0, 1]]
    assert seen(search, 0.61) == [[0, 1, 2], [3, 4], [0, 1]]
    assert seen(search, 1.0) == [[0, 1, 2], [2, 3, 4], [0, 1]]


def test_shrinking_ends_with_a_search():
    search = OnceForAll((("kernel",),), search=EVOLUTION, num_trials=60).start_shared(SIZES, seed=0)
    assert search.derive(lambda dna: -abs(dna.values[0] - 2) - dna.values[1]).values[:2] == (2, 2)


def test_only_sizes_shrink():
    with pytest.raises(SettingError) as caught:
        OnceForAll((("act",),)).start_shared(SIZES, seed=0)
    assert str(caught.value) == (
        "cannot shrink a decision\n  at:       ['act']\n  got:      'one of [relu, gelu]' (str)\n"
        "  expected: a choice among numbers, or a range of whole or stepped numbers\n"
        "  fix:      name only decisions about sizes in OnceForAll.stages"
    )
    with pytest.raises(DecisionError):
        OnceForAll((("nowhere",),)).start_shared(SIZES, seed=0)


@pytest.mark.parametrize(
    ("phase", "num_sizes", "done", "count"),
    [(Phase(("x",)), 4, 0.0, 4), (Phase(("x",)), 4, -0.1, 1), (Phase(("x",), num_sizes=2), 4, 0.5, 2),
     (Phase(("x",), num_sizes=9), 4, 0.5, 4), (Phase(("x",), num_sizes=3, is_gradual=True), 9, 0.0, 2),
     (Phase(("x",), num_sizes=3, is_gradual=True), 9, 1.0, 3)],
)  # fmt: skip
def test_a_phase_opens_its_sizes(phase, num_sizes, done, count):
    assert phase.count(num_sizes, done) == count


def open_at(search, epoch):
    """Returns how many paths a step takes, and the sizes of kernel, depth and width that are drawn in an epoch."""
    search.progress(epoch / 605)
    drawn = [search.weights().dna(MOBILE) for _ in range(150 - 150 % search.needs.paths)]
    assert {dna.values[0] for dna in drawn} == {0, 1, 2, 3}
    return search.needs.paths, *(sorted({(3, 5, 7, 2, 3, 4, 3, 4, 6)[3 * i + d.values[i + 1]] for d in drawn})
                                 for i in range(3))  # fmt: skip


def test_the_published_phases_open_kernels_then_depths_then_widths():
    published = OnceForAll.published(kernels=["kernel"], depths=["depth"], widths=["width"], num_trials=3)
    search = published.start_shared(MOBILE, seed=0)
    assert published.num_trials == 3
    assert open_at(search, 0) == open_at(search, 179) == (1, [7], [4], [6])
    assert open_at(search, 181) == open_at(search, 304) == (1, [3, 5, 7], [4], [6])
    assert open_at(search, 306) == (2, [3, 5, 7], [3, 4], [6])
    assert open_at(search, 331) == open_at(search, 454) == (2, [3, 5, 7], [2, 3, 4], [6])
    assert open_at(search, 456) == (4, [3, 5, 7], [2, 3, 4], [4, 6])
    assert open_at(search, 481) == open_at(search, 605) == (4, [3, 5, 7], [2, 3, 4], [3, 4, 6])


@pytest.mark.parametrize(
    ("epoch", "rate"),
    [(0, 2.6), (90, 1.3), (180.001, 0.96), (242.5, 0.48), (305.001, 0.08), (317.5, 0.04), (330.001, 0.24),
     (455.001, 0.08), (480.001, 0.24), (542.5, 0.12), (605, 0.0)],
)  # fmt: skip
def test_the_published_step_sizes_begin_anew_with_each_phase(epoch, rate):
    assert 2.6 * OnceForAll.published_schedule(epoch / 605) == pytest.approx(rate, rel=1e-4, abs=1e-12)
    with pytest.raises(SettingError, match=r"a number in \[0, 1\]"):
        OnceForAll.published_schedule(1.1)


def test_kernels_are_shared_through_matrices_where_that_is_asked_for():
    plain, asked = (OnceForAll.published(kernels=["kernel"], depths=[], widths=[], transform=t) for t in (False, True))
    assert plain.start_shared(SIZES, seed=0).needs.kernels == "any"
    assert asked.start_shared(SIZES, seed=0).needs.kernels == "transform"


def test_the_sandwich_has_the_largest_and_the_smallest_of_what_is_open():
    phases = (Phase(("kernel",), num_sizes=2), Phase(("depth",), num_paths=4))
    search = OnceForAll(phases, warmup=0.2, sandwich=True).start_shared(MOBILE, seed=0)
    assert search.needs.paths == 1
    search.progress(0.3)
    assert search.needs.paths == 3
    steps = [[search.weights().dna(MOBILE).values[1:3] for _ in range(3)] for _ in range(30)]
    assert {step[0] for step in steps} == {(2, 2)} and {step[1] for step in steps} == {(1, 2)}
    assert {step[2] for step in steps} == {(2, 2), (1, 2)}
    search.progress(0.9)
    assert search.needs.paths == 4
    steps = [[search.weights().dna(MOBILE).values[1:3] for _ in range(4)] for _ in range(60)]
    assert {step[0] for step in steps} == {(2, 2)} and {step[1] for step in steps} == {(1, 0)}
    assert len({step[3] for step in steps}) == 6


def test_a_weight_step_begins_with_its_first_path_after_progress():
    search = OnceForAll((Phase(("kernel",)),), warmup=0.0, sandwich=True).start_shared(MOBILE, seed=0)
    for _ in range(4):
        search.progress(0.5)
        assert search.weights().dna(MOBILE).values[1] == 2


@pytest.mark.parametrize("algorithm", [OnceForAll((("kernel",),)), OnceForAll((Phase(("depth",)),), sandwich=True)])
def test_a_run_resumes_exactly_within_a_step(algorithm):
    first, second = (algorithm.start_shared(SIZES, seed=3) for _ in range(2))
    first.progress(0.4)
    for _ in range(4):
        first.weights()
    second.load_state_dict(json.loads(json.dumps(first.state_dict(), allow_nan=False)))
    assert second.needs == first.needs
    assert [first.weights().dna(SIZES) for _ in range(9)] == [second.weights().dna(SIZES) for _ in range(9)]
    assert first.derive(value) == second.derive(value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OnceForAll((3,)), "OnceForAll.stages\n  got:      3 (int)\n"
         "  expected: a Phase, or a tuple of paths or names of decisions\n"
         '  fix:      write OnceForAll((("kernel",), ("depth",)))'),
        (lambda: Phase(("x",), share=0), "Phase.share\n  got:      0 (int)\n  expected: a finite number > 0\n"
         "  fix:      give a number within these bounds"),
        (lambda: Phase(("x",), num_paths=0), "Phase.num_paths\n  got:      0 (int)\n  expected: an int >= 1\n"
         "  fix:      give a larger whole number"),
        (lambda: OnceForAll((), sandwich="yes"), "OnceForAll.sandwich\n  got:      'yes' (str)\n"
         "  expected: a bool\n  fix:      use sandwich=True"),
    ],
)  # fmt: skip
def test_wrong_settings_are_refused(make, message):
    with pytest.raises(SettingError) as caught:
        make()
    assert str(caught.value) == "cannot use a setting\n  at:       " + message


def test_shrinking_without_phases_is_uniform():
    assert run_shared(OnceForAll((), search=Random(), num_trials=400), 600, 0) == BEST
