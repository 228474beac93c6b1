"""The search behind every algorithm whose policy learns from a loss: draws, gradients, Adam.

An algorithm is a `Rule`: how selections of weight and policy steps are chosen, and how the loss becomes gradients of
the tables. Each draw hangs on copies of the tables, so that several may wait for their loss, and a step of the policy
never touches a graph that somebody still needs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mutandis.algorithms.base import JSON
from mutandis.algorithms.oneshot.derive import most_likely
from mutandis.algorithms.oneshot.protocol import (
    Evaluate,
    Needs,
    SharedSearch,
    Virtual,
    check_outcome,
    need_fraction,
)
from mutandis.algorithms.oneshot.selections import Selections, selections_of
from mutandis.algorithms.oneshot.tables.optimise import TableAdam
from mutandis.algorithms.oneshot.tables.parts import Tables
from mutandis.algorithms.oneshot.tables.policy import Choose, Policy
from mutandis.algorithms.oneshot.tables.relaxations import Noise
from mutandis.algorithms.policies.reinforce import need_number
from mutandis.errors import SettingError
from mutandis.hyper import DNA, SearchSpace
from mutandis.hyper.rng import Rng

MOST_WAITING = 100
Gradients = list[Tensor | None]


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


def gradients_by(loss: Tensor, leaves: Sequence[Tensor], *, keep_graph: bool) -> Gradients:
    """Returns the gradients of a loss by leaves; None for one that took no part.

    Those of an earlier `loss.backward()` are used where there are any.
    """
    if any(leaf.grad is not None for leaf in leaves):
        return [leaf.grad for leaf in leaves]
    if not leaves or not loss.requires_grad:
        return [None] * len(leaves)
    return list(torch.autograd.grad(loss, list(leaves), retain_graph=keep_graph, allow_unused=True))


def pathwise(waiting: Waiting, loss: Tensor, *, keep_graph: bool) -> Gradients:
    """Returns the gradients that flow through the selections into the tables."""
    return gradients_by(loss, list(waiting.view.tables), keep_graph=keep_graph)


@contextlib.contextmanager
def with_gradients() -> Iterator[None]:
    """Records gradients, whatever mode the loop is in: it may measure rewards under `no_grad`."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


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

    def check(self, name: str) -> PolicySettings:
        """Refuses numbers out of their range.

        Raises:
            SettingError: one is.
        """
        need_number(f"{name}.learning_rate", self.learning_rate, above=0.0)
        need_number(f"{name}.beta1", self.beta1, low=0.0, below=1.0)
        need_number(f"{name}.weight_decay", self.weight_decay, low=0.0)
        need_number(f"{name}.init_std", self.init_std, low=0.0)
        return self


class PolicySearch(SharedSearch):
    """A run of a rule.

    Args:
        rule: The algorithm.
        space: The space.
        seed: Seed of the run.
        settings: Of the tables.

    Attributes:
        policy_tables: The policy; tests and plots read it.
        noise: Random numbers; tests put their own in its place.
    """

    def __init__(self, rule: Rule, space: SearchSpace, seed: int, settings: PolicySettings) -> None:
        self.needs = rule.needs
        self._rule = rule
        rng = Rng(seed, "one shot", rule.name)
        self.policy_tables = Policy(space, rng.derive("tables"), init_std=settings.init_std)
        self.noise = Noise(rng)
        self._adam = TableAdam(self.policy_tables.tables, settings.learning_rate, beta1=settings.beta1,
                               weight_decay=settings.weight_decay)  # fmt: skip
        self._term: Term | None = None
        self._fraction = 0.0
        self._drawn = 0
        self._waiting: dict[int, Waiting] = {}

    def constrain(self, term: Term) -> None:
        """Adds a cost to the loss of every policy step from now on."""
        self._term = term

    def progress(self, fraction: float) -> None:
        """Says how much of the run is done, in [0, 1]."""
        self._fraction = need_fraction(fraction)

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
        self._waiting[self._drawn] = Waiting(view, selections)
        self._drawn += 1
        if len(self._waiting) > MOST_WAITING:
            del self._waiting[next(iter(self._waiting))]
        return selections

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
        waiting = self._waiting.get(selections.number)
        if waiting is None or waiting.selections is not selections:
            return
        del self._waiting[selections.number]
        if self._fraction < self._rule.delay:
            return
        if virtual is not None and self._rule.virtual is not None:
            self._move(waiting, self._rule.virtual(waiting.view, virtual), None)
        elif loss is not None and bool(torch.isfinite(loss.detach())):
            gradients = self._rule.gradients(waiting, loss, keep_graph=self.needs.is_one_pass)
            self._move(waiting, gradients, loss.detach())

    def _move(self, waiting: Waiting, gradients: Gradients, loss: Tensor | None) -> None:
        if self._term is not None:
            gradients = self._with_term(self._term, gradients, loss)
        before = [table.clone() for table in self.policy_tables.tables]
        self._adam.step(gradients)
        if self._rule.moved is not None:
            self._rule.moved(waiting, before)

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

    def entropy(self) -> dict[str, float]:
        """Returns the entropy of each decision in nats, by path."""
        return self.policy_tables.entropy_by_path()

    def probabilities(self) -> dict[str, list[float]]:
        """Returns the chance of each option or picked candidate, by path."""
        return self.policy_tables.chances_by_path()

    def state_dict(self) -> JSON:
        """Returns the state as JSON."""
        return {
            "rng": self.noise.rng.state(),
            "tables": self.policy_tables.state(),
            "adam": self._adam.state(),
            "fraction": self._fraction,
            "drawn": self._drawn,
        }

    def load_state_dict(self, state: JSON) -> None:
        """Goes on from a state."""
        self.noise.rng.set_state(state["rng"])
        self.policy_tables.set_state(state["tables"])
        self._adam.set_state(state["adam"])
        self._fraction, self._drawn = state["fraction"], state["drawn"]
        self._waiting = {}


def _sum(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    return b if a is None else a if b is None else a + b


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
            fix = "write the values as mu.oneof([...])" if is_stepped else "use GDAS(), or one mu.oneof per place"
            raise SettingError("cannot relax a decision", at=point.path, got=point.describe(),
                               expected=f"what {name} has a gradient for: choices and continuous ranges",
                               fix=fix)  # fmt: skip


def need_share(name: str, value: object) -> None:
    """Refuses a setting that is not a fraction of the run, in [0, 1).

    Raises:
        SettingError: it is not.
    """
    need_number(name, value, low=0.0, below=1.0)


def need_one_of(name: str, value: object, allowed: Sequence[str]) -> None:
    """Refuses a setting that is not one of some words.

    Raises:
        SettingError: it is not.
    """
    if value not in allowed:
        words = " or ".join(repr(word) for word in allowed)
        raise SettingError("cannot use a setting", at=name, got=value, expected=words, fix=f"write {allowed[0]!r}")


__all__ = ["Gradients", "PolicySearch", "PolicySettings", "Rule", "Term", "View", "Waiting", "gradients_by",
           "need_one_of", "need_relaxable", "need_share", "one", "pathwise", "with_gradients"]  # fmt: skip
