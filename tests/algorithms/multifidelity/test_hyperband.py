"""Hyperband: its brackets, who goes on, and what happens to late, failed and missing results."""

from __future__ import annotations

import json
import random

import pytest
from listed import Listed, numbered

import mutandis as mu
from mutandis.algorithms import Deduped, Grid, Hyperband, Random
from mutandis.errors import SettingError, SpaceExhausted
from mutandis.hyper import Feedback

SPACE = mu.space({"x": mu.oneof(list(range(1000)), name="x")}).bare()


def started(**changes):
    given = {"min_fidelity": 1, "max_fidelity": 9, "sampler": Listed(numbered(1000)), "told": "every", **changes}
    return Hyperband(**given).start(SPACE, seed=0)


def answered(search, proposal, reward, fidelity=None):
    rewards = None if reward is None else (reward,)
    search.feedback(Feedback(proposal.id, proposal.dna, None, fidelity or proposal.fidelity, rewards))


def trace(search, count, reward=lambda x, fidelity: -x):
    made = []
    for _ in range(count):
        proposal = search.propose()
        made.append((proposal.dna["x"], proposal.fidelity, proposal.inherit))
        answered(search, proposal, reward(proposal.dna["x"], proposal.fidelity))
    return made


def test_a_bracket_halves_successively_and_the_next_one_starts():
    search = started()
    # The more the better: the last three of nine go on, then the last of these.
    made = trace(search, 9 + 3 + 1 + 5 + 1 + 3, lambda x, fidelity: x)
    assert made[:9] == [(x, 1.0, None) for x in range(9)]
    assert made[9:12] == [(8, 3.0, 8), (7, 3.0, 7), (6, 3.0, 6)]
    assert made[12] == (8, 9.0, 9)
    assert made[13:18] == [(x, 3.0, None) for x in range(9, 14)]
    assert made[18] == (13, 9.0, 17)
    assert made[19:] == [(x, 9.0, None) for x in range(14, 17)]


def test_the_brackets_begin_again_after_the_last():
    made = trace(started(), 24)
    assert [fidelity for _, fidelity, _ in made[22:]] == [1.0, 1.0]


def test_all_configurations_of_the_largest_bracket_are_trained_as_published():
    search = Hyperband(1, 81).start(SPACE, seed=0)
    counts = {}
    for _ in range(81 + 27 + 9 + 3 + 1):
        proposal = search.propose()
        counts[proposal.fidelity] = counts.get(proposal.fidelity, 0) + 1
        answered(search, proposal, 0.0)
    assert counts == {1.0: 81, 3.0: 27, 9.0: 9, 27.0: 3, 81.0: 1}


def test_only_results_of_the_same_rung_are_compared():
    """Whatever trains longer looks better here; the order within a rung decides all the same."""
    made = trace(started(), 13, lambda x, fidelity: 100 * fidelity - x)
    assert [x for x, _, _ in made[9:]] == [0, 1, 2, 0]


def test_retraining_inherits_nothing():
    made = trace(started(resume="retrain"), 13)
    assert {inherit for _, _, inherit in made} == {None}


def test_a_named_bracket_is_successive_halving():
    made = trace(started(brackets=(1,)), 12)
    assert [fidelity for _, fidelity, _ in made] == [3.0] * 5 + [9.0] + [3.0] * 5 + [9.0]


def test_the_next_bracket_starts_while_a_rung_waits():
    search = started()
    pending = [search.propose() for _ in range(9)]
    for proposal in pending[:8]:
        answered(search, proposal, -proposal.dna["x"])
    following = search.propose()
    assert (following.dna["x"], following.fidelity) == (9, 3.0)
    answered(search, pending[8], 5.0)
    assert [search.propose().dna["x"] for _ in range(3)] == [8, 0, 1]  # The older bracket goes first.
    assert search.propose().dna["x"] == 10


