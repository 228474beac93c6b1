"""A run that goes on from its file equals one that never stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from toy_shared import cells, images, new_cells, squared, toy_batches, toy_program

import mutandis as mu
from mutandis.algorithms.oneshot.enas import ENAS
from mutandis.algorithms.oneshot.gates import DSNAS, ProxylessNAS
from mutandis.algorithms.oneshot.gumbel import GDAS, SNAS
from mutandis.algorithms.oneshot.mixtures import DARTS, SETN
from mutandis.algorithms.oneshot.resources import ResourceConstrained, TableCost
from mutandis.algorithms.oneshot.single_path import RSPS, SPOS
from mutandis.algorithms.oneshot.sizes import TAS, FBNetV2
from mutandis.algorithms.oneshot.tunas import TuNAS
from mutandis.errors import StorageError
from mutandis.flows.oneshot.inventory import Inventory
from mutandis.flows.oneshot.recipe import Recipe
from mutandis.flows.oneshot.saving import Checkpoint
from mutandis.flows.oneshot.session import Session

ALGORITHMS = {
    "RSPS": (RSPS(num_candidates=4), None),
    "DARTS": (DARTS(), None),
    "DARTS second order": (DARTS(order=2), None),
    "SETN": (SETN(num_candidates=3), None),
    "GDAS": (GDAS(), None),
    "SNAS": (SNAS(), None),
    "DSNAS": (DSNAS(), None),
    "ProxylessNAS": (ProxylessNAS(every=1), None),
    "FBNetV2": (FBNetV2(), None),
    "TAS": (TAS(), None),
    "SPOS": (SPOS(num_trials=3), None),
    "resource constrained": (ResourceConstrained(DARTS(), TableCost({"edge 0 to 1": [0.0, 0.0, 1.0, 9.0, 0.0]})), None),
    "TuNAS": (TuNAS(), None),
    "ENAS": (ENAS(num_candidates=4, num_steps=1, batch_size=2), None),
    "evolution at the end": (mu.algorithms.RegularizedEvolution(3, 2), "uniform"),
    "evolution on the way": (mu.algorithms.RegularizedEvolution(3, 2), "proposals"),
}


class Stop(Exception):
    pass


class StopAfter:
    """Stands for TensorBoard, and ends the run when an epoch is told of."""

    def __init__(self, epoch):
        self.epoch = epoch

    def add_scalar(self, name, value, step):
        if step == self.epoch:
            raise Stop


def loader():
    """Shuffled batches, whose order hangs on a generator of its own."""
    x, y = (torch.cat(parts) for parts in zip(*images(3, 0), strict=True))
    generator = torch.Generator().manual_seed(5)
    data = torch.utils.data.TensorDataset(x, y)
    return torch.utils.data.DataLoader(data, batch_size=8, shuffle=True, generator=generator)


def run(algorithm, train_with, path, stop=None, epochs=3, seed=1, make=cells):
    writer = None if stop is None else StopAfter(stop)
    return mu.one_shot(make(), algorithm, train=loader(), valid=images(2, 1), epochs=epochs, train_with=train_with,
                       num_candidates=4, num_calibration=2, checkpoint=path, tensorboard=writer, collapse=2.0,
                       seed=seed)  # fmt: skip


def weights_of(result):
    return {name: tensor.clone() for name, tensor in result.shared.module.state_dict().items()}


@pytest.mark.parametrize(("name", "make"), [*((name, cells) for name in ALGORITHMS), ("GDAS", new_cells),
                                            ("evolution at the end", new_cells)])  # fmt: skip
def test_a_run_that_was_killed_goes_on_bit_for_bit(name, make, tmp_path):
    algorithm, train_with = ALGORITHMS[name]
    whole = run(algorithm, train_with, None, make=make)
    wanted = weights_of(whole)
    with pytest.raises(Stop):
        run(algorithm, train_with, tmp_path / "run.pt", stop=3, make=make)  # The third epoch is lost.
    again = run(algorithm, train_with, tmp_path / "run.pt", make=make)
    assert again.history == whole.history and len(whole.history) == 3
    assert again.dna == whole.dna and again.policy == whole.policy
    assert all(torch.equal(tensor, wanted[key]) for key, tensor in weights_of(again).items())


KILLED = """
import os, signal, sys
import torch
import mutandis as mu
from test_saving import loader
from toy_shared import images, new_cells

torch.set_num_threads(1)
calls = []

def dies(child, batch):
    calls.extend([1] * os.path.exists(sys.argv[1]))
    if len(calls) == 4:  # In the middle of the second epoch.
        os.kill(os.getpid(), signal.SIGKILL)
    return torch.nn.functional.cross_entropy(child(batch[0]), batch[1])

mu.one_shot(new_cells(), mu.algorithms.GDAS(), train=loader(), valid=images(2, 1), epochs=3, checkpoint=sys.argv[1],
            num_calibration=2, loss=dies, seed=1)
