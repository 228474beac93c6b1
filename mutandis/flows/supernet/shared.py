"""A program whose children share one set of weights."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

from mutandis.errors import LoweringError
from mutandis.flows.costs.measures import Forward, call
from mutandis.flows.supernet.around.owned import Owned
from mutandis.flows.supernet.assembly import Assembly, MissingPart
from mutandis.flows.supernet.calibrate import calibrate, fix_scales
from mutandis.flows.supernet.guard import Guard, need_shared
from mutandis.flows.supernet.lowering.children import Builder, Child
from mutandis.flows.supernet.lowering.dependencies import Dependencies
from mutandis.flows.supernet.lowering.partition import Partition
from mutandis.flows.supernet.lowering.roots import Run, several_modules
from mutandis.flows.supernet.mixing.chosen import Chosen, chosen_of
from mutandis.flows.supernet.mixing.mixer import SizeMixer
from mutandis.flows.supernet.outside import LiveTemplate, Owner, copy_into, priced, restored, saved
from mutandis.flows.supernet.placing import Placer
from mutandis.flows.supernet.report import LoweringReport, roles
from mutandis.flows.supernet.store import Store
from mutandis.flows.supernet.tensors.module import SharedModule
from mutandis.flows.supernet.verify import Verification, verified
from mutandis.hyper import DNA, Point, SearchSpace

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
        self, program_space: SearchSpace, batch: tuple[Any, ...] | None, positions: str, check: str, seed: int,
        sizes: str = "proven", norms: str = "given", run: Run | None = None, kernels: str = "crop",
    ) -> None:  # fmt: skip
        self._plain = program_space
        self._settings = (batch, positions, check, seed, sizes, norms, run, kernels)
        self._is_affine = norms == "given"
        self._met: list[tuple[Any, ...]] = []
        self._owner = Owner()
        self._checked: set[tuple[Any, ...]] | None = set() if check == "always" else None
        self._builder = Builder(program_space, seed)
        self._inner = self._builder.space
        self._builder.roots.run = run
        if batch is not None and run is None and len(self._builder.roots.paths) > 1:
            raise several_modules(self._builder.roots.paths)
        self._known = Dependencies(self._builder)
        self._known.explore(seed)
        self._late: OrderedDict[tuple[Any, ...], Child] = OrderedDict()
        self._assemble(batch, positions, sizes, kernels)
        self.space = SearchSpace(
            program_space.points, LiveTemplate(program_space, self._switch), program_space._constraints
        )
        self.space._bare = program_space.bare()

    def _assemble(self, batch: tuple[Any, ...] | None, positions: str, sizes: str, kernels: str) -> None:
        """Cuts the tree into parts, makes the shared tensors, and takes parts from the children that were built."""
        self._partition = Partition(self._inner, self._known, self._builder.roots.names())
        self._store = Store(self._partition, kernels)
        children = list(self._known.children.values())
        self._store.fill(children, lambda values: self._builder.build(values, init=True))
        self._live = Assembly(self._partition, self._known, self._store, self._real, self._call)
        self._store.module._after_move.append(self._live.move)
        self._owned = Owned(self._builder.roots, self._store, lambda: self._live, self._mount,
                            self._builder.build, self._guard)  # fmt: skip
        self._placer = Placer(self._builder, self._known, self._store, batch, positions)
        self._sizes = SizeMixer(self._inner.bare(), self._known, self._store, lambda: self._live, self._mount,
                                self._meet, self._builder.build, self._placer.batch,
                                is_strict=sizes == "proven")  # fmt: skip
        for child in children:
            self._take(child)
        self._known.release()

    def _take(self, child: Child) -> None:
        """Takes the parts of a child that are new, once it is known where its tensors stand."""
        if self._live.lacks(child):
            loans = self._placer.loans(child)
            if not self._is_affine:
                fix_scales(child, loans, self._store)
            self._live.harvest(child, loans)

    def _mu_space_(self) -> SearchSpace:
        return self.space

    def __reduce__(self) -> tuple[Any, ...]:
        return restored, (Shared, saved(self))

    def __repr__(self) -> str:
        count = sum(p.numel() for p in self.module.parameters())
        return f"Shared({len(self.points)} decisions, {count} shared weights)"

    @property
    def module(self) -> SharedModule:
        """All shared weights as one `nn.Module`: parameters, state, device; called, it runs the live module."""
        return self._store.module

    @property
    def batch(self) -> tuple[Any, ...] | None:
        """The example that `share_weights` was given, as arguments of the module."""
        return self._settings[0]

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
        values = self._live.values
        return None if values is None else self.space.repair(values, lambda point: point.first())

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
    def select(self, dna: DNA, selections: Mapping[str, Any]) -> Iterator[Any]:
        """Runs several arms of some choices at once, or one with a gate; or several sizes of some numbers.

            with shared.select(dna, {"block": Mixture(alphas.softmax(0))}) as live:
                loss(live(x), y).backward()

        Arms that are not selected do not run, and get no gradient. Gates and weights get theirs.

        Of a number, the largest size that is selected stands there, and the layers that read what it decides mask the
        channels, or the rings of a kernel, that some sizes do not have; with `mode="interpolate"` they read channels of
        smaller sizes spread out to all. Of a depth of an `nn.Sequential`, the outputs behind each are added, each at
        its own widths. A layer that is of another kind for other sizes, such as a shortcut that is a projection where
        two widths differ, runs as every kind, each as much as the sizes with it weigh together. All weight
        on one size is the child of that size, which is proven on the batch of `share_weights` at the first selection;
        a size that takes no part but is smaller than one that does gets gradients of 0, not None.

        Args:
            dna: What all other decisions are.
            selections: By name or path of the decision. An arm may hold decisions of its own, with selections or
                without; one that the DNA leaves out, since it stands in another arm, takes a raw value here (the index
                of a candidate, a number), and its first one by default.

        Yields:
            The live program. Where a choice has a selection, a `Choice` stands in the place of the arm.

        Raises:
            DecisionError: there is no such decision, or the DNA is of another space.
            LoweringError: a choice decides more than which layer stands at a place, or sizes cannot be mixed.
        """
        self.space.own(dna)
        roots = self._builder.roots
        chosen = chosen_of(self.space, self._known, roots.slots, dna, selections)
        numbers, is_complete = chosen.numbers, False
        try:
            values = roots.filled(dna.values)
            values = self._sizes.enlarge(values, numbers, chosen.below) if numbers else values
            self._live.select(chosen.arms, chosen.below)
            program = self._selected(values, chosen)
            is_complete = not numbers and roots.paths == ("",)
            with self._sizes.running(self._live.roots, numbers) if numbers else nullcontext():
                yield program
        finally:
            if not (is_complete and self._live.deselect(roots.filled(dna.values))):
                self._live.select({}, {})
                self._switch(dna.values)

    def _selected(self, values: tuple[Any, ...], chosen: Chosen) -> Any:
        while True:
            try:
                return self._switch(values, meet=False)
            except MissingPart as error:
                missing = error.values
            assert missing is not None  # A switch names a child that has the part.
            self._live.select({}, {})
            self._meet(missing)
            self._live.select(chosen.arms, chosen.below)

    def release(self) -> None:
        """Lets another thread switch the live program from now on; without it only one thread may."""
        self._owner.release()

    def _switch(self, values: tuple[Any, ...], *, meet: bool = True) -> Any:
        values = self._builder.roots.filled(values)
        self._mount(values, meet=meet)
        return self._owned.wrap(values)

    def _mount(self, values: tuple[Any, ...], *, meet: bool = True) -> None:
        """Puts the live modules together, without the program around them."""
        self._owner.claim()
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

    def _call(self, values: tuple[Any, ...], modules: list[torch.nn.Module], batch: Sequence[Any]) -> Any:
        """Returns what the live program of raw values makes of a batch."""
        roots = self._builder.roots
        return roots.call(values, modules, batch) if roots.run is None else roots.run(self._owned.anew(values), *batch)

    def _meet(self, values: tuple[Any, ...]) -> None:
        """Builds a child for the parts of it that are new."""
        child = self._known.child(values)
        is_expected = self._known.learn(child)
        if not is_expected:
            self._cut_anew(values)
        if self._store.fill([child], lambda v: self._builder.build(v, init=True)) or not is_expected:
            self._met.append(values)
        self._take(child)
        self._known.release()

    def _cut_anew(self, values: tuple[Any, ...]) -> None:
        """Cuts the tree into other parts, after a child has shown that more hangs on a decision than was seen."""
        partition = Partition(self._inner, self._known, self._builder.roots.names())
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
        self._live = Assembly(partition, self._known, self._store, self._real, self._call)
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
        before, values = self._live.values, self._builder.roots.filled(values)
        child = self._builder.build(values)
        if not self._known.learn(child):
            self._cut_anew(values)
        self._mount(values)
        mode = self._live.roots[0].training
        copy_into(child, list(self._live.loans()), self._store)
        for root in child.roots.values():
            root.train(mode)
        program = self._builder.roots.wrap(values, list(child.roots.values()))
        if before is not None:
            self._mount(before)
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

        Raises:
            SettingError: it is no optimizer, or has none of the shared weights.
        """
        need_shared(optimizer, self._store)
        return self._guard(optimizer)

    def _guard(self, optimizer: torch.optim.Optimizer) -> Guard:
        return Guard(self._store, optimizer, lambda: self._live.renew())

    def calibrate(self, dna: DNA, batches: Iterable[Any], *, most: int | None = None,
                  run: Callable[[Any, Any], Any] | None = None) -> int:  # fmt: skip
        """Replaces the batch-norm statistics of a child by averages over batches; switches to it.

        Args:
            dna: The child.
            batches: Inputs, or sequences that begin with the input.
            most: How many batches are used at most.
            run: Called with the module, or the program if that has several, and a batch, instead of `module(x)`.

        Returns:
            How many batches were used.
        """
        program = self.materialize(dna)
        if run is None and len(self._live.roots) > 1:
            raise several_modules(self._builder.roots.paths)
        return calibrate(self._live.roots, program, list(self._live.loans()), self._store, batches, most, run)

    def cost(self, dna: DNA, measure: str | Callable[[Any], float] = "flops", batch: Any = None, *,
             forward: Forward = call) -> float:  # fmt: skip
        """Returns what a child costs, measured on the live program, which stands where it stood when it returns.

        Costs of many children without a pass for each are those of `mu.flows.fit_cost(shared, "flops", batch)`.

        Args:
            dna: The child.
            measure: A name that `mu.flows.measure` knows; a function of the child; or a `CostModel` or `TableCost`.
            batch: What the child is called with; by default that of `share_weights`.
            forward: Runs a child on the batch, where it is not called.

        Raises:
            DecisionError: the DNA is of another space.
            SettingError: there is no such measure, or it needs a batch.
        """
        return priced(self, self.space.own(dna), measure, self.batch if batch is None else batch, forward)

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
        before, values = self._live.values, self._builder.roots.filled(dna.values)
        mode = self._live.roots[0].training if self._live.roots else True
        self._mount(values)
        try:
            return verified(self._builder, self._live, self._store, values, batch, late=self._partition.late,
                            unproven=self._placer.unproven)  # fmt: skip
        finally:
            self._mount(values if before is None else before)
            for root in self._live.roots:
                root.train(mode)


__all__ = ["Shared"]
