"""`mutandis run` and `resume`."""

from __future__ import annotations

import json

import pytest
from cli_studies import make_study

import mutandis as mu
from mutandis.cli import running
from mutandis.cli.running import _interruptible

HEADS = ["trial", "state", "reward", "seconds", "decisions"]
INLINE = ("--executor", "inline")


def decisions(where):
    return [trial.dna.to_dict() for trial in mu.Study(where)]


def test_a_program_is_searched_and_the_five_best_are_shown(script, call):
    code, out, err = call("run", "train.py:program", "--trials", 8, "--algorithm", "RS", *INLINE)
    lines = out.splitlines()
    assert (code, err, len(lines)) == (0, "", 7)
    assert lines[0] == "the best of 8 trials" and lines[1].split() == HEADS
    rewards = [float(line.split()[2]) for line in lines[2:]]
    assert rewards == sorted(rewards, reverse=True)


def test_options_reach_the_search(script, call):
    argv = ("--algorithm", "REA", "--set", "population_size=3", "--set", "tournament_size=2", "--seed", 4)
    assert call("run", "train.py:program", "--trials", 9, "--study", "s.db", *argv, *INLINE)[0] == 0
    from train import program

    loop = mu.sample(program, mu.algorithms.RegularizedEvolution(3, 2), trials=9, seed=4)
    for child, feedback in loop:
        feedback(child.run())
    assert decisions("s.db") == [trial.dna.to_dict() for trial in loop.study]


@pytest.mark.parametrize(
    ("objectives", "name"), [((), "RegularizedEvolution"), (("--objectives", "accuracy,-cost"), "NSGA2")]
)
def test_the_algorithm_is_one_for_the_number_of_objectives_where_none_is_named(script, call, objectives, name):
    argv = ("--objective", "train.py:two" if objectives else "train.py:score", *objectives)
    assert call("run", "train.py:space", "--trials", 3, "--study", "s.db", *argv, *INLINE)[0] == 0
    assert name in mu.Study("s.db").archive.header.algorithm
    assert len(mu.Study("s.db").objectives) == max(len(objectives), 1)


def test_workers_import_the_script_from_any_directory(script, tmp_path_factory, monkeypatch, spawn):
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    argv = (f"{script}:space", "--objective", f"{script}:score", "--trials", 6, "--workers", 2, "--study", "s.db")
    done = spawn("run", *argv, "--trial-timeout", "1m", "--memory", "4GB", "--deterministic")
    assert done.returncode == 0, done.stderr
    assert mu.Study("s.db").counts() == {"completed": 6} and done.stderr == ""


def test_a_scheduler_is_taken(folder, call):
    (folder / "long.py").write_text(
        "import mutandis as mu\nspace = {'x': mu.intv(0, 20)}\ndef score(child, feedback):\n"
        "    for step in range(1, 5):\n        feedback.report({'reward': -child['x']}, step=step)\n"
        "        if feedback.should_stop():\n            break\n    return -child['x']\n"
    )
    argv = ("--scheduler", "median", "--scheduler-set", "min_trials=2", "--scheduler-set", "warmup=1")
    target = (
        "long.py:space",
        "--objective",
        "long.py:score",
        "--algorithm",
        "Random",
        "--trials",
        12,
        "--study",
        "s.db",
    )
    assert call("run", *target, *argv, *INLINE)[0] == 0
    assert mu.Study("s.db").counts()["stopped"] > 0


def test_json_is_for_machines(script, call):
    out = call("run", "train.py:program", "--trials", 3, "--json", *INLINE)[1]
    record = json.loads(out)
    assert record["counts"] == {"completed": 3} and record["best"] == record["trials"][0]["id"]


def test_an_objective_is_asked_for_where_the_children_cannot_run(script, call):
    code, out, err = call("run", "train.py:space", "--study", "s.db")
    assert (code, out) == (1, "") and not list(script.parent.glob("s.db*"))
    assert err == (
        "error: cannot search without an objective\n  at:       --objective\n  got:      {'x': intv(0, 20)} (dict)\n"
        "  expected: a function of the child, since a child of this program cannot be run\n"
        "  fix:      --objective SCRIPT.py:FUNCTION\n"
    )


