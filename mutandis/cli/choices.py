"""Algorithms and schedulers by name: `REA`, `tpe`, `Deduped(RegularizedEvolution(50, 10))`, with settings as text."""

from __future__ import annotations

import ast
import dataclasses
import difflib
import re
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from mutandis import algorithms as algorithms_room
from mutandis.algorithms import Algorithm, evolution, predictors, schedulers
from mutandis.algorithms.evolution import Operation
from mutandis.algorithms.schedulers import Scheduler
from mutandis.errors import MutandisError, SettingError, closest

ALIASES = {
    "agingevolution": "RegularizedEvolution", "re": "RegularizedEvolution", "rea": "RegularizedEvolution",
    "rs": "Random", "randomsearch": "Random", "gridsearch": "Grid", "ls": "LocalSearch", "hc": "HillClimb",
    "bo": "GaussianProcess", "bayesian": "GaussianProcess", "gp": "GaussianProcess", "cma": "CMAES",
    "nsgaii": "NSGA2", "nsgaiii": "NSGA3", "rl": "Reinforce", "rnn": "PolicyRNN", "metaqnn": "QLearning",
    "hb": "Hyperband", "successivehalving": "SuccessiveHalving",
}  # fmt: skip
"""Common short names, without case and punctuation."""

_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_NUMBERS = (int, float)


def algorithm_names() -> tuple[str, ...]:
    """Returns the names of all algorithms, without importing them."""
    return tuple(n for n in algorithms_room.__all__ if n[0].isupper() and n not in ("Algorithm", "Search"))


def scheduler_names() -> tuple[str, ...]:
    """Returns the names of all schedulers."""
    return tuple(n for n in schedulers.__all__ if n not in ("Directive", "Pacing", "Scheduler"))


def algorithm_class(name: str) -> type[Algorithm]:
    """Returns the class of a name or short name, whatever its case.

    Raises:
        SettingError: there is none.
        MissingDependency: it needs a library that is not installed.
    """
    found: type[Algorithm] = getattr(
        algorithms_room, _match(name, algorithm_names(), "an algorithm", "mutandis algorithms")
    )
    return found


def scheduler_class(name: str) -> type[Scheduler]:
    """Returns the scheduler of a name, whatever its case.

    Raises:
        SettingError: there is none.
    """
    found: type[Scheduler] = getattr(
        schedulers, _match(name, scheduler_names(), "a scheduler", "mutandis algorithms --schedulers")
    )
    return found


def choose_algorithm(text: str, settings: Sequence[tuple[str, str]] = ()) -> Algorithm:
    """Returns the algorithm of `NAME` or `NAME(...)`, with settings as `--set` gives them.

    Raises:
        SettingError: something has no such name, or a setting does not fit.
        MissingDependency: it needs a library that is not installed.
    """
    return _chosen(text, settings, Algorithm, algorithm_class, "--set")  # type: ignore[no-any-return]


def choose_scheduler(text: str, settings: Sequence[tuple[str, str]] = ()) -> Scheduler:
    """Returns the scheduler of `NAME` or `NAME(...)`, with settings as `--scheduler-set` gives them.

    Raises:
        SettingError: something has no such name, or a setting does not fit.
    """
    return _chosen(text, settings, Scheduler, scheduler_class, "--scheduler-set")  # type: ignore[no-any-return]


def settings_of(cls: type) -> dict[str, tuple[Any, str]]:
    """Returns the settings of a class by name: their type, and the default as text (empty where there is none)."""
    hints = typing.get_type_hints(cls)
    return {f.name: (hints[f.name], _default_of(f)) for f in dataclasses.fields(cls)}


def type_name(hint: Any) -> str:
    """Returns a type as people write it."""
    if isinstance(hint, type) and not typing.get_args(hint):
        return hint.__name__
    return re.sub(r"\b[a-zA-Z_][\w.]*\.(?=\w)", "", str(hint))


def read_value(text: str, hint: Any, *, at: str) -> Any:
    """Returns the value that a text means for a setting of a type.

    Args:
        text: What was written; for anything but a number, a bool or a text, an expression such as `(1, 2)` or
            `Uniform()`.
        hint: The type of the setting.
        at: How messages call the setting.

    Raises:
        SettingError: it is no such value.
    """
    try:
        return _read(text, hint)
    except SettingError:
        raise
    except (ValueError, SyntaxError) as error:
        reason = f", but {error}" if isinstance(error, ValueError) and not _is_simple(hint) else ""
        raise SettingError("cannot read a setting", at=at, got=text, expected=f"{type_name(hint)}{reason}",
                           fix="mutandis algorithms NAME lists settings and their defaults") from None  # fmt: skip


def _chosen(text: str, settings: Sequence[tuple[str, str]], kind: type, class_of: Any, option: str) -> Any:
    head = text.strip()
    arguments: list[Any] = []
    keywords: dict[str, Any] = {}
    if "(" in head:
        head, arguments, keywords = _call_parts(head, kind)
    cls = class_of(head)
    known = settings_of(cls)
    for name, value in settings:
        if name not in known:
            raise SettingError("cannot find a setting", at=cls.__name__, got=name,
                               expected=f"one of {', '.join(known) or 'no settings at all'}{closest(name, known)}",
                               fix=f"mutandis algorithms {cls.__name__} lists them")  # fmt: skip
        keywords[name] = read_value(value, known[name][0], at=f"{cls.__name__}.{name}")
    return _made(cls, arguments, keywords, option)


