"""A table of training results, and an evaluator that reads it as if it trained.

What was trained for how long is always said: the fidelity (epochs) is a required argument, validation and test results
are asked for by different methods, and an `Evaluator` sees validation results alone and is charged the time that the
training took.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mutandis.errors import DecisionError, SettingError
from mutandis.hyper import DNA

Column = tuple[str, int]


@dataclass(frozen=True)
class Table:
    """Results of every program of a space on one dataset.

    Attributes:
        name: How reports call it.
        radices: How many candidates each decision has.
        rows: Row by code of the decisions; the code is the mixed-radix number, the last decision fastest.
        results: `[N]` float by (split, epochs); split is `valid` or `test`. nan where nothing was measured.
        training_seconds: `[N]` float by epochs: what training for so long took.
        validation_seconds: `[N]` float: what one pass over the validation split takes.
        facts: Further columns `[N]`, such as parameters.
        larger_is_better: Whether results are accuracies rather than losses.
        decode: From a child or a text to its decisions, one index each.
    """

    name: str
    radices: tuple[int, ...]
    rows: Any
    results: Mapping[Column, Any]
    training_seconds: Mapping[int, Any]
    validation_seconds: Any
    decode: Callable[[Any], Sequence[int]]
    facts: Mapping[str, Any] = field(default_factory=dict)
    larger_is_better: bool = True

    def row(self, what: Any) -> int:
        """Returns the row of a program.

        Args:
            what: A child, its text, a DNA of its space, or the sequence of its decisions.

        Raises:
            DecisionError: it is no program of this table.
        """
        code = 0
        decisions = self._decisions(what)
        for decision, radix in zip(decisions, self.radices, strict=True):
            code = code * radix + decision
        row = int(self.rows[code])
        if row < 0:
            raise DecisionError("cannot look up a program", at=self.name, got=what, expected="a program that it holds",
                                fix="take another one; this one was never trained")  # fmt: skip
        return row

    def _decisions(self, what: Any) -> Sequence[int]:
        if isinstance(what, DNA):
            found: Sequence[int] = what.values
        elif isinstance(what, (tuple, list)) and all(isinstance(item, (int, np.integer)) for item in what):
            found = what
        else:
            found = self.decode(what)
        fits = len(found) == len(self.radices) and all(
            isinstance(item, (int, np.integer)) and 0 <= item < radix
            for item, radix in zip(found, self.radices, strict=True)
        )
        if not fits:
            raise DecisionError(
                "cannot look up a program",
                at=self.name,
                got=what,
                expected=f"{len(self.radices)} decisions with {', '.join(map(str, self.radices))} candidates",
                fix="pass a child, a DNA or the indices of a program of the table's space",
            )
        return found

    def valid(self, what: Any, *, epochs: int) -> float:
        """Returns the validation result of a program.

        Raises:
            SettingError: nothing was measured after so many epochs.
        """
        return float(self._column("valid", epochs)[self.row(what)])

    def test(self, what: Any, *, epochs: int) -> float:
        """Returns the test result of a program; for reports, never for a search.

        Raises:
            SettingError: nothing was measured after so many epochs.
        """
        return float(self._column("test", epochs)[self.row(what)])

    def seconds(self, what: Any, *, epochs: int) -> float:
        """Returns what training a program for so many epochs and validating it once took.

        Raises:
            SettingError: no time is known for so many epochs.
        """
        row = self.row(what)
        if epochs not in self.training_seconds:
            raise self._missing(f"a time of {epochs} epochs", sorted(self.training_seconds))
        return float(self.training_seconds[epochs][row] + self.validation_seconds[row])

    def fact(self, what: Any, name: str) -> float:
        """Returns a further column of a program, such as its number of parameters.

        Raises:
            SettingError: the table has no such column.
        """
        if name not in self.facts:
            raise self._missing(f"the fact {name!r}", sorted(self.facts))
        return float(self.facts[name][self.row(what)])

    def rank(self, what: Any, *, split: str, epochs: int) -> int:
        """Returns the place of a program among all that were measured; 1 is the best, equals share the better place."""
        column = self._column(split, epochs)
        value = column[self.row(what)]
        better = column > value if self.larger_is_better else column < value
        return int(np.count_nonzero(better)) + 1

    def best(self, *, split: str, epochs: int) -> float:
        """Returns the best result of all programs."""
        column = self._column(split, epochs)
        return float(np.nanmax(column) if self.larger_is_better else np.nanmin(column))

    def _column(self, split: str, epochs: int) -> Any:
        found = self.results.get((split, epochs))
        if found is None:
            raise self._missing(f"{split} results after {epochs} epochs", sorted(self.results))
        return found

    def _missing(self, what: str, known: Sequence[Any]) -> SettingError:
        return SettingError(
            f"cannot look up {what}",
            at=self.name,
            expected=f"one of {', '.join(map(str, known)) or 'nothing'}",
            fix="ask for a fidelity that was measured",
        )


class Evaluator:
    """Reads validation results as if it trained, and counts the time that training took.

        evaluate = Evaluator(table, epochs=12, budget_s=20_000)
        for child, feedback in mu.sample(program, algorithm):
            if evaluate.is_over:
                break
            feedback(evaluate(child))

    Args:
        table: The results.
        epochs: How long every program is trained.
        budget_s: After how many simulated seconds no further training begins; None for no limit.

    Attributes:
        spent_s: Simulated seconds so far.

    Raises:
        SettingError: nothing was measured after so many epochs.
    """

    def __init__(self, table: Table, *, epochs: int, budget_s: float | None = None) -> None:
        table._column("valid", epochs)
        self.table = table
        self.epochs = epochs
        self.budget_s = budget_s
        self.spent_s = 0.0

    @property
    def is_over(self) -> bool:
        """Whether the time is spent."""
        return self.budget_s is not None and self.spent_s >= self.budget_s

    def __call__(self, what: Any, *, epochs: int | None = None) -> float:
        """Returns the validation result of a program and charges its training.

        Args:
            what: As for `Table.row`.
            epochs: For this program alone, where it differs.
        """
        chosen = self.epochs if epochs is None else epochs
        result = self.table.valid(what, epochs=chosen)
        if chosen in self.table.training_seconds:
            self.spent_s += self.table.seconds(what, epochs=chosen)
        return result

    def metrics(self, what: Any, *, epochs: int | None = None) -> dict[str, float]:
        """Returns the validation result and the time of its training as metrics, and charges that time.

        With `objectives=("valid", "-seconds")` (or `"-valid"` for a loss) a search learns of time as well.

        Args:
            what: As for `Table.row`.
            epochs: For this program alone, where it differs.

        Returns:
            `valid`, and `seconds`.

        Raises:
            SettingError: no time is known for so many epochs.
        """
        chosen = self.epochs if epochs is None else epochs
        seconds = self.table.seconds(what, epochs=chosen)
        return {"valid": self(what, epochs=chosen), "seconds": seconds}


def rows_by_code(decisions: Any, radices: Sequence[int]) -> Any:
    """Returns the row of every code, -1 where there is none.

    Args:
        decisions: `[N, D]` int, the decisions of each row.
        radices: How many candidates each of the D decisions has.
    """
    weights = np.array([int(np.prod(radices[i + 1 :], dtype=np.int64)) for i in range(len(radices))])
    rows = np.full(int(np.prod(radices, dtype=np.int64)), -1, dtype=np.int64)
    rows[np.asarray(decisions, dtype=np.int64) @ weights] = np.arange(len(decisions))
    return rows


def all_decisions(radices: Sequence[int]) -> Any:
    """Returns `[N, D]`: every combination of decisions, the last one fastest."""
    return np.array(list(itertools.product(*(range(radix) for radix in radices))), dtype=np.int64)


__all__ = ["Evaluator", "Table", "all_decisions", "rows_by_code"]