def test_a_program_without_decisions_is_refused(script, call):
    code, _, err = call("run", "train.py:decided")
    assert code == 1 and err.startswith("error: cannot sample a program without decisions")


def test_an_unknown_executor_is_refused(script, call):
    assert call("run", "train.py:program", "--executor", "proceses") == (
        1, "",
        "error: cannot run trials\n  at:       --executor\n  got:      'proceses' (str)\n"
        "  expected: one of processes, inline, ray; did you mean 'processes'?\n"
        "  fix:      leave it out for worker processes of this machine\n",
    )  # fmt: skip


def test_a_search_whose_trials_all_fail_says_why(script, call):
    argv = ("--objective", "train.py:fails", "--max-failures", 2, "--trials", 5)
    code, out, err = call("run", "train.py:space", *argv, *INLINE)
    assert (code, out) == (1, "") and "warning: trial 0 failed: ValueError: never" in err
    assert "error: cannot go on: every trial fails" in err


def test_resume_needs_nothing_but_the_study(script, call, tmp_path_factory, monkeypatch):
    argv = ("--set", "population_size=3", "--set", "tournament_size=2", "--seed", 4, *INLINE)
    assert call("run", "train.py:program", "--trials", 12, "--study", "whole.db", *argv)[0] == 0
    assert call("run", "train.py:program", "--trials", 7, "--study", "s.db", *argv)[0] == 0
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    code, out, err = call("resume", script.parent / "s.db", "--trials", 12)
    assert (code, err) == (0, "") and out.startswith("the best of 12 trials")
    assert decisions(script.parent / "s.db") == decisions(script.parent / "whole.db")


def test_a_search_without_a_reward_has_failed(script, call):
    code, out, err = call("run", "train.py:space", "--objective", "train.py:fails", "--trials", 2, *INLINE)
    assert (code, out.splitlines()[:2]) == (1, ["study       in memory", "trials      2 (2 failed)"])
    assert err.endswith("no trial has a reward\n")


def test_resume_goes_on_to_the_number_of_trials_that_was_recorded(script, call):
    argv = ("--objective", "train.py:score", "--trials", 6, "--study", "s.db", "--algorithm", "RS", *INLINE)
    assert call("run", "train.py:space", *argv, "--timeout", "1e-9")[0] == 0
    assert len(mu.Study("s.db")) < 6
    assert call("resume", "s.db")[0] == 0 and len(mu.Study("s.db")) == 6


def test_what_is_done_is_not_done_again(script, call):
    argv = ("run", "train.py:program", "--trials", 3, "--study", "s.db", *INLINE)
    assert call(*argv)[2] == ""
    code, out, err = call("resume", "s.db")
    assert (code, err) == (0, "nothing to do: s.db has 3 trials; --trials says how many in all\n")
    assert out.startswith("the best of 3 trials") and len(mu.Study("s.db")) == 3


def test_resume_changes_what_is_said_and_keeps_that(script, call):
    assert call("run", "train.py:program", "--trials", 3, "--study", "s.db", *INLINE)[0] == 0
    assert call("resume", "s.db", "--trials", 5, "--algorithm", "RS")[0] == 0
    notes = mu.Study("s.db").archive.header.notes["command"]
    assert (notes["algorithm"], notes["trials"], notes["executor"]) == ("RS", 5, "inline")


def test_a_study_of_a_script_of_its_own_goes_on_with_what_it_records(script, call):
    make_study("s.db", trials=5, seed=3)
    argv = ("--objective", "train.py:two", *INLINE)
    assert call("resume", "s.db", *argv)[2] == (
        "error: cannot resume a study\n  at:       --trials\n  got:      None (NoneType)\n"
        "  expected: how many trials it shall have in all; it has 5\n  fix:      --trials 100\n"
    )
    code, _, err = call("resume", "s.db", *argv, "--trials", 8)
    assert (code, err) == (0, "") and len(mu.Study("s.db")) == 8
    make_study("whole.db", trials=8, seed=3)
    assert decisions("s.db") == decisions("whole.db")


