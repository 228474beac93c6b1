"""The loop itself: weight steps, policy steps, epochs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any

import torch
from torch import Tensor

from mutandis.algorithms.oneshot.protocol import SharedSearch
from mutandis.algorithms.oneshot.selections import Selections
from mutandis.errors import LoweringError, SettingError
from mutandis.flows.oneshot.inventory import Inventory, likeliest
from mutandis.flows.oneshot.measuring import Measures
from mutandis.flows.oneshot.recipe import Recipe
from mutandis.flows.oneshot.result import Epoch
from mutandis.flows.oneshot.running import moved, running, storage_of
from mutandis.flows.oneshot.teams.relay import Relay
from mutandis.flows.oneshot.teams.team import Team, begin_epoch
from mutandis.flows.oneshot.virtual import VirtualStep
from mutandis.flows.supernet import Shared

Tell = Callable[[int, float], None]
"""Hears after each weight step how many are done, and its loss."""


class Session:
    """One run, between its start and its end.

    Args:
        shared: The shared program.
        search: The search.
        recipe: The settings.
        train: Batches for the weights.
        valid: Batches for the policy.
        inventory: What is behind the choices.

    Attributes:
        measures: Runs children on batches.
        optimizer: Of the weights.
        history: The epochs that are done.
        num_steps: Weight steps in an epoch.
        team: The processes that train together.
        scaler: Scales losses up where passes run in float16; else None.
    """

    def __init__(self, shared: Shared, search: SharedSearch, recipe: Recipe, train: Iterable[Any],
                 valid: Iterable[Any], inventory: Inventory) -> None:  # fmt: skip
        self._shared, self._search, self._recipe = shared, search, recipe
        self._train, self._valid, self._inventory = train, valid, inventory
        norm = recipe.norm or search.needs.norm
        self.measures = Measures(shared, recipe.loss, recipe.metric, norm, recipe.precision)
        fixed = inventory.norms if norm == "batch_no_affine" else set()
        self._known = {id(p) for p in shared.module.parameters()}
        self._num_builds = shared.num_builds
        trained = [p for p in shared.module.parameters() if p.requires_grad and storage_of(p) not in fixed]
        self._trained: list[Tensor] = list(trained)
        self.optimizer = recipe.make(self._trained)
        self._rates = [float(group["lr"]) for group in self.optimizer.param_groups]
        self._guard = shared.guard(self.optimizer)
        shared.module.zero_grad(set_to_none=True)  # What an earlier loop has left takes no part.
        self.history: list[Epoch] = []
        self.num_steps = length_of(train, "train")
        num_valid = length_of(valid, "valid")
        self.team = Team(self.measures.device)
        self.scaler = self._new_scaler()
        self._is_relayed = self.scaler is not None or not self.team.is_alone
        self._join(num_valid)

    def _new_scaler(self) -> torch.amp.GradScaler | None:
        if self.measures.precision != torch.float16:
            return None
        if self._search.needs.is_virtual:
            raise SettingError("cannot look a step ahead in half precision", at="one_shot.precision", got="float16",
                               expected="a precision whose gradients need no scaling, for a second-order step",
                               fix="use precision='bfloat16' or 'float32'")  # fmt: skip
        return torch.amp.GradScaler(self.measures.device.type)

    def _join(self, num_valid: int) -> None:
        """Begins together with the other processes: on one run, from the weights of the first."""
        module = self._shared.module
        shapes = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
        self.team.need_same({
            "seed": self._recipe.seed, "epochs": self._recipe.epochs, "space": self._shared.space.fingerprint,
            "number of train batches": self.num_steps, "number of valid batches": num_valid, "weights": shapes,
        })  # fmt: skip
        self.team.copy_first([*module.parameters(), *module.buffers()])

    def close(self) -> None:
        """Takes the hooks off the optimizer."""
        self._guard.remove()

    def run_epoch(self, tell: Tell) -> Epoch:
        """Runs the next epoch, and adds it to the history."""
        started = time.perf_counter()
        self._shared.module.train()
        done = len(self.history)
        begin_epoch(self._train, done)
        begin_epoch(self._valid, done)
        losses: list[float] = []
        outcomes: list[float] = []
        valid = endless(self._valid)
        needs = self._search.needs
        for step, given in enumerate(self._train):
            fraction = min(1.0, (done + step / self.num_steps) / self._recipe.epochs)
            self._search.progress(fraction)
            self._set_rates(fraction)
            batch = moved(given, self.measures.device)
            count = done * self.num_steps + step + 1
            is_due = not needs.is_one_pass and needs.every > 0 and (count - needs.policy_first) % needs.every == 0
            if is_due and needs.policy_first:
                outcomes += self._policy_steps(valid, batch)
            losses.append(self._one_pass(batch) if needs.is_one_pass else self._weight_step(batch))
            if is_due and not needs.policy_first:
                outcomes += self._policy_steps(valid, batch)
            tell(count, losses[-1])
        self._search.progress((done + 1) / self._recipe.epochs)
        if needs.every == 0 and not needs.is_one_pass:
            outcomes += self._policy_steps(valid, batch)
        self.team.copy_first(self._shared.module.buffers())  # Running statistics are those of the first process.
        self.history.append(self._record(losses, outcomes, time.perf_counter() - started))
        return self.history[-1]

    def _set_rates(self, fraction: float) -> None:
        if self._recipe.schedule is not None:
            for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
                group["lr"] = rate * self._recipe.schedule(fraction)

    def _weight_step(self, batch: Any) -> float:
        losses = []
        for _ in range(self._search.needs.paths):  # Their gradients add up.
            with running(self._shared, self._search.weights()) as child:
                self._refuse_late_weights()
                loss = self.measures.loss_of(child, batch)
                self._backward(loss)
            losses.append(loss.detach())
        return self._step(torch.stack(losses).mean())

    def _backward(self, loss: Tensor) -> None:
        if not loss.requires_grad:
            raise SettingError("cannot train on a loss", at="loss", got="a tensor without a graph",
                               expected="a loss that hangs on the weights",
                               fix="return it without detach(), item() or no_grad()")  # fmt: skip
        scaled = loss if self.scaler is None else self.scaler.scale(loss)
        scaled.backward()  # type: ignore[no-untyped-call]

    @property
    def _scale(self) -> float:
        return 1.0 if self.scaler is None else float(self.scaler.get_scale())

    def _one_pass(self, batch: Any) -> float:
        chosen = self._search.policy()
        relay = Relay(chosen)  # Code that runs parts of a pass twice, as checkpoints do, may go backward twice.
        with running(self._shared, relay.copies) as child:
            self._refuse_late_weights()
            loss = self.measures.loss_of(child, batch)
            self._backward(loss)
        if self._search.needs.outcome == "loss":
            gradients = [leaf.grad for leaf in relay.leaves]
            told = relay.loss(self.team.mean(float(loss.detach())), gradients, self.team, self._scale)
            self._search.feedback(chosen, loss=told)
        return self._step(loss)

    def _step(self, loss: Tensor) -> float:
        value = self.team.mean(float(loss.detach()))
        if math.isfinite(value):
            self.team.average_gradients(self._trained)
            if self.scaler is not None:
                self.scaler.unscale_(self.optimizer)
            if self._recipe.clip is not None:
                torch.nn.utils.clip_grad_norm_(self._trained, self._recipe.clip)
            if self.scaler is None:
                self.optimizer.step()
            else:
                self.scaler.step(self.optimizer)  # Leaves the step out where a gradient is not finite.
                self.scaler.update()
        self._guard.forget()
        self._shared.module.zero_grad(set_to_none=True)
        return value

    def _policy_steps(self, valid: Iterator[Any], train_batch: Any) -> list[float]:
        needs = self._search.needs
        found = []
        for _ in range(0 if needs.data == "none" else needs.draws):
            batch = train_batch if needs.data == "train" else moved(next(valid), self.measures.device)
            found.append(self._policy_step(batch, train_batch))
        return [value for value in found if math.isfinite(value)]

    def _policy_step(self, batch: Any, train_batch: Any) -> float:
        chosen, needs = self._search.policy(), self._search.needs
        if needs.outcome == "reward":
            reward = self.team.mean(self.measures.reward(chosen, batch))
            self._search.feedback(chosen, reward=reward)
            return reward
        if needs.is_virtual:
            virtual = VirtualStep(self._shared, self.measures.loss_of, {"train": train_batch, "valid": batch},
                                  self._trained, self.optimizer, self._recipe.make, self.team)  # fmt: skip
            self._search.feedback(chosen, virtual=virtual)
            return math.nan
        if self._is_relayed:
            return self._relayed_step(chosen, batch)
        with running(self._shared, chosen) as child:
            loss = self.measures.loss_of(child, batch)
            self._search.feedback(chosen, loss=loss)
        return float(loss.detach())

    def _relayed_step(self, chosen: Selections, batch: Any) -> float:
        """Takes a policy step whose gradients are those of all processes, or were scaled."""
        relay, scale = Relay(chosen), self._scale
        with running(self._shared, relay.copies) as child:
            loss = self.measures.loss_of(child, batch)
            gradients = relay.gradients(loss * scale)
        value = self.team.mean(float(loss.detach()))
        self._search.feedback(chosen, loss=relay.loss(value, gradients, self.team, scale))
        return value

    def _refuse_late_weights(self) -> None:
        """Refuses weights that no child had before training: no optimizer knows them."""
        if self._shared.num_builds == self._num_builds:
            return
        self._num_builds = self._shared.num_builds
        late = [name for name, p in self._shared.module.named_parameters() if id(p) not in self._known]
        if late:
            raise LoweringError(
                "cannot train a weight that came to light during training",
                at=late[0],
                expected="weights that the children made before training have",
                fix="call shared.materialize(dna) with a DNA that has it before one_shot",
            )

    def _record(self, losses: list[float], outcomes: list[float], seconds: float) -> Epoch:
        finite = [loss for loss in losses if math.isfinite(loss)]
        chances = self._search.probabilities()
        return Epoch(
            number=len(self.history) + 1,
            loss=sum(finite) / len(finite) if finite else math.nan,
            outcome=sum(outcomes) / len(outcomes) if outcomes else None,
            learning_rate=float(self.optimizer.param_groups[0]["lr"]),
            num_skipped=len(losses) - len(finite),
            entropy=self._search.entropy(),
            likeliest=likeliest(self._shared, chances),
            free_share=self._inventory.free_share(chances),
            seconds=seconds,
        )


def length_of(batches: Iterable[Any], name: str) -> int:
    """Returns how many batches there are, by going through them where they do not say.

    Raises:
        SettingError: there are none, or they can be gone through only once.
    """
    if isinstance(batches, Iterator):  # To begin one of a loader would already draw from its generator.
        raise SettingError("cannot train on batches", at=f"one_shot.{name}", got=batches,
                           expected="something that can be gone through every epoch, such as a DataLoader or a list",
                           fix="pass the loader, not iter(loader)")  # fmt: skip
    if not isinstance(batches, Iterable) and not hasattr(batches, "__getitem__"):
        raise SettingError("cannot train on batches", at=f"one_shot.{name}", got=batches,
                           expected="batches, such as a DataLoader or a list",
                           fix="pass torch.utils.data.DataLoader(dataset, batch_size=64)")  # fmt: skip
    count = len(batches) if isinstance(batches, Sized) else sum(1 for _ in batches)
    if count == 0:
        raise SettingError("cannot train on batches", at=f"one_shot.{name}", got=batches,
                           expected="at least one batch",
                           fix="look at drop_last= and at the size of the data set")  # fmt: skip
    return count


def endless(batches: Iterable[Any]) -> Iterator[Any]:
    """Yields batches, from the start again when they are over."""
    while True:
        yield from batches


def peek(batches: Iterable[Any]) -> Any:
    """Returns the first batch; what shuffles the batches goes on as if nobody had looked."""
    owners = (batches, getattr(batches, "sampler", None))
    found = {
        id(g): g for g in (getattr(owner, "generator", None) for owner in owners) if isinstance(g, torch.Generator)
    }
    before = [(generator, generator.get_state()) for generator in found.values()]
    with torch.random.fork_rng(devices=[]):
        batch = next(iter(batches))
    for generator, state in before:
        generator.set_state(state)
    return batch


__all__ = ["Session", "Tell", "endless", "length_of", "peek"]
