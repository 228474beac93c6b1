"""Whether a switched live program is what it claims to be: held against children that were really built.

Compared are the module tree, classes, attributes and shapes; and on a batch, in float64 and training mode with equal
random numbers: outputs, the gradient of every shared tensor (zero outside of what the child uses, None where it uses
nothing), and buffers after the pass.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from mutandis.errors import LoweringError
from mutandis.flows.supernet.assembly import Assembly
from mutandis.flows.supernet.cuts import is_whole, plain_place, region
from mutandis.flows.supernet.lowering.children import Builder, Child, made_late, place_of
from mutandis.flows.supernet.lowering.facts import RECORD, Facts, facts_of, tree_of
from mutandis.flows.supernet.lowering.functional import tensors_in
from mutandis.flows.supernet.outside import copy_into
from mutandis.flows.supernet.store import Store
from mutandis.flows.supernet.tensors.loans import Key, Loan, tensor_of
from mutandis.hyper import DNA

RTOL, ATOL = 1e-5, 1e-8
_SEED = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Verification:
    """What was compared, and found equal.

    Attributes:
        modules: Number of modules whose class, layers, attributes and shapes were compared.
        tensors: Number of shared tensors whose gradients were compared; 0 without a batch.
        error: Largest difference of outputs, gradients and buffers; None without a batch.
        positions: `proven`, or `unknown` where it was not checked which places of a cut tensor belong together.
    """

    modules: int
    tensors: int
    error: float | None
    positions: str


def compare_trees(live: Mapping[str, nn.Module], real: Child, late: Mapping[str, set[str]]) -> int:
    """Holds the modules of the live program against those of a real child.

    Returns:
        How many modules there are.

    Raises:
        LoweringError: they differ.
    """
    found = facts_of(tree_of(live))
    for path in sorted(real.facts.keys() | found.keys()):
        expected, given = real.facts.get(path), found.get(path)
        if expected is None or given is None:
            raise _mismatch(path, "module", given, expected)
        for what in ("kind", "layers"):
            if getattr(given, what) != getattr(expected, what):
                raise _mismatch(path, what, getattr(given, what), getattr(expected, what))
        if _shapes(given) != _shapes(expected):
            raise _mismatch(path, "tensors", _shapes(given), _shapes(expected))
        skipped = {*late.get(path, ()), RECORD}
        for name in given.attributes.keys() | expected.attributes.keys():
            if name not in skipped and given.attributes.get(name) != expected.attributes.get(name):
                raise _mismatch(path, name, given.attributes.get(name), expected.attributes.get(name))
    return len(found)


def compare_loans(live: Iterable[Loan], real: Iterable[Loan]) -> None:
    """Holds which shared tensors the live program uses against those that belong to a real child.

    Raises:
        LoweringError: they differ, such as where two candidates look alike.
    """
    given = {(loan.path, loan.name): loan.key for loan in live}
    for loan in real:
        if given.get((loan.path, loan.name)) != loan.key:
            raise _mismatch(loan.path, loan.name, given.get((loan.path, loan.name)), loan.key)


def _shapes(facts: Facts) -> list[tuple[Any, ...]]:
    return [t[:3] if t[0] in ("parameter", "state") else t[:2] for t in facts.tensors]


def _mismatch(path: str, what: str, got: Any, expected: Any) -> LoweringError:
    return LoweringError(
        "the live program differs from the child that was really built",
        at=f"{path}, {what}" if path else what,
        got=got,
        expected=repr(expected),
        fix="report this: the program has a dependency that was not seen; search the decision with trials until then",
    )


class Check:
    """A comparison on a batch, of one child.

    Args:
        live: The live program, switched to the child.
        store: The shared tensors, in float64.
        batch: Positional arguments of the module, in float64.

    Attributes:
        error: The largest difference so far.
        start: The shared tensors before the pass.
    """

    def __init__(self, live: Assembly, store: Store, batch: tuple[Any, ...]) -> None:
        self._store = store
        self._loans = list(live.loans())
        self._batch = batch
        self.error = 0.0
        self.start = {key: store.tensor(key).detach().clone() for key in store.every_key()}
        self._output = self._run(live.roots, live.run)
        self._grads = {key: _copy(store.tensor(key).grad) for key in store.every_key()}
        self._after = {key: store.tensor(key).detach().clone() for key in store.every_key()}

    def _run(self, roots: Iterable[nn.Module], run: Callable[[tuple[Any, ...]], Any]) -> list[torch.Tensor]:
        with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad():
            torch.default_generator.manual_seed(_SEED)
            for root in roots:
                root.train()
            outputs = [t for t in tensors_in(run(self._batch)) if t.is_floating_point()]
            total = sum((t * torch.randn(t.shape, dtype=t.dtype, device=t.device)).sum() for t in outputs)
            if isinstance(total, torch.Tensor) and total.requires_grad:
                total.backward()  # type: ignore[no-untyped-call]
        return [t.detach() for t in outputs]

    def compare(self, real: Child) -> None:
        """Runs a real child that holds the same weights and holds it against the live program.

        Raises:
            LoweringError: they differ.
        """
        outputs = self._run(real.roots.values(), real.run)
        if len(outputs) != len(self._output):
            raise _mismatch("", "outputs", len(self._output), len(outputs))
        for number, (given, expected) in enumerate(zip(self._output, outputs)):
            self._need_close(f"output {number}", given, expected)
        self._compare_gradients(real)
        for loan, cut in self._loans:
            if loan.is_buffer:
                given = self._after[loan.key]
                used = given[region(cut, given.shape, given.device)]
                self._need_close(f"{loan.path}.{loan.name} after the pass", used, tensor_of(real, loan))

    def _compare_gradients(self, real: Child) -> None:
        expected: dict[Key, torch.Tensor] = {}
        seen: set[int] = set()
        for loan, cut in self._loans:
            own = real.tree[loan.path]._parameters.get(loan.name)
            if own is None or own.grad is None or id(own) in seen:
                continue
            seen.add(id(own))
            for key, part, gradient in self._store.gradients(loan.key, cut, own.grad, self.start):
                full = self._store.tensor(key)
                if is_whole(part) and key not in expected:
                    expected[key] = gradient  # The real child has no further use for it.
                    continue
                total = expected.setdefault(key, torch.zeros_like(full))
                total[region(part, full.shape, full.device)] += gradient
        for key, given in self._grads.items():
            is_fixed = not self._store.tensor(key).requires_grad  # Such as scales that shall not be trained.
            if is_fixed or (given is None and key not in expected):
                continue
            self._need_close(f"gradient of {self._store.name(key)}", given, expected.get(key))

    def _need_close(self, what: str, given: torch.Tensor | None, expected: torch.Tensor | None) -> None:
        if given is None or expected is None:
            shown = [None if t is None else float(t.abs().max()) for t in (given, expected)]
            if all(not x for x in shown) and expected is not None:
                return  # A real child has zeros where the live one has nothing.
            raise _mismatch(what, "largest entry", *shown)
        if given.shape != expected.shape:
            raise _mismatch(what, "shape", tuple(given.shape), tuple(expected.shape))
        if given.numel() == 0:
            return
        if given.dtype == expected.dtype and torch.equal(given, expected):  # As mostly; what follows takes memory.
            return
        difference = float((given.double() - expected.double()).abs().max())
        if not torch.allclose(given.double(), expected.double(), rtol=RTOL, atol=ATOL, equal_nan=True):
            raise _mismatch(what, "largest difference", difference, 0.0)
        if not math.isnan(difference):  # Equal nans count as equal.
            self.error = max(self.error, difference)


def verified(builder: Builder, live: Assembly, store: Store, values: tuple[Any, ...], batch: Any, *,
             late: Mapping[str, set[str]], unproven: Collection[str]) -> Verification:  # fmt: skip
    """Holds the live program where it stands, and an exported child, against a child that is really built.

    Args:
        builder: Builds the children.
        live: The live program.
        store: The shared tensors.
        values: The raw values at which it should stand.
        batch: As for `Shared.verify`.
        late: Attributes that are read late, by path.
        unproven: Modules of which it is not known which places belong to a smaller child.

    Raises:
        LoweringError: they differ.
    """
    real = builder.build(values, init=True)
    count = compare_trees(dict(zip(builder.roots.names(), live.roots, strict=True)), real, late)
    loans = list(live.loans())
    compare_loans([loan for loan, _ in loans], list(store.loans(real)))
    cut_at = {loan.path for loan, cut in loans if not is_whole(cut)}
    unknown = any(path in unproven or plain_place(real.tree, path, "")[0] in unproven for path in cut_at)
    positions = "unknown" if unknown else "proven"
    if batch is None:
        return Verification(count, 0, None, positions)
    arguments = as_double(batch if isinstance(batch, tuple) else (batch,))
    with doubled(store, live):
        try:
            check = Check(live, store, arguments)
        except Exception as error:
            error.add_note(f"while running the child {DNA(builder.space.bare(), values)}{_inside(error, live)}")
            raise
        late_layer = made_late(dict(zip(builder.roots.names(), live.roots, strict=True)), real.tree)
        if late_layer is not None:
            raise late_layer
        for child in (real, builder.build(values)):
            copy_into(child, loans, store, check.start)
            check.compare(child)
    return Verification(count, len(store.every_key()), check.error, positions)


def _inside(error: Exception, live: Assembly) -> str:
    """Returns in which module of the live program an error was raised, in words."""
    path = place_of(error, {id(m): name for root in live.roots for name, m in root.named_modules()})
    return f", in its module {path}" if path else ""


@contextmanager
def doubled(store: Store, live: Assembly) -> Iterator[None]:
    """Holds what the live program uses in float64 for a while, without gradients; what is done to it does not last."""
    tensors = [store.tensor(key) for key in store.every_key()]
    before = [(tensor, tensor.data, tensor.grad) for tensor in tensors]
    own = live.own_buffers()
    used = {key: dict(cuts) for key, cuts in store.used.items()}
    try:
        for tensor in tensors:
            tensor.grad = None
            tensor.data = as_double(tensor.data)
        for table, name, buffer in own:
            dict.__setitem__(table, name, as_double(buffer))
        live.renew()
        yield
    finally:
        for tensor, data, grad in before:
            tensor.grad = None
            tensor.data = data
            tensor.grad = grad
        for table, name, buffer in own:
            dict.__setitem__(table, name, buffer)
        for key, cuts in store.used.items():  # What a guard shall mind are passes of training.
            cuts.clear()
            cuts.update(used.get(key, {}))
        live.renew()


def as_double(value: Any) -> Any:
    """Returns a copy of a tensor, in float64 if it holds floats; containers of tensors likewise."""
    if isinstance(value, torch.Tensor):
        return value.detach().double() if value.is_floating_point() and value.dtype != torch.float64 else (
            value.detach().clone())  # fmt: skip
    if isinstance(value, (list, tuple)):
        return type(value)(as_double(item) for item in value)
    if isinstance(value, dict):
        return {key: as_double(item) for key, item in value.items()}
    return value


def _copy(tensor: torch.Tensor | None) -> torch.Tensor | None:
    return None if tensor is None else tensor.detach().clone()


__all__ = ["Check", "Verification", "as_double", "compare_trees", "doubled", "tensors_in", "verified"]
