"""The shared weights: one tensor per place of the module tree, as large as any child needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from mutandis.errors import LoweringError
from mutandis.flows.supernet.cuts import Cut, cut_of, is_whole, region, signature, take
from mutandis.flows.supernet.lowering.children import Child, Tag
from mutandis.flows.supernet.lowering.facts import join
from mutandis.flows.supernet.lowering.partition import Partition, variant_of

_COVERING = 4  # Children from which a tensor is initialised that none has in full.


@dataclass(frozen=True, slots=True)
class Key:
    """The name of a shared tensor.

    Attributes:
        path: Path of its module.
        name: Name of the parameter or buffer.
        variant: (decision, pick, candidate) triples of the choices it belongs to.
        kind: Class of the module.
    """

    path: str
    name: str
    variant: tuple[tuple[int, int, Any], ...]
    kind: str


@dataclass(frozen=True, slots=True)
class Loan:
    """A tensor of a child and what it is of the shared ones.

    Attributes:
        path: Path of the module that uses it.
        name: Name of the parameter or buffer there.
        key: The shared tensor.
        shape: What the child has.
        is_buffer: Whether it is a running statistic.
        requires_grad: Whether it is trained.
        dtype: Its type in the child.
    """

    path: str
    name: str
    key: Key
    shape: tuple[int, ...]
    is_buffer: bool
    requires_grad: bool
    dtype: str


class SharedModule(nn.Module):
    """All shared weights as one module: its parameters, its state, its device.

    Called, it runs the live program's module.
    """

    _after_move: list[Callable[[Callable[..., Any]], None]]
    _live: list[nn.Module]

    def __init__(self) -> None:
        super().__init__()
        object.__setattr__(self, "_after_move", [])
        object.__setattr__(self, "_live", [])

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the module of the live program."""
        if len(self._live) != 1:
            raise LoweringError(
                "cannot run the shared module",
                got=len(self._live),
                expected="one live module",
                fix="call shared.materialize(dna) first, and run its modules one by one if there are several",
            )
        return self._live[0](*args, **kwargs)

    def train(self, mode: bool = True) -> SharedModule:
        """Sets the mode of the live program too."""
        for module in self._live:
            module.train(mode)
        return super().train(mode)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> SharedModule:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for renew in self._after_move:
            renew(fn)
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_live": [], "_after_move": []}


