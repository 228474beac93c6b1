"""`mutandis space` and `algorithms`: what can be searched, and with what."""

from __future__ import annotations

import argparse
import inspect
import math
from typing import Any

from mutandis.cli import output
from mutandis.cli.choices import (
    ALIASES,
    algorithm_class,
    algorithm_names,
    scheduler_class,
    scheduler_names,
    settings_of,
    type_name,
)
from mutandis.cli.entry import DONE
from mutandis.cli.targets import load_program
from mutandis.errors import MissingDependency, SpaceError
from mutandis.hyper import SearchSpace
from mutandis.hyper import space as space_of_program
from mutandis.symbolic.describe import describe


def space(options: argparse.Namespace) -> int:
    """Describes the space of a program.

    Raises:
        SpaceError: the program describes none.
    """
    made = space_of_program(load_program(options.target))
    default = made.default()
    if options.json:
        points = [point.as_json() for point in made.points]
        output.show_json({"size": _size(made), "decisions": points, "default": default.literals(),
                          "fingerprint": made.fingerprint})  # fmt: skip
        return DONE
    size = _size(made)
    facts: dict[str, object] = {"decisions": len(made.points), "size": "continuous" if size == math.inf else size}
    facts["version"] = made.fingerprint
    output.show_facts(facts)
    if made.points:
        output.show_text("\n" + made.describe().partition("\n")[2])
    if made.program is not None:
        output.show_text("\nthe default child:\n" + describe(made.materialize(default)))
    return DONE


def _size(made: SearchSpace) -> int | float:
    """Returns the number of DNAs; where a predicate makes that unknown, the number without it."""
    try:
        return made.size
    except SpaceError:
        return made.bare().size


def algorithms(options: argparse.Namespace) -> int:
    """Lists algorithms or schedulers, or the settings of one.

    Raises:
        SettingError: there is none of that name.
        MissingDependency: it needs a library that is not installed.
    """
    names, class_of = (
        (scheduler_names(), scheduler_class) if options.schedulers else (algorithm_names(), algorithm_class)
    )
    if options.algorithm is not None:
        return _show_settings(class_of(options.algorithm), options.json)
    rows = [(name, ", ".join(_short_names(name)), _summary(name, class_of)) for name in names]
    if options.json:
        output.show_json([dict(zip(("name", "short", "summary"), row, strict=True)) for row in rows])
    else:
        output.show_table(("name", "also", "what it does"), rows)
    return DONE


def _show_settings(cls: type, as_json: bool) -> int:
    rows = [(name, type_name(hint), default) for name, (hint, default) in settings_of(cls).items()]
    if as_json:
        output.show_json([dict(zip(("name", "type", "default"), row, strict=True)) for row in rows])
        return DONE
    output.show_text(f"{cls.__name__}\n\n{inspect.getdoc(cls)}\n")
    output.show_table(("setting", "type", "default"), rows)
    return DONE


def _summary(name: str, class_of: Any) -> str:
    """Returns the first sentence of a docstring, or what is missing to know it."""
    try:
        return (inspect.getdoc(class_of(name)) or "").partition("\n")[0]
    except MissingDependency as error:
        return error.fix or error.problem


def _short_names(name: str) -> list[str]:
    return [alias.upper() for alias, proper in ALIASES.items() if proper == name and len(alias) <= 3]


__all__ = ["algorithms", "space"]
