"""Re-building live modules: `__init__` runs again on the same object, and what survives is kept.

The rule, tried against the alternatives in practice: an old layer stays when its type and plain attributes
equal those of the new one and its tensors fit; otherwise the new layer takes over old parameters of equal
name and shape. Parametrizations, pruning, lazy layers, hooks and aliases live through it.
"""

from __future__ import annotations

import gc
import sys
import types
import weakref
from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import nn

from mutandis.errors import SettingError
from mutandis.symbolic.abstract import _SWAP
from mutandis.symbolic.compare import equal
from mutandis.symbolic.modules.edits import apply_edits, find_layer, swapped
from mutandis.symbolic.paths import Path
from mutandis.symbolic.record import get_edits, is_symbolic, remember, values_of
from mutandis.symbolic.transactions.plan import unchanged
from mutandis.symbolic.transactions.report import Findings, Reinitialised

_TABLES = ("_parameters", "_buffers", "_modules")
_STATISTICS = frozenset({"running_mean", "running_var", "num_batches_tracked"})
_LAZY_SIZES = frozenset({"in_features", "in_channels", "num_features"})
_REPARAMETRISERS = ("torch.nn.utils.weight_norm", "torch.nn.utils.spectral_norm", "torch.nn.utils.prune")
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)

Names = tuple[str, ...]
Swaps = dict[int, tuple[Any, Any]]


def reinit_module(
    obj: nn.Module,
    init: Callable[[Any], None],
    old_init: Callable[[Any], None],
    *,
    edits: dict[str, Any],
    given: set[int],
    findings: Findings,
    reset: bool,
) -> None:
    """Runs `__init__` again on a module and keeps what survives.

    Args:
        obj: The module; its record holds the new arguments already.
        init: Runs the original `__init__` with the new arguments on an object.
        old_init: The same with the arguments from before; used only where a doubt must be settled.
        edits: Edits of layers to apply.
        given: Ids of modules that are arguments or edits: they are nobody's to merge.
        findings: Collects carried attributes and warnings.
        reset: Whether to start afresh.

    Raises:
        SettingError: another library has replaced the class of `obj`.
    """
    if any(base.__name__ == "FSDPModule" for base in type(obj).__mro__):
        raise SettingError("cannot rebind a sharded module", got=type(obj), expected="a module before fully_shard",
                           fix="rebind first, shard afterwards")  # fmt: skip
    attributes = obj.__dict__
    before = dict(attributes)
    parametrized = _strip_parametrizations(obj)
    root = _Root(before.get("_modules", {}))
    replaced = {where: find_layer(root, Path.parse(where)) for where in edits}
    attributes.clear()
    if "_mu_" in before:
        object.__setattr__(obj, "_mu_", before["_mu_"])
    random = torch.get_rng_state()
    init(obj)
    for path in apply_edits(obj, edits) if edits else ():
        findings.dormant.append((obj, path))
    if not reset and "_modules" in before:
        scratch = _Scratch(type(obj), old_init, random)
        _Merge(before, given, scratch, findings).root(obj, parametrized)
        for where, value in edits.items():
            old = replaced[where]
            if old is not None and old is not value and isinstance(value, nn.Module):
                _adapt_replacement(value, old)


def merge_result(old: Any, new: Any, findings: Findings, given: set[int]) -> Any:
    """Returns the result of a symbolic call that ran again, with what survives of its former result."""
    if not isinstance(old, nn.Module) or not isinstance(new, nn.Module):
        return new
    scratch = _Scratch(type(new), None, torch.get_rng_state())
    merge = _Merge(old.__dict__, given, scratch, findings)
    made = merge.child(old, new, ())
    merge.renew_references(made)
    return made


def tensors_of(module: nn.Module) -> dict[str, torch.Tensor]:
    """Returns parameters and buffers by name, under all their names."""
    named: dict[str, torch.Tensor] = dict(module.named_parameters(remove_duplicate=False))
    named.update(module.named_buffers(remove_duplicate=False))
    return named


