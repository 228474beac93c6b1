"""The first half of a rebind: which arguments, elements and layers change, found without touching anything."""

from __future__ import annotations

import inspect
from typing import Any

from mutandis.errors import PathError, SettingError
from mutandis.symbolic.abstract import is_abstract_type
from mutandis.symbolic.compare import equal
from mutandis.symbolic.modules.edits import canonical_path, find_layer
from mutandis.symbolic.paths import Key, Path, Step
from mutandis.symbolic.record import (
    LEAVES,
    UNSET,
    get_edits,
    is_symbolic,
    real_class,
    spec_for,
    values_of,
)
from mutandis.symbolic.transactions.journal import instance_dict
from mutandis.symbolic.transactions.rules import DELETE, KEEP, Delete, Guide, Insert, PathGuide
from mutandis.symbolic.traverse import children, follow_layers, inner, live_module, missing
from mutandis.symbolic.undecided import Undecided


class Plan:
    """The changes of one rebind, by object; made by `visit`.

    Attributes:
        values: Id of a symbolic object to its new argument values.
        edits: Id of a symbolic object to its new edits of layers.
        swaps: Id of a node that is replaced wherever it stands to (old, new).
        touched: Id to each symbolic object that changes or lies on the way to a change.
        log: Every change: (path, old, new).
        paths: Id of a visited symbolic object to where it was met first.
    """

    def __init__(self) -> None:
        self.values: dict[int, list[Any]] = {}
        self.edits: dict[int, dict[str, Any]] = {}
        self.swaps: dict[int, tuple[Any, Any]] = {}
        self.touched: dict[int, Any] = {}
        self.log: list[tuple[Path, Any, Any]] = []
        self.paths: dict[int, Path] = {}
        self._visited: dict[int, tuple[Any, Any]] = {}

    def visit(self, node: Any, guide: Guide, path: Path) -> Any:
        """Plans the changes below a node.

        Args:
            node: The node.
            guide: What to change.
            path: Where the node stands.

        Returns:
            What stands there afterwards: a symbolic object itself, containers and undecided values anew.

        Raises:
            PathError: the guide asks for something that does not exist.
            SettingError: a change does not suit the place.
        """
        kind = type(node)
        if kind in LEAVES:
            _refuse_rest(node, guide, path, ())
            return node
        if guide.everywhere and id(node) in self._visited:
            return self._visited[id(node)][1]
        if kind is list or kind is tuple or (isinstance(node, tuple) and hasattr(node, "_make")):
            made = self._sequence(node, guide, path)
        elif kind is dict:
            made = self._dict(node, guide, path)
        elif isinstance(node, Undecided):
            made = self._undecided(node, guide, path)
        elif is_symbolic(node):
            made = self._object(node, guide, path)
        else:
            _refuse_rest(node, guide, path, ())
            made = node
        if guide.everywhere:
            self._visited[id(node)] = (node, made)
        return made

    def child(self, step: Step, child: Any, parent: Any, guide: Guide, path: Path) -> Any:
        """Returns what stands at a step afterwards; may be `DELETE` or an `Insert`."""
        known = self.swaps.get(id(child)) if type(child) not in LEAVES else None
        if known is not None and guide.everywhere:
            return known[1]
        answer = guide.ask(step, child, parent)
        if answer is not KEEP:
            if isinstance(answer, (Delete, Insert)):
                self.log.append((path / step, child, answer))
                return answer
            if unchanged(child, answer):
                return child
            self.log.append((path / step, child, answer))
            if guide.everywhere and _is_node(child):
                self.swaps[id(child)] = (child, answer)  # A shared node is replaced wherever it stands.
            return answer
        below = guide.below(step)
        return child if below is None else self.visit(child, below, path / step)

    def _sequence(self, node: Any, guide: Guide, path: Path) -> Any:
        wanted = _indices(node, guide, path)
        made: list[Any] = []
        changed = False
        for index, item in enumerate(node):
            if not guide.everywhere and index not in wanted:
                made.append(item)
                continue
            new = self.child(wanted.get(index, index), item, node, guide, path)
            if isinstance(new, Insert):
                made.extend((new.value, item))
            elif new is not DELETE:
                made.append(new)
            changed = changed or new is not item
        end = guide.ask(wanted.get(len(node), len(node)), None, node) if not guide.everywhere else KEEP
        if isinstance(end, Insert):
            self.log.append((path / len(node), None, end))
            made.append(end.value)
            changed = True
        if not changed:
            return node
        return node._make(made) if hasattr(node, "_make") else type(node)(made)

    def _dict(self, node: Any, guide: Guide, path: Path) -> Any:
        known: list[Step] = [Key(key) for key in node]
        added = [step for step in guide.steps() if not _stands(step, known)]
        made: dict[Any, Any] = {}
        changed = False
        for key, item in node.items():
            new = self.child(Key(key), item, node, guide, path)
            if isinstance(new, Insert):
                raise SettingError(
                    "cannot insert under a key that exists",
                    at=path / Key(key),
                    got=new,
                    expected="a new key",
                    fix="give the value itself to replace the old one",
                )
            if new is not DELETE:
                made[key] = new
            changed = changed or new is not item
        for step in added:
            new = guide.ask(step, None, node)
            if not isinstance(new, Insert):
                raise missing(node, path, step, known)
            made[step.key if isinstance(step, Key) else step] = new.value
            self.log.append((path / step, None, new))
            changed = True
        return made if changed else node

    def _undecided(self, node: Undecided, guide: Guide, path: Path) -> Any:
        items = node._mu_items_()
        _refuse_rest(node, guide, path, tuple(name for name, _ in items))
        made = {name: self.child(name, item, node, guide, path) for name, item in items}
        for name, item in made.items():
            if isinstance(item, (Delete, Insert)):
                raise _no_list(path / name, item)
        if all(made[name] is item for name, item in items):
            return node
        new = node._mu_replace_(made)
        self.swaps[id(node)] = (node, new)  # One object is one decision: it changes wherever it stands.
        return new

    def _object(self, node: Any, guide: Guide, path: Path) -> Any:
        before = len(self.log)
        self.paths.setdefault(id(node), path)
        self._arguments(node, guide, path)
        if guide.everywhere:
            self._layers_by_rule(node, guide, path)
        else:
            self._layers_by_path(node, guide, path)
        if len(self.log) > before:
            self.touched[id(node)] = node
        return node

    def _arguments(self, node: Any, guide: Guide, path: Path) -> None:
        spec = spec_for(node)
        values = self.values.get(id(node)) or list(values_of(node))
        changed = False
        for index, name in enumerate(spec.names):
            old = values[index]
            if name == spec.var_keyword:
                new: Any = self._keywords(node, {} if old is UNSET else old, guide, path)
            else:
                if name == spec.var_positional and not guide.everywhere:
                    guide = _positions_below(guide, name)
                new = self.child(name, None if old is UNSET else old, node, guide, path) if (
                    old is not UNSET or not guide.everywhere) else old  # fmt: skip
                if old is UNSET and new is None and guide.ask(name, None, node) is KEEP:
                    new = UNSET
            if new is DELETE:
                new = _default(node, name, path / name)
            elif isinstance(new, Insert):
                raise _no_list(path / name, new)
            if new is not old:
                values[index] = new
                changed = True
        if changed:
            self.values[id(node)] = values

    def _keywords(self, node: Any, old: dict[str, Any], guide: Guide, path: Path) -> Any:
        made: dict[str, Any] = {}
        for key, item in old.items():
            new = self.child(key, item, node, guide, path)
            if isinstance(new, Insert):
                raise _no_list(path / key, new)
            if new is not DELETE:
                made[key] = new
        known = [step for step, _ in children(node)]
        for step in guide.steps():
            new = guide.ask(step, None, node)
            if not isinstance(step, str) or _stands(step, known) or self._is_layer(node, step):
                continue
            if new is KEEP:
                if step in spec_for(node).names and step != spec_for(node).var_keyword:
                    continue
                raise missing(node, path, step, known)
            made[step] = new.value if isinstance(new, Insert) else new
            self.log.append((path / step, None, made[step]))
        same = made.keys() == old.keys() and all(made[key] is old[key] for key in made)
        return old if same else made

    def _is_layer(self, node: Any, step: Step) -> bool:
        module = known_layers(node)
        return module is not None and find_layer(module, Path((step,))) is not None

    def _layers_by_rule(self, node: Any, guide: Guide, path: Path) -> None:
        old = get_edits(node)
        edits = dict(old)
        module = live_module(node)
        if module is None:
            layers = [(Path.parse(where), item, node) for where, item in old.items()]
        else:
            layers = [(where, layer, module if len(where) == 1 else follow_layers(module, where.parent))
                      for where, layer in inner(node)]  # fmt: skip
        done: list[Path] = []
        for where, layer, holder in layers:
            if any(where.startswith(other) for other in done):
                continue
            before = len(self.log)
            new = self._layer_by_rule(where, layer, holder, guide, path + where)
            if new is not layer or is_symbolic(layer):
                done.append(where)
            if len(self.log) > before:
                _put(edits, str(where), new)
        if edits.keys() != old.keys() or any(edits[key] is not old[key] for key in edits):
            self.edits[id(node)] = edits

    def _layer_by_rule(self, where: Path, layer: Any, holder: Any, guide: Guide, path: Path) -> Any:
        answer = guide.ask(where.steps[-1], layer, holder)
        if isinstance(answer, (Delete, Insert)):
            raise _no_list(path, answer)
        if answer is KEEP or unchanged(layer, answer):
            return self.visit(layer, guide, path) if _is_node(layer) else layer
        self.log.append((path, layer, answer))
        return answer

    def _layers_by_path(self, node: Any, guide: Guide, path: Path) -> None:
        known = [step for step, _ in children(node)] + list(spec_for(node).names)
        counted = spec_for(node).var_positional is not None
        rest = [step for step in guide.steps() if not _stands(step, known) and not _is_keyword(node, step)
                and not (counted and isinstance(step, int))]  # fmt: skip
        if not rest or not isinstance(guide, PathGuide):
            return
        edits = dict(self.edits.get(id(node)) or get_edits(node))
        for step in rest:
            below = guide.take((step,))
            for tail, change in list(below.ends()) if below is not None else []:
                self._layer_at(node, edits, Path((step, *tail)), change, path)
        self.edits[id(node)] = edits

    def _layer_at(self, node: Any, edits: dict[str, Any], where: Path, change: Any, path: Path) -> None:
        for known, item in edits.items():
            prefix = Path.parse(known)
            if len(prefix) < len(where) and where.startswith(prefix) and (
                    is_symbolic(item) or isinstance(item, Undecided)):  # fmt: skip
                rest = where.steps[len(prefix) :]
                edits[known] = self.visit(item, PathGuide.of({Path(rest): change}), path + prefix)
                return
        if change is DELETE and str(where) in edits:
            self.log.append((path + where, edits.pop(str(where)), DELETE))
            return
        if isinstance(change, (Delete, Insert)):
            raise _no_list(path + where, change)
        module = known_layers(node)
        if module is None and str(where) not in edits:
            raise _unknown_layers(node, path, where)
        self._layer_in(node, module, edits, where, change, path)

    def _layer_in(self, node: Any, module: Any, edits: dict[str, Any], where: Path, change: Any, path: Path) -> None:
        layer = module
        held = {id(child): step for step, child in children(node) if is_symbolic(child)}
        for count, step in enumerate(where.steps if module is not None else (), 1):
            parent, layer = layer, find_layer(layer, Path((step,)))
            if layer is None:
                if str(where) in edits:
                    break
                options: list[Step] = list(spec_for(node).names) if count == 1 else []
                raise missing(parent, path + Path(where.steps[: count - 1]), step, options, parent)
            if id(layer) in held:  # A module that is an argument is reached through the argument.
                target = PathGuide.of({Path((held[id(layer)], *where.steps[count:])): change})
                self._arguments(node, target, path)
                return
            if count < len(where) and is_symbolic(layer) and find_layer(layer, Path(where.steps[count:])) is None:
                # An argument of a layer built inside: the layer changes in place and becomes an edit.
                place, before = canonical_path(module, Path(where.steps[:count])), len(self.log)
                self.visit(layer, PathGuide.of({Path(where.steps[count:]): change}), path + place)
                if len(self.log) > before:
                    edits[str(place)] = layer
                return
        place = where if module is None or layer is None else canonical_path(module, where)
        current = edits.get(str(place), layer)
        if not unchanged(current, change):
            self.log.append((path + place, current, change))
            _put(edits, str(place), change)


