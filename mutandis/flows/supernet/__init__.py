"""Weight sharing: one set of weights for all children of a program, with plain PyTorch left in place."""

from __future__ import annotations

from mutandis.flows.supernet.guard import Guard as Guard
from mutandis.flows.supernet.report import LoweringReport as LoweringReport
from mutandis.flows.supernet.selections import Choice as Choice
from mutandis.flows.supernet.selections import Gate as Gate
from mutandis.flows.supernet.selections import Mixture as Mixture
from mutandis.flows.supernet.selections import Subset as Subset
from mutandis.flows.supernet.shared import Shared as Shared
from mutandis.flows.supernet.sharing import share_weights as share_weights
from mutandis.flows.supernet.tensors.module import SharedModule as SharedModule
from mutandis.flows.supernet.verify import Verification as Verification

__all__ = ["Choice", "Gate", "Guard", "LoweringReport", "Mixture", "Shared", "SharedModule", "Subset", "Verification",
           "share_weights"]  # fmt: skip
