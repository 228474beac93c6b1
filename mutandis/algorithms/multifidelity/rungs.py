"""Rungs: the fidelities at which configurations are compared, how many reach each, and who goes on.

Jamieson, Talwalkar: Non-stochastic Best Arm Identification and Hyperparameter Optimization, AISTATS 2016, arXiv
1502.07943 (successive halving). Li, Jamieson, DeSalvo, Rostamizadeh, Talwalkar: Hyperband, JMLR 18, 2018, arXiv
1603.06560, Algorithm 1.

*Notation*: R = `max_fidelity`, r = `min_fidelity`, eta = the share that is left behind is 1 - 1 / eta;
s_max = floor(log_eta(R / r)); bracket s has rungs at R eta^-s, ..., R / eta, R.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from typing import Any

from mutandis.algorithms.base import need_number

PAPER, HPBANDSTER = "paper", "hpbandster"
_SLACK = 1e-9  # Logarithms and powers of whole numbers miss them by a rounding error.


def need_fidelities(name: str, low: object, high: object, eta: object) -> None:
    """Refuses a range of fidelities or an eta that makes no rungs.

    Raises:
        SettingError: `low` is not above 0, `high` not at least `low`, or eta not above 1.
    """
    need_number(f"{name}.min_fidelity", low, above=0, fix="give the shortest training that tells anything")
    assert isinstance(low, (int, float))
    need_number(f"{name}.max_fidelity", high, low=low, fix="give the length of a full training")
    need_number(f"{name}.eta", eta, above=1, fix="use 3: a third of each rung goes on")


def fidelities(low: float, high: float, eta: float) -> tuple[float, ...]:
    """Returns the fidelities of all rungs, shortest first: `high` / eta^k, as long as that is at least `low`."""
    s_max = math.floor(math.log(high / low) / math.log(eta) + _SLACK)
    return tuple(high / eta**k for k in range(s_max, -1, -1))


def bracket_counts(s: int, s_max: int, eta: float, sizes: str = PAPER) -> tuple[int, ...]:
    """Returns how many configurations bracket `s` trains at each of its `s` + 1 rungs.

    Args:
        s: The bracket; 0 trains all in full.
        s_max: The largest bracket.
        eta: One in so many goes on.
        sizes: `paper` for n = ceil((s_max + 1) / (s + 1) eta^s), as Li et al. print it; `hpbandster` for
            n = floor((s_max + 1) / (s + 1)) eta^s, which the code of Falkner et al. uses.
    """
    if sizes == PAPER:
        n = math.ceil((s_max + 1) / (s + 1) * eta**s - _SLACK)
    else:
        n = math.floor((s_max + 1) // (s + 1) * eta**s + _SLACK)
    return tuple(max(math.floor(n / eta**i + _SLACK), 1) for i in range(s + 1))


class Rung:
    """The results of configurations at one fidelity, and which of them went on.

    Equal rewards keep the order in which they came. Failed ones count for the size of the rung and never go on.
    One result costs O(log n) comparisons.

    Attributes:
        size: How many results it has, failed ones included.
    """

    def __init__(self) -> None:
        self.size = 0
        self._waiting: list[tuple[float, int, int]] = []  # (negated reward, arrival, configuration), best first.
        self._gone: list[tuple[float, int, int]] = []

    def add(self, configuration: int, reward: float | None) -> None:
        """Adds a result; None for a failed one."""
        if reward is not None:
            insort(self._waiting, (-reward, self.size, configuration))
        self.size += 1

    def take(self, limit: int) -> int | None:
        """Returns the best configuration that did not go on yet, if it is among the best `limit`; it goes on."""
        if not self._waiting or bisect_left(self._gone, self._waiting[0]) >= limit:
            return None
        entry = self._waiting.pop(0)
        insort(self._gone, entry)
        return entry[2]

    def to_state(self) -> list[Any]:
        """Returns the rung as JSON."""
        return [self.size, [list(entry) for entry in self._waiting], [list(entry) for entry in self._gone]]

    @classmethod
    def from_state(cls, state: list[Any]) -> Rung:
        """Returns the rung that `to_state` wrote."""
        made = cls()
        made.size = state[0]
        made._waiting, made._gone = ([(e[0], e[1], e[2]) for e in entries] for entries in state[1:])
        return made
