"""A generator that gives the numbers a known-answer test names."""

from __future__ import annotations

from mutandis.hyper import Rng


class Scripted(Rng):
    """Gives the listed numbers in [0, 1) in turn, then fails the test.

    Args:
        numbers: What `random()` returns.
    """

    def __new__(cls, *numbers):
        return super().__new__(cls)

    def __init__(self, *numbers):
        super().__init__(0)
        self.numbers = list(numbers)

    def random(self):
        assert self.numbers, "more numbers were drawn than the test names"
        return self.numbers.pop(0)
