"""Relaxation by Gumbel noise: one hard candidate (GDAS), or a soft draw of all (SNAS).

GDAS: Dong, Yang: Searching for a Robust Neural Architecture in Four GPU Hours, CVPR 2019, arXiv 1910.04465, eq. (3)
to (7). SNAS: Xie, Zheng, Liu, Lin: SNAS: Stochastic Neural Architecture Search, ICLR 2019, arXiv 1812.09926, eq. (5)
to (9).

*Notation*: A = logits, g = Gumbel noise, tau (GDAS), lambda (SNAS) = temperature,

    GDAS  s = softmax((log softmax(A) + g) / tau),  k = argmax s,  h = onehot(k) - stop(s) + s,  m = h_k o_k
    SNAS  Z = softmax((A + g) / lambda),  m = sum of Z_k o_k,  where A = log alpha.

Normalisation does not change s, so that both draw from one distribution. The winner k does not depend on tau, only
the gradient does.

*Warning*: with the published gradient GDAS fails where an operation can scale its own output (a norm with affine
parameters, or a bias-free layer without norm after it): the signal h_k sees is then <dL/do_k, o_k> = w dL/dw, which
training the weights drives to 0. Hence `norm="batch_no_affine"`; `form="all"` is not affected.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from mutandis.algorithms.base import need_number, need_one_of, settings
from mutandis.algorithms.oneshot.derive import TopEdges, derivation, need_cells
from mutandis.algorithms.oneshot.engine import PolicySearch, PolicySettings, Rule, View, need_relaxable
from mutandis.algorithms.oneshot.protocol import Cost, Needs, OneShot, SharedSearch
from mutandis.algorithms.oneshot.selections import Index, Mixture, Selection, Selections, Subset
from mutandis.algorithms.oneshot.tables.parts import Part
from mutandis.algorithms.oneshot.tables.relaxations import (
    ANNEALINGS,
    annealed,
    soft_sample,
    straight_through,
    top_picks,
)
from mutandis.hyper import SearchSpace

FORMS = ("selected", "autodl", "all")


class Annealed(Protocol):
    """Settings of an algorithm whose temperature falls along the run."""

    @property
    def temperature(self) -> float:
        """At the start."""
        ...

    @property
    def final_temperature(self) -> float:
        """At the end."""
        ...

    @property
    def annealing(self) -> str:
        """How it falls."""
        ...


def annealing_of(algorithm: Annealed) -> Callable[[float], float]:
    """Returns the temperature of an algorithm by the fraction of its run.

    Raises:
        SettingError: a number is out of its range, or a word unknown.
    """
    name, first, last, shape = (type(algorithm).__name__, algorithm.temperature, algorithm.final_temperature,
                                algorithm.annealing)  # fmt: skip
    need_one_of(f"{name}.annealing", shape, ANNEALINGS)
    need_number(f"{name}.temperature", first, above=0.0)
    need_number(f"{name}.final_temperature", last, above=0.0)
    return lambda fraction: annealed(first, last, fraction, shape)


@settings
class GDAS(OneShot):
    """Runs one drawn candidate per decision, with a gradient as if it had been a soft draw.

    Args:
        form: Which candidates the gradient sees: `selected`, as published; `autodl`, as the reference code has it,
            where the others add the number 0 with a gradient; `all`, where all candidates run.
        temperature: tau at the start.
        final_temperature: tau at the end.
        annealing: `linear`, `cosine` or `exponential`, along the run.
        learning_rate: Of Adam for the logits.
        beta1: Of Adam.
        weight_decay: Of Adam, on the logits.
        init_std: The logits start normal with this deviation.
        cells: Keeps the best edges of each node instead of the most likely candidate everywhere.

    Raises:
        SettingError: a number is out of its range, or a word unknown.
    """

    form: str = "selected"
    temperature: float = 10.0
    final_temperature: float = 0.1
    annealing: str = "linear"
    learning_rate: float = 3e-4
    beta1: float = 0.5
    weight_decay: float = 1e-3
    init_std: float = 1e-3
    cells: TopEdges | None = None

    def __post_init__(self) -> None:
        need_one_of("GDAS.form", self.form, FORMS)
        annealing_of(self)
        PolicySettings.of(self)
        need_cells(self.cells, type(self).__name__)

    def start_shared(self, space: SearchSpace, *, seed: int, cost: Cost | None = None) -> SharedSearch:
        """Begins a run with a nearly uniform policy.

        Raises:
            SettingError: the space is open-ended, or a range has steps.
        """
        need_relaxable("GDAS", space, picks=True)
        is_all = self.form == "all"
        rule = Rule(
            name="GDAS",
            needs=Needs(norm="any" if is_all else "batch_no_affine", selection="mixture" if is_all else "subset"),
            weights=_hard_path,
            policy=self._draw,
            temperature=annealing_of(self),
            derive=derivation(self.cells),
        )
        return PolicySearch(rule, space, seed, PolicySettings.of(self))

    def _draw(self, view: View) -> Selections:
        def choose(part: Part, logits: Tensor) -> Selection:
            soft = soft_sample(logits, view.noise.gumbel(len(logits)), view.temperature)
            k = top_picks(soft, 1)[0]
            hard = straight_through(soft, k)
            if self.form == "all":
                return Mixture(hard)
            offset = hard.sum() - hard[k] if self.form == "autodl" else None
            return Subset((k,), hard[k : k + 1], offset)

        return view.select(choose)


@settings
class SNAS(OneShot):
    """Runs all candidates with the weights of a soft draw; weights and policy learn from one training loss.

    Args:
        temperature: lambda at the start.
        final_temperature: lambda at the end.
        annealing: `linear`, `cosine` or `exponential`, along the run.
        learning_rate: Of Adam for the logits.
        beta1: Of Adam.
        weight_decay: Of Adam, on the logits.
        init_std: The logits start normal with this deviation.
        cells: Keeps the best edges of each node instead of the most likely candidate everywhere.

    Raises:
        SettingError: a number is out of its range, or a word unknown.
    """

    temperature: float = 1.0
    final_temperature: float = 0.03
    annealing: str = "linear"
    learning_rate: float = 3e-4
    beta1: float = 0.5
    weight_decay: float = 1e-3
    init_std: float = 1e-2
    cells: TopEdges | None = None

    def __post_init__(self) -> None:
        annealing_of(self)
        PolicySettings.of(self)
        need_cells(self.cells, type(self).__name__)

    def start_shared(self, space: SearchSpace, *, seed: int, cost: Cost | None = None) -> SharedSearch:
        """Begins a run with a nearly uniform policy.

        Raises:
            SettingError: the space is open-ended, or a range has steps.
        """
        need_relaxable("SNAS", space, picks=True)
        rule = Rule(
            name="SNAS",
            needs=Needs(data="train", is_one_pass=True),
            weights=soft_draw,
            policy=soft_draw,
            temperature=annealing_of(self),
            derive=derivation(self.cells),
        )
        return PolicySearch(rule, space, seed, PolicySettings.of(self))


def soft_draw(view: View) -> Selections:
    """Returns mixtures whose weights are a draw of the concrete distribution."""
    return view.select(lambda part, logits: Mixture(
        soft_sample(logits, view.noise.gumbel(len(logits)), view.temperature)
    ))  # fmt: skip


def _hard_path(view: View) -> Selections:
    """Returns the candidates with the largest A + g."""

    def choose(part: Part, logits: Tensor) -> Selection:
        keys = torch.log_softmax(logits, 0) + view.noise.gumbel(len(logits))
        return Index(top_picks(keys, 1)[0])

    return view.select(choose)


__all__ = ["GDAS", "SNAS", "annealing_of", "soft_draw"]
