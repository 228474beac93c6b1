"""`mu.rebind`: changes of a symbolic tree in one transaction.

Everything is validated first; then every touched object and every symbolic object that holds it is built
again once, children first; an exception anywhere puts everything back.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any

from mutandis.errors import SettingError, SymbolicError
from mutandis.symbolic.abstract import is_abstract_type, make_abstract, make_concrete
from mutandis.symbolic.building import building_at, construct, note_building, resolve
from mutandis.symbolic.classes.copying import Unavailable
from mutandis.symbolic.paths import Key, Path, Step
from mutandis.symbolic.record import (
    LEAVES,
    LOCK,
    ONE_SHOT,
    get_edits,
    holders_of,
    is_abstract,
    is_symbolic,
    nested,
    private,
    real_class,
    remember,
    spec_for,
    values_of,
)
from mutandis.symbolic.transactions.journal import Journal, instance_dict
from mutandis.symbolic.transactions.plan import Plan, unchanged
from mutandis.symbolic.transactions.quick import rebind_leaf
from mutandis.symbolic.transactions.report import Findings, Reinitialised, Report
from mutandis.symbolic.transactions.rules import DELETE, KEEP, Delete, Guide, Insert, PathGuide, RuleGuide
from mutandis.symbolic.traverse import children, missing, walk
from mutandis.symbolic.undecided import Undecided

Changes = Mapping[Any, Any] | Callable[..., Any] | None


def rebind(x: Any, changes: Changes = None, /, *, report: bool = False, reset: bool = False, **kwargs: Any) -> Any:
    """Changes arguments, elements and layers anywhere in a symbolic tree, in one transaction.

    Args:
        x: The root: a symbolic object, an undecided value, or a list, tuple or dict.
        changes: `{path: value}`, or a rule `f(value)`, `f(key, value)` or `f(key, value, parent)` that is
            called on every node and returns what shall stand there. `mu.Insert(v)` inserts, `mu.DELETE` removes.
        report: Whether to return a `Report` instead; its `result` is the object.
        reset: Whether to build afresh, without keeping weights, modes and attributes.
        **kwargs: New values of arguments of `x`.

    Returns:
        `x`; a new object where `x` cannot be changed in place (frozen and slotted values, tuples, undecided
        values, or when the rule replaces the root).

    Raises:
        PathError: a path or argument does not exist; nothing was changed.
        SettingError: a change does not suit its place; nothing was changed.
    """
    with LOCK:
        only = kwargs if not changes else changes if type(changes) is dict and not kwargs else None
        if only is not None and len(only) == 1 and not (report or reset):
            ((path, value),) = only.items()
            if rebind_leaf(x, path, value) is x:
                return x
        plan = Plan()
        result = x
        for guide in _guides(x, changes, kwargs):
            result = _planned(result, guide, plan)
        if result is not x and not isinstance(x, (list, dict, tuple, Undecided)):
            return Report(result) if report else result
        transaction = _Transaction(x, plan, reset=reset)
        result = transaction.run(result)
        return transaction.report(result) if report else result


def _guides(x: Any, changes: Changes, kwargs: dict[str, Any]) -> list[Guide]:
    if not isinstance(x, (list, dict, tuple, Undecided)):
        spec_for(x)  # Says what is wrong with a root that is not symbolic.
    if isinstance(changes, Mapping) or changes is None:
        for name in kwargs:
            _need_argument(x, name)
        return [PathGuide.of({**(changes or {}), **kwargs})]
    if kwargs:
        raise SettingError("cannot rebind by a rule and by names at once", got=changes,
                           expected="a rule, or names and paths", fix="rebind twice")  # fmt: skip
    return [RuleGuide(changes)]


def _need_argument(x: Any, name: str) -> None:
    if is_symbolic(x):
        spec = spec_for(x)
        names: list[Step] = list(spec.names)
        known = spec.position(name) is not None or spec.var_keyword is not None
    else:
        names = [step for step, _ in children(x)]
        known = name in names or Key(name) in names
    if not known:
        raise missing(x, Path(), name, names)


def _planned(x: Any, guide: Guide, plan: Plan) -> Any:
    answer: Any = guide.ask("", x, None) if guide.everywhere else getattr(guide, "change", KEEP)
    if isinstance(answer, (Delete, Insert)):
        raise SettingError("cannot delete or insert the root", got=answer, expected="a value",
                           fix="return the value itself")  # fmt: skip
    if answer is not KEEP and not unchanged(x, answer):
        return answer
    return plan.visit(x, guide, Path())


class _Transaction:
    def __init__(self, root: Any, plan: Plan, *, reset: bool) -> None:
        self._root = root
        self._plan = plan
        self._reset = reset
        self._journal = Journal()
        self._findings = Findings()
        self._swaps = dict(plan.swaps)
        self._dirty: dict[int, Any] = {}
        self._ancestors: dict[int, Any] = {}

    def run(self, result: Any) -> Any:
        """Carries the plan out; `result` is what stands at the root by plan."""
        if not self._plan.log:
            return result
        self._find_dirty()
        order = self._order()
        try:
            for obj in order:
                self._rebuild(obj)
        except BaseException:
            self._journal.roll_back()
            raise
        self._journal.restore_random()
        result = exchanged(result, self._swaps)
        if type(self._root) in (list, dict) and type(result) is type(self._root) and result is not self._root:
            return _refilled(self._root, result)
        return result

    def _find_dirty(self) -> None:
        self._dirty.update(self._plan.touched)
        parents: dict[int, list[Any]] | None = None
        if self._swaps or any(spec_for(obj).fields is not None for obj in self._dirty.values()):
            parents = _parents(self._root)
        pending = [*self._dirty.values(), *(old for old, _ in self._swaps.values())]
        while pending:
            node = pending.pop()
            inside = id(node) in self._swaps  # Replaced by the plan: here only, not in trees beside this one.
            holders = holders_of(node) if is_symbolic(node) and not inside else []
            for holder in [*holders, *(parents or {}).get(id(node), ())]:
                if id(holder) not in self._dirty:
                    self._dirty[id(holder)] = holder
                    pending.append(holder)
                    if parents is None and spec_for(holder).fields is not None:
                        parents = _parents(self._root)

    def _order(self) -> list[Any]:
        """Returns the dirty objects, children before those that hold them."""
        order: list[Any] = []
        state: dict[int, bool] = {}

        def visit(node: Any) -> None:
            if state.get(id(node)):
                return
            if id(node) in state:
                raise SettingError("cannot put an object inside itself", at=self._path(node), got=node,
                                   expected="a tree without cycles", fix="give a clone: mu.clone(x)")  # fmt: skip
            state[id(node)] = False
            values = self._plan.values.get(id(node)) or values_of(node)
            edits = self._plan.edits.get(id(node))
            for child in _symbolic_below([*values, *(get_edits(node) if edits is None else edits).values()]):
                if id(child) in self._dirty:
                    visit(child)
            state[id(node)] = True
            order.append(node)

        for node in list(self._dirty.values()):
            visit(node)
        return order

    def _rebuild(self, obj: Any) -> None:
        old_values, old_edits = values_of(obj), get_edits(obj)
        planned = self._plan.values.get(id(obj))
        values = old_values if planned is None else tuple(_private(value) for value in planned)
        values = tuple(exchanged(value, self._swaps) for value in values)
        edits = {where: exchanged(item, self._swaps)
                 for where, item in self._plan.edits.get(id(obj), old_edits).items()}  # fmt: skip
        inside = list(nested((*values, *edits.values())))
        self._refuse_unavailable(obj, values)
        abstract = any(is_abstract(item) for item in inside)
        was_abstract = is_abstract_type(type(obj))
        spec = spec_for(obj)
        if spec.replaced and not abstract and not was_abstract and not _is_module(obj):
            with self._noting(obj):
                self._swaps[id(obj)] = (obj, construct(obj, [_plain(value) for value in values], edits))
            self._findings.rebuilt.append(obj)
            return
        self._journal.save(obj)
        if spec.replaced and not was_abstract:  # It becomes abstract: a new object, since others may hash the old.
            self._swaps[id(obj)] = (obj, construct(obj, list(values), edits))
            return
        remember(obj, values, edits)
        if abstract:
            make_abstract(obj)
            return
        make_concrete(obj)
        build = _Build(obj, values, old_values, edits, self._journal, self._findings, self._reset)
        with self._noting(obj):
            if _is_bound(obj):
                self._rerun(obj, build)
            elif not was_abstract and self._in_place(obj, old_values, values, edits == old_edits):
                self._findings.in_place.append(obj)
            else:
                self._findings.rebuilt.append(obj)
                changed = build.run()
                if changed:
                    from mutandis.symbolic.modules.optimizers import swap_parameters

                    swap_parameters(self._optimizers(), changed, self._findings)

    def _rerun(self, call: Any, build: _Build) -> None:
        """Renews the result that the holders of a symbolic call were given."""
        attributes = instance_dict(call) or {}
        if "_mu_cached_" not in attributes or not any(not is_abstract(holder) for holder in holders_of(call)):
            return
        old = attributes["_mu_cached_"][1]
        result = build.rerun(call, old)
        object.__setattr__(call, "_mu_cached_", (object.__getattribute__(call, "_mu_"), result))
        self._findings.rebuilt.append(call)

    def _in_place(self, obj: Any, old: tuple[Any, ...], new: tuple[Any, ...], same_edits: bool) -> bool:
        """Returns whether an object took its change without being built again."""
        names = spec_for(obj).names
        changed = {name: b for name, a, b in zip(names, old, new, strict=True) if a is not b and not unchanged(a, b)}
        if callable(getattr(type(obj), "on_rebind", None)):
            self._journal.save_modules(modules_in(new), tensors=False)
            return obj.on_rebind(self._delta(obj)) not in (False, NotImplemented)
        if "torch" not in sys.modules or not same_edits or self._reset:
            return False
        from mutandis.symbolic.modules import optimizers

        if optimizers.is_optimizer(obj):
            for group in obj.param_groups:
                self._journal.save(_Table(group))
            self._journal.save(_Table(obj.state))
            optimizers.rebind_optimizer(obj, initialiser(obj, new), set(changed), self._findings)
            return True
        return optimizers.is_scheduler(obj) and optimizers.rebind_scheduler(obj, changed)

    def _delta(self, obj: Any) -> dict[str, tuple[Any, Any]]:
        """Returns the changes at and below an object: path relative to it to (old, new)."""
        base = self._plan.paths.get(id(obj))
        prefix = Path()
        if base is None:
            base = Path()
            prefix = next((path for path, node, _ in walk(obj, layers=False) if node is self._root), Path())
        return {str(prefix + Path(path.steps[len(base):])): (old, exchanged(new, self._swaps))
                for path, old, new in self._plan.log if path.startswith(base)}  # fmt: skip

    def _refuse_unavailable(self, obj: Any, values: tuple[Any, ...]) -> None:
        for name, value in zip(spec_for(obj).names, values, strict=True):
            for item in nested([value]):
                if isinstance(item, Unavailable):
                    raise SymbolicError(
                        "cannot build an object again: an argument did not survive pickling",
                        at=self._path(obj) / name,
                        got=item,
                        expected="the argument itself",
                        fix=f"give it in the same rebind: rebind({name}=...)",
                    )

    def _optimizers(self) -> list[Any]:
        from mutandis.symbolic.modules.optimizers import is_optimizer

        found: dict[int, Any] = {}
        for root in [self._root, *self._dirty.values()]:
            for _, node, _ in walk(root, layers=False):
                if not is_abstract(node) and is_optimizer(node):
                    found[id(node)] = node
        for optimizer in found.values():
            self._journal.save(optimizer)
            for group in optimizer.param_groups:
                self._journal.save(_Table(group))
            self._journal.save(_Table(optimizer.state))
        return list(found.values())

    def _path(self, obj: Any) -> Path:
        known = self._plan.paths.get(id(obj))
        if known is not None:
            return known
        return next((path for path, node, _ in walk(self._root, layers=False) if node is obj), Path())

    def _noting(self, obj: Any) -> _Noting:
        return _Noting(obj, self._path)

    def report(self, result: Any) -> Report:
        """Returns the report of what was done."""
        found = self._findings

        def named(obj: Any, name: str) -> str:
            place = self._shown(obj)
            return f"{place}.{name}" if place else name

        anew = {named(obj, item.name): item for obj, item in found.reinitialised}
        return Report(
            result=result,
            rebuilt=tuple(map(self._shown, found.rebuilt)),
            in_place=tuple(map(self._shown, found.in_place)),
            reinitialised=tuple(Reinitialised(name, i.old_shape, i.new_shape) for name, i in anew.items()),
            kept=len(found.kept),
            carried=tuple(named(obj, name) for obj, name in found.carried),
            dormant=tuple(named(obj, name) for obj, name in found.dormant),
            warnings=tuple(found.warnings),
        )

    def _shown(self, obj: Any) -> str:
        path = self._path(obj)
        if obj is self._root or len(path):
            return str(path)
        return f"(holder {real_class(obj).__name__})" if id(obj) in self._dirty else ""


class _Build:
    """One run of `__init__` on an object that exists."""

    def __init__(self, obj: Any, values: tuple[Any, ...], old_values: tuple[Any, ...], edits: dict[str, Any],
                 journal: Journal, findings: Findings, reset: bool) -> None:  # fmt: skip
        self._obj, self._edits, self._reset = obj, edits, reset
        self._values, self._old_values = values, old_values
        self._journal, self._findings = journal, findings

    def run(self) -> list[tuple[Any, Any]]:
        """Builds the object again; returns (old, new) parameters that are not the same objects."""
        guests = modules_in([*self._values, *self._edits.values()])
        self._journal.save_modules(guests, tensors=not self._reset)
        for child in _symbolic_below(self._values):
            self._journal.save(child)
        init = initialiser(self._obj, self._values)
        if not _is_module(self._obj):
            self._plain(init)
            self._journal.renew_tensors()
            return []
        from mutandis.symbolic.modules import live

        attributes = instance_dict(self._obj) or {}
        built = "_modules" in attributes
        before = live.tensors_of(self._obj) if built else {}
        if built:
            self._journal.save_modules([self._obj], tensors=False)
        given = {id(module) for guest in guests for module in guest.modules()}
        live.reinit_module(self._obj, init, self._old_init, edits=self._edits, given=given,
                           findings=self._findings, reset=self._reset)  # fmt: skip
        self._journal.renew_tensors()
        return live.compare_tensors(self._obj, before, live.tensors_of(self._obj), self._findings) if built else []

    def rerun(self, call: Any, old: Any) -> Any:
        """Runs a symbolic call again and keeps what survives of its result."""
        guests = modules_in(self._values)
        self._journal.save_modules(guests, tensors=not self._reset)
        result = call()
        if _is_module(old) and not self._reset:
            from mutandis.symbolic.modules import live

            self._journal.save_modules([old], tensors=False)
            given = {id(module) for guest in guests for module in guest.modules()}
            result = live.merge_result(old, result, self._findings, given)
        self._journal.renew_tensors()
        return result

    def _old_init(self, target: Any) -> None:
        """Builds what the old arguments would have built, on another object."""
        self._journal.save_modules(modules_in(self._old_values), tensors=True)
        initialiser(self._obj, self._old_values)(target)

    def _plain(self, init: Callable[[Any], None]) -> None:
        obj = self._obj
        attributes = instance_dict(obj)
        before = dict(attributes or {})
        kinds: tuple[Any, ...] = (list, dict, set)
        for kind in kinds:
            if isinstance(obj, kind):
                kind.clear(obj)
        if attributes is not None:
            attributes.clear()
            if "_mu_" in before:
                object.__setattr__(obj, "_mu_", before["_mu_"])
        init(obj)
        if self._reset or attributes is None:
            return
        cached = {name for base in type(obj).__mro__ for name, item in base.__dict__.items()
                  if isinstance(item, cached_property)}  # fmt: skip
        for name, value in before.items():
            if name not in attributes and name not in cached:
                attributes[name] = value
                self._findings.carried.append((obj, name))


class _Noting:
    """Adds the place to an error that building an object raises."""

    def __init__(self, obj: Any, path_of: Callable[[Any], Path]) -> None:
        self._obj, self._path_of = obj, path_of

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is not None:
            with building_at(self._path_of(self._obj)):
                function = getattr(self._obj, "function", None) if _is_bound(self._obj) else None
                note_building(error, function or real_class(self._obj))


class _Table:
    """Lets the journal save a dict that is no attribute."""

    def __init__(self, table: Any) -> None:
        self.table = table


def _refilled(root: Any, content: Any) -> Any:
    """Puts new elements into the list or dict that the user gave as the root."""
    if isinstance(root, list):
        root[:] = content
    else:
        root.clear()
        root.update(content)
    return root


def initialiser(obj: Any, values: tuple[Any, ...]) -> Callable[[Any], None]:
    """Returns a function that runs the original `__init__` of an object's class on some object."""
    spec = spec_for(obj)

    def init(target: Any) -> None:
        args, kwargs = spec.split(_plain(value) for value in resolve(values))
        spec.init(target, *args, **kwargs)

    return init


