"""The shared weights: one tensor per place of the module tree, as large as any child needs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from mutandis.errors import LoweringError
from mutandis.flows.supernet.cuts import Cut, cut_of, is_box, is_whole, plain_place, region, signature, take
from mutandis.flows.supernet.lending import Used, lent, mark_changed
from mutandis.flows.supernet.lowering.children import Child, Tag
from mutandis.flows.supernet.lowering.facts import join
from mutandis.flows.supernet.lowering.partition import Partition, variant_of
from mutandis.flows.supernet.tensors.kernels import (
    Size,
    centre,
    descending,
    joined,
    matrix_cuts,
    need_plain,
    size_of,
    steps_to,
)
from mutandis.flows.supernet.tensors.loans import Key, Loan, tensor_of
from mutandis.flows.supernet.tensors.module import SharedModule

_COVERING = 4  # Children from which a tensor is initialised that none has in full.


class Store:
    """The shared tensors by key.

    Args:
        partition: Says which weights belong to which choices.
        kernels: What kernels of several sizes share: `crop`, the centre of the largest; `transform`, the same, with a
            matrix between one size and the next; `separate`, nothing.

    Attributes:
        module: Holds the tensors.
        kernels: As given.
        epoch: How often the tensors have moved.
        is_watched: Whether it is noted through which cuts gradients come.
        used: The cuts through which gradients have come, by key and signature, since a guard forgot them.
    """

    def __init__(self, partition: Partition, kernels: str = "crop") -> None:
        self._partition = partition
        self.kernels = kernels
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
        self._ladders: dict[Key, tuple[Size, ...]] = {}  # The sizes of kernels that matrices make, the largest first.
        self._views: dict[tuple[Any, ...], torch.Tensor] = {}
        self._watched: dict[tuple[Any, ...], torch.Tensor] = {}

    def loans(self, child: Child) -> Iterator[Loan]:
        """Yields the tensors that a child shares."""
        for path, facts in child.facts.items():
            here = self._variant(path, child) if facts.tensors else ()
            for tensor in facts.tensors:
                if tensor[0] == "parameter" and len(tensor) > 2:
                    _, name, shape, dtype, trained, home = tensor
                    where, _, own = home.rpartition(".")
                    variant = here if where == path else self._variant(where, child)
                    key = Key(where, own, variant, child.facts[where].kind[1], self._kernel_of(child, where))
                    yield Loan(path, name, key, shape, False, trained, dtype)
                elif tensor[0] == "state":
                    key = Key(path, tensor[1], here, facts.kind[1])
                    yield Loan(path, tensor[1], key, tensor[2], True, False, tensor[3])

    def _kernel_of(self, child: Child, path: str) -> Size:
        if self.kernels != "separate":
            return ()
        module: Any = child.tree[plain_place(child.tree, path, "")[0]]
        return tuple(module.kernel_size) if isinstance(module, nn.modules.conv._ConvNd) else ()

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
            self._register(key, found[0][1], _empty(sizes[key], found[0][1]))
        with torch.no_grad():
            self._initialise(users, sizes, build)
        matrices = self._add_matrices(children) if self.kernels == "transform" else []
        self.module.hold()
        return [*users, *matrices]

    def _add_matrices(self, children: Iterable[Child]) -> list[Key]:
        """Adds what leads to those sizes of kernels that are not known yet, and returns its names."""
        found: dict[Key, dict[Size, tuple[Child, Loan]]] = {}
        for child in children:
            for loan in self.loans(child):
                layer = child.tree[plain_place(child.tree, loan.path, loan.name)[0]]
                if isinstance(layer, nn.modules.conv._ConvNd) and not loan.is_buffer and len(loan.shape) > 2:
                    found.setdefault(loan.key, {}).setdefault(loan.shape[2:], (child, loan))
        added = []
        for key, sizes in found.items():
            known = self._ladders.get(key, (tuple(self.tensor(key).shape[2:]),))
            for size in sizes.keys() - set(known):
                child, loan = sizes[size]
                need_plain(child.tree[loan.path], join(loan.path, loan.name))
                matrix = replace(key, kernel=size)
                self._register(matrix, loan, torch.eye(math.prod(size)).to(self.tensor(key)))
                self._born[matrix] = child.values
                added.append(matrix)
            if len(found[key].keys() | set(known)) > 1:
                self._ladders[key] = descending({*known, *sizes}, join(key.path, key.name))
        return added

    def matrices(self) -> Iterator[tuple[Key, Key]]:
        """Yields the matrices with the kernels that they belong to."""
        for key, sizes in self._ladders.items():
            yield from ((replace(key, kernel=size), key) for size in sizes[1:])

    def _register(self, key: Key, loan: Loan, tensor: torch.Tensor) -> None:
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
        elif key.kernel and self.kernels == "transform":
            name += f"<to {'x'.join(map(str, key.kernel))}>"
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
        path, name = plain_place(child.tree, loan.path, loan.name)
        cut = cut_of(child.tree[path], name, loan.shape, self.tensor(loan.key).shape, path)
        places = child.places.get((path, name), {})
        return tuple(None if axis is None else places.get(number, axis) for number, axis in enumerate(cut))

    def is_transformed(self, key: Key) -> bool:
        """Returns whether matrices make kernels of other sizes of a tensor."""
        return key in self._ladders

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

    def sources(self, key: Key, cut: Cut) -> list[tuple[Key, Cut]]:
        """Returns the parts of shared tensors that a child's tensor is made of: one, or a kernel and its matrices."""
        full = self.tensor(key).shape
        steps = steps_to(size_of(cut, full), self._ladders[key]) if key in self._ladders else ()
        if not steps:
            return [(key, cut)]
        kernel = (key, (*cut[:2], *centre(steps[0], full[2:])))
        matrices = [replace(key, kernel=size) for size in steps]
        return [kernel, *zip(matrices, matrix_cuts(steps, full[2:]), strict=True)]

    def taken(self, key: Key, cut: Cut, tensors: Mapping[Key, torch.Tensor] | None = None) -> torch.Tensor:
        """Returns what a child uses of the shared tensors, or of others in their places."""
        parts = [take(self.tensor(k) if tensors is None else tensors[k], c) for k, c in self.sources(key, cut)]
        return joined(parts, () if len(parts) == 1 else size_of(cut, self.tensor(key).shape))

    def gradients(self, key: Key, cut: Cut, gradient: torch.Tensor,
                  tensors: Mapping[Key, torch.Tensor]) -> list[tuple[Key, Cut, torch.Tensor]]:  # fmt: skip
        """Returns the gradients of the parts that a child's tensor is made of, which are `tensors`, given its own."""
        sources = self.sources(key, cut)
        if len(sources) == 1:
            return [(key, cut, gradient)]
        parts = [take(tensors[k], c).detach().requires_grad_() for k, c in sources]
        found = torch.autograd.grad(joined(parts, size_of(cut, self.tensor(key).shape)), parts, gradient)
        return [(*source, own) for source, own in zip(sources, found, strict=True)]

    def is_lasting(self, key: Key, cut: Cut) -> bool:
        """Returns whether what a child uses is shared memory, which need not be made anew before each pass."""
        return is_box(cut) and len(self.sources(key, cut)) == 1

    def lend(self, key: Key, cut: Cut) -> torch.Tensor:
        """Returns what a child puts in the place of its own tensor."""
        tensor = self.tensor(key)
        place = (key, signature(cut))
        if is_whole(cut) and place not in self._views:
            return tensor
        if place not in self._views:
            # A view made without gradients would train nothing, and say nothing.
            with torch.inference_mode(False), torch.enable_grad():
                made = self.taken(key, cut)
            if self.is_watched and made.requires_grad:
                used = [(self.used_of(source), part) for source, part in self.sources(key, cut)]
                made.register_hook(_Watch(used))  # type: ignore[no-untyped-call]
            self._views[place] = made
        return self._views[place]

    def lend_all(self, entries: Iterable[tuple[Loan, Cut]]) -> list[torch.Tensor]:
        """Returns what a part of a child puts in the places of its own tensors, in the order of the loans."""
        entries = list(entries)
        new: dict[tuple[Any, ...], tuple[torch.Tensor, Cut, Used]] = {}
        for loan, cut in entries if self.is_watched else ():
            tensor, place = self.tensor(loan.key), (loan.key, signature(cut))
            if place not in self._views and tensor.requires_grad and self.is_lasting(loan.key, cut) and (
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
    """Notes that a gradient came through a view, or through what was made of several."""

    def __init__(self, used: Sequence[tuple[Used, Cut]]) -> None:
        self._used = used

    def __call__(self, gradient: torch.Tensor) -> None:
        for used, cut in self._used:
            used[signature(cut)] = cut


def _empty(shape: tuple[int, ...], loan: Loan) -> torch.Tensor:
    return torch.zeros(shape, dtype=getattr(torch, loan.dtype.removeprefix("torch.")))


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


__all__ = ["Store"]
