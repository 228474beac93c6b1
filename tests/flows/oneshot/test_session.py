"""Steps and epochs: who is asked for what, when, and with which step size."""

from __future__ import annotations

import math

import pytest
import torch
import torch.utils.checkpoint
from ddp_workers import Told
from toy_shared import cells, images, squared, toy_batches, toy_program

import mutandis as mu
from mutandis.algorithms.oneshot.gates import DSNAS, ProxylessNAS
from mutandis.algorithms.oneshot.gumbel import GDAS, SNAS
from mutandis.algorithms.oneshot.mixtures import DARTS
from mutandis.algorithms.oneshot.protocol import Needs
from mutandis.algorithms.oneshot.selections import Index, Selections
from mutandis.algorithms.oneshot.single_path import RSPS
from mutandis.errors import LoweringError, SettingError
from mutandis.flows.oneshot.inventory import Inventory
from mutandis.flows.oneshot.recipe import Recipe
from mutandis.flows.oneshot.running import storage_of
from mutandis.flows.oneshot.session import Session, endless, length_of, peek


class Scripted:
    """A search that notes what is asked of it."""

    def __init__(self, **needs):
        self.needs = Needs(**needs)
        self.seen = []

    def progress(self, fraction):
        self.seen.append(("progress", round(fraction, 4)))

    def weights(self):
        self.seen.append("weights")
        return Selections(-1, {0: Index(0), 1: Index(0)})

    def policy(self):
        self.seen.append("policy")
        return Selections(0, {0: Index(1), 1: Index(0)})

    def feedback(self, selections, **outcome):
        ((kind, value),) = outcome.items()
        self.seen.append((kind, float(value.detach()) if kind == "loss" else value))

    def entropy(self):
        return {}

    def probabilities(self):
        return {}


def session(search, *, shared=None, train=None, valid=None, **changes):
    shared = shared or mu.share_weights(toy_program())
    recipe = Recipe(**{"epochs": 2, "loss": squared, **changes})
    return Session(shared, search, recipe, train or toy_batches(2, 0), valid or toy_batches(3, 1), Inventory(shared))


def asked(search):
    return [what if isinstance(what, str) else what[0] for what in search.seen]


def ignore(count, loss):
    pass


def test_loaders_hear_which_epoch_begins():
    heard = []
    train, valid = (Told(toy_batches(2, i), lambda epoch, i=i: heard.append((i, epoch))) for i in range(2))
    run = session(Scripted(), train=train, valid=valid)
    run.run_epoch(ignore)
    run.run_epoch(ignore)
    assert heard == [(0, 0), (1, 0), (0, 1), (1, 1)]


def test_policy_steps_alternate_with_weight_steps():
    search = Scripted()
    session(search).run_epoch(ignore)
    assert asked(search) == [*["progress", "weights", "policy", "loss"] * 2, "progress"]
    assert [value for kind, value in (s for s in search.seen if s[0] == "progress")] == [0.0, 0.25, 0.5]


@pytest.mark.parametrize(("every", "expected"), [
    (1, ["policy", "loss", "weights"] * 2), (2, ["policy", "loss", "weights", "weights"]),
    (0, ["weights", "weights", "policy", "loss"]),
])  # fmt: skip
def test_policy_steps_come_before_weight_steps_where_that_is_asked_for(every, expected):
    search = Scripted(every=every, policy_first=True)
    session(search).run_epoch(ignore)
    assert [what for what in asked(search) if what != "progress"] == expected


@pytest.mark.parametrize(("every", "expected"), [
    (2, ["weights", "weights", "policy", "loss"]), (0, ["weights", "weights", "policy", "loss", "policy", "loss"]),
])  # fmt: skip
def test_policy_steps_come_when_they_are_due(every, expected):
    search = Scripted(every=every, draws=2 if every == 0 else 1)
    session(search).run_epoch(ignore)
    assert [what for what in asked(search) if what != "progress"] == expected


def test_one_pass_serves_both():
    search = Scripted(data="train", is_one_pass=True)
    run = session(search)
    run.run_epoch(ignore)
    assert [what for what in asked(search) if what != "progress"] == ["policy", "loss"] * 2
    assert run.history[0].outcome is None and math.isfinite(run.history[0].loss)


