"""The algebra of evolution: operations on populations, and how they are put together.

An operation takes a population (a list of individuals) and a context, and returns a population:

    Tournament(10) >> Uniform()                  first, then
    Top(2) + RandomSample(3)                     both, one after the other; `|` leaves repetitions out
    (Tournament(3) >> Uniform()) * 4             four times
    Uniform().with_prob(0.5)                     else the population as it is
    Uniform().if_(lambda population, context: context.step > 100)
    Top(10)[2:5]                                 a part of the result
    Uniform().for_each()                         to each individual alone

A plain function of the population (and the context) is an operation too.
"""

from __future__ import annotations

import abc
import inspect
from collections.abc import Callable
from typing import Any, ClassVar, Union

from mutandis.algorithms.base import settings
from mutandis.algorithms.evolution.population import Context, Individual
from mutandis.algorithms.evolution.schedules import Schedule, at_step
from mutandis.errors import SettingError
from mutandis.hyper import DNA
from mutandis.symbolic import arguments

Population = list[Individual]
OperationLike = Union["Operation", Callable[..., Population]]


class Operation(abc.ABC):
    """A step of evolution: population in, population out. The population given is never changed."""

    _mu_open_ = ("__add__", "__getitem__", "__mul__", "__or__", "__rrshift__", "__rshift__", "for_each", "if_",
                 "with_prob")  # fmt: skip
    """What also works while a setting is undecided: it only puts operations together."""

    __iter__: ClassVar[None] = None
    """Not a sequence: `__getitem__` takes a part of any result, so that running through it would never end."""

    @abc.abstractmethod
    def __call__(self, population: Population, context: Context) -> Population:
        """Returns the population after this step."""

    def __rshift__(self, other: OperationLike) -> Operation:
        return Pipeline((*_parts(self, Pipeline), *_parts(as_operation(other), Pipeline)))

    def __rrshift__(self, other: OperationLike) -> Operation:
        return as_operation(other) >> self

    def __add__(self, other: OperationLike) -> Operation:
        return Concatenation((*_parts(self, Concatenation), *_parts(as_operation(other), Concatenation)))

    def __or__(self, other: OperationLike) -> Operation:
        return Distinct(self + other)

    def __mul__(self, times: int) -> Operation:
        return Repetition(self, times)

    def __getitem__(self, part: slice | int) -> Operation:
        return Part(self, part if isinstance(part, slice) else slice(part, part + 1 or None))

    def with_prob(self, probability: float | Schedule) -> Operation:
        """Returns this operation, done with a probability; otherwise the population stays as it is."""
        return Conditional(self, _Chance(probability))

    def if_(
        self, condition: Callable[[Population, Context], bool], otherwise: OperationLike | None = None
    ) -> Operation:
        """Returns this operation, done where a condition holds; `otherwise` (or nothing) elsewhere."""
        return Conditional(self, condition, None if otherwise is None else as_operation(otherwise))

    def for_each(self) -> Operation:
        """Returns this operation, done to a population of each individual alone."""
        return Each(self)


def _parts(operation: Operation, kind: type) -> tuple[Operation, ...]:
    return arguments(operation)["operations"] if isinstance(operation, kind) else (operation,)


def as_operation(value: OperationLike) -> Operation:
    """Returns an operation for an operation or a plain function.

    Raises:
        SettingError: it is neither.
    """
    if isinstance(value, Operation):
        return value
    if not callable(value) or isinstance(value, type):
        fix = f"pass {value.__name__}(...), not the class" if isinstance(value, type) else (
            "pass a selector, a mutator, or a lambda")  # fmt: skip
        raise SettingError("cannot use an operation", got=value,
                           expected="an operation, or a function of the population", fix=fix)  # fmt: skip
    return Function(value, len(inspect.signature(value).parameters))


@settings
class Function(Operation):
    """A plain function of the population, or of the population and the context."""

    function: Callable[..., Population]
    num_parameters: int = 1

    def __call__(self, population: Population, context: Context) -> Population:
        """Returns what the function returns."""
        return list(self.function(population, context) if self.num_parameters > 1 else self.function(population))


@settings
class Pipeline(Operation):
    """One operation after the other, each on the result of the one before."""

    operations: tuple[Operation, ...]

    def __call__(self, population: Population, context: Context) -> Population:
        """Returns the result of the last."""
        for operation in self.operations:
            population = operation(population, context)
        return population


@settings
class Concatenation(Operation):
    """The results of several operations on the same population, one after the other."""

    operations: tuple[Operation, ...]

    def __call__(self, population: Population, context: Context) -> Population:
        """Returns all results."""
        return [individual for operation in self.operations for individual in operation(population, context)]


@settings
class Distinct(Operation):
    """The result of an operation without individuals of equal DNA."""

    operation: Operation

    def __call__(self, population: Population, context: Context) -> Population:
        """Returns the first individual of each DNA."""
        first: dict[DNA, Individual] = {}
        for individual in self.operation(population, context):
            first.setdefault(individual.dna, individual)
        return list(first.values())


@settings
class Repetition(Operation):
    """An operation done several times on the same population; the results are put together."""

    operation: Operation
    times: int

    def __post_init__(self) -> None:
        if not isinstance(self.times, int) or self.times < 1:
            raise SettingError("cannot repeat an operation", at="times", got=self.times, expected="an int >= 1",
                               fix="multiply by a whole number")  # fmt: skip

    def __call__(self, population: Population, context: Context) -> Population:
        """Returns all results."""
        return [made for _ in range(self.times) for made in self.operation(population, context)]


@settings
class Part(Operation):
    """A slice of the result of an operation."""

    operation: Operation
    part: slice

    def __call__(self, population: Population, context: Context) -> Population:
        """Returns the slice."""
        return self.operation(population, context)[self.part]


@settings
class Each(Operation):
    """An operation done to each individual alone."""

    operation: Operation

    def __call__(self, population: Population, context: Context) -> Population:
        """Returns all results."""
        return [made for individual in population for made in self.operation([individual], context)]


@settings
class Conditional(Operation):
    """An operation where a condition holds, another one (or nothing) elsewhere."""

    operation: Operation
    condition: Callable[[Population, Context], Any]
    otherwise: Operation | None = None

    def __call__(self, population: Population, context: Context) -> Population:
        """Returns the population after the branch that applies."""
        if self.condition(population, context):
            return self.operation(population, context)
        return list(population) if self.otherwise is None else self.otherwise(population, context)


@settings
class _Chance:
    probability: float | Schedule

    def __post_init__(self) -> None:
        if not isinstance(self.probability, Schedule) and not (
            isinstance(self.probability, (int, float)) and 0 <= self.probability <= 1
        ):
            raise SettingError("cannot use a probability", at="with_prob", got=self.probability,
                               expected="a number in [0, 1], or a schedule", fix="use 0.5")  # fmt: skip

    def __call__(self, population: Population, context: Context) -> bool:
        return context.rng.random() < at_step(self.probability, context.step)
