"""Knowledge distillation: known answers, gradients, and the loss in a search."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import mutandis as mu
from mutandis.errors import SettingError
from mutandis.flows import Distillation, distillation_loss

Z = torch.tensor([[2.0, 0.0, -1.0]], dtype=torch.float64)
TEACHER = torch.tensor([[1.0, 0.5, -2.0]], dtype=torch.float64)
LABEL = torch.tensor([0])


def batch(size=5, classes=4, seed=0):
    made = torch.Generator().manual_seed(seed)
    logits, teacher = torch.randn(2, size, classes, generator=made, dtype=torch.float64)
    return logits.requires_grad_(), torch.randint(0, classes, (size,), generator=made), teacher.requires_grad_()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"label_weight": 1.0}, 0.1698460196),  # The cross-entropy alone.
        ({"label_weight": 0.0}, 1.0696590078),  # TAS eq. (8) alone.
        ({}, 0.2598273184),  # TAS eq. (9), with the paper's settings.
        ({"label_weight": 0.1, "form": "kl"}, 0.2457711463),  # The released code.
    ],
)
def test_the_loss_has_its_known_value(settings, expected):
    assert distillation_loss(Z, LABEL, TEACHER, **settings).item() == pytest.approx(expected, abs=1e-10)


def test_the_loss_is_the_mean_over_the_batch():
    logits, labels, teacher = batch()
    one_by_one = [distillation_loss(logits[i : i + 1], labels[i : i + 1], teacher[i : i + 1]) for i in range(5)]
    assert torch.allclose(distillation_loss(logits, labels, teacher), torch.stack(one_by_one).mean())


def test_both_forms_pull_alike_but_for_their_scale():
    logits, labels, teacher = batch()
    pulls = []
    for form in ("match", "kl"):
        loss = distillation_loss(logits, labels, teacher, label_weight=0.0, temperature=3.0, form=form)
        pulls.append(torch.autograd.grad(loss, logits)[0])
    assert torch.allclose(9.0 * pulls[0], pulls[1])


@pytest.mark.parametrize("form", ["match", "kl"])
def test_the_gradient_is_that_of_finite_differences(form):
    logits, labels, teacher = batch()
    settings = {"label_weight": 0.3, "temperature": 2.0, "form": form}
    assert torch.autograd.gradcheck(lambda z: distillation_loss(z, labels, teacher, **settings), (logits,))


def test_nothing_is_pulled_where_child_and_teacher_agree():
    logits, labels, _ = batch()
    loss = distillation_loss(logits, labels, logits, label_weight=0.0, form="kl")
    assert loss.item() == pytest.approx(0.0, abs=1e-12)
    assert torch.autograd.grad(loss, logits)[0].abs().max() < 1e-12


def test_no_gradient_reaches_the_teacher():
    logits, labels, teacher = batch()
    distillation_loss(logits, labels, teacher).backward()
    assert logits.grad is not None
    assert teacher.grad is None


def test_labels_may_be_probabilities():
    logits, labels, teacher = batch()
    soft = F.one_hot(labels, 4).double()
    assert torch.allclose(distillation_loss(logits, soft, teacher), distillation_loss(logits, labels, teacher))


def test_soft_labels_of_once_for_all_are_two_cross_entropies():
    logits, labels, teacher = batch()
    expected = F.cross_entropy(logits, labels) - (teacher.softmax(1) * logits.log_softmax(1)).sum(1).mean()
    found = 2 * distillation_loss(logits, labels, teacher, label_weight=0.5, temperature=1.0)
    assert torch.allclose(found, expected)


def test_a_teacher_of_less_precision_is_fine():
    logits, labels, teacher = batch()
    assert distillation_loss(logits, labels, teacher.float()).dtype == torch.float64


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"label_weight": 1.5}, "distillation_loss.label_weight"),
        ({"label_weight": math.nan}, "distillation_loss.label_weight"),
        ({"temperature": 0.0}, "distillation_loss.temperature"),
        ({"form": "mse"}, "distillation_loss.form"),
    ],
)
def test_a_setting_out_of_range_is_refused(settings, message):
    with pytest.raises(SettingError, match=message):
        distillation_loss(Z, LABEL, TEACHER, **settings)
    with pytest.raises(SettingError, match=message.replace("distillation_loss", "Distillation")):
        Distillation(nn.Linear(2, 2), **settings)


def test_logits_of_other_classes_are_refused():
    with pytest.raises(SettingError) as error:
        distillation_loss(Z, LABEL, torch.zeros(1, 4))
    assert str(error.value) == (
        "cannot distill a network\n"
        "  at:       distillation_loss.teacher_logits\n"
        "  got:      (1, 4) (tuple)\n"
        "  expected: logits [B, K], as the child's (1, 3)\n"
        "  fix:      let the teacher and the child see the same batch and the same classes"
    )


def test_a_teacher_that_is_no_module_is_refused():
    with pytest.raises(SettingError) as error:
        Distillation(None)
    assert str(error.value) == (
        "cannot use a setting\n"
        "  at:       Distillation.teacher\n"
        "  got:      None (NoneType)\n"
        "  expected: a trained nn.Module\n"
        "  fix:      pass the unpruned network"
    )


def teacher_and_child():
    torch.manual_seed(0)
    layers = [nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2)) for _ in range(2)]
    return layers[0], layers[1]


def test_the_teacher_runs_in_evaluation_and_stays_as_it_is():
    teacher, child = teacher_and_child()
    teacher[2].eval()  # Modes are put back one by one.
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    x, y = torch.randn(6, 3), torch.zeros(6, dtype=torch.int64)
    loss = Distillation(teacher)(child, (x, y))
    loss.backward()
    assert [module.training for module in teacher.modules()] == [True, True, True, False, True]
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert all(p.grad is None for p in teacher.parameters())
    assert all(p.grad is not None for p in child.parameters())
    assert not Distillation(teacher).teach(x).requires_grad
    teacher.eval()
    torch.manual_seed(1)
    found = Distillation(teacher, 0.7, 2.0, "kl")(child, (x, y))
    torch.manual_seed(1)
    assert torch.equal(found, distillation_loss(child(x), y, teacher(x), label_weight=0.7, temperature=2.0, form="kl"))


def test_a_teacher_that_fails_gets_its_mode_back():
    teacher, child = teacher_and_child()
    with pytest.raises(RuntimeError):
        Distillation(teacher).teach(torch.zeros(6, 5))
    assert teacher.training
    assert child.training


def test_shared_weights_learn_from_a_teacher():
    program = mu.nn.Sequential(mu.nn.Linear(3, 4), mu.oneof([mu.nn.ReLU(), mu.nn.Tanh()]), mu.nn.Linear(4, 2))
    shared = mu.share_weights(program, seed=0)
    torch.manual_seed(0)
    teacher = nn.Linear(3, 2)
    nn.init.normal_(teacher.weight, 0.0, 2.0)
    made = torch.Generator().manual_seed(0)
    batches = [(torch.randn(8, 3, generator=made), torch.randint(0, 2, (8,), generator=made)) for _ in range(2)]
    calls = []

    class Counted(nn.Module):
        def forward(self, x):
            calls.append(len(x))
            return teacher(x)

    loss = Distillation(Counted(), label_weight=0.0, temperature=1.0, form="kl")
    result = mu.one_shot(shared, mu.algorithms.RSPS(num_candidates=2), train=batches, valid=batches, epochs=30,
                         loss=loss, progress=False)  # fmt: skip
    assert set(calls) == {8}
    assert result.history[-1].loss < 0.5 * result.history[0].loss
