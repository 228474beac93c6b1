"""What can be searched in a residual network: widths and depths, as TAS prunes them, and what they cost.

Dong, Yang: Network Pruning via Transformable Architecture Search, NeurIPS 2019, arXiv 1905.09717 (TAS).

*Departures*: `widths="stage"` is not in the paper: the layers that a stage's shortcuts add up share one decision, so
that they always fit. Depths are those of the released code, every second one in long stages. Where widths are mixed, a
projection takes part as much as the widths on its sides differ, P(C = D) x + P(C != D) projection(x), and is trained;
the released code adds the leading channels of both sides instead, and gives only the found network its projections.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mutandis.errors import SettingError
from mutandis.hyper import oneof
from mutandis.models.resnet.networks import NUM_STAGES, CifarResNet, check_sizes

RATIOS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""The candidates of TAS, as parts of the width of the unpruned layer."""


def blocks_of(depth: int) -> int:
    """Returns the number of blocks per stage of a network by its name: 3 for ResNet-20.

    Raises:
        SettingError: there is no such network.
    """
    if depth < 8 or (depth - 2) % 6:
        raise SettingError("cannot find a ResNet", at="depth", got=depth, expected="6 n + 2, such as 20, 32, 56 or 110",
                           fix="take the nearest of these")  # fmt: skip
    return (depth - 2) // 6


def full_widths(depth: int = 20, base: int = 16) -> list[int]:
    """Returns the widths of an unpruned network: `base` in the stem and the first stage, then two and four times that.

    Args:
        depth: The number in its name: 20, 32, 56, 110.
        base: He et al.'s is 16.
    """
    return [base] + [base * 2**stage for stage in range(NUM_STAGES) for _ in range(2 * blocks_of(depth))]


def thinned_widths(ratio: float, depth: int = 20, base: int = 16) -> list[int]:
    """Returns the widths of a network in which every layer keeps the same part of its channels, at least one.

    Args:
        ratio: In (0, 1].
        depth: The number in the name of the network.
        base: As for `full_widths`.
    """
    return [max(1, round(width * ratio)) for width in full_widths(depth, base)]


def width_candidates(width: int, ratios: Sequence[float] = RATIOS) -> list[int]:
    """Returns the widths that a layer may have: each ratio of its own, rounded down, without repetitions, growing."""
    return sorted({max(1, int(width * ratio)) for ratio in ratios})


def depth_candidates(num_blocks: int) -> list[int]:
    """Returns how many blocks a stage may have: up to three, any number; above, every second one and all of them."""
    found = list(range(1, num_blocks + 1, 1 if num_blocks <= 3 else 2))
    return found if found[-1] == num_blocks else [*found, num_blocks]


def resnet_program(
    depth: int = 20,
    *,
    widths: str = "layer",
    ratios: Sequence[float] = RATIOS,
    is_depth_searched: bool = True,
    base: int = 16,
    shortcut: str = "projection",
    num_classes: int = 10,
    in_channels: int = 3,
) -> Any:
    """Returns an abstract `CifarResNet` whose widths and depths are to be found.

    Args:
        depth: The number in the name of the unpruned network: 20, 32, 56, 110.
        widths: `layer`: every 3x3 convolution decides its own, as in TAS. `stage`: all outputs of a stage's blocks
            (with the stem in the first) are one decision, and each block decides what is inside it. `none`: as they
            are.
        ratios: Candidates of a width, as parts of the unpruned one.
        is_depth_searched: Whether each stage decides how many blocks it has.
        base: Width of the first stage.
        shortcut: As for the network. `TAS` and `FBNetV2` mix the widths of layers with `projection`, where
            `share_weights` needs `positions="leading"`, and with `always`; with `padding` those of stages alone.
        num_classes: As for the network.
        in_channels: As for the network.

    Raises:
        SettingError: there is no such network, or `widths` is none of these.
    """
    num_blocks = blocks_of(depth)
    if widths not in ("layer", "stage", "none"):
        raise SettingError("cannot make a space of networks", at="resnet_program.widths", got=widths,
                           expected="one of layer, stage, none", fix="leave it out: every layer decides")  # fmt: skip

    def decided(name: str, width: int) -> Any:
        return width if widths == "none" else _decision(width_candidates(width, ratios), name, "width")

    outputs = [decided(f"stage {s} width", base * 2**s) for s in range(NUM_STAGES)] if widths == "stage" else []
    made = [outputs[0] if outputs else decided("stem width", base)]
    for stage in range(NUM_STAGES):
        for block in range(num_blocks):
            name, width = f"stage {stage} block {block}", base * 2**stage
            made.append(decided(f"{name} hidden", width))
            made.append(outputs[stage] if outputs else decided(f"{name} width", width))
    depths: list[Any] = [num_blocks] * NUM_STAGES
    if is_depth_searched:
        depths = [_decision(depth_candidates(num_blocks), f"stage {s} depth", "depth") for s in range(NUM_STAGES)]
    return CifarResNet(made, depths, num_classes, in_channels, shortcut)


def _decision(candidates: Sequence[int], name: str, hints: str) -> Any:
    """Returns a decision, or the only candidate."""
    return oneof(list(candidates), name=name, hints=hints) if len(candidates) > 1 else candidates[0]


def resnet_macs(
    widths: Sequence[int],
    depths: Sequence[int],
    num_classes: int = 10,
    in_channels: int = 3,
    shortcut: str = "projection",
    size: int = 32,
) -> int:
    """Returns the multiply-accumulates of a `CifarResNet` on one image, without building it.

    Papers call these FLOPs; `mu.flows.measure(net, "flops", x)` counts two for each. Norms and sums are left out.
    Thousands of children take a second, which makes tables for the expectation under a policy:

        mu.flows.fit_cost(mu.bind(resnet_macs, **mu.arguments(program)), lambda call: call(), most_builds=20_000)

    Args:
        widths: As for the network.
        depths: As for the network.
        num_classes: As for the network.
        in_channels: As for the network.
        shortcut: As for the network.
        size: Rows and columns of the image, a multiple of four.

    Raises:
        SettingError: as for the network.
    """
    num_blocks = check_sizes(widths, depths, shortcut)
    channels = widths[0]
    total = 9 * in_channels * channels * size**2
    for stage, depth in enumerate(depths):
        pixels = (size >> stage) ** 2
        for index in range(depth):
            place = 1 + 2 * (stage * num_blocks + index)
            hidden, out_channels = widths[place : place + 2]
            total += 9 * hidden * (channels + out_channels) * pixels
            is_changed = channels != out_channels or (stage > 0 and index == 0)
            if shortcut == "always" or (is_changed and shortcut == "projection"):
                total += channels * out_channels * pixels
            channels = out_channels
    return total + channels * num_classes


__all__ = [
    "RATIOS", "blocks_of", "depth_candidates", "full_widths", "resnet_macs", "resnet_program", "thinned_widths",
    "width_candidates",
]  # fmt: skip
