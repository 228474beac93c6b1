"""Mutandis: symbolic-programming AutoML for PyTorch.

Decorate code with `symbolize`, write `oneof`, `floatv` and friends where a value shall be found, and let
`sample` propose child programs. `import mutandis as mu` loads no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from mutandis.symbolic import REQUIRED as REQUIRED
from mutandis.symbolic import arguments as arguments
from mutandis.symbolic import bind as bind
from mutandis.symbolic import clone as clone
from mutandis.symbolic import partial as partial
from mutandis.symbolic import query as query
from mutandis.symbolic import symbolize as symbolize

if TYPE_CHECKING:
    from mutandis import algorithms as algorithms
    from mutandis import errors as errors
    from mutandis import flows as flows
    from mutandis import hyper as hyper
    from mutandis import integrations as integrations
    from mutandis import models as models
    from mutandis import plots as plots
    from mutandis import symbolic as symbolic
    from mutandis import testing as testing
    from mutandis.flows import Study as Study
    from mutandis.flows import one_shot as one_shot
    from mutandis.flows import sample as sample
    from mutandis.flows import search as search
    from mutandis.flows.supernet import share_weights as share_weights
    from mutandis.hyper import DNA as DNA
    from mutandis.hyper import boolv as boolv
    from mutandis.hyper import derive as derive
    from mutandis.hyper import evolve as evolve
    from mutandis.hyper import floatv as floatv
    from mutandis.hyper import intv as intv
    from mutandis.hyper import manyof as manyof
    from mutandis.hyper import oneof as oneof
    from mutandis.hyper import permutate as permutate
    from mutandis.hyper import space as space
    from mutandis.hyper import subset as subset
    from mutandis.hyper import trace as trace
    from mutandis.symbolic.code import to_python as to_python
    from mutandis.symbolic.compare import diff as diff
    from mutandis.symbolic.compare import equal as equal
    from mutandis.symbolic.compare import fingerprint as fingerprint
    from mutandis.symbolic.describe import describe as describe
    from mutandis.symbolic.modules.inherit import inherit as inherit
    from mutandis.symbolic.namespaces import nn as nn
    from mutandis.symbolic.namespaces import optim as optim
    from mutandis.symbolic.namespaces import transforms as transforms
    from mutandis.symbolic.serial.documents import from_json as from_json
    from mutandis.symbolic.serial.documents import load as load
    from mutandis.symbolic.serial.documents import save as save
    from mutandis.symbolic.serial.documents import to_json as to_json
    from mutandis.symbolic.transactions.rebind import DELETE as DELETE
    from mutandis.symbolic.transactions.rebind import Insert as Insert
    from mutandis.symbolic.transactions.rebind import rebind as rebind

__version__ = "0.1.0"

_LAZY = {
    **dict.fromkeys(("Study", "one_shot", "sample", "search"), "mutandis.flows"),
    "share_weights": "mutandis.flows.supernet",
    **dict.fromkeys(("DNA", "boolv", "derive", "evolve", "floatv", "intv", "manyof", "oneof", "permutate", "space",
                     "subset", "trace"), "mutandis.hyper"),
    **dict.fromkeys(("diff", "equal", "fingerprint"), "mutandis.symbolic.compare"),
    "describe": "mutandis.symbolic.describe",
    "inherit": "mutandis.symbolic.modules.inherit",
    "to_python": "mutandis.symbolic.code",
    **dict.fromkeys(("nn", "optim", "transforms"), "mutandis.symbolic.namespaces"),
    **dict.fromkeys(("DELETE", "Insert", "rebind"), "mutandis.symbolic.transactions.rebind"),
    **dict.fromkeys(("from_json", "load", "save", "to_json"), "mutandis.symbolic.serial.documents"),
}  # fmt: skip
"""Where the names live that are loaded when they are first touched."""

_ROOMS = ("algorithms", "errors", "flows", "hyper", "integrations", "models", "plots", "symbolic", "testing")


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
