"""Optimizers that a program makes of its modules when it is built.

The program around the modules is built anew for each DNA, by its own `__init__`. An optimizer that is made there would
forget its momentum with every switch, and hold views of a few weights. So it is made over whole shared tensors, the
first one is kept for good, and stands in the place of every later one; from that it takes the settings that changed (a
learning rate that is a decision). In which group a weight belongs that the first child did not have, is asked of a
child that has it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from mutandis.errors import LoweringError
from mutandis.flows.supernet.around.digests import digest
from mutandis.flows.supernet.around.held import Held
from mutandis.flows.supernet.store import Store

Place = tuple[str, type]
Settings = dict[str, tuple[Any, Any]]
"""Of a group: the digest of each setting when it was made, and the setting."""

Swaps = Mapping[int, nn.Parameter]
"""By the id of a parameter that shares no weights, the one that is kept in its place."""


class Optimizers:
    """The optimizers of a program with shared weights.

    Args:
        store: The shared tensors.
        guard: Guards an optimizer that is kept.
    """

    def __init__(self, store: Store, guard: Callable[[torch.optim.Optimizer], Any]) -> None:
        self._store, self._guard = store, guard
        self._grouped = (0, 0)  # The numbers of matrices and optimizers that were put together.
        self._kept: dict[Place, torch.optim.Optimizer] = {}
        self._settings: dict[Place, list[Settings]] = {}
        self._guards: dict[Place, tuple[int, Any]] = {}
        self._saved: dict[tuple[str, str], dict[str, Any]] = {}

    def knows(self, held: Held) -> bool:
        """Returns whether an optimizer is kept for the place of a new one."""
        return (held.at, type(held.value)) in self._kept

    def keep(self, held: Held, swaps: Swaps) -> torch.optim.Optimizer:
        """Returns the optimizer that stands in the place of a new one, with the settings that changed.

        Raises:
            LoweringError: its groups are others.
        """
        made, place = held.value, (held.at, type(held.value))
        settings = [{k: (digest(v), v) for k, v in group.items() if k != "params"} for group in made.param_groups]
        kept = self._kept.setdefault(place, made)
        before = self._settings.setdefault(place, settings)
        if len(settings) != len(before):
            raise refusal(held.at, f"{len(settings)} groups of parameters", f"{len(before)}, as of the first child")
        if kept is made:
            for group in made.param_groups:
                group["params"] = [swaps.get(id(p), p) for p in group["params"]]
            self._load(place, kept)
        else:
            for group, old, new in zip(kept.param_groups, before, settings, strict=True):
                group.update(_changed(old, new))
            self.adopt(held, swaps)
            self._settings[place] = settings
        return kept

    def adopt(self, held: Held, swaps: Swaps) -> None:
        """Adds to the optimizer that is kept what another one of its kind holds beside its parameters.

        Raises:
            LoweringError: it belongs to another group, or it is a new parameter that nothing else holds.
        """
        kept = self._kept[held.at, type(held.value)]
        groups = {id(p): i for i, group in enumerate(kept.param_groups) for p in group["params"]}
        shared = {id(self._store.tensor(key)) for key in self._store.every_key()}
        for number, group in enumerate(held.value.param_groups):
            for parameter in (swaps.get(id(p), p) for p in group["params"]):
                if groups.setdefault(id(parameter), number) != number:
                    raise refusal(held.at, "a parameter that is in another group for another child", "one group for it")
                if not any(parameter is p for p in kept.param_groups[number]["params"]):
                    if id(parameter) not in shared:
                        raise refusal(held.at, f"a parameter of shape {tuple(parameter.shape)} that each child makes",
                                      "parameters of modules, or such that an attribute holds")  # fmt: skip
                    kept.param_groups[number]["params"].append(parameter)

    def missing(self) -> Iterable[Any]:
        """Yields the keys of shared weights that no optimizer holds."""
        for key in self._store.every_key():
            tensor = self._store.tensor(key)
            if isinstance(tensor, nn.Parameter):
                held = {id(p) for kept in self._kept.values() for group in kept.param_groups for p in group["params"]}
                if id(tensor) not in held:
                    yield key

    def watch(self) -> None:
        """Guards the optimizers, anew where they have got more parameters."""
        self._add_matrices()
        for place, optimizer in self._kept.items():
            count = sum(len(group["params"]) for group in optimizer.param_groups)
            before, guard = self._guards.get(place, (0, None))
            if count != before:
                if guard is not None:
                    guard.remove()
                self._guards[place] = (count, self._guard(optimizer))

    def _add_matrices(self) -> None:
        """Puts the matrices of kernels, which stand in no child, into the groups of their kernels."""
        matrices = list(self._store.matrices())
        if (len(matrices), len(self._kept)) == self._grouped:
            return
        self._grouped = (len(matrices), len(self._kept))
        for key, kernel in matrices:
            matrix, beside = self._store.tensor(key), self._store.tensor(kernel)
            for kept in self._kept.values():
                for group in kept.param_groups:
                    held = {id(p) for p in group["params"]}
                    if id(beside) in held and id(matrix) not in held:
                        group["params"].append(matrix)

    def state(self) -> list[dict[str, Any]]:
        """Returns the state of all optimizers, as `load` takes it: parameters are named."""
        names = {id(p): name for name, p in self._store.module.named_parameters()}
        return [
            {"at": place[0], "kind": place[1].__qualname__, **_state_of(kept, names, self._settings[place])}
            for place, kept in self._kept.items()
        ]

    def load(self, state: list[dict[str, Any]]) -> None:
        """Goes on from a state: optimizers take it up when a child makes them."""
        self._saved = {(item["at"], item["kind"]): item for item in state}

    def _load(self, place: Place, kept: torch.optim.Optimizer) -> None:
        saved = self._saved.pop((place[0], place[1].__qualname__), None)
        if saved is None:
            return
        known = dict(self._store.module.named_parameters())
        shared = {id(p) for p in known.values()}
        for group, born, new, names in zip(
            kept.param_groups, saved["groups"], self._settings[place], saved["names"], strict=True
        ):
            own = [p for p in group["params"] if id(p) not in shared]
            by_name = {name: known[name] for name in names if name in known}
            by_name.update(zip((name for name in names if name not in known), own))
            rest = [p for p in group["params"] if not any(p is q for q in by_name.values())]
            group.update(born["now"])
            group.update(_changed({n: (digest(v), v) for n, v in born["first"].items()}, new))
            group["params"] = [by_name[name] for name in names if name in by_name] + rest
            kept.state.update({p: dict(saved["state"][n]) for n, p in by_name.items() if n in saved["state"]})


def _changed(old: Settings, new: Settings) -> dict[str, Any]:
    """Returns the settings of a group that two children do not have in common."""
    return {name: value for name, (shown, value) in new.items() if name not in old or old[name][0] != shown}


def _state_of(kept: torch.optim.Optimizer, names: Mapping[int, str], births: Sequence[Settings]) -> dict[str, Any]:
    """Returns the settings and the state of an optimizer; parameters that share no weights are numbered."""
    groups = [
        {"now": {k: v for k, v in group.items() if k != "params"}, "first": {k: v for k, (_, v) in born.items()}}
        for group, born in zip(kept.param_groups, births, strict=True)
    ]
    order = [[names.get(id(p), f"{number}/{i}") for i, p in enumerate(group["params"])]
             for number, group in enumerate(kept.param_groups)]  # fmt: skip
    pairs = [(name, p) for own, group in zip(order, kept.param_groups, strict=True)
             for name, p in zip(own, group["params"], strict=True)]  # fmt: skip
    state = {name: {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in kept.state[p].items()}
             for name, p in pairs if p in kept.state}  # fmt: skip
    return {"groups": groups, "names": order, "state": state}


def refusal(at: str, got: Any, expected: str) -> LoweringError:
    """Returns the error for an optimizer that cannot be kept."""
    return LoweringError(
        "cannot share weights with an optimizer that a program makes when it is built",
        at=at,
        got=got,
        expected=expected,
        fix="make it once, of shared.module.parameters(), or inside the method that trains",
    )


__all__ = ["Optimizers", "Swaps", "refusal"]