def known_layers(node: Any) -> Any:
    """Returns the module whose layers can be named below a symbolic node, built or once built, or None."""
    if not is_abstract_type(type(node)):
        return live_module(node, explicit=True)
    attributes = instance_dict(node) or {}
    if "_mu_cached_" in attributes:
        return attributes["_mu_cached_"][1]
    return _Leftover(attributes) if "_modules" in attributes else None


class _Leftover:
    """The layers of an object that was built once and has since become abstract."""

    def __init__(self, attributes: dict[str, Any]) -> None:
        self._modules = attributes["_modules"]


def unchanged(old: Any, new: Any) -> bool:
    """Returns whether putting `new` in the place of `old` changes nothing.

    Stricter than equality where identity is what counts: parameters, undecided values and live modules with
    other weights are changes.
    """
    if old is new:
        return True
    kind = type(old)
    if kind in LEAVES or type(new) in LEAVES:
        return equal(old, new)
    if kind in (list, tuple) and kind is type(new):
        return len(old) == len(new) and all(map(unchanged, old, new))
    if kind is dict and type(new) is dict:
        return list(old) == list(new) and all(unchanged(item, new[key]) for key, item in old.items())
    if isinstance(old, Undecided) or isinstance(new, Undecided) or (
            is_symbolic(old) and real_class(old) is not real_class(new)):  # fmt: skip
        return False
    if is_symbolic(old) and is_symbolic(new):
        if getattr(kind, "_mu_has_own_spec_", False) and old.function is not new.function:
            return False
        same = unchanged(values_of(old), values_of(new)) and unchanged(get_edits(old), get_edits(new))
        return same and (live_module(old) is None or is_abstract_type(kind)
                         or getattr(kind, "_mu_is_call_", False) or _same_tensors(old, new))  # fmt: skip
    if is_symbolic(old) or hasattr(old, "_modules") or getattr(old, "requires_grad", False):
        return False
    return equal(old, new)


