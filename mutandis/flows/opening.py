"""How a search begins: arguments are checked, the program becomes a space, the study is opened and caught up with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mutandis.algorithms import Algorithm, Search
from mutandis.algorithms.schedulers import Pacing, Scheduler
from mutandis.errors import SettingError, SpaceError
from mutandis.flows.engine import Engine, resumed
from mutandis.flows.studies import Study
from mutandis.flows.studies.objectives import parse_objectives
from mutandis.hyper import Point, SearchSpace, space, trace


def begin(
    program: Any,
    algorithm: Algorithm,
    *,
    study: Study | None,
    objectives: Sequence[str] | str,
    seed: int,
    where: Callable[[Point], bool] | str | None = None,
    scheduler: Scheduler | None = None,
) -> tuple[SearchSpace, Engine]:
    """Returns the space of a search, and its engine, which has been through the trials of the study.

    The arguments are those of `sample`, which documents them.

    Raises:
        SpaceError: the program has no decisions, or the study is of another space.
        SettingError: an argument is none, or the algorithm cannot search this space.
    """
    if not isinstance(algorithm, Algorithm):
        raise SettingError(
            "cannot search with this algorithm",
            at="algorithm",
            got=algorithm,
            expected="an instance of a mu.algorithms class",
            fix=f"write {algorithm.__name__}()" if isinstance(algorithm, type) else "use mu.algorithms.Random()",
        )
    if study is not None and not isinstance(study, Study):
        raise SettingError(
            "cannot record a search",
            at="study",
            got=study,
            expected="a mu.Study(); this release keeps studies in memory only",
            fix="pass study=mu.Study() and write study.rows() where you need it",
        )
    if scheduler is not None and not isinstance(scheduler, Scheduler):
        raise SettingError(
            "cannot schedule trials",
            at="scheduler",
            got=scheduler,
            expected="an instance of a mu.algorithms.schedulers class",
            fix=f"write {scheduler.__name__}(...)" if isinstance(scheduler, type) else "use schedulers.Median()",
        )
    searched = as_space(program, where)
    record = study or Study()
    chosen = parse_objectives(objectives)
    record.open(searched, chosen)
    bare = searched.bare()

    def start() -> tuple[Search, Pacing | None]:
        search = algorithm.start(bare, seed=seed, num_objectives=len(chosen))
        pacing = None if scheduler is None else scheduler.start(seed=seed, num_objectives=len(chosen))
        return search, pacing

    return searched, resumed(start, searched, record)


def need_amount(name: str, value: Any, kinds: Any) -> None:
    """Refuses a limit that is neither None nor a number above 0.

    Raises:
        SettingError: it is not.
    """
    if value is not None and (not isinstance(value, kinds) or isinstance(value, bool) or not value > 0):
        what = "an int" if kinds is int else "a number"
        raise SettingError("cannot sample", at=name, got=value, expected=f"{what} above 0, or None for no limit",
                           fix=f"give a larger number, or leave {name} out")  # fmt: skip


def as_space(program: Any, where: Callable[[Point], bool] | str | None = None) -> SearchSpace:
    """Returns the space of a program, or the part of it that `where` takes.

    Raises:
        SpaceError: there is nothing to decide.
    """
    if callable(program) and hasattr(program, "__code__"):
        program = trace(program)
    made = space(program)
    if not made.points:
        raise SpaceError(
            "cannot sample a program without decisions",
            got=program,
            expected="at least one hyper value in its arguments",
            fix="put mu.oneof([...]), mu.floatv(low, high) or another hyper value where something shall be searched",
        )
    if where is None:
        return made
    outer, _ = made.split(where)
    if not outer.points:
        raise SpaceError(
            "cannot sample: `where` takes no decision",
            at="where",
            got=where,
            expected=f"some of {', '.join(point.path or '(the root)' for point in made.points[:8])}",
            fix="test your predicate on mu.space(program).points",
        )
    return outer


__all__ = ["as_space", "begin", "need_amount"]
