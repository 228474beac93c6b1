"""Sizes: the width or depth of a layer as a mixture of masks (FBNetV2), or of two interpolated sizes (TAS).

FBNetV2: Wan, Dai, Zhang et al.: Differentiable Neural Architecture Search for Spatial and Channel Dimensions, CVPR
2020, arXiv 2004.05565, Sec. 3.1 (channel masking). TAS: Dong, Yang: Network Pruning via Transformable Architecture
Search, NeurIPS 2019, arXiv 1905.09717, eq. (2) to (4) and (7).

*Notation*: A = logits, p = softmax(A), g = Gumbel noise, tau = temperature, C_i = sizes,

    FBNetV2  w = softmax((log p + g) / tau) over all sizes: one layer of the largest size, times the mask with
             sum over i of w_i 1[channel < C_i] at each channel
    TAS      s = softmax((log p + g) / tau); I = two sizes drawn without replacement in proportion to s + 1e-7;
             w = softmax over I of (log p + g) / tau; the outputs of both sizes, interpolated to the larger one, are
             added with w. Decisions named in `full` (the depth) are mixed in full instead.

With one size (`num_sampled=1`) the weight is 1 whatever A is, and nothing is learnt (TAS, Sec. 3.1); it is refused.

*Departures*: candidates that are no numbers are mixed and drawn alike.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mutandis.algorithms.base import need_int, need_number, settings
from mutandis.algorithms.oneshot.engine import PolicySearch, PolicySettings, Rule, View, need_relaxable
from mutandis.algorithms.oneshot.gumbel import annealing_of, soft_draw
from mutandis.algorithms.oneshot.protocol import Cost, Needs, OneShot, SharedSearch
from mutandis.algorithms.oneshot.selections import Index, Mixture, Selection, Selections, Subset, sizes
from mutandis.algorithms.oneshot.tables.parts import Part
from mutandis.hyper import Point, SearchSpace

_FLOOR = 1e-7


@settings
class FBNetV2(OneShot):
    """Mixes all candidates with the weights of a soft draw, sizes as masks on one layer.

    The weights of the first channels are used by every size, so that without a cost the largest size need not win;
    use it inside `ResourceConstrained`.

    Args:
        warmup: Fraction of the run in which the policy rests and weights are trained on single paths: a size is the
            largest, with a probability that falls from 1 to 0, or else random.
        temperature: tau at the start.
        final_temperature: tau at the end.
        annealing: `linear`, `cosine` or `exponential`, along the run.
        learning_rate: Of Adam for the logits.
        beta1: Of Adam.
        weight_decay: Of Adam, on the logits.
        init_std: The logits start normal with this deviation.

    Raises:
        SettingError: a number is out of its range, or a word unknown.
    """

    warmup: float = 0.25
    temperature: float = 10.0
    final_temperature: float = 0.1
    annealing: str = "linear"
    learning_rate: float = 3e-4
    beta1: float = 0.5
    weight_decay: float = 1e-3
    init_std: float = 1e-3

    def __post_init__(self) -> None:
        need_number("FBNetV2.warmup", self.warmup, low=0.0, below=1.0)
        annealing_of(self)
        PolicySettings.of(self)

    def start_shared(self, space: SearchSpace, *, seed: int, cost: Cost | None = None) -> SharedSearch:
        """Begins a run with a nearly uniform policy.

        Raises:
            SettingError: the space is open-ended, or a range has steps.
        """
        need_relaxable("FBNetV2", space, picks=True)
        rule = Rule(
            name="FBNetV2",
            needs=Needs(),
            weights=self._weights,
            policy=soft_draw,
            temperature=annealing_of(self),
            delay=self.warmup,
        )
        return PolicySearch(rule, space, seed, PolicySettings.of(self))

    def _weights(self, view: View) -> Selections:
        if view.fraction >= self.warmup:
            return soft_draw(view)

        def choose(part: Part, logits: Tensor) -> Selection:
            top = largest(part.point)
            if top is not None and view.noise.uniform() < 1.0 - view.fraction / self.warmup:
                return Index(top)
            return Index(view.noise.option([1.0 / len(logits)] * len(logits)))

        return view.select(choose)


@settings
class TAS(OneShot):
    """Adds the interpolated outputs of two drawn candidates, with their renormalised weights.

    Sizes are interpolated by the supernet, so that the found network is trained again, from scratch or with knowledge
    distillation. The paper anneals tau from 10 to 0.1 linearly, its code from 5 along a cosine.

    Args:
        num_sampled: |I|, at least 2.
        full: Paths or names of decisions whose candidates are all mixed, such as the depth.
        temperature: tau at the start.
        final_temperature: tau at the end.
        annealing: `linear`, `cosine` or `exponential`, along the run.
        learning_rate: Of Adam for the logits.
        beta1: Of Adam.
        weight_decay: Of Adam, on the logits.
        init_std: The logits start normal with this deviation.

    Raises:
        SettingError: a number is out of its range, or a word unknown.
    """

    num_sampled: int = 2
    full: tuple[str, ...] = ()
    temperature: float = 10.0
    final_temperature: float = 0.1
    annealing: str = "linear"
    learning_rate: float = 1e-3
    beta1: float = 0.5
    weight_decay: float = 1e-3
    init_std: float = 1e-3

    def __post_init__(self) -> None:
        need_int("TAS.num_sampled", self.num_sampled, 2)
        annealing_of(self)
        PolicySettings.of(self)

    def start_shared(self, space: SearchSpace, *, seed: int, cost: Cost | None = None) -> SharedSearch:
        """Begins a run with a nearly uniform policy.

        Raises:
            SettingError: the space is open-ended, or a range has steps.
            DecisionError: `full` names no decision.
        """
        need_relaxable("TAS", space, picks=True)
        full = frozenset(space.point(path).index for path in self.full)

        def draw(view: View) -> Selections:
            def choose(part: Part, logits: Tensor) -> Selection:
                keys = (torch.log_softmax(logits, 0) + view.noise.gumbel(len(logits))) / view.temperature
                if part.point.index in full or len(logits) <= self.num_sampled:
                    return Mixture(torch.softmax(keys, 0), "interpolate")
                shares = (torch.softmax(keys.detach(), 0) + _FLOOR).tolist()
                drawn = view.noise.distinct(shares, self.num_sampled)
                return Subset(drawn, torch.softmax(keys[list(drawn)], 0), mode="interpolate")

            return view.select(choose)

        rule = Rule(
            name="TAS",
            needs=Needs(norm="batch_no_affine"),
            weights=draw,
            policy=draw,
            temperature=annealing_of(self),
        )
        return PolicySearch(rule, space, seed, PolicySettings.of(self))


def largest(point: Point) -> int | None:
    """Returns the index of the largest candidate of a choice among numbers, the first of equals; None for others."""
    numbers = sizes(point)
    return None if numbers is None else max(range(len(numbers)), key=lambda i: (numbers[i], -i))


__all__ = ["FBNetV2", "TAS", "largest"]
