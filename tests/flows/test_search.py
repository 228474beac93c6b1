"""`mu.search`: the whole search in one call."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from search_programs import Trainer, checkpointed, nothing, quadratic, reporting, reporting_words, slow_for_small

import mutandis as mu
from mutandis.algorithms import schedulers
from mutandis.errors import MutandisWarning, SearchError, SettingError
from mutandis.flows.executors import Inline
from mutandis.flows.executors.base import CRASHED, LOST, Outcome

PROGRAM = {"x": mu.intv(0, 9)}


def decisions(study):
    return [trial.dna.values for trial in study.trials]


def test_a_search_inline_is_the_loop_of_sample():
    study = mu.search(PROGRAM, mu.algorithms.RegularizedEvolution(5, 2), trials=30, objective=quadratic,
                      executor="inline", seed=4)  # fmt: skip
    loop = mu.sample(PROGRAM, mu.algorithms.RegularizedEvolution(5, 2), trials=30, seed=4)
    for child, feedback in loop:
        feedback(quadratic(child))
    assert decisions(study) == decisions(loop.study)
    assert study.best.reward == 0.0
    assert {trial.worker for trial in study.trials} == {"inline"}


def test_a_child_runs_itself_in_a_process_of_its_own():
    study = mu.search(Trainer(mu.intv(0, 9)), mu.algorithms.Grid(), workers=2)
    assert study.best.child().x == 7
    assert len(study) == 10
    assert {trial.state for trial in study.trials} == {"completed"}
    assert str(os.getpid()) not in {trial.worker.removeprefix("pid ") for trial in study.trials}
    assert all(trial.seconds < 30 for trial in study.trials)


def test_a_trial_that_raises_or_dies_fails_alone():
    program = Trainer(mu.intv(0, 2), mu.oneof(["calm", "raises", "dies"]))
    with pytest.warns(MutandisWarning, match="trial 1 failed: ValueError: x is 0") as caught:
        study = mu.search(program, mu.algorithms.Grid(), workers=1)
    assert "Traceback" in str(caught[0].message)
    assert len(caught) == 1
    assert [t.state for t in study.trials] == ["completed", "failed", "failed"] * 3
    assert study.trials[1].reason == "ValueError: x is 0"
    assert study.trials[2].reason == "its process was killed by SIGKILL"


def test_a_trial_that_hangs_fails_alone():
    program = Trainer(mu.oneof([7]), mu.oneof(["hangs", "calm"]))
    with pytest.warns(MutandisWarning, match="it ran longer than 2 s"):
        study = mu.search(program, mu.algorithms.Grid(), trial_timeout=2.0)
    assert [t.state for t in study.trials] == ["failed", "completed"]


def test_a_search_whose_trials_all_fail_gives_up_and_keeps_its_study():
    study = mu.Study()
    with pytest.warns(MutandisWarning), pytest.raises(SearchError) as error:
        mu.search(Trainer(mu.intv(0, 99), "raises"), mu.algorithms.Grid(), executor="inline", max_failures=3,
                  study=study)  # fmt: skip
    assert str(error.value) == (
        "cannot go on: every trial fails\n"
        "  at:       trial 2\n"
        "  got:      'ValueError: x is 2' (str)\n"
        "  expected: fewer than 3 failures in a row\n"
        "  fix:      mend the objective and search again with the same study, or raise max_failures"
    )
    assert study.counts() == {"failed": 3}


def test_an_objective_that_returns_nothing_is_told_so():
    with pytest.warns(MutandisWarning, match="the objective returned nothing"):
        study = mu.search(PROGRAM, mu.algorithms.Random(), trials=1, objective=nothing, executor="inline")
    assert study.trials[0].state == "failed"


def test_a_missing_objective_fails_the_trial_with_the_whole_story():
    with pytest.warns(MutandisWarning, match="accuracy"):
        study = mu.search(PROGRAM, mu.algorithms.Random(), trials=1, objective=lambda child: {"acc": 1.0},
                          objectives="accuracy", executor="inline")  # fmt: skip
    assert study.trials[0].state == "failed"
    assert study.trials[0].reason == (
        "cannot rate a trial without its objective\n"
        "  at:       accuracy\n"
        "  got:      ['acc'] (list)\n"
        "  expected: a metric called 'accuracy'\n"
        "  fix:      give it in the dict, or name other objectives in mu.sample(..., objectives=...)"
    )


@pytest.mark.parametrize("executor", ["inline", "processes"])
def test_a_trial_that_reports_no_number_fails_alone(executor):
    with pytest.warns(MutandisWarning, match="FeedbackError: cannot use a metric"):
        study = mu.search(PROGRAM, mu.algorithms.Grid(), objective=reporting_words, executor=executor, max_failures=20)
    assert study.counts() == {"failed": 9, "completed": 1}
    assert study.trials[7].state == "completed"


@pytest.mark.parametrize("executor", ["inline", "processes"])
def test_reports_reach_the_scheduler_and_stop_trials(executor):
    study = mu.search(PROGRAM, mu.algorithms.Grid(), objective=reporting, executor=executor,
                      scheduler=schedulers.Median(min_trials=2))  # fmt: skip
    assert all(trial.curve for trial in study.trials)
    assert study.best.dna.to_numbers() == [9]
    loop = mu.sample(PROGRAM, mu.algorithms.Grid(), scheduler=schedulers.Median(min_trials=2))
    for child, feedback in loop:
        feedback(reporting(child, feedback))
    assert [t.state for t in study.trials] == [t.state for t in loop.study.trials]
    assert [t.curve for t in study.trials] == [t.curve for t in loop.study.trials]


def test_trials_that_go_on_find_the_checkpoint_of_their_parent():
    study = mu.search(PROGRAM, mu.algorithms.Hyperband(1, 9, eta=3, brackets=(2,)), trials=30, workers=2,
                      objective=checkpointed)  # fmt: skip
    going_on = [t for t in study.trials if t.parent is not None]
    assert len(going_on) >= 3
    for trial in going_on:
        assert trial.metrics["trained"] == trial.fidelity - study.trials[trial.parent].fidelity


@pytest.mark.parametrize("workers", [2, 4, 8])
def test_decisions_do_not_hang_on_the_number_of_workers(workers):
    settings = {"trials": 40, "objective": slow_for_small, "seed": 5, "deterministic": True}
    algorithm = mu.algorithms.RegularizedEvolution(8, 3)
    one = mu.search(PROGRAM, algorithm, executor="inline", **settings)
    several = mu.search(PROGRAM, algorithm, workers=workers, **settings)
    assert decisions(one) == decisions(several)


def test_a_deterministic_search_takes_no_scheduler_and_few_workers():
    for changes, place in (({"workers": 9}, "workers"), ({"scheduler": schedulers.Median()}, "scheduler")):
        with pytest.raises(SettingError, match="cannot search deterministically") as error:
            mu.search(PROGRAM, mu.algorithms.Random(), deterministic=True, **changes)
        assert error.value.at == place


class Unlucky(Inline):
    """Loses the first outcomes of every trial."""

    def __init__(self, losses, kind=LOST):
        self.losses, self.kind = losses, kind

    def open(self, task, on_message, **limits):
        pool = super().open(task, on_message, **limits)
        wait, left = pool.wait, {}

        def unlucky(timeout=None):
            found = []
            for outcome in wait(timeout):
                count = left.setdefault(outcome.key, self.losses)
                left[outcome.key] = count - 1
                found.append(Outcome(outcome.key, self.kind, reason="its node is gone") if count > 0 else outcome)
            return found

        pool.wait = unlucky
        return pool


def test_a_trial_whose_machine_is_lost_runs_again():
    study = mu.search(PROGRAM, mu.algorithms.Grid(), objective=quadratic, executor=Unlucky(2))
    assert study.counts() == {"completed": 10}


def test_a_trial_that_is_lost_again_and_again_fails():
    with pytest.warns(MutandisWarning, match="its node is gone"):
        study = mu.search(PROGRAM, mu.algorithms.Grid(), objective=quadratic, executor=Unlucky(3), trials=3)
    assert study.counts() == {"failed": 3}
    with pytest.warns(MutandisWarning):
        study = mu.search(PROGRAM, mu.algorithms.Grid(), objective=quadratic, executor=Unlucky(1, CRASHED), trials=3)
    assert study.counts() == {"failed": 3}


class Interrupted(Inline):
    """Ctrl-C comes while the fourth trial runs."""

    def open(self, task, on_message, **limits):
        pool = super().open(task, on_message, **limits)
        wait, count = pool.wait, iter(range(99))

        def interrupted(timeout=None):
            if next(count) == 3:
                raise KeyboardInterrupt
            return wait(timeout)

        pool.wait = interrupted
        return pool


def test_an_interrupt_returns_what_there_is():
    with pytest.warns(MutandisWarning, match="the search was interrupted; 1 running trials count as abandoned"):
        study = mu.search(PROGRAM, mu.algorithms.Grid(), objective=quadratic, executor=Interrupted())
    assert study.counts() == {"completed": 3, "abandoned": 1}
    again = mu.search(PROGRAM, mu.algorithms.Grid(), objective=quadratic, executor="inline", study=study)
    assert again.best.reward == 0.0
    assert len(again) == 10


def test_time_that_is_over_begins_no_further_trial():
    study = mu.search(PROGRAM, mu.algorithms.Random(), objective=slow_for_small, executor="inline", timeout=0.3)
    assert 1 <= len(study) < 40


@pytest.mark.parametrize(("executor", "expected"), [("process", "did you mean 'processes'"), (3, "an Executor")])
def test_an_unknown_executor_is_refused(executor, expected):
    with pytest.raises(SettingError, match=expected):
        mu.search(PROGRAM, mu.algorithms.Random(), executor=executor)


@pytest.mark.parametrize("name", ["workers", "max_failures", "trials", "trial_timeout", "memory_bytes", "timeout"])
def test_amounts_below_one_are_refused(name):
    with pytest.raises(SettingError, match=name):
        mu.search(PROGRAM, mu.algorithms.Random(), **{name: 0})


def test_a_script_of_a_user_runs(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(
        "import mutandis as mu\n"
        "@mu.symbolize\n"
        "class Trainer:\n"
        "    def __init__(self, x):\n"
        "        self.x = x\n"
        "    def run(self):\n"
        "        return -abs(self.x - 3)\n"
        "if __name__ == '__main__':\n"
        "    study = mu.search(Trainer(mu.intv(0, 5)), mu.algorithms.Grid(), workers=2)\n"
        "    print(study.best.child().x, len(study))\n"
    )
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=environment, timeout=120,
                          check=True)  # fmt: skip
    assert done.stdout.split() == ["3", "6"]
    assert done.stderr == ""


def test_no_warning_without_a_failure():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mu.search(PROGRAM, mu.algorithms.Random(), trials=3, objective=quadratic, executor="inline")


def test_callbacks_hear_of_every_trial_that_has_ended():
    heard = []
    study = mu.search(PROGRAM, mu.algorithms.Grid(), objective=quadratic, executor="inline",
                      callbacks=[lambda study, trial: heard.append((len(study), trial))])  # fmt: skip
    assert [trial for _, trial in heard] == list(study.trials)
    with pytest.raises(SettingError, match="cannot call back"):
        mu.search(PROGRAM, mu.algorithms.Grid(), callbacks=print)


@pytest.mark.parametrize(
    ("program", "objective", "got", "why"),
    [
        (PROGRAM, None, "None (NoneType)", "a child is a dict"),
        (mu.space([mu.intv(0, 9)]), None, "None (NoneType)", "a child is a list"),
        (Trainer(mu.intv(0, 9)), 0.5, "0.5 (float)", "it is called with a child"),
    ],
)
def test_a_search_without_an_objective_is_refused_before_it_begins(tmp_path, program, objective, got, why):
    with pytest.raises(SettingError) as error:
        mu.search(program, mu.algorithms.Random(), objective=objective, study=tmp_path / "s.db")
    assert str(error.value) == (
        "cannot search\n"
        "  at:       objective\n"
        f"  got:      {got}\n"
        f"  expected: a function of the child, since {why}\n"
        "  fix:      pass objective=score, where score(child) returns the reward"
    )
    assert list(tmp_path.iterdir()) == []
