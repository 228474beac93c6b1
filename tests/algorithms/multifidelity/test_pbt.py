"""Population-based training: who copies whom, what changes, and the schedule that comes out."""

from __future__ import annotations

import dataclasses
import itertools
import json

import pytest
from listed import Listed
from scripted import Scripted

import mutandis as mu
from mutandis.algorithms import PBT, Grid, Random
from mutandis.algorithms.multifidelity import Stretch, schedule
from mutandis.algorithms.multifidelity.pbt import changeable, explored, perturbed, quantiles, taken_over
from mutandis.errors import SettingError, SpaceExhausted
from mutandis.hyper import Feedback, Rng, SearchSpace
from mutandis.testing import AlgorithmContract, contract_spaces

RATE = mu.space({"net": mu.oneof(["a", "b", "c"], name="net"), "rate": mu.floatv(0.01, 1.0, name="rate", when="step")})
RATE = RATE.bare()
FACTORS = (1.2, 0.8)


def stepwise(space):
    """Returns a space whose decisions may all change during a training."""
    points = [dataclasses.replace(point, when="step") for point in space.points]
    return SearchSpace(points, space._template)


STEPWISE = {name: stepwise(space) for name, space in contract_spaces().items() if space.points}


class TestContract(AlgorithmContract):
    algorithm = PBT(1, 4, resample=0.5)

    @pytest.fixture(params=list(STEPWISE))
    def space(self, request):
        return STEPWISE[request.param]

    def test_proposals_are_the_same_in_another_process(self, monkeypatch):
        monkeypatch.setattr("mutandis.testing.algorithm_contract.SPACES", STEPWISE)
        super().test_proposals_are_the_same_in_another_process()


class TestContractOfFullTrainings(TestContract):
    algorithm = PBT(2, 3, 13, resample=0.2)


def started(seed=0, space=RATE, **changes):
    return PBT(**{"interval": 5, "population_size": 4, **changes}).start(space, seed=seed)


def answered(search, proposal, reward, fidelity=None):
    rewards = None if reward is None else (reward,)
    search.feedback(Feedback(proposal.id, proposal.dna, None, fidelity or proposal.fidelity, rewards))


def generation(search, *rewards):
    """Asks for as many proposals as there are rewards, and answers them then."""
    made = [search.propose() for _ in rewards]
    for proposal, reward in zip(made, rewards, strict=True):
        answered(search, proposal, reward)
    return made


@pytest.mark.parametrize(
    ("scores", "fraction", "expected"),
    [
        ([1.0], 0.25, ([], [])),
        ([3, 1], 0.25, ([1], [0])),
        ([3, 1, 2], 0.25, ([1], [0])),
        ([3, 1, 2, 5, 4], 0.25, ([1, 2], [4, 3])),
        ([8, 1, 6, 3, 5, 2, 7, 4], 0.25, ([1, 5], [6, 0])),
        ([3, 1, 2, 5, 4], 0.6, ([1, 2], [4, 3])),
        ([3, 1, 2], 0, ([], [])),
    ],
)
def test_the_quantiles_are_the_known_ones(scores, fraction, expected):
    assert quantiles(scores, fraction) == expected


def point_of(value):
    return mu.space(value).points[0]


@pytest.mark.parametrize(
    ("value", "start", "u", "expected"),
    [
        (mu.floatv(0.0, 10.0), 2.0, 0.6, 2.4),
        (mu.floatv(0.0, 10.0), 2.0, 0.5, 1.6),
        (mu.floatv(0.0, 2.2), 2.0, 0.6, 2.2),
        (mu.floatv(1.8, 2.2), 2.0, 0.1, 1.8),
        (mu.floatv(-10.0, 0.0), -2.0, 0.6, -2.4),
        (mu.floatv(0.0, 1.0, step=0.25), 0.5, 0.6, 0.5 + 0.25),
        (mu.floatv(0.0, 1.0, step=0.25), 1.0, 0.6, 1.0),
        (mu.intv(0, 100), 50, 0.6, 60),
        (mu.intv(0, 100), 2, 0.6, 3),
        (mu.intv(0, 100), 2, 0.1, 1),
        (mu.intv(0, 100), 0, 0.6, 0),
        (mu.intv(-9, 9), -2, 0.6, -3),
        (mu.oneof([1, 10, 100]), 1, 0.4, 2),
        (mu.oneof([1, 10, 100]), 1, 0.6, 0),
        (mu.oneof([1, 10, 100]), 2, 0.4, 2),
        (mu.oneof([1, 10, 100]), 0, 0.6, 0),
    ],
)
def test_perturbations_are_the_known_ones(value, start, u, expected):
    assert perturbed(point_of(value), start, Scripted(u), FACTORS) == pytest.approx(expected)


