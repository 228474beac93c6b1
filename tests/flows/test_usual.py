"""The usual flows: joint, sequential, nested, phased."""

from __future__ import annotations

import pytest

import mutandis as mu
from mutandis.algorithms import Grid, HillClimb, Random, RegularizedEvolution, schedulers
from mutandis.errors import MutandisWarning, SettingError, SpaceError
from mutandis.flows import Joint, Nested, Phased, Sequential

PROGRAM = {
    "chip": mu.oneof(["small", "large"], hints="hardware", default="small"),
    "width": mu.intv(1, 16, default=4),
    "depth": mu.intv(1, 4, default=1),
}


def cost(child):
    limit = 8 if child["chip"] == "small" else 12
    return -abs(child["width"] - limit) - 2 * abs(child["depth"] - 3) + (5 if child["chip"] == "large" else 0)


def is_hardware(point):
    return point.hints == "hardware"


def run(flow, budget, program=PROGRAM, task=cost, **arguments):
    study = mu.Study()
    return study, list(flow.run(program, task, budget=budget, study=study, **arguments))


FLOWS = [
    Joint(RegularizedEvolution(10, 3)),
    Sequential(((is_hardware, Grid()), (None, HillClimb()))),
    Nested(is_hardware, Grid(), HillClimb(), inner_trials=20),
    Phased(((Sequential((("['width']", Grid()), (None, Random()))), 0.4), (Joint(HillClimb()), 0.6))),
]


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: type(flow).__name__)
def test_every_trial_is_a_whole_child_in_one_study(flow):
    study, trials = run(flow, 40)
    assert tuple(trials) == study.trials
    assert len(trials) <= 40
    assert [trial.id for trial in trials] == list(range(len(trials)))
    assert all(trial.reward == cost(trial.child()) for trial in trials)


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: type(flow).__name__)
def test_a_run_is_a_function_of_its_seed(flow):
    first, second, other = ([t.dna for t in run(flow, 40, seed=seed)[1]] for seed in (3, 3, 4))
    assert first == second != other


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: type(flow).__name__)
def test_a_failing_child_fails_alone(flow):
    def fails_for_deep(child):
        if child["depth"] == 4:
            raise ValueError("too deep")
        return cost(child)

    with pytest.warns(MutandisWarning, match="ValueError: too deep"):
        study, trials = run(flow, 60, task=fails_for_deep)
    failed = [trial for trial in trials if trial.state == "failed"]
    assert failed
    assert {trial.reason for trial in failed} == {"ValueError: too deep"}
    assert study.best.reward > -10


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: type(flow).__name__)
def test_a_flow_is_symbolic(flow):
    assert mu.equal(mu.clone(flow), flow)


def test_a_joint_flow_is_the_plain_loop():
    algorithm = RegularizedEvolution(5, 2)
    loop = mu.sample(PROGRAM, algorithm, trials=30, seed=7)
    for child, feedback in loop:
        feedback(cost(child))
    _, trials = run(Joint(algorithm), 30, seed=7)
    assert [t.dna for t in trials] == [t.dna for t in loop.study.trials]


def test_a_sequential_flow_keeps_the_best_of_each_part_and_leaves_later_ones_at_their_defaults():
    flow = Sequential((("['width']", Grid()), ("['depth']", Grid()), (None, Grid())))
    _, trials = run(flow, 48)
    first, second, third = trials[:16], trials[16:20], trials[20:]
    assert {(t.child()["chip"], t.child()["depth"]) for t in first} == {("small", 1)}
    assert [t.child()["width"] for t in first] == list(range(1, 17))
    assert {t.child()["width"] for t in second} == {8}
    assert [t.child() for t in third] == [
        {"chip": "small", "width": 8, "depth": 3}, {"chip": "large", "width": 8, "depth": 3},
    ]  # fmt: skip


def test_a_nested_flow_finds_the_best_network_of_every_chip():
    study, trials = run(Nested(is_hardware, Grid(), Grid(), inner_trials=64), 200)
    assert len(trials) == 128
    assert study.best.child() == {"chip": "large", "width": 12, "depth": 3}
    assert {t.child()["chip"] for t in trials[:64]} == {"small"}


def test_a_nested_flow_counts_its_inner_trials():
    _, trials = run(Nested(is_hardware, Random(), Random(), inner_trials=7), 25)
    assert len(trials) == 25


def test_the_outer_algorithm_is_told_of_the_best_inside():
    told = []

    class Spy(mu.algorithms.Algorithm):
        def start(self, space, *, seed, num_objectives=1):
            search = Grid().start(space, seed=seed)
            search.feedback = lambda feedback: told.append(feedback.rewards)
            return search

    _, trials = run(Nested(is_hardware, Spy(), HillClimb(), inner_trials=10), 20)
    assert told == [(max(t.reward for t in part),) for part in (trials[:10], trials[10:])]


