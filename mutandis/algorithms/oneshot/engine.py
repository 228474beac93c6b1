"""The search behind every algorithm whose policy learns from a loss: draws, gradients, Adam.

An algorithm is a `Rule`: how selections of weight and policy steps are chosen, and how the loss becomes gradients of
the tables. Each draw hangs on copies of the tables, so that several may wait for their loss, and a step of the policy
never touches a graph that somebody still needs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Protocol

import torch
from torch import Tensor

from mutandis.algorithms.base import need_number
from mutandis.algorithms.oneshot.derive import most_likely
from mutandis.algorithms.oneshot.protocol import Evaluate, Needs, OneShot, Virtual, check_outcome
from mutandis.algorithms.oneshot.selections import Selections, selections_of
from mutandis.algorithms.oneshot.tables.gradients import Gradients, gradients_by, with_gradients
from mutandis.algorithms.oneshot.tables.optimise import TableAdam
from mutandis.algorithms.oneshot.tables.parts import Tables
from mutandis.algorithms.oneshot.tables.policy import Choose, Policy
from mutandis.algorithms.oneshot.tables.relaxations import Noise
from mutandis.algorithms.oneshot.tables.run import TableSearch
from mutandis.errors import SettingError
from mutandis.hyper import DNA, SearchSpace
from mutandis.hyper.rng import Rng

MOST_WAITING = 100


@dataclass(frozen=True, slots=True)
class View:
    """What a rule draws from.

    Attributes:
        policy: The policy.
        tables: The tables to hang gradients on.
        noise: Random numbers.
        temperature: At this point of the run.
        fraction: How much of the run is done.
        number: Of the draw.
    """

    policy: Policy
    tables: Tables
    noise: Noise
    temperature: float
    fraction: float
    number: int

    def select(self, choose: Choose) -> Selections:
        """Returns selections whose decisions with options are chosen by a function."""
        return self.policy.select(self.number, self.tables, choose, self.noise, self.temperature)

    def random(self) -> Selections:
        """Returns the selections of a random DNA."""
        return selections_of(self.policy.space.random(self.noise.rng), self.number)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A draw that waits for its loss.

    Attributes:
        view: What it was drawn from; its tables take the gradient.
        selections: What was drawn.
    """

    view: View
    selections: Selections


class Term(Protocol):
    """A cost that joins the loss; see `ResourceConstrained`."""

    def __call__(self, loss: Tensor, policy: Policy, tables: Tables) -> Tensor:
        """Returns the whole loss, differentiable in both the loss and the tables."""
        ...


def pathwise(waiting: Waiting, loss: Tensor, *, keep_graph: bool) -> Gradients:
    """Returns the gradients that flow through the selections into the tables."""
    return gradients_by(loss, list(waiting.view.tables), keep_graph=keep_graph)


