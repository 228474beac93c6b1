"""Sharing the weights of whole programs: exact for every child, plain PyTorch in place, and no surprise on the way."""

from __future__ import annotations

import copy
import functools
import io
import pickle

import pytest
import supernet_zoo as zoo
import torch
from torch import nn

import mutandis as mu
from mutandis.errors import DecisionError, LoweringError, SpaceError
from mutandis.models.nats import SizeNetwork, topology_program

LEADING = {"switching"}
"""Programs whose smaller children have other layers in front of a cut one, so that nothing can be proven."""


def share(name, **settings):
    program, batch = zoo.programs()[name]
    return mu.share_weights(program, batch, positions="leading" if name in LEADING else "proven", **settings), batch


@functools.cache
def ready(name):
    """Returns what `share` does, for tests that change nothing that lasts."""
    return share(name)


@pytest.fixture(scope="module")
def cells():
    return mu.share_weights(topology_program(channels=4, cells_per_stage=1))


@pytest.mark.parametrize("name", zoo.NAMES)
def test_every_child_is_exactly_the_one_that_is_really_built(name):
    shared, batch = ready(name)
    for seed in range(5):
        found = shared.verify(shared.space.random(seed), batch)
        assert found.error < 1e-9 and found.tensors == len(shared.module.state_dict())
        assert found.positions == ("unknown" if name in LEADING and "unknown" in found.positions else "proven")


@pytest.mark.parametrize("name", zoo.NAMES)
def test_an_exported_child_gives_what_the_live_program_gives_and_is_free_of_it(name):
    shared, batch = ready(name)
    dna = shared.space.random(11)
    live, child = shared.materialize(dna).eval(), shared.export(dna).eval()
    assert torch.equal(_first(live(batch)), _first(child(batch)))
    assert all(type(p) is nn.Parameter and p.is_leaf for p in child.parameters())
    assert mu.to_json(child) == mu.to_json(mu.space(zoo.programs()[name][0]).materialize(dna))
    assert not child.training and shared.materialize(dna).train() and shared.export(dna).training
    live.eval()
    before = _first(live(batch)).detach().clone()
    with torch.no_grad():
        for parameter in child.parameters():
            parameter.add_(1.0)
    assert torch.equal(_first(live(batch)), before)
    copy.deepcopy(child)
    pickle.dumps(child.state_dict())


def _first(output):
    return output[0] if isinstance(output, tuple) else output


def test_a_network_of_cells_is_switched_without_building_anything(cells):
    before = cells.num_builds
    x = zoo.images()
    for seed in range(200):
        dna = cells.space.random(seed)
        live = cells.materialize(dna)
        assert [type(e).__name__ for e in live.cells[0].edges] == [type(e).__name__ for e in live.cells[2].edges]
    assert cells.num_builds == before
    assert cells.verify(dna, x).error == 0.0


def test_attributes_that_hang_on_every_decision_are_right_when_they_are_read(cells):
    for seed in (3, 4):
        dna = cells.space.random(seed)
        live, real = cells.materialize(dna), mu.space(topology_program(channels=4, cells_per_stage=1)).materialize(dna)
        assert live.arch == real.arch and type(live) is type(real)
        assert mu.to_json(live) == mu.to_json(real)
        assert cells.space.encode(live) == dna
        assert "arch" not in dict(live.named_buffers())


def test_arms_that_are_not_chosen_cost_nothing_and_get_no_gradient(cells):
    dna = cells.space.dna(dict(zip((p.key for p in cells.points), [3, 1, 2, 0, 4, 3], strict=True)))
    cells.module.zero_grad()
    live = cells.materialize(dna)
    live(zoo.images()).square().mean().backward()
    names = {name for name, p in cells.module.named_parameters() if p.grad is not None}
    used = {f"cells.{c}.edges.{e}.{layer}" for c in (0, 2, 4) for e, k in enumerate([3, 1, 2, 0, 4, 3])
            if k in (2, 3) for layer in (f"1.weight[{e}={k}]", f"2.weight[{e}={k}]", f"2.bias[{e}={k}]")}  # fmt: skip
    assert {name for name in names if "edges" in name} == used
    assert sum(p.numel() for p in live.parameters()) == sum(
        p.numel() for name, p in cells.module.named_parameters() if name in names)  # fmt: skip


