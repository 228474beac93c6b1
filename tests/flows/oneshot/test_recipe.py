"""The published defaults."""

from __future__ import annotations

import pytest
import torch

from mutandis.errors import SettingError
from mutandis.flows.oneshot.recipe import Recipe, cosine


def test_the_step_size_falls_from_25_to_1_thousandths_along_a_cosine():
    assert [0.025 * cosine(f) for f in (0.0, 0.5, 1.0)] == pytest.approx([0.025, 0.013, 0.001])
    assert 0.025 * cosine(0.25) == pytest.approx(0.001 + 0.024 * (2 + 2**0.5) / 4)


def test_the_optimizer_is_the_published_one():
    group = Recipe(epochs=1).make([torch.ones(1, requires_grad=True)]).param_groups[0]
    assert [group[k] for k in ("lr", "momentum", "nesterov", "weight_decay")] == [0.025, 0.9, True, 5e-4]


def test_an_optimizer_of_your_own_is_made_of_the_weights():
    weights = [torch.ones(1, requires_grad=True)]
    made = Recipe(epochs=1, optimizer=lambda given: torch.optim.Adam(given, lr=3e-4)).make(weights)
    assert isinstance(made, torch.optim.Adam) and made.param_groups[0]["params"] == weights


@pytest.mark.parametrize(("name", "value"), [("epochs", 0), ("num_eval_batches", 0), ("num_calibration", 0),
                                             ("clip", 0.0), ("collapse", 0.0)])  # fmt: skip
def test_a_number_out_of_its_range_is_refused(name, value):
    with pytest.raises(SettingError, match=f"one_shot.{name}"):
        Recipe(**{"epochs": 1, name: value})


def test_an_unknown_rule_for_norms_is_refused():
    with pytest.raises(SettingError) as caught:
        Recipe(epochs=1, norm="batch")
    assert str(caught.value) == (
        "cannot use a setting\n"
        "  at:       one_shot.norm\n"
        "  got:      'batch' (str)\n"
        "  expected: None or one of any, batch_no_affine, batch_affine, recalibrate\n"
        "  fix:      leave it out: the algorithm says what it needs"
    )


@pytest.mark.parametrize(
    ("name", "value", "fix"),
    [
        ("loss", "cross_entropy", "pass loss=lambda child, batch: F.cross_entropy(child(batch[0]), batch[1])"),
        ("metric", "accuracy", "leave it out for accuracy, or pass metric=lambda child, batch: ..., larger is better"),
        ("optimizer", "adam", "pass optimizer=lambda weights: torch.optim.SGD(weights, lr=0.1)"),
        (
            "schedule",
            0.5,
            "pass the factor of the step size by what is done: schedule=lambda done: 1.0 - done",
        ),
    ],
)
def test_what_is_called_must_be_a_function(name, value, fix):
    with pytest.raises(SettingError) as error:
        Recipe(epochs=1, **{name: value})
    assert str(error.value) == (
        f"cannot use a setting\n  at:       one_shot.{name}\n  got:      {value!r} ({type(value).__name__})\n"
        f"  expected: a function\n  fix:      {fix}"
    )
