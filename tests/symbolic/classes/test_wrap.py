"""Wrappers of other people's classes: untouched originals, pickling, laziness, threads."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import threading

import pytest
import torch
from torch import nn

import mutandis as mu
from mutandis.symbolic.classes.wrap import wrapper_of


def test_the_original_class_is_untouched_and_the_wrapper_is_cached():
    before = nn.Conv2d.__init__
    Conv2d = mu.symbolize(nn.Conv2d)
    assert Conv2d is mu.nn.Conv2d is wrapper_of(nn.Conv2d)
    assert nn.Conv2d.__init__ is before
    assert not hasattr(nn.Conv2d, "_mu_spec_")
    assert issubclass(Conv2d, nn.Conv2d)


def test_the_wrapper_carries_name_and_module_of_the_original():
    assert mu.nn.Conv2d.__name__ == "Conv2d"
    assert mu.nn.Conv2d.__module__ == nn.Conv2d.__module__
    assert str(mu.nn.Conv2d(1, 2, 3)) == str(nn.Conv2d(1, 2, 3))


def test_the_record_stays_out_of_the_instance_dict():
    assert set(vars(mu.nn.Linear(1, 2))) == set(vars(nn.Linear(1, 2)))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_wrappers_pickle_with_every_protocol(protocol):
    layer = mu.nn.Linear(2, 3)
    again = pickle.loads(pickle.dumps(layer, protocol))
    assert type(again) is type(layer)
    assert mu.arguments(again) == mu.arguments(layer)
    assert torch.equal(again.weight, layer.weight)


def test_deepcopy_keeps_weights_and_record():
    layer = mu.nn.LSTM(2, 3)
    again = copy.deepcopy(layer)
    assert mu.arguments(again) == mu.arguments(layer)
    assert torch.equal(again.weight_ih_l0, layer.weight_ih_l0)


def test_a_process_that_never_symbolized_loads_a_saved_module(tmp_path):
    path = tmp_path / "net.pt"
    torch.save(mu.nn.Sequential(mu.nn.Conv2d(1, 2, 3), nn.ReLU()), path)
    code = (
        "import sys, torch\n"
        "net = torch.load(sys.argv[1], weights_only=False)\n"
        "import mutandis as mu\n"
        "print(mu.arguments(net[0])['out_channels'], type(net[1]).__name__)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["2", "ReLU"], done.stderr


def test_optimizers_keep_their_record_in_copies():
    net = nn.Linear(2, 2)
    optimizer = mu.optim.SGD(net.parameters(), lr=0.5)
    again = copy.deepcopy(optimizer)
    assert mu.arguments(again)["lr"] == 0.5
    assert "_mu_" not in optimizer.state_dict()


def test_schedulers_keep_the_record_out_of_their_state_dict():
    optimizer = torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.5)
    scheduler = mu.optim.lr_scheduler.StepLR(optimizer, 3)
    assert "_mu_" not in scheduler.state_dict()
    assert mu.arguments(scheduler)["step_size"] == 3

    @mu.symbolize
    class Own(torch.optim.lr_scheduler.StepLR):
        def __init__(self, optimizer, size):
            super().__init__(optimizer, size)

    assert not [key for key in Own(optimizer, 2).state_dict() if key.startswith("_mu")]


def test_a_users_subclass_of_a_wrapper_is_symbolic_and_pickles():
    layer = pickle.loads(pickle.dumps(Scaled(3)))
    assert mu.arguments(layer) == {"width": 3}
    assert layer.factor == 2


class Scaled(mu.nn.Linear):
    def __init__(self, width):
        super().__init__(width, width)
        self.factor = 2


def test_slicing_a_sequential_of_wrappers_works():
    net = mu.nn.Sequential(nn.ReLU(), nn.Linear(2, 2), nn.ReLU())
    assert len(net[:2]) == 2


def test_eight_threads_make_one_wrapper():
    class Fresh:
        def __init__(self, x):
            self.x = x

    Fresh.__module__ = "somewhere.else"
    made = []
    threads = [threading.Thread(target=lambda: made.append(wrapper_of(Fresh))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 1


def test_every_public_module_of_torch_nn_can_be_wrapped():
    classes = [c for c in vars(nn).values() if isinstance(c, type) and issubclass(c, nn.Module)]
    assert len(classes) > 100
    for cls in classes:
        assert issubclass(wrapper_of(cls), cls)