def test_an_outer_child_without_inner_decisions_is_one_trial():
    program = {"kind": mu.oneof(["none", mu.intv(1, 3)])}
    flow = Nested(lambda point: point.path == "['kind']", Grid(), Grid(), inner_trials=5)
    _, trials = run(flow, 20, program, lambda child: 0.0)
    assert [t.child()["kind"] for t in trials] == ["none", 1, 2, 3]


def test_a_joint_phase_learns_from_the_phases_before():
    flow = Phased(((Sequential((("['width']", Grid()), (None, Grid()))), 1), (Joint(HillClimb()), 1)))
    study, trials = run(flow, 60)
    assert len(trials) == 15 + 8 + 30  # The second part of the sequential half has only 8 DNAs to try.
    climbing = [t.reward for t in trials[23:]]
    assert min(climbing[:3]) > -5  # It starts from what was found, not from a random child.
    assert study.best.reward == max(t.reward for t in trials)


def test_several_objectives_pass_through():
    def task(child):
        return {"score": cost(child), "width": child["width"]}

    study, _ = run(Sequential(((is_hardware, Grid()), (None, Random()))), 30, task=task, objectives=("score", "-width"))
    assert study.front
    assert all(len(trial.rewards) == 2 for trial in study.front)


def test_closing_the_iterator_stops():
    study = mu.Study()
    trials = Joint(Random()).run(PROGRAM, cost, budget=100, study=study)
    next(trials)
    trials.close()
    assert [trial.state for trial in study.trials] == ["completed"]


def test_a_program_without_decisions_is_refused():
    with pytest.raises(SpaceError, match="cannot sample a program without decisions"):
        list(Joint(Random()).run({"x": 1}, cost, budget=3))


@pytest.mark.parametrize("budget", [0, 2.5, None])
def test_an_impossible_budget_is_refused(budget):
    with pytest.raises(SettingError, match="an int >= 1"):
        Joint(Random()).run(PROGRAM, cost, budget=budget)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Sequential(()), lambda: Sequential((Grid(),)), lambda: Phased(()),
        lambda: Phased(((Joint(Grid()), 0),)), lambda: Nested("chip", Grid(), Grid(), inner_trials=0),
    ],
)  # fmt: skip
def test_impossible_settings_are_refused(make):
    with pytest.raises(SettingError):
        make()


# Schedulers.


def learning(child, feedback):
    done = feedback.trial.fidelity or 0
    for step in range(done + 1, 10):
        feedback.report({"reward": cost(child) - 1 / step}, step=step)
        if feedback.should_stop():
            break
    return cost(child) - 1 / step


def test_a_joint_flow_takes_a_scheduler():
    study, trials = run(Joint(Random(), schedulers.ASHA(1, 9)), 60, task=learning)
    assert len(trials) == 60
    assert {trial.fidelity for trial in trials} == {1, 3, 9}
    assert study.best.fidelity == 9


def test_a_phase_takes_a_scheduler():
    flow = Phased(((Joint(Random(), schedulers.Median(2)), 1), (Joint(HillClimb()), 1)))
    study, _ = run(flow, 40, task=learning)
    assert study.counts()["stopped"] > 3
    assert all(trial.state == "completed" for trial in study.trials[20:])


def test_without_a_scheduler_a_task_may_report_all_the_same():
    _, trials = run(Sequential(((is_hardware, Grid()), (None, Random()))), 10, task=learning)
    assert {len(trial.curve) for trial in trials} == {9}


def test_a_task_gets_its_feedback_by_name_too():
    def task(child, *, feedback):
        return learning(child, feedback)

    _, trials = run(Joint(Random(), schedulers.ASHA(1, 9)), 12, task=task)
    assert {len(trial.curve) for trial in trials} >= {1, 3}


def test_a_scheduler_needs_a_task_that_reports():
    with pytest.raises(SettingError) as error:
        run(Joint(Random(), schedulers.Median()), 10, task=len)
    assert str(error.value) == (
        "cannot schedule trials that report nothing\n"
        "  at:       task\n"
        "  got:      <built-in function len> (builtin_function_or_method)\n"
        "  expected: a function of the child and its feedback\n"
        "  fix:      write task(child, feedback), and call feedback.report({...}, step=...) in it"
    )


def test_what_is_no_scheduler_is_refused():
    with pytest.raises(SettingError, match=r"write Median\(...\), not the class"):
        Joint(Random(), schedulers.Median)
