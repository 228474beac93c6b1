"""Models: plain PyTorch code, and functions that return it annotated."""

from __future__ import annotations

from mutandis.models.convnet import ConvBlock as ConvBlock
from mutandis.models.convnet import ConvNet as ConvNet
from mutandis.models.convnet import searchable_convnet as searchable_convnet

__all__ = ["ConvBlock", "ConvNet", "searchable_convnet"]
