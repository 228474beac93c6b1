"""Relaxation by mixtures: every candidate runs, weighted by its probability.

DARTS: Liu, Simonyan, Yang: DARTS: Differentiable Architecture Search, ICLR 2019, arXiv 1806.09055, Sec. 2.3, eq. (5)
to (8). SETN: Dong, Yang: One-Shot Neural Architecture Search via Self-Evaluated Template Network, ICCV 2019, doi
10.1109/ICCV.2019.00372, in the form of NATS-Bench (arXiv 2009.00437).

The policy of DARTS moves first, and then the weights (Algorithm 1; a step of the second order looks ahead on the train
batch that the weights learn from next). NATS-Bench moves the weights first.

*Notation*: A = logits, p = softmax(A), o = outputs, m = sum of p_k o_k; L_tr, L_val = losses on two halves of the data;
w = weights, xi = their step size, w' = w after a virtual step of their own optimizer. The gradient of A is

    first order:   grad_A L_val(w, A)
    second order:  grad_A L_val(w', A) - xi [grad_A L_tr(w+, A) - grad_A L_tr(w-, A)] / (2 eps),
                   w+- = w +- eps v,  v = grad_w' L_val(w', A),  eps = 0.01 / |v|.

*Departures*: several picks are drawn (largest of A + Gumbel noise, straight through) rather than mixed, since a
program takes a list of them. A continuous range takes one value that moves by its gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mutandis.algorithms.base import need_instance, need_int, settings
from mutandis.algorithms.oneshot.derive import TopEdges, best_of, derivation, need_cells, top_dnas
from mutandis.algorithms.oneshot.engine import PolicySearch, PolicySettings, Rule, View, need_relaxable
from mutandis.algorithms.oneshot.protocol import Cost, Evaluate, Needs, OneShot, SharedSearch, Virtual
from mutandis.algorithms.oneshot.selections import Mixture, Selection, Selections
from mutandis.algorithms.oneshot.tables.gradients import Gradients, gradients_by
from mutandis.algorithms.oneshot.tables.parts import Part, check_orders, num_orders
from mutandis.algorithms.oneshot.tables.policy import Policy
from mutandis.errors import SettingError
from mutandis.hyper import DNA, SearchSpace


@settings
class DARTS(OneShot):
    """Mixes all candidates with learnt weights; the defaults are the published ones.

    A step costs the time and memory of all candidates. Meant for weight and policy steps on two halves of the data.

    Args:
        order: 1, or 2 for the gradient through a virtual step of the weights (three more passes).
        learning_rate: Of Adam for the logits.
        beta1: Of Adam.
        weight_decay: Of Adam, on the logits.
        init_std: The logits start normal with this deviation.
        cells: Keeps the best edges of each node instead of the most likely candidate everywhere.
        policy_first: Whether a policy step comes before its weight step, as in the paper, or after it.

    Raises:
        SettingError: a setting is of the wrong kind or out of its range.
    """

    order: int = 1
    learning_rate: float = 3e-4
    beta1: float = 0.5
    weight_decay: float = 1e-3
    init_std: float = 1e-3
    cells: TopEdges | None = None
    policy_first: bool = True

    def __post_init__(self) -> None:
        need_instance("DARTS.policy_first", self.policy_first, bool, "policy_first=True")
        if self.order not in (1, 2) or isinstance(self.order, bool):
            raise SettingError("cannot use a setting", at="DARTS.order", got=self.order, expected="1 or 2",
                               fix="write order=1")  # fmt: skip
        PolicySettings.of(self)
        need_cells(self.cells, "DARTS")

    def start_shared(self, space: SearchSpace, *, seed: int, cost: Cost | None = None) -> SharedSearch:
        """Begins a run with nearly uniform mixtures.

        Raises:
            SettingError: the space is open-ended, a range has steps, or there are several picks and the order is 2.
        """
        need_relaxable("DARTS", space, picks=True)
        if self.order == 2:
            _refuse_picks(space)
        rule = Rule(
            name="DARTS",
            needs=Needs(is_virtual=self.order == 2, policy_first=self.policy_first),
            weights=mixed,
            policy=mixed,
            virtual=_second_order,
            derive=derivation(self.cells),
        )
        return PolicySearch(rule, space, seed, PolicySettings.of(self))


@settings
class SETN(OneShot):
    """Trains weights on uniform single paths and the policy on mixtures, and measures the most likely candidates.

    Args:
        num_candidates: How many of the most likely DNAs are measured at the end.
        learning_rate: Of Adam for the logits.
        beta1: Of Adam.
        weight_decay: Of Adam, on the logits.
        init_std: The logits start normal with this deviation.

    Raises:
        SettingError: a number is out of its range.
    """

    num_candidates: int = 100
    learning_rate: float = 3e-4
    beta1: float = 0.5
    weight_decay: float = 1e-3
    init_std: float = 1e-3

    def __post_init__(self) -> None:
        need_int("SETN.num_candidates", self.num_candidates, 1)
        PolicySettings.of(self)

    def start_shared(self, space: SearchSpace, *, seed: int, cost: Cost | None = None) -> SharedSearch:
        """Begins a run with nearly uniform mixtures.

        Raises:
            SettingError: the space is open-ended, a range has steps, or picks have more than 20000 orders.
        """
        need_relaxable("SETN", space, picks=True)
        for point in space.points:
            if point.kind == "many":
                check_orders(point, num_orders(point))  # Ranking them at the end needs all.

        def derive(policy: Policy, evaluate: Evaluate | None) -> DNA:
            return best_of("SETN", top_dnas(policy, self.num_candidates), evaluate)

        rule = Rule(name="SETN", needs=Needs(), weights=View.random, policy=mixed, derive=derive)
        return PolicySearch(rule, space, seed, PolicySettings.of(self))


def mixed(view: View) -> Selections:
    """Returns mixtures of all options with their probabilities."""
    return view.select(_mixture)


def _mixture(part: Part, logits: Tensor) -> Selection:
    return Mixture(torch.softmax(logits, 0))


def _second_order(view: View, virtual: Virtual) -> Gradients:
    def select(tables: Sequence[Tensor]) -> Selections:
        return view.policy.select(view.number, tables, _mixture, view.noise, view.temperature)

    return unrolled_gradients(list(view.tables), select, virtual)


def unrolled_gradients(
    tables: Sequence[Tensor], select: Callable[[Sequence[Tensor]], Selections], virtual: Virtual
) -> Gradients:
    """Returns the gradient of the valid loss after a virtual step of the weights (eq. (7) and (8)).

    Args:
        tables: Leaves that take gradients.
        select: Returns the selections of tables.
        virtual: Losses at weights that are not there.

    Returns:
        One per table; None for one that no loss depends on.
    """
    fixed = [table.detach() for table in tables]
    present = [weight.detach().clone().requires_grad_() for weight in virtual.weights()]
    slopes = torch.autograd.grad(virtual.loss(select(fixed), "train", present), present, allow_unused=True)
    ahead = [weight.detach().clone().requires_grad_() for weight in virtual.stepped(slopes)]
    found = torch.autograd.grad(virtual.loss(select(tables), "valid", ahead), [*tables, *ahead], allow_unused=True)
    direct, direction = found[: len(tables)], found[len(tables) :]
    norm = math.sqrt(sum(float((v.double() * v.double()).sum()) for v in direction if v is not None))
    if norm == 0.0:
        return list(direct)
    epsilon = 0.01 / norm

    def slopes_at(shift: float) -> tuple[Tensor | None, ...]:
        moved = [weight.detach() if v is None else weight.detach() + shift * v
                 for weight, v in zip(present, direction, strict=True)]  # fmt: skip
        return tuple(gradients_by(virtual.loss(select(tables), "train", moved), tables, keep_graph=False))

    factor = virtual.learning_rate / (2.0 * epsilon)
    made: Gradients = []
    for first, above, below in zip(direct, slopes_at(epsilon), slopes_at(-epsilon), strict=True):
        parts = [(first, 1.0), (above, -factor), (below, factor)]
        terms = [scale * part for part, scale in parts if part is not None]
        made.append(sum(terms[1:], terms[0]) if terms else None)
    return made


def _refuse_picks(space: SearchSpace) -> None:
    for point in space.points:
        if point.kind == "many":
            raise SettingError("cannot take a second-order step", at=point.path, got=point.describe(),
                               expected="choices and ranges, whose mixtures need no random numbers",
                               fix="use DARTS(order=1)")  # fmt: skip


__all__ = ["DARTS", "SETN", "mixed", "unrolled_gradients"]