def test_a_search_without_a_policy_is_not_asked_for_one():
    search = Scripted(data="none", outcome="none", draws=0)
    session(search).run_epoch(ignore)
    assert set(asked(search)) == {"progress", "weights"}


def test_several_paths_share_a_weight_step_and_their_gradients_add_up():
    class Two(Scripted):
        def weights(self):
            self.seen.append("weights")
            return Selections(-1, {0: Index(len(self.seen) % 2), 1: Index(0)})

    def trained(search):
        shared = mu.share_weights(toy_program())
        torch.manual_seed(0)
        with torch.no_grad():
            for parameter in shared.module.parameters():
                parameter.copy_(torch.randn(parameter.shape))
        made = session(search, shared=shared, train=toy_batches(1, 0), schedule=None, clip=None,
                       optimizer=lambda weights: torch.optim.SGD(weights, lr=0.1))  # fmt: skip
        before = [parameter.detach().clone() for parameter in shared.module.parameters()]
        made.run_epoch(ignore)
        return [after.detach() - old for after, old in zip(shared.module.parameters(), before, strict=True)]

    both, alone = Two(data="none", paths=2), Two(data="none", paths=1)
    alone_too = Two(data="none", paths=1)
    alone_too.seen.append("odd")
    moves = [trained(search) for search in (both, alone, alone_too)]
    assert asked(both) == ["progress", "weights", "weights", "progress"]
    for together, first, second in zip(*moves, strict=True):
        torch.testing.assert_close(together, first + second)


def test_policy_steps_see_valid_batches_one_after_the_other():
    shared = mu.share_weights(toy_program())
    valid = toy_batches(2, 1)
    search = Scripted(draws=3, every=2, outcome="reward")
    run = session(search, shared=shared, valid=valid, metric=lambda child, batch: float(batch[0][0, 0]))
    run.run_epoch(ignore)
    firsts = [float(x[0, 0]) for x, _ in valid]
    assert [value for kind, value in (s for s in search.seen if s[0] == "reward")] == [*firsts, firsts[0]]
    assert run.history[0].outcome == pytest.approx((2 * firsts[0] + firsts[1]) / 3)


def test_policy_steps_on_train_batches_see_that_of_the_weight_step():
    train = toy_batches(2, 0)
    search = Scripted(data="train", outcome="reward")
    session(search, train=train, metric=lambda child, batch: float(batch[0][0, 0])).run_epoch(ignore)
    assert [s[1] for s in search.seen if s[0] == "reward"] == [float(x[0, 0]) for x, _ in train]


def test_policy_steps_leave_the_weights_alone():
    shared = mu.share_weights(toy_program())
    run = session(GDAS().start_shared(shared.space.bare(), seed=0), shared=shared)
    before = {name: p.clone() for name, p in shared.module.named_parameters()}
    run._policy_step(toy_batches(1, 0)[0], None)
    assert all(torch.equal(p, before[name]) and p.grad is None for name, p in shared.module.named_parameters())