def _made(cls: type, arguments: Sequence[Any], keywords: Mapping[str, Any], option: str = "--set") -> Any:
    """Returns an instance; says which settings are missing where it cannot do without."""
    fields = [f for f in dataclasses.fields(cls) if f.init] if dataclasses.is_dataclass(cls) else []
    given = {f.name for f in fields[: len(arguments)]} | set(keywords)
    missing = [f.name for f in fields if f.name not in given and not _default_of(f)]
    if missing:
        raise SettingError(f"cannot make {cls.__name__}", at=cls.__name__, expected=f"{', '.join(missing)} given",
                           fix=" ".join(f"{option} {name}=..." for name in missing))  # fmt: skip
    try:
        return cls(*arguments, **keywords)
    except TypeError as error:
        if isinstance(error, MutandisError):
            raise
        raise SettingError(f"cannot make {cls.__name__}", at=cls.__name__, expected=f"its settings, but {error}",
                           fix=f"mutandis algorithms {cls.__name__} lists them") from None  # fmt: skip


def _default_of(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        return repr(field.default)
    return "" if field.default_factory is dataclasses.MISSING else repr(field.default_factory())


def _match(name: str, names: Sequence[str], what: str, lister: str) -> str:
    """Returns the proper name of a name without regard to case, punctuation and habit."""
    folded = {_fold(proper): proper for proper in names}
    known = {**{alias: proper for alias, proper in ALIASES.items() if proper in names}, **folded}
    found = known.get(_fold(name))
    if found is None:
        close = dict.fromkeys(known[x] for x in difflib.get_close_matches(_fold(name), known, n=3, cutoff=0.55))
        near = f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
        raise SettingError(f"cannot find {what}", got=name, expected=f"one of {', '.join(names)}{near}",
                           fix=f"{lister} tells more of each")  # fmt: skip
    return found


def _fold(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).lower()


def _is_simple(hint: Any) -> bool:
    return all(member in (bool, int, float, str, type(None)) for member in typing.get_args(hint) or (hint,))


def _read(text: str, hint: Any) -> Any:
    members = typing.get_args(hint) if _is_union(hint) else (hint,)
    if type(None) in members and text.lower() in ("none", "null"):
        return None
    if bool in members:
        if text.lower() not in _WORDS:
            raise ValueError
        return _WORDS[text.lower()]
    for kind in _NUMBERS:
        if kind in members:
            try:
                return kind(text)
            except ValueError:
                continue
    if str in members:
        return text
    if all(member in (*_NUMBERS, type(None)) for member in members):
        raise ValueError
    return _evaluate(ast.parse(text, mode="eval").body, Algorithm)


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def _call_parts(text: str, kind: type) -> tuple[str, list[Any], dict[str, Any]]:
    """Returns the name, the arguments and the keywords of `NAME(...)`."""
    try:
        node = ast.parse(text, mode="eval").body
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            raise ValueError("it is no call of a name")
        arguments = [_evaluate(argument, kind) for argument in node.args]
        return node.func.id, arguments, {str(k.arg): _evaluate(k.value, kind) for k in node.keywords}
    except MutandisError:
        raise
    except (ValueError, SyntaxError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        raise SettingError("cannot read an expression", at=text, expected=f"NAME(VALUE, NAME=VALUE), but {reason}",
                           fix="write names, numbers and texts only: Deduped(REA(50, 10))") from None  # fmt: skip


def _evaluate(node: ast.expr, kind: type) -> Any:
    """Returns the value of an expression of literals and settings; nothing else can be named or called."""
    if isinstance(node, ast.Name):
        return _made(_named(node.id, kind), (), {})
    if isinstance(node, ast.Call):
        if not isinstance(node.func, ast.Name):
            raise ValueError("only a name can be called")
        keywords = {str(keyword.arg): _evaluate(keyword.value, kind) for keyword in node.keywords}
        return _made(_named(node.func.id, kind), [_evaluate(argument, kind) for argument in node.args], keywords)
    if isinstance(node, (ast.List, ast.Tuple)):
        made = [_evaluate(item, kind) for item in node.elts]
        return made if isinstance(node, ast.List) else tuple(made)
    if isinstance(node, ast.BinOp):
        return _combined(_evaluate(node.left, kind), node.op, _evaluate(node.right, kind))
    return ast.literal_eval(node)


def _combined(left: Any, operator: ast.operator, right: Any) -> Any:
    """Returns `a >> b`, `a + b` or `a * n` of operations of an evolution."""
    if isinstance(left, Operation) and isinstance(operator, ast.RShift):
        return left >> right
    if isinstance(left, Operation) and isinstance(operator, ast.Add):
        return left + right
    if isinstance(left, Operation) and isinstance(operator, ast.Mult):
        return left * right
    raise ValueError("only operations of an evolution are combined, by >>, + and *")


def _named(name: str, kind: type) -> Any:
    """Returns the class of settings that a name means inside of an expression."""
    rooms = (schedulers, evolution, predictors) if kind is Scheduler else (evolution, predictors)
    for room in rooms:
        if name in room.__all__ and isinstance(getattr(room, name), type):
            return getattr(room, name)
    if name in ("nan", "inf"):
        raise ValueError(f"{name} is no value")
    return algorithm_class(name)


__all__ = [
    "ALIASES", "algorithm_class", "algorithm_names", "choose_algorithm", "choose_scheduler", "read_value",
    "scheduler_class", "scheduler_names", "settings_of", "type_name",
]  # fmt: skip