@pytest.mark.parametrize("seed", range(5))
def test_with_many_workers_the_best_of_every_bracket_go_on_all_the_same(seed):
    draw = random.Random(seed)
    search = started(brackets=(2,), patience=1000)
    pending, fresh, results = [], [], {}
    for _ in range(20 * 13):
        while len(pending) < 7:
            proposal = search.propose()
            pending.append(proposal)
            if proposal.inherit is None:
                fresh.append(proposal.dna["x"])
        done = pending.pop(draw.randrange(7))
        reward = draw.random()
        results.setdefault(done.fidelity, {})[done.dna["x"]] = reward
        answered(search, done, reward)
    checked = 0
    for start in range(0, len(fresh) - 9, 9):
        members = fresh[start : start + 9]
        for low, high, count in ((1.0, 3.0, 3), (3.0, 9.0, 1)):
            there = [x for x in members if x in results[low]]
            best = set(sorted(there, key=lambda x: -results[low][x])[:count])
            went_on = {x for x in members if x in results[high]}
            assert went_on <= best
            checked += len(went_on) == count
            members = there if went_on == best else []
    assert checked > 20


def test_failed_configurations_do_not_go_on():
    made = trace(started(), 12, lambda x, fidelity: x if x in (3, 5) else None)
    assert made[9:11] == [(5, 3.0, 5), (3, 3.0, 3)]
    assert made[11] == (5, 9.0, 9)


def test_a_bracket_of_failures_ends():
    made = trace(started(), 10, lambda x, fidelity: None)
    assert made[9] == (9, 3.0, None)


def test_a_trial_that_was_stopped_early_counts_as_failed_in_its_rung():
    search = started(max_fidelity=3)
    for reward in (5.0, 1.0, 2.0):
        proposal = search.propose()
        answered(search, proposal, reward, fidelity=0.5 if reward == 5.0 else None)
    assert search.propose().dna["x"] == 2


def test_a_result_without_a_fidelity_counts_for_what_was_asked():
    search = started(max_fidelity=3)
    for reward in (5.0, 1.0, 2.0):
        proposal = search.propose()
        search.feedback(Feedback(proposal.id, proposal.dna, None, None, (reward,)))
    assert search.propose().dna["x"] == 0


def test_a_second_answer_and_one_that_nobody_asked_for_change_no_rung():
    search = started(max_fidelity=3)
    proposals = [search.propose() for _ in range(3)]
    for _ in range(3):
        answered(search, proposals[0], 1.0)
    search.feedback(Feedback(None, proposals[1].dna, None, 1.0, (9.0,)))
    assert search.propose().fidelity == 3.0  # Not a promotion: the next bracket.
    answered(search, proposals[1], 2.0)
    answered(search, proposals[2], 3.0)
    assert search.propose().dna["x"] == 2


def test_a_result_that_does_not_come_is_given_up_when_others_trained_long_enough():
    search = started(max_fidelity=3, patience=4)
    lost = search.propose()
    others = [search.propose() for _ in range(2)]
    for proposal in others:
        answered(search, proposal, -proposal.dna["x"])
    following = search.propose()  # One step of the next bracket; its length is 3.
    assert following.fidelity == 3.0
    answered(search, following, 0.0)  # Two and three are more than four times one.
    resumed = search.propose()
    assert (resumed.dna["x"], resumed.inherit) == (1, 1)
    answered(search, lost, 9.0)
    assert search.propose().dna["x"] == 4


def test_patience_is_measured_in_the_length_that_is_added():
    search = started(max_fidelity=3, patience=1, brackets=(1,))
    for _ in range(3):
        answered(search, search.propose(), 0.0)
    waiting = search.propose()
    assert waiting.inherit == 0  # It adds two.
    for _ in range(2):
        answered(search, search.propose(), 0.0)
    third = search.propose()
    assert waiting.id in search._pending  # Two is not more than one times two.
    answered(search, third, 0.0)
    search.propose()
    assert waiting.id not in search._pending


def test_the_sampler_is_told_under_its_id_once_and_then_as_of_unasked_results():
    heard = []
    search = Hyperband(1, 3, sampler=Listed(numbered(9), heard), told="every").start(SPACE, seed=0)
    trace(search, 4)
    assert [(number, x, fidelity) for number, x, fidelity, _ in heard] == [
        (0, 0, 1.0), (1, 1, 1.0), (2, 2, 1.0), (None, 0, 3.0),
    ]  # fmt: skip


def test_only_those_that_went_on_are_kept():
    search = started()
    trace(search, 9)
    assert [len(bracket["members"]) for _, bracket in search.state_dict()["brackets"]] == [3]


def test_an_exhausted_sampler_shrinks_the_last_bracket():
    search = started(sampler=Listed(numbered(5)))
    made = trace(search, 7)
    assert made[5:] == [(0, 3.0, 0), (0, 9.0, 5)]
    with pytest.raises(SpaceExhausted):
        search.propose()