@pytest.mark.parametrize("value", [mu.permutate(list("abcd")), mu.subset(list("abcd"), min=1, max=3)])
def test_picks_change_a_little(value):
    point = point_of(value)
    start = point.draw(Rng(0))
    moved = perturbed(point, start, Rng(1), FACTORS)
    assert moved != start
    assert point.check(moved) == moved


@pytest.mark.parametrize(("numbers", "expected"), [((0.2, 0.5), 0.1), ((0.3, 0.6), 0.6), ((0.25, 0.4), 0.4)])
def test_a_decision_is_drawn_anew_with_a_chance_of_one_in_four(numbers, expected):
    dna = RATE.dna({"net": 1, "rate": 0.5})
    found = explored(dna, changeable(RATE), Scripted(*numbers), 0.25, FACTORS)
    assert found["net"] == 1
    assert found["rate"] == pytest.approx(expected if numbers[0] >= 0.25 else RATE.point("rate").from_unit(numbers[1]))


def test_a_decision_with_fixed_ones_below_it_does_not_change():
    inner = mu.oneof([mu.intv(1, 3, name="width"), 0], when="step", name="inner")
    space = mu.space([inner, mu.oneof([mu.intv(1, 3, name="free", when="step"), 0], when="step", name="outer")])
    assert {space.points[index].name for index in changeable(space)} == {"outer", "free"}


def test_only_changeable_decisions_are_taken_over():
    mine, theirs = RATE.dna({"net": 1, "rate": 0.5}), RATE.dna({"net": 2, "rate": 0.7})
    assert taken_over(mine, theirs, changeable(RATE), Rng(0)).to_dict() == RATE.dna({"net": 1, "rate": 0.7}).to_dict()


@pytest.mark.parametrize("space", [contract_spaces()["conditional"], contract_spaces()["empty"]])
def test_a_space_where_nothing_may_change_is_refused_in_full(space):
    with pytest.raises(SettingError) as caught:
        started(space=space.bare())
    assert [line for line in str(caught.value).splitlines() if "got:" not in line] == [
        "cannot search a space where nothing may change during a training",
        "  at:       PBT",
        '  expected: a decision with when="step" that decides on no other with when="build"',
        '  fix:      write mu.floatv(..., when="step") for a learning rate and the like, or use ASHA() or BOHB()',
    ]


def test_the_worst_goes_on_from_the_best_with_other_decisions_and_goes_first():
    search = started()
    first = generation(search, 3.0, 1.0, 2.0, 9.0)
    assert {(p.fidelity, p.inherit) for p in first} == {(5.0, None)}
    second = [search.propose() for _ in range(4)]
    assert [p.inherit for p in second] == [3, 0, 2, 3]
    assert [p.fidelity for p in second] == [10.0] * 4
    assert second[0].dna["net"] == first[3].dna["net"]
    assert second[0].dna["rate"] != first[3].dna["rate"]
    assert [p.dna for p in second[1:]] == [first[0].dna, first[2].dna, first[3].dna]


def test_the_build_decisions_of_the_donor_come_with_its_trained_state():
    for seed in range(10):
        search = started(seed)
        first = generation(search, 3.0, 1.0, 2.0, 9.0)
        for _ in range(5):
            generation(search, 1.0, 3.0, 2.0, 9.0)
        nets = {None: None, **{p.id: p.dna["net"] for p in first}}
        proposal = search.propose()
        assert proposal.dna["net"] in nets.values()


def test_the_loser_has_the_clock_of_its_donor():
    search = started(population_size=2)
    slow, fast = search.propose(), search.propose()
    answered(search, fast, 5.0)
    ahead = search.propose()
    assert (ahead.fidelity, ahead.inherit) == (10.0, fast.id)
    answered(search, ahead, 6.0)
    answered(search, slow, 1.0)
    loser = search.propose()
    assert (loser.fidelity, loser.inherit) == (15.0, ahead.id)


