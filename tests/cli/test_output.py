"""Tables, facts and JSON, on a terminal and in a pipe."""

from __future__ import annotations

import io
import math
import sys

import pytest

from mutandis.cli import output


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    """Makes standard output a terminal, when it is called inside of the test, and returns it."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.delenv("NO_COLOR", raising=False)

    def attach():
        shown = Terminal()
        monkeypatch.setattr(sys, "stdout", shown)
        return shown

    return attach


HEADS, ROWS = (
    ("trial", "reward", "decisions"),
    [(3, -0.0, "{[2].p: [red]}"), (12, None, "two\n lines"), (1, 0.1234567, "")],
)


def test_a_piped_table_is_aligned_text(capsys):
    output.show_table(HEADS, ROWS, title="best")
    assert capsys.readouterr().out == (
        "best\n"
        "trial    reward  decisions\n"
        "    3         0  {[2].p: [red]}\n"
        "   12            two lines\n"
        "    1  0.123457\n"
    )


def test_a_piped_table_cuts_nothing(capsys):
    output.show_table(("a", "b"), [("x" * 300, "y")])
    assert "x" * 300 + "  y\n" in capsys.readouterr().out


def test_a_table_without_rows_is_its_head(capsys):
    output.show_table(("a", "b"), [])
    assert capsys.readouterr().out == "a  b\n"


def test_a_table_on_a_terminal_has_colours_and_keeps_brackets(terminal):
    shown = terminal()
    output.show_table(HEADS, ROWS, title="best", marked=0)
    text = shown.getvalue()
    marked, other = (next(line for line in text.splitlines() if part in line) for part in ("[2].p: [red]", "two lines"))
    assert "best" in text and "\x1b[1;32m" in marked and "\x1b" not in other


def test_a_table_on_a_terminal_folds_what_is_too_long(terminal):
    shown = terminal()
    output.show_table(("a",), [("x" * 100,)])
    assert shown.getvalue().count("x") == 100


@pytest.mark.parametrize("columns", ["20", "42"])
def test_numbers_are_not_broken_on_a_narrow_terminal(terminal, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    shown = terminal()
    output.show_table(
        ("trial", *"ab", "decisions"), [(12, -0.00800541, "RegularizedEvolution", "lr: 0.1, width: 32, layers: 3")]
    )
    shown_row = next(line for line in shown.getvalue().splitlines() if "lr" in line)
    assert shown_row.split()[:3] == ["12", "-0.00800541", "RegularizedEvolution"]


def test_no_color_is_respected(terminal, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    shown = terminal()
    output.show_table(HEADS, ROWS, marked=0)
    assert "two lines" in shown.getvalue() and "\x1b[1;32m" not in shown.getvalue()


def test_facts_are_aligned(capsys):
    output.show_facts({"study": "s.db", "best": 3.0, "none": None})
    assert capsys.readouterr().out == "study  s.db\nbest   3\nnone\n"


def test_facts_have_colours_on_a_terminal(terminal):
    shown = terminal()
    output.show_facts({"study": "s.db", "best": 3.0})
    assert "s.db" in shown.getvalue() and "\x1b[1;36m" in shown.getvalue()


def test_code_is_plain_in_a_pipe(capsys):
    output.show_code("x = 1\n")
    assert capsys.readouterr().out == "x = 1\n"


def test_code_has_colours_on_a_terminal(terminal):
    shown = terminal()
    output.show_code("x = 1\n")
    assert "\x1b" in shown.getvalue()


def test_a_note_goes_to_standard_error(capsys):
    output.note("well")
    assert capsys.readouterr() == ("", "well\n")


@pytest.mark.parametrize(("value", "made"), [
    (math.nan, None), (math.inf, None), (0.5, 0.5), (True, True), ((1, 2), [1, 2]),
    ({1: {"a": (None,)}}, {"1": {"a": [None]}}),
    (int, "<class 'int'>"),
])  # fmt: skip
def test_what_json_lacks_is_null_or_text(value, made):
    assert output.plain(value) == made


def test_json_is_json(capsys):
    output.show_json({"a": math.nan})
    assert capsys.readouterr().out == '{\n  "a": null\n}\n'