class Store:
    """The shared tensors by key.

    Args:
        partition: Says which weights belong to which choices.

    Attributes:
        module: Holds the tensors.
        epoch: How often the tensors have moved.
        is_watched: Whether it is noted through which cuts gradients come.
        used: The cuts through which gradients have come, by key and signature, since a guard forgot them.
    """

    def __init__(self, partition: Partition) -> None:
        self._partition = partition
        self.module = SharedModule()
        self.epoch = 0
        self.used: dict[Key, dict[tuple[Any, ...], Cut]] = {}
        self.is_watched = False
        self._elastic: set[Key] = set()
        self._places: dict[Key, tuple[nn.Module, str, bool]] = {}
        self._tags: dict[str, tuple[Tag, ...]] = {}
        self._kinds: dict[tuple[Any, ...], set[str]] = {}
        self._views: dict[tuple[Any, ...], torch.Tensor] = {}

    def loans(self, child: Child) -> Iterator[Loan]:
        """Yields the tensors that a child shares."""
        for path, facts in child.facts.items():
            for tensor in facts.tensors:
                if tensor[0] == "parameter" and len(tensor) > 2:
                    _, name, shape, dtype, trained, home = tensor
                    where, _, own = home.rpartition(".")
                    key = Key(where, own, self._variant(where, child), child.facts[where].kind[1])
                    yield Loan(path, name, key, shape, False, trained, dtype)
                elif tensor[0] == "state":
                    key = Key(path, tensor[1], self._variant(path, child), facts.kind[1])
                    yield Loan(path, tensor[1], key, tensor[2], True, False, tensor[3])

    def _variant(self, path: str, child: Child) -> tuple[tuple[int, int, Any], ...]:
        return variant_of(self.tags(path), child.values)

    def tags(self, path: str) -> tuple[Tag, ...]:
        """Returns the choices among which the weights of a module are not shared."""
        if path not in self._tags:
            self._tags[path] = self._partition.tags(path)
        return self._tags[path]

    def cut_anew(self, partition: Partition) -> None:
        """Goes on with a partition that gives all known weights to the same choices."""
        self._partition = partition
        self._tags.clear()

    def fill(self, children: Iterable[Child], build: Callable[[tuple[Any, ...]], Child]) -> list[Key]:
        """Adds the tensors of children that are not known yet, as large as the largest of them.

        Args:
            children: Children without weights.
            build: Returns the child of raw values with its initial values.

        Returns:
            The keys that were added.
        """
        users: dict[Key, list[tuple[Child, Loan]]] = {}
        for child in children:
            for loan in self.loans(child):
                if loan.key not in self._places:
                    users.setdefault(loan.key, []).append((child, loan))
        sizes = {key: _largest([loan for _, loan in found]) for key, found in users.items()}
        self._elastic |= {key for key, found in users.items() if any(loan.shape != sizes[key] for _, loan in found)}
        for key, found in users.items():
            self._kinds.setdefault((key.path, key.name, key.variant), set()).add(key.kind)
            self._register(key, found[0][1], sizes[key])
        with torch.no_grad():
            self._initialise(users, sizes, build)
        return list(users)

    def _register(self, key: Key, loan: Loan, shape: tuple[int, ...]) -> None:
        holder: nn.Module = self.module
        for step in key.path.split(".") if key.path else ():
            inner = holder._modules.get(step)
            if inner is None:
                inner = nn.Module()
                holder.add_module(step, inner)
            holder = inner
        name = key.name + "".join(f"[{i}{'' if s < 0 else f':{s}'}={v}]" for i, s, v in key.variant)
        if len(self._kinds[key.path, key.name, key.variant]) > 1:
            name += f"<{key.kind}>"
        tensor = torch.zeros(shape, dtype=getattr(torch, loan.dtype.removeprefix("torch.")))
        if loan.is_buffer:
            holder.register_buffer(name, tensor)
        else:
            holder.register_parameter(name, nn.Parameter(tensor, requires_grad=loan.requires_grad))
        self._places[key] = (holder, name, loan.is_buffer)

    def _initialise(self, users: Mapping[Key, list[tuple[Child, Loan]]], sizes: Mapping[Key, tuple[int, ...]],
                    build: Callable[[tuple[Any, ...]], Child]) -> None:  # fmt: skip
        """Takes initial values from real children: from few of them, and those that have most of a tensor."""
        missing = set(users)
        full: dict[tuple[Any, ...], set[Key]] = {}
        partial: dict[Key, list[tuple[Any, ...]]] = {}
        for key, found in users.items():
            best = max(found, key=lambda pair: _volume(pair[1].shape))
            whole = [child for child, loan in found if loan.shape == sizes[key]]
            for child in whole:
                full.setdefault(child.values, set()).add(key)
            if not whole:
                partial[key] = [child.values for child, _ in sorted(found, key=lambda pair: _volume(pair[1].shape))]
                full.setdefault(best[0].values, set())
        while missing - partial.keys():
            values = max(full, key=lambda v: len(full[v] & missing))
            self._copy(build(values), full[values] & missing)
            missing -= full[values]
        for key, order in partial.items():
            covered = torch.zeros(sizes[key], dtype=torch.bool)
            for values in order[-_COVERING:]:
                self._copy(build(values), {key}, covered)
            _spread(self.tensor(key), covered)

    def _copy(self, child: Child, keys: set[Key], covered: torch.Tensor | None = None) -> None:
        for loan in self.loans(child):
            if loan.key in keys:
                own, tensor = tensor_of(child, loan), self.tensor(loan.key)
                places = region(self.cut(child, loan), tensor.shape, tensor.device)
                tensor[places] = own.to(tensor)
                if covered is not None:
                    covered[places] = True

    def cut(self, child: Child, loan: Loan) -> Cut:
        """Returns which part of the shared tensor a child uses."""
        cut = cut_of(child.tree[loan.path], loan.name, loan.shape, self.tensor(loan.key).shape, loan.path)
        places = child.places.get((loan.path, loan.name))
        if places is None:
            return cut
        return tuple(places.get(number, axis) for number, axis in enumerate(cut))

    def has(self, key: Key) -> bool:
        """Returns whether there is such a tensor."""
        return key in self._places

    def every_key(self) -> tuple[Key, ...]:
        """Returns the names of all tensors."""
        return tuple(self._places)

    def tensor(self, key: Key) -> torch.Tensor:
        """Returns the shared tensor."""
        holder, name, is_buffer = self._places[key]
        found = holder._buffers[name] if is_buffer else holder._parameters[name]
        assert found is not None  # Nothing takes tensors out of the holder.
        return found

    def name(self, key: Key) -> str:
        """Returns the name of a tensor in the state of `module`."""
        return join(key.path, self._places[key][1])

    def lend(self, key: Key, cut: Cut) -> torch.Tensor:
        """Returns what a child puts in the place of its own tensor."""
        tensor = self.tensor(key)
        if is_whole(cut) and not (self.is_watched and key in self._elastic):
            return tensor
        place = (key, signature(cut))
        if place not in self._views:
            # A view made without gradients would train nothing, and say nothing.
            with torch.inference_mode(False), torch.enable_grad():
                made = take(tensor, cut) if not is_whole(cut) else tensor.view_as(tensor)
            if self.is_watched and made.requires_grad:
                made.register_hook(_Watch(self.used, key, cut))  # type: ignore[no-untyped-call]
            self._views[place] = made
        return self._views[place]

    def renew_gathered(self, entries: Iterable[tuple[Loan, Cut]]) -> None:
        """Forgets copies of gathered places, which training makes stale."""
        for loan, cut in entries:
            self._views.pop((loan.key, signature(cut)), None)

    def like(self) -> torch.Tensor:
        """Returns a tensor of the device and type of the shared ones."""
        return next(iter(self.module.parameters()))

    def renew(self) -> None:
        """Forgets the views, after the tensors have moved."""
        self._views.clear()
        self.epoch += 1


