"""The shared weights: one tensor per place of the module tree, as large as any child needs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from mutandis.errors import LoweringError
from mutandis.flows.supernet.cuts import Cut, cut_of, is_box, is_whole, region, signature, take
from mutandis.flows.supernet.lending import Used, lent, mark_changed
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
        kernel: Size of the kernel, where kernels of several sizes have weights of their own.
    """

    path: str
    name: str
    variant: tuple[tuple[int, int, Any], ...]
    kind: str
    kernel: tuple[int, ...] = ()


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
    _held: list[tuple[dict[str, Any], str, nn.Parameter]]

    def __init__(self) -> None:
        super().__init__()
        object.__setattr__(self, "_after_move", [])
        object.__setattr__(self, "_live", [])
        object.__setattr__(self, "_held", [])

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the module of the live program."""
        if len(self._live) != 1:
            raise LoweringError(
                "cannot run the shared module",
                got=len(self._live),
                expected="one live module",
                fix="call shared.materialize(dna) first, and run its modules one by one if there are several",
            )
        for table, name, parameter in self._held:
            if table[name] is not parameter:
                raise LoweringError(
                    "cannot run the shared module with other tensors",
                    at=f"parameter {name}",
                    got="another tensor in its place, as torch.func.functional_call puts it there",
                    expected="the shared weights, which the live program has views of",
                    fix="call functional_call on shared.export(dna), or load tensors with load_state_dict",
                )
        return self._live[0](*args, **kwargs)

    def hold(self) -> None:
        """Notes which parameters the live program has views of."""
        tables = [module._parameters for module in self.modules()]
        self._held[:] = [(table, name, p) for table in tables for name, p in table.items() if p is not None]

    def train(self, mode: bool = True) -> SharedModule:
        """Sets the mode of the live program too."""
        for module in self._live:
            module.train(mode)
        return super().train(mode)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> SharedModule:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._lend_anew(fn)
        return self

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Copies a state into the shared weights; with `assign=True` its tensors take their place."""
        found = super().load_state_dict(state_dict, strict, assign)
        if assign:
            self._lend_anew(lambda tensor: tensor)
        return found

    def _lend_anew(self, fn: Callable[..., Any]) -> None:
        self.hold()
        for renew in self._after_move:
            renew(fn)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_live": [], "_after_move": [], "_held": []}


