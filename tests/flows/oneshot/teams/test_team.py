"""Two processes that train shared weights do what one does with the data of both."""

from __future__ import annotations

import ddp_workers
import pytest
import torch
import torch.multiprocessing

from mutandis.errors import SettingError
from mutandis.flows.oneshot.teams.team import Team, begin_epoch


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What two real processes have found."""
    folder = tmp_path_factory.mktemp("team")
    torch.multiprocessing.spawn(ddp_workers.work, (ddp_workers.free_port(), folder), nprocs=ddp_workers.SIZE)
    return [torch.load(folder / f"{rank}.pt") for rank in range(ddp_workers.SIZE)]


def are_close(first, second):
    return all(torch.allclose(first[name], second[name], rtol=1e-4, atol=1e-5) for name in first)


def are_equal(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


def test_in_a_loop_of_ones_own_two_processes_do_what_one_does(found):
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    alone = ddp_workers.own_loop(x, lambda module: module)
    first, second = (one["own loop"] for one in found)
    assert first["seen"] == second["seen"] == alone["seen"]
    assert are_equal(first["weights"], second["weights"]) and are_close(first["weights"], alone["weights"])


def test_matrices_of_kernels_are_trained_by_two_processes_as_by_one(found):
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    alone = ddp_workers.own_loop(x, lambda module: module, ddp_workers.kernels, kernels="transform")
    first, second = (one["kernels"] for one in found)
    assert first["seen"] == alone["seen"] and len(set(alone["seen"])) > 1
    assert are_equal(first["weights"], second["weights"]) and are_close(first["weights"], alone["weights"])
    assert not torch.equal(first["weights"]["1.weight<to 3>"], torch.eye(3))


def test_weights_that_no_process_uses_have_no_gradient(found):
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    alone = ddp_workers.own_loop(x, lambda module: module)
    assert found[0]["own loop"]["missing"] == alone["missing"] and any(alone["missing"])


def test_torch_says_what_to_do_about_unused_weights(found):
    assert all("find_unused_parameters=True" in one["without the option"] for one in found)


@pytest.mark.parametrize("name", ddp_workers.ALGORITHMS)
def test_two_processes_search_as_one_does(name, found):
    alone = ddp_workers.searched(name)
    first, second = (one[name] for one in found)
    assert first["dna"] == second["dna"] == alone["dna"]
    assert first["policy"] == second["policy"] and first["losses"] == second["losses"]
    assert first["losses"] == pytest.approx(alone["losses"], rel=1e-4)
    for path, chances in alone["policy"].items():
        assert first["policy"][path] == pytest.approx(chances, rel=1e-3)
    assert are_equal(first["weights"], second["weights"]) and are_close(first["weights"], alone["weights"])


@pytest.mark.parametrize("name", ddp_workers.OWN)
def test_two_processes_with_loops_of_their_own_search_as_one_does(name, found):
    alone = ddp_workers.own_steps(name, None, lambda module: module)
    first, second = (one[f"steps of {name}"] for one in found)
    assert first["policy"] == second["policy"] and are_equal(first["weights"], second["weights"])
    assert are_close(first["weights"], alone["weights"])
    for path, chances in alone["policy"].items():
        assert first["policy"][path] == pytest.approx(chances, rel=1e-3)


def test_two_processes_that_were_killed_go_on_bit_for_bit(found):
    for one in found:
        again, whole = one["continued"]["again"], one["continued"]["whole"]
        assert one["continued"]["wrote"]
        assert again["losses"] == whole["losses"] and again["policy"] == whole["policy"]
        assert are_equal(again["weights"], whole["weights"])


def test_statistics_of_norms_are_the_same_on_all_processes(found):
    first, second = (one["norms"] for one in found)
    assert are_equal(first["end"], second["end"])
    assert [epoch for epoch, _ in first["begun"]] == [0, 1]
    for (_, mine), (_, other) in zip(first["begun"], second["begun"], strict=True):
        assert are_equal(mine, other)


def test_processes_with_other_settings_are_refused_on_all(found):
    for one in found:
        assert one["other seed"] == (
            "cannot train together\n"
            "  at:       rank 1, seed\n"
            "  got:      1 (int)\n"
            "  expected: 0, as on rank 0\n"
            "  fix:      run the same program on every rank, each with as many batches as the others"
        )
        assert "rank 1, number of train batches\n  got:      3 (int)\n  expected: 2," in one["other length"]


def test_alone_nothing_is_sent():
    team, tensor = Team(torch.device("cpu")), torch.ones(2)
    assert (team.size, team.rank, team.is_alone, team.is_leader) == (1, 0, True, True)
    assert team.gather(3) == [3] and team.sent(3) == 3 and team.mean(0.1) == 0.1
    assert team.average([tensor, None]) == [tensor, None]
    team.need_same({"seed": 1})


class Faked(Team):
    """A team of two whose other process says what it is told to."""

    def __init__(self, other):
        super().__init__(torch.device("cpu"))
        self.size, self._other = 2, other

    def gather(self, value):
        return [value, self._other]


def test_a_fact_that_differs_is_named():
    Faked({"seed": 1}).need_same({"seed": 1})
    with pytest.raises(SettingError, match="rank 1, seed"):
        Faked({"seed": 2}).need_same({"seed": 1})


def test_samplers_hear_which_epoch_begins():
    data = torch.utils.data.TensorDataset(torch.arange(8))
    sampler = torch.utils.data.DistributedSampler(data, num_replicas=2, rank=0)
    loader = torch.utils.data.DataLoader(data, batch_size=2, sampler=sampler)
    orders = []
    for epoch in (0, 1, 0):
        begin_epoch(loader, epoch)
        orders.append(torch.cat([batch for (batch,) in loader]).tolist())
    assert orders[0] == orders[2] != orders[1]
    begin_epoch([1, 2], 0)  # Other batches have no sampler.