def test_a_loser_as_good_as_its_donor_keeps_its_state_and_takes_the_decisions():
    search = started(population_size=2, resample=0, factors=(1.0, 1.0))
    first = generation(search, 1.0, 1.0)
    loser = search.propose()
    assert loser.inherit == first[0].id
    assert loser.dna == RATE.dna({"net": first[0].dna["net"], "rate": first[1].dna["rate"]})


def test_a_winner_that_the_loser_copied_has_its_reward():
    """The member that was just replaced is no loser any more, though it has no result of its own yet."""
    search = started()
    generation(search, 4.0, 1.0, 2.0, 9.0)
    replaced, *others = (search.propose() for _ in range(4))
    answered(search, others[0], 4.0)
    answered(search, others[1], 2.0)
    answered(search, others[2], 9.0)
    following = search.propose()
    assert following.inherit == others[2].id  # The one with 2.0 is the worst now.
    assert replaced.inherit == 3


def test_failed_members_take_the_state_of_one_of_the_best():
    search = started()
    generation(search, 3.0, None, None, 9.0)
    assert [search.propose().inherit for _ in range(4)] == [3, 3, 0, 3]


def test_failed_members_are_worse_than_any_reward():
    search = started()
    generation(search, -3.0, None, -2.0, -9.0)
    assert [search.propose().inherit for _ in range(4)] == [2, 0, 2, 3]


def test_a_member_that_is_done_is_no_loser_any_more():
    search = started(population_size=2, max_fidelity=10)
    fast, slow = search.propose(), search.propose()
    answered(search, fast, 1.0)
    answered(search, search.propose(), 1.0)
    answered(search, slow, 9.0)
    following = search.propose()
    assert (following.inherit, following.fidelity) == (slow.id, 10.0)
    answered(search, following, 9.0)
    with pytest.raises(SpaceExhausted):
        search.propose()


def test_when_all_have_failed_everyone_starts_afresh():
    search = started()
    first = generation(search, None, None, None, None)
    second = [search.propose() for _ in range(4)]
    assert {(p.fidelity, p.inherit) for p in second} == {(5.0, None)}
    assert [p.dna for p in first] != [p.dna for p in second]


def test_a_trial_that_was_stopped_early_has_failed():
    search = started(population_size=2)
    pending = [search.propose() for _ in range(2)]
    answered(search, pending[0], 9.0, fidelity=2.0)
    answered(search, pending[1], 1.0)
    assert search.propose().inherit == 1


def test_without_exploiting_everyone_goes_on_alone():
    search = started(quantile=0)
    generation(search, 3.0, 1.0, 2.0, 9.0)
    assert [search.propose().inherit for _ in range(4)] == [0, 1, 2, 3]


def test_one_worker_judges_all_by_equally_long_trainings():
    """The judgement of the last member does not see what the first ones did in the next interval."""
    search = started()
    generation(search, 4.0, 3.0, 2.0, 1.0)
    made = []
    for _ in range(4):
        proposal = search.propose()
        made.append(proposal.inherit)
        answered(search, proposal, -100.0)
    assert made == [0, 0, 1, 2]


def test_idle_members_go_on_while_others_are_busy():
    search = started()
    pending = [search.propose() for _ in range(4)]
    answered(search, pending[2], 1.0)
    proposal = search.propose()
    assert (proposal.fidelity, proposal.inherit) == (10.0, 2)


def test_full_trainings_end_the_search():
    search = started(max_fidelity=12, population_size=2, quantile=0)
    made = []
    for _ in range(6):
        proposal = search.propose()
        made.append(proposal.fidelity)
        answered(search, proposal, 1.0)
    assert made == [5.0, 5.0, 10.0, 10.0, 12.0, 12.0]
    with pytest.raises(SpaceExhausted) as caught:
        search.propose()
    assert str(caught.value).splitlines() == [
        "cannot propose: every member has been trained in full",
        "  got:      6 (int)",
        "  expected: 12 for 2 members",
        "  fix:      raise PBT.max_fidelity or PBT.population_size for more",
    ]


