"""Really built children: a program's modules for some decisions, as its own `__init__` makes them.

They are the oracle of everything that weight sharing claims, and the parts that the live program is put together from.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property
from types import FrameType
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

from mutandis.errors import LoweringError
from mutandis.flows.supernet.lowering.facts import Facts, facts_of, state_buffers, tree_of
from mutandis.flows.supernet.lowering.roots import Roots, is_call
from mutandis.hyper import HyperValue, ManyOf, OneOf, SearchSpace
from mutandis.hyper.arithmetic import Derived
from mutandis.hyper.points import CHOICE, MANY
from mutandis.symbolic.modules.edits import find_layer
from mutandis.symbolic.record import LEAVES, is_symbolic
from mutandis.symbolic.traverse import children, edited, walk

_LOCK = threading.RLock()
_FILLS = frozenset(
    f for name, f in vars(nn.init).items() if name.endswith("_") and not name.startswith("_") and callable(f)
) | {torch.Tensor.uniform_, torch.Tensor.normal_, torch.Tensor.bernoulli_, torch.Tensor.exponential_}

_PLAIN = frozenset({int, float, bool, str, type(None)})

_NO_WEIGHTS = nn.Parameter(torch.empty(0))

Tag = tuple[int, int]
"""A decision by its index, and which of its picks it is about (-1 for the only one)."""


class Child:
    """One really built child.

    Attributes:
        values: Its raw values.
        roots: Its outermost modules by path prefix.
        tree: All its modules by path, parents first.
        owners: For modules that a candidate made, the decisions it was a candidate of.
        places: Where its tensors stand in the shared ones, by path, name and axis, if that is known and unusual.
        is_plain: Whether its tensors were of torch's own classes, once it was stripped.
    """

    def __init__(
        self,
        values: Sequence[Any],
        roots: Mapping[str, nn.Module],
        owners: Mapping[int, set[Tag]],
        call: Callable[[Sequence[Any], list[nn.Module], Sequence[Any]], Any],
    ) -> None:
        self.values = tuple(values)
        self._call = call
        self.roots = dict(roots)
        self.tree = tree_of(self.roots)
        self.owners = {path: owners[id(m)] for path, m in self.tree.items() if id(m) in owners}
        self.places: dict[tuple[str, str], dict[int, torch.Tensor]] = {}
        self.is_plain = False

    @cached_property
    def facts(self) -> dict[str, Facts]:
        """What its modules say about themselves; asked for before anything is done to them."""
        return facts_of(self.tree)

    def run(self, batch: Sequence[Any]) -> Any:
        """Returns what it makes of a batch."""
        return self._call(self.values, list(self.roots.values()), batch)

    def place_of(self, error: BaseException) -> str:
        """Returns the path of the innermost module that an error of a pass comes from; the root's is empty."""
        return place_of(error, {id(module): path for path, module in self.tree.items()})

    def strip(self) -> None:
        """Lets go of the memory of parameters and running statistics; what is left are modules and their facts."""
        _ = self.facts  # As they are now.
        tensors = [t for m in self.tree.values() for t in (*m._parameters.values(), *m._buffers.values())]
        self.is_plain = all(t is None or type(t) in (torch.Tensor, nn.Parameter) for t in tensors)
        self.drop_weights()

    def replace(self, other: Child) -> None:
        """Takes the modules of an equal child, which has lost its own; stripped like these were."""
        other.strip()
        self.roots, self.tree = other.roots, other.tree

    def drop_weights(self) -> None:
        """Lets go of that memory only, where nobody will ask for facts."""
        for module in self.tree.values():
            for name, parameter in module._parameters.items():
                if parameter is not None:
                    module._parameters[name] = _NO_WEIGHTS
            for name in state_buffers(module) & module._buffers.keys():
                if module._buffers[name] is not None:
                    module._buffers[name] = _NO_WEIGHTS.detach()


