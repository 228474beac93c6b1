"""Progressive shrinking: the largest child first, smaller ones step by step, and then a search on the weights.

Cai, Gan, Wang, Zhang, Han: Once-for-All: Train One Network and Specialize It for Efficient Deployment, ICLR 2020, arXiv
1908.09791, Sec. 3.3 and 4.1, appendix B. Sandwich rule: Yu, Huang: Universally Slimmable Networks and Improved Training
Techniques, ICCV 2019, arXiv 1903.05134, Sec. 3.2.

*Departures*: the teacher is up to the loss that a loop trains on (`mu.flows.distillation_loss`), step sizes by phase
to its schedule (`OnceForAll.published_schedule`), and matrices between kernels to the shared program (`transform`).
Channels are not sorted by the norm of their weights before widths open. The search at the end measures children,
where the paper predicts their accuracy. Gradients of the paths of a weight step are added up, as in the released code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from mutandis.algorithms.base import Algorithm, need_instance, need_int, need_number, settings
from mutandis.algorithms.oneshot.protocol import Cost, SharedSearch, need_fraction
from mutandis.algorithms.oneshot.selections import sizes
from mutandis.algorithms.oneshot.single_path import SearchedAfter, UniformSearch, searched
from mutandis.algorithms.oneshot.top_k import TopKEvolution
from mutandis.errors import SettingError
from mutandis.hyper import DNA, Point, SearchSpace
from mutandis.hyper.rng import Rng

_FULL, _KERNEL, _FIRST, _SECOND = (180, 2.6), (125, 0.96), (25, 0.08), (125, 0.24)
"""Epochs and first step size: of the largest child (Cai et al. 2020, Sec. 4.1), of kernel sizes, and of the two phases
each of depths and of widths (appendix B; the released code has 120 epochs and 5 of warm-up where the paper has 125)."""
_RUN = (_FULL, _KERNEL, _FIRST, _SECOND, _FIRST, _SECOND)


@settings
class Phase:
    """A part of the run in which more sizes open.

    Args:
        decisions: Paths or names of the decisions whose sizes open.
        share: How long it takes beside the other phases.
        num_sizes: How many of the sizes are open, the largest first; None for all.
        is_gradual: Whether they open one after the other at equal distances, from the second on, instead of at once.
        num_paths: How many paths a weight step takes.

    Raises:
        SettingError: a number is out of its range.
    """

    decisions: tuple[str, ...]
    share: float = 1.0
    num_sizes: int | None = None
    is_gradual: bool = False
    num_paths: int = 1

    def __post_init__(self) -> None:
        need_number("Phase.share", self.share, above=0.0)
        need_int("Phase.num_paths", self.num_paths, 1)
        if self.num_sizes is not None:
            need_int("Phase.num_sizes", self.num_sizes, 1)

    def count(self, num_sizes: int, done: float) -> int:
        """Returns how many of some sizes are open, the largest first.

        Args:
            num_sizes: How many there are.
            done: The fraction of the phase that is done; negative before it, when only the largest is open.
        """
        most = num_sizes if self.num_sizes is None else min(num_sizes, self.num_sizes)
        if done < 0.0:
            return 1
        return min(most, 2 + int(done * (most - 1))) if self.is_gradual else most


@settings
class OnceForAll(SearchedAfter):
    """Trains the largest child first and smaller ones phase by phase, and then searches on the weights like SPOS.

        OnceForAll((("kernel",), ("depth",), ("width",)))
        OnceForAll.published(kernels=("kernel",), depths=("depth",), widths=("width",))

    Before their first phase, decisions take their largest size; open sizes are drawn uniformly. Decisions of no phase,
    such as the resolution, are uniform throughout.

    Args:
        stages: The phases in order. Plain decisions `("kernel",)` stand for `Phase(("kernel",), is_gradual=True)`.
        warmup: Fraction of the run before the first phase.
        sandwich: Whether of the paths of a weight step the first is the largest of what is open and the second the
            smallest; there are then at least `num_paths` of 3.
        search: The algorithm that searches at the end.
        num_trials: How many DNAs it may measure.
        transform: Whether kernels of several sizes must be shared as published, through matrices
            (`mu.share_weights(..., kernels="transform")`); a run on others is refused then.

    Raises:
        SettingError: a setting is of the wrong kind or out of its range.
    """

    stages: tuple[tuple[str, ...] | Phase, ...]
    warmup: float = 0.25
    sandwich: bool = False
    search: Algorithm = TopKEvolution()
    num_trials: int = 1000
    transform: bool = False

    def __post_init__(self) -> None:
        need_number("OnceForAll.warmup", self.warmup, low=0.0, below=1.0)
        need_instance("OnceForAll.sandwich", self.sandwich, bool, "sandwich=True")
        need_instance("OnceForAll.transform", self.transform, bool, "transform=True")
        need_instance("OnceForAll.search", self.search, Algorithm, "OnceForAll(stages, search=RegularizedEvolution())")
        need_int("OnceForAll.num_trials", self.num_trials, 1)
        for stage in self.stages:
            if not isinstance(stage, Phase) and not (
                isinstance(stage, tuple) and all(isinstance(d, str) for d in stage)
            ):
                raise SettingError("cannot use a setting", at="OnceForAll.stages", got=stage,
                                   expected="a Phase, or a tuple of paths or names of decisions",
                                   fix='write OnceForAll((("kernel",), ("depth",)))')  # fmt: skip

    @classmethod
    def published(cls, *, kernels: Sequence[str], depths: Sequence[str], widths: Sequence[str], **others: Any
                  ) -> OnceForAll:  # fmt: skip
        """Returns the phases of the paper: 180 epochs of the largest child, then kernels, depths and widths.

        All kernel sizes open at once, for 125 epochs. Depths and widths each open their second largest size first, for
        25 epochs, and all sizes in a further phase of 125. A weight step takes one path while kernels open, two with
        depths and four with widths. Of a run of other length, the phases have the same shares.

            algorithm = OnceForAll.published(kernels=..., depths=..., widths=..., transform=True)
            shared = mu.share_weights(program, x, kernels="transform")
            mu.one_shot(shared, algorithm, ..., epochs=605, schedule=OnceForAll.published_schedule,
                        optimizer=lambda w: torch.optim.SGD(w, 2.6, 0.9, nesterov=True, weight_decay=3e-5))

        Args:
            kernels: Paths or names of the decisions about kernel sizes.
            depths: Likewise about depths.
            widths: Likewise about widths, or how much blocks expand.
            others: Other settings.
        """
        phases = (
            Phase(tuple(kernels), _KERNEL[0]),
            Phase(tuple(depths), _FIRST[0], num_sizes=2, num_paths=2),
            Phase(tuple(depths), _SECOND[0], num_paths=2),
            Phase(tuple(widths), _FIRST[0], num_sizes=2, num_paths=4),
            Phase(tuple(widths), _SECOND[0], num_paths=4),
        )
        return cls(phases, **{"warmup": _FULL[0] / sum(epochs for epochs, _ in _RUN), **others})

    @staticmethod
    def published_schedule(fraction: float) -> float:
        """Returns the factor of a first step size of 2.6, for batches of 2048, after a fraction of a published run.

        Every phase falls to 0 along a cosine, from 2.6 (the largest child), 0.96 (kernels), 0.08 and 0.24 (depths),
        0.08 and 0.24 (widths).

        Raises:
            SettingError: the fraction is not in [0, 1].
        """
        starts = [0, *accumulate(epochs for epochs, _ in _RUN)]
        place = need_fraction(fraction) * starts[-1]
        number = max(i for i in range(len(_RUN)) if starts[i] <= place)
        epochs, rate = _RUN[number]
        return rate / _FULL[1] * 0.5 * (1.0 + math.cos(math.pi * (place - starts[number]) / epochs))

    def start_shared(self, space: SearchSpace, *, seed: int, cost: Cost | None = None) -> SharedSearch:
        """Begins a run with the largest child.

        Raises:
            DecisionError: a phase names no decision.
            SettingError: a decision of a phase is not among sizes; the algorithm of the search refuses the space.
        """
        bare = space.bare()
        self.search.start(bare, seed=seed)
        plan = self._plan(bare)

        def draw(rng: Rng, fraction: float, place: int) -> DNA:
            def value(point: Point) -> Any:
                values = plan.ladders.get(point.index)
                if values is None:
                    return point.draw(rng)
                count = plan.num_open(point.index, fraction)
                if self.sandwich and place < 2:
                    return values[0 if place == 0 else count - 1]
                return values[int(rng.random() * count)]

            return bare.repair([None] * len(bare.points), value)

        def num_paths(fraction: float) -> int:
            return max(plan.num_paths(fraction), 3 if self.sandwich else 1) if plan.has_begun(fraction) else 1

        derive = searched("OnceForAll", bare, self.search, self.num_trials)
        kernels = "transform" if self.transform else "any"
        return UniformSearch("OnceForAll", seed, draw, derive, "recalibrate", num_paths, kernels)

    def _plan(self, space: SearchSpace) -> Plan:
        phases = tuple(p if isinstance(p, Phase) else Phase(p, is_gradual=True) for p in self.stages)
        indices = tuple(tuple(space.point(path).index for path in phase.decisions) for phase in phases)
        ladders = {index: descending(space.points[index]) for group in indices for index in group}
        return Plan(phases, indices, ladders, self.warmup)


@dataclass(frozen=True)
class Plan:
    """The phases of a run on one space.

    Attributes:
        phases: In order.
        indices: The decisions of each.
        ladders: The raw values of each decision of a phase, largest first.
        warmup: Fraction of the run before the first phase.
    """

    phases: tuple[Phase, ...]
    indices: tuple[tuple[int, ...], ...]
    ladders: dict[int, list[Any]]
    warmup: float

    def _done(self, fraction: float) -> list[float]:
        """Returns which fraction of each phase is done: negative before it, above 1 after it."""
        starts = [0.0, *accumulate(phase.share for phase in self.phases)]
        place = (fraction - self.warmup) / (1.0 - self.warmup) * starts[-1]
        return [(place - start) / phase.share for start, phase in zip(starts, self.phases, strict=False)]

    def has_begun(self, fraction: float) -> bool:
        """Returns whether the first phase has."""
        return any(done >= 0.0 for done in self._done(fraction))

    def num_paths(self, fraction: float) -> int:
        """Returns how many paths a weight step takes."""
        begun = [phase for phase, done in zip(self.phases, self._done(fraction), strict=True) if done >= 0.0]
        return begun[-1].num_paths if begun else 1

    def num_open(self, index: int, fraction: float) -> int:
        """Returns how many sizes of a decision are open: as its last phase that has begun says, or else one."""
        count = 1
        for phase, own, done in zip(self.phases, self.indices, self._done(fraction), strict=True):
            if index in own and done >= 0.0:
                count = phase.count(len(self.ladders[index]), done)
        return count


def descending(point: Point) -> list[Any]:
    """Returns the raw values of a decision among sizes, largest first.

    Raises:
        SettingError: it is none.
    """
    numbers = sizes(point)
    if numbers is not None:
        return sorted(range(len(numbers)), key=lambda i: -numbers[i])
    if point.kind in ("int", "float") and point.is_finite:
        return [point.at(position) for position in reversed(range(point.num_steps))]
    raise SettingError("cannot shrink a decision", at=point.path, got=point.describe(),
                       expected="a choice among numbers, or a range of whole or stepped numbers",
                       fix="name only decisions about sizes in OnceForAll.stages")  # fmt: skip


__all__ = ["OnceForAll", "Phase", "Plan", "descending"]
