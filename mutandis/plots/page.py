"""A study as one HTML page that needs nothing else: no network, no script library, light and dark."""

from __future__ import annotations

import html
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from mutandis.errors import SettingError, in_words
from mutandis.flows import Study, Trial
from mutandis.flows.studies.study import is_finished
from mutandis.flows.studies.trial import RUNNING
from mutandis.plots import charts
from mutandis.plots.importance import importances
from mutandis.plots.svg import short
from mutandis.symbolic.code import to_python
from mutandis.symbolic.compare import diff
from mutandis.symbolic.describe import describe

_MOST_REASONS = 20
_STYLE = (resources.files("mutandis.plots") / "report.css").read_text(encoding="utf-8").strip()


def report(study: Study) -> str:
    """Returns a study as one self-contained HTML page.

    The page shows the search curve of every objective, the front of several, which decisions matter, all decisions at
    once, who worked when, the best trials, why others have no reward, and the best program as a tree, as code and as a
    difference from the default.

    Args:
        study: At least one trial of it must have ended.

    Raises:
        SettingError: nothing has ended yet.
    """
    if all(trial.state == RUNNING for trial in study.trials):
        raise SettingError("cannot report on a study", at=study.name, got=study.counts() or "no trials",
                           expected="at least one trial that has ended", fix="run the search first")  # fmt: skip
    best = study.best
    parts = [_head(study, best), *(_found(study, best) if best is not None else ())]
    started = {t.id: t.started for t in study.trials if t.started is not None}
    parts.append(_section("Who worked when", charts.timeline(study.trials, started)))
    if best is not None:
        parts.append(_section("The best trials", _table(study)))
    parts.append(_section("Trials without a reward", _reasons(study)))
    if best is not None:
        parts.append(_program(study, best))
    body = "\n".join(part for part in parts if part)
    title = html.escape(study.name)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<link rel="icon" href="data:,">\n<title>{title}</title>\n<style>\n{_STYLE}\n</style>\n</head>\n'
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def _found(study: Study, best: Trial) -> list[str]:
    """Returns the sections of what has a reward."""
    parts = []
    num_rated = sum(map(is_finished, study.trials))
    every = -(-num_rated // charts.MOST_DOTS)
    note = f"One dot in {every} is shown, and each trial that was the best so far." if every > 1 else ""
    for number, objective in enumerate(study.objectives):
        parts.append(_section(f"Search: {objective.name}", charts.search_curve(study, number), note))
    for second in range(1, len(study.objectives)):
        title = f"{study.objectives[second].name} against {study.objectives[0].name}"
        parts.append(_section(title, charts.pareto_front(study, 0, second)))
    shares = importances(study)
    parts.append(_section("What matters", charts.importance_bars(shares), "The share of the variance of the reward's "
                          "rank that a decision explains alone."))  # fmt: skip
    parts.append(_section("All decisions at once", charts.parallel_coordinates(study, list(shares)),
                          "A line is a trial; stronger lines are better."))  # fmt: skip
    return parts


def save_report(study: Study, path: str | Path) -> Path:
    """Writes `report(study)` to a file and returns its path."""
    target = Path(path)
    target.write_text(report(study), encoding="utf-8")
    return target


def _head(study: Study, best: Trial | None) -> str:
    counts = study.counts()
    seconds = sum(trial.seconds for trial in study.trials)
    states = ", ".join(f"{count} {state}" for state, count in counts.items())
    facts = [(str(len(study)), "trials"), (_duration(seconds), "of work in all")]
    if best is not None:
        facts += [
            (short(value), f"{objective.name} of trial {best.id}")
            for objective, value in zip(study.objectives, best.rewards or (), strict=True)
        ]
    shown = "".join(f'<div class="fact"><b>{html.escape(a)}</b>{html.escape(b)}</div>' for a, b in facts)
    title = f'<h1>{html.escape(study.name)}</h1>\n<p class="soft">{html.escape(states)}</p>'
    return f'{title}\n<div class="facts">{shown}</div>'


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 3600 else f"{seconds / 3600:.3g} h"


def _section(title: str, content: str, note: str = "") -> str:
    """Returns a section, or nothing where there is nothing to show."""
    if not content:
        return ""
    shown = f'<p class="soft">{html.escape(note)}</p>\n' if note else ""
    return f"<section>\n<h2>{html.escape(title)}</h2>\n{shown}<figure>{content}</figure>\n</section>"


def _table(study: Study) -> str:
    heads = ["trial", *(objective.name for objective in study.objectives), "seconds", "decisions"]
    return _rows(heads, [[str(trial.id), *(short(value) for value in trial.rewards or ()), short(trial.seconds),
                          str(trial.dna)] for trial in study.top(10)])  # fmt: skip


def _reasons(study: Study) -> str:
    """Returns why trials failed or were skipped, the most frequent reason first; nothing where none did."""
    numbers: dict[tuple[str, str], list[int]] = {}
    for trial in study.trials:
        if trial.rewards is None and trial.state != RUNNING:
            numbers.setdefault((trial.state, trial.reason or ""), []).append(trial.id)
    ranked = sorted(numbers.items(), key=lambda item: -len(item[1]))[:_MOST_REASONS]
    rows = [[str(len(found)), state, str(found[0]), reason] for (state, reason), found in ranked]
    return _rows(["trials", "state", "first", "reason"], rows) if rows else ""


def _rows(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    shown = ["<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>" for cells in rows]
    head = "".join(f"<th>{html.escape(name)}</th>" for name in heads)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(shown)}</tbody></table></div>'


def _program(study: Study, best: Trial) -> str:
    """Returns the best program as a tree, as code and beside the default; nothing for a space without a program."""
    space = study.space
    if space is None or (space.program is None and study.archive is None):
        return ""
    title = f"<h2>The program of trial {best.id}</h2>"
    try:
        child = best.child()
    except Exception as error:  # Its classes may not be imported here, and building it is other people's code.
        return f"<section>\n{title}\n<pre>{html.escape(f'not shown: {in_words(error)}')}</pre>\n</section>"
    blocks = {
        "As a tree": _shown(describe, child),
        "As a difference from the default": _shown(lambda: diff(space.materialize(space.default()), child)),
        "As code": _shown(to_python, child),
    }
    shown = "\n".join(f"<div><h3>{name}</h3><pre>{html.escape(body)}</pre></div>" for name, body in blocks.items())
    return f'<section>\n{title}\n<div class="columns">{shown}</div>\n</section>'


def _shown(function: Any, *arguments: Any) -> str:
    """Returns what a function says, or why it cannot: a page must not fail for one of its blocks."""
    try:
        return str(function(*arguments)) or "no difference"
    except Exception as error:  # Programs are other people's code, and this is only a picture of it.
        return f"not shown: {in_words(error)}"


__all__ = ["report", "save_report"]
