"""The space of SPOS and DSNAS: at each of twenty places one of four blocks, and the architectures they found.

Blocks have the numbers of the released code of SPOS: 0, 1, 2 are `ShuffleBlock` with kernel sizes 3, 5, 7, and 3 is
`XceptionBlock`. Sources as in `networks.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mutandis.errors import SettingError
from mutandis.hyper import oneof
from mutandis.models.shufflenet.networks import KERNEL_SIZES, ShuffleBlock, ShuffleNetV2, XceptionBlock

STAGES = ((64, 4), (160, 4), (320, 8), (640, 4))
"""The channels and the number of blocks of each stage, as published; each stage begins by halving the image."""

SPOS_BLOCKS = (2, 1, 0, 1, 2, 0, 2, 0, 2, 0, 2, 3, 0, 0, 0, 0, 3, 2, 3, 3)
"""What SPOS found: 323M multiply-accumulates at 224 x 224, 3.5M parameters, by the table of its repository."""

DSNAS_BLOCKS = (0, 0, 3, 0, 3, 2, 0, 0, 3, 3, 2, 3, 3, 3, 2, 0, 0, 3, 3, 0)
"""What DSNAS found, by the configuration of its released evaluation."""

_NUM_BLOCKS = len(KERNEL_SIZES) + 1


def block_candidates(channels: int, out_channels: int, stride: int) -> list[Any]:
    """Returns the four blocks of a place, by their numbers."""
    made: list[Any] = [ShuffleBlock(channels, out_channels, size, stride) for size in KERNEL_SIZES]
    return [*made, XceptionBlock(channels, out_channels, stride)]


def shufflenet(
    numbers: Sequence[int],
    *,
    stages: Sequence[tuple[int, int]] = STAGES,
    num_classes: int = 1000,
    in_channels: int = 3,
    stem_channels: int = 16,
    last_channels: int = 1024,
    stem_stride: int = 2,
    dropout: float = 0.1,
) -> ShuffleNetV2:
    """Returns the network with certain blocks.

        shufflenet(SPOS_BLOCKS)

    Args:
        numbers: The number of the block at each place, in [0, 4).
        stages: Channels and number of blocks of each stage.
        num_classes: As for the network, like all that follow.
        in_channels: As above.
        stem_channels: As above.
        last_channels: As above.
        stem_stride: As above.
        dropout: As above.

    Raises:
        SettingError: there is not one number in [0, 4) for each place.
    """
    count = sum(repeats for _, repeats in stages)
    if len(numbers) != count or not all(0 <= number < _NUM_BLOCKS for number in numbers):
        raise SettingError("cannot build a ShuffleNetV2", at="numbers", got=list(numbers),
                           expected=f"{count} numbers in [0, {_NUM_BLOCKS})",
                           fix="give the number of the block at each place: 0, 1, 2 for kernel sizes 3, 5, 7, and 3 "
                           "for the Xception-like one")  # fmt: skip
    blocks = [place[number] for place, number in zip(_places(stages, stem_channels), numbers, strict=True)]
    return ShuffleNetV2(
        blocks, stages[-1][0], num_classes, in_channels, stem_channels, last_channels, stem_stride, dropout
    )


def shufflenet_program(
    *,
    stages: Sequence[tuple[int, int]] = STAGES,
    num_classes: int = 1000,
    in_channels: int = 3,
    stem_channels: int = 16,
    last_channels: int = 1024,
    stem_stride: int = 2,
    dropout: float = 0.1,
) -> Any:
    """Returns the space: an abstract `ShuffleNetV2` that chooses one of four blocks at each place.

    With the published stages there are 4^20 networks, and the numbers of a DNA are those of `shufflenet`.

    Args:
        stages: As for `shufflenet`, like all that follow.
        num_classes: As above.
        in_channels: As above.
        stem_channels: As above.
        last_channels: As above.
        stem_stride: As above.
        dropout: As above.
    """
    places = [
        oneof(candidates, name=f"block {index}", hints="operation")
        for index, candidates in enumerate(_places(stages, stem_channels))
    ]
    return ShuffleNetV2(
        places, stages[-1][0], num_classes, in_channels, stem_channels, last_channels, stem_stride, dropout
    )


def _places(stages: Sequence[tuple[int, int]], channels: int) -> list[list[Any]]:
    """Returns the candidates of each place."""
    made = []
    for out_channels, repeats in stages:
        for index in range(repeats):
            made.append(block_candidates(channels, out_channels, 2 if index == 0 else 1))
            channels = out_channels
    return made


__all__ = ["DSNAS_BLOCKS", "SPOS_BLOCKS", "STAGES", "block_candidates", "shufflenet", "shufflenet_program"]
