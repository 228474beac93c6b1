"""Other people's classes: a cached symbolic subclass; the original stays untouched.

The wrapper has the original's name and module and pickles by the original, so that a process that never
symbolized anything by hand can load it.
"""

from __future__ import annotations

from typing import Any, cast

from mutandis.errors import SymbolicError
from mutandis.symbolic.abstract import _Shadow, _ShadowWithDict
from mutandis.symbolic.classes.decorate import mark, refuse_unfit, welcome
from mutandis.symbolic.classes.methods import install_methods
from mutandis.symbolic.classes.pickling import install_carrier
from mutandis.symbolic.record import LOCK
from mutandis.symbolic.serial import names

_WRAPPERS: dict[type, type] = {}


def wrapper_of(origin: type) -> type:
    """Returns the symbolic subclass of a class that belongs to somebody else; made once.

    Args:
        origin: A class that is not symbolic.

    Returns:
        The wrapper; `origin` itself when it is symbolic already.

    Raises:
        SymbolicError: the class cannot be symbolized.
    """
    known = _WRAPPERS.get(origin)
    if known is not None:
        return known
    if getattr(origin, "_mu_spec_", None) is not None:
        return origin
    refuse_unfit(origin)
    with LOCK:
        if origin not in _WRAPPERS:
            _WRAPPERS[origin] = _make(origin)
        return _WRAPPERS[origin]


def _make(origin: type) -> type:
    def __init_subclass__(cls: type, **kwargs: Any) -> None:
        if "_mu_generated_" not in cls.__dict__:
            super(cast("Any", made), cls).__init_subclass__(**kwargs)
            welcome(cls)

    namespace: dict[str, Any] = {
        "__slots__": ("_mu_",),
        "__module__": origin.__module__,
        "__qualname__": origin.__qualname__,
        "__doc__": origin.__doc__,
        "_mu_generated_": True,
        "_mu_wraps_": origin,
        "__init_subclass__": classmethod(cast("Any", __init_subclass__)),
    }
    failure: Exception | None = None
    for bases in ((_Shadow, origin), (_ShadowWithDict, origin), (origin,)):
        try:
            made: type = type.__new__(type(origin), origin.__name__, bases, dict(namespace))
            break
        except TypeError as error:
            failure = error
    else:
        raise SymbolicError(
            f"cannot symbolize {origin.__qualname__}",
            at=f"{origin.__module__}.{origin.__qualname__}",
            got=origin,
            expected=f"a class that can be subclassed; Python says: {failure}",
            fix=f"make a symbolic call of it: mu.bind({origin.__name__}, ...)",
        )
    mark(made, origin=origin)
    install_methods(made)
    install_carrier(made, wrapped=True)
    names.register(made)
    return made
