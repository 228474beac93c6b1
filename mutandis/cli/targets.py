"""`train.py:program` and `package.module:function`: from what a user writes to the object.

A script is imported under its own module name, so that what it defines can be pickled by that name and found again by
a worker, which gets the same `sys.path`.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mutandis.errors import SettingError, UndecidedError, closest
from mutandis.hyper import Derived, HyperValue, SearchSpace, TracedProgram, trace
from mutandis.symbolic import is_symbolic

_PROGRAMS = (HyperValue, SearchSpace, TracedProgram)


def split_target(text: str, *, example: str = "train.py:program") -> tuple[str, str]:
    """Returns the script or module and the name of `where:name`.

    Raises:
        SettingError: one of them is missing.
    """
    where, _, name = text.rpartition(":")
    if not where or not name.replace(".", "_").isidentifier():
        raise SettingError("cannot read a target", at=text, expected="SCRIPT.py:NAME or package.module:NAME",
                           fix=f"write {example}")  # fmt: skip
    return where, name


def load(text: str, *, example: str = "train.py:program", folder: str | None = None) -> Any:
    """Returns the object that `where:name` names.

    Args:
        text: The target.
        example: What a message shows as one.
        folder: Where a module is looked for; by default the current directory.

    Raises:
        SettingError: there is no such script, module or name.
        Exception: what the script raises when it is imported.
    """
    where, name = split_target(text, example=example)
    module = import_place(where, folder=folder)
    found: Any = module
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise _unknown(text, name, module) from None
    return found


def load_program(text: str, *, folder: str | None = None) -> Any:
    """Returns the program that `where:name` names: the object, or what the function of that name returns.

    A function that decides while it runs becomes a traced program: one that cannot be called without a decision, or
    returns a number that hangs on one.

    Raises:
        SettingError: there is no such script, module or name, or the function needs arguments or returns nothing.
        Exception: what the script or the function raises.
    """
    found = load(text, folder=folder)
    if not isinstance(found, types.FunctionType) or is_symbolic(found):
        return found
    needed = [name for name, p in inspect.signature(found).parameters.items() if _is_needed(p)]
    if needed:
        raise SettingError("cannot get a program from a function", at=text, got=f"a function of {', '.join(needed)}",
                           expected="a function without arguments that returns the program",
                           fix="bind its arguments: program = mu.bind(function, ...)")  # fmt: skip
    try:
        program = found()
    except UndecidedError:
        return trace(found)
    if isinstance(program, Derived):
        return trace(found)
    if program is None:
        raise SettingError("cannot get a program from a function", at=text, got=program,
                           expected="a function that returns the program",
                           fix="return it; one that decides as it runs is program = mu.trace(function)")  # fmt: skip
    return program


def load_function(text: str, *, folder: str | None = None) -> Callable[..., Any]:
    """Returns the objective that `where:name` names.

    Raises:
        SettingError: there is no such script, module or name, or it cannot be called.
        Exception: what the script raises when it is imported.
    """
    found = load(text, example="train.py:score", folder=folder)
    if not callable(found):
        raise SettingError("cannot use an objective", at=text, got=found, expected="a function of the child",
                           fix="name a function")  # fmt: skip
    return found  # type: ignore[no-any-return]


def is_script(where: str) -> bool:
    """Returns whether a text names a file rather than a module."""
    return where.endswith(".py") or "/" in where or "\\" in where


def absolute(text: str) -> str:
    """Returns a target that means the same in any directory, as far as it names a file."""
    where, name = split_target(text)
    return f"{Path(where).resolve()}:{name}" if is_script(where) else text


def folder_of(text: str) -> str:
    """Returns where the module of a target is looked for: the current directory, or that of the script."""
    where, _ = split_target(text)
    return str(Path(where).resolve().parent) if is_script(where) else str(Path.cwd())


def import_place(where: str, *, folder: str | None = None) -> types.ModuleType:
    """Imports a script (`path/to/train.py`) or a module (`package.module`) and returns it.

    Args:
        where: The script or module.
        folder: Where a module is looked for; by default the current directory.

    Raises:
        SettingError: there is no such script or module, or the name of the script is taken.
        Exception: what it raises when it is imported.
    """
    if is_script(where):
        return _import_script(Path(where))
    place = Path.cwd() if folder is None else Path(folder)
    _put_first(place)
    try:
        return importlib.import_module(where)
    except ModuleNotFoundError as error:
        if error.name is None or not (where == error.name or where.startswith(error.name + ".")):
            raise  # A module that the script itself imports.
        raise SettingError("cannot find a module", at=where, expected=f"a module below {place}, or an installed "
                           "one", fix="write a path for a script: train.py:program") from None  # fmt: skip


def _import_script(script: Path) -> types.ModuleType:
    path = script.resolve()
    if not path.is_file():
        near = [str(script.with_name(other.name)) for other in path.parent.glob("*.py")]
        raise SettingError("cannot find a script", at=script, expected=f"a file{closest(str(script), near)}",
                           fix=f"check the path; it is looked for below {Path.cwd()}")  # fmt: skip
    names, root = [path.stem], path.parent
    while (root / "__init__.py").exists():  # A script inside a package has that package's name in front.
        names.insert(0, root.name)
        root = root.parent
    name = ".".join(names)
    _put_first(root)
    _check_name(name, path)
    return importlib.import_module(name)


def _check_name(name: str, path: Path) -> None:
    """Refuses a script that would not be what its name leads to, here or in a worker."""
    loaded = sys.modules.get(name)
    spec = importlib.util.find_spec(name) if loaded is None and "." not in path.stem else None
    origin = getattr(loaded, "__file__", None) if spec is None else spec.origin
    if origin is None or not Path(origin).exists() or not path.samefile(origin):
        raise SettingError(
            "cannot import a script under its own name",
            at=path,
            got=name,
            expected="a name that no other module has" if loaded is not None else "a name that can be imported",
            fix="rename the script",
        )


def _put_first(place: Path) -> None:
    """Makes modules of a directory importable, here and in workers, as Python does for the script that it runs."""
    if sys.path[:1] != [str(place)]:
        sys.path.insert(0, str(place))
        importlib.invalidate_caches()


def _is_needed(parameter: inspect.Parameter) -> bool:
    variadic = (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    return parameter.default is parameter.empty and parameter.kind not in variadic


def _unknown(text: str, name: str, module: types.ModuleType) -> SettingError:
    public = [key for key in vars(module) if not key.startswith("_")]
    programs = [key for key in public if is_symbolic(getattr(module, key)) or isinstance(vars(module)[key], _PROGRAMS)]
    programs = [key for key in programs if not isinstance(vars(module)[key], (type, types.FunctionType))]
    held = f"; the programs there are {', '.join(programs)}" if programs else ""
    return SettingError("cannot find a name", at=text, got=name,
                        expected=f"a name at the top level of {module.__name__}{closest(name, public)}{held}",
                        fix="define it there, outside of `if __name__ == \"__main__\":`")  # fmt: skip


__all__ = [
    "absolute",
    "folder_of",
    "import_place",
    "is_script",
    "load",
    "load_function",
    "load_program",
    "split_target",
]
