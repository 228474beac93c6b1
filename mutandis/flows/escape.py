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
    """Returns where the exception that leaves the loop of `frame` was raised, or None where none is seen.

    Args:
        frame: The frame that dropped the iterator. If it is a generator that is being closed (a wrapper such as
            tqdm), the frame that closes it is asked instead.
    """
    while frame is not None and _operation(frame) in _YIELDING:
        frame = frame.f_back
    if frame is None:
        return None
    entries = [thing for thing in gc.get_referrers(frame) if isinstance(thing, TracebackType)]
    here = [entry for entry in entries if entry.tb_lasti == frame.f_lasti]
    if not here and _operation(frame) in _RAISING:  # A raise without an argument leaves the old entry.
        here = entries
    if not here:
        return None
    entry = here[0]
    while entry.tb_next is not None:
        entry = entry.tb_next
    code = entry.tb_frame.f_code
    return f"an exception raised at {code.co_filename}:{entry.tb_lineno} in {code.co_name}"


def _operation(frame: FrameType) -> str:
    code = frame.f_code.co_code
    return opcode.opname[code[frame.f_lasti]] if 0 <= frame.f_lasti < len(code) else ""
