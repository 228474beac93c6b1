"""Copies of modules that share weights, which a program makes when it is built: an `AveragedModel`, a teacher.

A copy is a real child of its own. Its tensors are parts of a second set of whole ones, which begins where the shared
ones stood when the first copy was made, and is kept: an average of weights is that of all children, and moves only
where a child has the weight. With each switch a copy of the present child takes the place of the one before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn

from mutandis.errors import LoweringError
from mutandis.flows.supernet.around.held import Held
from mutandis.flows.supernet.assembly import Assembly
from mutandis.flows.supernet.cuts import Cut, signature, take
from mutandis.flows.supernet.lowering.children import Child
from mutandis.flows.supernet.outside import copy_into
from mutandis.flows.supernet.store import Store
from mutandis.flows.supernet.tensors.loans import Key, Loan

Place = tuple[str, type]


class Copy(NamedTuple):
    """A copy of a module of the live program.

    Attributes:
        module: The copy.
        path: Where the module stands.
        child: The real child that it belongs to.
    """

    module: nn.Module
    path: str
    child: Child


class Copies:
    """The copies in a program with shared weights.

    Args:
        store: The shared tensors.
        live: Returns the live program.
        build: Builds the real child of raw values.
    """

    def __init__(self, store: Store, live: Callable[[], Assembly], build: Callable[[tuple[Any, ...]], Child]) -> None:
        self._store, self._live, self._build = store, live, build
        self._made: dict[int, Copy] = {}
        self._kept: dict[Place, nn.Module] = {}
        self._inside: dict[Place, dict[str, Copy]] = {}
        self._tensors: dict[Place, dict[str, dict[Key, torch.Tensor]]] = {}
        self._saved: dict[tuple[str, str], dict[str, Any]] = {}
        self.exchanged: dict[int, nn.Module] = {}

    @contextmanager
    def offered(self) -> Iterator[None]:
        """Lets modules of the live program be copied meanwhile."""
        live = self._live()
        modules = [(module, live.home_of(module)) for root in live.roots for module in root.modules()]
        self._made.clear()
        self.exchanged.clear()
        for module, home in modules:
            if home is not None:
                module.__dict__["__deepcopy__"] = partial(self._copied, home.path, module)
        try:
            yield
        finally:
            for module, _ in modules:
                module.__dict__.pop("__deepcopy__", None)

    def _copied(self, path: str, module: nn.Module, memo: dict[int, Any]) -> nn.Module:
        return self._copy(path, module.training).module

    def _copy(self, path: str, mode: bool) -> Copy:
        live = self._live()
        assert live.values is not None  # It is mounted when a program is built around it.
        child = self._build(live.values)
        copy_into(child, list(live.loans()), self._store)
        made = Copy(child.tree[path].train(mode), path, child)
        self._made[id(made.module)] = made
        return made

    def has(self, held: Held) -> bool:
        """Returns whether an object is a copy, or has one inside."""
        return isinstance(held.value, nn.Module) and (
            self._kept.get((held.at, type(held.value))) is held.value
            or any(id(module) in self._made for module in held.value.modules())
        )

    def parameters(self, held: Held) -> set[int]:
        """Returns the ids of the parameters of the copies in an object."""
        copies = [module for module in held.value.modules() if id(module) in self._made]
        return {id(p) for module in copies for p in module.parameters()}

    def keep(self, held: Held) -> nn.Module:
        """Returns what stands in the place of an object with copies: the first one, with copies of the present child.

        Raises:
            LoweringError: a tensor of a copy is no part of a whole one.
        """
        made, place = held.value, (held.at, type(held.value))
        kept = self._kept.setdefault(place, made)
        known = self._inside.setdefault(place, {})
        if kept is made and known:  # It was not made anew: it stands in an object that takes changes in place.
            fresh = {name: self._again(copy) for name, copy in known.items()}
        else:
            fresh = {name: self._made[id(m)] for name, m in made.named_modules() if id(m) in self._made}
        for name, copy in fresh.items():
            self._fill(place, name, copy)
            if name in known:
                self.exchanged[id(known[name].module)] = copy.module
            if not name:
                self._kept[place] = kept = copy.module
            else:
                above, _, last = name.rpartition(".")
                kept.get_submodule(above)._modules[last] = copy.module
            known[name] = copy
        self._load(place, kept)
        return kept

    def _again(self, before: Copy) -> Copy:
        made = self._copy(before.path, before.module.training)
        made.module.requires_grad_(any(p.requires_grad for p in before.module.parameters()))
        return made

    def _fill(self, place: Place, name: str, copy: Copy) -> None:
        """Lets a copy hold parts of the tensors that are kept for it."""
        loans = [(loan, cut) for loan, cut in self._live().loans() if _is_below(loan.path, copy.path)]
        whole = self._whole(place, name, copy, loans)
        lent: dict[tuple[Any, ...], torch.Tensor] = {}
        for loan, cut in loans:
            module = copy.child.tree[loan.path]
            table: Any = module._buffers if loan.is_buffer else module._parameters
            own, key = table[loan.name], (loan.key, signature(cut))
            if not self._store.is_lasting(loan.key, cut):
                raise _refusal(place[0], f"{loan.path}.{loan.name}, whose places are gathered or computed")
            if key not in lent:
                part = take(whole[loan.key], cut)
                lent[key] = part if loan.is_buffer else nn.Parameter(part, requires_grad=own.requires_grad)
            table[loan.name] = lent[key]
        missing = [name for name, p in copy.module.named_parameters() if not any(p is t for t in lent.values())]
        if missing:
            raise _refusal(place[0], f"{missing[0]}, which shares no weights")

    def _whole(self, place: Place, name: str, copy: Copy,
               loans: Sequence[tuple[Loan, Cut]]) -> dict[Key, torch.Tensor]:  # fmt: skip
        """Returns the whole tensors behind a copy, on its device; new ones begin as the shared ones are."""
        whole = self._tensors.setdefault(place, {}).setdefault(name, {})
        like = next(copy.module.parameters()).device
        for key in [key for key in self._store.every_key() if _is_below(key.path, copy.path)]:
            whole.setdefault(key, self._store.tensor(key).detach().clone())
        for loan, _ in loans:
            whole.setdefault(loan.key, self._store.tensor(loan.key).detach().clone())
        whole.update((key, tensor.to(like)) for key, tensor in whole.items() if tensor.device != like)
        return whole

    def state(self) -> list[dict[str, Any]]:
        """Returns the tensors of all copies by name, and of what holds them, as `load` takes it."""
        return [
            {"at": place[0], "kind": place[1].__qualname__,
             "own": {n: t.detach().clone() for n, t in kept.state_dict().items() if self._is_own(place, n)},
             "copies": {name: {self._store.name(key): tensor.clone() for key, tensor in whole.items()}
                        for name, whole in self._tensors[place].items()}}
            for place, kept in self._kept.items()
        ]  # fmt: skip

    def load(self, state: list[dict[str, Any]]) -> None:
        """Goes on from a state: copies take it up when a child makes them."""
        self._saved = {(item["at"], item["kind"]): item for item in state}

    def _load(self, place: Place, kept: nn.Module) -> None:
        saved = self._saved.pop((place[0], place[1].__qualname__), None)
        if saved is None:
            return
        kept.load_state_dict(saved["own"], strict=False)
        for name, whole in self._tensors[place].items():
            for key, tensor in whole.items():
                if self._store.name(key) in saved["copies"][name]:
                    tensor.copy_(saved["copies"][name][self._store.name(key)])

    def _is_own(self, place: Place, name: str) -> bool:
        return not any(_is_below(name, inside) for inside in self._inside[place])


def _is_below(path: str, above: str) -> bool:
    return not above or path == above or path.startswith(f"{above}.")


def _refusal(at: str, got: str) -> LoweringError:
    return LoweringError(
        "cannot keep a copy of modules that share weights",
        at=at,
        got=got,
        expected="tensors that are parts of shared ones, as leading channels and the centres of kernels are",
        fix="make the copy of shared.module, outside of the program",
    )


def trained_copy(at: str) -> LoweringError:
    """Returns the error for an optimizer over a copy."""
    return LoweringError(
        "cannot train a copy of modules that share weights",
        at=at,
        got="an optimizer that holds parameters of the copy",
        expected="a copy that follows, such as an average",
        fix="give the program a second module as an argument, whose weights are shared too",
    )


__all__ = ["Copies", "Copy", "trained_copy"]