def compare_tensors(
    obj: Any, before: dict[str, torch.Tensor], after: dict[str, torch.Tensor], findings: Findings
) -> list[tuple[Any, Any]]:
    """Notes which tensors are the same objects as before and returns the parameters that are not.

    Returns:
        (old, new) pairs; one of them None where a parameter is new or gone.
    """
    changed: list[tuple[Any, Any]] = []
    for name in {**before, **after}:
        old, new = before.get(name), after.get(name)
        if old is new:
            findings.kept.add(id(old))
            continue
        shapes = [None if t is None or isinstance(t, nn.UninitializedParameter) else tuple(t.shape) for t in (old, new)]
        findings.reinitialised.append((obj, Reinitialised(name, shapes[0], shapes[1])))
        if isinstance(old, nn.Parameter) or isinstance(new, nn.Parameter):
            changed.append((old, new))
    return changed


class _Root:
    """The former layers of a module that has new ones now."""

    def __init__(self, modules: dict[str, Any]) -> None:
        self._modules = modules


def _adapt_replacement(made: nn.Module, layer: nn.Module) -> None:
    """Gives a replacement the mode, device and dtype of the layer it replaces."""
    if made.training != layer.training:
        made.train(layer.training)
    like, own = _first_float(vars(layer)), _first_float(vars(made))
    if like is not None and own is not None and (like.device, like.dtype) != (own.device, own.dtype):
        made.to(device=like.device, dtype=like.dtype)


class _Scratch:
    """What the old arguments would build: made only when it must be known which names `__init__` sets."""

    def __init__(self, cls: type, init: Callable[[Any], None] | None, random: torch.Tensor) -> None:
        self._cls, self._init, self._random = cls, init, random
        self._made: Any = None
        self._tried = False

    def at(self, names: Names) -> dict[str, Any] | None:
        """Returns the attributes of the layer at registered names, or None when that cannot be known."""
        module = self._get()
        for name in names:
            module = None if module is None else module._modules.get(name)
        return None if module is None else vars(module)

    def _get(self) -> Any:
        if not self._tried and self._init is not None:
            self._tried = True
            now = torch.get_rng_state()
            torch.set_rng_state(self._random)
            made: Any = object.__new__(self._cls)
            try:
                self._init(made)
                self._made = made
            except Exception:  # The old arguments may be used up; then the doubt stays.
                self._made = None
            finally:
                torch.set_rng_state(now)
        self._tried = True
        return self._made


