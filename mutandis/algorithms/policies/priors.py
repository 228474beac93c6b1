"""Leanings of a recurrent controller towards some options, whatever it has seen.

Pham, Guan, Zoph, Le, Dean: Efficient Neural Architecture Search via Parameter Sharing, ICML 2018, arXiv 1802.03268, in
its reference code for cells: the logits of operations start with 10 for the first two and 0 for the others, are
squashed to within 1.1 / 2.5 of 0, and then 0.25 is added to the first two and taken from the others for good:

    OptionPrior(operations, start=(10, 10, 0, 0, 0), fixed=(0.25, 0.25, -0.25, -0.25, -0.25), tanh_reduce=2.5)
"""

from __future__ import annotations

from mutandis.algorithms.base import need_instance, need_number, settings
from mutandis.algorithms.sequences import Codec
from mutandis.errors import SettingError
from mutandis.hyper import SearchSpace


@settings
class OptionPrior:
    """What is added to the logits of some decisions.

    Args:
        decisions: Paths or names of the decisions.
        start: What the bias of each option starts at, before temperature and squashing; it is learnt from there. Empty
            for a start at random.
        fixed: Added to the logit of each option after squashing, and never learnt; empty for nothing.
        tanh_reduce: The constant that squashes is divided by this, above 0.

    Raises:
        SettingError: a number is out of its range.
    """

    decisions: tuple[str, ...]
    start: tuple[float, ...] = ()
    fixed: tuple[float, ...] = ()
    tanh_reduce: float = 1.0

    def __post_init__(self) -> None:
        for name in ("start", "fixed"):
            for number in getattr(self, name):
                need_number(f"OptionPrior.{name}", number)
        need_number("OptionPrior.tanh_reduce", self.tanh_reduce, above=0.0)


def need_priors(name: str, priors: object) -> None:
    """Refuses what is no tuple of priors.

    Raises:
        SettingError: it is none.
    """
    for prior in priors if isinstance(priors, tuple) else (priors,):
        need_instance(name, prior, OptionPrior, 'OptionPrior(("op",), fixed=(0.25, -0.25))')


def priors_by_slot(priors: tuple[OptionPrior, ...], space: SearchSpace, codec: Codec) -> dict[int, OptionPrior]:
    """Returns the prior of each slot that has one; of several the last.

    Raises:
        DecisionError: a path is no decision.
        SettingError: a decision has another number of options.
    """
    made: dict[int, OptionPrior] = {}
    for prior in priors:
        points = {space.point(path).index for path in prior.decisions}
        for slot in codec.slots:
            if slot.point.index not in points or slot.role == "count":
                continue
            for numbers in (prior.start, prior.fixed):
                if numbers and len(numbers) != slot.num_options:
                    raise SettingError("cannot lean towards options", at=slot.point.path, got=numbers,
                                       expected=f"{slot.num_options} numbers, one per option",
                                       fix="give one number for each candidate")  # fmt: skip
            made[slot.index] = prior
    return made


__all__ = ["OptionPrior", "need_priors", "priors_by_slot"]
