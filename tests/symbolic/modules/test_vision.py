"""torchvision is imported in one place, and its absence says what to do."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

import mutandis as mu
from mutandis.errors import MissingDependency
from mutandis.symbolic.modules import vision

HAS_TORCHVISION = importlib.util.find_spec("torchvision") is not None


@pytest.mark.skipif(not HAS_TORCHVISION, reason="torchvision is not installed")
def test_transforms_and_models_work_beside_a_cpu_torch():
    crop = mu.transforms.RandomCrop(4)
    assert mu.arguments(crop)["size"] == 4
    assert vision.import_torchvision().models.resnet18(num_classes=2).fc.out_features == 2


def test_absence_is_an_error_with_a_remedy(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match="everything else works without it"):
        vision.import_torchvision()


def test_a_torchvision_that_cannot_be_imported_is_an_error_with_a_remedy(monkeypatch, tmp_path):
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    code = (
        "import mutandis as mu\n"
        "layer = mu.nn.Linear(1, 2)\n"
        "try:\n    mu.transforms.RandomCrop\n"
        "except ImportError as error:\n    print('nms does not exist' in str(error), layer.out_features)\n"
    )
    path = f"{tmp_path}:{':'.join(p for p in sys.path if p)}"
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": path}, capture_output=True, text=True)
    assert done.stdout.split() == ["True", "2"], done.stderr


def test_import_of_the_package_loads_neither_torch_nor_torchvision():
    code = "import sys, mutandis; print('torch' in sys.modules, 'torchvision' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["False", "False"], done.stderr
