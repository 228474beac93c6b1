"""The evolution strategies of the `cmaes` package behind one small interface, with a state that writes to JSON.

Nomura and Shibata: cmaes: A Simple yet Practical Python Library for CMA-ES, 2024, arXiv 2402.01373. Continuous spaces
use its CMA-ES (Hansen: The CMA Evolution Strategy: A Tutorial, 2016, arXiv 1604.00772), all others its CatCMA with
margin (Hamano et al. 2025, arXiv 2504.07884).

The engine draws from a generator that is seeded anew for each sample, so that its state holds no generator. All else
that it remembers are numbers and arrays, which are written and read as their bytes, never unpickled.
"""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mutandis.algorithms.bayesian.cma_axes import Axes
from mutandis.errors import MissingDependency, SettingError

Array = NDArray[np.float64]
_DTYPES = {"float64", "int64", "bool"}


@dataclass(frozen=True)
class Sample:
    """A draw of the engine, as it was before rounding and clipping.

    Attributes:
        numbers: The continuous variables, then the integer ones.
        picks: The categorical variables.
    """

    numbers: tuple[float, ...]
    picks: tuple[int, ...]


class Engine:
    """An evolution strategy that minimises.

    Args:
        axes: The variables.
        mean: `[num_numbers]`, where it starts.
        sigma: Standard deviation at the start, as a share of each range.
        population_size: Results of a generation; None for 4 + 3 ln D.
    """

    def __init__(self, axes: Axes, mean: Array, sigma: float, population_size: int | None) -> None:
        try:
            import cmaes
        except ImportError as error:
            raise MissingDependency("cannot start CMAES", at="CMAES", expected="the package cmaes",
                                    fix="pip install 'mutandis[bayesian]'") from error  # fmt: skip
        self._axes = axes
        self._is_plain = not axes.steps and not axes.cells
        if self._is_plain:
            bounds = np.array([[0.0, 1.0]] * len(mean))
            self._inner: Any = cmaes.CMA(mean, sigma, bounds=bounds, population_size=population_size)
        else:
            self._inner = cmaes.CatCMAwM(
                x_space=[[0.0, 1.0]] * len(axes.smooth) or None,
                z_space=[values.tolist() for values in axes.steps.values()] or None,
                c_space=list(axes.cells.values()) or None,
                population_size=population_size,
                mean=mean if len(mean) else None,
                sigma=1.0,
                cov=np.diag((sigma * axes.spans()) ** 2) if len(mean) else None,
            )
        history = getattr(self._inner, "_funhist_values", None)
        if history is not None:
            history[:] = 0.0  # The package leaves what was in memory.

    @property
    def population_size(self) -> int:
        """The number of results of a generation."""
        return int(self._inner.population_size)

    def ask(self, seed: int) -> Sample:
        """Returns a draw from the present distribution.

        Args:
            seed: In [0, 2^32).
        """
        self._inner.reseed_rng(seed)
        drawn = self._inner.ask()
        if self._is_plain:
            return Sample(tuple(drawn.tolist()), ())
        numbers = () if drawn._v_raw is None else tuple(drawn._v_raw.tolist())
        return Sample(numbers, () if drawn.c is None else tuple(np.argmax(drawn.c, axis=1).tolist()))

    def tell(self, samples: list[tuple[float, Sample]]) -> bool:
        """Moves the distribution by a generation.

        Args:
            samples: `population_size` losses and what they belong to, in any order.

        Returns:
            Whether the strategy is still of use: neither converged nor broken by overflow.
        """
        if not self._is_plain and not getattr(self._inner, "_iqhist_values", True):
            self._inner._iqhist_values.append(0.0)  # No penalty of bounds while all losses are equal.
        with np.errstate(all="ignore"):  # A degenerate distribution is found out below.
            self._inner.tell([(self._solution(sample), loss) for loss, sample in samples])
            return self.is_sound() and not (self._axes.num_numbers and self._inner.should_stop())

    def _solution(self, sample: Sample) -> Any:
        numbers = np.array(sample.numbers)
        if self._is_plain:
            return numbers
        hot = None
        if sample.picks:
            hot = np.array(sample.picks)[:, None] == np.arange(max(self._axes.cells.values()))
        return type(self._inner).Solution(None, None, hot, numbers if len(numbers) else None)

    def is_sound(self) -> bool:
        """Returns whether the distribution holds finite numbers only."""
        watched = [getattr(self._inner, name, 0.0) for name in ("_mean", "_sigma", "_C", "_q")]
        return all(bool(np.all(np.isfinite(value))) for value in watched)

    def shortened(self, sample: Sample) -> Sample:
        """Returns a foreign solution drawn towards the mean, so that it cannot tear the distribution apart.

        Hansen: Injecting External Solutions Into CMA-ES, 2011, arXiv 1110.4181, eq. (3) and (4).
        """
        count = len(sample.numbers)
        if not count:
            return sample
        inner = self._inner
        basis, lengths = inner._eigen_decomposition()
        steps = (np.array(sample.numbers) - inner._mean) / (inner._sigma * getattr(inner, "_A", 1.0))
        length = float(np.linalg.norm((basis.T @ steps) / lengths))
        limit = math.sqrt(count) + 2 * count / (count + 2)
        if length <= limit:
            return sample
        moved = inner._mean + (np.array(sample.numbers) - inner._mean) * (limit / length)
        return Sample(tuple(moved.tolist()), sample.picks)

    def state_dict(self) -> dict[str, Any]:
        """Returns all that the engine remembers as JSON."""
        return {name: _written(value) for name, value in vars(self._inner).items() if name != "_rng"}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a state of an engine with the same settings.

        Raises:
            SettingError: the state is of another version of the package.
        """
        own = vars(self._inner)
        if set(state) != set(own) - {"_rng"}:
            raise SettingError("cannot restore CMAES", at="state", got=sorted(set(state) ^ (set(own) - {"_rng"})),
                               expected="a state that the same version of cmaes wrote",
                               fix="install that version of cmaes")  # fmt: skip
        own.update({name: _read(value) for name, value in state.items()})


def _written(value: Any) -> Any:
    """Returns a number, an array or a list of numbers as JSON, exactly."""
    if value is None:
        return None
    array = np.asarray(value)
    if str(array.dtype) not in _DTYPES:
        array = array.astype(np.float64)
    data = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
    kind = "array" if isinstance(value, np.ndarray) else "list" if isinstance(value, list) else "number"
    return [kind, str(array.dtype), list(array.shape), data]


def _read(written: Any) -> Any:
    if written is None:
        return None
    kind, dtype, shape, data = written
    array = np.frombuffer(base64.b64decode(data), dtype=np.dtype(dtype)).reshape(shape).copy()
    return array if kind == "array" else array.tolist()


__all__ = ["Engine", "Sample"]
