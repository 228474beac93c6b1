"""From the static MobileNetV2 to search spaces, by rules for `rebind` (Peng et al. 2020, arXiv 2101.08809, Sec. 4.1).

    program = mobilenet_v2()
    program.rebind(search_bottlenecks)      # S1: kernel size and expansion of the inverted bottlenecks.
    program.rebind(search_filters)          # S2: their output filters. Both: S3.

*Departures*: the published sizes of the spaces are not known to us. The first bottleneck has no expansion and is left
as it is. All bottlenecks of a stage have one width, since they are added to each other; widths are rounded to
multiples of 8 as in the code of TuNAS (Bender et al. 2020, arXiv 2008.06120), and equal ones are offered once.
"""

from __future__ import annotations

from typing import Any

from mutandis.hyper import oneof
from mutandis.models.mobilenet.networks import Bottleneck
from mutandis.symbolic import arguments

KERNEL_SIZES = (3, 5, 7)
EXPANSIONS = (3, 6)
MULTIPLIERS = (0.5, 0.625, 0.75, 1.0, 1.25, 1.5, 2.0)


def search_bottlenecks(value: Any) -> Any:
    """The rule of S1: a bottleneck that expands its input decides its kernel size and expansion."""
    expansion = arguments(value)["expansion"] if isinstance(value, Bottleneck) else None
    if isinstance(expansion, int) and expansion > 1:  # Not where it is searched already.
        return Bottleneck(oneof(list(KERNEL_SIZES), hints="kernel_size"), oneof(list(EXPANSIONS), hints="expansion"))
    return value


def search_filters(key: Any, value: Any) -> Any:
    """The rule of S2: a stage decides for one of the multiples of its filters."""
    return oneof(filter_choices(value), hints="filters") if key == "filters" and isinstance(value, int) else value


def filter_choices(filters: int, multiples_of: int = 8) -> list[int]:
    """Returns the different widths of a stage, ascending.

    Args:
        filters: Of the static network.
        multiples_of: What widths are rounded to.
    """
    return sorted({scale_filters(filters, multiplier, multiples_of) for multiplier in MULTIPLIERS})


def scale_filters(filters: int, multiplier: float, multiples_of: int = 8) -> int:
    """Returns a number of filters times a multiplier, rounded to the nearest multiple (halves upwards), at least one.

    Args:
        filters: At least 1.
        multiplier: Above 0.
        multiples_of: Likewise.
    """
    return max(multiples_of, int(filters * multiplier / multiples_of + 0.5) * multiples_of)


__all__ = ["EXPANSIONS", "KERNEL_SIZES", "MULTIPLIERS", "filter_choices", "scale_filters", "search_bottlenecks",
           "search_filters"]  # fmt: skip
