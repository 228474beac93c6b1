"""Factorised policies: one categorical distribution per decision, as plain lists of logits.

The probability of a DNA is the product over the steps that lead to it, so that inactive decisions take no part.
Distinct picks are drawn without replacement from one table of logits, which is the model of Plackett (1975) and Luce
(1959); picks with repetition whose order does not matter share a table too; all other slots have a table each.

    p(option | legal) = exp(theta_option) / sum over legal j of exp(theta_j)
    d log p(option) / d theta_j = 1[j = option] - p(j)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random

from mutandis.algorithms.sequences import Choose, Codec, Legal, Slot, Step


def probabilities(logits: Sequence[float], legal: Legal = None) -> list[float]:
    """Returns the softmax of logits among the legal options; 0 for the others."""
    if legal is None:
        top = max(logits)
        weights = [math.exp(logit - top) for logit in logits]
    else:
        top = max(logit for logit, allowed in zip(logits, legal, strict=True) if allowed)
        weights = [math.exp(x - top) if allowed else 0.0 for x, allowed in zip(logits, legal, strict=True)]
    total = sum(weights)
    return [weight / total for weight in weights]


def drawn(chances: Sequence[float], place: float) -> int:
    """Returns the option at a place in [0, 1) of the cumulative probabilities; never one of probability 0."""
    option = 0
    for i, chance in enumerate(chances):
        if chance > 0.0:
            option = i
            place -= chance
            if place < 0.0:
                break
    return option


class CategoricalPolicy:
    """Independent categorical distributions over the steps of a space.

    Args:
        codec: The slots.

    Attributes:
        logits: One table per distribution, all 0 at first: the uniform policy.
    """

    def __init__(self, codec: Codec) -> None:
        self.logits: list[list[float]] = []
        self._table: list[int] = []
        shared: dict[int, int] = {}
        for slot in codec.slots:
            if _shares_its_table(slot):
                table = shared.setdefault(slot.point.index, len(self.logits))
            else:
                table = len(self.logits)
            if table == len(self.logits):
                self.logits.append([0.0] * slot.num_options)
            self._table.append(table)

    def table(self, slot: Slot) -> int:
        """Returns the index of the table of a slot."""
        return self._table[slot.index]

    def chances(self, slot: Slot, legal: Legal) -> list[float]:
        """Returns the probabilities of the options of a slot."""
        return probabilities(self.logits[self._table[slot.index]], legal)

    def chooser(self, rng: Random) -> Choose:
        """Returns a function that draws an option, for `Codec.walk`; one number per step, even for one option."""
        return lambda slot, legal: drawn(self.chances(slot, legal), rng.random())

    def log_prob(self, steps: Sequence[Step]) -> float:
        """Returns the logarithm of the probability of steps, in nats; -inf where a probability is below 1e-308."""
        total = 0.0
        for step in steps:
            chance = self.chances(step.slot, step.legal)[step.option]
            total += math.log(chance) if chance > 0.0 else -math.inf
        return total

    def entropy(self, steps: Sequence[Step]) -> float:
        """Returns the sum of the entropies of the distributions that steps were drawn from, in nats.

        Its mean over the policy is the entropy of the policy over sequences.
        """
        chances = (p for step in steps for p in self.chances(step.slot, step.legal))
        return -sum(p * math.log(p) for p in chances if p > 0.0)

    def gradient(self, steps: Sequence[Step]) -> dict[int, list[float]]:
        """Returns the derivatives of `log_prob` by the logits, for the tables that take part."""
        found: dict[int, list[float]] = {}
        for slot, option, legal in ((step.slot, step.option, step.legal) for step in steps):
            row = [-p for p in self.chances(slot, legal)]
            row[option] += 1.0
            table = self._table[slot.index]
            known = found.get(table)
            found[table] = row if known is None else [a + b for a, b in zip(known, row, strict=True)]
        return found


def _shares_its_table(slot: Slot) -> bool:
    return slot.role == "pick" and (slot.point.distinct or not slot.point.ordered)


__all__ = ["CategoricalPolicy", "drawn", "probabilities"]