class Builder:
    """Builds children of a space, with tensors but by default without drawing initial values.

    Args:
        space: The space of a program.
        seed: Seed of the initial values.
    """

    def __init__(self, space: SearchSpace, seed: int) -> None:
        self.roots = Roots(space)
        self.space = self.roots.space
        self._program = space.program
        self._seed = seed
        self._has_arms = has_arms(space)
        self.num_builds = 0

    def build(self, values: Sequence[Any], *, init: bool = False) -> Child:
        """Returns the child of raw values.

        Args:
            values: Raw values aligned with the points of the space.
            init: Whether parameters get their initial values; else their content is arbitrary.
        """
        self.num_builds += 1
        recorder = _Recorder()
        with (
            _LOCK,
            _quiet(self._seed),
            recorder if self._has_arms else nullcontext(),
            torch.inference_mode(False),
            torch.enable_grad(),
            nullcontext() if init else _NoInit(),
        ):
            made = self.roots.build(values)
            modules = [item._mu_result_() if is_call(item) else item for item in made]
        self._need_modules(modules)
        pairs = _Pairs(self.space, values)
        for (node, item), module in zip(zip(self.roots.nodes, made, strict=True), modules, strict=True):
            if self._has_arms:
                pairs.walk(node, item, module)
        roots = dict(zip(self.roots.names(), modules, strict=True))
        return Child(values, roots, recorder.owners(pairs), self.roots.call)

    def _need_modules(self, modules: list[Any]) -> None:
        for path, module in zip(self.roots.paths, modules, strict=True):
            if not isinstance(module, nn.Module):
                raise LoweringError(
                    "cannot share the weights of a call that returns no module",
                    at=path,
                    got=module,
                    expected="a torch.nn.Module, as its annotation says",
                    fix="return the module itself",
                )
            for name, layer in module.named_modules():
                if any(map(is_lazy, (*layer._parameters.values(), *layer._buffers.values()))):
                    raise LoweringError(
                        "cannot share the weights of a layer whose sizes are not known when it is made",
                        at=f"module {name}" if name else path or "(the root)",
                        got=type(layer).__name__,
                        expected="sizes given to __init__",
                        fix="write the layer with its input size, such as nn.Linear(in_features, out_features)",
                    )


@contextmanager
def _quiet(seed: int) -> Iterator[None]:
    """Leaves torch's generator as it was, and starts every build from the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def place_of(error: BaseException, paths: Mapping[int, str]) -> str:
    """Returns the path of the innermost module that an error comes from, given paths by the id of the module."""
    found, trace = "", error.__traceback__
    while trace is not None:
        found = paths.get(id(trace.tb_frame.f_locals.get("self")), found)
        trace = trace.tb_next
    return found


def made_late(roots: Mapping[str, nn.Module], known: Mapping[str, nn.Module]) -> LoweringError | None:
    """Returns the error for a layer that a pass has made, if there is one.

    Args:
        roots: Outermost modules by path, after a pass.
        known: All modules by path, before it.
    """
    new = sorted(tree_of(roots).keys() - known.keys())
    return None if not new else LoweringError(
        "cannot share the weights of a layer that is made while the program runs",
        at=f"module {new[0]}",
        expected="layers that __init__ makes, so that an optimizer gets their weights",
        fix="make it in __init__; an input size that it needs there can be an argument, and searched",
    )  # fmt: skip


class _NoInit(TorchFunctionMode):
    """Skips the filling of parameters, which costs most of the time of a build."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _FILLS:
            target = args[0] if args else kwargs.get("tensor")
            if isinstance(target, nn.Parameter):
                return target
        return func(*args, **kwargs)