def test_weight_steps_train_only_what_has_run():
    shared = mu.share_weights(toy_program())
    run = session(Scripted(data="none", draws=0), shared=shared)
    before = {name: p.detach().clone() for name, p in shared.module.named_parameters()}
    run.run_epoch(ignore)
    changed = {name for name, p in shared.module.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {"curves.0.scale[0=0]", "curves.1.scale[1=0]"}
    assert all(p.grad is None for p in shared.module.parameters())


def test_gradients_of_an_earlier_loop_take_no_part():
    shared = mu.share_weights(toy_program())
    for parameter in shared.module.parameters():
        parameter.grad = torch.full_like(parameter, 1e6)
    run = session(Scripted(data="none", draws=0), shared=shared, schedule=None)
    run.run_epoch(ignore)
    assert all(float(p.detach().abs()) < 2.0 for p in shared.module.parameters())


def test_the_step_size_follows_the_schedule():
    rates = []
    run = session(Scripted(), schedule=lambda fraction: 1.0 - fraction)
    run.optimizer.register_step_pre_hook(lambda o, *rest: rates.append(o.param_groups[0]["lr"]))
    run.run_epoch(ignore)
    run.run_epoch(ignore)
    assert rates == pytest.approx([0.025, 0.025 * 0.75, 0.025 * 0.5, 0.025 * 0.25])
    assert run.history[1].learning_rate == rates[-1]


def test_gradients_are_clipped():
    norms = []
    run = session(Scripted(), clip=0.01, loss=lambda child, batch: 100 * squared(child, batch))
    run.optimizer.register_step_pre_hook(lambda o, *rest: norms.append(math.sqrt(sum(
        float(p.grad.square().sum()) for p in o.param_groups[0]["params"] if p.grad is not None
    ))))  # fmt: skip
    run.run_epoch(ignore)
    assert norms == pytest.approx([0.01, 0.01], rel=1e-3)


def test_a_loss_that_is_not_finite_leaves_the_weights_alone():
    shared = mu.share_weights(toy_program())
    run = session(Scripted(data="none", draws=0), shared=shared, loss=lambda c, b: squared(c, b) * float("nan"))
    before = [p.detach().clone() for p in shared.module.parameters()]
    record = run.run_epoch(ignore)
    assert all(torch.equal(a, b) for a, b in zip(before, shared.module.parameters(), strict=True))
    assert record.num_skipped == 2 and math.isnan(record.loss)


@pytest.mark.parametrize(("norm", "is_fixed"), [("batch_no_affine", True), ("batch_affine", False)])
def test_scales_of_searched_norms_are_trained_only_where_that_is_asked_for(norm, is_fixed):
    shared = cells()
    search = GDAS().start_shared(shared.space.bare(), seed=0)
    run = session(search, shared=shared, train=images(3, 0), valid=images(1, 1), loss=None, norm=norm)
    norms = Inventory(shared).norms
    before = {name: p.detach().clone() for name, p in shared.module.named_parameters()}
    run.run_epoch(ignore)
    changed = {storage_of(p) for name, p in shared.module.named_parameters() if not torch.equal(p, before[name])}
    assert changed and bool(changed & norms) is not is_fixed


def test_what_is_told_is_counted_over_epochs():
    told = []
    run = session(Scripted())
    for _ in range(2):
        run.run_epoch(lambda count, loss: told.append(count))
    assert told == [1, 2, 3, 4]


def test_batches_that_can_be_gone_through_once_are_refused():
    with pytest.raises(SettingError) as caught:
        length_of(iter([1]), "valid")
    assert str(caught.value).replace(str(caught.value).splitlines()[2], "  got:      ...") == (
        "cannot train on batches\n"
        "  at:       one_shot.valid\n"
        "  got:      ...\n"
        "  expected: something that can be gone through every epoch, such as a DataLoader or a list\n"
        "  fix:      pass the loader, not iter(loader)"
    )


def test_no_batches_are_refused():
    with pytest.raises(SettingError) as caught:
        length_of([], "train")
    assert str(caught.value) == (
        "cannot train on batches\n"
        "  at:       one_shot.train\n"
        "  got:      [] (list)\n"
        "  expected: at least one batch\n"
        "  fix:      look at drop_last= and at the size of the data set"
    )


class Unsized:
    def __iter__(self):
        yield from (1, 2, 3)


def test_batches_that_do_not_say_how_many_they_are_are_counted():
    assert length_of(Unsized(), "train") == 3


def test_batches_begin_again_when_they_are_over():
    found = endless([1, 2])
    assert [next(found) for _ in range(5)] == [1, 2, 1, 2, 1]


def test_a_weight_that_comes_to_light_late_is_refused():
    run = session(Scripted())
    run._shared.module.register_parameter("late", torch.nn.Parameter(torch.zeros(1)))
    run._num_builds -= 1
    with pytest.raises(LoweringError) as caught:
        run.run_epoch(ignore)
    assert str(caught.value) == (
        "cannot train a weight that came to light during training\n"
        "  at:       late\n"
        "  expected: weights that the children made before training have\n"
        "  fix:      call shared.materialize(dna) with a DNA that has it before one_shot"
    )


def linear():
    return mu.share_weights(mu.nn.Sequential(mu.nn.Linear(2, 4), mu.oneof([mu.nn.Linear(4, 4), mu.nn.ReLU()])))


def spread(child, batch):
    return child(batch[0]).float().square().mean()


@pytest.mark.parametrize(("precision", "expected"), [
    ("auto", torch.float32), ("float32", torch.float32), ("bfloat16", torch.bfloat16), ("float16", torch.float16),
])  # fmt: skip
def test_passes_run_in_the_precision_that_is_asked_for_and_weights_stay(precision, expected):
    seen = []

    def loss(child, batch):
        seen.append(child(batch[0]).dtype)
        return spread(child, batch)

    search = RSPS().start_shared(linear().space.bare(), seed=0)
    run = session(search, shared=linear(), loss=loss, precision=precision)
    run.run_epoch(ignore)
    assert set(seen) == {expected} and run.measures.device.type == "cpu"
    assert all(p.dtype == torch.float32 for group in run.optimizer.param_groups for p in group["params"])
    assert (run.scaler is not None) == (precision == "float16")


@pytest.mark.parametrize("algorithm", [SNAS(learning_rate=0.1), DSNAS(learning_rate=1.0), GDAS(learning_rate=0.1),
                                       ProxylessNAS(every=1, learning_rate=0.1)])  # fmt: skip
def test_the_policy_learns_the_same_in_half_precision(algorithm):
    def chances(precision):
        shared = linear()
        search = algorithm.start_shared(shared.space.bare(), seed=0)
        run = session(search, shared=shared, loss=spread, precision=precision)
        run.run_epoch(ignore)
        return search.probabilities()[shared.points[0].path][0] - 0.5

    whole, half = chances("float32"), chances("float16")
    assert half == pytest.approx(whole, rel=0.2) and abs(whole) > 1e-3


def test_a_step_whose_gradients_overflow_is_left_out_and_forgotten():
    shared = linear()
    search = RSPS().start_shared(shared.space.bare(), seed=0)
    run = session(search, shared=shared, loss=spread, precision="float16")
    run.scaler = torch.amp.GradScaler("cpu", init_scale=1e38)
    before = {name: tensor.clone() for name, tensor in shared.module.state_dict().items()}
    run._weight_step(toy_batches(1, 0)[0])
    assert all(torch.equal(tensor, before[name]) for name, tensor in shared.module.state_dict().items())
    assert run.scaler.get_scale() < 1e38 and not run._guard._touched and not any(shared._store.used.values())


def test_a_second_order_step_in_half_precision_is_refused():
    shared = linear()
    search = DARTS(order=2).start_shared(shared.space.bare(), seed=0)
    with pytest.raises(SettingError) as caught:
        session(search, shared=shared, precision="float16")
    assert str(caught.value) == (
        "cannot look a step ahead in half precision\n"
        "  at:       one_shot.precision\n"
        "  got:      'float16' (str)\n"
        "  expected: a precision whose gradients need no scaling, for a second-order step\n"
        "  fix:      use precision='bfloat16' or 'float32'"
    )


@pytest.mark.parametrize("has_generator", [True, False])
def test_a_look_at_the_first_batch_leaves_no_trace(has_generator):
    data = torch.utils.data.TensorDataset(torch.arange(8))

    def order(looks):
        torch.manual_seed(3)
        generator = torch.Generator().manual_seed(5) if has_generator else None
        loader = torch.utils.data.DataLoader(data, batch_size=2, shuffle=True, generator=generator)
        for _ in range(looks):
            peek(loader)
        return torch.cat([batch for (batch,) in loader]).tolist()

    assert order(0) == order(2) != list(range(8))
    assert peek([4, 5]) == 4


@mu.symbolize
class Rerun(torch.nn.Module):
    """Runs a layer twice, and again with a graph of its own when the backward pass comes there."""

    def __init__(self, width):
        super().__init__()
        self.first, self.again, self.last = (torch.nn.Linear(a, b) for a, b in ((2, width), (width, width), (width, 1)))

    def forward(self, x):
        x = torch.relu(self.first(x))
        for _ in range(2):
            x = torch.utils.checkpoint.checkpoint(self.again, x, use_reentrant=True)
        return self.last(x).flatten()


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")  # Of torch, in passes without gradients.
@pytest.mark.parametrize("algorithm", [SNAS(), DSNAS(), DARTS()], ids=["SNAS", "DSNAS", "DARTS"])
def test_a_part_that_is_run_again_may_go_backward_on_its_own(algorithm):
    batches = toy_batches(2, 0)
    shared = mu.share_weights(Rerun(mu.oneof([2, 4])), batches[0][0])
    result = mu.one_shot(shared, algorithm, train=batches, valid=batches, epochs=1, loss=squared, progress=False)
    assert len(set(result.policy["width"])) == 2
