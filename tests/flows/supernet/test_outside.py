"""What a shared program is to the outside: costs, files, copies, and who may switch it."""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys
import threading

import pytest
import supernet_zoo as zoo
import torch

import mutandis as mu
from mutandis.algorithms.oneshot.resources import TableCost
from mutandis.errors import LoweringError, SettingError, SpaceError
from mutandis.flows.supernet.outside import Owner


def through_file(thing, **options):
    buffer = io.BytesIO()
    torch.save(thing, buffer)
    buffer.seek(0)
    return torch.load(buffer, **options)


def made(name="residual"):
    program, batch = zoo.programs()[name]
    return mu.share_weights(program, batch), batch


def trained(shared, batch):
    """Moves all weights off where a new program begins."""
    with torch.no_grad():
        for tensor in (*shared.module.parameters(), *shared.module.buffers()):
            if tensor.is_floating_point():
                tensor.add_(0.01)
    return shared


def outputs(shared, batch):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return [shared.materialize(shared.space.random(seed))(batch) for seed in range(4)]


def are_alike(first, second, batch):
    pairs = zip(outputs(first, batch), outputs(second, batch), strict=True)
    return all(torch.equal(a[0], b[0]) if isinstance(a, tuple) else torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("way", [
    lambda shared: pickle.loads(pickle.dumps(shared)), copy.deepcopy, lambda shared: through_file(shared,
                                                                                               weights_only=False),
])  # fmt: skip
@pytest.mark.parametrize("name", ["residual", "arms", "transformer"])
def test_a_copy_has_the_weights_and_stands_where_the_original_does(way, name):
    shared, batch = made(name)
    trained(shared, batch).materialize(dna := shared.space.random(7)).eval()
    again = way(shared)
    assert again.dna == dna and not again._live.roots[0].training
    assert are_alike(shared, again, batch)
    trained(again, batch)
    assert not are_alike(shared, again, batch)


def test_a_copy_knows_weights_that_came_to_light_late():
    # At a rare combination of decisions there is a layer that no first child has had.
    decisions = [mu.oneof(list(range(1, 9)), name=name) for name in "abc"]
    shared = mu.share_weights(Rare(*decisions), torch.zeros(1, 2), check="always")
    before = set(shared.module.state_dict())
    shared.materialize(shared.space.dna(dict.fromkeys("abc", 6)))
    assert set(shared.module.state_dict()) > before
    again = pickle.loads(pickle.dumps(shared))
    assert set(again.module.state_dict()) == set(shared.module.state_dict())
    assert are_alike(shared, again, torch.ones(3, 2))


@mu.symbolize
class Rare(torch.nn.Module):
    def __init__(self, a, b, c):
        super().__init__()
        self.last = torch.nn.Linear(2, 1)
        self.rare = torch.nn.Linear(2, 2) if a == b == c == 7 else None

    def forward(self, x):
        return self.last(x if self.rare is None else self.rare(x))


def test_type_and_fixed_parameters_are_kept():
    shared, batch = made()
    shared.module.double()
    shared.module.get_parameter("head.bias").requires_grad_(False)
    again = pickle.loads(pickle.dumps(shared))
    kinds = {name: (p.dtype, p.requires_grad) for name, p in shared.module.named_parameters()}
    assert {name: (p.dtype, p.requires_grad) for name, p in again.module.named_parameters()} == kinds
    assert are_alike(shared, again, batch.double())


def test_a_copy_opens_in_another_process(tmp_path):
    width, x = mu.oneof([2, 3]), torch.ones(1, 4)
    shared = mu.share_weights(mu.nn.Sequential(mu.nn.Linear(4, width), mu.nn.Linear(width, 1)), x)
    torch.save({"shared": shared, "y": shared.materialize(shared.space.random(0))(x)}, tmp_path / "all.pt")
    script = (
        "import sys, torch\n"
        "found = torch.load(sys.argv[1], weights_only=False)\n"
        "shared = found['shared']\n"
        "assert torch.equal(shared.materialize(shared.space.random(0))(torch.ones(1, 4)), found['y'])\n"
    )
    subprocess.run([sys.executable, "-c", script, tmp_path / "all.pt"], check=True)


def test_the_state_is_plain_tensors_of_full_size():
    shared, batch = made()
    shared.materialize(shared.space.dna({p.path: 0 for p in shared.points}))
    state = through_file(shared.module.state_dict(), weights_only=True)
    fresh, _ = made()
    trained(fresh, batch).module.load_state_dict(state)
    assert state["head.weight"].shape == (5, 8) and are_alike(shared, fresh, batch)


def test_tensors_that_take_the_place_of_the_shared_ones_are_lent_from_then_on():
    shared, batch = made()
    live = shared.materialize(shared.space.random(0))
    state = {name: torch.zeros_like(tensor) for name, tensor in shared.module.state_dict().items()}
    shared.module.load_state_dict(state, assign=True)
    assert not live(batch).any()
    live(batch).sum().backward()
    assert shared.module.get_parameter("head.bias").grad is not None


def test_the_module_alone_has_the_weights_and_no_live_program():
    shared, batch = made()
    for alone in (through_file(shared.module, weights_only=False), copy.deepcopy(shared.module)):
        assert all(torch.equal(a, b) for a, b in zip(alone.parameters(), shared.module.parameters(), strict=True))
        with pytest.raises(LoweringError, match="cannot run the shared module"):
            alone(batch)
    assert torch.equal(shared.module(batch), shared.module(batch))


def test_a_live_program_cannot_be_written_and_an_exported_child_can():
    shared, batch = made()
    dna = shared.space.random(0)
    with pytest.raises(LoweringError, match=r"use shared.export\(dna\)"):
        through_file(shared.materialize(dna))
    child = through_file(shared.export(dna), weights_only=False)
    assert torch.equal(child(batch), shared.materialize(dna)(batch))
    size = len(pickle.dumps(child.state_dict()))
    assert size < len(pickle.dumps(shared.module.state_dict()))


def run(action):
    """Runs an action in a thread, and returns its error."""
    found = []

    def catch():
        try:
            action()
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=catch, name="other")
    thread.start()
    thread.join()
    return found[0] if found else None