def test_what_was_never_answered_is_asked_again_and_the_first_answer_counts():
    search = started(population_size=2)
    first = [search.propose() for _ in range(2)]
    again = search.propose()
    assert (again.id, again.dna, again.fidelity, again.inherit) == (2, first[0].dna, 5.0, None)
    answered(search, again, 1.0)
    answered(search, first[0], 99.0)
    following = search.propose()
    assert (following.inherit, following.fidelity) == (2, 10.0)


def test_a_lost_member_is_asked_again_while_the_others_go_on():
    search = started(population_size=3, quantile=0)
    lost = search.propose()
    asked = []
    for _ in range(40):
        proposal = search.propose()
        asked.append(proposal)
        if proposal.fidelity > 5.0 or proposal.dna != lost.dna:
            answered(search, proposal, 1.0)
    again = [number for number, proposal in enumerate(asked) if proposal.dna == lost.dna]
    assert len(again) == 1
    assert 29 <= again[0] <= 34


def test_a_sampler_that_ends_makes_a_smaller_population():
    space = mu.space({"rate": mu.oneof([1, 2, 3], when="step")}).bare()
    search = started(space=space, sampler=Grid())
    generation(search, 1.0, 2.0, 3.0)
    assert [search.propose().fidelity for _ in range(3)] == [10.0] * 3


def test_results_that_nobody_asked_for_are_left_aside():
    search = started()
    before = search.state_dict()
    search.feedback(Feedback(None, RATE.random(0), None, 5.0, (9.0,)))
    search.feedback(Feedback(77, RATE.random(0), None, 5.0, (9.0,)))
    assert search.state_dict() == before


@pytest.mark.parametrize("stop", [0, 3, 4, 9, 22])
def test_fidelities_and_inheritance_resume_exactly_with_pending_proposals(stop):
    def trace(search, count):
        made = []
        for _ in range(count):
            proposal = search.propose()
            made.append((proposal.id, proposal.dna, proposal.fidelity, proposal.inherit))
            answered(search, proposal, None if proposal.id % 7 == 3 else proposal.dna["rate"])
        return made

    first, second = started(), started()
    trace(first, stop)
    pending = [first.propose() for _ in range(3)]
    second.load_state_dict(json.loads(json.dumps(first.state_dict(), allow_nan=False)))
    for search in (first, second):
        answered(search, pending[1], 3.0)
    assert trace(first, 40) == trace(second, 40)


def test_the_state_does_not_grow_with_the_number_of_trials():
    search = started()
    sizes = []
    for _ in range(20):
        generation(search, 3.0, 1.0, 2.0, 9.0)
        sizes.append(len(json.dumps(search.state_dict())))
    assert max(sizes) < 1.2 * min(sizes)


TOY = mu.space([mu.floatv(0.0, 2.0, name="a", when="step"), mu.floatv(0.0, 2.0, name="b", when="step")]).bare()
CORNERS = Listed(({"a": 1.0, "b": 0.0}, {"a": 0.0, "b": 1.0}))


