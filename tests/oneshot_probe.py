"""Searches on shared weights with given logits and noise, whose gradients are recorded instead of applied."""

from __future__ import annotations

import torch

import mutandis as mu

TRIPLE = mu.space(mu.oneof(["a", "b", "c"])).bare()


def vector(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


class Recorder:
    """Takes the place of Adam."""

    def __init__(self):
        self.gradients = []
        self.scales = []

    def step(self, gradients, scale=1.0):
        self.gradients.append([None if g is None else g.tolist() for g in gradients])
        self.scales.append(scale)

    @property
    def last(self):
        return self.gradients[-1]


def probed(algorithm, logits, *, space=TRIPLE, gumbel=None, uniform=None, fraction=0.0, cost=None):
    """Returns a search with given tables and noise, and the recorder of its gradients."""
    search = algorithm.start_shared(space, seed=0, cost=cost)
    search.policy_tables.set_state(logits)
    search.progress(fraction)
    search._adam = Recorder()
    if gumbel is not None:
        noise = iter(gumbel)
        search.noise.gumbel = lambda count: vector(*next(noise))
    if uniform is not None:
        search.noise.uniform = iter(uniform).__next__
    return search, search._adam