def test_a_second_thread_is_refused_until_the_first_lets_go():
    shared, _ = made()
    shared.materialize(shared.space.random(0))
    error = run(lambda: shared.materialize(shared.space.random(1)))
    assert str(error) == (
        "cannot switch a shared program from two threads\n"
        "  got:      'thread other, while thread MainThread has it' (str)\n"
        "  expected: one thread, since there is one live program\n"
        "  fix:      give each thread a copy of its own (copy.deepcopy(shared)), or call shared.release() in the first"
    )
    shared.release()
    assert run(lambda: shared.materialize(shared.space.random(1))) is None
    shared.materialize(shared.space.random(2))  # The other thread is over.


def test_a_thread_may_train_what_another_has_made():
    shared, batch = made()
    assert run(lambda: shared.materialize(shared.space.random(1))(batch).sum().backward()) is None


def test_threads_with_copies_of_their_own_do_not_meet():
    shared, batch = made("arms")
    dnas = [shared.space.random(seed) for seed in range(20)]
    wanted = [shared.materialize(dna).eval()(batch) for dna in dnas]
    results: dict[int, list] = {}

    def work(number, own):
        results[number] = [own.materialize(dna).eval()(batch) for dna in dnas]

    threads = [threading.Thread(target=work, args=(i, copy.deepcopy(shared))) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(a, b) for found in results.values() for a, b in zip(found, wanted, strict=True))


def test_whoever_claims_first_has_it():
    owner = Owner()
    owner.claim()
    owner.claim()
    assert isinstance(run(owner.claim), LoweringError)


@pytest.fixture(scope="module")
def shared():
    program, batch = zoo.programs()["residual"]
    return mu.share_weights(program, batch)


@pytest.mark.parametrize("what", ["flops", "params", "memory_bytes"])
@pytest.mark.parametrize("seed", range(3))
def test_a_child_costs_what_it_costs_when_it_is_built(shared, what, seed):
    dna = shared.space.random(seed)
    batch = zoo.images()
    child = mu.space(zoo.programs()["residual"][0]).materialize(dna)
    assert shared.cost(dna, what) == mu.flows.measure(child, what, batch)


def test_the_time_of_a_pass_is_measured(shared):
    assert 0.0 < shared.cost(shared.space.random(0), "latency_ms") < 1000.0


def test_operations_are_the_default_and_grow_with_the_batch(shared):
    dna = shared.space.random(0)
    assert shared.cost(dna) == shared.cost(dna, "flops")
    assert shared.cost(dna, batch=zoo.images(batch=4)) == 2 * shared.cost(dna)


def test_a_function_and_a_table_are_costs_too(shared):
    dna = shared.space.dna({p.path: 1 if p.path == "width" else 0 for p in shared.points})
    assert shared.cost(dna, lambda child: child.head.in_features) == 8.0
    assert shared.cost(dna, TableCost({"width": [1.0, 5.0]})) == 5.0
    model = mu.flows.fit_cost(shared, "flops", zoo.images())
    assert shared.cost(dna, model) == model(dna) == shared.cost(dna)


def test_the_program_stands_where_it_stood(shared):
    here, other = shared.space.random(0), shared.space.random(1)
    live = shared.materialize(here)
    live.eval()
    before = {name: tensor.clone() for name, tensor in shared.module.state_dict().items()}
    shared.cost(other, "memory_bytes")
    assert shared.dna == here and not live.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in shared.module.state_dict().items())


def test_a_program_of_several_modules_is_run_as_it_was_said_to():
    program = {"first": mu.nn.Linear(4, 4), "second": mu.oneof([mu.nn.Linear(4, 3), mu.nn.Linear(4, 1)], name="last")}
    shared = mu.share_weights(program, zoo.features(2, 4), run=lambda made, x: made["second"](made["first"](x)))
    costs = [shared.cost(shared.space.dna({"last": index})) for index in range(2)]
    assert costs == [2 * 2 * 4 * (4 + 3), 2 * 2 * 4 * (4 + 1)]


def test_the_batch_follows_the_weights():
    program, batch = zoo.programs()["residual"]
    shared = mu.share_weights(program, batch)
    dna = shared.space.random(0)
    wanted = shared.cost(dna)
    shared.module.double()
    assert shared.cost(dna) == wanted
    words, tokens = zoo.programs()["transformer"]
    assert mu.share_weights(words, (tokens,)).cost(mu.space(words).random(0)) > 0.0


def test_a_measure_without_a_batch_is_refused():
    shared = mu.share_weights(zoo.programs()["arms"][0])
    assert shared.cost(shared.space.random(0), "params") > 0
    with pytest.raises(SettingError, match="cannot measure a cost\n  at:       batch"):
        shared.cost(shared.space.random(0))


def test_children_of_a_shared_program_are_decided_in_full(shared):
    with pytest.raises(SpaceError, match="cannot leave decisions of a shared program undecided"):
        mu.sample(shared, mu.algorithms.Random(), where=lambda point: point.path == "width")
