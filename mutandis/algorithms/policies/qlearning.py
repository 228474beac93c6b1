"""Tabular Q-learning over the steps of a DNA (MetaQNN).

Baker, Gupta, Naik, Raskar: Designing Neural Network Architectures using Reinforcement Learning, ICLR 2017, arXiv
1611.02167, Algorithms 1-3 and eq. (3).

*Notation*: s = what is known before a step, u = the option taken, Q(s, u) = the value of it, alpha =
`learning_rate`, gamma = `discount`, eps = `epsilon`, K = `num_replays`. A step takes a uniform legal option with
probability eps, else the best. After every result K remembered ones are drawn, with replacement, and for each the
steps are updated from the last to the first:

    Q(s_T, u_T) <- (1 - alpha) Q(s_T, u_T) + alpha r
    Q(s_t, u_t) <- (1 - alpha) Q(s_t, u_t) + alpha gamma max over legal u of Q(s_{t+1}, u)

As in the paper, s is the depth and the last step (`last`); `prefix` remembers all steps before.

*Departures*: the paper starts Q at 0.5, the middle of the accuracies; by default an untouched value is the mean of
the rewards so far, so that rewards of any scale will do. The memory holds the newest `memory_size` results, not all.
Only the number of results drives eps, so that it is defined for parallel workers.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from mutandis.algorithms.base import JSON, Algorithm, Search, need_int, need_number, need_one_of, settings
from mutandis.algorithms.evolution.schedules import Schedule, StepWise, at_step
from mutandis.algorithms.sequences import Codec, Legal, Slot, Step
from mutandis.hyper import Feedback, Proposal, SearchSpace
from mutandis.hyper.rng import Rng

STATES = ("last", "prefix")
_PAPER = ((1.0, 1500), (0.9, 100), (0.8, 100), (0.7, 100), (0.6, 150), (0.5, 150), (0.4, 150), (0.3, 150), (0.2, 150),
          (0.1, 150))  # fmt: skip

Key = tuple[int, ...]


def exploration(num_trials: int = 2700) -> StepWise:
    """Returns the paper's schedule of eps, 1.0 down to 0.1 (its table 2), stretched to a number of results.

    Args:
        num_trials: How many results there will be; the paper had 2700. At least 10.
    """
    need_int("exploration.num_trials", num_trials, len(_PAPER))
    total = sum(count for _, count in _PAPER)
    stages, first = [], 0
    for epsilon, count in _PAPER:
        stages.append((round(first * num_trials / total), epsilon))
        first += count
    return StepWise(tuple(dict(stages).items()))


@settings
class QLearning(Algorithm):
    """Learns what each step is worth after the one before, and takes the best more and more often.

    Works on every space but open-ended ones. A result counts whoever asked for it, for the method does not care who
    chose the steps; failed trials are left aside. A trial costs O(K * steps * options). With `state="last"` the table
    has an entry per pair of options that follow each other; with `prefix` every result may add one per step.

    Args:
        epsilon: eps in [0, 1], or a schedule of it over the number of results; `exploration(n)` stretches the paper's
            to a budget of n trials, and that of 300 is the default.
        learning_rate: alpha, in (0, 1].
        discount: gamma, in [0, 1].
        num_replays: K.
        memory_size: How many results are remembered.
        state: `last` or `prefix`.
        initial_value: Q at first, in units of the reward; None for the mean of the rewards so far.
        bins: Into how many cells a range with more values is cut.

    Raises:
        SettingError: a number is out of its range, or the state unknown.
    """

    epsilon: float | Schedule = field(default_factory=lambda: exploration(300))
    learning_rate: float = 0.01
    discount: float = 1.0
    num_replays: int = 100
    memory_size: int = 1000
    state: str = "last"
    initial_value: float | None = None
    bins: int = 16

    def __post_init__(self) -> None:
        for name in ("num_replays", "memory_size", "bins"):
            need_int(f"QLearning.{name}", getattr(self, name), 1)
        if not isinstance(self.epsilon, Schedule):
            need_number("QLearning.epsilon", self.epsilon, low=0.0, high=1.0)
        need_number("QLearning.learning_rate", self.learning_rate, above=0.0, high=1.0)
        need_number("QLearning.discount", self.discount, low=0.0, high=1.0)
        if self.initial_value is not None:
            need_number("QLearning.initial_value", self.initial_value)
        need_one_of("QLearning.state", self.state, STATES)

    def start(self, space: SearchSpace, *, seed: int, num_objectives: int = 1) -> Search:
        """Begins a run with an empty table.

        Raises:
            SettingError: the space is open-ended, or there are several objectives.
        """
        self.check_objectives(num_objectives)
        return _TableSearch(self, space.bare(), seed)


def updated(value: float, alpha: float, target: float) -> float:
    """Returns a value moved by the share `alpha` towards a target (eq. (3))."""
    return (1 - alpha) * value + alpha * target


@dataclass(frozen=True, slots=True)
class _Episode:
    steps: tuple[Step, ...]
    keys: tuple[Key, ...]
    reward: float


class _TableSearch(Search):
    def __init__(self, settings: QLearning, space: SearchSpace, seed: int) -> None:
        self._settings = settings
        self._codec = Codec(space, settings.bins, canonical=True)
        self._rng = Rng(seed, "q learning")
        self._values: dict[Key, dict[int, float]] = {}
        self._memory: deque[_Episode] = deque(maxlen=settings.memory_size)
        self._sum = 0.0
        self._results = 0
        self._proposed = 0

    @property
    def _untouched(self) -> float:
        if self._settings.initial_value is not None:
            return self._settings.initial_value
        return self._sum / self._results if self._results else 0.0

    def propose(self) -> Proposal:
        number = self._proposed
        self._proposed += 1
        epsilon = at_step(self._settings.epsilon, self._results)
        taken: list[tuple[int, int]] = []

        def choose(slot: Slot, legal: Legal) -> int:
            options = [o for o in range(slot.num_options) if legal is None or legal[o]]
            if self._rng.random() >= epsilon:
                options = self._best(self._key(slot.index, taken), options)
            option = options[int(self._rng.random() * len(options))]
            taken.append((slot.index, option))
            return option

        return Proposal(number, self._codec.walk(choose, self._rng)[0])

    def _key(self, slot: int, taken: list[tuple[int, int]]) -> Key:
        """Returns s before a slot: it, and the last step or all options before."""
        if self._settings.state == "last":
            return (slot, *(taken[-1] if taken else ()))
        return (slot, *(option for _, option in taken))

    def _best(self, key: Key, options: list[int]) -> list[int]:
        row, untouched = self._values.get(key, {}), self._untouched
        best = max(row.get(option, untouched) for option in options)
        return [option for option in options if row.get(option, untouched) == best]

    def feedback(self, feedback: Feedback) -> None:
        if feedback.rewards is None or not math.isfinite(feedback.rewards[0]):
            return
        self._results += 1
        self._sum += feedback.rewards[0]
        self._memory.append(self._episode(self._codec.steps(feedback.dna), feedback.rewards[0]))
        for _ in range(self._settings.num_replays):
            self._replay(self._memory[int(self._rng.random() * len(self._memory))])

    def _episode(self, steps: tuple[Step, ...], reward: float) -> _Episode:
        taken = [(step.slot.index, step.option) for step in steps]
        return _Episode(steps, tuple(self._key(slot, taken[:i]) for i, (slot, _) in enumerate(taken)), reward)

    def _replay(self, episode: _Episode) -> None:
        alpha, gamma, untouched = self._settings.learning_rate, self._settings.discount, self._untouched
        target = episode.reward
        for step, key in zip(reversed(episode.steps), reversed(episode.keys), strict=True):
            row = self._values.setdefault(key, {})
            row[step.option] = updated(row.get(step.option, untouched), alpha, target)
            options = range(step.slot.num_options)
            target = gamma * max(row.get(o, untouched) for o in options if step.legal is None or step.legal[o])

    def state_dict(self) -> JSON:
        return {
            "rng": self._rng.state(),
            "values": [[list(key), [list(item) for item in row.items()]] for key, row in self._values.items()],
            "memory": [[[step.option for step in episode.steps], episode.reward] for episode in self._memory],
            "sum": self._sum,
            "results": self._results,
            "proposed": self._proposed,
        }

    def load_state_dict(self, state: JSON) -> None:
        self._rng.set_state(state["rng"])
        self._values = {tuple(key): dict(row) for key, row in state["values"]}
        episodes = [self._episode(self._codec.trace(options), reward) for options, reward in state["memory"]]
        self._memory = deque(episodes, maxlen=self._settings.memory_size)
        self._sum, self._results, self._proposed = state["sum"], state["results"], state["proposed"]


__all__ = ["QLearning", "exploration", "updated"]