def test_candidates_have_weights_of_their_own_even_where_they_are_alike():
    conv = topology_program(channels=4, cells_per_stage=1)
    edges = mu.arguments(conv)["operations"]
    only = [mu.oneof([c for c in e.candidates if c.name.startswith("nor")], name=e.name) for e in edges]
    shared = mu.share_weights(mu.clone(conv, operations=only))
    names = {name for name, _ in shared.module.named_parameters() if name.startswith("cells.0.edges.0.2.weight")}
    assert names == {"cells.0.edges.0.2.weight[0=0]", "cells.0.edges.0.2.weight[0=1]"}


def test_sampling_yields_the_live_program_with_the_same_decisions_as_without_sharing(cells):
    program = topology_program(channels=4, cells_per_stage=1)
    algorithm = mu.algorithms.RegularizedEvolution(4, 2)
    seen = []
    for source in (program, cells):
        loop = mu.sample(source, algorithm, trials=8, seed=5)
        for child, feedback in loop:
            feedback(len(child.arch) + child.arch.count("3"))
        seen.append([trial.dna for trial in loop.study.trials])
    assert seen[0] == seen[1]
    assert len({id(child) for child, feedback in _skipping(mu.sample(cells, algorithm, trials=3))}) == 1


def _skipping(loop):
    for child, feedback in loop:
        feedback.skip("only looked at")
        yield child, feedback


def test_a_predicate_of_the_space_is_kept():
    space = mu.space(mu.nn.Sequential(mu.nn.Linear(4, 2), mu.oneof([mu.nn.ReLU(), mu.nn.Tanh()])))
    shared = mu.share_weights(space.require(lambda child: isinstance(child[1], nn.Tanh)))
    assert {shared.space.random(seed).values for seed in range(9)} == {(1,)}


def test_the_program_around_a_module_is_built_anew_around_the_live_module():
    model = mu.nn.Sequential(mu.nn.Linear(4, 3), mu.oneof([mu.nn.GELU(), mu.nn.Linear(3, 3)]))
    shared = mu.share_weights(zoo.Trainer(model, mu.floatv(0.01, 0.1)))
    before = shared.module.state_dict()["model.0.weight"].clone()
    a, b = (shared.materialize(shared.space.random(seed)) for seed in (0, 1))
    assert type(a) is zoo.Trainer and a.model is b.model and a.rate != b.rate
    b.run()
    assert not torch.equal(shared.module.state_dict()["model.0.weight"], before)
    exported = shared.export(shared.space.random(0))
    assert exported.rate == a.rate and exported.model is not a.model


def test_two_modules_of_a_program_are_both_live():
    width = mu.oneof([2, 4])
    program = {"a": mu.nn.Linear(3, width), "b": [mu.nn.Linear(width, 1)]}
    shared = mu.share_weights(program, positions="leading")
    live = shared.materialize(shared.space.dna({shared.points[0].path: 0}))
    assert live["b"][0](live["a"](torch.ones(1, 3))).shape == (1, 1)
    assert sorted(dict(shared.module.named_parameters())) == ["a.bias", "a.weight", "b.0.bias", "b.0.weight"]
    with pytest.raises(LoweringError, match="cannot run the shared module"):
        shared.module(torch.ones(1, 3))


def test_a_layer_put_in_by_an_edit_is_shared():
    net = zoo.Deep(2)
    net.rebind({"blocks[1]": mu.oneof([mu.nn.Linear(6, 6), mu.nn.Identity()])})
    shared = mu.share_weights(net, zoo.features(3, 4))
    kinds = [type(shared.materialize(dna).blocks[1]).__name__ for dna in shared.space.enumerate()]
    assert kinds == ["Linear", "Identity"]


def test_layers_hold_plain_numbers_and_are_of_the_classes_that_were_written():
    shared, _ = ready("transformer")
    dna = shared.space.dna({"width": 0, "heads": 1, "depth": 0, "hidden": 0})
    live = shared.materialize(dna)
    assert type(live.layers[0].attention) is nn.MultiheadAttention and len(live.layers) == 1
    attention = live.layers[0].attention
    assert [type(n) for n in (attention.embed_dim, attention.head_dim)] == [int, int]
    assert attention.embed_dim == 8 and attention.head_dim == 4
    assert live.place.shape == (1, 7, 8) and torch.equal(live.wave, torch.sin(torch.arange(8) / 8))
    assert live.head.weight is live.token.weight
    names = [name for name in shared.module.state_dict() if "head" in name or "token" in name]
    assert names == ["token.weight"]


