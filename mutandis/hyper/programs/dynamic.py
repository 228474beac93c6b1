"""Define by run: the space of a function that decides while it runs.

`trace` runs the function with every candidate of every decision it finds, one at a time, and sees which
decisions come and go. A decision has the user's name, or is known by the line that makes it, counted from the
head of its function, and by how often that line ran before: `oneof_3`, `oneof_3[1]`, `helper.oneof_1`.
A decision that depends on more than one other is active whenever the nearest of them allows it; what a run
does not ask for is simply not used.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from mutandis.errors import SpaceError, UndecidedError
from mutandis.hyper.dna import DNA
from mutandis.hyper.points import CHOICE, INT, Point
from mutandis.hyper.programs.discover import point_fields
from mutandis.hyper.programs.encode import program_of_text
from mutandis.hyper.scope import DECIDER
from mutandis.hyper.space import SearchSpace
from mutandis.hyper.values import Candidates, Evolve, HyperValue, ManyOf
from mutandis.symbolic.record import is_abstract, nested

_WIDEST_INT = 64
_VERIFIED = 64

Decisions = dict[str, Any]


class _Run:
    """One run of the function: hands out values and notes which decisions were asked for.

    Args:
        code: The code of the traced function, whose decisions need no prefix.
        choose: Returns the raw value for a key and its hyper value.
    """

    def __init__(self, code: Any, choose: Callable[[str, HyperValue], Any]) -> None:
        self._code = code
        self._choose = choose
        self._counts: dict[str, int] = {}
        self.made: Decisions = {}

    def decide(self, value: Any, frame: Any) -> Any:
        """Returns the decided value of a hyper value that was made in `frame`."""
        key = value.name if value.name is not None else self._place(value, frame)
        if any(is_abstract(item) for item in nested([item for _, item in value._mu_items_()])):
            raise UndecidedError(
                "cannot decide while running",
                at=key,
                got=value,
                expected="candidates that are decided",
                fix="make hyper values inside the traced function, where they are decided at once",
            )
        self.made[key] = self._choose(key, value)
        return decided_value(value, self.made[key])

    def _place(self, value: HyperValue, frame: Any) -> str:
        line = frame.f_lineno
        while frame.f_code.co_name in ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>") and frame.f_back:
            frame = frame.f_back
        code = frame.f_code
        owner = code.co_qualname.rpartition("<locals>.")[2].replace("<", "").replace(">", "")
        prefix = "" if code is self._code else f"{owner}."
        key = f"{prefix}{value._word}_{line - code.co_firstlineno}"
        count = self._counts.get(key, 0)
        self._counts[key] = count + 1
        return f"{key}[{count}]" if count else key


def decided_value(value: HyperValue, raw: Any) -> Any:
    """Returns what a raw value means for a hyper value; candidates as they are, functions are not called."""
    if isinstance(value, ManyOf):
        return [value.candidates[i] for i in raw]
    if isinstance(value, Candidates):
        return value.candidates[raw]
    return program_of_text(raw) if isinstance(value, Evolve) else raw


class _Explorer:
    """Finds the decisions of a function by running it.

    Args:
        call: Runs the function.
        code: Its code object.
        max_runs: How often it may run.
    """

    def __init__(self, call: Callable[[], Any], code: Any, max_runs: int) -> None:
        self._call = call
        self._code = code
        self._max_runs = max_runs
        self._fields: dict[str, dict[str, Any]] = {}
        self._values: dict[str, HyperValue] = {}
        self.order: list[str] = []
        self.runs: list[Decisions] = []

    def explore(self, start: Iterable[Decisions]) -> None:
        """Runs the function with given decisions, and then until no single change shows anything new."""
        pending = deque(start)
        while pending:
            fixed = pending.popleft()
            before = set(self.order)
            made = self._run(fixed)
            for key in made:
                if key in before:
                    continue
                context = {k: made[k] for k in list(made)[: list(made).index(key)]}
                pending.extend({**context, key: value} for value in self._others(key, made[key]))

    def _others(self, key: str, value: Any) -> list[Any]:
        point = self._point(key, 0, ())
        if point.kind == CHOICE or (point.kind == INT and point.num_steps <= _WIDEST_INT):
            return [other for other in point.values() if other != value]
        return []

    def _run(self, fixed: Decisions) -> Decisions:
        if len(self.runs) >= self._max_runs:
            raise SpaceError(
                "cannot find all decisions of a function",
                got=len(self.runs),
                expected=f"at most {self._max_runs} runs",
                fix="raise max_runs=, give fewer candidates, or write the space as a symbolic program",
            )
        run = _Run(self._code, lambda key, value: self._choose(key, value, fixed))
        token = DECIDER.set(run)
        try:
            self._call()
        finally:
            DECIDER.reset(token)
        self._note(list(run.made))
        self.runs.append(run.made)
        return run.made

    def _note(self, keys: list[str]) -> None:
        """Puts new decisions behind the one that came before them in the run that showed them."""
        for place, key in enumerate(keys):
            if key not in self.order:
                self.order.insert(self.order.index(keys[place - 1]) + 1 if place else 0, key)

    def _choose(self, key: str, value: HyperValue, fixed: Decisions) -> Any:
        fields = point_fields(value)
        known = self._fields.setdefault(key, fields)
        self._values.setdefault(key, value)
        refuse_other(key, value, known, fields)
        return fixed[key] if key in fixed else self._point(key, 0, ()).first()

    def _point(self, key: str, index: int, conditions: tuple[tuple[int, int], ...]) -> Point:
        value = self._values[key]
        return Point(index=index, path=key, paths=(key,), name=value.name, when=value.when, hints=value.hints,
                     conditions=conditions, **self._fields[key])  # fmt: skip

    def points(self) -> list[Point]:
        """Returns the points, with the conditions that the runs show."""
        return [self._point(key, index, self._conditions(index, key)) for index, key in enumerate(self.order)]

    def _conditions(self, index: int, key: str) -> tuple[tuple[int, int], ...]:
        shown = [run for run in self.runs if key in run]
        absent = [run for run in self.runs if key not in run]
        best: tuple[int, int] | None = None
        if not absent:
            return ()
        for above in range(index - 1, -1, -1):
            parent = self.order[above]
            if self._fields[parent]["kind"] != CHOICE or not all(parent in run for run in shown):
                continue
            if any(list(run).index(parent) > list(run).index(key) for run in shown):
                continue
            used = {run[parent] for run in shown}
            wrong = sum(run.get(parent) in used for run in absent)
            narrows = len(used) < self._fields[parent]["num_candidates"] or any(parent not in run for run in absent)
            if narrows and (best is None or wrong < best[0]):
                best = (wrong, above)
        if best is None:
            return ()
        parent = self.order[best[1]]
        return tuple((best[1], c) for c in sorted({run[parent] for run in shown}))


def refuse_other(key: str, value: HyperValue, known: Mapping[str, Any], fields: Mapping[str, Any]) -> None:
    """Raises if a key means another decision than before."""
    for name, item in known.items():
        if name != "rewriter" and fields.get(name) != item:
            raise SpaceError(
                "cannot use one name for two decisions",
                at=key,
                got=value,
                expected=f"the same {name} as before: {item!r}",
                fix="give the decisions different names: oneof(..., name='width')",
            )


class TracedTemplate:
    """Builds the children of a traced function: callables that run it under a DNA.

    Attributes:
        program: The traced program.
        points: Its points.
    """

    def __init__(self, program: TracedProgram, points: Sequence[Point]) -> None:
        self.program = program
        self.points = tuple(points)

    def build(self, values: Sequence[Any]) -> TracedChild:
        """Returns the child of raw values."""
        return TracedChild(self.program, tuple(values))

    def encode(self, child: Any, is_active: Callable[[int, Sequence[Any]], bool]) -> list[Any]:
        """Returns the raw values of a child of this program."""
        if isinstance(child, TracedChild) and len(child.values) == len(self.points):
            return list(child.values)
        raise SpaceError(
            "cannot encode a result of a traced function",
            got=child,
            expected="a child that materialize returned",
            fix="keep the DNA; a function cannot be read backwards",
        )

    def split(self, inner: frozenset[int]) -> TracedTemplate:
        """Refuses: a running function decides everything."""
        raise SpaceError(
            "cannot split the space of a traced function",
            got=self.program,
            expected="a symbolic program",
            fix="write the outer decisions as a symbolic program, and trace the function inside the loop",
        )


class TracedChild:
    """A traced function with its decisions: call it to run it.

    Attributes:
        program: The traced program.
        values: Raw values, aligned with the points of its space.
    """

    def __init__(self, program: TracedProgram, values: tuple[Any, ...]) -> None:
        self.program = program
        self.values = values

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the function; arguments given here come after those given to `trace`."""
        return self.program.run_values(self.values, args, kwargs)

    def __repr__(self) -> str:
        return f"<{self.program!r} with {len(self.values)} decisions>"


