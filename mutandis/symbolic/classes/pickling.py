"""Copying and pickling of symbolic instances whose class has its own state methods, and of wrappers.

A class with default state methods needs nothing: its record lies in the instance dict. Others lose or leak
it; for these the record travels beside the state.
"""

from __future__ import annotations

import copyreg
from collections.abc import Callable
from typing import Any

_MARK = "mutandis-record"


def install_pickling(cls: type) -> None:
    """Makes instances carry their record through copy and pickle, where the class would drop it."""
    _hide_from_state_dict(cls)
    custom = any(
        name in base.__dict__
        for base in cls.__mro__
        if base is not object
        for name in ("__getstate__", "__reduce__", "__reduce_ex__")
    )
    carried = any("_mu_carries_" in base.__dict__ for base in cls.__mro__)
    if not custom or carried or (cls.__dictoffset__ == 0):
        return
    install_carrier(cls, wrapped=False)


def install_carrier(cls: type, *, wrapped: bool) -> None:
    """Overrides `__reduce_ex__` and `__setstate__` of a class so that records travel along."""
    reduce_ex: Callable[..., Any] = cls.__reduce_ex__
    setstate: Callable[..., Any] | None = getattr(cls, "__setstate__", None)

    def __reduce_ex__(self: Any, protocol: Any) -> Any:
        normal = reduce_ex(self, max(int(protocol), 2))
        if isinstance(normal, str) or len(normal) < 3:
            return normal
        state = normal[2]
        if isinstance(state, tuple) and len(state) == 2 and isinstance(state[1], dict) and "_mu_" in state[1]:
            slots = {key: value for key, value in state[1].items() if key != "_mu_"}
            state = (state[0], slots) if slots else state[0]
        if isinstance(state, dict) and "_mu_" in state:
            state = {key: value for key, value in state.items() if key != "_mu_"}
        function, arguments = normal[0], normal[1]
        if wrapped and type(self).__dict__.get("_mu_wraps_") is not None:
            origin = type(self)._mu_wraps_
            rest = tuple(a for a in arguments if a is not type(self))
            if function is copyreg.__newobj__:  # type: ignore[attr-defined]
                function, arguments = _new_wrapped, (origin, *rest)
            else:
                arguments = tuple(_Wrapper(origin) if a is type(self) else a for a in arguments)
        record = getattr(self, "_mu_", None)
        return (function, arguments, (_MARK, state, record), *normal[3:5])

    def __setstate__(self: Any, state: Any) -> None:
        if isinstance(state, tuple) and len(state) == 3 and state[0] == _MARK:
            _, state, record = state
            if record is not None:
                object.__setattr__(self, "_mu_", record)
        if setstate is not None:
            if state is not None:
                setstate(self, state)
            return
        plain, slots = state if isinstance(state, tuple) and len(state) == 2 else (state, None)
        if plain:
            self.__dict__.update(plain)
        for name, value in (slots or {}).items():
            object.__setattr__(self, name, value)

    type.__setattr__(cls, "_mu_carries_", True)
    type.__setattr__(cls, "__reduce_ex__", __reduce_ex__)
    type.__setattr__(cls, "__setstate__", __setstate__)


class _Wrapper:
    """Names a wrapper class inside a pickle by its original."""

    def __init__(self, origin: type) -> None:
        self.origin = origin

    def __reduce__(self) -> tuple[Any, ...]:
        from mutandis.symbolic.classes.wrap import wrapper_of

        return (wrapper_of, (self.origin,))


def _new_wrapped(origin: type, *arguments: Any) -> Any:
    from mutandis.symbolic.classes.wrap import wrapper_of

    cls = wrapper_of(origin)
    return cls.__new__(cls, *arguments)


def _hide_from_state_dict(cls: type) -> None:
    """Keeps the record out of the `state_dict` of schedulers, which copy their whole `__dict__`."""
    if not any(base.__module__ == "torch.optim.lr_scheduler" for base in cls.__mro__):
        return
    original: Any = getattr(cls, "state_dict", None)
    if original is None or getattr(original, "_mu_hides_", False):
        return

    def state_dict(self: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return {key: value for key, value in original(self, *args, **kwargs).items() if key != "_mu_"}

    state_dict._mu_hides_ = True  # type: ignore[attr-defined]
    type.__setattr__(cls, "state_dict", state_dict)