def one(fraction: float) -> float:
    """Returns 1, whatever the fraction: the temperature of rules without one."""
    return 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What makes an algorithm.

    Attributes:
        name: Of the algorithm, for messages.
        needs: What the search needs of the loop.
        weights: Chooses for a weight step.
        policy: Chooses for a policy step.
        gradients: Of the tables, from a draw and its loss.
        virtual: Likewise from a `Virtual`, where needed.
        temperature: By the fraction of the run that is done.
        delay: The policy rests before this fraction.
        moved: Called after a step of the policy with the draw and the tables as they were.
        is_settled: Whether the logits of a decision rest from now on, whatever their gradient.
        derive: From the policy to the result.
    """

    name: str
    needs: Needs
    weights: Callable[[View], Selections]
    policy: Callable[[View], Selections]
    gradients: Callable[..., Gradients] = pathwise
    virtual: Callable[[View, Virtual], Gradients] | None = None
    temperature: Callable[[float], float] = one
    delay: float = 0.0
    moved: Callable[[Waiting, list[Tensor]], None] | None = None
    is_settled: Callable[[Tensor], bool] = lambda logits: False
    derive: Callable[[Policy, Evaluate | None], DNA] = lambda policy, evaluate: most_likely(policy)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySettings:
    """How the tables start and move: Adam with decay in the gradient.

    Attributes:
        learning_rate: Of Adam.
        beta1: Of Adam.
        weight_decay: Of Adam.
        init_std: The tables start normal with this deviation.
    """

    learning_rate: float
    beta1: float
    weight_decay: float
    init_std: float

    @classmethod
    def of(cls, algorithm: OneShot) -> PolicySettings:
        """Returns those of an algorithm that has fields of these names.

        Raises:
            SettingError: a number is out of its range.
        """
        name = type(algorithm).__name__
        made = cls(**{field.name: getattr(algorithm, field.name) for field in fields(cls)})
        need_number(f"{name}.learning_rate", made.learning_rate, above=0.0)
        need_number(f"{name}.beta1", made.beta1, low=0.0, below=1.0)
        need_number(f"{name}.weight_decay", made.weight_decay, low=0.0)
        need_number(f"{name}.init_std", made.init_std, low=0.0)
        return made

    def adam(self, tables: list[Tensor]) -> TableAdam:
        """Returns the optimizer of some tables."""
        return TableAdam(tables, self.learning_rate, beta1=self.beta1, weight_decay=self.weight_decay)


class PolicySearch(TableSearch[Waiting]):
    """A run of a rule.

    Args:
        rule: The algorithm.
        space: The space.
        seed: Seed of the run.
        settings: Of the tables.
    """

    def __init__(self, rule: Rule, space: SearchSpace, seed: int, settings: PolicySettings) -> None:
        rng = Rng(seed, "one shot", rule.name)
        policy = Policy(space, rng.derive("tables"), init_std=settings.init_std)
        super().__init__(rule.needs, policy, Noise(rng), settings.adam(policy.tables), MOST_WAITING)
        self._rule = rule
        self._term: Term | None = None

    def constrain(self, term: Term) -> None:
        """Adds a cost to the loss of every policy step from now on."""
        self._term = term

    def _view(self, tables: Tables, number: int) -> View:
        temperature = self._rule.temperature(self._fraction)
        return View(self.policy_tables, tables, self.noise, temperature, self._fraction, number)

    def weights(self) -> Selections:
        """Returns the selections of the next weight step."""
        with torch.no_grad():
            return self._rule.weights(self._view(self.policy_tables.tables, -1))

    def policy(self) -> Selections:
        """Returns the selections of the next policy step."""
        with with_gradients():
            view = self._view(self.policy_tables.leaves(), self._drawn)
            selections = self._rule.policy(view)
        return self._expect(Waiting(view, selections))

    def feedback(
        self,
        selections: Selections,
        *,
        loss: Tensor | None = None,
        reward: float | None = None,
        virtual: Virtual | None = None,
    ) -> None:
        """Moves the policy."""
        check_outcome(self._rule.name, self.needs, {"loss": loss, "reward": reward, "virtual": virtual})
        waiting = self._answered(selections)
        if waiting is None or self._fraction < self._rule.delay:
            return
        if virtual is not None and self._rule.virtual is not None:
            self._move(waiting, self._rule.virtual(waiting.view, virtual), None)
        elif loss is not None and bool(torch.isfinite(loss.detach())):
            gradients = self._rule.gradients(waiting, loss, keep_graph=self.needs.is_one_pass)
            self._move(waiting, gradients, loss.detach())

    def _move(self, waiting: Waiting, gradients: Gradients, loss: Tensor | None) -> None:
        if self._term is not None:
            gradients = self._with_term(self._term, gradients, loss)
        gradients = self._without_settled(gradients)
        before = [table.clone() for table in self.policy_tables.tables]
        self._adam.step(gradients)
        if self._rule.moved is not None:
            self._rule.moved(waiting, before)

    def _without_settled(self, gradients: Gradients) -> Gradients:
        tables = self.policy_tables.tables
        choices = {part.tables[0] for part in self.policy_tables.parts if part.kind == "options"}
        return [None if index in choices and self._rule.is_settled(tables[index]) else gradient
                for index, gradient in enumerate(gradients)]  # fmt: skip

    def _with_term(self, term: Term, gradients: Gradients, loss: Tensor | None) -> Gradients:
        """Returns the gradients of f(loss, cost): those of the loss times df/dloss, plus those through the cost."""
        with with_gradients():
            value = torch.zeros((), dtype=torch.float64) if loss is None else loss.double().cpu()
            value = value.reshape(()).requires_grad_()
            leaves = self.policy_tables.leaves()
            total = term(value, self.policy_tables, leaves)
            factor, *through = torch.autograd.grad(total, [value, *leaves], allow_unused=True)
        return [_sum(None if own is None else factor * own, extra)
                for own, extra in zip(gradients, through, strict=True)]  # fmt: skip

    def derive(self, evaluate: Evaluate | None = None) -> DNA:
        """Returns the result by the rule's way to derive it."""
        return self._rule.derive(self.policy_tables, evaluate)


def _sum(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    return b if a is None else a if b is None else a + b


_FIX_STEPS = "write the values as mu.oneof([...])"
_FIX_PICKS = "write one mu.oneof per place, or use an algorithm that learns from rewards, such as TuNAS() or ENAS()"


def need_relaxable(name: str, space: SearchSpace, *, picks: bool) -> None:
    """Refuses decisions that a loss has no gradient for: between whole numbers there is no program.

    Args:
        name: Of the algorithm.
        space: The space.
        picks: Whether several picks are fine.

    Raises:
        SettingError: a decision is a range of whole or stepped numbers, or of several picks where these are not fine.
    """
    for point in space.points:
        is_stepped = point.kind in ("int", "float") and point.is_finite
        if is_stepped or (point.kind == "many" and not picks):
            fix = _FIX_STEPS if is_stepped else _FIX_PICKS
            raise SettingError("cannot relax a decision", at=point.path, got=point.describe(),
                               expected=f"what {name} has a gradient for: choices and continuous ranges",
                               fix=fix)  # fmt: skip


__all__ = ["PolicySearch", "PolicySettings", "Rule", "Term", "View", "Waiting", "need_relaxable", "one", "pathwise"]
