"""Knowledge distillation: a found child learns from labels and from the outputs of a larger network.

Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network, 2015, arXiv 1503.02531. Dong, Yang: Network
Pruning via Transformable Architecture Search (TAS), NeurIPS 2019, arXiv 1905.09717, eq. (8) and (9). Cai, Gan, Wang,
Zhang, Han: Once-for-All, ICLR 2020, arXiv 1908.09791, Sec. 3.3.

*Notation*: z = logits of the child, z' = logits of the teacher, y = labels, w = `label_weight`, T = `temperature`,

    CE       cross-entropy of softmax(z) with y
    match    cross-entropy of softmax(z / T) with softmax(z' / T), TAS eq. (8)
    KL       the same less the entropy of softmax(z' / T), which no weight of the child can change

    match    w CE + (1 - w) match                   TAS eq. (9); its w is 0.9 on CIFAR and 0.5 on ImageNet, its T is 4
    kl       w CE + (1 - w) T^2 KL                  Hinton et al.; the code released with TAS, there with w = 0.1

With T^2 the soft part has a gradient as large as the other one; without, it has about a T^2-th of it, so that the two
forms take different w. Soft labels of Once-for-All are `2 * distillation_loss(z, y, z', label_weight=0.5,
temperature=1)`, the teacher being the trained largest network: CE and match with equal weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mutandis.algorithms.base import need_number, need_one_of
from mutandis.errors import SettingError

FORMS = ("match", "kl")


def distillation_loss(
    logits: Tensor,
    labels: Tensor,
    teacher_logits: Tensor,
    *,
    label_weight: float = 0.9,
    temperature: float = 4.0,
    form: str = "match",
) -> Tensor:
    """Returns the mean loss of a batch; see the head of this module.

    Args:
        logits: `[B, K]`, of the child.
        labels: `[B]` integers in [0, K), or `[B, K]` probabilities.
        teacher_logits: `[B, K]`; no gradient reaches the teacher.
        label_weight: w in [0, 1].
        temperature: T > 0.
        form: `match` or `kl`.

    Raises:
        SettingError: a number is out of its range, the word unknown, or the two logits differ in shape.
    """
    need_number("distillation_loss.label_weight", label_weight, low=0.0, high=1.0)
    need_number("distillation_loss.temperature", temperature, above=0.0)
    need_one_of("distillation_loss.form", form, FORMS)
    if logits.shape != teacher_logits.shape or logits.dim() != 2:
        raise SettingError(
            "cannot distill a network",
            at="distillation_loss.teacher_logits",
            got=tuple(teacher_logits.shape),
            expected=f"logits [B, K], as the child's {tuple(logits.shape)}",
            fix="let the teacher and the child see the same batch and the same classes",
        )
    soft = torch.softmax(teacher_logits.detach().to(logits.dtype) / temperature, 1)
    if form == "match":
        taught = F.cross_entropy(logits / temperature, soft)
    else:
        taught = F.kl_div(torch.log_softmax(logits / temperature, 1), soft, reduction="batchmean") * temperature**2
    return label_weight * F.cross_entropy(logits, labels) + (1.0 - label_weight) * taught


@dataclass(frozen=True, eq=False)
class Distillation:
    """The same as a loss of a child on a batch `(x, y)`, for `one_shot(loss=...)` or a loop of your own.

        loss = mu.flows.Distillation(teacher)
        loss(child, (x, y)).backward()

    The teacher runs in evaluation and without gradients; it gets back the mode that it had.

    Args:
        teacher: A trained network of the same classes. For shared weights `shared.export(dna)`, not the live program.
        label_weight: As for `distillation_loss`.
        temperature: As for `distillation_loss`.
        form: As for `distillation_loss`.

    Raises:
        SettingError: the teacher is no module, a number is out of its range, or the word unknown.
    """

    teacher: nn.Module
    label_weight: float = 0.9
    temperature: float = 4.0
    form: str = "match"

    def __post_init__(self) -> None:
        if not isinstance(self.teacher, nn.Module):
            raise SettingError("cannot use a setting", at="Distillation.teacher", got=self.teacher,
                               expected="a trained nn.Module", fix="pass the unpruned network")  # fmt: skip
        need_number("Distillation.label_weight", self.label_weight, low=0.0, high=1.0)
        need_number("Distillation.temperature", self.temperature, above=0.0)
        need_one_of("Distillation.form", self.form, FORMS)

    def __call__(self, child: Any, batch: Any) -> Tensor:
        """Returns the mean loss of the child on a batch of inputs and labels."""
        x, y = batch
        return distillation_loss(child(x), y, self.teach(x), label_weight=self.label_weight,
                                 temperature=self.temperature, form=self.form)  # fmt: skip

    @torch.no_grad()
    def teach(self, x: Tensor) -> Tensor:
        """Returns the logits of the teacher."""
        modes = [(module, module.training) for module in self.teacher.modules()]
        self.teacher.eval()
        try:
            logits: Tensor = self.teacher(x)
        finally:
            for module, mode in modes:
                module.training = mode
        return logits


__all__ = ["FORMS", "Distillation", "distillation_loss"]
