"""Symbolic objects under PyTorch's own machinery: compile, export, data loaders, checkpoints, averaging."""

from __future__ import annotations

import copy
import dataclasses
import multiprocessing

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, Dataset

import mutandis as mu

COUNT = multiprocessing.get_context("spawn").Value("i", 0)


@mu.symbolize
@dataclasses.dataclass(frozen=True)
class Config:
    width: int = 4
    scale: float = 2.0


@mu.symbolize
class Net(nn.Module):
    def __init__(self, config, dropout=0.0):
        super().__init__()
        self.config = config
        self.layer = nn.Linear(3, config.width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        return self.dropout(self.layer(x)) * self.config.scale


@mu.symbolize
class Numbers(Dataset):
    def __init__(self, size, counter=None):
        self.size = size
        if counter is not None:
            counter.value += 1

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        return torch.tensor(float(index))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compile_takes_the_whole_graph_and_code_that_reads_a_symbolic_config(backend):
    torch._dynamo.reset()
    net, x = Net(Config()), torch.randn(2, 3)
    counter = CompileCounter()
    compiled = torch.compile(net, fullgraph=True, backend=backend if backend == "aot_eager" else counter)
    assert torch.allclose(compiled(x), net(x))
    holder = mu.bind(len, [net])  # A new holder must not cause a second compilation.
    compiled(x)
    assert counter.frame_count == (backend == "eager")
    assert mu.symbolic.get(holder, "obj[0]") is net


def test_export_works():
    net, x = Net(Config()), torch.randn(2, 3)
    assert torch.allclose(torch.export.export(net, (x,)).module()(x), net(x))


def test_functional_call_vmap_and_checkpoint_work():
    net, x = Net(Config()), torch.randn(2, 3)
    parameters = dict(net.named_parameters())
    expected = net(x)
    assert torch.equal(torch.func.functional_call(net, parameters, (x,)), expected)
    assert torch.allclose(torch.func.vmap(lambda row: torch.func.functional_call(net, parameters, (row,)))(x), expected)
    assert torch.equal(checkpoint(net, x, use_reentrant=False), expected)


def test_the_mean_of_weights_starts_from_the_weights():
    net = Net(Config())
    mean = torch.optim.swa_utils.AveragedModel(net)
    assert torch.equal(mean.module.layer.weight, net.layer.weight)
    assert mu.arguments(mean.module) == mu.arguments(net)


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_datasets_are_built_once_whatever_starts_the_workers(method):
    before = COUNT.value
    data = Numbers(4, COUNT)
    loader = DataLoader(data, batch_size=2, num_workers=1, multiprocessing_context=method)
    assert torch.cat(list(loader)).tolist() == [0.0, 1.0, 2.0, 3.0]
    assert COUNT.value == before + 1


def test_weights_load_both_ways_between_the_plain_and_the_symbolic_class():
    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 4)

    net, plain = Net(Config()), Plain()
    net.load_state_dict(plain.state_dict())
    plain.load_state_dict(net.state_dict())
    assert torch.equal(net.layer.weight, plain.layer.weight)


def test_moving_casting_and_copying_keep_the_record():
    net = Net(Config()).double().to("cpu").eval()
    again = copy.deepcopy(net)
    assert again.layer.weight.dtype is torch.float64
    assert not again.training
    assert mu.arguments(again)["config"].width == 4
