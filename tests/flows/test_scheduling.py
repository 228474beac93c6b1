"""Schedulers and algorithms in one loop: what they find, and at what cost."""

from __future__ import annotations

import gc

import pytest

import mutandis as mu
from mutandis.algorithms import Grid, Random, RegularizedEvolution
from mutandis.algorithms.schedulers import ASHA, AnyOf, Hyperband, Median, Patience, SuccessiveHalving
from mutandis.errors import SettingError
from mutandis.hyper import Rng

LONGEST = 64


def losses(seed):
    """Returns the final losses of 64 configurations."""
    draw = Rng(seed, "curves")
    return [draw.random() for _ in range(64)]


def search(scheduler, seed, objectives="-loss", measure=None, algorithm=None, **options):
    """Trains configurations on curves final + 1 / step; returns the study and the number of steps that were trained."""
    finals, cost = losses(seed), 0
    algorithm = algorithm or mu.algorithms.Deduped(Random())
    loop = mu.sample(mu.intv(0, 63), algorithm, scheduler=scheduler, objectives=objectives, seed=seed, **options)
    for child, feedback in loop:
        done = int((feedback.inherited / "step").read_text()) if feedback.inherited else 0
        for step in range(done + 1, LONGEST + 1):
            cost += 1
            found = {"loss": finals[child] + 1 / step, **({} if measure is None else {"size": measure(child)})}
            feedback.report(found, step=step)
            if feedback.should_stop():
                break
        (feedback.checkpoint / "step").write_text(str(step))
        feedback(found)
    return loop.study, cost


@pytest.mark.parametrize("seed", range(10))
def test_promotions_find_the_best_of_64_at_a_small_part_of_the_cost(seed):
    study, cost = search(ASHA(1, LONGEST, 4), seed)
    best = min(range(64), key=losses(seed).__getitem__)
    assert study.best.dna.values[0] == best
    assert study.best.fidelity == LONGEST
    assert cost <= 0.12 * 64 * LONGEST
    assert len({t.dna for t in study.trials}) == 64


def test_promotions_cost_seven_percent_on_average():
    costs = [search(ASHA(1, LONGEST, 4), seed)[1] for seed in range(10)]
    assert 0.05 < sum(costs) / 10 / (64 * LONGEST) < 0.08


@pytest.mark.parametrize("seed", range(3))
def test_synchronous_halving_costs_the_same_rung_for_rung(seed):
    study, cost = search(SuccessiveHalving(64, 1, LONGEST, 4), seed)
    assert study.best.dna.values[0] == min(range(64), key=losses(seed).__getitem__)
    assert cost == 64 * 1 + 16 * 3 + 4 * 12 + 1 * 48


@pytest.mark.parametrize(
    ("scheduler", "share"),
    [
        (ASHA(1, LONGEST, 4, "stop"), 0.25),
        (Hyperband(1, LONGEST, 4), 0.25),
        (Median(4), 0.6),
        (Patience(10, 1e-2), 0.75),
    ],
    ids=str,
)
def test_other_schedulers_save_too_and_keep_a_good_one(scheduler, share):
    study, cost = search(scheduler, 1)
    assert cost < share * 64 * LONGEST
    assert study.best.dna.values[0] in sorted(range(64), key=losses(1).__getitem__)[:4]


def test_every_algorithm_goes_with_every_scheduler():
    study, cost = search(Hyperband(1, LONGEST, 4), 1, algorithm=RegularizedEvolution(20, 5), trials=120)
    assert cost < 0.3 * 120 * LONGEST
    assert study.best.dna.values[0] in sorted(range(64), key=losses(1).__getitem__)[:8]


# Several objectives.


@pytest.mark.parametrize(
    "scheduler", [ASHA(16, LONGEST, 2), Median(4), AnyOf((ASHA(16, LONGEST, 2), Median(4)))], ids=str
)
def test_of_two_objectives_the_front_survives(scheduler):
    finals, sizes = losses(3), [(63 - x) / 63 for x in range(64)]
    points = {x: (-finals[x], -sizes[x]) for x in range(64)}
    true = {x for x in points if not any(dominates(points[y], points[x]) for y in points)}
    study, cost = search(scheduler, 3, ("-loss", "-size"), sizes.__getitem__)
    assert {trial.dna.values[0] for trial in study.front} == true
    assert all(trial.fidelity in (None, LONGEST) for trial in study.front)
    assert len(true) > 4
    assert cost < 0.75 * 64 * LONGEST


