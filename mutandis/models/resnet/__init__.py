"""Residual networks for CIFAR, and the space in which TAS prunes them (Dong and Yang 2019, arXiv 1905.09717)."""

from __future__ import annotations

from mutandis.models.resnet.networks import CifarResNet as CifarResNet
from mutandis.models.resnet.spaces import RATIOS as RATIOS
from mutandis.models.resnet.spaces import depth_candidates as depth_candidates
from mutandis.models.resnet.spaces import full_widths as full_widths
from mutandis.models.resnet.spaces import resnet_macs as resnet_macs
from mutandis.models.resnet.spaces import resnet_program as resnet_program
from mutandis.models.resnet.spaces import thinned_widths as thinned_widths
from mutandis.models.resnet.spaces import width_candidates as width_candidates

__all__ = [
    "CifarResNet", "RATIOS", "depth_candidates", "full_widths", "resnet_macs", "resnet_program", "thinned_widths",
    "width_candidates",
]  # fmt: skip
