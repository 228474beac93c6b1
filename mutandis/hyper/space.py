"""Search spaces: the decisions of a program, how many there are, and how a DNA becomes a child."""

from __future__ import annotations

import hashlib
import json
import math
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from random import Random
from typing import Any, Protocol

from mutandis.errors import DecisionError, PathError, SpaceError
from mutandis.hyper.counting import Counter
from mutandis.hyper.dna import DNA, unknown_decision
from mutandis.hyper.points import CUSTOM, MANY, Point
from mutandis.hyper.programs.compile import compile_program
from mutandis.hyper.rng import as_rng
from mutandis.symbolic.paths import Path

_RETRIES = 1000
_COUNTABLE = 1_000_000
_WIDEST = 72


class Template(Protocol):
    """What builds children: a compiled program, or a traced function."""

    program: Any
    points: tuple[Point, ...]

    def build(self, values: Sequence[Any]) -> Any:
        """Returns the child of raw values."""
        ...

    def encode(self, child: Any, is_active: Callable[[int, Sequence[Any]], bool]) -> list[Any]:
        """Returns the raw values of a child."""
        ...

    def split(self, inner: frozenset[int]) -> Template:
        """Returns the template that leaves some points undecided."""
        ...


class SearchSpace:
    """The decisions of a program.

    `space(program)` makes one that can build children; `bare()` leaves the program out, which is what
    algorithms see.

    Args:
        points: The decisions; `index` must be the place in the sequence, parents must come before children.
        template: The compiled program, or None.
        constraints: Predicates that DNAs must pass; see `require`.

    Attributes:
        points: The decisions.
    """

    def __init__(
        self,
        points: Sequence[Point],
        template: Template | None = None,
        constraints: tuple[Callable[[Any], bool], ...] = (),
    ) -> None:
        self.points: tuple[Point, ...] = tuple(points)
        self._template = template
        self._constraints = constraints
        self._checks = [tuple((i, c, self.points[i].kind == MANY) for i, c in p.conditions) for p in self.points]
        self._names: dict[str, Point] = {}
        for point in reversed(self.points):
            self._names.update(dict.fromkeys((*point.paths, point.path), point))
        for point in self.points:
            if point.name is not None:
                self._names[point.name] = point
        self._bare: SearchSpace | None = self if template is None and not constraints else None
        self._counter: Counter | None = None
        self._fingerprint: str | None = None
        self._size: int | float | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return (SearchSpace, (self.points, self._template, self._constraints))

    def __repr__(self) -> str:
        return f"SearchSpace({len(self.points)} decisions, version {self.fingerprint[:8]})"

    def __len__(self) -> int:
        """Returns the number of decisions."""
        return len(self.points)

    def __bool__(self) -> bool:
        return True

    @property
    def program(self) -> Any:
        """The program the space was made from, or None for a bare space."""
        return None if self._template is None else self._template.program

    @property
    def is_conditional(self) -> bool:
        """Whether some decision is not always active."""
        return any(point.conditions for point in self.points)

    @property
    def is_finite(self) -> bool:
        """Whether the DNAs can be listed."""
        return all(point.is_finite for point in self.points)

    @property
    def size(self) -> int | float:
        """The exact number of DNAs; inf for a continuous space.

        A space with `require` has no closed form: up to a million DNAs are tried one by one.

        Raises:
            SpaceError: the space has a predicate and is too large to count.
        """
        if self._size is None:
            total = self._counts().total()
            if self._constraints and total != math.inf:
                if total > _COUNTABLE:
                    raise SpaceError(
                        "cannot count a space with a predicate",
                        at="size",
                        got=total,
                        expected=f"at most {_COUNTABLE} DNAs before the predicate",
                        fix="ask space.bare().size, which leaves the predicate out",
                    )
                total = sum(1 for _ in self.enumerate())
            self._size = total
        return self._size

    def _counts(self) -> Counter:
        if self._counter is None:
            self._counter = Counter(self.points)
        return self._counter

    @property
    def fingerprint(self) -> str:
        """The version of the space: equal for equal points in any process; hints do not count."""
        if self._fingerprint is None:
            text = json.dumps([p.as_json() for p in self.points], sort_keys=True, separators=(",", ":"))
            self._fingerprint = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
        return self._fingerprint

    def bare(self) -> SearchSpace:
        """Returns the same points without the program and without predicates."""
        if self._bare is None:
            self._bare = SearchSpace(self.points)
        return self._bare

    def point(self, path: str) -> Point:
        """Returns the point of a path or name.

        Raises:
            DecisionError: there is none.
        """
        found = self._names.get(path)
        if found is None:
            raise unknown_decision(path, [p.key for p in self.points])
        return found

    def is_active(self, point: Point | int, values: Sequence[Any]) -> bool:
        """Returns whether a point is active under raw values (aligned with `points`) of the points before it."""
        checks = self._checks[point if isinstance(point, int) else point.index]
        if not checks:
            return True
        for parent, candidate, is_many in checks:
            value = values[parent]
            if value is not None and (candidate in value if is_many else candidate == value):
                return True
        return False

    def repair(self, values: Sequence[Any], draw: Callable[[Point], Any]) -> DNA:
        """Returns the DNA of raw values: inactive ones are dropped, missing active ones are drawn.

        Args:
            values: Legal raw values aligned with `points`; None where there is none.
            draw: Returns a raw value for an active point that has none.
        """
        made: list[Any] = [None] * len(self.points)
        for index, point in enumerate(self.points):
            if self._checks[index] and not self.is_active(index, made):
                continue
            value = values[index]
            made[index] = draw(point) if value is None else value
        return DNA(self.bare(), tuple(made))

    def random(self, seed: int | str | Random = 0) -> DNA:
        """Returns a random DNA: every active decision from its prior.

        Args:
            seed: An int, or a generator to draw from.

        Raises:
            SpaceError: no DNA that the predicates allow was found in 1000 draws.
        """
        rng = as_rng(seed, "random")
        for _ in range(_RETRIES if self._constraints else 1):
            dna = self._draw(rng)
            if not self._constraints or self.allows(dna):
                return dna
        raise SpaceError(
            "cannot find a DNA that the predicates allow",
            at="require",
            expected=f"one in {_RETRIES} random draws",
            fix="loosen the predicate, or build the constraint into the space with conditional candidates",
        )

    def _draw(self, rng: Random) -> DNA:
        made: list[Any] = [None] * len(self.points)
        for index, point in enumerate(self.points):
            if not self._checks[index] or self.is_active(index, made):
                made[index] = point.draw(rng)
        return DNA(self.bare(), tuple(made))

    def default(self) -> DNA:
        """Returns the DNA of all defaults; without one, the first candidate or the middle of the range."""
        return self.repair([None] * len(self.points), lambda point: point.first())

    def enumerate(self) -> Iterator[DNA]:
        """Yields every DNA once, lazily, in lexicographic order: the last decision changes fastest.

        Raises:
            SpaceError: the space is continuous or open-ended.
        """
        self._need_finite("enumerate a space")
        for values in self._assignments():
            dna = DNA(self.bare(), values)
            if not self._constraints or self.allows(dna):
                yield dna

    def _assignments(self) -> Iterator[tuple[Any, ...]]:
        count = len(self.points)
        values: list[Any] = [None] * count
        pending: list[Iterator[Any]] = []
        while True:
            while len(pending) < count:
                index = len(pending)
                options = self.points[index].values() if self.is_active(index, values) else iter((None,))
                values[index] = next(options)
                pending.append(options)
            yield tuple(values)
            while pending:
                following = next(pending[-1], pending)
                if following is not pending:
                    values[len(pending) - 1] = following
                    break
                pending.pop()
                values[len(pending)] = None
            if not pending:
                return

    def index_of(self, dna: DNA) -> int:
        """Returns the number of a DNA in the order of `enumerate`.

        Raises:
            SpaceError: the space is not finite, or has a predicate.
            DecisionError: the DNA is of another space.
        """
        self._need_finite("number a DNA")
        self._need_free("number a DNA")
        return self._counts().rank(self.own(dna).values)

    def dna_at(self, index: int) -> DNA:
        """Returns the DNA with a number; the inverse of `index_of`.

        Raises:
            SpaceError: the space is not finite, or has a predicate.
            DecisionError: there is no such number.
        """
        self._need_finite("find a DNA by its number")
        self._need_free("find a DNA by its number")
        if not isinstance(index, int) or not 0 <= index < self.size:
            raise DecisionError(
                "cannot find a DNA by its number",
                got=index,
                expected=f"an int in [0, {self.size})",
                fix="stay below space.size",
            )
        return DNA(self.bare(), tuple(self._counts().unrank(index)))

    def _need_finite(self, verb: str) -> None:
        for point in self.points:
            if not point.is_finite:
                fix = "use random draws" if point.kind == CUSTOM else "give the range a step=, or use random draws"
                raise SpaceError(
                    f"cannot {verb}", at=point.path, got=point.describe(), expected="a finite space", fix=fix
                )

    def _need_free(self, verb: str) -> None:
        if self._constraints:
            raise SpaceError(
                f"cannot {verb}",
                at="require",
                expected="a space without predicates, whose DNAs have closed-form numbers",
                fix="use space.enumerate(), or space.bare()",
            )

    def dna(self, decisions: Mapping[str, Any]) -> DNA:
        """Returns the DNA of decisions by path or name, checked.

        Args:
            decisions: A raw value for every active decision, and for no other: the index of a candidate, a
                list of indices, a number, or JSON text.

        Raises:
            DecisionError: a path is unknown, a value illegal, a decision missing, inactive or given twice, or
                a predicate of `require` refuses the whole.
        """
        given: dict[int, tuple[str, Any]] = {}
        for path, value in decisions.items():
            point = self.point(path)
            if point.index in given:
                raise DecisionError(
                    "cannot decide twice",
                    at=path,
                    got=value,
                    expected=f"one value; {given[point.index][0]} is the same decision",
                    fix="leave one of them out",
                )
            given[point.index] = (path, value)
        dna = self._from_given(given)
        if not self.allows(dna):
            raise DecisionError(
                "cannot use decisions",
                at="require",
                got=dna,
                expected="decisions that the predicate of the space allows",
                fix="choose others, or use the space without the predicate",
            )
        return dna

    def _from_given(self, given: dict[int, tuple[str, Any]]) -> DNA:
        values: list[Any] = [None] * len(self.points)
        for point in self.points:
            active = self.is_active(point, values)
            if active and point.index not in given:
                raise DecisionError(
                    "cannot leave out a decision",
                    at=point.path,
                    expected=point.expected(),
                    fix="decide it too, or let space.random or space.repair fill it in",
                )
            if active:
                values[point.index] = point.check(given[point.index][1])
            elif point.index in given:
                raise DecisionError(
                    "cannot use decision",
                    at=point.path,
                    got=given[point.index][1],
                    expected="nothing, since it is active only if " + self._when_active(point),
                    fix="leave it out, or decide the other so",
                )
        return DNA(self.bare(), tuple(values))

    def _when_active(self, point: Point) -> str:
        shown = []
        for parent, candidate in point.conditions:
            above = self.points[parent]
            verb = "has" if above.kind == MANY else "is"
            shown.append(f"{above.path or '(the root)'} {verb} {candidate} ({above.candidates[candidate]})")
        return " or ".join(shown)

    def from_unit(self, place: Sequence[float]) -> DNA:
        """Returns the DNA at a place of the unit cube; coordinates of inactive points do not matter.

        Args:
            place: One number per coordinate of all points, as `dna.to_unit()` gives them.

        Raises:
            DecisionError: the number of coordinates is wrong.
        """
        needed = sum(point.num_units for point in self.points)
        coordinates = [float(x) for x in place]
        if len(coordinates) != needed:
            raise DecisionError(
                "cannot read a place of the unit cube",
                got=len(coordinates),
                expected=f"{needed} coordinates",
                fix="sum point.num_units over space.points",
            )
        values = []
        start = 0
        for point in self.points:
            values.append(point.from_unit(coordinates[start : start + point.num_units]))
            start += point.num_units
        return self.repair(values, lambda point: point.first())

    def own(self, dna: DNA) -> DNA:
        """Returns `dna` if it belongs to this space.

        Raises:
            DecisionError: it belongs to another one, or is no DNA.
        """
        if isinstance(dna, DNA) and (dna.space is self._bare or dna.space.fingerprint == self.fingerprint):
            return dna
        raise DecisionError(
            "cannot use a DNA",
            got=dna,
            expected=f"a DNA of this space (version {self.fingerprint[:8]})",
            fix="make it with this space: space.dna({...}) or space.random(seed)",
        )

    def materialize(self, dna: DNA) -> Any:
        """Returns the child program of a DNA.

        The child is built directly. Its symbolic nodes are new and its containers are copies; what is shared in
        the template is shared in the child; modules that are not symbolic are copied where they are candidates;
        every other leaf is the same object. Any number of threads may build at once.

        Raises:
            DecisionError: the DNA is of another space.
            SpaceError: the space is bare.
        """
        if type(dna) is not DNA or dna.space is not self._bare:
            self.own(dna)
        return self._need_template("materialize").build(dna.values)

    def _need_template(self, verb: str) -> Template:
        if self._template is None:
            raise SpaceError(
                f"cannot {verb} without a program",
                expected="a space made by mu.space(program)",
                fix="keep that space; a bare one only has points",
            )
        return self._template

    def encode(self, child: Any) -> DNA:
        """Returns the DNA that builds `child`; the first one where candidates are equal.

        Raises:
            SpaceError: the child does not fit the program; the message names the place.
        """
        template = self._need_template("encode")
        return self.repair(template.encode(child, self.is_active), lambda point: point.first())

    def allows(self, dna: DNA) -> bool:
        """Returns whether the predicates of `require` allow a DNA of this space."""
        if not self._constraints:
            return True
        subject = dna if self._template is None else self.materialize(dna)
        return all(bool(predicate(subject)) for predicate in self._constraints)

    def require(self, predicate: Callable[[Any], bool]) -> SearchSpace:
        """Returns the same space with a predicate; `random`, `enumerate` and `dna` give only what it allows.

        Args:
            predicate: A function of the child; of the DNA for a bare space. It should be cheap, since it is
                asked before a trial costs anything. Its exceptions pass through.
        """
        if not callable(predicate):
            raise SpaceError(
                "cannot require",
                got=predicate,
                expected="a function of the child that returns a bool",
                fix="pass a lambda, such as lambda child: child.width * child.depth < 1000",
            )
        made = SearchSpace(self.points, self._template, (*self._constraints, predicate))
        made._bare = self.bare()
        return made

    def split(self, where: Callable[[Point], bool] | str) -> tuple[SearchSpace, SearchSpace]:
        """Splits the decisions into an outer and an inner space.

        Args:
            where: Says which points are outer: a predicate of the point, or the path of a part of the program.

        Returns:
            The outer space, whose children are still abstract in the inner decisions, and the inner space of
            its default child. The inner space of any other outer child is `space(child)`.

        Raises:
            SpaceError: an outer point hangs on an inner one, or the space has a predicate.
        """
        template = self._need_template("split")
        if self._constraints:
            raise SpaceError(
                "cannot split a space with a predicate",
                at="require",
                expected="a space without predicates, since a part of a child cannot be judged",
                fix="split first, then call require on the parts",
            )
        test = _path_test(where, self.points) if isinstance(where, str) else where
        inner = frozenset(p.index for p in self.points if not test(p))
        for point in self.points:
            above = [self.points[i] for i, _ in point.conditions if i in inner]
            if point.index not in inner and above:
                raise SpaceError(
                    "cannot split a space",
                    at=point.path,
                    got=point.describe(),
                    expected=f"its condition {above[0].path or '(the root)'} among the outer decisions too",
                    fix="widen `where` so that it takes the decision above, or leave this one inside",
                )
        kept = template.split(inner)
        outer = SearchSpace(kept.points, kept)
        return outer, space(outer.materialize(outer.default()))

    def describe(self) -> str:
        """Returns a table of the decisions as text."""
        total = self._counts().total()
        heads = f"{len(self.points)} decisions, " + ("continuous" if total == math.inf else f"{total} DNAs")
        rows = [("decision", "values", "when", "active if")]
        for point in self.points:
            label = (point.path or "(the root)") + (f" ({point.name})" if point.name is not None else "")
            rows.append((label, point.describe(), point.when, self._when_active(point) or "always"))
        widths = [min(max(len(row[column]) for row in rows), _WIDEST) for column in range(4)]
        lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([heads, *lines]) if self.points else heads


