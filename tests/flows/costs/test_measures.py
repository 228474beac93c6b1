"""Costs that are known by hand."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from supernet_zoo import Trainer
from torch import nn

import mutandis as mu
from mutandis.errors import SettingError
from mutandis.flows.costs import measures
from mutandis.flows.costs.measures import latency_ms, measure, modules_of


def test_a_multiplication_and_an_addition_are_two_operations():
    assert measure(nn.Linear(3, 5), "flops", torch.zeros(7, 3)) == 2 * 7 * 3 * 5
    assert measure(nn.Conv2d(3, 4, 3, padding=1), "flops", torch.zeros(2, 3, 8, 8)) == 2 * (2 * 64) * 4 * 3 * 9


def test_several_arguments_come_as_a_tuple():
    class Product(nn.Module):
        def forward(self, a, b):
            return a @ b

    assert measure(Product(), "flops", (torch.zeros(2, 3), torch.zeros(3, 5))) == 2 * 2 * 3 * 5


def test_a_parameter_that_is_used_twice_counts_once():
    tied = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
    tied[2].weight = tied[0].weight
    assert measure(tied, "params") == 9 + 3 + 3


def test_memory_is_weights_and_what_is_saved_each_once():
    net = nn.Sequential(nn.Linear(3, 5, bias=False), nn.Sigmoid(), nn.Linear(5, 2, bias=False))
    # Saved are the input (4 x 3) and the output of the sigmoid (4 x 5), which the second layer saves again.
    assert measure(net, "memory_bytes", torch.zeros(4, 3)) == 4 * (15 + 10 + 12 + 20)


def test_a_program_around_a_module_has_the_costs_of_the_module():
    trainer = Trainer(nn.Linear(4, 2), 0.1)
    assert modules_of(trainer) == [trainer.model]
    assert measure(trainer, "params") == 10
    assert measure(trainer, "flops", torch.zeros(3, 4), forward=lambda child, x: child.model(x)) == 2 * 3 * 4 * 2


@pytest.mark.parametrize("what", ["flops", "memory_bytes", "latency_ms"])
def test_modes_buffers_and_random_numbers_are_as_before(what):
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
    net[1].eval()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    state = torch.random.get_rng_state()
    measure(net, what, torch.ones(6, 3))
    assert [m.training for m in net] == [True, False, True]
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), state)


def test_latency_is_the_median_of_the_passes_after_the_warm_up(monkeypatch):
    ticks = iter([-9.0, 0.0, 0.001, 0.0, 0.5, 0.0, 0.002])
    monkeypatch.setattr(measures, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    assert latency_ms(nn.Identity(), torch.zeros(1), warmup=1, repeats=3) == pytest.approx(2.0)


def test_an_unknown_measure_is_refused():
    with pytest.raises(SettingError) as caught:
        measure(nn.Identity(), "flop", torch.zeros(1))
    assert str(caught.value) == (
        "cannot measure a cost\n"
        "  at:       what\n"
        "  got:      'flop' (str)\n"
        "  expected: one of flops, latency_ms, memory_bytes, params; did you mean 'flops'?\n"
        "  fix:      use one of these names, or a function of the child"
    )


def test_a_missing_batch_is_refused():
    with pytest.raises(SettingError) as caught:
        mu.flows.measure(nn.Identity(), "flops")
    assert str(caught.value) == (
        "cannot measure a cost\n"
        "  at:       batch\n"
        "  got:      None (NoneType)\n"
        "  expected: a batch, for flops\n"
        "  fix:      pass what the child is called with, such as torch.zeros(1, 3, 32, 32)"
    )


def library_network(width: int) -> nn.Module:
    """Builds what somebody else wrote."""
    return nn.Sequential(nn.Linear(3, width), nn.Linear(width, 1))


def test_a_call_that_builds_a_module_costs_what_the_module_costs():
    program = mu.bind(library_network, mu.oneof([2, 5], name="width"))
    cost = mu.flows.fit_cost(program, "flops", torch.zeros(1, 3))
    sizes = mu.flows.fit_cost(program, "params")
    dna = mu.space(program).dna({"width": 1})
    assert (cost(dna), sizes(dna)) == (2 * (3 * 5 + 5), 3 * 5 + 5 + 5 + 1)


def test_a_call_that_builds_no_module_is_not_run():
    def refused():
        raise AssertionError

    assert modules_of(mu.bind(refused)) == []


class Attending(nn.Module):
    def __init__(self, needs_weights):
        super().__init__()
        self.attention, self.needs_weights = nn.MultiheadAttention(16, 2, batch_first=True), needs_weights

    def forward(self, x):
        return self.attention(x, x, x, need_weights=self.needs_weights)[0]


_ATTENTION = 2 * 15 * 16 * 16 * 4 + 2 * 2 * 3 * 5 * 5 * 16  # Four projections, and two products of 5 x 5 tokens.


@pytest.mark.parametrize(
    ("module", "batch", "operations"),
    [
        (nn.LSTM(6, 12, 2), (5, 3, 6), 2 * 15 * 4 * (6 * 12 + 3 * 12 * 12)),
        (nn.GRU(6, 12), (5, 3, 6), 2 * 15 * 3 * (6 * 12 + 12 * 12)),
        (Attending(needs_weights=True), (3, 5, 16), _ATTENTION),
        (Attending(needs_weights=False), (3, 5, 16), _ATTENTION),
        (nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), (3, 5, 16), _ATTENTION + 2 * 2 * 15 * 16 * 32),
    ],
    ids=["lstm", "gru", "weights", "attention", "encoder"],
)
def test_fused_layers_count_as_the_products_they_consist_of(module, batch, operations):
    before = torch.backends.mha.get_fastpath_enabled(), torch.backends.mkldnn.enabled, torch.backends.cudnn.enabled
    assert measure(module, "flops", torch.zeros(batch)) == operations
    after = torch.backends.mha.get_fastpath_enabled(), torch.backends.mkldnn.enabled, torch.backends.cudnn.enabled
    assert after == before
