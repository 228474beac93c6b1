"""Arms that come back to the places of choices."""

from __future__ import annotations

import torch
from torch import nn

from mutandis.flows.supernet.choices.placed import Placed
from mutandis.flows.supernet.selections import Choice, Mixture


def choice(index, arms=(0, 1)):
    return Choice({arm: nn.Linear(2, 2) for arm in arms}, Mixture(torch.ones(len(arms))), "here", index)


def test_every_place_gets_the_arm_of_the_values_in_the_mode_of_what_holds_it():
    first, second = choice(0), choice(1)
    holder = nn.ModuleList([first, second]).eval()
    first.arms["1"].train()
    placed = Placed()
    placed.add(holder, "0", first)
    placed.add(holder, "1", second)
    assert placed.leave([1, 0])
    assert holder[0] is first.arms["1"] and holder[1] is second.arms["0"]
    assert not any(module.training for module in holder.modules())


def test_where_one_arm_does_not_run_nothing_is_changed():
    first, second = choice(0), choice(1, arms=(0,))
    holder, placed = nn.ModuleList([first, second]), Placed()
    placed.add(holder, "0", first)
    placed.add(holder, "1", second)
    assert not placed.leave([1, 1]) and not placed.leave([1, None])
    assert holder[0] is first and holder[1] is second
