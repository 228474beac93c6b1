"""Differentiable stand-ins for discrete draws: Gumbel noise, straight-through samples, soft sets.

Jang, Gu, Poole: Categorical Reparameterization with Gumbel-Softmax, ICLR 2017, arXiv 1611.01144; Maddison, Mnih, Teh:
The Concrete Distribution, ICLR 2017, arXiv 1611.00712; Xie, Ermon: Reparameterizable Subset Sampling via Continuous
Relaxations, IJCAI 2019, arXiv 1901.10517; Plackett 1975 and Luce 1959 for draws without replacement.

*Notation*: A = logits, g = Gumbel noise, tau = temperature, n = options, k = picks. All tensors are float64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mutandis.algorithms.policies.categorical import drawn
from mutandis.hyper.rng import Rng

_LOWEST = 2.0**-54
DENSITY_FLOOR = 1e-4
ANNEALINGS = ("linear", "cosine", "exponential")


class Noise:
    """The random numbers of a search; all state is that of one small generator.

    Args:
        rng: Draws the numbers.
    """

    def __init__(self, rng: Rng) -> None:
        self.rng = rng

    def uniform(self) -> float:
        """Returns a number in [0, 1)."""
        return self.rng.random()

    def gumbel(self, count: int) -> Tensor:
        """Returns `[count]` Gumbel numbers; always finite, since no uniform number here is 0 or 1."""
        return torch.tensor([-math.log(-math.log(max(self.rng.random(), _LOWEST))) for _ in range(count)],
                            dtype=torch.float64)  # fmt: skip

    def option(self, chances: Sequence[float]) -> int:
        """Returns an option drawn with its chance."""
        return drawn(chances, self.uniform())

    def distinct(self, chances: Sequence[float], count: int) -> tuple[int, ...]:
        """Returns options drawn one after the other without replacement, each with its share of what is left."""
        left, found = list(chances), list[int]()
        for _ in range(count):
            total = math.fsum(left)
            found.append(self.option([chance / total for chance in left]))
            left[found[-1]] = 0.0
        return tuple(found)


def soft_sample(logits: Tensor, noise: Tensor, temperature: float) -> Tensor:
    """Returns softmax((log softmax(A) + g) / tau), `[n]`: a point of the concrete distribution."""
    return torch.softmax((torch.log_softmax(logits, 0) + noise) / temperature, 0)


def straight_through(soft: Tensor, index: int) -> Tensor:
    """Returns the one-hot vector of `index` whose gradient is that of `soft`, `[n]`."""
    hard = torch.zeros_like(soft)
    hard[index] = 1.0
    return hard - soft.detach() + soft


def concrete_log_density(point: Tensor, logits: Tensor, temperature: float) -> Tensor:
    """Returns the logarithm of the density of the concrete distribution (Maddison et al. 2017, eq. (10)).

    Args:
        point: `[n]`, positive, sums to 1; entries below 1e-4 count as that, since their power overflows.
        logits: `[n]`.
        temperature: tau > 0.
    """
    n = len(point)
    log_z = point.clamp(min=DENSITY_FLOOR).log()
    total = math.lgamma(n) + (n - 1) * math.log(temperature) + logits.sum() - (temperature + 1) * log_z.sum()
    return total - n * torch.logsumexp(logits - temperature * log_z, 0)


def ordered_log_prob(logits: Tensor, picks: Sequence[int]) -> Tensor:
    """Returns the log-probability of picks drawn one after the other without replacement (Plackett-Luce)."""
    total = logits.new_zeros(())
    left = torch.ones(len(logits), dtype=torch.bool)
    for pick in picks:
        total = total + torch.log_softmax(logits.masked_fill(~left, -math.inf), 0)[pick]
        left = left.clone()  # The softmax above still needs the mask it was given.
        left[pick] = False
    return total


def top_picks(keys: Tensor, k: int) -> tuple[int, ...]:
    """Returns the indices of the k largest keys, largest first, ties by index; a Plackett-Luce draw for A + g."""
    values = keys.detach().tolist()
    return tuple(sorted(range(len(values)), key=lambda i: (-values[i], i))[:k])


def soft_set(keys: Tensor, k: int, temperature: float) -> Tensor:
    """Returns a relaxed set: k softmaxes in a row, each lowering what was taken before (Xie and Ermon 2019, Sec. 4).

    Returns:
        `[n]`, sums to k; single entries may exceed 1.
    """
    taken = torch.zeros_like(keys)
    share = torch.zeros_like(keys)
    for _ in range(k):
        keys = keys + torch.log((1.0 - share).clamp(min=1e-12))
        share = torch.softmax(keys / temperature, 0)
        taken = taken + share
    return taken


def set_weights(keys: Tensor, picks: Sequence[int], temperature: float) -> Tensor:
    """Returns `[k]` weights that are 1, for a set of distinct picks, with the gradient of the relaxed set up to 1."""
    soft = soft_set(keys, len(picks), temperature).clamp(max=1.0)[list(picks)]
    return 1.0 - soft.detach() + soft


def order_weights(keys: Tensor, picks: Sequence[int], temperature: float) -> Tensor:
    """Returns `[k]` weights that are 1, for an order of distinct picks: each the straight-through of its own draw."""
    left = torch.ones(len(keys), dtype=torch.bool)
    shares = []
    for pick in picks:
        shares.append(torch.softmax((keys / temperature).masked_fill(~left, -math.inf), 0)[pick])
        left = left.clone()
        left[pick] = False
    soft = torch.stack(shares) if shares else keys[:0]
    return 1.0 - soft.detach() + soft


def annealed(start: float, end: float, fraction: float, shape: str = "linear") -> float:
    """Returns a temperature on its way from `start` to `end`: linear, along half a cosine, or at a constant rate."""
    if shape == "exponential":
        return start * math.pow(end / start, fraction)
    done = fraction if shape == "linear" else (1.0 - math.cos(math.pi * fraction)) / 2.0
    return start + (end - start) * done


__all__ = ["Noise", "annealed", "concrete_log_density", "order_weights", "ordered_log_prob", "set_weights",
           "soft_sample", "soft_set", "straight_through", "top_picks"]  # fmt: skip
