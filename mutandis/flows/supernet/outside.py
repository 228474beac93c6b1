"""What a shared program is to the outside: a template of children and their costs, a file, a child, one thread's.

The live program cannot be written to a file: its weights are views, and its modules may hold anything. But it follows
from the program and from which children were built, so these are written, with the shared tensors beside them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from mutandis.errors import LoweringError, SpaceError
from mutandis.flows.costs.measures import Forward, call, measure
from mutandis.flows.supernet.cuts import Cut
from mutandis.flows.supernet.lowering.children import Child
from mutandis.flows.supernet.store import Store
from mutandis.flows.supernet.tensors.loans import Key, Loan
from mutandis.flows.supernet.tensors.module import SharedModule
from mutandis.hyper import DNA, SearchSpace


@dataclass(frozen=True, slots=True)
class Saved:
    """A shared program as it is pickled.

    Attributes:
        space: The space with its program.
        settings: Further arguments of `Shared`.
        met: Raw values of the children that brought tensors to light after the first ones, in their order.
        tensors: The state of the shared module.
        fixed: Names of parameters that take no gradient.
        values: Where the live program stands, or None.
        mode: Whether it is in training.
        owned: The state of what the program around the modules makes and keeps, such as optimizers.
    """

    space: SearchSpace
    settings: tuple[Any, ...]
    met: tuple[tuple[Any, ...], ...]
    tensors: dict[str, torch.Tensor]
    fixed: frozenset[str]
    values: tuple[Any, ...] | None
    mode: bool
    owned: dict[str, Any]


def saved(shared: Any) -> Saved:
    """Returns what a shared program is made of."""
    module, live = shared.module, shared._live
    fixed = frozenset(name for name, p in module.named_parameters() if not p.requires_grad)
    mode = live.roots[0].training if live.roots else live.mode
    return Saved(shared._plain, shared._settings, tuple(shared._met), dict(module.state_dict()), fixed, live.values,
                 mode, shared._owned.state())  # fmt: skip


def fill_module(module: SharedModule, kept: Saved) -> None:
    """Gives a module that was made anew the tensors that were saved, on their device and of their type."""
    like = next((kept.tensors[name] for name, _ in module.named_parameters()), None)
    if like is not None:
        module.to(device=like.device, dtype=like.dtype)
    module.load_state_dict(kept.tensors)
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name not in kept.fixed)


def restored(kind: Any, kept: Saved) -> Any:
    """Returns a shared program as it was kept.

    Args:
        kind: Its class.
        kept: What was pickled.
    """
    made = kind(kept.space, *kept.settings)
    for values in kept.met:
        made._meet(values)
    fill_module(made.module, kept)
    made._owned.load(kept.owned)
    if kept.values is not None:
        made._switch(kept.values)
        made._live.roots[0].train(kept.mode)
    made.release()
    return made


class Owner:
    """The thread that a live program follows: one that another thread switches meanwhile would be any child."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None

    def claim(self) -> None:
        """Takes the program for this thread.

        Raises:
            LoweringError: another thread that runs has it.
        """
        present = threading.current_thread()
        if self._thread is present:
            return
        if self._thread is not None and self._thread.is_alive():
            raise LoweringError(
                "cannot switch a shared program from two threads",
                got=f"thread {present.name}, while thread {self._thread.name} has it",
                expected="one thread, since there is one live program",
                fix="give each thread a copy of its own (copy.deepcopy(shared)), or call shared.release() in the first",
            )
        self._thread = present

    def release(self) -> None:
        """Leaves the program to whichever thread comes next."""
        self._thread = None


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
            shared = store.taken(loan.key, cut, tensors)
            own.data = shared.detach().clone(memory_format=torch.contiguous_format)
        for module in child.tree.values():
            for name, buffer in module._buffers.items():
                if buffer is not None and buffer.is_floating_point():
                    module._buffers[name] = buffer.to(store.like())


class LiveTemplate:
    """Lets a space build children by switching the live program.

    Args:
        plain: The space whose children are really built.
        switch: Switches the live program to raw values, and returns it.
    """

    def __init__(self, plain: SearchSpace, switch: Callable[[tuple[Any, ...]], Any]) -> None:
        self._plain = plain
        self._switch = switch
        self.program = plain.program
        self.points = plain.points

    def build(self, values: Sequence[Any]) -> Any:
        """Returns the live program at raw values."""
        return self._switch(tuple(values))

    def encode(self, child: Any, is_active: Callable[[int, Sequence[Any]], bool]) -> list[Any]:
        """Returns the raw values that a child of the program was built from."""
        template: Any = self._plain._template
        return template.encode(child, is_active)  # type: ignore[no-any-return]

    def split(self, inner: frozenset[int]) -> Any:
        """Refuses to leave decisions open.

        Raises:
            SpaceError: always.
        """
        raise SpaceError(
            "cannot leave decisions of a shared program undecided",
            at="where",
            expected="all decisions at once, since a switch needs every one",
            fix="split the program first, and share the weights of the parts",
        )


def priced(shared: Any, dna: DNA, what: Any, batch: Any, forward: Forward) -> float:
    """Returns what a child of a shared program costs; the live program stands where it stood afterwards.

    Args:
        shared: The shared program.
        dna: The child.
        what: A measure by name, a function of the child, or what has a cost for each DNA, and an expected one.
        batch: What it is called with, a tuple for several arguments; moved to the device and type of its weights.
        forward: Runs it; by default as the program was said to run.
    """
    if hasattr(what, "expected"):
        return float(what(dna))
    before = shared._live.values
    try:
        values = shared._builder.roots.filled(dna.values)
        shared._mount(values)
        child = shared._owned.anew(values)
        if callable(what):
            return float(what(child))
        like, run = shared._store.like(), shared._builder.roots.run
        if run is not None and forward is call:
            forward = lambda made, given: run(made, *(given if isinstance(given, tuple) else (given,)))  # noqa: E731
        parts = tuple(_alike(part, like) for part in (batch if isinstance(batch, tuple) else (batch,)))
        return measure(child, what, parts if isinstance(batch, tuple) else parts[0], forward=forward)
    finally:
        if before is not None:
            shared._mount(before)


def _alike(part: Any, like: torch.Tensor) -> Any:
    if not isinstance(part, torch.Tensor):
        return part
    return part.to(like.device, like.dtype) if part.is_floating_point() else part.to(like.device)


__all__ = ["LiveTemplate", "Owner", "Saved", "copy_into", "fill_module", "priced", "restored", "saved"]
