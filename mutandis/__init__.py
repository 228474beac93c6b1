"""Mutandis: symbolic-programming AutoML for PyTorch.

Decorate code with `symbolize`: any regular program becomes a tree that can be read, copied and compared.
`import mutandis as mu` loads no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from mutandis.errors import MutandisError as MutandisError
from mutandis.symbolic import REQUIRED as REQUIRED
from mutandis.symbolic import arguments as arguments
from mutandis.symbolic import bind as bind
from mutandis.symbolic import clone as clone
from mutandis.symbolic import get as get
from mutandis.symbolic import partial as partial
from mutandis.symbolic import query as query
from mutandis.symbolic import symbolize as symbolize
from mutandis.symbolic import traverse as traverse

if TYPE_CHECKING:
    from mutandis.symbolic.compare import diff as diff
    from mutandis.symbolic.compare import equal as equal
    from mutandis.symbolic.compare import fingerprint as fingerprint
    from mutandis.symbolic.namespaces import nn as nn
    from mutandis.symbolic.namespaces import optim as optim
    from mutandis.symbolic.namespaces import transforms as transforms

__version__ = "0.1.0"

_LAZY = {
    **dict.fromkeys(("diff", "equal", "fingerprint"), "mutandis.symbolic.compare"),
    **dict.fromkeys(("nn", "optim", "transforms"), "mutandis.symbolic.namespaces"),
}
"""Where the names live that are loaded when they are first touched."""

_ROOMS = ("errors", "symbolic")


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        value = getattr(importlib.import_module(_LAZY[name]), name)
    elif name in _ROOMS:
        value = importlib.import_module(f"mutandis.{name}")
    else:
        from mutandis.errors import closest

        known = [*_LAZY, *_ROOMS, *globals()]
        raise AttributeError(f"module 'mutandis' has no attribute {name!r}{closest(name, known)}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY, *_ROOMS})
