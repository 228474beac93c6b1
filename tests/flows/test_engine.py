"""What a search does between two children: promotions, inheritance, what the algorithm is told, resuming."""

from __future__ import annotations

import random

import pytest

import mutandis as mu
from mutandis.algorithms import Algorithm, Grid, Random, RegularizedEvolution, Search
from mutandis.algorithms.schedulers import ASHA, AnyOf, Hyperband, Median, Patience, Percentile, SuccessiveHalving
from mutandis.errors import SpaceExhausted
from mutandis.flows.engine import Engine, resumed
from mutandis.hyper import Proposal

PROGRAM = {"x": mu.intv(0, 63), "lr": mu.floatv(0.0, 1.0)}

SCHEDULERS = [
    ASHA(1, 16, 2), ASHA(1, 16, 2, "stop"), SuccessiveHalving(5, 1, 9), Hyperband(1, 9),
    Hyperband(1, 9, variant="stop"), Hyperband(1, 9, variant="halving"), Median(3), Percentile(25, 3), Patience(3),
    AnyOf((ASHA(1, 9), Patience(2))),
]  # fmt: skip


def loss(child, step):
    wobble = random.Random(f"{child['x']} {step}").random()
    return abs(child["x"] - 40) / 64 + child["lr"] * wobble + 1 / step


def train(loop, longest=16):
    """Runs a loop; every eleventh trial fails, every thirteenth is skipped."""
    for child, feedback in loop:
        number = feedback.trial.id
        done = trained(loop.study, feedback.trial.parent)
        for step in range(done + 1, longest + 1):
            feedback.report({"loss": loss(child, step)}, step=step)
            if feedback.should_stop():
                break
        if number % 11 == 10:
            feedback.fail("once in a while")
        elif number % 13 == 12:
            feedback.skip("for no reason")
        else:
            feedback(loss(child, step))
    return loop.study


def trained(study, trial):
    """Returns how far a trial came, or 0 where there is none."""
    return 0 if trial is None else max(step for step, _ in study.trials[trial].curve)


def facts(study):
    return [(t.dna, t.state, t.rewards, t.fidelity, t.parent, len(t.curve)) for t in study.trials]


def searching(scheduler, trials, algorithm=None, study=None):
    algorithm = algorithm or RegularizedEvolution(population_size=6, tournament_size=3)
    return mu.sample(PROGRAM, algorithm, trials=trials, objectives="-loss", scheduler=scheduler, study=study, seed=4)


@pytest.mark.parametrize("scheduler", SCHEDULERS, ids=str)
@pytest.mark.parametrize("cut", [1, 17, 40])
def test_a_pruned_search_in_two_parts_is_the_search_in_one(scheduler, cut):
    whole = train(searching(scheduler, 60))
    study = train(searching(scheduler, cut))
    train(searching(scheduler, 60, study=study))
    assert facts(study) == facts(whole)
    assert len(study) == 60


def test_a_loop_that_was_left_goes_on_as_if_it_had_not_been():
    whole = train(searching(ASHA(1, 16, 2), 60))
    study = mu.Study()
    for _ in range(12):
        train(searching(ASHA(1, 16, 2), min(60, len(study) + 5), study=study))
    assert facts(study) == facts(whole)


def test_a_search_of_one_scheduler_is_taken_over_by_another():
    study = train(searching(ASHA(1, 16, 2), 30))
    train(searching(Median(3), 60, study=study))
    assert [trial.parent for trial in study.trials[30:]] == [None] * 30
    assert "stopped" in {trial.state for trial in study.trials[30:]}


def test_a_median_knows_the_curves_of_trials_that_others_made():
    study = train(searching(None, 10, Random()))
    states = {trial.state for trial in train(searching(Median(5), 13, Random(), study=study)).trials[10:]}
    assert states & {"stopped"}


# Promotions.


def test_a_paused_trial_comes_again_with_the_same_decisions_and_a_parent():
    study = train(searching(ASHA(1, 16, 2), 60))
    again = [trial for trial in study.trials if trial.parent is not None]
    assert len(again) > 15
    for trial in again:
        parent = study.trials[trial.parent]
        assert (parent.dna, parent.state) == (trial.dna, "paused")
        assert trial.fidelity is None or trial.fidelity == 2 * parent.fidelity


def test_a_trial_goes_on_once():
    parents = [trial.parent for trial in train(searching(ASHA(1, 16, 2), 80)).trials if trial.parent is not None]
    assert len(set(parents)) == len(parents)


def test_promotions_go_on_when_the_algorithm_has_nothing_left():
    study = mu.Study()
    for child, feedback in mu.sample(mu.intv(1, 9), Grid(), scheduler=SuccessiveHalving(20, 1, 9), study=study):
        feedback(child)
    assert [(trial.dna.values[0], trial.fidelity) for trial in study.trials[9:]] == [(9, 3), (8, 3), (7, 3), (9, 9)]


def test_a_failed_promotion_is_not_repeated():
    study = mu.Study()
    for child, feedback in mu.sample(mu.intv(1, 4), Grid(), scheduler=ASHA(1, 4, 2), study=study):
        feedback(child) if feedback.trial.parent is None else feedback.fail("no")
    assert [trial.parent for trial in study.trials if trial.parent is not None] == [1, 3, 5]


# What the algorithm is told.


class Listening(Algorithm):
    """Proposes a list of proposals, and keeps what it is told in `told`."""

    def __init__(self, *proposals):
        self.proposals, self.told = proposals, []

    def start(self, space, *, seed, num_objectives=1):
        return Listener(self, space)