def _path_test(where: str, points: Sequence[Point]) -> Callable[[Point], bool]:
    try:
        prefix = Path.parse(where)
    except PathError:
        if all(point.name != where for point in points):
            raise
        return lambda point: point.name == where  # A name may hold anything, also what no path can.
    return lambda point: point.name == where or any(Path.parse(p).startswith(prefix) for p in point.paths)


def space(program: Any) -> SearchSpace:
    """Returns the search space of a program.

    Args:
        program: A symbolic object, a hyper value, a list, tuple or dict that holds hyper values, what
            `mu.trace` returned, or a space.

    Returns:
        Its space; one without points if nothing is left to decide.

    Raises:
        SpaceError: the program does not describe a space: a name with two meanings, or a hyper value hidden
            where the tree cannot see it.
    """
    if isinstance(program, SearchSpace):
        return program
    own = getattr(type(program), "_mu_space_", None)
    if own is not None:
        return own(program)  # type: ignore[no-any-return]
    if isinstance(program, types.FunctionType):
        raise SpaceError(
            "cannot make a space of a function",
            got=program,
            expected="a program that holds hyper values",
            fix="mu.trace(f) runs it and finds the decisions it makes; mu.bind(f, ...) makes a symbolic call",
        )
    template = compile_program(program)
    return SearchSpace(template.points, template)


__all__ = ["SearchSpace", "space"]