"""


def test_a_process_that_was_killed_in_an_epoch_goes_on_bit_for_bit(tmp_path):
    def calm(child, batch):
        return torch.nn.functional.cross_entropy(child(batch[0]), batch[1])

    def finished(path):
        return mu.one_shot(new_cells(), GDAS(), train=loader(), valid=images(2, 1), epochs=3, checkpoint=path,
                           num_calibration=2, loss=calm, seed=1, collapse=2.0)  # fmt: skip

    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    dead = subprocess.run([sys.executable, "-c", KILLED, tmp_path / "run.pt"], env={**os.environ, "PYTHONPATH": paths})
    assert dead.returncode == -signal.SIGKILL and (tmp_path / "run.pt").exists()
    again, whole = finished(tmp_path / "run.pt"), finished(None)
    assert (again.dna, again.policy, again.history) == (whole.dna, whole.policy, whole.history)
    wanted = weights_of(whole)
    assert all(torch.equal(tensor, wanted[key]) for key, tensor in weights_of(again).items())


def test_half_precision_goes_on_with_its_scale(tmp_path):
    def one(path, stop=None):
        return mu.one_shot(cells(), SNAS(), train=loader(), valid=images(1, 1), epochs=2, precision="float16",
                           checkpoint=path, num_calibration=2, tensorboard=None if stop is None else StopAfter(stop),
                           collapse=2.0)  # fmt: skip

    whole = one(None)
    with pytest.raises(Stop):
        one(tmp_path / "run.pt", stop=2)
    assert one(tmp_path / "run.pt").history == whole.history


def test_the_scale_of_losses_is_kept(tmp_path):
    def begun():
        shared = cells()
        search = SNAS().start_shared(shared.space.bare(), seed=0)
        recipe = Recipe(epochs=1, precision="float16")
        return shared, Session(shared, search, recipe, images(1, 0), images(1, 1), Inventory(shared)), search

    shared, session, search = begun()
    session.scaler = torch.amp.GradScaler("cpu", init_scale=128.0)
    Checkpoint(tmp_path / "run.pt", {}, ()).save(shared, session, search)
    shared, session, search = begun()
    assert session.scaler.get_scale() > 128.0
    assert Checkpoint(tmp_path / "run.pt", {}, ()).load(shared, session, search)
    assert session.scaler.get_scale() == 128.0


def test_a_run_of_more_processes_is_refused(tmp_path):
    run(GDAS(), None, tmp_path / "run.pt", epochs=1)
    state = torch.load(tmp_path / "run.pt")
    torch.save({**state, "ranks": state["ranks"] * 2}, tmp_path / "run.pt")
    with pytest.raises(StorageError) as caught:
        run(GDAS(), None, tmp_path / "run.pt", epochs=1)
    assert str(caught.value) == (
        "cannot go on from a checkpoint\n"
        f"  at:       {tmp_path / 'run.pt'}\n"
        "  got:      'a run of 2 processes' (str)\n"
        "  expected: a run of 1\n"
        "  fix:      start as many processes as the run had"
    )
    torch.save({**state, "format": 1}, tmp_path / "run.pt")
    with pytest.raises(StorageError, match="format 1"):
        run(GDAS(), None, tmp_path / "run.pt", epochs=1)


def test_a_run_that_is_over_is_not_trained_again(tmp_path):
    path = tmp_path / "folder" / "run.pt"
    first = run(GDAS(), None, path)
    stamp = path.stat().st_mtime_ns
    second = run(GDAS(), None, path)
    assert (second.dna, second.history) == (first.dna, first.history)
    assert path.stat().st_mtime_ns == stamp and [p.name for p in path.parent.iterdir()] == ["run.pt"]


def test_a_file_of_another_run_is_refused(tmp_path):
    run(GDAS(), None, tmp_path / "run.pt", epochs=1)
    with pytest.raises(StorageError) as caught:
        run(GDAS(), None, tmp_path / "run.pt", epochs=1, seed=2)
    assert str(caught.value) == (
        "cannot go on from a checkpoint\n"
        f"  at:       {tmp_path / 'run.pt'}\n"
        "  got:      {'seed': 1} (dict)\n"
        "  expected: a run with {'seed': 2}\n"
        "  fix:      name another file for another run"
    )


def test_functions_in_settings_do_not_make_another_run(tmp_path):
    def constrained():
        return mu.algorithms.Constrained(mu.algorithms.Random(), lambda dna: dna.values[0] != 0)

    first = run(constrained(), None, tmp_path / "run.pt", epochs=1)
    assert run(constrained(), None, tmp_path / "run.pt", epochs=1).dna == first.dna


def test_a_file_that_is_none_is_refused(tmp_path):
    (tmp_path / "run.pt").write_bytes(b"something else")
    with pytest.raises(StorageError, match="cannot read a checkpoint"):
        run(GDAS(), None, tmp_path / "run.pt")
    assert (tmp_path / "run.pt").read_bytes() == b"something else"


def test_dropout_goes_on_too(tmp_path):
    def one(path, stop=None):
        program = mu.nn.Sequential(mu.nn.Dropout(0.5), toy_program())
        return mu.one_shot(mu.share_weights(program), RSPS(num_candidates=2), train=toy_batches(3, 0),
                           valid=toy_batches(1, 1), epochs=2, loss=squared, checkpoint=path,
                           tensorboard=None if stop is None else StopAfter(stop))  # fmt: skip

    whole = one(None)
    with pytest.raises(Stop):
        one(tmp_path / "run.pt", stop=2)
    assert one(tmp_path / "run.pt").history == whole.history
