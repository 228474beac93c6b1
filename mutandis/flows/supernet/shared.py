"""A program whose children share one set of weights."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from mutandis.errors import LoweringError, SpaceError
from mutandis.flows.supernet.assembly import Assembly, MissingPart
from mutandis.flows.supernet.calibrate import calibrate
from mutandis.flows.supernet.cuts import Cut, is_whole, take
from mutandis.flows.supernet.guard import Guard
from mutandis.flows.supernet.lowering.children import Builder, Child
from mutandis.flows.supernet.lowering.dependencies import Dependencies
from mutandis.flows.supernet.lowering.partition import Partition
from mutandis.flows.supernet.placing import Placer
from mutandis.flows.supernet.report import LoweringReport, roles
from mutandis.flows.supernet.selections import Selection, need_arms
from mutandis.flows.supernet.store import Key, Loan, SharedModule, Store
from mutandis.flows.supernet.verify import Check, Verification, as_double, compare_loans, compare_trees, doubled
from mutandis.hyper import DNA, Point, Rng, SearchSpace

_REMEMBERED = 8


class Shared:
    """A program whose children share one set of weights; made by `share_weights`.

    It goes wherever a program goes that is searched: `mu.sample(shared, algorithm)` yields the live program, switched
    to each DNA in turn.

    Attributes:
        space: Same points and same DNA as the space of the program; `materialize` switches.
        module: The shared weights.
    """

    def __init__(
        self, program_space: SearchSpace, batch: tuple[Any, ...] | None, positions: str, check: str, seed: int
    ) -> None:
        self._plain = program_space
        self._checked: set[tuple[Any, ...]] | None = set() if check == "always" else None
        self._builder = Builder(program_space, seed)
        self._known = Dependencies(self._builder)
        self._known.explore(seed)
        self._late: OrderedDict[tuple[Any, ...], Child] = OrderedDict()
        self._assemble(batch, positions)
        self.space = SearchSpace(program_space.points, _LiveTemplate(self), program_space._constraints)
        self.space._bare = program_space.bare()

    def _assemble(self, batch: tuple[Any, ...] | None, positions: str) -> None:
        """Cuts the tree into parts, makes the shared tensors, and takes parts from the children that were built."""
        self._partition = Partition(self._plain, self._known, self._builder.roots.names())
        self._store = Store(self._partition)
        children = list(self._known.children.values())
        self._store.fill(children, lambda values: self._builder.build(values, init=True))
        self._live = Assembly(self._partition, self._known, self._store, self._real)
        self._store.module._after_move.append(self._live.move)
        self._placer = Placer(self._builder, self._known, self._store, batch, positions)
        for child in children:
            self._take(child)
        self._known.release()

    def _take(self, child: Child) -> None:
        """Takes the parts of a child that are new, once it is known where its tensors stand."""
        if self._live.lacks(child):
            self._live.harvest(child, self._placer.loans(child))

    def _mu_space_(self) -> SearchSpace:
        return self.space

    def __repr__(self) -> str:
        count = sum(p.numel() for p in self.module.parameters())
        return f"Shared({len(self.points)} decisions, {count} shared weights)"

    @property
    def module(self) -> SharedModule:
        """All shared weights as one `nn.Module`: parameters, state, device; called, it runs the live module."""
        return self._store.module

    @property
    def points(self) -> tuple[Point, ...]:
        """The decisions."""
        return self.space.points

    @property
    def num_builds(self) -> int:
        """How many real children were built so far."""
        return self._builder.num_builds

    @property
    def dna(self) -> DNA | None:
        """The DNA at which the live program stands."""
        return None if self._live.values is None else DNA(self.space.bare(), self._live.values)

    def materialize(self, dna: DNA) -> Any:
        """Switches the live program to a DNA.

        Its modules are of the classes that the program names, hold plain numbers, and have shared tensors, or views of
        them, for weights. A switch takes microseconds per part that changes; a part that no child had before costs one
        build of the child, without initial values.

        Args:
            dna: A DNA of the space.

        Returns:
            The live program. Modules are the same objects wherever the decisions they depend on are the same.

        Raises:
            DecisionError: the DNA is of another space.
            LoweringError: the child does not fit the shared weights.
        """
        self.space.own(dna)
        return self._switch(dna.values)

    @contextmanager
    def select(self, dna: DNA, selections: Mapping[str, Selection]) -> Iterator[Any]:
        """Runs several arms of some choices at once, or one with a gate.

            with shared.select(dna, {"block": Mixture(alphas.softmax(0))}) as live:
                loss(live(x), y).backward()

        Arms that are not selected do not run, and get no gradient. Gates and weights get theirs.

        Args:
            dna: What all other decisions are.
            selections: By name or path of the decision.

        Yields:
            The live program. Where a choice has a selection, a `Choice` stands in the place of the arm.

        Raises:
            DecisionError: there is no such decision, or the DNA is of another space.
            LoweringError: a decision is for a number, or decides more than which layer stands at a place.
        """
        self.space.own(dna)
        chosen = {self.space.point(key).index: selection for key, selection in selections.items()}
        for index, selection in chosen.items():
            need_arms(self.points[index], selection, self._known.is_number(self.points[index]))
        self._live.select(chosen)
        try:
            yield self._selected(dna.values, chosen)
        finally:
            self._live.select({})
            self._switch(dna.values)

    def _selected(self, values: tuple[Any, ...], chosen: Mapping[int, Selection]) -> Any:
        try:
            return self._switch(values, meet=False)
        except MissingPart:
            self._live.select({})
            for index, selection in chosen.items():
                for arm in selection.weights:
                    given = [arm if i == index else value for i, value in enumerate(values)]
                    self._switch(self.space.repair(given, lambda point: point.first()).values)
            self._live.select(chosen)
            return self._switch(values, meet=False)

    def _switch(self, values: tuple[Any, ...], *, meet: bool = True) -> Any:
        if self._checked is not None and values not in self._checked:
            self._checked.add(values)
            self._meet(values)
        try:
            self._live.switch(values)
        except MissingPart:
            if not meet:
                raise
            self._meet(values)
            self._live.switch(values)
        self._store.module._live[:] = self._live.roots
        return self._builder.roots.wrap(values, self._live.roots)

    def _meet(self, values: tuple[Any, ...]) -> None:
        """Builds a child for the parts of it that are new."""
        child = self._known.child(values)
        if not self._known.learn(child):
            self._cut_anew(values)
        self._store.fill([child], lambda v: self._builder.build(v, init=True))
        self._take(child)
        self._known.release()

    def _cut_anew(self, values: tuple[Any, ...]) -> None:
        """Cuts the tree into other parts, after a child has shown that more hangs on a decision than was seen."""
        partition = Partition(self._plain, self._known, self._builder.roots.names())
        moved = [key.path for key in self._store.every_key() if partition.tags(key.path) != self._store.tags(key.path)]
        if moved:
            raise LoweringError(
                "cannot share weights: which choice a weight belongs to is not what the other children made expect",
                at=f"module {moved[0]}",
                got={point.key or "(the root)": value for point, value in zip(self.points, values, strict=True)},
                expected="modules that depend on the decisions that were found by varying each alone",
                fix="write what depends on a rare combination as a choice of its own, or use trials for this program",
            )
        mode = self._live.roots[0].training if self._live.roots else self._live.mode
        self._partition = partition
        self._store.cut_anew(partition)
        self._live = Assembly(partition, self._known, self._store, self._real)
        self._live.mode = mode
        self._store.module._after_move[:] = [self._live.move]

    def _real(self, values: tuple[Any, ...]) -> Child:
        """Returns a real child without weights, for what is read late; the last few are remembered."""
        known = self._late.get(values)
        if known is None:
            known = self._late[values] = self._builder.build(values)
            known.strip()
            if len(self._late) > _REMEMBERED:
                self._late.popitem(last=False)
        return known

    def export(self, dna: DNA) -> Any:
        """Returns a free-standing ordinary child that has inherited its part of the shared weights.

        Raises:
            DecisionError: the DNA is of another space.
        """
        self.space.own(dna)
        return self._inherited(dna.values)[1]

    def _inherited(self, values: tuple[Any, ...]) -> tuple[Child, Any]:
        before = self._live.values
        child = self._builder.build(values)
        if not self._known.learn(child):
            self._cut_anew(values)
        self._switch(values)
        mode = self._live.roots[0].training
        copy_into(child, list(self._live.loans()), self._store)
        for root in child.roots.values():
            root.train(mode)
        program = self._builder.roots.wrap(values, list(child.roots.values()))
        if before is not None:
            self._switch(before)
        return child, program

    def guard(self, optimizer: torch.optim.Optimizer) -> Guard:
        """Makes an optimizer leave alone what no child has used since its last step.

        Channels that were not used keep their value and their momentum bit for bit, and weights of arms that were not
        chosen get no step even where `zero_grad(set_to_none=False)` has left zeros. What counts as used is what
        gradients came through, of any number of children.

        Args:
            optimizer: An optimizer over `module.parameters()`.

        Returns:
            The hooks; `remove()` takes them off.
        """
        return Guard(self._store, optimizer, lambda: self._live.renew())

    def calibrate(self, dna: DNA, batches: Iterable[Any], *, most: int | None = None,
                  run: Callable[[Any, Any], Any] | None = None) -> int:  # fmt: skip
        """Replaces the batch-norm statistics of a child by averages over batches; switches to it.

        Args:
            dna: The child.
            batches: Inputs, or sequences that begin with the input.
            most: How many batches are used at most.
            run: Called with the module and a batch instead of `module(x)`.

        Returns:
            How many batches were used.
        """
        self.materialize(dna)
        return calibrate(self._live.roots[0], list(self._live.loans()), self._store, batches, most, run)

    def report(self) -> LoweringReport:
        """Returns what becomes of each decision."""
        found = roles(self.points, self._known, self._partition, self._builder.roots.slots)
        count = sum(p.numel() for p in self.module.parameters())
        return LoweringReport(tuple(found), tuple(sorted(self._placer.unproven)), count)

    def verify(self, dna: DNA, batch: Any = None) -> Verification:
        """Holds the live program and an exported child against a child that is really built.

        Weights, gradients, buffers, the mode and random numbers are as before when it returns.

        Args:
            dna: A DNA of the space.
            batch: The argument of the module, or a tuple of its arguments; without it, only trees, attributes and
                shapes are compared.

        Raises:
            LoweringError: they differ; the message names the place.
        """
        self.space.own(dna)
        before, values = self._live.values, dna.values
        mode = self._live.roots[0].training if self._live.roots else True
        self._switch(values)
        try:
            return self._verified(values, batch)
        finally:
            self._switch(values if before is None else before)
            self._live.roots[0].train(mode)

    def _verified(self, values: tuple[Any, ...], batch: Any) -> Verification:
        real = self._builder.build(values, init=True)
        live = dict(zip(self._builder.roots.names(), self._live.roots, strict=True))
        count = compare_trees(live, real, self._partition.late)
        loans = list(self._live.loans())
        compare_loans([loan for loan, _ in loans], list(self._store.loans(real)))
        unknown = any(loan.path in self._placer.unproven for loan, cut in loans if not is_whole(cut))
        positions = "unknown" if unknown else "proven"
        if batch is None:
            return Verification(count, 0, None, positions)
        arguments = as_double(batch if isinstance(batch, tuple) else (batch,))
        with doubled(self._store, self._live):
            check = Check(self._live, self._store, arguments)
            for child in (real, self._builder.build(values)):
                copy_into(child, loans, self._store, check.start)
                check.compare(child)
        return Verification(count, len(self._store.every_key()), check.error, positions)

    def verify_some(self, batch: Any, seed: int) -> list[Verification]:
        """Verifies the smallest and the largest child and two random ones."""
        chosen = {self._known.extreme(False), self._known.extreme(True)}
        chosen |= {self.space.bare().random(Rng(seed, f"verify {i}")).values for i in range(2)}
        dnas = [DNA(self.space.bare(), values) for values in sorted(chosen, key=repr)]
        return [self.verify(dna, batch) for dna in dnas if self.space.allows(dna)]


class _LiveTemplate:
    """Lets a space build children by switching the live program."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self.program = shared._plain.program
        self.points = shared._plain.points

    def build(self, values: Sequence[Any]) -> Any:
        return self._shared._switch(tuple(values))

    def encode(self, child: Any, is_active: Callable[[int, Sequence[Any]], bool]) -> list[Any]:
        template: Any = self._shared._plain._template
        return template.encode(child, is_active)  # type: ignore[no-any-return]

    def split(self, inner: frozenset[int]) -> Any:
        raise SpaceError(
            "cannot leave decisions of a shared program undecided",
            at="where",
            expected="all decisions at once, since a switch needs every one",
            fix="split the program first, and share the weights of the parts",
        )


def copy_into(child: Child, loans: Sequence[tuple[Loan, Cut]], store: Store,
              tensors: Mapping[Key, torch.Tensor] | None = None) -> None:  # fmt: skip
    """Copies into a real child what the live program shares.

    Args:
        child: The child.
        loans: What it shares.
        store: The shared tensors.
        tensors: Shared tensors as they were, in place of those of the store.
    """
    with torch.no_grad():
        for loan, cut in loans:
            module = child.tree[loan.path]
            own = (module._buffers if loan.is_buffer else module._parameters)[loan.name]
            assert own is not None
            shared = take(store.tensor(loan.key) if tensors is None else tensors[loan.key], cut)
            own.data = shared.detach().clone(memory_format=torch.contiguous_format)
        for module in child.tree.values():
            for name, buffer in module._buffers.items():
                if buffer is not None and buffer.is_floating_point():
                    module._buffers[name] = buffer.to(store.like())


__all__ = ["Shared", "copy_into"]
