"""The pictures of a study: its curve, its front, what matters, all decisions at once, and who worked when."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from mutandis.flows import Study, Trial
from mutandis.flows.studies.study import is_finished
from mutandis.hyper import Point
from mutandis.plots.svg import Scale, axes, element, fitted, picture, short, text

WIDTH, HEIGHT = 720, 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 20, 30, 290
_WIDE = 1000
_MOST_AXES = 8
_MOST_LINES = 400
MOST_DOTS = 4000
_FEW = 500  # Up to so many dots are large.


def search_curve(study: Study, objective: int = 0) -> str:
    """Returns the reward of every trial by number, and the best so far as a line; nothing where nothing was rated."""
    rated = [trial for trial in study.trials if is_finished(trial)]
    if not rated:
        return ""
    target = study.objectives[objective]
    values = [(trial.rewards or ())[objective] for trial in rated]
    x = Scale(0, max(len(study.trials) - 1, 1), _LEFT, WIDTH - _RIGHT)
    y = fitted(values, _BOTTOM, _TOP)
    best = values[0]
    path = [f"M {x(rated[0].id):.1f} {y(best):.1f}"]
    bests = {rated[0].id}
    for trial, value in zip(rated, values, strict=True):
        if target.sign * value > target.sign * best:
            path.append(f"H {x(trial.id):.1f} V {y(value):.1f}")
            best = value
            bests.add(trial.id)
    path.append(f"H {x.end:.1f}")
    drawn = thinned(rated, bests)
    dots = [_dot(x(t.id), y((t.rewards or ())[objective]), t, "dot cut" if t.state != "completed" else "dot", drawn)
            for t in drawn]  # fmt: skip
    label = target.name + (" (smaller is better)" if target.sign < 0 else "")
    line = element("path", d=" ".join(path), class_="line")
    return picture(WIDTH, HEIGHT, f"{target.name} by trial", axes(x, y, "trial", label), *dots, line)


def thinned(trials: Sequence[Trial], kept: Collection[int]) -> Sequence[Trial]:
    """Returns no more trials than a page can show, at even distances.

    Args:
        trials: By number.
        kept: The numbers of those that stay in any case.
    """
    every = -(-len(trials) // MOST_DOTS)
    return [trial for place, trial in enumerate(trials) if place % every == 0 or trial.id in kept]


def _dot(x: float, y: float, trial: Trial, kind: str, drawn: Sequence[Trial]) -> str:
    is_small = len(drawn) > _FEW
    kind += " many" if is_small else ""
    return element("circle", element("title", text(trial)), cx=x, cy=y, r=2 if is_small else 3.5, class_=kind)


def pareto_front(study: Study, first: int = 0, second: int = 1) -> str:
    """Returns all rated trials by two objectives, and those that no other one dominates as a line."""
    rated = [trial for trial in study.trials if is_finished(trial)]
    if not rated or len(study.objectives) < 2:
        return ""
    one, two = study.objectives[first], study.objectives[second]
    front = {trial.id for trial in study.front}
    points = {t.id: ((t.rewards or ())[first], (t.rewards or ())[second]) for t in rated}
    x = fitted([a for a, _ in points.values()], _LEFT, WIDTH - _RIGHT)
    y = fitted([b for _, b in points.values()], _BOTTOM, _TOP)
    drawn = thinned(rated, front)
    dots = [_dot(x(points[t.id][0]), y(points[t.id][1]), t, "dot best" if t.id in front else "dot", drawn)
            for t in drawn]  # fmt: skip
    line = ""
    if len(study.objectives) == 2:
        ordered = sorted(points[number] for number in front)
        shown = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in ordered)
        line = element("polyline", points=shown, class_="line thin")
    return picture(WIDTH, HEIGHT, f"{two.name} against {one.name}",
                   axes(x, y, _named(one), _named(two)), line, *dots)  # fmt: skip


def _named(objective: object) -> str:
    name, sign = objective.name, objective.sign  # type: ignore[attr-defined]
    return f"{name} ({'larger' if sign > 0 else 'smaller'} is better)"


def importance_bars(shares: Mapping[str, float], most: int = 15) -> str:
    """Returns the shares as bars, the largest first.

    Args:
        shares: A number in [0, 1] by decision.
        most: How many are shown.
    """
    shown = [(name, share) for name, share in shares.items() if share > 0][:most]
    if not shown:
        return ""
    height, left = 24, 260
    scale = Scale(0, max(share for _, share in shown), left, WIDTH - 70)
    bars = []
    for row, (name, share) in enumerate(shown):
        y = 10 + row * height
        label = name if len(name) <= 38 else "..." + name[-35:]
        bars.append(element("text", text(label or "(the root)"), x=left - 10, y=y + 14, class_="tick end"))
        bars.append(element("rect", element("title", text(f"{name}: {share:.1%}")), x=left, y=y + 3, height=height - 8,
                            width=max(scale(share) - left, 1.0), class_="bar"))  # fmt: skip
        bars.append(element("text", text(f"{share:.0%}"), x=scale(share) + 6, y=y + 14, class_="tick"))
    return picture(WIDTH, 20 + height * len(shown), "What matters", *bars)


def parallel_coordinates(study: Study, paths: Sequence[str], objective: int = 0) -> str:
    """Returns one line per trial through an axis per decision and one for an objective.

    Args:
        study: The trials; the best 400 are shown.
        paths: Which decisions, by path or name; at most eight are shown.
        objective: Which objective is the last axis.
    """
    rated = sorted((t for t in study.trials if is_finished(t)), key=lambda t: study.signed(t)[objective])
    if not rated or study.space is None or not paths:
        return ""
    rated = rated[-_MOST_LINES:]
    points = [study.space.point(path) for path in paths[:_MOST_AXES]]
    values = [(t.rewards or ())[objective] for t in rated]
    last = fitted(values, _BOTTOM, _TOP, margin=0.0)
    places = [40 + i * (_WIDE - 170) / len(points) for i in range(len(points) + 1)]
    parts = []
    for rank, trial in enumerate(rated):
        heights = [_height(point, trial.dna.values[point.index]) for point in points]
        heights.append(last((trial.rewards or ())[objective]))
        parts.extend(_segments(places, heights, f"strand s{5 * rank // len(rated)}", trial))
    for x, point in zip(places, points, strict=False):
        parts.append(_axis(x, point.key or "(the root)", _marks(point)))
    marks = [(last(tick), short(tick)) for tick in last.ticks()]
    parts.append(_axis(places[-1], study.objectives[objective].name, marks))
    return picture(_WIDE, HEIGHT + 20, "All decisions at once; stronger lines are better", *parts)


def _segments(places: Sequence[float], heights: Sequence[float | None], kind: str, trial: Trial) -> list[str]:
    """Returns the line of a trial; it is broken where a decision was not active."""
    made: list[str] = []
    run: list[str] = []
    for x, y in [*zip(places, heights, strict=True), (0.0, None)]:
        if y is not None:
            run.append(f"{x:.1f},{y:.1f}")
            continue
        if len(run) > 1:
            made.append(element("polyline", element("title", text(trial)), points=" ".join(run), class_=kind))
        run = []
    return made


def _height(point: Point, value: object) -> float | None:
    if value is None:
        return None
    place = point.to_unit(value)
    share = place[0] if len(place) == 1 else 0.5
    return _BOTTOM + share * (_TOP - _BOTTOM)


def _marks(point: Point) -> list[tuple[float, str]]:
    if point.kind == "choice":
        shown = [(i, str(label)) for i, label in enumerate(point.candidates)][:12]
        return [(_height(point, i) or 0.0, label if len(label) <= 12 else label[:10] + "...") for i, label in shown]
    if point.kind in ("float", "int"):
        return [(float(_BOTTOM), short(point.low)), (float(_TOP), short(point.high))]
    return []


def _axis(x: float, name: str, marks: Sequence[tuple[float, str]]) -> str:
    label = name if len(name) <= 20 else "..." + name[-17:]
    at = f"rotate(18 {x:.1f} {_BOTTOM + 22})"
    parts = [
        element("line", x1=x, x2=x, y1=_TOP, y2=_BOTTOM, class_="axis"),
        element("text", element("title", text(name)), text(label), x=x, y=_BOTTOM + 22, transform=at, class_="label"),
    ]
    parts += [element("text", text(mark), x=x + 5, y=y + 4, class_="tick halo") for y, mark in marks]
    return "".join(parts)


def timeline(trials: Sequence[Trial], started: Mapping[int, float]) -> str:
    """Returns who worked when: a row per worker, a bar per trial.

    Args:
        trials: Those that have ended.
        started: When each began, in seconds from any origin, by number; trials without are left out.
    """
    known = [trial for trial in trials if trial.id in started]
    if not known:
        return ""
    origin = min(started[t.id] for t in known)
    end = max(started[t.id] - origin + t.seconds for t in known)
    workers = {worker: row for row, worker in enumerate(dict.fromkeys(trial.worker for trial in known))}
    x = Scale(0, end or 1, 130, WIDTH - _RIGHT)
    bottom = 20 + 26 * len(workers)
    parts = []
    for tick in x.ticks():
        parts.append(element("line", x1=x(tick), x2=x(tick), y1=10, y2=bottom, class_="grid"))
        parts.append(element("text", text(short(tick)), x=x(tick), y=bottom + 16, class_="tick middle"))
    for worker, row in workers.items():
        label = worker if len(worker) <= 18 else "..." + worker[-15:]
        parts.append(element("text", text(label), x=120, y=30 + 26 * row, class_="tick end"))
    drawn: dict[tuple[str, str], float] = {}
    for trial in known:
        begin = started[trial.id] - origin
        if x(begin + trial.seconds) < drawn.get((trial.worker, trial.state), -1.0):
            continue  # It lies within the pixel of another one.
        drawn[trial.worker, trial.state] = x(begin) + 1.0
        parts.append(element("rect", element("title", text(trial)), x=x(begin), y=16 + 26 * workers[trial.worker],
                             width=max(x(begin + trial.seconds) - x(begin) - 0.5, 1.0), height=18,
                             class_=f"bar {trial.state}"))  # fmt: skip
    parts.append(element("text", text("seconds"), x=(x.start + x.end) / 2, y=bottom + 34, class_="label middle"))
    return picture(WIDTH, bottom + 44, "Who worked when", *parts)


__all__ = ["importance_bars", "parallel_coordinates", "pareto_front", "search_curve", "timeline"]
