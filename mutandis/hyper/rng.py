"""Random numbers that are equal in every process: a counter run through BLAKE2b.

A generator is named by its seed and any number of further names, so that independent streams come from one
seed; its state is small and writes to JSON.
"""

from __future__ import annotations

import random
from hashlib import blake2b
from struct import Struct
from typing import Any

from mutandis.errors import SettingError

_UNIT = 2.0**-53
_WORDS = Struct("<8Q")
_FORMAT = 1


def _key(seed: object, names: tuple[object, ...]) -> bytes:
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in (seed, *names))
    return blake2b(text.encode(), digest_size=32).digest()


class Rng(random.Random):
    """A counter-based generator with the methods of `random.Random`.

    Args:
        seed: An int or text.
        *names: Ints or texts that name the stream.
    """

    def __new__(cls, *args: Any) -> Rng:
        """Makes the object; the seed is only read by `__init__`."""
        return super().__new__(cls)

    def __init__(self, seed: int | str = 0, *names: int | str) -> None:
        for part in (seed, *names):
            if not isinstance(part, (int, str)):
                raise SettingError(
                    "cannot seed a generator",
                    at="seed",
                    got=part,
                    expected="ints and texts, which are equal in every process",
                    fix="pass an int seed, and ints or texts as names",
                )
        self._start(_key(seed, names))

    def _start(self, key: bytes, block: int = 0, used: int = 0) -> None:
        self._stream = key
        self._block = block
        self._words: list[int] = []
        self.gauss_next: float | None = None
        if used:
            self._block -= 1
            self._fill()
            del self._words[8 - used :]

    def _fill(self) -> None:
        digest = blake2b(self._block.to_bytes(8, "little"), key=self._stream).digest()
        self._words = list(_WORDS.unpack(digest))
        self._block += 1

    def seed(self, a: Any = None, version: int = 2) -> None:
        """Starts the stream anew from a seed; None means 0, since nothing here may depend on the clock."""
        self._start(_key(0 if a is None else a, ()))

    def random(self) -> float:
        """Returns the next number in [0, 1)."""
        if not self._words:
            self._fill()
        return (self._words.pop() >> 11) * _UNIT

    def getrandbits(self, k: int) -> int:
        """Returns `k` random bits."""
        value = 0
        for _ in range(-(-k // 64)):
            if not self._words:
                self._fill()
            value = value << 64 | self._words.pop()
        return value >> (-k % 64)

    def derive(self, *names: int | str) -> Rng:
        """Returns an independent generator named below this one; this one does not move."""
        made = Rng.__new__(Rng)
        made._start(_key(self._stream.hex(), names))
        return made

    def state(self) -> list[Any]:
        """Returns the state as a small JSON value."""
        return [_FORMAT, self._stream.hex(), self._block, -len(self._words) % 8, self.gauss_next]

    def set_state(self, state: list[Any]) -> None:
        """Goes on from a state that `state` returned."""
        if not isinstance(state, (list, tuple)) or len(state) != 5 or state[0] != _FORMAT:
            raise SettingError(
                "cannot restore a generator",
                at="state",
                got=state,
                expected="what Rng.state() returned",
                fix="store and load the state unchanged",
            )
        self._start(bytes.fromhex(state[1]), state[2], state[3])
        self.gauss_next = state[4]

    def getstate(self) -> tuple[Any, ...]:
        """Returns the state for `random.Random` users and pickle."""
        return tuple(self.state())

    def setstate(self, state: Any) -> None:
        """Goes on from a state that `getstate` returned."""
        self.set_state(list(state))


def as_rng(seed: int | str | random.Random, *names: int | str) -> random.Random:
    """Returns `seed` if it is a generator, else the generator of that seed and these names."""
    return seed if isinstance(seed, random.Random) else Rng(seed, *names)


def uniform_at(seed: int | str, name: str, counter: int) -> float:
    """Returns the number in [0, 1) that stands at a place of a named stream, without any state."""
    digest = blake2b(counter.to_bytes(8, "little", signed=True), key=_key(seed, (name,)), digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> 11) * _UNIT


__all__ = ["Rng", "as_rng", "uniform_at"]