def test_blocks_that_a_depth_leaves_out_get_no_gradient():
    shared, batch = ready("deep")
    shared.module.zero_grad()
    shared.materialize(shared.space.dna({"depth": 0}))(batch).sum().backward()
    missing = [name for name, p in shared.module.named_parameters() if p.grad is None]
    assert missing == ["blocks.1.weight", "blocks.1.bias", "blocks.2.weight", "blocks.2.bias"]


def test_gradients_of_gates_go_to_the_leading_rows_of_each_gate():
    shared, batch = ready("lstm")
    live = shared.materialize(shared.space.dna({"width": 1, "hidden": 0, "dropout": 0.0}))
    shared.module.zero_grad()
    live(batch).square().sum().backward()
    rows = dict(shared.module.named_parameters())["rnn.weight_hh_l0"].grad.abs().sum(1).ne(0).view(4, 8)
    assert rows.tolist() == [[True] * 4 + [False] * 4] * 4


def test_gradients_of_packed_projections_go_to_the_leading_rows_of_each():
    shared, batch = ready("transformer")
    shared.module.zero_grad()
    live = shared.materialize(shared.space.dna({"width": 0, "heads": 0, "depth": 0, "hidden": 0}))
    live(batch).square().sum().backward()
    gradient = dict(shared.module.named_parameters())["layers.0.attention.in_proj_weight"].grad
    assert gradient.abs().sum(1).ne(0).view(3, 16).tolist() == [[True] * 8 + [False] * 8] * 3
    assert gradient.abs().sum(0).ne(0).tolist() == [True] * 8 + [False] * 8


def test_a_setting_that_is_a_decision_follows_it():
    shared, _ = ready("lstm")
    live = [shared.materialize(shared.space.dna({"width": 0, "hidden": 0, "dropout": p})) for p in (0.1, 0.4)]
    assert live[0] is live[1] and live[1].dropout.p == 0.4


def test_a_branch_of_equal_sizes_is_built_for_the_sizes_where_it_is_taken():
    program = zoo.Skips(mu.oneof([8, 4]), mu.oneof([8, 4]))
    shared = mu.share_weights(program, zoo.images(), positions="leading")
    for dna in shared.space.enumerate():
        assert shared.verify(dna, zoo.images()).error == 0.0
        assert shared.materialize(dna).skip.is_skip is (dna[0] == dna[1])


def test_the_largest_tensor_may_belong_to_the_smallest_number():
    shared = mu.share_weights(zoo.Shrinking(mu.oneof([4, 1, 2])), zoo.features(3, 4))
    assert shared.module.state_dict()["first.weight"].shape == (16, 4)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_a_switch_inside_a_context_without_gradients_does_not_lose_them(context):
    shared, batch = share("widths of layers")
    dna = shared.space.dna({shared.points[0].path: 0})
    with context():
        shared._live.renew()  # Otherwise the views of the first switch are still there.
        shared.materialize(dna)
    shared.materialize(dna)(batch).sum().backward()
    assert all(p.grad is not None for p in shared.module.parameters())


def test_weights_that_are_stepped_are_seen_by_every_child():
    shared, batch = share("concat")
    optimizer = torch.optim.SGD(shared.module.parameters(), 0.1)
    small, large = (shared.space.dna({"first": i, "second": 1}) for i in (1, 0))
    for dna in (small, large, small):
        for _ in range(2):
            optimizer.zero_grad()
            shared.materialize(dna)(batch).square().mean().backward()
            optimizer.step()
    assert shared.verify(large, batch).error < 1e-9
    live, child = shared.materialize(small), shared.export(small)
    assert torch.equal(live.norm.running_mean, child.norm.running_mean)
    assert not torch.equal(child.norm.running_mean, torch.zeros(5))
    assert torch.equal(live.eval()(batch), child.eval()(batch))


def test_a_gathered_weight_can_go_through_two_backward_passes():
    shared, batch = share("concat")
    live = shared.materialize(shared.space.dna({"first": 1, "second": 0}))
    for _ in range(2):
        live(batch).sum().backward()


