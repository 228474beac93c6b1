"""The loop of weight sharing in the user's own hands."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from toy_shared import BEST, NAMES, Curve, Sum, squared, toy_batches, toy_program

import mutandis as mu
from mutandis.algorithms.oneshot.enas import ENAS
from mutandis.algorithms.oneshot.gates import DSNAS, ProxylessNAS
from mutandis.algorithms.oneshot.gumbel import GDAS, SNAS
from mutandis.algorithms.oneshot.mixtures import DARTS, SETN
from mutandis.algorithms.oneshot.single_path import RSPS
from mutandis.algorithms.oneshot.tunas import TuNAS
from mutandis.errors import LoweringError, MutandisWarning, SettingError
from mutandis.flows import steps
from mutandis.flows.oneshot.loop import Steps


def own_loop(shared, algorithm, num_steps, *, loop=None, seed=0, batches=None, **options):
    """The loop of the documentation on the toy, with the optimizer of `one_shot` at a fixed step size."""
    loop = loop or steps(shared, algorithm, num_steps=num_steps, seed=seed, **options)
    optimizer = torch.optim.SGD(shared.module.parameters(), lr=0.025, momentum=0.9, nesterov=True, weight_decay=5e-4)
    shared.guard(optimizer)
    data = batches or {"train": endless(toy_batches(5, 0)), "valid": endless(toy_batches(3, 1))}
    for child, step in loop:
        batch = next(data[step.data])
        loss = squared(child, batch)
        if step.trains_weights:
            loss.backward()
        if step.moves_weights:
            torch.nn.utils.clip_grad_norm_(shared.module.parameters(), 5.0)
            optimizer.step()
            optimizer.zero_grad()
        step(-float(loss.detach()) if step.wants == "reward" else loss)
    return loop


def endless(batches):
    while True:
        yield from batches


ALGORITHMS = {
    "RSPS": RSPS(num_candidates=4), "TuNAS": TuNAS(), "DARTS": DARTS(), "SETN": SETN(num_candidates=3), "GDAS": GDAS(),
    "SNAS": SNAS(), "DSNAS": DSNAS(), "ProxylessNAS": ProxylessNAS(every=2),
    "evolution": mu.algorithms.RegularizedEvolution(2, 2),
}  # fmt: skip


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_loop_does_what_the_driver_does(name):
    algorithm = ALGORITHMS[name]
    first = mu.share_weights(toy_program())
    loop = own_loop(first, algorithm, 15, seed=3, norm="any")
    second = mu.share_weights(toy_program())
    result = mu.one_shot(
        second, algorithm, train=toy_batches(5, 0), valid=toy_batches(3, 1), epochs=3, loss=squared, schedule=None,
        norm="any", seed=3, train_with="proposals" if name == "evolution" else None, num_candidates=4, collapse=2.0,
    )  # fmt: skip
    # Each epoch of the driver begins with the first valid batch; the loop goes on. So only draws can be compared
    # where the policy learns from valid batches, and everything where it does not.
    assert loop.count == 15
    if name in ("RSPS", "SNAS", "DSNAS"):
        assert loop.search.probabilities() == dict(result.policy)
        state = first.module.state_dict()
        assert all(torch.equal(state[key], tensor) for key, tensor in second.module.state_dict().items())
    assert first.space.allows(loop.derive(lambda child: -float(squared(child, toy_batches(1, 5)[0]))))


def test_with_the_same_batches_all_is_equal():
    """Epochs of as many valid as train batches leave the two in step."""
    first, second = mu.share_weights(toy_program()), mu.share_weights(toy_program())
    batches = {"train": endless(toy_batches(5, 0)), "valid": endless(toy_batches(5, 1))}
    loop = own_loop(first, DARTS(), 15, seed=3, batches=batches)
    result = mu.one_shot(second, DARTS(), train=toy_batches(5, 0), valid=toy_batches(5, 1), epochs=3, loss=squared,
                         schedule=None, seed=3)  # fmt: skip
    assert loop.search.probabilities() == dict(result.policy) and loop.derive() == result.dna


def test_what_made_the_data_is_found_in_a_loop_through_sample():
    program = Sum([mu.oneof([Curve(name, False) for name in NAMES], name=f"curve {i}") for i in range(2)])
    shared = mu.share_weights(mu.nn.Sequential(program, mu.nn.Unflatten(0, (-1, 1)), mu.nn.Linear(1, 1)))
    optimizer = torch.optim.SGD(shared.module.parameters(), lr=0.025, momentum=0.9)
    data = {"train": endless(toy_batches(25, 0)), "valid": endless(toy_batches(25, 1))}
    loop = mu.sample(shared, DARTS(learning_rate=0.05), trials=200)
    for child, feedback in loop:
        x, y = next(data[feedback.data])
        loss = (child(x)[:, 0] - y).square().mean()
        if feedback.trains_weights:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        feedback(loss)
    assert loop.derive().values == BEST
    assert max(loop.search.entropy().values()) < 0.5


def test_the_loop_tells_how_far_it_is():
    skip = mu.oneof([mu.nn.Linear(2, 2), mu.nn.Identity(), mu.nn.Tanh()], name="skip")
    shared = mu.share_weights(mu.nn.Sequential(skip, mu.nn.Linear(2, 1)))
    loop = steps(shared, DARTS(), num_steps=1)
    loop.search.policy_tables.set_state([[0.0, 2.0, 0.0]])
    assert loop.likeliest() == {"args[0]": "Identity()"} and loop.free_share() == 1.0
    loop.search.policy_tables.set_state([[3.0, 2.0, 0.0]])
    assert loop.free_share() == 0.0
    assert steps(shared, RSPS(), num_steps=1).free_share() is None


def kinds(algorithm, num_steps, **options):
    shared = mu.share_weights(toy_program())
    found = []
    for _, step in steps(shared, algorithm, num_steps=num_steps, norm="any", **options):
        found.append((step.kind, step.data, step.wants, step.number, step.moves_weights))
        step()
    return found


def test_passes_come_in_the_order_of_the_method():
    weights, policy = ("weights", "train", "none"), ("policy", "valid", "loss")
    assert kinds(DARTS(), 2) == [(*policy, 0, False), (*weights, 0, True), (*policy, 1, False), (*weights, 1, True)]
    late = kinds(DARTS(policy_first=False), 2)
    assert late == [(*weights, 0, True), (*policy, 1, False), (*weights, 1, True), (*policy, 2, False)]
    assert kinds(SNAS(), 2) == [("both", "train", "loss", 0, True), ("both", "train", "loss", 1, True)]
    assert kinds(RSPS(), 2) == [(*weights, 0, True), (*weights, 1, True)]
    assert [kind for kind, *_ in kinds(ProxylessNAS(every=3), 4)] == ["weights"] * 3 + ["policy", "weights"]
    enas = kinds(ENAS(num_steps=1, batch_size=2), 4, epoch_steps=2)
    assert [kind for kind, *_ in enas] == ["weights", "weights", "policy", "policy"] * 2
    assert enas[2] == ("policy", "valid", "reward", 2, False)


@pytest.mark.parametrize("name", ["DARTS", "GDAS", "TuNAS", "DSNAS"])
def test_a_loop_goes_on_from_its_state_bit_for_bit(name):
    def whole(num_first):
        shared = mu.share_weights(toy_program())
        weights = torch.optim.SGD(shared.module.parameters(), lr=0.01)
        loop, state, count = steps(shared, ALGORITHMS[name], num_steps=6, norm="any"), None, 0
        while True:
            for child, step in loop:
                batch = toy_batches(1, count)[0]
                count += 1
                loss = squared(child, batch)
                if step.trains_weights:
                    weights.zero_grad()
                    loss.backward()
                    weights.step()
                step(-float(loss.detach()) if step.wants == "reward" else loss)
                is_done = (step.kind == "weights") is (name == "DARTS")  # Whose policy comes before its weights.
                if is_done and loop.count == num_first and state is None:
                    state = json.dumps(loop.state_dict(), allow_nan=False)
                    break
            else:
                return loop.search.probabilities(), shared.module.state_dict()
            loop = steps(shared, ALGORITHMS[name], num_steps=6, norm="any")
            loop.load_state_dict(json.loads(state))

    (first, weights), (second, others) = whole(None), whole(3)
    assert first == second and all(torch.equal(weights[key], others[key]) for key in weights)


def test_policy_steps_that_come_first_come_as_often_as_others():
    shared = mu.share_weights(toy_program())
    search = DARTS().start_shared(shared.space.bare(), seed=0)
    search.needs = dataclasses.replace(search.needs, every=3)
    loop = Steps(shared, search, 5, 5)
    found = []
    for _, step in loop:
        found.append(step.kind)
        step()
    assert found == ["policy", *["weights"] * 3, "policy", *["weights"] * 2]


def test_a_policy_step_without_an_answer_warns():
    loop = steps(mu.share_weights(toy_program()), GDAS(), num_steps=2, norm="any")
    next(loop), next(loop)
    with pytest.warns(MutandisWarning, match=r"policy step after 1 weight steps was not answered"):
        next(loop)


def test_a_loop_that_is_left_leaves_single_paths_behind():
    shared = mu.share_weights(toy_program())
    for child, step in steps(shared, DARTS(), num_steps=3):
        assert "Choice" in repr(child)
        step(squared(child, toy_batches(1, 0)[0]))
        break
    loop = steps(shared, DARTS(), num_steps=1)
    next(loop)
    loop.close()
    assert "Choice" not in repr(shared.materialize(shared.space.random(0)))


MESSAGES = {
    "not shared": (lambda: steps(toy_program(), DARTS(), num_steps=1), SettingError,
                   "cannot train shared weights\n  at:       steps.shared"),
    "steps": (lambda: steps(mu.share_weights(toy_program()), DARTS(), num_steps=0), SettingError, "steps.num_steps"),
    "second order": (lambda: steps(mu.share_weights(toy_program()), DARTS(order=2), num_steps=1), SettingError,
                     "fix:      use mu.one_shot, or the first order"),
    "epoch": (lambda: steps(mu.share_weights(toy_program()), ENAS(), num_steps=1), SettingError,
              r"fix:      pass epoch_steps=len\(train_loader\)"),
    "scales": (lambda: steps(mu.share_weights(toy_program(), torch.randn(4, 2)), GDAS(), num_steps=1), LoweringError,
               "cannot tell which candidate is best where candidates scale their own outputs"),
    "sample": (lambda: mu.sample(mu.share_weights(toy_program()), DARTS()), SettingError,
               "cannot sample passes\n  at:       trials\n  got:      None"),
    "study": (lambda: mu.sample(mu.share_weights(toy_program()), DARTS(), trials=3, study="s.db"), SettingError,
              "cannot sample passes\n  at:       study"),
}  # fmt: skip


@pytest.mark.parametrize("name", MESSAGES)
def test_what_cannot_work_is_refused_at_once(name):
    action, kind, match = MESSAGES[name]
    with pytest.raises(kind, match=match):
        action()


def test_a_number_where_a_loss_is_wanted_is_refused():
    loop = steps(mu.share_weights(toy_program()), DARTS(), num_steps=1)
    _, step = next(loop)
    with pytest.raises(SettingError) as caught:
        step(0.5)
    assert str(caught.value) == (
        "cannot learn from an outcome\n"
        "  at:       step\n"
        "  got:      0.5 (float)\n"
        "  expected: the loss as a scalar tensor with its graph\n"
        "  fix:      pass the loss itself, not loss.item()"
    )


def test_norms_with_scales_are_refused_where_nobody_leaves_them_alone():
    layer = mu.oneof([mu.nn.Sequential(mu.nn.Linear(4, 4), mu.nn.BatchNorm1d(4)), mu.nn.Identity()], name="layer")
    program = mu.nn.Sequential(layer, mu.nn.Linear(4, 1))
    x = torch.randn(8, 4)
    with pytest.raises(LoweringError, match="share_weights"):
        steps(mu.share_weights(program, x), GDAS(), num_steps=1)
    assert steps(mu.share_weights(program, x, norms="no_affine"), GDAS(), num_steps=1)
    assert steps(mu.share_weights(program, x), GDAS(), num_steps=1, norm="any")


@pytest.mark.parametrize("algorithm", [SNAS(), DSNAS()], ids=["SNAS", "DSNAS"])
def test_a_pass_for_both_may_go_backward_over_parts_of_its_batch(algorithm):
    """The policy learns from the sum of the parts, as the weights do."""
    found = []
    (x, y), *_ = toy_batches(1, 0)
    for parts in (1, 2):
        shared = mu.share_weights(toy_program())
        loop = steps(shared, algorithm, num_steps=3, norm="any")
        for child, step in loop:
            for a, b in zip(x.chunk(parts), y.chunk(parts), strict=True):
                loss = squared(child, (a, b)) / parts
                loss.backward()
            step(loss)
        found.append(loop.search.probabilities())
    assert found[0].keys() == found[1].keys()
    assert all(found[0][key] == pytest.approx(found[1][key], abs=1e-6) for key in found[0])
    assert any(len(set(p)) > 1 for p in found[0].values())


def test_a_loss_is_no_reward():
    shared = mu.share_weights(toy_program())
    passes = ((step, squared(child, toy_batches(1, 0)[0])) for child, step in steps(shared, TuNAS(), num_steps=2))
    step, loss = next(pair for pair in passes if pair[0].wants == "reward")
    with pytest.raises(SettingError) as error:
        step(loss)
    assert str(error.value) == (
        "cannot learn from an outcome\n"
        "  at:       step\n"
        "  got:      'a loss with its graph' (str)\n"
        "  expected: a reward, a number, larger is better\n"
        "  fix:      pass step(accuracy), or step(-loss.item())"
    )
