"""Lazy namespaces of ready symbolic classes."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional

import mutandis as mu


def test_a_wrong_name_in_a_namespace_suggests_the_right_one():
    with pytest.raises(AttributeError, match="did you mean 'Conv2d'"):
        _ = mu.nn.Conv2D


def test_namespaces_list_what_the_module_lists():
    assert "Conv2d" in dir(mu.nn)
    assert mu.nn.Parameter is nn.Parameter
    assert repr(mu.nn) == "<symbolic namespace mu.nn>"


def test_a_class_of_a_namespace_is_one_symbolic_subclass():
    assert mu.nn.Conv2d is mu.nn.Conv2d
    assert issubclass(mu.nn.Conv2d, nn.Conv2d)
    assert mu.symbolize(nn.Conv2d) is mu.nn.Conv2d
    assert mu.arguments(mu.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1))["lr"] == 0.1


def test_functions_and_submodules_of_a_namespace_are_symbolic():
    call = mu.nn.functional.dropout(torch.ones(2), mu.oneof([0.0, 1.0]))
    assert sorted(mu.space(call).materialize(dna)().sum().item() for dna in mu.space(call).enumerate()) == [0.0, 2.0]
    assert torch.equal(mu.nn.functional.relu(torch.ones(2)), functional.relu(torch.ones(2)))


def test_the_package_does_not_load_torch_until_a_namespace_is_touched():
    code = (
        "import sys, mutandis as mu; mu.nn, mu.optim; first = 'torch' in sys.modules; mu.nn.ReLU; "
        "print(first, 'torch' in sys.modules, 'torchvision' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "False"]