class _Watch:
    """Notes that a gradient came through a view."""

    def __init__(self, used: dict[Key, dict[tuple[Any, ...], Cut]], key: Key, cut: Cut) -> None:
        self._used, self._key, self._cut = used, key, cut

    def __call__(self, gradient: torch.Tensor) -> None:
        self._used.setdefault(self._key, {})[signature(self._cut)] = self._cut


def tensor_of(child: Child, loan: Loan) -> torch.Tensor:
    """Returns a child's own tensor."""
    module = child.tree[loan.path]
    found = (module._buffers if loan.is_buffer else module._parameters)[loan.name]
    assert found is not None
    return found.detach()


def _largest(loans: list[Loan]) -> tuple[int, ...]:
    ranks = {len(loan.shape) for loan in loans}
    if len(ranks) > 1:
        raise LoweringError(
            "cannot share a weight whose number of dimensions depends on a number",
            at=f"{loans[0].path}.{loans[0].name}",
            got=sorted({loan.shape for loan in loans}),
            expected="one number of dimensions",
            fix="make the decision a choice among modules",
        )
    return tuple(max(sizes) for sizes in zip(*(loan.shape for loan in loans)))


def _volume(shape: tuple[int, ...]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total


def _spread(tensor: torch.Tensor, covered: torch.Tensor) -> None:
    """Gives places that no child has initialised values from places that one has."""
    filled = tensor[covered]
    missing = int((~covered).sum())
    tensor[~covered] = filled[torch.arange(missing) % len(filled)]


__all__ = ["Key", "Loan", "SharedModule", "Store", "tensor_of"]