def toy(algorithm, seed=0):
    """Runs the example of Jaderberg et al., figure 2: 1.2 - |theta|^2 by steps on 1.2 - h |theta|^2.

    Returns:
        The best value at the end; the proposals; and the weights after each.
    """
    search = algorithm.start(TOY, seed=seed)
    weights, values, made = {None: (0.9, 0.9)}, [], []
    for _ in range(2 * 200 // 5):
        proposal = search.propose()
        theta = weights[proposal.inherit]
        for _ in range(5):
            theta = tuple(t - 0.01 * 2 * h * t for t, h in zip(theta, proposal.dna.values, strict=True))
        weights[proposal.id] = theta
        made.append(proposal)
        values.append(1.2 - sum(t * t for t in theta))
        answered(search, proposal, values[-1])
    return max(values[-2:]), made, values


def test_the_toy_without_exploiting_is_as_known():
    assert toy(PBT(5, 2, quantile=0, sampler=CORNERS))[0] == pytest.approx(0.3897, abs=5e-5)


def test_the_toy_with_exploiting_only_is_as_known():
    assert toy(PBT(5, 2, resample=0, factors=(1, 1), sampler=CORNERS))[0] == pytest.approx(0.5379, abs=5e-5)


@pytest.mark.parametrize("seed", range(20))
def test_the_toy_is_solved(seed):
    assert toy(PBT(5, 2, sampler=CORNERS), seed)[0] >= 1.199


def test_the_schedule_of_the_best_member_trains_the_same_weights_again():
    best, made, values = toy(PBT(5, 2, sampler=CORNERS), 3)
    parts = schedule(made, values.index(best))
    assert parts[0].start == 0
    assert parts[-1].stop == 200
    assert all(a.stop == b.start and a.dna != b.dna for a, b in itertools.pairwise(parts))
    theta = (0.9, 0.9)
    for part in parts:
        for _ in range(round(part.stop - part.start)):
            theta = tuple(t - 0.01 * 2 * h * t for t, h in zip(theta, part.dna.values, strict=True))
    assert 1.2 - sum(t * t for t in theta) == best


def test_a_schedule_of_one_member_alone_is_one_stretch():
    _, made, _ = toy(PBT(5, 2, quantile=0, sampler=CORNERS))
    assert schedule(made, len(made) - 1) == [Stretch(0.0, 200.0, made[1].dna)]


def test_a_population_follows_a_target_that_moves():
    """The best rate falls during the training; a schedule comes nearer to it than any constant."""
    space = mu.space(mu.floatv(0.01, 1.0, scale="log", name="rate", when="step")).bare()

    def gain(rate, step):
        return -abs(rate - 0.8 * 0.8**step)

    search = PBT(1, 12, 15).start(space, seed=1)
    totals, best = {None: 0.0}, float("-inf")
    for _ in range(12 * 15):
        proposal = search.propose()
        totals[proposal.id] = totals[proposal.inherit] + gain(proposal.dna["rate"], proposal.fidelity - 1)
        if proposal.fidelity == 15:
            best = max(best, totals[proposal.id])
        answered(search, proposal, totals[proposal.id])
    constant = max(sum(gain(rate / 200, step) for step in range(15)) for rate in range(1, 201))
    assert best > constant


def trained(child, feedback):
    """Adds up the rates of all epochs, going on from what is inherited; returns the sum."""
    epochs, total = 0, 0.0
    if feedback.inherited is not None:
        epochs, total = json.loads((feedback.inherited / "state").read_text())
    while epochs < feedback.fidelity:
        epochs, total = epochs + 1, total + child["rate"]
    (feedback.checkpoint / "state").write_text(json.dumps([epochs, total]))
    return total


def test_a_loop_trains_a_population_and_gives_the_schedule_of_its_best_trial():
    program = {"net": mu.oneof(["a", "b"]), "rate": mu.floatv(0.01, 1.0, when="step")}
    loop = mu.sample(program, PBT(1, 4, 6), objectives="-error")
    for child, feedback in loop:
        feedback({"error": abs(trained(child, feedback) - 4)})
    assert len(loop.study) == 4 * 6
    parts = schedule(loop.study.trials, loop.study.best.id)
    assert parts[-1].stop == 6
    total = sum((part.stop - part.start) * part.dna["['rate']"] for part in parts)
    assert abs(total - 4) == pytest.approx(loop.study.best.reward)


@pytest.mark.parametrize(
    ("changes", "at"),
    [
        ({"interval": 0}, "PBT.interval"),
        ({"population_size": 1}, "PBT.population_size"),
        ({"max_fidelity": 4}, "PBT.max_fidelity"),
        ({"quantile": -0.1}, "PBT.quantile"),
        ({"quantile": 1.5}, "PBT.quantile"),
        ({"resample": 2}, "PBT.resample"),
        ({"factors": 1.2}, "PBT.factors"),
        ({"factors": (1.2, 0)}, "PBT.factors"),
        ({"sampler": Random}, "PBT.sampler"),
    ],
)
def test_settings_out_of_range_are_refused(changes, at):
    with pytest.raises(SettingError) as caught:
        started(**changes)
    assert caught.value.at == at


def test_a_share_above_one_is_refused_in_full():
    with pytest.raises(SettingError) as caught:
        PBT(1, quantile=25)
    assert str(caught.value).splitlines() == [
        "cannot use a setting",
        "  at:       PBT.quantile",
        "  got:      25 (int)",
        "  expected: a finite number >= 0 and <= 1",
        "  fix:      use 0.25",
    ]
