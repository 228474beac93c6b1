"""The object tree: symbolic classes, calls, paths, and what can be done with them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

from mutandis.errors import SymbolicError
from mutandis.symbolic.building import clone as clone
from mutandis.symbolic.calls import Call as Call
from mutandis.symbolic.calls import Partial as Partial
from mutandis.symbolic.calls import bind as bind
from mutandis.symbolic.calls import partial as partial
from mutandis.symbolic.calls import symbolize_function
from mutandis.symbolic.classes.decorate import symbolize_class
from mutandis.symbolic.classes.wrap import wrapper_of
from mutandis.symbolic.record import arguments as arguments
from mutandis.symbolic.record import is_abstract as is_abstract
from mutandis.symbolic.record import is_symbolic as is_symbolic
from mutandis.symbolic.traverse import get as get
from mutandis.symbolic.traverse import query as query
from mutandis.symbolic.traverse import traverse as traverse
from mutandis.symbolic.undecided import REQUIRED as REQUIRED
from mutandis.symbolic.undecided import Undecided as Undecided

T = TypeVar("T", bound=Callable[..., Any])


def symbolize(target: T) -> T:
    """Makes a class or function symbolic.

    A class that is defined where `symbolize` is called is changed in place and stays the same object: its
    `__init__` also remembers its arguments. A class that comes from another module stays untouched; a cached
    subclass is returned. A function returns a symbolic call when an argument is undecided.

    Args:
        target: The class or function; usable as a decorator (the outermost one).

    Returns:
        The class itself, a symbolic subclass of somebody else's class, or the wrapped function.

    Raises:
        SymbolicError: it cannot be made symbolic, with the reason and what to use instead.
    """
    if isinstance(target, type):
        if target.__module__ == sys._getframe(1).f_globals.get("__name__"):
            return symbolize_class(target)
        return wrapper_of(target)  # type: ignore[return-value]
    if not callable(target) or (hasattr(target, "__wrapped__") and isinstance(target.__wrapped__, type)):
        raise SymbolicError(
            "cannot symbolize a value",
            got=target,
            expected="a class or a function",
            fix="decorate the class itself, below any other decorator that replaces it",
        )
    return symbolize_function(target)


__all__ = [
    "Call",
    "Partial",
    "REQUIRED",
    "Undecided",
    "arguments",
    "bind",
    "clone",
    "get",
    "is_abstract",
    "is_symbolic",
    "partial",
    "query",
    "symbolize",
    "traverse",
]
