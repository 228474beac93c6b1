"""From the command line to an exit code: help, errors without tracebacks, interrupts, pipes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import warnings

import pytest
from cli_studies import make_study

from mutandis.cli import entry, main
from mutandis.errors import MutandisWarning, SettingError


@pytest.fixture
def command(monkeypatch):
    """Replaces the command `show` by a function."""

    def replace(function):
        monkeypatch.setattr(entry, "_command", lambda name: function)

    return replace


def raises(error):
    def function(options):
        raise error

    return function


def test_the_version_is_that_of_the_package(call):
    assert call("--version") == (0, "mutandis 0.1.0\n", "")


@pytest.mark.parametrize("argv", [(), ("shwo", "s.db"), ("show",), ("show", "s.db", "--top", "0"), ("export", "s.db")])
def test_a_command_line_that_is_none_exits_with_2(call, argv):
    code, out, err = call(*argv)
    assert (code, out) == (2, "") and err.startswith("usage: mutandis")


def test_no_command_at_all_shows_all_there_are(call):
    assert call() == (2, "", call("--help")[1])


def test_an_error_of_mutandis_is_its_message_without_a_traceback(call, command):
    error = SettingError("cannot do it", at="here", got=3, expected="4", fix="write 4")
    error.add_note("and a note")
    command(raises(error))
    message = (
        "error: cannot do it\n  at:       here\n  got:      3 (int)\n  expected: 4\n  fix:      write 4\nand a note\n"
    )
    assert call("show", "s.db") == (1, "", message)


def test_a_missing_file_is_named(call, command):
    command(raises(FileNotFoundError(2, "No such file or directory", "data.csv")))
    assert call("show", "s.db") == (1, "", "error: cannot find a file: data.csv\n")


@pytest.mark.parametrize("argv", [("--traceback", "show", "s.db"), ("show", "s.db", "--traceback")])
def test_traceback_lets_the_error_pass(command, argv):
    command(raises(SettingError("cannot do it")))
    with pytest.raises(SettingError, match="cannot do it"):
        main(argv)


def test_an_error_of_the_users_code_passes_as_it_is(command):
    command(raises(ZeroDivisionError("theirs")))
    with pytest.raises(ZeroDivisionError, match="theirs"):
        main(["show", "s.db"])


def test_ctrl_c_exits_with_130(call, command):
    command(raises(KeyboardInterrupt()))
    assert call("show", "s.db") == (130, "", "interrupted\n")


def test_a_warning_is_one_line_on_standard_error_each_time(call, command):
    def warn(options):
        for _ in range(2):
            warnings.warn("look out", MutandisWarning, stacklevel=1)
        return 0

    command(warn)
    assert call("show", "s.db") == (0, "", "warning: look out\nwarning: look out\n")


def test_every_command_of_the_parser_has_a_function():
    from mutandis.cli.parser import make_parser

    commands = make_parser()._subparsers._group_actions[0].choices
    assert set(commands) == set(entry._COMMANDS)
    assert all(callable(entry._command(name)) for name in commands)


def test_help_loads_nothing_heavy():
    heavy = "torch numpy rich mutandis.flows mutandis.algorithms optuna"
    code = (f"import sys; from mutandis.cli import main; main(['--help'])\n"
            f"print([name for name in {heavy.split()!r} if name in sys.modules])")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: mutandis") and done.stdout.endswith("[]\n")


def test_a_reader_that_has_gone_away_is_no_error(made):
    theirs, ours = os.pipe()
    os.close(theirs)
    argv = [sys.executable, "-m", "mutandis", "export", made, "--csv"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(argv, stdout=ours, stderr=subprocess.PIPE, text=True, check=False, env=environment)
    os.close(ours)
    assert (done.returncode, done.stderr) == (0, "")


def run_into(made, stdout, *argv, **environment):
    return subprocess.run([sys.executable, "-m", "mutandis", *argv, made], stdout=stdout, stderr=subprocess.PIPE,
                          text=True, check=False, env={**os.environ, **environment})  # fmt: skip


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_an_output_that_is_full_is_told_without_a_traceback(made, unbuffered):
    with open("/dev/full", "w") as full:
        done = run_into(made, full, "show", PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == 1
    assert done.stderr.startswith("error: cannot write to standard output\n  got:      OSError(28,")
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr


def test_a_closed_output_is_no_error(made):
    code = f"import sys; sys.stdout = None; from mutandis.cli import main; sys.exit(main(['show', {made!r}]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_letters_that_the_output_lacks_are_escaped(tmp_path):
    make_study(tmp_path / "st\xfcdy.db")
    done = run_into(str(tmp_path / "st\xfcdy.db"), subprocess.PIPE, "show", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert "st\\xfcdy.db" in done.stdout


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs pseudo-terminals")
def test_a_terminal_gets_colours_and_a_progress_bar_and_a_pipe_neither(script, spawn):
    ours, theirs = os.openpty()
    argv = [sys.executable, "-m", "mutandis", "run", "train.py:program", "--trials", "5", "--executor", "inline"]
    environment = {k: v for k, v in os.environ.items() if k != "NO_COLOR"} | {"TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # The other side is closed.
            break
        if not part:
            break
        shown += part
    os.close(ours)
    assert process.wait(30) == 0
    assert b"5/5" in shown and b"\x1b[1;32m" in shown and b"--study s.db keeps them" in shown

    piped = spawn(*argv[3:])
    assert piped.returncode == 0 and piped.stderr == ""
    assert "\x1b" not in piped.stdout and piped.stdout.startswith("the best of 5 trials\ntrial  state")


def test_ctrl_c_ends_a_search_gracefully_and_its_study_goes_on(folder, spawn):
    text = "import time, mutandis as mu\nspace = {'x': mu.intv(0, 20)}\ndef score(child):\n    time.sleep(0.05)\n"
    (folder / "slow.py").write_text(text + "    print('one', flush=True)\n    return child['x']\n")
    argv = ["run", "slow.py:space", "--objective", "slow.py:score", "--study", "s.db", "--trials", "1000",
            "--executor", "inline", "--algorithm", "Random"]  # fmt: skip
    process = subprocess.Popen([sys.executable, "-m", "mutandis", *argv], stdout=-1, stderr=-1, text=True)
    assert [process.stdout.readline() for _ in range(2)] == ["one\n"] * 2  # The first trial has ended.
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err and "interrupted" in err and "the best of" in out
    done = spawn("resume", "s.db", "--trials", "5")
    assert done.returncode == 0 and "running" not in spawn("show", "s.db").stdout
