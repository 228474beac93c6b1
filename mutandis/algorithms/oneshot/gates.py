"""Gates: one candidate runs, times a gate that is 1; the gradient of the gate moves the policy.

DSNAS: Hu, Xie, Zheng, Liu, Shi, Liu, Lin: DSNAS: Direct Neural Architecture Search without Parameter Retraining, CVPR
2020, arXiv 2002.09128, eq. (6) to (9). ProxylessNAS: Cai, Zhu, Han: ICLR 2019, arXiv 1812.00332, Sec. 3.2, eq. (3),
(4), and its two-path form.

*Notation*: A = logits, p = softmax(A), k = the drawn candidate, g = gates (one-hot at k), R = dL/dg_k,

    DSNAS         dA = R d log p_k / dA;                             L on the training data, as for the weights
    ProxylessNAS  dA_i = sum over j of dL/dg_j p_j (1[i = j] - p_i)
    two paths     the same among two drawn candidates; p is then a softmax over these two, and afterwards both logits
                  are shifted so that the two together are as likely as before.
    by rewards    dA = -(1/M) sum over M = `batch_size` paths of (r - b) d log p / dA, r = Q (c0 / c)^w for a path of
                  quality Q and cost c, c0 = `target`, w = `tradeoff`; b <- b + u (mean r - b), from the first mean on,
                  u = `baseline_rate`: Sec. 3.3.2 (w = 0.07) and the reference code (w = 0.1), where u = 0.99, so
                  that b is nearly the mean of the last M.

With h = `early_fix`, DSNAS settles a decision once its likeliest candidate leads by h in probability: from then on that
one runs alone, and its logits rest (progressive early stop; 0.3 in the reference code).

With c0 = `limit` and a `TableCost` c, dA gains w c_k dp_k / dA, w = `cost_weight`, in draws that cost c0 or more, as in
the reference code (c in millions of operations, c0 = 290, w = 1e-6).

*Warning*: R carries no information where a candidate can scale its own output, since w dL/dw vanishes as the weights
converge (see gumbel.py); a long warm-up of the weights makes that worse. DSNAS has affine norms because it never
retrains. A baseline is none of the published method.

*Departures*: continuous ranges take a value that moves by its gradient. Several picks are refused, for a gate
multiplies the output of a module.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mutandis.algorithms.base import need_instance, need_int, need_number, need_one_of, settings
from mutandis.algorithms.oneshot.engine import PolicySearch, PolicySettings, Rule, View, Waiting, need_relaxable
from mutandis.algorithms.oneshot.protocol import Cost, Needs, OneShot, SharedSearch
from mutandis.algorithms.oneshot.resources import TableCost
from mutandis.algorithms.oneshot.rewards import RewardRule, RewardSearch
from mutandis.algorithms.oneshot.selections import Gate, Index, Selection, Selections
from mutandis.algorithms.oneshot.tables.gradients import Gradients, gradients_by
from mutandis.algorithms.oneshot.tables.parts import Part
from mutandis.errors import SettingError
from mutandis.hyper import SearchSpace

RULES = ("gradient", "reinforce")


@settings
class DSNAS(OneShot):
    """Draws one candidate per decision; weights and policy learn from one pass, and nothing is trained again.

    Args:
        early_fix: h, in (0, 1]: by how much the likeliest candidate must lead to be settled; None for never.
        limit: c0, in units of the cost; None where costs do not count.
        cost_weight: w >= 0.
        delay: Fraction of the run in which the policy rests.
        learning_rate: Of Adam for the logits.
        beta1: Of Adam.
        weight_decay: Of Adam, on the logits.
        init_std: The logits start normal with this deviation.

    Raises:
        SettingError: a number is out of its range.
    """

    early_fix: float | None = None
    limit: float | None = None
    cost_weight: float = 1e-6
    delay: float = 0.0
    learning_rate: float = 1e-3
    beta1: float = 0.5
    weight_decay: float = 0.0
    init_std: float = 1e-3

    def __post_init__(self) -> None:
        if self.early_fix is not None:
            need_number("DSNAS.early_fix", self.early_fix, above=0.0, high=1.0)
        if self.limit is not None:
            need_number("DSNAS.limit", self.limit, above=0.0)
        need_number("DSNAS.cost_weight", self.cost_weight, low=0.0)
        need_number("DSNAS.delay", self.delay, low=0.0, below=1.0)
        PolicySettings.of(self)

    @property
    def weighs_cost(self) -> bool:
        """Whether the `cost` of `start_shared` changes anything."""
        return self.limit is not None

    def start_shared(self, space: SearchSpace, *, seed: int, cost: Cost | None = None) -> SharedSearch:
        """Begins a run with a nearly uniform policy.

        Raises:
            SettingError: a decision is neither a choice nor a continuous range, or there is a limit without a table of
                costs.
        """
        need_relaxable("DSNAS", space, picks=False)
        rule = Rule(
            name="DSNAS",
            needs=Needs(data="train", is_one_pass=True, norm="batch_affine", selection="gate"),
            weights=self._path,
            policy=self._gates,
            gradients=_score_gradients if self.limit is None else self._limited(space, cost),
            delay=self.delay,
            is_settled=lambda table: self._settled(table) is not None,
        )
        return PolicySearch(rule, space, seed, PolicySettings.of(self))

    def _limited(self, space: SearchSpace, cost: Cost | None) -> Callable[..., Gradients]:
        """Returns what adds the slope of the costs to the gradients of draws that cost too much."""
        need_instance("one_shot.cost", cost, TableCost, 'cost=TableCost({"op": [1.0, 2.0]}) with DSNAS(limit=...)')
        assert isinstance(cost, TableCost)
        rows, limit = cost.rows(space), float(self.limit or 0.0)

        def gradients(waiting: Waiting, loss: Tensor, *, keep_graph: bool) -> Gradients:
            made = _score_gradients(waiting, loss, keep_graph=keep_graph)
            drawn = {i: waiting.selections[i].runs[0] for i in rows if i in waiting.selections}
            if cost.base + sum(rows[i][k] for i, k in drawn.items()) < limit:
                return made
            for index, k in drawn.items():
                table = waiting.view.policy.parts[index].tables[0]
                p = torch.softmax(waiting.view.tables[table].detach(), 0)
                slope = self.cost_weight * rows[index][k] * p[k] * (_one_hot(k, len(p)) - p)
                own = made[table]
                made[table] = slope if own is None else own + slope
            return made

        return gradients

    def _settled(self, logits: Tensor) -> int | None:
        return None if self.early_fix is None else leader(logits, self.early_fix)

    def _path(self, view: View) -> Selections:
        def choose(part: Part, logits: Tensor) -> Selection:
            settled = self._settled(logits)
            return _drawn(view, logits) if settled is None else Index(settled)

        return view.select(choose)

    def _gates(self, view: View) -> Selections:
        def choose(part: Part, logits: Tensor) -> Selection:
            settled = self._settled(logits)
            return _gate(view, logits, ()) if settled is None else Index(settled)

        return view.select(choose)


@settings
class ProxylessNAS(OneShot):
    """Draws one candidate per decision, and asks gates of others what they would have changed; or learns by rewards.

    Args:
        rule: `gradient`, or `reinforce` for a policy that learns from rewards alone, which may weigh any cost. A cost
            in the loss of the former is up to `ResourceConstrained`.
        paths: `all`, where every candidate is probed, or `two`, where one other is (`gradient`).
        every: A policy step is due after so many weight steps.
        delay: Fraction of the run in which the policy rests; published with 40 such epochs before 120 others.
        target: c0 > 0, in units of the cost, for `reinforce`; None where costs do not count.
        tradeoff: w >= 0 (`reinforce`).
        batch_size: M (`reinforce`).
        baseline_rate: u, in (0, 1] (`reinforce`).
        bins: Into how many values a range with more is cut (`reinforce`).
        learning_rate: Of Adam for the logits.
        beta1: Of Adam.
        weight_decay: Of Adam, on the logits.
        init_std: The logits start normal with this deviation.

    Raises:
        SettingError: a number is out of its range, or a word unknown.
    """

    rule: str = "gradient"
    paths: str = "two"
    every: int = 5
    delay: float = 0.0
    target: float | None = None
    tradeoff: float = 0.1
    batch_size: int = 10
    baseline_rate: float = 0.99
    bins: int = 16
    learning_rate: float = 1e-3
    beta1: float = 0.0
    weight_decay: float = 0.0
    init_std: float = 1e-3

    def __post_init__(self) -> None:
        need_one_of("ProxylessNAS.rule", self.rule, RULES)
        need_one_of("ProxylessNAS.paths", self.paths, ("two", "all"))
        for name in ("every", "batch_size", "bins"):
            need_int(f"ProxylessNAS.{name}", getattr(self, name), 1)
        need_number("ProxylessNAS.delay", self.delay, low=0.0, below=1.0)
        need_number("ProxylessNAS.tradeoff", self.tradeoff, low=0.0)
        need_number("ProxylessNAS.baseline_rate", self.baseline_rate, above=0.0, high=1.0)
        if self.target is not None:
            need_number("ProxylessNAS.target", self.target, above=0.0)
            if self.rule != "reinforce":
                raise SettingError("cannot weigh a cost", at="ProxylessNAS.target", got=self.target,
                                   expected="None for rule='gradient', which learns from a loss",
                                   fix="write ResourceConstrained(ProxylessNAS(), cost)")  # fmt: skip
        PolicySettings.of(self)

    @property
    def weighs_cost(self) -> bool:
        """Whether the `cost` of `start_shared` changes anything."""
        return self.rule == "reinforce"

    def start_shared(self, space: SearchSpace, *, seed: int, cost: Cost | None = None) -> SharedSearch:
        """Begins a run with a nearly uniform policy.

        Raises:
            SettingError: a decision is neither a choice nor a continuous range (`gradient`) or is open-ended, or there
                is a target without a cost or the reverse (`reinforce`).
        """
        if self.rule == "reinforce":
            rewarded = RewardRule(name="ProxylessNAS", target=self.target, tradeoff=self.tradeoff,
                                  batch_size=self.batch_size, baseline_rate=self.baseline_rate, every=self.every,
                                  delay=self.delay, bins=self.bins)  # fmt: skip
            return RewardSearch(rewarded, space, seed, PolicySettings.of(self), cost)
        need_relaxable("ProxylessNAS", space, picks=False)
        is_two = self.paths == "two"
        rule = Rule(
            name="ProxylessNAS",
            needs=Needs(selection="gate", probes=True, every=self.every),
            weights=_path,
            policy=_two_paths if is_two else _all_paths,
            gradients=_probe_gradients,
            moved=_keep_share if is_two else None,
            delay=self.delay,
        )
        return PolicySearch(rule, space, seed, PolicySettings.of(self))


def leader(logits: Tensor, lead: float) -> int | None:
    """Returns the likeliest option if it leads by so much in probability, or is the only one; else None."""
    first = int(logits.detach().argmax())
    best, second = [*torch.softmax(logits.detach(), 0).topk(min(2, len(logits))).values.tolist(), 0.0][:2]
    return first if len(logits) == 1 or best - second >= lead else None


def _path(view: View) -> Selections:
    return view.select(lambda part, logits: _drawn(view, logits))


def _drawn(view: View, logits: Tensor) -> Index:
    return Index(view.noise.option(torch.softmax(logits.detach(), 0).tolist()))


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
