"""The protocol: settings are values, and every predictor keeps to the shapes."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from mutandis.algorithms.predictors import GPPredictor, Predictor, Regressor, RidgeEnsemble
from mutandis.testing import contract_spaces, reward_of

PREDICTORS = [GPPredictor(), RidgeEnsemble(), RidgeEnsemble(3, interactions=False, pooled=True)]


@pytest.mark.parametrize("predictor", PREDICTORS, ids=repr)
@pytest.mark.parametrize("name", list(contract_spaces()))
def test_every_space_is_fitted_and_predicted(predictor, name):
    space = contract_spaces()[name].bare()
    regressor = predictor.start(space, seed=0)
    dnas = [space.random(seed) for seed in range(12)]
    regressor.fit(dnas, [reward_of(dna) for dna in dnas])
    mean, deviation = regressor.predict(dnas[:5])
    assert isinstance(regressor, Regressor)
    assert mean.shape == deviation.shape == (5,)
    assert np.isfinite(mean).all() and (deviation > 0).all()
    assert regressor.scores().shape == (12,)


@pytest.mark.parametrize("predictor", PREDICTORS, ids=repr)
def test_settings_are_values(predictor):
    assert pickle.loads(pickle.dumps(predictor)) == predictor
    assert isinstance(predictor, Predictor)
    with pytest.raises(AttributeError):
        predictor.anything = 1
