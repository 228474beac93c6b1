"""ShuffleNetV2 with a choice of blocks, the space of SPOS and DSNAS (Guo et al. 2020, arXiv 1904.00420)."""

from __future__ import annotations

from mutandis.models.shufflenet.networks import ShuffleBlock as ShuffleBlock
from mutandis.models.shufflenet.networks import ShuffleNetV2 as ShuffleNetV2
from mutandis.models.shufflenet.networks import XceptionBlock as XceptionBlock
from mutandis.models.shufflenet.spaces import DSNAS_BLOCKS as DSNAS_BLOCKS
from mutandis.models.shufflenet.spaces import SPOS_BLOCKS as SPOS_BLOCKS
from mutandis.models.shufflenet.spaces import STAGES as STAGES
from mutandis.models.shufflenet.spaces import shufflenet as shufflenet
from mutandis.models.shufflenet.spaces import shufflenet_program as shufflenet_program

__all__ = [
    "DSNAS_BLOCKS", "SPOS_BLOCKS", "STAGES", "ShuffleBlock", "ShuffleNetV2", "XceptionBlock", "shufflenet",
    "shufflenet_program",
]  # fmt: skip