def dominates(a, b):
    return a != b and all(x >= y for x, y in zip(a, b))


# Nested loops.


def test_loops_nest_with_a_scheduler_each():
    program = {"chip": mu.oneof(["small", "large"]), "width": mu.intv(1, 16)}
    outer = mu.sample(program, Grid(), where="['chip']", scheduler=ASHA(2, 8, 2))
    for part, answer in outer:
        inner = mu.sample(part, Grid(), scheduler=ASHA(1, 4, 2), trials=int(answer.fidelity) * 8)
        for child, feedback in inner:
            feedback(child["width"] - 1 / feedback.fidelity)
        assert {trial.fidelity for trial in inner.study.trials} >= {1, 2}
        answer.report({"reward": inner.study.best.reward}, step=answer.fidelity)
        assert answer.should_stop()
        answer(inner.study.best.reward)
    assert [(t.state, t.fidelity, t.parent) for t in outer.study.trials] == [
        ("paused", 2, None), ("paused", 2, None), ("paused", 4, 0),
    ]  # fmt: skip


# Checkpoints.


def paused_and_promoted():
    loop = mu.sample(mu.intv(1, 2), Grid(), scheduler=ASHA(1, 2, 2))
    paths = []
    for child, feedback in loop:
        yield feedback, paths
        paths.append(feedback.checkpoint)
        feedback(child)
        del feedback
    yield loop.study, paths


def test_a_checkpoint_is_kept_while_its_trial_rests_and_gone_when_it_has_gone_on():
    states = []
    for thing, paths in paused_and_promoted():
        states.append([path.exists() for path in paths])
        study = thing
    del thing
    gc.collect()
    assert states == [[], [True], [True, True], [True, True, True]]
    assert [path.exists() for path in paths] == [True, False, False]
    study.checkpoints.clear()
    assert not paths[0].exists()


def test_a_promoted_trial_reads_the_checkpoint_of_its_parent():
    for child, feedback in mu.sample(mu.intv(1, 2), Grid(), scheduler=ASHA(1, 2, 2)):
        if feedback.trial.parent is None:
            assert feedback.inherited is None
            (feedback.checkpoint / "weights").write_text(f"weights of {child}")
        else:
            assert (feedback.inherited / "weights").read_text() == "weights of 2"
            assert feedback.inherited != feedback.checkpoint
        feedback(child)


def test_a_parent_without_a_checkpoint_leaves_none():
    for child, feedback in mu.sample(mu.intv(1, 2), Grid(), scheduler=ASHA(1, 2, 2)):
        assert feedback.inherited is None
        feedback(child)


def test_a_promoted_child_is_built_anew():
    @mu.symbolize
    class Net:
        def __init__(self, width):
            self.width = width

    children = {}
    for child, feedback in mu.sample(Net(mu.oneof([1, 2])), Grid(), scheduler=ASHA(1, 2, 2)):
        children.setdefault(child.width, []).append(child)
        feedback(child.width)
    assert len(children[2]) == 2
    assert children[2][0] is not children[2][1]


def test_the_checkpoint_of_a_trial_that_was_stopped_goes_with_its_feedback():
    loop = mu.sample(mu.intv(1, 2), Grid(), stop=lambda trial: True)
    _, feedback = next(loop)
    path = feedback.checkpoint
    feedback.should_stop()
    feedback(1)
    del feedback, loop
    gc.collect()
    assert not path.exists()


# What is refused.


@pytest.mark.parametrize(
    ("given", "got", "fix"),
    [
        (ASHA, "<class 'mutandis.algorithms.schedulers.asha.ASHA'> (ABCMeta)", "write ASHA(...)"),
        ("asha", "'asha' (str)", "use schedulers.Median()"),
    ],
)
def test_what_is_no_scheduler_is_refused(given, got, fix):
    with pytest.raises(SettingError) as error:
        mu.sample(mu.boolv(), Random(), scheduler=given)
    assert str(error.value) == (
        "cannot schedule trials\n"
        "  at:       scheduler\n"
        f"  got:      {got}\n"
        "  expected: an instance of a mu.algorithms.schedulers class\n"
        f"  fix:      {fix}"
    )
