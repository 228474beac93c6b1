"""Losses, rewards and what norms do while children are measured."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from toy_shared import cells, images

import mutandis as mu
from mutandis.algorithms.oneshot.selections import selections_of
from mutandis.errors import SettingError
from mutandis.flows.oneshot.measuring import Measures, evaluating


@pytest.fixture(scope="module")
def shared():
    return cells()


def measures(shared, loss=None, metric=None, norm="any"):
    return Measures(shared, loss, metric, norm, "auto")


def test_the_default_loss_is_cross_entropy(shared):
    x, y = images(1, 0)[0]
    child = shared.materialize(shared.space.random(0))
    assert torch.equal(measures(shared).loss_of(child, (x, y)), F.cross_entropy(child(x), y))


def test_the_default_reward_is_the_accuracy_with_the_statistics_of_the_batch(shared):
    x, y = images(1, 0, size=30)[0]
    dna = shared.space.random(3)
    child = shared.materialize(dna)
    child.train()
    hits = child(x).argmax(1) == y
    assert measures(shared).reward(selections_of(dna), (x, y)) == pytest.approx(float(hits.float().mean()))


def test_with_a_loss_the_reward_is_its_negative(shared):
    dna = shared.space.random(3)
    made = measures(shared, loss=lambda child, batch: child(batch).square().mean())
    child = shared.materialize(dna)
    child.train()
    x = images(1, 0)[0][0]
    assert made.reward(selections_of(dna), x) == pytest.approx(-float(child(x).detach().square().mean()))


def test_a_metric_of_your_own_is_the_reward(shared):
    dna = shared.space.random(3)
    assert measures(shared, metric=lambda child, batch: 7.0).reward(selections_of(dna), None) == 7.0


def test_the_worth_is_the_mean_over_batches(shared):
    made = measures(shared, metric=lambda child, batch: float(batch))
    assert made.worth(shared.space.random(0), [1, 2, 6], [], 1) == 3.0


def test_recalibrated_children_use_statistics_of_the_training_data(shared):
    train, batch = images(4, 1), images(1, 2)[0]
    dna = shared.space.random(5)
    made = measures(shared, metric=lambda child, b: float(child(b[0]).square().sum()), norm="recalibrate")
    worth = made.worth(dna, [batch], train, 4)
    shared.calibrate(dna, train)
    child = shared.materialize(dna)
    child.eval()
    assert worth == pytest.approx(float(child(batch[0]).detach().square().sum()), rel=1e-5)
    # Any other norm takes those of the batch, which are others.
    assert made.reward(selections_of(dna), batch) != pytest.approx(worth, rel=1e-3)


def test_recalibration_runs_the_loss_where_batches_are_of_another_kind():
    shared = cells()
    train = [{"image": x, "label": y} for x, y in images(3, 0)]
    made = measures(shared, loss=lambda child, b: F.cross_entropy(child(b["image"]), b["label"]), norm="recalibrate")
    dna = shared.space.random(0)
    assert made.worth(dna, train[:1], train, 3) < 0.0
    norm = next(m for m in shared.materialize(dna).modules() if isinstance(m, nn.BatchNorm2d))
    assert int(norm.num_batches_tracked) == 3


@pytest.mark.parametrize("uses_batch", [True, False])
def test_only_norms_over_batches_stay_in_training(uses_batch):
    net = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout(), nn.LayerNorm(2))
    net[2].eval()
    with evaluating(net, uses_batch):
        assert [layer.training for layer in net] == [uses_batch, False, False]
    assert [layer.training for layer in net] == [True, True, False]


def test_a_loss_per_example_is_refused(shared):
    child = shared.materialize(shared.space.random(0))
    with pytest.raises(SettingError) as caught:
        measures(shared, loss=lambda child, batch: torch.zeros(4)).loss_of(child, None)
    assert str(caught.value) == (
        "cannot train on a loss\n"
        "  at:       loss\n"
        "  got:      'a tensor of shape (4,)' (str)\n"
        "  expected: a tensor of one number\n"
        "  fix:      return the mean over the batch"
    )


def test_a_program_around_a_module_is_measured_by_its_own_methods():
    program = {"net": mu.nn.Linear(2, mu.oneof([1, 3], name="size")), "rate": 1.0}
    shared = mu.share_weights(program, torch.zeros(1, 2))
    made = measures(shared, loss=lambda child, x: child["net"](x).square().mean())
    assert made.reward(selections_of(shared.space.random(0)), torch.ones(2, 2)) <= 0.0


def test_statistics_of_the_batch_have_their_known_answer_in_evaluation():
    norm = torch.nn.BatchNorm1d(1, affine=False).double().eval()
    with evaluating(norm, True):
        found = norm(torch.tensor([[1.0], [3.0]], dtype=torch.float64))
    assert found.flatten().tolist() == pytest.approx([-0.9999950000, 0.9999950000], abs=1e-9)
