"""A trial where it runs."""

from __future__ import annotations

import functools
import pickle
import platform

import pytest
import torch
from search_programs import Trainer, quadratic

import mutandis as mu
from mutandis.errors import FeedbackError, SettingError, StorageError
from mutandis.flows.job import Job, JobFeedback, Order, call, own_objective, place_of_feedback

SPACE = mu.space({"x": mu.intv(0, 9)})


class Line:
    """A talk that remembers what was said, and has answers ready."""

    def __init__(self, **answers):
        self.said, self.answers = [], answers

    def tell(self, data):
        self.said.append(data)

    def ask(self, data):
        self.said.append(data)
        return self.answers[data[0]]


def order(x=3, **changes):
    return Order(0, SPACE.dna({"['x']": x}).values, **changes)


def test_a_job_builds_the_child_and_answers_with_its_reward():
    assert Job(SPACE, quadratic)(order(4), Line()) == ("reward", (-9.0, None))


def test_a_job_survives_pickling():
    job = pickle.loads(pickle.dumps(Job(mu.space(Trainer(mu.intv(0, 9))))))
    assert job(Order(0, (7,)), Line()) == ("reward", (-0.0, None))


def test_a_child_runs_itself():
    assert own_objective(Trainer(7))() == 0.0
    assert own_objective(mu.partial(int, "3"))() == 3


def test_a_child_that_cannot_run_is_refused():
    with pytest.raises(SettingError) as error:
        own_objective({"x": 1})
    assert str(error.value) == (
        "cannot run a child\n"
        "  got:      {'x': 1} (dict)\n"
        "  expected: a method run(), or something that can be called\n"
        "  fix:      pass objective=, a function of the child"
    )


@pytest.mark.parametrize(
    ("function", "gets_it"),
    [
        (lambda child: len((child,)), False),
        (lambda child, feedback: feedback, True),
        (lambda child, report: report, True),
        (lambda child, epochs=3: epochs == 0, False),
        (lambda child, epochs=3, feedback=None: feedback, True),
        (lambda child, *rest: bool(rest), False),
        (functools.partial(lambda child, feedback, epochs: feedback, epochs=3), True),
    ],
)
def test_an_objective_gets_the_feedback_where_it_wants_it(function, gets_it):
    token = object()
    assert (call(function, ("child",), token) is token) is gets_it


@pytest.mark.parametrize(
    ("function", "num_arguments", "place"),
    [(lambda feedback: 0, 0, "by name"), (lambda child, *, feedback: 0, 1, "by name"), (lambda a, b: 0, 1, "last"),
     (lambda a, b: 0, 2, None), (lambda a, b: 0, 0, None), (max, 1, None)],
)  # fmt: skip
def test_the_place_of_the_feedback_is_told(function, num_arguments, place):
    assert place_of_feedback(function, num_arguments) == place


def test_a_function_without_a_signature_is_called_plainly():
    assert call(max, ((1, 2),), object()) == 2


@pytest.mark.parametrize(
    ("metrics", "step", "problem"),
    [({"loss": "low"}, 1, "cannot use a metric"), ({"loss": 1.0}, "first", "cannot use a metric"),
     ({"loss": 1.0}, float("nan"), "cannot use a step")],
)  # fmt: skip
def test_a_report_that_is_no_number_is_refused_where_it_is_made(metrics, step, problem):
    line = Line()
    with pytest.raises(FeedbackError, match=problem):
        JobFeedback(order(), SPACE.random(0), line).report(metrics, step=step)
    assert line.said == []


def test_numbers_of_reports_are_plain_when_they_are_sent():
    line = Line()
    JobFeedback(order(), SPACE.random(0), line).report({"loss": torch.tensor(0.5)}, step=torch.tensor(2))
    assert line.said == [("report", {"loss": 0.5}, 2)]
    assert [type(value) for value in (line.said[0][1]["loss"], line.said[0][2])] == [float, int]


def test_nothing_is_reported_behind_the_answer():
    feedback = JobFeedback(order(), SPACE.random(0), Line())
    feedback(1.0)
    with pytest.raises(FeedbackError, match="cannot answer a trial twice"):
        feedback.report({"loss": 1.0}, step=1)


@pytest.mark.parametrize(("reason", "sent"), [("too large", "too large"), (None, ""), (MemoryError("full"), "full")])
def test_the_reason_of_a_skip_is_sent_as_a_text(reason, sent):
    feedback = JobFeedback(order(), SPACE.random(0), Line())
    feedback.skip(reason)
    assert feedback.settled(None) == ("skip", sent)


def test_reports_and_questions_go_through_the_talk(tmp_path):
    line = Line(should_stop=True, checkpoint=str(tmp_path), inherited=None)
    feedback = JobFeedback(order(fidelity=9.0), SPACE.dna({"['x']": 3}), line)
    feedback.report({"loss": 1.0}, step=2)
    assert feedback.should_stop() is True
    assert feedback.checkpoint == tmp_path
    assert feedback.inherited is None
    assert feedback.fidelity == 9.0
    assert line.said[0] == ("report", {"loss": 1.0}, 2)


def test_the_checkpoint_of_another_trial_is_a_path(tmp_path):
    feedback = JobFeedback(order(), SPACE.dna({"['x']": 3}), Line(inherited=str(tmp_path)))
    assert feedback.inherited == tmp_path


@pytest.mark.parametrize("which", ["checkpoint", "inherited"])
def test_a_checkpoint_that_this_machine_does_not_share_is_told_so(which):
    feedback = JobFeedback(order(), SPACE.dna({"['x']": 3}), Line(**{which: "/nowhere/trial-0"}))
    with pytest.raises(StorageError) as error:
        getattr(feedback, which)
    assert str(error.value) == (
        "cannot reach the checkpoint of a trial\n"
        "  at:       trial 0\n"
        "  got:      '/nowhere/trial-0' (str)\n"
        f"  expected: a directory that this machine ({platform.node()}) shares with the one that searches\n"
        "  fix:      let TMPDIR name a directory on a file system of all machines where the search is started"
    )


@pytest.mark.parametrize(
    ("objective", "answer"),
    [
        (lambda child, feedback: feedback(2.0), ("reward", (2.0, None))),
        (lambda child, feedback: feedback(2.0, metrics={"a": 1}), ("reward", (2.0, {"a": 1}))),
        (lambda child, feedback: feedback.skip("too large"), ("skip", "too large")),
        (lambda child: None, ("nothing", None)),
        (lambda child: {"a": 1.0}, ("reward", ({"a": 1.0}, None))),
    ],
)
def test_an_objective_answers_by_returning_or_by_its_feedback(objective, answer):
    assert Job(SPACE, objective)(order(), Line()) == answer


def test_answering_twice_is_refused():
    def twice(child, feedback):
        feedback(1.0)
        return 2.0

    with pytest.raises(FeedbackError, match="cannot answer a trial twice"):
        Job(SPACE, twice)(order(), Line())


def test_what_shall_be_ignored_skips_the_trial():
    def careful(child, feedback):
        with feedback.ignore(RuntimeError):
            raise RuntimeError("no memory")

    assert Job(SPACE, careful)(order(), Line()) == ("skip", "RuntimeError: no memory")
    with pytest.raises(ValueError, match="other"):
        Job(SPACE, lambda child, feedback: [feedback.ignore(RuntimeError).__enter__(), _raise()])(order(), Line())


def _raise():
    raise ValueError("other")