def test_a_finite_space_is_gone_through_once_with_a_grid():
    search = Hyperband(1, 9, sampler=Grid()).start(mu.space({"x": mu.oneof(list(range(20)), name="x")}), seed=0)
    made = trace(search, 9 + 3 + 1 + 5 + 1 + 3 + 3 + 1 + 1)  # The last bracket is cut to 3, 1, 1.
    with pytest.raises(SpaceExhausted):
        search.propose()
    assert sorted(x for x, _, inherit in made if inherit is None) == list(range(20))


def test_a_deduped_sampler_never_starts_a_configuration_twice():
    space = mu.space({"x": mu.oneof(list(range(40)), name="x")}).bare()
    search = Hyperband(1, 9, sampler=Deduped(Random())).start(space, seed=0)
    made = trace(search, 44)
    fresh = [x for x, _, inherit in made if inherit is None]
    assert len(set(fresh)) == len(fresh)


@pytest.mark.parametrize("stop", [0, 5, 9, 11, 30])
def test_fidelities_and_inheritance_resume_exactly_with_pending_proposals(stop):
    first, second = started(patience=3), started(patience=3)
    trace(first, stop)
    pending = [first.propose() for _ in range(4)]
    second.load_state_dict(json.loads(json.dumps(first.state_dict(), allow_nan=False)))
    for search in (first, second):
        answered(search, pending[2], 3.0)
    assert trace(first, 60) == trace(second, 60)


def test_the_state_does_not_grow_with_the_number_of_trials():
    search = Hyperband(1, 9).start(SPACE, seed=0)
    sizes = []
    for _ in range(10):
        trace(search, 22)  # Three whole brackets.
        sizes.append(len(json.dumps(search.state_dict())))
    assert max(sizes[2:]) < 1.2 * min(sizes[2:])


def test_a_study_in_two_parts_is_the_study_in_one():
    def trials(*parts):
        study = mu.Study()
        for total in parts:
            for child, feedback in mu.sample({"x": mu.floatv(0, 1)}, Hyperband(1, 9), trials=total, study=study):
                feedback(child["x"] * feedback.fidelity)
        return [(trial.dna, trial.fidelity, trial.parent, trial.reward) for trial in study.trials]

    assert trials(7, 11, 22) == trials(22)


@pytest.mark.parametrize(
    ("changes", "at"),
    [
        ({"min_fidelity": 0}, "Hyperband.min_fidelity"),
        ({"min_fidelity": "1"}, "Hyperband.min_fidelity"),
        ({"max_fidelity": 0.5}, "Hyperband.max_fidelity"),
        ({"max_fidelity": float("inf")}, "Hyperband.max_fidelity"),
        ({"eta": 1}, "Hyperband.eta"),
        ({"eta": True}, "Hyperband.eta"),
        ({"sampler": Random}, "Hyperband.sampler"),
        ({"bracket_sizes": "other"}, "Hyperband.bracket_sizes"),
        ({"brackets": ()}, "Hyperband.brackets"),
        ({"brackets": (3,)}, "Hyperband.brackets"),
        ({"resume": "no"}, "Hyperband.resume"),
        ({"told": "all"}, "Hyperband.told"),
        ({"enough": 0}, "Hyperband.enough"),
        ({"patience": 0.5}, "Hyperband.patience"),
    ],
)
def test_settings_out_of_range_are_refused(changes, at):
    with pytest.raises(SettingError) as caught:
        started(**changes)
    assert caught.value.at == at


def test_a_bracket_that_there_is_not_is_refused_in_full():
    with pytest.raises(SettingError) as caught:
        Hyperband(1, 27, brackets=(4, 0))
    assert str(caught.value).splitlines() == [
        "cannot use a setting",
        "  at:       Hyperband.brackets",
        "  got:      (4, 0) (tuple)",
        "  expected: one or more whole numbers in [0, 3]",
        "  fix:      use (3,) for successive halving, or leave it out for all",
    ]


def test_an_eta_of_one_is_refused_in_full():
    with pytest.raises(SettingError) as caught:
        Hyperband(1, 27, 1)
    assert str(caught.value).splitlines() == [
        "cannot use a setting",
        "  at:       Hyperband.eta",
        "  got:      1 (int)",
        "  expected: a finite number > 1",
        "  fix:      use 3: a third of each rung goes on",
    ]
