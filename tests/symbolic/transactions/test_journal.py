"""The journal puts objects back."""

from __future__ import annotations

import torch
from torch import nn

from mutandis.symbolic.transactions.journal import Journal, instance_dict


class Slotted:
    __slots__ = ("__private", "a")

    def __init__(self):
        self.__private = 1

    def private(self):
        return self.__private

    def change(self):
        self.__private, self.a = 2, 3


class Items(list):
    pass


def test_attributes_slots_content_and_class_come_back():
    slotted, items = Slotted(), Items([1, 2])
    items.tags = {"a"}
    journal = Journal()
    journal.save(slotted)
    journal.save(items)
    slotted.change()
    items.append(3)
    items.tags.add("b")
    items.other = 1
    journal.roll_back()
    assert slotted.private() == 1 and not hasattr(slotted, "a")
    assert items == [1, 2] and vars(items) == {"tags": {"a"}}


def test_modules_come_back_with_tensors_tables_and_the_random_state():
    net = nn.Sequential(nn.Linear(2, 2))
    weight, value, random = net[0].weight, net[0].weight.clone(), torch.get_rng_state()
    journal = Journal()
    journal.save_modules([net], tensors=True)
    nn.init.normal_(net[0].weight)
    net.append(nn.ReLU())
    net[0].weight = None
    journal.roll_back()
    assert len(net) == 1 and net[0].weight is weight and torch.equal(weight, value)
    assert torch.equal(torch.get_rng_state(), random)


def test_an_object_without_a_dict_has_none():
    assert instance_dict(Slotted()) is None and instance_dict(Items()) == {}