class _Merge:
    def __init__(self, root: dict[str, Any], given: set[int], scratch: _Scratch, findings: Findings) -> None:
        self._root = root
        self._given = given
        self._scratch = scratch
        self._findings = findings
        self._chosen: Swaps = {}
        self._swaps: Swaps = {}
        self._training = root.get("training", True)
        first = _first_float(root)
        self._device = None if first is None else first.device
        self._dtype = None if first is None else first.dtype

    def root(self, obj: nn.Module, parametrized: type | None) -> None:
        """Merges the state from before into a module whose `__init__` has just run again."""
        before, attributes = self._root, obj.__dict__
        obj.training = before.get("training", True)
        self._children(before, obj, ())
        if parametrized is not None:
            self._restore_parametrizations(before, obj, parametrized)
        self._graft(before, obj, ())
        self._extras(before, obj, ())
        cached = {name for base in type(obj).__mro__ for name, item in base.__dict__.items()
                  if isinstance(item, cached_property)}  # fmt: skip
        carried = [name for name in before if name not in attributes and name not in cached and name != "_mu_"
                   and name not in obj._parameters and name not in obj._buffers]  # fmt: skip
        known = (self._scratch.at(()) or {}) if carried else {}
        for name in carried:
            if name not in known:
                attributes[name] = before[name]
                self._findings.carried.append((obj, name))
        self.renew_references(obj)

    def child(self, old: nn.Module, new: nn.Module, names: Names) -> nn.Module:
        """Returns the layer that stays: the old object where it equals the new one, else the new, grafted."""
        if old is new or id(new) in self._given:
            return new
        if id(new) in self._chosen:
            return self._chosen[id(new)][1]  # type: ignore[no-any-return]
        self._chosen[id(new)] = (new, new)
        lazy = getattr(type(new), "cls_to_become", None) is _plain_type(old)
        related = lazy or issubclass(_plain_type(old), type(new)) or issubclass(type(new), _plain_type(old))
        if not related:
            self._fresh(new)
            return new
        self._children(vars(old), new, names)
        if self._keeps(old, new, names, lazy):
            made = self._keep(old, new, names, lazy)
        else:
            new.training = old.training
            self._graft(vars(old), new, names)
            self._extras(vars(old), new, names)
            if "parametrizations" in old._modules:
                self._findings.warnings.append(f"{'.'.join(names)}: its parametrizations do not fit and are lost")
            made = new
        self._chosen[id(new)] = (new, made)
        if made is not new:
            self._swaps[id(new)] = (new, made)
        elif is_symbolic(new):
            remember(new, tuple(swapped(values_of(new), self._swaps)), get_edits(new))
        return made

    def _children(self, before: dict[str, Any], new: nn.Module, names: Names) -> None:
        for name, layer in new._modules.items():
            if layer is None or id(layer) in self._given:
                continue
            old = before["_modules"].get(name)
            if old is None:
                self._fresh(layer)
            else:
                new._modules[name] = self.child(old, layer, (*names, name))

    def _keeps(self, old: nn.Module, new: nn.Module, names: Names, lazy: bool) -> bool:
        if type(new) is not _plain_type(old) and not lazy:
            return False
        if is_symbolic(new) and is_symbolic(old) and not unchanged(
                values_of(old), tuple(swapped(values_of(new), self._swaps))):  # fmt: skip
            return False
        skipped = _LAZY_SIZES if lazy else frozenset()
        for name, value in vars(new).items():
            if _is_bookkeeping(name) or name in skipped:
                continue
            if name not in vars(old) or not self._same(vars(old)[name], value, 4):
                return False
        for name, parameter in new._parameters.items():
            if parameter is None:
                if old._parameters.get(name) is not None:
                    return False
            elif not (lazy and isinstance(parameter, nn.UninitializedParameter)) and (
                    _shape_of(old, name) != _shape_of(new, name)):  # fmt: skip
                return False
        for name, buffer in new._buffers.items():
            if (None if buffer is None else tuple(buffer.shape)) != _shape_of(old, name) and not lazy:
                return False
        return not self._gone("_parameters", vars(old), new, names) and not self._gone(
            "_buffers", vars(old), new, names)  # fmt: skip

    def _gone(self, table: str, before: dict[str, Any], new: nn.Module, names: Names) -> set[str]:
        """Returns the names that the old arguments made and the new ones do not."""
        missing = {name for name in before[table] if name not in vars(new)[table]}
        if table == "_modules":
            missing.discard("parametrizations")
        stand_ins = [name for name in new._parameters if name not in before["_parameters"]]
        if not missing or (table != "_modules" and stand_ins):  # `weight_g` stands in for `weight`.
            return set()
        if isinstance(new, _CONTAINERS):
            return missing
        known = self._scratch.at(names)
        return set() if known is None else {name for name in missing if name in known[table]}

    def _keep(self, old: nn.Module, new: nn.Module, names: Names, lazy: bool) -> nn.Module:
        gone = self._gone("_modules", vars(old), new, names)
        extra = {name: layer for name, layer in old._modules.items() if name not in new._modules and name not in gone}
        modules = {**new._modules, **extra}
        if list(modules.items()) != list(old._modules.items()):
            old._modules.clear()
            old._modules.update(modules)
        self._buffers(vars(old), new, names)
        for name, buffer in new._buffers.items():
            if name in old._buffers:
                old._buffers[name] = buffer
        for name, parameter in new._parameters.items():
            kept = old._parameters.get(name)
            if parameter is not None and kept is not None:
                self._swaps[id(parameter)] = (parameter, kept)
        if not lazy:
            self._hooks(vars(old), new, fits=True)
        return old

    def _graft(self, before: dict[str, Any], new: nn.Module, names: Names) -> None:
        for name, parameter in list(new._parameters.items()):
            old = before["_parameters"].get(name)
            stand_in = before.get(name)
            if parameter is None:
                continue
            if isinstance(old, nn.Parameter) and _fits(old, parameter):
                if old is not parameter:
                    new._parameters[name] = old
                    self._swaps[id(parameter)] = (parameter, old)
            elif isinstance(stand_in, torch.Tensor) and stand_in.shape == _shape(parameter):
                del new._parameters[name]  # Computed from other parameters before each forward.
                new.__dict__[name] = stand_in
            else:
                self._adapt(parameter, old)
        self._buffers(before, new, names)
        fits = all(name in before["_parameters"] or name in before for name in new._parameters)
        self._hooks(before, new, fits=fits)

    def _adapt(self, tensor: torch.Tensor, like: torch.Tensor | None) -> None:
        """Gives a parameter that was made anew the device, dtype and `requires_grad` of its namesake."""
        device = self._device if like is None else like.device
        dtype = self._dtype if like is None else like.dtype
        if like is not None and tensor.requires_grad != like.requires_grad:
            tensor.requires_grad_(like.requires_grad)
        if isinstance(tensor, nn.UninitializedParameter) or device is None or dtype is None:
            return
        if not tensor.is_floating_point() or (like is None and tensor.dtype != torch.get_default_dtype()):
            dtype = tensor.dtype
        if tensor.device != device or tensor.dtype != dtype:
            tensor.data = tensor.data.to(device=device, dtype=dtype)

    def _buffers(self, before: dict[str, Any], new: nn.Module, names: Names) -> None:
        for name, buffer in new._buffers.items():
            old = before["_buffers"].get(name)
            if buffer is None or old is buffer:
                continue
            if old is None or isinstance(old, nn.UninitializedBuffer):
                self._adapt(buffer, None)
                continue
            if isinstance(buffer, nn.UninitializedBuffer):
                new._buffers[name] = old
                continue
            dtype = old.dtype if old.is_floating_point() and buffer.is_floating_point() else buffer.dtype
            value = buffer.to(device=old.device, dtype=dtype)
            new._buffers[name] = old if self._buffer_stays(old, value, buffer, name, new, names) else value
            if new._buffers[name] is not buffer:
                self._swaps[id(buffer)] = (buffer, new._buffers[name])

    def _buffer_stays(self, old: Any, value: Any, buffer: Any, name: str, new: nn.Module, names: Names) -> bool:
        if old.shape != value.shape:
            return False
        if old.is_meta or (old.dtype == value.dtype and torch.equal(old, value)):
            return True
        if name in new._non_persistent_buffers_set:
            return False
        if name in _STATISTICS:
            return True
        known = self._scratch.at(names)
        first = None if known is None else known["_buffers"].get(name)
        return first is None or (first.shape == buffer.shape and torch.equal(first, buffer))

    def _extras(self, before: dict[str, Any], new: nn.Module, names: Names) -> None:
        """Carries over what users registered and `__init__` does not."""
        for table in _TABLES:
            mine: dict[str, Any] = vars(new)[table]
            extra = [name for name in before[table] if name not in mine and name not in vars(new)]
            if table == "_parameters" and extra and not isinstance(new, _CONTAINERS):
                extra = [name for name in extra if _still_used(name, new, before)]
            if not extra or isinstance(new, _CONTAINERS):
                continue
            known = self._scratch.at(names)
            for name in extra:
                if known is None or name in known[table] or name == "parametrizations":
                    continue
                mine[name] = before[table][name]
                if table == "_buffers" and name in before["_non_persistent_buffers_set"]:
                    new._non_persistent_buffers_set.add(name)
                self._findings.carried.append((new, name))

    def _hooks(self, before: dict[str, Any], new: nn.Module, *, fits: bool) -> None:
        """Keeps the old tables (handles point at them): the first hooks are renewed by `__init__`, others stay."""
        attributes = vars(new)
        for name, table in list(attributes.items()):
            old = before.get(name)
            if not _is_hook_table(name) or not isinstance(table, dict) or not isinstance(old, dict) or old is table:
                continue
            flags = name.endswith(("_with_kwargs", "_always_called"))
            keys = list(old)
            for index, (key, hook) in enumerate(list(table.items())):
                if flags:
                    old.setdefault(key, hook)
                elif index < len(keys):
                    old[keys[index]] = hook
                else:
                    old[key] = hook
            if not fits:
                for key, hook in list(old.items()):
                    if type(hook).__module__ in _REPARAMETRISERS:
                        del old[key]
                        self._findings.warnings.append(f"{type(hook).__name__} of a layer does not fit and is lost")
            attributes[name] = old
        if before.get("_is_full_backward_hook") is not None:
            new._is_full_backward_hook = before["_is_full_backward_hook"]

    def _fresh(self, layer: nn.Module) -> None:
        """Gives a layer without a namesake the mode, device and dtype of its root."""
        for module in layer.modules():
            if id(module) in self._given:
                continue
            module.training = self._training
            for tensor in (*module._parameters.values(), *module._buffers.values()):
                if tensor is not None:
                    self._adapt(tensor, None)

    def _restore_parametrizations(self, before: dict[str, Any], obj: nn.Module, parametrized: type) -> None:
        kept = before["_modules"]["parametrizations"]
        if all(name in obj._parameters and _original_shape(kept[name]) == _shape_of(obj, name) for name in kept):
            for name in kept:
                del obj._parameters[name]
            obj._modules["parametrizations"] = kept
            _SWAP.__set__(obj, parametrized)
        else:
            self._findings.warnings.append("the parametrizations of a module do not fit and are lost")

    def _same(self, old: Any, new: Any, depth: int) -> bool:
        """Returns whether an attribute of a new layer says the same as the old one's."""
        if old is new or (id(new) in self._swaps and self._swaps[id(new)][1] is old):
            return True
        if type(old) is not type(new) or depth == 0:
            return False
        if isinstance(new, nn.Parameter):
            return _shape(old) == _shape(new)
        if isinstance(new, (list, tuple)):
            return len(old) == len(new) and all(self._same(a, b, depth - 1) for a, b in zip(old, new))
        if isinstance(new, dict):
            return old.keys() == new.keys() and all(self._same(old[k], new[k], depth - 1) for k in new)
        if isinstance(new, types.FunctionType):
            cells = [tuple(_content(c) for c in f.__closure__ or ()) for f in (old, new)]
            return old.__code__ is new.__code__ and self._same((old.__defaults__, cells[0]),
                                                               (new.__defaults__, cells[1]), depth)  # fmt: skip
        if isinstance(new, types.MethodType):
            return old.__func__ is new.__func__ and type(old.__self__) is type(new.__self__)
        if isinstance(new, (weakref.ref, nn.Module)):
            return isinstance(new, weakref.ref)
        if equal(old, new):
            return True
        kind: Any = type(new)
        plain = kind.__eq__ is object.__eq__ and hasattr(new, "__dict__")
        return plain and self._same(vars(old), vars(new), depth - 1)

    def renew_references(self, root: nn.Module) -> None:
        """Lets lists, closures and bound methods that saw a discarded object see the kept one."""
        if not self._swaps:
            return
        for module in root.modules():
            if id(module) in self._given:
                continue
            for name, value in list(module.__dict__.items()):
                if not _is_bookkeeping(name):
                    renewed = swapped(value, self._swaps)
                    if renewed is not value:
                        module.__dict__[name] = renewed
        hidden = [old for old, _ in self._swaps.values() if sys.getrefcount(old) > _seen_by(old)]
        if hidden:
            _renew_hidden(hidden, self._swaps)