class Store:
    """The shared tensors by key.

    Args:
        partition: Says which weights belong to which choices.
        kernels: What kernels of several sizes share: `crop`, the centre of the largest; `separate`, nothing.

    Attributes:
        module: Holds the tensors.
        epoch: How often the tensors have moved.
        is_watched: Whether it is noted through which cuts gradients come.
        used: The cuts through which gradients have come, by key and signature, since a guard forgot them.
    """

    def __init__(self, partition: Partition, kernels: str = "crop") -> None:
        self._partition = partition
        self._is_apart = kernels == "separate"
        self.module = SharedModule()
        self.epoch = 0
        self.used: dict[Key, Used] = {}
        self.is_watched = False
        self._elastic: set[Key] = set()
        self._born: dict[Key, tuple[Any, ...]] = {}
        self._places: dict[Key, tuple[nn.Module, str, bool]] = {}
        self._tags: dict[str, tuple[Tag, ...]] = {}
        self._kinds: dict[tuple[Any, ...], set[str]] = {}
        self._kernels: dict[tuple[Any, ...], set[tuple[int, ...]]] = {}
        self._views: dict[tuple[Any, ...], torch.Tensor] = {}
        self._watched: dict[tuple[Any, ...], torch.Tensor] = {}

    def loans(self, child: Child) -> Iterator[Loan]:
        """Yields the tensors that a child shares."""
        for path, facts in child.facts.items():
            for tensor in facts.tensors:
                if tensor[0] == "parameter" and len(tensor) > 2:
                    _, name, shape, dtype, trained, home = tensor
                    where, _, own = home.rpartition(".")
                    kind, kernel = child.facts[where].kind[1], self._kernel_of(child.tree[where])
                    key = Key(where, own, self._variant(where, child), kind, kernel)
                    yield Loan(path, name, key, shape, False, trained, dtype)
                elif tensor[0] == "state":
                    key = Key(path, tensor[1], self._variant(path, child), facts.kind[1])
                    yield Loan(path, tensor[1], key, tensor[2], True, False, tensor[3])

    def _kernel_of(self, module: nn.Module) -> tuple[int, ...]:
        is_convolution = self._is_apart and isinstance(module, nn.modules.conv._ConvNd)
        return tuple(module.kernel_size) if is_convolution else ()  # type: ignore[arg-type]

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
        self._born.update((key, found[0][0].values) for key, found in users.items())
        for key in users:
            self._kinds.setdefault((key.path, key.name, key.variant), set()).add(key.kind)
            self._kernels.setdefault((key.path, key.name, key.variant, key.kind), set()).add(key.kernel)
        for key, found in users.items():
            self._register(key, found[0][1], sizes[key])
        with torch.no_grad():
            self._initialise(users, sizes, build)
        self.module.hold()
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
        if len(self._kernels[key.path, key.name, key.variant, key.kind]) > 1:
            name += f"<{'x'.join(map(str, key.kernel))}>"
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
            best = max(found, key=lambda pair: math.prod(pair[1].shape))
            whole = [child for child, loan in found if loan.shape == sizes[key]]
            for child in whole:
                full.setdefault(child.values, set()).add(key)
            if not whole:
                partial[key] = [child.values for child, _ in sorted(found, key=lambda pair: math.prod(pair[1].shape))]
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

    def is_elastic(self, key: Key) -> bool:
        """Returns whether children have parts of different sizes of a tensor."""
        return key in self._elastic

    def born(self, key: Key) -> tuple[Any, ...]:
        """Returns the raw values of a child that has a tensor."""
        return self._born[key]

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
        place = (key, signature(cut))
        if is_whole(cut) and place not in self._views:
            return tensor
        if place not in self._views:
            # A view made without gradients would train nothing, and say nothing.
            with torch.inference_mode(False), torch.enable_grad():
                made = take(tensor, cut)
            if self.is_watched and made.requires_grad:
                made.register_hook(_Watch(self.used_of(key), cut))  # type: ignore[no-untyped-call]
            self._views[place] = made
        return self._views[place]

    def lend_all(self, entries: Iterable[tuple[Loan, Cut]]) -> list[torch.Tensor]:
        """Returns what a part of a child puts in the places of its own tensors, in the order of the loans."""
        entries = list(entries)
        new: dict[tuple[Any, ...], tuple[torch.Tensor, Cut, Used]] = {}
        for loan, cut in entries if self.is_watched else ():
            tensor, place = self.tensor(loan.key), (loan.key, signature(cut))
            if place not in self._views and tensor.requires_grad and is_box(cut) and (
                    loan.key in self._elastic or not is_whole(cut)):  # fmt: skip
                new[place] = (tensor, cut, self.used_of(loan.key))
        if new:
            with torch.inference_mode(False), torch.enable_grad():
                made = dict(zip(new, lent(list(new.values())), strict=True))
            self._views.update(made)
            self._watched.update(made)
        return [self.lend(loan.key, cut) for loan, cut in entries]

    def used_of(self, key: Key) -> Used:
        """Returns what takes note of the cuts of a tensor through which gradients come."""
        return self.used.setdefault(key, {})

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
        self._watched.clear()
        self.epoch += 1

    def mark_changed(self) -> None:
        """Lets a backward pass through what was computed before a step fail, as it does for any parameter."""
        mark_changed(self._watched.values())


class _Watch:
    """Notes that a gradient came through a view."""

    def __init__(self, used: Used, cut: Cut) -> None:
        self._used, self._cut = used, cut

    def __call__(self, gradient: torch.Tensor) -> None:
        self._used[signature(self._cut)] = self._cut


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


def _spread(tensor: torch.Tensor, covered: torch.Tensor) -> None:
    """Gives places that no child has initialised values from places that one has."""
    filled = tensor[covered]
    missing = int((~covered).sum())
    tensor[~covered] = filled[torch.arange(missing) % len(filled)]


__all__ = ["Key", "Loan", "SharedModule", "Store", "tensor_of"]
