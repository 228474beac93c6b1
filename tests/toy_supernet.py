"""A supernet whose best child is known, and the reference of what a supernet does with selections.

y = sum over l of phi_{l}(x_l) + noise, four layers, four operations each: operation i at layer l computes w[l, i] times
phi_i(x_l). The phi have unit variance and are nearly uncorrelated, so that the best child is (0, 1, 2, 3).
"""

from __future__ import annotations

import math

import torch

import mutandis as mu
from mutandis.algorithms.oneshot import Gate, Index, Mixture, Subset, selections_of

LAYERS, OPS = 4, 4
BEST = (0, 1, 2, 3)
SPACE = mu.space([mu.oneof(["line", "square", "sine", "cosine"]) for _ in range(LAYERS)]).bare()


def combine(selection, arms, align=lambda output: output):
    """Returns what leaves a choice: the reference of the table in mutandis/algorithms/oneshot/selections.py.

    Args:
        selection: What the decision reads.
        arms: A function per candidate; only those that run are called.
        align: Brings outputs to one shape.
    """
    if isinstance(selection, Index):
        return arms[selection.index]()
    if isinstance(selection, Gate):
        made = selection.gate[selection.index] * arms[selection.index]()
        for i in selection.probe:
            with torch.no_grad():
                output = arms[i]()
            made = made + selection.gate[i] * output
        return made
    indices = range(len(arms)) if isinstance(selection, Mixture) else selection.indices
    made = sum(weight * align(arms[i]()) for i, weight in zip(indices, selection.weights, strict=True))
    return made + selection.offset if isinstance(selection, Subset) and selection.offset is not None else made


def phi(x):
    """Returns the four functions of `[B, L]`, as `[B, L, 4]`."""
    root = math.sqrt(2)
    waves = [torch.sin(math.pi * x) * root, torch.cos(2 * math.pi * x) * root]
    return torch.stack([x * math.sqrt(3), (x * x - 1 / 3) / 0.29814, *waves], -1)


class Data:
    def __init__(self, seed):
        self.generator = torch.Generator().manual_seed(seed)

    def batch(self, size=64):
        x = torch.rand(size, LAYERS, generator=self.generator) * 2 - 1
        features = phi(x)
        noise = 0.1 * torch.randn(size, generator=self.generator)
        return features, features[:, range(LAYERS), BEST].sum(1) + noise


class Net:
    """Shared weights, one number per operation; `is_fixed` keeps them at 1, as a norm without affine would."""

    def __init__(self, seed, is_fixed=False):
        generator = torch.Generator().manual_seed(seed)
        start = 0.5 + 0.1 * torch.randn(LAYERS, OPS, generator=generator)
        self.is_fixed = is_fixed
        self.weights = [(torch.ones(()) if is_fixed else value.clone()).requires_grad_() for value in start.flatten()]

    def loss(self, selections, batch, weights=None):
        weights = self.weights if weights is None else weights
        features, y = batch
        made = 0.0
        for layer in range(LAYERS):
            arms = [lambda i=i, k=layer: weights[k * OPS + i] * features[:, k, i] for i in range(OPS)]
            made = made + combine(selections[layer], arms)
        return ((made - y) ** 2).mean()

    def step(self, gradients, rate=0.05):
        if self.is_fixed:
            return
        with torch.no_grad():
            for weight, gradient in zip(self.weights, gradients, strict=True):
                if gradient is not None:
                    weight -= rate * gradient

    def train(self, loss):
        self.step(torch.autograd.grad(loss, self.weights, allow_unused=True))


class Ahead:
    """Losses at weights that are not there, for second-order DARTS."""

    learning_rate = 0.05

    def __init__(self, net, train, valid):
        self.net = net
        self.batches = {"train": train, "valid": valid}

    def weights(self):
        return self.net.weights

    def stepped(self, gradients):
        return [w.detach() if g is None else w.detach() - self.learning_rate * g
                for w, g in zip(self.net.weights, gradients, strict=True)]  # fmt: skip

    def loss(self, selections, data, weights):
        return self.net.loss(selections, self.batches[data], weights)


def r2(loss):
    return 1 - float(loss) / 4


def train_shared(search, steps, seed, is_fixed=False, warm=0):
    """Runs the loop of the protocol, and returns the net and the data of the policy."""
    train, valid, net = Data(seed + 1), Data(seed + 1000), Net(seed, is_fixed)
    needs = search.needs
    for step in range(steps):
        search.progress(max(step - warm, 0) / steps)
        batch = train.batch()
        if not needs.is_one_pass or step < warm:
            if not needs.is_virtual:
                net.train(net.loss(search.weights(), batch))
            elif needs.is_virtual:
                chosen = search.policy()
                search.feedback(chosen, virtual=Ahead(net, batch, valid.batch()))
                net.train(net.loss(search.weights(), batch))
        if needs.data == "none" or needs.is_virtual or step < warm:
            continue
        if needs.is_one_pass:
            chosen = search.policy()
            loss = net.loss(chosen, batch)
            gradients = torch.autograd.grad(loss, net.weights, retain_graph=True, allow_unused=True)
            search.feedback(chosen, loss=loss)
            net.step(gradients)
        elif needs.every and step % needs.every == 0:
            _policy_step(search, net, valid.batch())
        elif needs.every == 0:  # An epoch has 20 steps here; the draws of its policy phase are spread over them.
            for _ in range(needs.draws // 20):
                _policy_step(search, net, valid.batch())
    return net, valid


def _policy_step(search, net, batch):
    chosen = search.policy()
    if search.needs.outcome == "reward":
        with torch.no_grad():
            search.feedback(chosen, reward=r2(net.loss(chosen, batch)))
    else:
        search.feedback(chosen, loss=net.loss(chosen, batch))


def run_shared(algorithm, steps, seed, cost=None, **options):
    """Returns the child that an algorithm derives."""
    search = algorithm.start_shared(SPACE, seed=seed, cost=cost)
    net, valid = train_shared(search, steps, seed, **options)
    batch = valid.batch(512)

    def evaluate(dna):
        with torch.no_grad():
            return r2(net.loss(selections_of(dna), batch))

    return search.derive(evaluate).values


def successes(algorithm, steps, seeds, **options):
    """Returns how many seeds find the best child."""
    return sum(run_shared(algorithm, steps, seed, **options) == BEST for seed in seeds)
