"""Names of shared tensors, and what of a child they stand for."""

from __future__ import annotations

import supernet_zoo as zoo
import torch

import mutandis as mu
from mutandis.flows.supernet.lowering.children import Builder
from mutandis.flows.supernet.tensors.loans import tensor_of


def test_every_loan_of_a_child_names_one_of_its_tensors_by_place_shape_and_kind():
    program, batch = zoo.programs()["concat"]
    shared = mu.share_weights(program, batch)
    child = Builder(mu.space(program), 0).build(shared.space.random(1).values, init=True)
    loans = list(shared._store.loans(child))
    state = {f"{loan.path}.{loan.name}": tensor_of(child, loan) for loan in loans}
    (root,) = child.roots.values()
    assert {name: tensor.data_ptr() for name, tensor in state.items()} == {
        name: tensor.data_ptr() for name, tensor in root.state_dict().items()
    }
    for loan in loans:
        found = state[f"{loan.path}.{loan.name}"]
        assert (tuple(found.shape), str(found.dtype)) == (loan.shape, loan.dtype)
        assert loan.is_buffer == (loan.name not in ("weight", "bias"))
        assert (loan.key.path, loan.key.name, loan.key.kernel) == (loan.path, loan.name, ())
        assert not found.requires_grad and isinstance(found, torch.Tensor)