def _seen_by(old: Any) -> int:
    """Returns how many references a discarded object has when nobody outside knows it."""
    return 5 if isinstance(old, torch.Tensor) else 4


def _renew_hidden(hidden: list[Any], swaps: Swaps) -> None:
    for referrer in gc.get_referrers(*hidden):
        if type(referrer) is types.CellType:
            content = _content(referrer)
            if id(content) in swaps:
                referrer.cell_contents = swaps[id(content)][1]
        elif type(referrer) is list and referrer is not hidden:
            for index, item in enumerate(referrer):
                if id(item) in swaps:
                    referrer[index] = swaps[id(item)][1]


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # An empty cell.
        return None


def _first_float(root: dict[str, Any]) -> torch.Tensor | None:
    tables = [root.get("_parameters", {}), root.get("_buffers", {})]
    for layer in root.get("_modules", {}).values():
        if layer is not None:
            tables += [dict(layer.named_parameters()), dict(layer.named_buffers())]
    lazy = (nn.UninitializedParameter, nn.UninitializedBuffer)
    for table in tables:
        for tensor in table.values():
            if tensor is not None and not isinstance(tensor, lazy) and tensor.is_floating_point():
                return tensor  # type: ignore[no-any-return]
    return None


def _plain_type(module: nn.Module) -> type:
    """Returns the class of a module below the one that a parametrization put on top."""
    cls = type(module)
    if "parametrizations" in module._modules and cls.__name__.startswith("Parametrized"):
        return cls.__bases__[0]
    return cls


