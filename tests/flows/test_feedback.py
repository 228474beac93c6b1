"""Answers to trials: every form, and what becomes of the record."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import torch

import mutandis as mu
from mutandis.algorithms import Random
from mutandis.algorithms.schedulers import ASHA, Patience
from mutandis.errors import FeedbackError
from mutandis.flows import Trial, TrialFeedback
from mutandis.flows.studies.objectives import parse_objectives


@pytest.fixture
def loop():
    return mu.sample(mu.oneof([1, 2]), Random(), trials=9)


@pytest.fixture
def feedback(loop):
    return next(loop)[1]


@pytest.fixture
def two_objectives():
    loop = mu.sample(mu.oneof([1, 2]), Random(), trials=9, objectives=("accuracy", "-latency"))
    yield next(loop)[1]
    loop.close()


@pytest.mark.parametrize(
    "reward",
    [
        2,
        2.0,
        torch.tensor(2.0),
        torch.tensor([2]),
        torch.tensor(2.0, requires_grad=True),
        np.float32(2),
        np.int64(2),
        np.array([2.0]),
    ],
)
def test_a_reward_is_a_number_or_holds_one(feedback, reward):
    feedback(reward)
    assert feedback.trial.rewards == (2.0,)
    assert type(feedback.trial.reward) is float
    assert feedback.trial.metrics is None


def test_a_dict_of_metrics_holds_the_reward(feedback):
    feedback({"reward": torch.tensor(2.0), "loss": np.float32(0.5)})
    assert feedback.trial.rewards == (2.0,)
    assert feedback.trial.metrics == {"reward": 2.0, "loss": 0.5}


def test_further_metrics_go_beside_the_reward(feedback):
    feedback(2, metrics={"loss": torch.tensor(0.5)})
    assert feedback.trial.rewards == (2.0,)
    assert feedback.trial.metrics == {"loss": 0.5}


def test_further_metrics_join_a_dict(feedback):
    feedback({"reward": 2}, metrics={"loss": 0.5})
    assert feedback.trial.metrics == {"reward": 2.0, "loss": 0.5}


def test_several_objectives_come_in_a_dict(two_objectives):
    two_objectives({"latency": 3, "accuracy": 0.5, "other": 1})
    assert two_objectives.trial.rewards == (0.5, 3.0)
    assert two_objectives.trial.metrics == {"latency": 3.0, "accuracy": 0.5, "other": 1.0}


def test_an_answer_is_in_the_study_at_once(loop, feedback):
    assert loop.study.trials[0].state == "running"
    assert not feedback.is_answered
    feedback(2)
    assert loop.study.trials[0] is feedback.trial
    assert feedback.trial.state == "completed"
    assert feedback.trial.seconds > 0
    assert feedback.is_answered


def test_the_decisions_of_a_trial_are_at_hand(loop, feedback):
    assert feedback.dna is feedback.trial.dna
    assert loop.space.own(feedback.dna) is feedback.dna


@pytest.mark.parametrize("reward", [float("nan"), float("inf"), -float("inf"), torch.tensor(float("nan"))])
def test_a_reward_that_is_not_finite_is_a_failure(feedback, reward):
    feedback(reward, metrics={"loss": 1})
    assert feedback.trial.state == "failed"
    assert feedback.trial.rewards is None
    assert feedback.trial.metrics == {"loss": 1.0}
    assert feedback.trial.reason == f"the reward is not a finite number: {float(reward)}"


def test_one_objective_that_is_not_finite_fails_the_trial(two_objectives):
    two_objectives({"accuracy": 0.5, "latency": float("nan")})
    assert two_objectives.trial.state == "failed"
    assert two_objectives.trial.reason == "the reward is not a finite number: 0.5, nan"


def test_another_metric_may_be_nan(feedback):
    feedback({"reward": 1, "loss": float("nan")})
    assert feedback.trial.state == "completed"


@pytest.mark.parametrize(
    ("reason", "recorded"),
    [("too large", "too large"), ("", None), (None, None), (ValueError("no memory"), "no memory"), (3, "3")],
)
def test_a_skipped_trial_has_a_reason_and_no_reward(feedback, reason, recorded):
    feedback.skip(reason)
    assert (feedback.trial.state, feedback.trial.reason, feedback.trial.rewards) == ("skipped", recorded, None)


def test_a_failed_trial_has_a_reason_and_no_reward(feedback):
    feedback.fail("diverged")
    assert (feedback.trial.state, feedback.trial.reason, feedback.trial.rewards) == ("failed", "diverged", None)


# ignore().


def test_ignore_skips_the_trial_where_the_body_raises(feedback):
    with feedback.ignore(RuntimeError, KeyError):
        raise KeyError("x")
    assert feedback.trial.state == "skipped"
    assert feedback.trial.reason == "KeyError: 'x'"


def test_ignore_takes_subclasses(feedback):
    with feedback.ignore(ArithmeticError):
        1 / 0
    assert feedback.trial.reason == "ZeroDivisionError: division by zero"


def test_ignore_lets_other_exceptions_pass(feedback):
    with pytest.raises(ValueError, match="other"), feedback.ignore(RuntimeError):
        raise ValueError("other")
    assert feedback.trial.state == "running"


def test_ignore_changes_nothing_where_the_body_answers(feedback):
    with feedback.ignore(RuntimeError):
        feedback(1)
    assert feedback.trial.state == "completed"


def test_ignore_keeps_an_answer_that_came_before_the_exception(feedback):
    with feedback.ignore(RuntimeError):
        feedback(1)
        raise RuntimeError
    assert feedback.trial.state == "completed"


def test_a_loop_goes_on_after_what_is_ignored(loop):
    for child, feedback in loop:
        with feedback.ignore(RuntimeError):
            if feedback.trial.id % 3 == 0:
                raise RuntimeError("now and then")
            feedback(child)
    assert loop.study.counts() == {"skipped": 3, "completed": 6}


# Learning curves and early stops.


def test_reports_make_a_curve(feedback):
    feedback.report({"loss": torch.tensor(2.0)}, step=0)
    feedback.report({"loss": 1, "accuracy": 0.5}, step=5)
    curve = ((0, {"loss": 2.0}), (5, {"loss": 1.0, "accuracy": 0.5}))
    assert feedback.trial.curve == curve
    feedback(3)
    assert feedback.trial.curve == curve


@pytest.mark.parametrize("end", [lambda f: f.skip("x"), lambda f: f.fail("x"), lambda f: f(float("nan"))])
def test_the_curve_stays_where_the_trial_ends_without_a_reward(feedback, end):
    feedback.report({"loss": 1}, step=1)
    end(feedback)
    assert feedback.trial.curve == ((1, {"loss": 1.0}),)


def test_an_abandoned_trial_keeps_its_curve(loop, feedback):
    feedback.report({"loss": 1}, step=1)
    loop.close()
    assert loop.study.trials[0].curve == ((1, {"loss": 1.0}),)


def test_without_a_rule_nothing_should_stop(feedback):
    feedback.report({"loss": 9}, step=0)
    assert not feedback.should_stop()


def test_a_rule_sees_the_curve_and_stops_the_trial():
    loop = mu.sample(mu.boolv(), Random(), trials=1, stop=lambda trial: len(trial.curve) >= 3)
    for _, feedback in loop:
        for epoch in range(9):
            feedback.report({"loss": epoch}, step=epoch)
            if feedback.should_stop():
                break
        feedback(epoch)
    assert loop.study.trials[0].state == "stopped"
    assert loop.study.trials[0].reward == 2.0


def test_a_rule_that_spoke_is_not_asked_again():
    answers = iter([True])
    loop = mu.sample(mu.boolv(), Random(), trials=1, stop=lambda trial: next(answers))
    _, feedback = next(loop)
    assert [feedback.should_stop(), feedback.should_stop()] == [True, True]


def test_a_trial_that_goes_on_after_all_is_completed_where_no_rule_spoke():
    loop = mu.sample(mu.boolv(), Random(), trials=1, stop=lambda trial: False)
    _, feedback = next(loop)
    assert not feedback.should_stop()
    feedback(1)
    assert feedback.trial.state == "completed"


def test_what_should_stop_once_said_holds():
    loop = mu.sample(mu.boolv(), Random(), trials=1, scheduler=ASHA(1, 4, 2))
    _, feedback = next(loop)
    feedback.report({"reward": 1}, step=1)
    assert feedback.should_stop()
    feedback.report({"reward": 1}, step=2.5)
    assert feedback.should_stop()
    feedback(1)
    assert (feedback.trial.state, feedback.trial.fidelity) == ("paused", 2.5)


def test_the_rule_and_the_scheduler_are_both_asked():
    loop = mu.sample(mu.boolv(), Random(), trials=2, scheduler=ASHA(2, 8, 2), stop=lambda trial: len(trial.curve) == 1)
    states = []
    for (_, feedback), step in zip(loop, (1, 2)):
        feedback.report({"reward": 1}, step=step)
        assert feedback.should_stop()
        feedback(1)
        states.append(feedback.trial.state)
    assert states == ["stopped", "paused"]


def test_a_trial_that_is_told_to_complete_is_completed():
    loop = mu.sample(mu.boolv(), Random(), trials=1, scheduler=Patience(2))
    _, feedback = next(loop)
    for step in range(3):
        assert not feedback.should_stop()
        feedback.report({"reward": 1}, step=step)
    assert feedback.should_stop()
    feedback(1)
    assert (feedback.trial.state, feedback.trial.fidelity) == ("completed", None)


def test_a_scheduler_hears_of_losses_as_rewards():
    loop = mu.sample(mu.boolv(), Random(), objectives="-loss", scheduler=ASHA(1, 2, 2), trials=3)
    for loss, (_, feedback) in zip((1.0, 3.0, 2.0), loop):
        feedback(loss)
    assert [trial.parent for trial in loop.study.trials] == [None, None, 0]


@pytest.mark.parametrize("end", [lambda f: f.skip("x"), lambda f: f.fail("x"), lambda f: f(float("nan"))])
def test_a_pause_that_ends_without_a_reward_is_no_pause(end):
    loop = mu.sample(mu.boolv(), Random(), trials=3, scheduler=ASHA(1, 4, 2))
    for number, (_, feedback) in enumerate(loop):
        feedback.report({"reward": -number}, step=1)
        assert feedback.should_stop()
        end(feedback) if number == 0 else feedback(1)
    assert loop.study.trials[0].state in ("skipped", "failed")
    assert loop.study.trials[0].fidelity is None
    assert [trial.parent for trial in loop.study.trials] == [None, None, None]


def test_abandoning_ends_a_trial_without_a_reward(feedback):
    feedback.abandon()
    assert (feedback.trial.state, feedback.trial.rewards) == ("abandoned", None)


def test_a_whole_step_is_an_int_and_a_part_of_one_stays(feedback):
    for step in (1.0, np.int64(2), torch.tensor(3), 4.5):
        feedback.report({"loss": 1}, step=step)
    assert [repr(step) for step, _ in feedback.trial.curve] == ["1", "2", "3", "4.5"]


@pytest.mark.parametrize("step", [float("nan"), float("inf")])
def test_a_step_that_is_not_finite_is_refused(feedback, step):
    with pytest.raises(FeedbackError) as error:
        feedback.report({"loss": 1}, step=step)
    assert str(error.value) == (
        "cannot use a step\n"
        "  at:       step\n"
        f"  got:      {step} (float)\n"
        "  expected: a finite number\n"
        "  fix:      count what is done, such as the epochs"
    )
    assert feedback.trial.curve == ()


def test_a_trial_alone_plans_and_inherits_nothing():
    space = mu.space(mu.boolv())
    feedback = TrialFeedback(Trial(0, space.default(), space=space), parse_objectives("reward"), lambda trial: None)
    assert (feedback.fidelity, feedback.inherited, feedback.should_stop()) == (None, None, False)
    assert feedback.checkpoint.is_dir()


# Checkpoints.


def test_a_checkpoint_is_one_directory_of_the_trial(feedback):
    (feedback.checkpoint / "weights").write_text("w")
    assert feedback.checkpoint.is_dir()
    assert (feedback.checkpoint / "weights").read_text() == "w"


def test_two_trials_have_two_checkpoints(loop):
    paths = []
    for _, feedback in loop:
        paths.append(feedback.checkpoint)
        feedback(0)
    assert len(set(paths)) == 9


def test_a_checkpoint_outlives_the_answer(feedback):
    path = feedback.checkpoint
    feedback(1)
    assert path.is_dir()


def test_a_checkpoint_goes_with_its_feedback():
    loop = mu.sample(mu.boolv(), Random(), trials=1)
    _, feedback = next(loop)
    path = feedback.checkpoint
    feedback(1)
    del feedback, loop
    gc.collect()
    assert not path.exists()


# What is refused.


ANSWERS = {
    "answer": lambda f: f(1),
    "skip": lambda f: f.skip(),
    "fail": lambda f: f.fail("x"),
    "report": lambda f: f.report({"a": 1}, step=0),
}


@pytest.mark.parametrize("second", ANSWERS)
def test_a_second_answer_is_refused(feedback, second):
    feedback(1)
    with pytest.raises(FeedbackError) as error:
        ANSWERS[second](feedback)
    assert str(error.value) == (
        "cannot answer a trial twice\n"
        "  at:       trial 0\n"
        "  got:      'completed' (str)\n"
        "  expected: one feedback(...) or feedback.skip(...) per trial\n"
        "  fix:      remove the second answer; intermediate results go to feedback.report({...}, step=...)"
    )


@pytest.mark.parametrize(
    ("reward", "got"),
    [
        ("high", "'high' (str)"),
        (None, "None (NoneType)"),
        ([1.0], "[1.0] (list)"),
        (np.zeros(2), "array([0., 0.]) (ndarray)"),
        (torch.zeros(2), "tensor([0., 0.]) (Tensor)"),
        (1j, "1j (complex)"),
    ],
)
def test_a_reward_that_is_no_number_is_refused(feedback, reward, got):
    with pytest.raises(FeedbackError) as error:
        feedback(reward)
    assert str(error.value) == (
        "cannot use a metric\n"
        "  at:       reward\n"
        f"  got:      {got}\n"
        "  expected: a number, or a tensor or array with one element\n"
        "  fix:      reduce it first, such as loss.mean().item()"
    )
    assert feedback.trial.state == "running"


def test_a_number_that_no_float_can_hold_is_refused(feedback):
    with pytest.raises(FeedbackError, match="cannot use a metric"):
        feedback(10**400)


def test_a_reported_metric_that_is_no_number_is_refused(feedback):
    with pytest.raises(FeedbackError, match=r"at: +loss"):
        feedback.report({"loss": "low"}, step=0)
    assert feedback.trial.curve == ()


def test_a_dict_without_the_objective_is_refused(two_objectives):
    with pytest.raises(FeedbackError) as error:
        two_objectives({"accuracy": 1, "latency_ms": 2})
    assert str(error.value) == (
        "cannot rate a trial without its objective\n"
        "  at:       latency\n"
        "  got:      ['accuracy', 'latency_ms'] (list)\n"
        "  expected: a metric called 'latency'; did you mean 'latency_ms'?\n"
        "  fix:      give it in the dict, or name other objectives in mu.sample(..., objectives=...)"
    )


def test_one_number_for_several_objectives_is_refused(two_objectives):
    with pytest.raises(FeedbackError) as error:
        two_objectives(0.5)
    assert str(error.value) == (
        "cannot rate a trial with one number\n"
        "  at:       feedback\n"
        "  got:      0.5 (float)\n"
        "  expected: a dict with accuracy, latency\n"
        "  fix:      write feedback({...})"
    )


def test_a_refused_answer_can_be_mended(feedback):
    with pytest.raises(FeedbackError):
        feedback("high")
    feedback(1)
    assert feedback.trial.state == "completed"