def test_a_program_that_cannot_be_read_is_asked_for(folder, call, spawn):
    code = (
        "import mutandis as mu\n@mu.symbolize\nclass Alone:\n    def __init__(self, x):\n        self.x = x\n"
        "program = Alone(mu.intv(0, 9))\nif __name__ == '__main__':\n"
        "    for child, feedback in mu.sample(program, mu.algorithms.Random(), trials=2, study=mu.Study('s.db')):\n"
        "        feedback(child.x)\n"
    )
    (folder / "alone.py").write_text(code + "def score(child):\n    return child.x\n")
    import runpy

    runpy.run_path("alone.py", run_name="__main__")
    failed = spawn("resume", "s.db", "--trials", 4)
    assert failed.returncode == 1 and "Traceback" not in failed.stderr
    assert failed.stderr.endswith("give the program: mutandis resume s.db SCRIPT.py:NAME\n")
    done = call("resume", "s.db", "alone.py:program", "--objective", "alone.py:score", "--trials", 4, *INLINE)
    assert done[0] == 0 and mu.Study("s.db").counts() == {"completed": 4}


def test_an_algorithm_that_cannot_be_read_is_asked_for(script, call):
    study = mu.Study("s.db")
    algorithm = mu.algorithms.Constrained(mu.algorithms.Random(), lambda dna: True)
    for child, feedback in mu.sample({"x": mu.intv(0, 9)}, algorithm, trials=2, study=study):
        feedback(child["x"])
    argv = ("resume", "s.db", "--trials", 3, "--objective", "train.py:score", *INLINE)
    assert call(*argv)[2] == (
        "error: cannot resume a study\n  at:       --algorithm\n  got:      None (NoneType)\n"
        "  expected: the algorithm, which it does not record in words\n"
        "  fix:      --algorithm NAME, with its settings\n"
    )
    assert call(*argv, "--algorithm", "RS")[0] == 0


def test_an_interrupt_is_noted_and_the_handler_before_is_put_back():
    import os
    import signal

    before = signal.getsignal(signal.SIGINT)
    with _interruptible() as interrupts:
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        assert interrupts == [signal.SIGINT]
    assert signal.getsignal(signal.SIGINT) is before


@pytest.fixture
def asked(monkeypatch):
    """Replaces the search by one that only notes what it was asked for."""
    found = {}
    monkeypatch.setattr(running, "search", lambda program, algorithm, **arguments: found.update(arguments))
    return found


def test_limits_and_workers_reach_the_search(script, call, asked):
    argv = ("--timeout", "1h", "--trial-timeout", "10m", "--memory", "4GB", "--workers", 4, "--max-failures", 3)
    assert call("run", "train.py:program", *argv, "--deterministic")[0] == 0
    expected = {
        "timeout": 3600.0, "trial_timeout": 600.0, "memory_bytes": 4 * 10**9, "workers": 4, "max_failures": 3,
        "deterministic": True, "trials": 100, "seed": 0, "objectives": ("reward",), "objective": None,
        "scheduler": None,
    }  # fmt: skip
    assert {name: asked[name] for name in expected} == expected


def test_a_trial_that_still_runs_is_not_done(folder, call, asked):
    study = make_study("s.db", trials=2)
    study.add(study.space.default())
    (folder / "two.py").write_text("def score(child):\n    return {'accuracy': 1, 'cost': 1}\n")
    argv = ("resume", "s.db", "--objective", "two.py:score")
    assert call(*argv, "--trials", 3)[2] == ""
    assert call(*argv, "--trials", 2)[2].startswith("nothing to do: s.db has 3 trials")


def test_a_module_is_found_again_from_any_directory(script, spawn, tmp_path_factory, monkeypatch):
    assert spawn("run", "train:program", "--trials", 2, "--study", "s.db", *INLINE).returncode == 0
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    done = spawn("resume", script.parent / "s.db", "--trials", 3)
    assert (done.returncode, done.stderr) == (0, "")