def test_moving_the_shared_module_moves_every_child():
    shared, batch = share("transformer")
    dna = shared.space.random(1)
    before = shared.materialize(dna).eval()(batch)
    assert shared.module.double() is shared.module
    for other in (dna, shared.space.random(2)):
        live = shared.materialize(other)
        assert {t.dtype for t in (*live.parameters(), *live.buffers())} == {torch.float64}
    assert torch.allclose(shared.materialize(dna)(batch), before.double(), atol=1e-5)
    assert shared.export(dna)(batch).dtype is torch.float64
    assert shared.verify(dna, batch).error < 1e-9


def test_the_state_is_that_of_the_largest_tensors_wherever_the_program_stands():
    shared, batch = share("transformer", seed=3)
    dna = shared.space.dna({"width": 0, "heads": 0, "depth": 0, "hidden": 0})
    before = shared.materialize(dna).eval()(batch)
    file = io.BytesIO()
    torch.save(shared.module.state_dict(), file)
    file.seek(0)
    other, _ = share("transformer", seed=4)
    assert not torch.equal(other.materialize(dna).eval()(batch), before)
    other.module.load_state_dict(torch.load(file))
    assert torch.equal(other.materialize(dna)(batch), before)
    assert other.module.state_dict()["token.weight"].shape == (11, 16)
    assert pickle.loads(pickle.dumps(shared.module)).state_dict().keys() == shared.module.state_dict().keys()


def test_the_mode_of_the_live_program_carries_over_to_the_next_child():
    shared, _ = share("arms")
    a, b = (
        shared.space.dna({p.path: v for p, v in zip(shared.points, values, strict=True)}) for values in ((0, 0), (1, 1))
    )
    shared.materialize(a).eval()
    assert all(not module.training for module in shared.materialize(b).modules())
    shared.module.train()
    assert all(module.training for module in shared.materialize(a).modules())


