"""What each decision reads under an algorithm, and what it cannot."""

from __future__ import annotations

import pytest
import torch

import mutandis as mu
from mutandis.algorithms.oneshot.gates import DSNAS, ProxylessNAS
from mutandis.algorithms.oneshot.gumbel import GDAS
from mutandis.algorithms.oneshot.mixtures import DARTS
from mutandis.algorithms.oneshot.single_path import RSPS
from mutandis.algorithms.oneshot.tunas import TuNAS
from mutandis.flows.oneshot.fitting.fits import fits_of

X = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))


def layers():
    return mu.oneof([mu.nn.Linear(4, 4), mu.nn.Identity(), mu.nn.Tanh()], name="layer")


def fits(program, algorithm, run=lambda child: child(X).square().sum()):
    shared = mu.share_weights(program, X)
    search = algorithm.start_shared(shared.space.bare(), seed=0)
    return {fit.decision: fit for fit in fits_of(shared, search, run)}


@pytest.mark.parametrize(("algorithm", "words"), [
    (RSPS(), "one candidate at a time"),
    (TuNAS(), "one candidate at a time, learnt by rewards"),
    (DARTS(), "all candidates at once, learnt by gradients"),
    (GDAS(), "one candidate, straight through, learnt by gradients"),
    (GDAS(form="all"), "all candidates at once, learnt by gradients"),
    (DSNAS(), "one candidate times a gate, learnt by gradients"),
    (ProxylessNAS(), "one candidate times a gate, others probed, learnt by gradients"),
])  # fmt: skip
def test_what_is_read_is_told_in_words(algorithm, words):
    made = fits(mu.nn.Sequential(layers(), mu.nn.Linear(4, 1)), algorithm)
    assert made["layer"].refusal is None and str(made["layer"]) == words


@mu.symbolize
class Scaled(mu.nn.Linear):
    """A rate that the module shows as an attribute, and that no gradient comes to."""

    def __init__(self, rate):
        super().__init__(4, 4)
        self.rate = rate

    def forward(self, x):
        return super().forward(x) * self.rate


@pytest.mark.parametrize(("algorithm", "is_fine"), [(DARTS(), False), (GDAS(), False), (TuNAS(), True)])
def test_a_range_is_read_by_sampling_and_has_no_gradient(algorithm, is_fine):
    program = mu.nn.Sequential(Scaled(mu.floatv(0.1, 1.0, name="rate")), layers())
    made = fits(program, algorithm)
    assert made["layer"].refusal is None
    assert (made["rate"].refusal is None) == is_fine
    if not is_fine:
        assert str(made["rate"]) == "refused: cannot learn a decision from the gradient of a loss"


@pytest.mark.parametrize("algorithm", [DARTS(), GDAS(), DSNAS(), ProxylessNAS()])
def test_a_choice_that_the_loss_does_not_see_is_refused(algorithm):
    program = {"net": mu.nn.Sequential(layers(), mu.nn.Linear(4, 1)),
               "unused": mu.oneof([mu.nn.ReLU(), mu.nn.Tanh()], name="unused")}  # fmt: skip
    shared = mu.share_weights(program)
    search = algorithm.start_shared(shared.space.bare(), seed=0)
    seen = {fit.decision: fit for fit in fits_of(shared, search, lambda child: child["net"](X).sum())}
    assert seen["layer"].refusal is None
    assert str(seen["unused"].refusal) == (
        "cannot learn a decision that the loss does not depend on\n"
        "  at:       ['unused']\n"
        "  got:      'one of [ReLU(), Tanh()]' (str)\n"
        "  expected: a gradient of the loss by the weights of its candidates\n"
        "  fix:      let the loss use what the decision decides, or search it with an algorithm that learns from "
        "rewards"
    )
    search = algorithm.start_shared(shared.space.bare(), seed=0)
    assert not any(fit.refusal for fit in fits_of(shared, search, None))  # Only a pass can show it.


@pytest.mark.parametrize("algorithm", [TuNAS(), RSPS()])
def test_rewards_need_no_gradient(algorithm):
    program = {"net": mu.nn.Sequential(layers(), mu.nn.Linear(4, 1)),
               "unused": mu.oneof([mu.nn.ReLU(), mu.nn.Tanh()], name="unused")}  # fmt: skip
    shared = mu.share_weights(program)
    search = algorithm.start_shared(shared.space.bare(), seed=0)
    with torch.no_grad():
        made = fits_of(shared, search, lambda child: child["net"](X).sum())
    assert not any(fit.refusal for fit in made)


@pytest.mark.parametrize("algorithm", [GDAS(), ProxylessNAS(), ProxylessNAS(paths="all"), DARTS(), DSNAS()])
def test_a_choice_in_a_candidate_is_judged_where_that_candidate_runs(algorithm):
    inner = mu.oneof([mu.nn.ReLU(), mu.nn.Tanh()], name="inner")
    outer = mu.oneof([mu.nn.Identity(), mu.nn.Sequential(mu.nn.Linear(4, 4), inner)], name="outer")
    made = fits(mu.nn.Sequential(outer, mu.nn.Linear(4, 1)), algorithm)
    assert [made[name].refusal for name in ("inner", "outer")] == [None, None] and made["inner"].reads


def test_a_choice_that_decides_more_than_a_layer_is_refused_alone():
    @mu.symbolize
    class Sized(torch.nn.Module):
        def __init__(self, kind, layer):
            super().__init__()
            self.first = kind
            self.last = torch.nn.Linear(4, 1 if isinstance(kind, torch.nn.Tanh) else 2)
            self.layer = layer

        def forward(self, x):
            return self.last(self.layer(self.first(x)))

    made = fits(Sized(mu.oneof([mu.nn.ReLU(), mu.nn.Tanh()], name="kind"), layers()), DARTS())
    assert str(made["kind"]) == "refused: cannot run several arms of a choice at once"
    assert made["layer"].refusal is None