def _plain(value: Any) -> Any:
    """Returns an argument as `__init__` gets it: containers are copies, since classes change them."""
    return private(value)


def _private(value: Any) -> Any:
    return list(value) if isinstance(value, ONE_SHOT) else private(value)


def _is_bound(obj: Any) -> bool:
    return getattr(type(obj), "_mu_has_own_spec_", False) is True


def _is_module(obj: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and issubclass(real_class(obj) if is_symbolic(obj) else type(obj), torch.nn.Module)


def modules_in(values: Iterable[Any]) -> list[Any]:
    """Returns the live modules inside argument values, through containers and symbolic objects."""
    if "torch" not in sys.modules:
        return []
    found: dict[int, Any] = {}
    stack = list(values)
    seen: set[int] = set()
    while stack:
        value = stack.pop()
        if type(value) in LEAVES or id(value) in seen:
            continue
        seen.add(id(value))
        if getattr(type(value), "_mu_is_call_", False) and "_mu_cached_" in (instance_dict(value) or {}):
            stack.append(value.__dict__["_mu_cached_"][1])
        if not is_abstract(value) and _is_module(value):
            found[id(value)] = value
        else:
            stack.extend(child for _, child in children(value))
    return list(found.values())


def _symbolic_below(values: Iterable[Any]) -> list[Any]:
    """Returns the symbolic objects directly inside values, also those inside undecided ones."""
    found = []
    for child in nested(values):
        if isinstance(child, Undecided):
            found.extend(_symbolic_below([item for _, item in child._mu_items_()]))
        else:
            found.append(child)
    return found


def _parents(root: Any) -> dict[int, list[Any]]:
    """Returns, by id, the symbolic objects below a root that hold a node directly or through containers."""
    found: dict[int, list[Any]] = {}
    for _, node, _ in walk(root, layers=False):
        if not is_symbolic(node):
            continue
        stack = [child for _, child in children(node)] + list(get_edits(node).values())
        while stack:
            child = stack.pop()
            if type(child) in LEAVES:
                continue
            found.setdefault(id(child), []).append(node)
            if not is_symbolic(child):
                stack.extend(item for _, item in children(child))
    return found


def exchanged(value: Any, swaps: dict[int, tuple[Any, Any]]) -> Any:
    """Returns an argument value with replaced nodes exchanged, containers copied where needed."""
    kind = type(value)
    if not swaps or kind in LEAVES:
        return value
    known = swaps.get(id(value))
    if known is not None and known[0] is value:
        return known[1]
    made: Any
    if kind is list or kind is tuple:
        made = kind(exchanged(item, swaps) for item in value)
        return value if all(a is b for a, b in zip(made, value)) else made
    if isinstance(value, tuple) and hasattr(value, "_make"):
        return value._make(exchanged(item, swaps) for item in value)
    if kind is dict:
        made = {key: exchanged(item, swaps) for key, item in value.items()}
        return value if all(made[key] is item for key, item in value.items()) else made
    if isinstance(value, Undecided):
        items = value._mu_items_()
        made = {name: exchanged(item, swaps) for name, item in items}
        if all(made[name] is item for name, item in items):
            return value
        swaps[id(value)] = (value, value._mu_replace_(made))
        return swaps[id(value)][1]
    return value


__all__ = ["DELETE", "Insert", "Report", "rebind"]