def _same_tensors(old: Any, new: Any) -> bool:
    if is_abstract_type(type(new)):
        return False
    first, second = old.state_dict(), new.state_dict()
    return first.keys() == second.keys() and all(equal(first[key], second[key]) for key in first)


def _is_node(value: Any) -> bool:
    return is_symbolic(value) or isinstance(value, Undecided)


def _stands(step: Step, known: list[Any]) -> bool:
    return any(
        step == name or (isinstance(name, Key) and name.key == step) or (isinstance(step, Key) and step.key == name)
        for name in known
    )


def _is_keyword(node: Any, step: Step) -> bool:
    """Returns whether a step can only be a further entry of `**kwargs`."""
    if spec_for(node).var_keyword is None or not isinstance(step, str):
        return False
    module = known_layers(node)
    return module is None or find_layer(module, Path((step,))) is None


def _positions_below(guide: Guide, name: str) -> Guide:
    """Lets `[0]` directly below an object mean the first of its `*args`."""
    numbers = [step for step in guide.steps() if isinstance(step, int)]
    if not numbers or not isinstance(guide, PathGuide):
        return guide
    return PathGuide.of({Path((name, *path)) if isinstance(path.steps[0], int) else path: change
                         for path, change in guide.ends()})  # fmt: skip


def _indices(node: Any, guide: Guide, path: Path) -> dict[int, Step]:
    """Returns which written index stands for which element (they differ for negative ones)."""
    found: dict[int, Step] = {}
    for step in guide.steps():
        name = step.key if isinstance(step, Key) else step
        if isinstance(name, str) and hasattr(node, "_fields") and name in node._fields:
            found[node._fields.index(name)] = step
            continue
        index = name + len(node) if isinstance(name, int) and name < 0 else name
        insert = isinstance(guide.ask(step, None, node), Insert)
        if not isinstance(index, int) or not 0 <= index < len(node) + insert:
            raise missing(node, path, step, list(range(len(node))))
        found[index] = step
    return found


