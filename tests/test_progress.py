"""The progress bar: shown on a terminal or when asked for, silent elsewhere."""

from __future__ import annotations

import io
import sys

import pytest

import mutandis as mu
from mutandis.algorithms import Random
from mutandis.progress import Bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


def search(**options):
    for child, feedback in mu.sample(mu.oneof([5, 5]), Random(), trials=3, **options):
        feedback(child)


def test_a_search_is_silent_without_a_terminal(capfd):
    search()
    assert capfd.readouterr() == ("", "")


def test_a_search_is_silent_on_a_terminal_when_asked(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    search(progress=False)
    assert terminal.getvalue() == ""


@pytest.mark.parametrize(("stream", "progress"), [(Terminal, None), (io.StringIO, True)])
def test_a_search_shows_how_far_it_is_and_the_best(monkeypatch, stream, progress):
    shown = stream()
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    search(progress=progress)
    assert "3/3" in shown.getvalue()
    assert "best 5 (trial 0)" in shown.getvalue()


def test_standard_output_is_left_alone(capsys):
    search(progress=True)
    assert capsys.readouterr().out == ""


def test_a_bar_shows_at_most_ten_steps_a_second(monkeypatch):
    monkeypatch.setattr("mutandis.progress.time.monotonic", lambda: 0.0)
    calls = []

    with Bar(100, show=True) as bar:
        bar._open()
        monkeypatch.setattr(bar._progress, "update", lambda task, completed, text: calls.append(completed))
        for done in range(1, 101):
            bar.update(done, "")
    assert calls == [100]


def test_a_bar_that_was_closed_stays_closed(capsys):
    bar = Bar(2, show=True)
    bar.update(1, "one")
    bar.close()
    before = capsys.readouterr().err
    bar.update(2, "two")
    bar.close()
    assert before != ""
    assert capsys.readouterr().err == ""


def test_a_bar_that_was_never_updated_prints_nothing(capsys):
    with Bar(None, show=True):
        pass
    assert capsys.readouterr().err == ""


def test_nested_bars_do_not_disturb_each_other(capsys):
    for _, feedback in mu.sample(mu.boolv(), Random(), trials=2, progress=True):
        search(progress=True)
        feedback(1)
    assert "2/2" in capsys.readouterr().err
