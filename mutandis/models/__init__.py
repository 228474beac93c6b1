"""Models: plain PyTorch code, functions that return it annotated, and tables of real trainings."""

from __future__ import annotations

from mutandis.models import darts as darts
from mutandis.models import mobilenet as mobilenet
from mutandis.models import nats as nats
from mutandis.models import resnet as resnet
from mutandis.models import shufflenet as shufflenet
from mutandis.models import tabular as tabular
from mutandis.models.convnet import ConvBlock as ConvBlock
from mutandis.models.convnet import ConvNet as ConvNet
from mutandis.models.convnet import searchable_convnet as searchable_convnet

__all__ = [
    "ConvBlock", "ConvNet", "darts", "mobilenet", "nats", "resnet", "searchable_convnet", "shufflenet", "tabular",
]  # fmt: skip