class TracedProgram:
    """A function whose decisions are known; made by `trace`.

    Attributes:
        function: The function.
        space: Its search space; children are callables that run the function.
    """

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...] = (),
                 kwargs: Mapping[str, Any] | None = None, *, max_runs: int = 1000) -> None:  # fmt: skip
        if not callable(function):
            raise SpaceError("cannot trace a value", got=function, expected="a function",
                             fix="pass the function itself: mu.trace(f, x)")  # fmt: skip
        self.function = function
        self._args = args
        self._kwargs = dict(kwargs or {})
        explorer = _Explorer(lambda: function(*args, **self._kwargs), self._code, max_runs)
        explorer.explore([{}])
        self.space = self._space_of(explorer)
        total = self.space.size
        if self.space.is_finite and len(explorer.runs) < total <= min(_VERIFIED, max_runs - len(explorer.runs)):
            explorer.explore([{p.key: dna.values[p.index] for p in dna.active} for dna in self.space.enumerate()])
            self.space = self._space_of(explorer)

    @property
    def _code(self) -> Any:
        return getattr(getattr(self.function, "__func__", self.function), "__code__", None)

    def _space_of(self, explorer: _Explorer) -> SearchSpace:
        points = explorer.points()
        return SearchSpace(points, TracedTemplate(self, points))

    def __repr__(self) -> str:
        return f"trace({getattr(self.function, '__qualname__', repr(self.function))})"

    def _mu_space_(self) -> SearchSpace:
        return self.space

    def run(self, dna: DNA) -> Any:
        """Runs the function with the decisions of a DNA and returns what it returns.

        Raises:
            DecisionError: the DNA is of another space.
            SpaceError: the function asks for a decision that tracing did not find.
        """
        return self.run_values(self.space.own(dna).values, (), {})

    def run_values(self, values: Sequence[Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Runs the function with raw values, aligned with the points of the space."""
        run = _Run(self._code, lambda key, value: self._decision(key, value, values))
        token = DECIDER.set(run)
        try:
            return self.function(*self._args, *args, **{**self._kwargs, **kwargs})
        finally:
            DECIDER.reset(token)

    def _decision(self, key: str, value: HyperValue, values: Sequence[Any]) -> Any:
        point = next((p for p in self.space.points if p.key == key), None)
        if point is None or values[point.index] is None:
            known = ", ".join(p.key for p in self.space.points)
            raise SpaceError(
                "cannot decide: the function asks for a decision that tracing did not find",
                at=key,
                got=value,
                expected=f"one of {known or 'none'}, under the conditions that tracing saw",
                fix="let control flow depend on decisions only, and on oneof, boolv or small intv; or make the "
                "decision before the branch",
            )
        fields = point_fields(value)
        shown = {name: getattr(point, name) for name in fields if name != "rewriter"}
        refuse_other(key, value, shown, fields)
        return values[point.index]


def trace(function: Callable[..., Any], /, *args: Any, max_runs: int = 1000, **kwargs: Any) -> TracedProgram:
    """Finds the decisions that a function makes while it runs: inside it `oneof(...)` returns a decided value.

    Args:
        function: The function; it is run once per candidate of each decision, so it should build, not train.
        *args: Its arguments.
        max_runs: How often it may be run.
        **kwargs: Its keyword arguments.

    Returns:
        The program, for `mu.space` and `mu.sample`; its children run the function when they are called.

    Raises:
        SpaceError: two decisions share a name, or more runs would be needed.
    """
    return TracedProgram(function, args, kwargs, max_runs=max_runs)


__all__ = ["TracedChild", "TracedProgram", "TracedTemplate", "trace"]
