"""The module that holds the shared tensors, and runs the live program."""

from __future__ import annotations

import pytest
import supernet_zoo as zoo
import torch

import mutandis as mu
from mutandis.errors import LoweringError
from mutandis.flows.supernet.tensors.module import SharedModule


def test_the_module_of_no_program_says_so():
    with pytest.raises(LoweringError) as error:
        SharedModule()(1)
    assert str(error.value) == (
        "cannot run the shared module\n"
        "  got:      0 (int)\n"
        "  expected: one live module\n"
        "  fix:      call shared.materialize(dna) first, and run its modules one by one if there are several"
    )


def test_a_forward_pass_with_other_tensors_is_refused():
    program, batch = zoo.programs()["residual"]
    shared = mu.share_weights(program, batch)
    shared.materialize(shared.space.random(0))
    same, other = dict(shared.module.named_parameters()), {"head.weight": torch.zeros(5, 8)}
    assert torch.equal(torch.func.functional_call(shared.module, same, (batch,)), shared.module(batch))
    with pytest.raises(LoweringError) as caught:
        torch.func.functional_call(shared.module, other, (batch,))
    assert str(caught.value) == (
        "cannot run the shared module with other tensors\n"
        "  at:       parameter weight\n"
        "  got:      'another tensor in its place, as torch.func.functional_call puts it there' (str)\n"
        "  expected: the shared weights, which the live program has views of\n"
        "  fix:      call functional_call on shared.export(dna), or load tensors with load_state_dict"
    )
    assert torch.equal(shared.module(batch), shared.module(batch))  # All is as before.
