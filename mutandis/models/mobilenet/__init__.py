"""MobileNetV2, static, and the rules that make search spaces of it (Peng et al. 2020, arXiv 2101.08809)."""

from __future__ import annotations

from mutandis.models.mobilenet.networks import Bottleneck as Bottleneck
from mutandis.models.mobilenet.networks import MobileNetV2 as MobileNetV2
from mutandis.models.mobilenet.networks import Stage as Stage
from mutandis.models.mobilenet.networks import mobilenet_v2 as mobilenet_v2
from mutandis.models.mobilenet.spaces import EXPANSIONS as EXPANSIONS
from mutandis.models.mobilenet.spaces import KERNEL_SIZES as KERNEL_SIZES
from mutandis.models.mobilenet.spaces import MULTIPLIERS as MULTIPLIERS
from mutandis.models.mobilenet.spaces import filter_choices as filter_choices
from mutandis.models.mobilenet.spaces import scale_filters as scale_filters
from mutandis.models.mobilenet.spaces import search_bottlenecks as search_bottlenecks
from mutandis.models.mobilenet.spaces import search_filters as search_filters

__all__ = [
    "Bottleneck", "EXPANSIONS", "KERNEL_SIZES", "MULTIPLIERS", "MobileNetV2", "Stage", "filter_choices",
    "mobilenet_v2", "scale_filters", "search_bottlenecks", "search_filters",
]  # fmt: skip
