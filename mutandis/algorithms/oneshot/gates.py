"""Gates: one candidate runs, times a gate that is 1; the gradient of the gate moves the policy.

DSNAS: Hu, Xie, Zheng, Liu, Shi, Liu, Lin: DSNAS: Direct Neural Architecture Search without Parameter Retraining, CVPR
2020, arXiv 2002.09128, eq. (6) to (9). ProxylessNAS: Cai, Zhu, Han: ICLR 2019, arXiv 1812.00332, Sec. 3.2, eq. (3),
(4), and its two-path form.

*Notation*: A = logits, p = softmax(A), k = the drawn candidate, g = gates (one-hot at k), R = dL/dg_k,

    DSNAS         dA = R d log p_k / dA;                             L on the training data, as for the weights
    ProxylessNAS  dA_i = sum over j of dL/dg_j p_j (1[i = j] - p_i)
    two paths     the same among two drawn candidates; p is then a softmax over these two, and afterwards both logits
                  are shifted so that the two together are as likely as before.

*Warning*: R carries no information where a candidate can scale its own output, since w dL/dw vanishes as the weights
converge (see gumbel.py); a long warm-up of the weights makes that worse. DSNAS has affine norms because it never
retrains. A baseline is none of the published method.

*Departures*: continuous ranges take a value that moves by its gradient. Several picks are refused, for a gate
multiplies the output of a module.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mutandis.algorithms.base import need_int, settings
from mutandis.algorithms.oneshot.engine import (
    Gradients,
    PolicySearch,
    PolicySettings,
    Rule,
    View,
    Waiting,
    gradients_by,
    need_one_of,
    need_relaxable,
)
from mutandis.algorithms.oneshot.protocol import Cost, Needs, OneShot, SharedSearch
from mutandis.algorithms.oneshot.selections import Gate, Index, Selection, Selections
from mutandis.algorithms.oneshot.tables.parts import Part
from mutandis.hyper import SearchSpace


@settings
class DSNAS(OneShot):
    """Draws one candidate per decision; weights and policy learn from one pass, and nothing is trained again.

    Args:
        learning_rate: Of Adam for the logits.
        beta1: Of Adam.
        weight_decay: Of Adam, on the logits.
        init_std: The logits start normal with this deviation.

    Raises:
        SettingError: a number is out of its range.
    """

    learning_rate: float = 1e-3
    beta1: float = 0.5
    weight_decay: float = 0.0
    init_std: float = 1e-3

    def __post_init__(self) -> None:
        self._policy()

    def _policy(self) -> PolicySettings:
        return PolicySettings(learning_rate=self.learning_rate, beta1=self.beta1, weight_decay=self.weight_decay,
                              init_std=self.init_std).check("DSNAS")  # fmt: skip

    def start_shared(self, space: SearchSpace, *, seed: int, cost: Cost | None = None) -> SharedSearch:
        """Begins a run with a nearly uniform policy.

        Raises:
            SettingError: a decision is neither a choice nor a continuous range.
        """
        need_relaxable("DSNAS", space, picks=False)
        rule = Rule(
            name="DSNAS",
            needs=Needs(data="train", is_one_pass=True, norm="batch_affine", selection="gate"),
            weights=_path,
            policy=lambda view: view.select(lambda part, logits: _gate(view, logits, ())),
            gradients=_score_gradients,
        )
        return PolicySearch(rule, space, seed, self._policy())


@settings
class ProxylessNAS(OneShot):
    """Draws one candidate per decision, and asks the gates of others what they would have changed.

    Args:
        paths: `all`, where every candidate is probed, or `two`, where one other is.
        every: A policy step is due after so many weight steps.
        learning_rate: Of Adam for the logits.
        beta1: Of Adam.
        weight_decay: Of Adam, on the logits.
        init_std: The logits start normal with this deviation.

    Raises:
        SettingError: a number is out of its range, or a word unknown.
    """

    paths: str = "two"
    every: int = 5
    learning_rate: float = 1e-3
    beta1: float = 0.0
    weight_decay: float = 0.0
    init_std: float = 1e-3

    def __post_init__(self) -> None:
        need_one_of("ProxylessNAS.paths", self.paths, ("two", "all"))
        need_int("ProxylessNAS.every", self.every, 1)
        self._policy()

    def _policy(self) -> PolicySettings:
        return PolicySettings(learning_rate=self.learning_rate, beta1=self.beta1, weight_decay=self.weight_decay,
                              init_std=self.init_std).check("ProxylessNAS")  # fmt: skip

    def start_shared(self, space: SearchSpace, *, seed: int, cost: Cost | None = None) -> SharedSearch:
        """Begins a run with a nearly uniform policy.

        Raises:
            SettingError: a decision is neither a choice nor a continuous range.
        """
        need_relaxable("ProxylessNAS", space, picks=False)
        is_two = self.paths == "two"
        rule = Rule(
            name="ProxylessNAS",
            needs=Needs(selection="gate", probes=True, every=self.every),
            weights=_path,
            policy=_two_paths if is_two else _all_paths,
            gradients=_probe_gradients,
            moved=_keep_share if is_two else None,
        )
        return PolicySearch(rule, space, seed, self._policy())


def _path(view: View) -> Selections:
    return view.select(lambda part, logits: Index(view.noise.option(torch.softmax(logits, 0).tolist())))


def _gate(view: View, logits: Tensor, probe: tuple[int, ...], index: int | None = None) -> Selection:
    """Returns a gate on a drawn candidate."""
    k = view.noise.option(torch.softmax(logits.detach(), 0).tolist()) if index is None else index
    gate = torch.zeros(len(logits), dtype=torch.float64)
    gate[k] = 1.0
    return Gate(k, gate.requires_grad_(), tuple(i for i in probe if i != k))


def _all_paths(view: View) -> Selections:
    return view.select(lambda part, logits: _gate(view, logits, tuple(range(len(logits)))))


def _two_paths(view: View) -> Selections:
    """Draws two candidates without replacement, and one of them to run."""

    def choose(part: Part, logits: Tensor) -> Selection:
        if len(logits) == 1:
            return _gate(view, logits, ())
        pair = view.noise.distinct(torch.softmax(logits.detach(), 0).tolist(), 2)
        first = view.noise.option(torch.softmax(logits.detach()[list(pair)], 0).tolist())
        return _gate(view, logits, pair, pair[first])

    return view.select(choose)


def _gate_gradients(waiting: Waiting, loss: Tensor, keep_graph: bool) -> tuple[dict[int, Tensor], Gradients]:
    """Returns the gradients of the gates by decision, and of the tables that the loss depends on smoothly."""
    gates = {i: s.gate for i, s in waiting.selections.items() if isinstance(s, Gate)}
    tables = list(waiting.view.tables)
    found = gradients_by(loss, [*gates.values(), *tables], keep_graph=keep_graph)
    by_gate = {i: slope for i, slope in zip(gates, found[: len(gates)], strict=True) if slope is not None}
    return by_gate, found[len(gates) :]


def _score_gradients(waiting: Waiting, loss: Tensor, *, keep_graph: bool) -> Gradients:
    """Returns R d log p_k / dA."""
    by_gate, made = _gate_gradients(waiting, loss, keep_graph)
    for index, slope in by_gate.items():
        table = waiting.view.policy.parts[index].tables[0]
        k = waiting.selections[index].runs[0]
        made[table] = slope[k] * (_one_hot(k, len(slope)) - torch.softmax(waiting.view.tables[table].detach(), 0))
    return made


def _probe_gradients(waiting: Waiting, loss: Tensor, *, keep_graph: bool) -> Gradients:
    """Returns the sum over probed j of dL/dg_j p_j (1[i = j] - p_i), p among the candidates that ran."""
    by_gate, made = _gate_gradients(waiting, loss, keep_graph)
    for index, slope in by_gate.items():
        table = waiting.view.policy.parts[index].tables[0]
        made[table] = gate_slopes(waiting.view.tables[table].detach(), slope, waiting.selections[index].runs)
    return made


def gate_slopes(logits: Tensor, slope: Tensor, involved: tuple[int, ...]) -> Tensor:
    """Returns the gradient of the logits from that of the gates (eq. (4)), 0 for candidates that are not involved.

    Args:
        logits: `[n]`.
        slope: `[n]`, dL/dg.
        involved: The candidates that ran or were probed.
    """
    rows = list(involved)
    p = torch.softmax(logits[rows], 0)
    made = torch.zeros_like(logits)
    made[rows] = p * (slope[rows] - (p * slope[rows]).sum())
    return made


def shift_back(table: Tensor, before: Tensor, involved: tuple[int, ...]) -> None:
    """Shifts the logits of involved candidates in place, so that together they are as likely as before."""
    rows = list(involved)
    table[rows] -= torch.logsumexp(table[rows], 0) - torch.logsumexp(before[rows], 0)


def _keep_share(waiting: Waiting, before: list[Tensor]) -> None:
    for index, selection in waiting.selections.items():
        if isinstance(selection, Gate):
            table = waiting.view.policy.parts[index].tables[0]
            shift_back(waiting.view.policy.tables[table], before[table], selection.runs)


def _one_hot(index: int, length: int) -> Tensor:
    made = torch.zeros(length, dtype=torch.float64)
    made[index] = 1.0
    return made


__all__ = ["DSNAS", "ProxylessNAS", "gate_slopes", "shift_back"]