class _Pairs:
    """Finds what stands for the candidates of choices in a child."""

    def __init__(self, space: SearchSpace, values: Sequence[Any]) -> None:
        self._space = space
        self._values = values
        self._seen: set[tuple[int, int]] = set()
        self._index: dict[int, int] = space_index(space)
        self.found: list[tuple[Tag, Any]] = []

    def walk(self, node: Any, made: Any, result: Any = None) -> None:
        """Compares a node of the program with what it became.

        Args:
            node: A node of the program.
            made: What stands there in the child.
            result: The module that it makes, where it is a call.
        """
        if type(node) in LEAVES or (id(node), id(made)) in self._seen:
            return
        self._seen.add((id(node), id(made)))
        if result is None and is_call(made) and "_mu_cached_" in made.__dict__:
            result = made._mu_result_()
        if isinstance(node, OneOf):
            index = self._index[id(node)]
            self.found.append(((index, -1), made if result is None else result))
            self.walk(node.candidates[self._values[index]], made, result)
        elif isinstance(node, ManyOf):
            self._walk_picks(node, made)
        elif not isinstance(node, (HyperValue, Derived)):
            below = dict(children(made))
            for step, item in children(node):
                if step in below:
                    self.walk(item, below[step])
            edits = dict(edited(made))
            for where, item in edited(node):
                if where in edits:
                    # A call puts copies of the edits into each of its results.
                    layer = find_layer(result, where)
                    self.walk(item, layer if is_symbolic(layer) else edits[where], layer)

    def _walk_picks(self, node: ManyOf, made: Any) -> None:
        index = self._index[id(node)]
        for slot, pick in enumerate(self._values[index]):
            self.found.append(((index, slot), made[slot]))
            self.walk(node.candidates[pick], made[slot])


def space_index(space: SearchSpace) -> dict[int, int]:
    """Returns the index of the point of each hyper value of a program, by its id."""
    found: dict[int, int] = {}
    template: Any = space._template
    found.update(template._index_of)
    return found


def has_arms(space: SearchSpace) -> bool:
    """Returns whether some candidates are not plain values, so that modules may belong to them."""
    hypers = [value for _, value, _ in walk(space.program, layers=False) if isinstance(value, (OneOf, ManyOf))]
    if len(hypers) < sum(point.kind in (CHOICE, MANY) for point in space.points):
        return True  # Some stand where a walk does not come.
    return not all(type(c) in _PLAIN for value in hypers for c in value.candidates)


class _Recorder:
    """Notes, while a child is built, inside of which calls each module gets its tensors and layers."""

    def __init__(self) -> None:
        self._thread = threading.get_ident()
        self._inside: dict[int, tuple[nn.Module, set[int]]] = {}
        self._handles: list[Any] = []

    def __enter__(self) -> _Recorder:
        register = torch.nn.modules.module
        self._handles = [
            register.register_module_parameter_registration_hook(self._note),
            register.register_module_buffer_registration_hook(self._note),
            register.register_module_module_registration_hook(self._note),
        ]
        return self

    def __exit__(self, *reason: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _note(self, module: nn.Module, name: str, tensor: Any) -> None:
        if id(module) in self._inside or threading.get_ident() != self._thread:
            return
        frame: FrameType | None = sys._getframe(1)
        inside: set[int] = set()
        while frame is not None:
            code = frame.f_code
            if code.co_name == "build" and code.co_filename == __file__:
                break
            inside.add(id(code))
            if code.co_varnames[:1] == ("self",):
                inside.add(id(frame.f_locals.get("self")))
            frame = frame.f_back
        self._inside[id(module)] = (module, inside)

    def owners(self, pairs: _Pairs) -> dict[int, set[Tag]]:
        """Returns the decisions whose candidates made each module, by the id of the module."""
        made: dict[int, set[Tag]] = {}
        marks: dict[int, set[Tag]] = {}
        classes: dict[type, set[Tag]] = {}
        for tag, candidate in pairs.found:
            if isinstance(candidate, nn.Module):
                for module in candidate.modules():
                    made.setdefault(id(module), set()).add(tag)
            elif isinstance(candidate, type):
                classes.setdefault(candidate, set()).add(tag)
            elif type(candidate) not in LEAVES or hasattr(candidate, "__code__"):
                marks.setdefault(id(getattr(candidate, "__code__", candidate)), set()).add(tag)
        for number, (module, inside) in self._inside.items():
            tags = set().union(*(marks[m] for m in inside & marks.keys()), *(
                found for cls, found in classes.items() if isinstance(module, cls)))  # fmt: skip
            if tags:
                made.setdefault(number, set()).update(tags)
        return made


__all__ = ["Builder", "Child", "Tag", "has_arms", "made_late", "place_of", "space_index"]
