"""Whether Ctrl-C came: a loop that is left by an exception is not told which one it was."""

from __future__ import annotations

import signal
import threading
from types import FrameType


class Interrupts:
    """Notes SIGINT while it is open, and lets it do what it always does: raise KeyboardInterrupt.

    Nothing is changed where the program handles SIGINT itself, or runs in another thread than the main one. Several may
    be open, and be closed in any order.

    Attributes:
        came: Whether it came.
    """

    def __init__(self) -> None:
        self.came = False
        self._handler = self._hear  # A bound method is a new object each time; this one is compared.
        self._before = signal.getsignal(signal.SIGINT)
        is_usual = self._before is signal.default_int_handler or _owner(self._before) is not None
        self._is_open = is_usual and _is_main()
        if self._is_open:
            signal.signal(signal.SIGINT, self._handler)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.came = True
        if callable(self._before):
            self._before(number, frame)

    def close(self) -> None:
        """Puts the handler before back, unless somebody has put another one there."""
        if not self._is_open or not _is_main():
            return
        self._is_open = False
        handler = signal.getsignal(signal.SIGINT)
        if handler is self._handler:
            while (owner := _owner(handler)) is not None and not owner._is_open:
                handler = owner._before
            signal.signal(signal.SIGINT, handler)


def _owner(handler: object) -> Interrupts | None:
    owner = getattr(handler, "__self__", None)
    return owner if isinstance(owner, Interrupts) else None


def _is_main() -> bool:
    return threading.current_thread() is threading.main_thread()


__all__ = ["Interrupts"]
