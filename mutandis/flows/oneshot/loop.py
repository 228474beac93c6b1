"""The loop of weight sharing in the user's own hands: weight steps and policy steps, one pass at a time."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from mutandis.algorithms import Algorithm
from mutandis.algorithms.base import JSON, need_int
from mutandis.algorithms.oneshot.protocol import Cost, OneShot, SharedSearch
from mutandis.algorithms.oneshot.selections import Selections
from mutandis.errors import MutandisWarning, SettingError
from mutandis.flows.oneshot.fitting.report import fit_report, module_loss
from mutandis.flows.oneshot.inventory import Inventory, likeliest
from mutandis.flows.oneshot.running import running
from mutandis.flows.oneshot.sampled import SampledSearch, need_weighed
from mutandis.flows.oneshot.teams.relay import Relay
from mutandis.flows.oneshot.teams.team import Team
from mutandis.flows.supernet import Shared
from mutandis.hyper import DNA

WEIGHTS, POLICY, BOTH = "weights", "policy", "both"


def steps(
    shared: Shared, algorithm: Algorithm, *, num_steps: int, epoch_steps: int | None = None, cost: Cost | None = None,
    norm: str | None = None, seed: int = 0,
) -> Steps:  # fmt: skip
    """Goes through the passes of a search on shared weights; the loop trains, and answers each.

        shared = mu.share_weights(program, x, norms="no_affine")
        loop = mu.flows.steps(shared, mu.algorithms.GDAS(), num_steps=1000)
        for child, step in loop:
            x, y = next(batches[step.data])                  # "train" or "valid".
            loss = cross_entropy(child(x), y)
            if step.trains_weights:
                loss.backward()
            if step.moves_weights:
                optimizer.step()
                optimizer.zero_grad()
            step(loss)                                       # Moves the policy, in policy steps.
        loop.derive(), loop.likeliest(), loop.free_share(), loop.search.entropy(), loop.search.probabilities()

    The same body serves all algorithms that learn from losses, and `mu.sample(shared, algorithm, trials=1000)` is this
    loop too. What learns from rewards (TuNAS, ENAS, any algorithm of trials) is answered with a reward instead,
    `step(accuracy)`, where `step.wants` says so. Schedules, clipping, precision and checkpoints are the loop's own;
    temperatures and warm-ups follow the fraction of `num_steps` that is done.

    Where torch.distributed was started, wrap `shared.module` in `DistributedDataParallel(shared.module,
    find_unused_parameters=True)` and call that instead of the child; losses, rewards and the gradients of the policy
    are means over the processes. (Without this option torch refuses, since arms that do not run get no gradients;
    `static_graph=True` cannot work, since each step runs other arms.)

    Args:
        shared: The shared program.
        algorithm: What learns the policy.
        num_steps: How many weight steps there are.
        epoch_steps: How many of them make an epoch, for algorithms whose policy moves after each epoch.
        cost: As for `one_shot`.
        norm: As for `one_shot`: `any` runs an algorithm in spite of candidates that scale their own outputs. Scales of
            norms are left alone by `share_weights(..., norms="no_affine")`.
        seed: Of the search.

    Raises:
        SettingError: a number is out of its range, or the algorithm refuses the space.
        LoweringError: the program cannot run what the algorithm selects.
    """
    need_int("steps.num_steps", num_steps, 1)
    if not isinstance(shared, Shared):
        raise SettingError("cannot train shared weights", at="steps.shared", got=shared,
                           expected="a program whose weights are shared",
                           fix="pass mu.share_weights(program)")  # fmt: skip
    need_weighed(algorithm, cost, "steps.cost")
    name = type(algorithm).__name__
    search, twin = (_begin(shared, algorithm, cost, seed) for _ in range(2))
    if search.needs.is_virtual:
        raise SettingError("cannot look a step ahead in a loop of your own", at="steps.algorithm", got=algorithm,
                           expected="an algorithm that learns from the loss of one pass",
                           fix="use mu.one_shot, or the first order")  # fmt: skip
    if search.needs.every == 0 and search.needs.data != "none":
        if epoch_steps is None:
            raise SettingError("cannot tell when an epoch ends", at="steps.epoch_steps", got=None,
                               expected=f"a number of weight steps, after which {name} moves its policy",
                               fix="pass epoch_steps=len(train_loader)")  # fmt: skip
        need_int("steps.epoch_steps", epoch_steps, 1)
    fit_report(shared, name, twin, module_loss(shared), norm=norm, fixes_norms=False).require()
    return Steps(shared, search, num_steps, epoch_steps or num_steps)


def _begin(shared: Shared, algorithm: Algorithm, cost: Cost | None, seed: int) -> SharedSearch:
    space = shared.space.bare()
    if isinstance(algorithm, OneShot):
        return algorithm.start_shared(space, seed=seed, cost=cost)
    return SampledSearch(algorithm, space, seed, 100)


class Step:
    """One pass of a child, and the way to answer it.

    Attributes:
        kind: `weights`, `policy` or `both`.
        number: Of the weight step that it is, or that are done before a policy step.
        moves_weights: Whether the optimizer shall step after it.
        wants: What it is answered with: `loss`, a scalar tensor with its graph; `reward`, a number, larger is better;
            or `none`, where an answer is heard and teaches nothing.
        data: Which batch it is for: `train` or `valid`.
    """

    def __init__(self, loop: Steps, kind: str, selections: Selections, relay: Relay | None, *, number: int,
                 moves_weights: bool) -> None:  # fmt: skip
        needs = loop.search.needs
        self.kind, self.number, self.moves_weights = kind, number, moves_weights
        self.wants = "none" if kind == WEIGHTS else needs.outcome
        self.data = needs.data if kind == POLICY else "train"
        self.is_answered = False
        self._loop, self._selections, self._relay = loop, selections, relay

    @property
    def trains_weights(self) -> bool:
        """Whether the gradients of the loss belong to the weights."""
        return self.kind != POLICY

    def __call__(self, outcome: Tensor | float | None = None) -> None:
        """Answers: the policy learns from it where it is a policy step.

        Args:
            outcome: The loss or the reward, see `wants`; a loss may have been propagated before.

        Raises:
            SettingError: a loss is wanted, and this is none with a graph.
        """
        self.is_answered = True
        if self.wants == "none" or outcome is None:
            return
        team, search = self._loop.team, self._loop.search
        if self.wants == "reward":
            if isinstance(outcome, Tensor) and outcome.requires_grad:
                raise SettingError("cannot learn from an outcome", at="step", got="a loss with its graph",
                                   expected="a reward, a number, larger is better",
                                   fix="pass step(accuracy), or step(-loss.item())")  # fmt: skip
            search.feedback(self._selections, reward=team.mean(float(outcome)))
            return
        if not isinstance(outcome, Tensor):
            raise SettingError("cannot learn from an outcome", at="step", got=outcome,
                               expected="the loss as a scalar tensor with its graph",
                               fix="pass the loss itself, not loss.item()")  # fmt: skip
        if self._relay is None:
            search.feedback(self._selections, loss=outcome)
            return
        leaves = self._relay.leaves
        done = any(leaf.grad is not None for leaf in leaves)
        gradients = [leaf.grad for leaf in leaves] if done else self._relay.gradients(outcome)
        told = self._relay.loss(team.mean(float(outcome.detach())), gradients, team)
        search.feedback(self._selections, loss=told)


class Steps:
    """A running loop: an iterator of (child, step). Made by `steps`.

    Attributes:
        shared: The shared program.
        search: The search: its `probabilities()` and `entropy()` say how far it is.
        count: How many weight steps are done.
        team: The processes that train together.
    """

    def __init__(self, shared: Shared, search: SharedSearch, total: int, epoch: int) -> None:
        self.shared, self.search = shared, search
        self.count = 0
        self.team = Team(next(shared.module.parameters()).device)
        self._total, self._epoch = total, epoch
        self._due: deque[str] = deque()
        self._context: AbstractContextManager[Any] | None = None
        self._current: Step | None = None
        self._inventory = Inventory(shared)  # It switches the live program, so not while a loop runs.

    def __iter__(self) -> Iterator[tuple[Any, Step]]:
        return self

    def __next__(self) -> tuple[Any, Step]:
        """Returns the live child and the way to answer.

        Raises:
            StopIteration: all steps are done.
        """
        self._leave()
        if not self._due:
            self._plan()
        kind = self._due.popleft()
        chosen = self.search.weights() if kind == WEIGHTS else self.search.policy()
        # One pass for both may be several backward passes, over parts of a batch; all meet in the relay.
        relay = Relay(chosen) if kind == BOTH or (kind != WEIGHTS and not self.team.is_alone) else None
        moves = kind != POLICY and (not self._due or self._due[0] != WEIGHTS)
        step = Step(self, kind, chosen, relay, number=self.count, moves_weights=moves)
        self.count += moves
        self._context = running(self.shared, chosen if relay is None else relay.copies)
        child = self._context.__enter__()
        self._current = step
        return child, step

    def _plan(self) -> None:
        """Lays out the passes up to the next weight step."""
        if self.count >= self._total:
            raise StopIteration
        needs = self.search.needs
        self.search.progress(self.count / self._total)
        if needs.is_one_pass:
            self._due.append(BOTH)
            return
        weights, policy = [WEIGHTS] * needs.paths, [POLICY] * (0 if needs.data == "none" else needs.draws)
        is_first = needs.policy_first and needs.every > 0
        is_due = (self.count + (not is_first)) % (needs.every or self._epoch) == 0
        self._due.extend([*(policy if is_due and is_first else ()), *weights])
        self._due.extend(policy if is_due and not is_first else ())

    def _leave(self) -> None:
        step, self._current = self._current, None
        context, self._context = self._context, None
        if context is not None:
            context.__exit__(None, None, None)
        if step is not None and step.wants != "none" and not step.is_answered:
            warnings.warn(
                f"the policy step after {step.number} weight steps was not answered, so nothing was learnt; call "
                "step(loss) in every turn of the loop",
                MutandisWarning,
                stacklevel=3,
            )

    def close(self) -> None:
        """Ends the loop; the live program stands at single paths again."""
        self._current = None
        self._leave()

    def derive(self, worth: Callable[[Any], float] | None = None) -> DNA:
        """Returns what was found.

        Args:
            worth: Measures a live child, larger is better, for algorithms that compare candidates at the end.

        Raises:
            SettingError: the algorithm compares candidates, and there is no `worth`.
        """
        self.close()
        if worth is None:
            return self.search.derive()
        with torch.no_grad():
            return self.search.derive(lambda dna: self.team.mean(float(worth(self.shared.materialize(dna)))))

    def likeliest(self) -> dict[str, Any]:
        """Returns the label of the likeliest candidate of each decision, by path; empty without a policy."""
        return likeliest(self.shared, self.search.probabilities())

    def free_share(self) -> float | None:
        """Returns the share of choices whose likeliest candidate has no weights, such as a skip connection.

        Near 1 late in a run it tells a known failure of relaxed search (Zela et al. 2020, arXiv 1909.09656). None where
        nothing is known.
        """
        return self._inventory.free_share(self.search.probabilities())

    def state_dict(self) -> JSON:
        """Returns the state as JSON, to be taken when a weight step and its policy steps are answered."""
        return {"count": self.count, "search": self.search.state_dict()}

    def load_state_dict(self, state: JSON) -> None:
        """Goes on from a state."""
        self.close()
        self._due.clear()
        self.count = state["count"]
        self.search.load_state_dict(state["search"])


__all__ = ["BOTH", "POLICY", "WEIGHTS", "Step", "Steps", "steps"]
