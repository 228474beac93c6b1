"""The protocol of predictors: frozen settings that start live regressors of the reward."""

from __future__ import annotations

import abc
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mutandis.hyper import DNA, SearchSpace
from mutandis.symbolic.classes.decorate import symbolize_class

Array = NDArray[np.float64]


class Regressor(abc.ABC):
    """What was learnt from results on one space."""

    @abc.abstractmethod
    def fit(self, dnas: Sequence[DNA], rewards: Sequence[float]) -> None:
        """Learns anew from all results; earlier fits leave no trace, so that a run resumes by fitting again.

        Args:
            dnas: `[N]`, N >= 1, in the order in which the results came.
            rewards: `[N]` finite numbers, larger is better.
        """

    @abc.abstractmethod
    def predict(self, dnas: Sequence[DNA]) -> tuple[Array, Array]:
        """Returns mean and standard deviation of the score of DNAs.

        A score is in the scale of `scores`, which rises with the reward.

        Args:
            dnas: `[M]`.
        """

    @abc.abstractmethod
    def scores(self) -> Array:
        """Returns the scores of the results that the last fit used."""


class Predictor(abc.ABC):
    """Settings of a regressor: immutable, comparable, cloneable."""

    @abc.abstractmethod
    def start(self, space: SearchSpace, *, seed: int) -> Regressor:
        """Begins with nothing learnt.

        Args:
            space: The space; only its points are used.
            seed: Seed of all randomness of the regressor.

        Raises:
            SettingError: the predictor cannot encode this space.
        """


symbolize_class(Predictor)

__all__ = ["Predictor", "Regressor"]