def test_the_seed_decides_the_initial_weights_and_the_global_generator_is_left_alone():
    before = torch.random.get_rng_state()
    states = [share("arms", seed=seed)[0].module.state_dict() for seed in (1, 1, 2)]
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(states[0].values(), states[1].values(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(states[0].values(), states[2].values(), strict=True))


def test_initial_weights_are_those_of_real_children():
    shared, _ = share("residual")
    assert float(shared.module.state_dict()["block.norm.weight"].min()) == 1.0
    bound = 1 / (8 * 1) ** 0.5
    weight = shared.module.state_dict()["block.widen.weight"]
    assert 0.5 * bound < float(weight.abs().max()) <= bound and bool(weight.ne(0).all())


@mu.symbolize
class Rare(nn.Module):
    """What a thousandth of the children have, and none of those that are looked at first."""

    def __init__(self, a, b, c):
        super().__init__()
        self.first = nn.Linear(3, 2)
        self.is_rare = a == 3 and b == 2 and c == 1
        if self.is_rare:
            self.extra = nn.Linear(2, 2)

    def forward(self, x):
        return self.extra(self.first(x)) if self.is_rare else self.first(x)


def rare_and_usual(**settings):
    shared = mu.share_weights(Rare(*(mu.intv(1, 9) for _ in range(3))), positions="leading", **settings)
    keys = [point.key for point in shared.points]
    return shared, *(shared.space.dna(dict(zip(keys, values, strict=True))) for values in ((3, 2, 1), (3, 2, 2)))


def test_what_was_never_seen_before_is_learned_when_it_is_met():
    shared, rare, usual = rare_and_usual(check="always")
    shared.materialize(usual).eval()
    before = set(shared.module.state_dict())
    live = shared.materialize(rare)
    assert live.is_rare and not live.training
    assert set(shared.module.state_dict()) - before == {"extra.weight", "extra.bias"}
    assert not shared.materialize(usual).is_rare
    for builds in (None, shared.num_builds + 1):  # Once more at most, since another part may have been cut anew.
        assert [hasattr(shared.materialize(dna), "extra") for dna in (rare, usual)] == [True, False]
        assert builds is None or shared.num_builds <= builds
    for dna in (rare, usual):
        assert shared.verify(dna, zoo.features(2, 3)).error < 1e-9


def test_an_export_finds_what_sampling_has_not_seen():
    shared, rare, usual = rare_and_usual()
    assert not shared.materialize(rare).is_rare  # The price of looking at some children only.
    with pytest.raises(LoweringError, match="differs from the child that was really built"):
        shared.verify(rare)
    child = shared.export(rare)
    assert child.is_rare and bool(child.extra.weight.ne(0).all())
    assert shared.materialize(rare).is_rare and not shared.materialize(usual).is_rare


def test_a_live_program_that_reads_late_refuses_to_be_copied(cells):
    live = cells.materialize(cells.space.random(0))
    for do in (copy.deepcopy, pickle.dumps):
        with pytest.raises(LoweringError) as error:
            do(live)
        assert str(error.value) == (
            "cannot copy the live program, whose weights are shared\n"
            "  expected: a free-standing child\n"
            "  fix:      use shared.export(dna)"
        )


def test_the_shared_module_runs_the_live_program():
    shared, batch = share("arms")
    live = shared.materialize(shared.space.random(0))
    assert torch.equal(shared.module.eval()(batch), live(batch))
    assert shared.dna == shared.space.random(0)
    assert repr(shared) == "Shared(2 decisions, 408 shared weights)"


def test_the_widths_of_a_published_network_are_shared_exactly():
    widths = [mu.oneof([8, 4]), mu.oneof([8, 4]), 8, mu.oneof([16, 8]), 8]
    shared = mu.share_weights(SizeNetwork(widths), zoo.images(size=8))
    for dna in shared.space.enumerate():  # Equal widths have an identity where others have a projection.
        found = shared.verify(dna, zoo.images(size=8))
        assert found.positions == "proven" and found.error < 1e-9


def test_a_dna_of_another_space_is_refused(cells):
    with pytest.raises(DecisionError):
        cells.materialize(mu.space(mu.oneof([1, 2])).random(0))


def test_decisions_cannot_be_left_open(cells):
    with pytest.raises(SpaceError, match="cannot leave decisions of a shared program undecided"):
        mu.sample(cells, mu.algorithms.Random(), where=lambda point: point.index == 0)


def vision(name, **arguments):
    models = pytest.importorskip("mutandis.symbolic.modules.vision").import_torchvision().models
    return mu.bind(getattr(models, name), num_classes=5, **arguments)


def test_a_mobile_network_of_a_library_is_shared_without_an_edit():
    width, expansion = mu.oneof([16, 20]), mu.oneof([2, 4, 6])
    setting = [[1, 16, 1, 1], [expansion, width, 2, 2], [2, 32, mu.oneof([1]), 2]]
    program = vision("mobilenet_v2", width_mult=0.25, inverted_residual_setting=setting)
    shared = mu.share_weights(program, zoo.images(size=32))
    for dna in shared.space.enumerate():
        found = shared.verify(dna, zoo.images(size=32))
        assert found.error < 1e-9 and found.positions == "proven"


@pytest.mark.slow
def test_a_layer_of_a_library_network_becomes_a_choice_by_an_edit():
    program = vision("resnet18")
    conv = {"padding": 1, "bias": False}
    options = [mu.nn.Conv2d(64, 64, 3, **conv), mu.nn.Conv2d(64, 64, 1, bias=False), mu.nn.Identity()]
    program.rebind({"layer1[0].conv2": mu.oneof(options)})
    shared = mu.share_weights(program, zoo.images(size=32))
    for dna in shared.space.enumerate():
        assert shared.verify(dna, zoo.images(size=32)).error < 1e-9
    assert {name for name in shared.module.state_dict() if "layer1.0.conv2" in name} == {
        "layer1.0.conv2.weight[0=0]", "layer1.0.conv2.weight[0=1]"}  # fmt: skip


@pytest.mark.slow
def test_the_widths_of_a_library_network_are_shared():
    models = pytest.importorskip("mutandis.symbolic.modules.vision").import_torchvision().models
    block = models.resnet.Bottleneck
    program = mu.bind(models.ResNet, block, [1, 1, 1, 1], width_per_group=mu.oneof([64, 48, 32]), num_classes=5)
    shared = mu.share_weights(program, zoo.images(size=32))
    for dna in shared.space.enumerate():
        found = shared.verify(dna, zoo.images(size=32))
        assert found.error < 1e-9 and found.positions == "proven"


def test_a_compiled_child_is_one_graph_however_often_it_is_switched_to():
    shared, batch = share("arms")
    keys = [point.key for point in shared.points]
    first, other = (shared.space.dna(dict(zip(keys, v, strict=True))) for v in ((0, 0), (1, 1)))
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph

    run = torch.compile(shared.materialize(first).eval(), backend=backend)
    for _ in range(3):
        for dna in (first, other):
            live = shared.materialize(dna)
            assert torch.equal(run(batch), live(batch))
    assert len(graphs) == 2