class Listener(Search):
    def __init__(self, settings, space):
        self.settings, self.space, self.count = settings, space, 0

    def propose(self):
        if self.count == len(self.settings.proposals):
            raise SpaceExhausted("cannot propose: that was all")
        value, fidelity, inherit = self.settings.proposals[self.count]
        self.count += 1
        return Proposal(self.count - 1, self.space.dna({"": value}), fidelity, inherit)

    def feedback(self, feedback):
        self.settings.told.append((feedback.id, feedback.dna.values[0], feedback.fidelity, feedback.reward))

    def state_dict(self):
        return {"count": self.count}

    def load_state_dict(self, state):
        self.count = state["count"]


def test_a_paused_trial_is_told_with_its_proposal_and_its_next_turns_without():
    algorithm = Listening((1, None, None), (2, None, None))
    for child, feedback in mu.sample(mu.intv(1, 9), algorithm, scheduler=ASHA(1, 2, 2)):
        feedback(child)
    assert algorithm.told == [(0, 1, 1, 1.0), (1, 2, 1, 2.0), (None, 2, 2, 2.0)]


def test_a_stopped_trial_is_told_with_the_step_it_came_to():
    algorithm = Listening((1, None, None))
    for _, feedback in mu.sample(mu.intv(1, 9), algorithm, stop=lambda trial: len(trial.curve) == 3):
        step = 0
        while not feedback.should_stop():
            step += 5
            feedback.report({"reward": 0.5}, step=step)
        feedback(7)
    assert algorithm.told == [(0, 1, 15, 7.0)]


@pytest.mark.parametrize(
    ("planned", "steps", "fidelity"), [(9, (1, 3), 9), (9, (), 9), (None, (1, 3), 3), (None, (), None)]
)
def test_a_completed_trial_is_told_with_the_fidelity_of_its_proposal_or_its_last_step(planned, steps, fidelity):
    algorithm = Listening((1, planned, None))
    for _, feedback in mu.sample(mu.intv(1, 9), algorithm):
        assert feedback.fidelity == planned
        for step in steps:
            feedback.report({"loss": 1.0}, step=step)
        feedback(7)
    assert algorithm.told == [(0, 1, fidelity, 7.0)]


# Proposals that inherit.


def test_an_inherited_trial_is_found_by_the_number_of_its_proposal():
    # The predicate refuses the second proposal, so that numbers of proposals and trials differ.
    algorithm = Listening((1, 1, None), (2, 1, None), (3, 1, None), (4, 2, 2), (5, 3, 3), (6, 3, 3))
    space = mu.space(mu.intv(1, 9)).require(lambda child: child != 2)
    loop, found = mu.sample(space, algorithm), []
    for child, feedback in loop:
        if feedback.inherited:
            found.append((child, (feedback.inherited / "who").read_text()))
        (feedback.checkpoint / "who").write_text(str(child))
        feedback(child)
    assert [trial.parent for trial in loop.study.trials] == [None, None, 1, 2, 2]
    assert found == [(4, "3"), (5, "4"), (6, "4")]


@pytest.mark.parametrize("inherit", [1, 2, 77])
def test_who_inherits_from_what_was_never_tried_starts_afresh(inherit):
    algorithm = Listening((1, None, None), (2, None, None), (3, None, inherit))
    space = mu.space(mu.intv(1, 9)).require(lambda child: child != 2)
    loop = mu.sample(space, algorithm)
    for child, feedback in loop:
        assert feedback.inherited is None
        feedback(child)
    assert [trial.parent for trial in loop.study.trials] == [None, None]


def test_a_search_that_inherits_in_two_parts_is_the_search_in_one():
    proposals = [(1, 1, None), (2, 1, None), (3, 2, 0), (4, 2, 1), (5, 3, 3)]
    study = mu.Study()
    for trials in (3, 5):
        for child, feedback in mu.sample(mu.intv(1, 9), Listening(*proposals), trials=trials, study=study):
            feedback.checkpoint.joinpath("who").write_text(str(child))
            if feedback.trial.id == 3:
                assert (feedback.inherited / "who").read_text() == "2"
            feedback(child)
    assert [(t.fidelity, t.parent) for t in study.trials] == [(1, None), (1, None), (2, 0), (2, 1), (3, 3)]


def test_a_replay_stops_where_the_parent_differs():
    study = mu.Study()
    for child, feedback in mu.sample(mu.intv(1, 9), Listening((1, 1, None), (2, 2, 0)), study=study):
        feedback(child)
    told = Listening((1, 1, None), (2, 2, None), (3, 1, None))
    loop = mu.sample(mu.intv(1, 9), told, study=study, trials=3)
    assert told.told[-2:] == [(0, 1, 1, 1.0), (None, 2, 2, 2.0)]
    assert next(loop)[0] == 2
    loop.close()


def test_an_algorithm_of_several_lengths_and_a_scheduler_go_together():
    algorithm = Listening(*((value, 3, None) for value in range(1, 9)))
    loop = mu.sample(mu.intv(1, 9), algorithm, scheduler=ASHA(1, 16, 2))
    for child, feedback in loop:
        assert feedback.fidelity <= 3
        feedback(child)
    assert {(trial.state, trial.fidelity) for trial in loop.study.trials} == {
        ("paused", 1), ("paused", 2), ("completed", 3),
    }  # fmt: skip


def test_an_engine_begins_where_a_study_is_empty():
    space, study = mu.space(mu.boolv()), mu.Study()
    study.open(space, ())
    engine = resumed(lambda: (Grid().start(space, seed=0), None), space, study)
    assert isinstance(engine, Engine)
    assert engine.next_turn().dna == space.default()
