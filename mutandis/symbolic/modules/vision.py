"""The one place that imports torchvision.

The PyPI wheel of torchvision is built against CUDA. Beside a CPU-only torch its import fails with `operator
torchvision::nms does not exist`, since its compiled library cannot be loaded and Python code registers fake
kernels for operators that nobody declared. Declaring the two schemas first makes transforms, models and
datasets work; `ops.nms`, `deform_conv2d` and the image decoders stay unavailable.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType

from mutandis.errors import MissingDependency

_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}

_DECLARED: list[object] = []


def import_torchvision() -> ModuleType:
    """Returns the torchvision package, whatever build of it is installed.

    Raises:
        MissingDependency: torchvision is not installed, or does not go with the torch that is.
    """
    known = sys.modules.get("torchvision")
    if known is not None:
        return known
    try:
        if importlib.util.find_spec("torchvision") is None:
            raise ImportError("it is not installed")
        _declare_operators()
        return importlib.import_module("torchvision")
    except (ImportError, RuntimeError, ValueError) as error:
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]  # A half-imported package would answer later imports.
        raise MissingDependency(
            "cannot import torchvision",
            at="mu.transforms and torchvision models",
            got=str(error),
            expected="a torchvision that belongs to the installed torch (0.28 to 2.13, 0.26 to 2.11)",
            fix="pip install -c constraints.txt torchvision; everything else works without it",
        ) from error


def _declare_operators() -> None:
    """Declares the operators of the compiled library, where it cannot be loaded."""
    if _DECLARED:
        return
    torch = importlib.import_module("torch")
    if torch.version.cuda is not None:  # The wheel's library loads; it declares its operators itself.
        return
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name, schema in _SCHEMAS.items():
        if not hasattr(torch.ops.torchvision, name):
            library.define(schema)
    _DECLARED.append(library)