def _strip_parametrizations(obj: nn.Module) -> type | None:
    cls, plain = type(obj), _plain_type(obj) if "_modules" in obj.__dict__ else type(obj)
    if plain is cls:
        return None
    _SWAP.__set__(obj, plain)
    return cls


def _original_shape(parametrization: Any) -> tuple[int, ...] | None:
    names = ("original", "original1", "original0")
    tensor = next((getattr(parametrization, name) for name in names if hasattr(parametrization, name)), None)
    return None if tensor is None else tuple(tensor.shape)


def _shape(tensor: torch.Tensor) -> tuple[int, ...] | None:
    lazy = isinstance(tensor, (nn.UninitializedParameter, nn.UninitializedBuffer))
    return None if lazy else tuple(tensor.shape)


def _shape_of(module: nn.Module, name: str) -> tuple[int, ...] | None:
    """Returns the shape of a parameter, also of one that is computed from others; None when there is none."""
    for table in (module._parameters, module._buffers, module.__dict__):
        tensor = table.get(name)
        if isinstance(tensor, torch.Tensor):
            return _shape(tensor)
    parametrizations: Any = module._modules.get("parametrizations")
    if parametrizations is not None and name in parametrizations:
        return _original_shape(parametrizations[name])
    return None


def _fits(old: torch.Tensor, new: torch.Tensor) -> bool:
    return _shape(old) == _shape(new)


def _still_used(name: str, new: nn.Module, before: dict[str, Any]) -> bool:
    """Returns whether a parameter such as `weight_g` goes with a stand-in that was carried over."""
    stem = name.rpartition("_")[0]
    return not stem or stem not in new._parameters or stem in before["_parameters"]


def _is_hook_table(name: str) -> bool:
    return name.startswith("_") and "_hooks" in name


def _is_bookkeeping(name: str) -> bool:
    return (name in _TABLES or name in ("training", "_mu_", "_non_persistent_buffers_set", "_is_full_backward_hook",
                                        "_mu_cached_") or "_hook" in name)  # fmt: skip