def _refuse_rest(node: Any, guide: Guide, path: Path, known: tuple[Step, ...]) -> None:
    for step in guide.steps():
        if not _stands(step, list(known)):
            raise missing(node, path, step, list(known), node if hasattr(node, "_modules") else None)


def _put(edits: dict[str, Any], where: str, value: Any) -> None:
    """Records an edit; edits below the same place go with the layer they were made in."""
    path = Path.parse(where)
    for known in list(edits):
        if known != where and Path.parse(known).startswith(path):
            del edits[known]
    edits[where] = value


def _default(node: Any, name: str, path: Path) -> Any:
    spec = spec_for(node)
    parameter = spec.signature.parameters[name]
    if getattr(type(node), "_mu_is_partial_", False):
        return UNSET
    if name == spec.var_positional:
        return ()
    if parameter.default is inspect.Parameter.empty:
        raise SettingError(
            "cannot delete an argument that has no default",
            at=path,
            expected="an argument with a default value",
            fix="give a value, or mu.REQUIRED to leave it open",
        )
    return parameter.default


def _no_list(path: Path, change: Any) -> SettingError:
    what = "delete" if isinstance(change, Delete) else "insert"
    return SettingError(
        f"cannot {what} here",
        at=path,
        got=change,
        expected="an element of a list or dict" + (", or an argument with a default" if what == "delete" else ""),
        fix="give a value; a layer inside a module is taken out by putting mu.nn.Identity() in its place",
    )


def _unknown_layers(node: Any, path: Path, where: Path) -> PathError:
    has_layers = hasattr(real_class(node), "forward") or getattr(type(node), "_mu_is_call_", False)
    if not is_abstract_type(type(node)) or not has_layers:
        return missing(node, path, where.steps[0], [step for step, _ in children(node)])
    return PathError(
        "cannot find a symbolic path",
        at=path + where,
        got=str(where),
        expected=f"an argument of {real_class(node).__name__}, whose layers are unknown while it is undecided: "
        + (", ".join(spec_for(node).names) or "nothing"),
        fix="edit its layers before its arguments are given undecided values",
    )
