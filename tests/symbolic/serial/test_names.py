"""Import names: what may be named, and what is refused."""

from __future__ import annotations

import builtins
import math
import os
import subprocess

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import mutandis as mu
from mutandis.errors import SchemaError
from mutandis.symbolic.serial.names import allowed, find, find_symbolic, name_of, public_name


@mu.symbolize
class Net(nn.Module):
    def __init__(self, width=1):
        super().__init__()


@mu.symbolize
def build(width):
    return width


def plain(width):
    return width


@pytest.mark.parametrize(
    ("obj", "name"),
    [
        (torch.relu, "torch:relu"),
        (F.relu, "torch.nn.functional:relu"),
        (F.gelu, "torch.nn.functional:gelu"),
        (F.max_pool2d, "torch.nn.functional:max_pool2d"),
        (nn.init.xavier_uniform_, "torch.nn.init:xavier_uniform_"),
        (nn.Conv2d, "torch.nn:Conv2d"),
        (torch.optim.SGD, "torch.optim:SGD"),
        (torch.optim.lr_scheduler.StepLR, "torch.optim.lr_scheduler:StepLR"),
        (math.sqrt, "math:sqrt"),
        (int, "builtins:int"),
        (max, "builtins:max"),
        (mu.nn.Conv2d, "mu:torch.nn:Conv2d"),
        (Net, f"{__name__}:Net"),
        (build, f"{__name__}:build"),
    ],
)
def test_a_name_leads_back_to_the_very_object(obj, name):
    assert name_of(obj) == name
    assert find(name, {}) is obj


def test_the_symbolic_version_of_a_torch_function_has_its_own_name():
    symbolic = mu.symbolize(F.silu)
    assert name_of(symbolic) == "mu:torch.nn.functional:silu"
    assert find(name_of(symbolic), {}) is symbolic
    assert find("torch.nn.functional:silu", {}) is F.silu


@pytest.mark.parametrize(
    "name",
    [
        "os:system",
        "torch:os.system",
        "torch.os:system",
        "torch.hub:load",
        "torch:load",
        "torch:save",
        "torch:from_file",
        "torch:hub",
        "subprocess:Popen",
        "builtins:eval",
        "builtins:getattr",
        "builtins:__import__",
        "operator:methodcaller",
        "operator:call",
        "torch.nn.functional:importlib",
        "mutandis.symbolic.serial.names:os",
        "mutandis.hyper:os",
        "nowhere:f",
        "mu:os:system",
        "mu:subprocess:Popen",
        f"{__name__}:plain",
        "no colon",
        "",
        7,
        None,
        ["os:system"],
    ],
)
def test_what_is_not_registered_is_refused(name):
    with pytest.raises(SchemaError, match="cannot use a name from JSON"):
        find(name, {}, "model.act")
    with pytest.raises(SchemaError):
        find_symbolic(name, {}, "model")


def test_the_tables_hold_nothing_that_reaches_the_system():
    dangerous = {os.system, subprocess.Popen, builtins.eval, builtins.exec, builtins.open, torch.load, torch.hub.load}
    assert not [obj for obj in dangerous if public_name(obj)]


def test_the_refusal_says_what_to_do():
    with pytest.raises(SchemaError) as caught:
        find("os:system", {}, "model.act")
    assert caught.value.at == "model.act"
    assert "allow=" in caught.value.fix


@pytest.mark.parametrize("allow", [[plain], plain, {f"{__name__}:plain": plain}, f"{__name__}:plain"])
def test_a_caller_allows_names(allow):
    assert find(f"{__name__}:plain", allowed(allow)) is plain


def test_allowing_something_else_is_refused():
    with pytest.raises(SchemaError, match="cannot allow a name"):
        allowed([3])


@pytest.mark.parametrize(
    ("obj", "reason"),
    [
        (lambda x: x, "a lambda has no name"),
        (torch.zeros(1).abs, "no name of its own|bound method"),
        (Net().forward, "bound method|is something else"),
        ([].append, "no name of its own|bound method"),
    ],
)
def test_what_has_no_name_is_refused_with_the_reason(obj, reason):
    with pytest.raises(SchemaError, match=reason):
        name_of(obj, "model.act")


def test_what_is_local_to_a_function_is_refused():
    @mu.symbolize
    class Local:
        def __init__(self, a):
            pass

    with pytest.raises(SchemaError, match="local to a function"):
        name_of(Local)


def test_a_wrapper_is_made_for_a_class_that_nobody_touched():
    made = find_symbolic("torch.nn:AlphaDropout", {})
    assert made is mu.nn.AlphaDropout
    assert find("torch.nn:AlphaDropout", {}) is nn.AlphaDropout
