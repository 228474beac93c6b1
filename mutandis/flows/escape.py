"""Whether a loop was left by an exception, asked by the iterator of the loop when it is dropped.

A `for` statement tells its iterator nothing about an exception in its body: the iterator is dropped, as it is for
a `break`, and the exception in flight is hidden from finalizers. What can be seen is the frame of the loop: an
exception leaves a traceback entry that names the frame and the very instruction at which the frame stands, and a
`break` or a `return` stands at another one. This holds for CPython, where the drop is immediate unless the
iterator has a second name; where the proof is missing, nothing is claimed.
"""

from __future__ import annotations

import gc
import opcode
from types import FrameType, TracebackType

_RAISING = frozenset({"RERAISE", "RAISE_VARARGS"})
_YIELDING = frozenset({"YIELD_VALUE", "RESUME", "SEND"})


def escaped(frame: FrameType | None) -> str | None:
    """Returns what left the loop of `frame` as an exception, or None where none is seen.

    Args:
        frame: The frame that dropped the iterator. If it is a generator that is being closed (a wrapper such as
            tqdm), the frame that closes it is asked instead.

    Returns:
        `ValueError: its message` where the exception object can be told; else the place where it was raised.
    """
    while frame is not None and _operation(frame) in _YIELDING:
        frame = frame.f_back
    if frame is None:
        return None
    at_raise = _operation(frame) in _RAISING
    for entry in gc.get_referrers(frame):
        if isinstance(entry, TracebackType) and (at_raise or entry.tb_lasti == frame.f_lasti):
            return _text(entry)
    return None


def describe_exception(error: BaseException) -> str:
    """Returns the type and the message of an exception on one line."""
    message = " ".join(str(error).split())
    name = type(error).__name__
    return f"{name}: {message}" if message else name


def _operation(frame: FrameType) -> str:
    code = frame.f_code.co_code
    return opcode.opname[code[frame.f_lasti]] if 0 <= frame.f_lasti < len(code) else ""


def _text(entry: TracebackType) -> str:
    chain = [entry]
    while chain[-1].tb_next is not None:
        chain.append(chain[-1].tb_next)
    found = _exception(chain)
    if found is not None:
        return describe_exception(found)
    last = chain[-1]
    code = last.tb_frame.f_code
    return f"an exception raised at {code.co_filename}:{last.tb_lineno} in {code.co_name}"


def _exception(chain: list[TracebackType]) -> BaseException | None:
    # Up to Python 3.11 the exception in flight need not know its traceback yet; then it has none at all.
    fresh = []
    for thing in gc.get_objects():
        if issubclass(type(thing), BaseException):
            if any(thing.__traceback__ is entry for entry in chain):
                return thing  # type: ignore[no-any-return]
            if thing.__traceback__ is None:
                fresh.append(thing)
    return fresh[0] if len(fresh) == 1 else None


__all__ = ["describe_exception", "escaped"]
