"""One program, all algorithms, and no other line changed."""

from __future__ import annotations

import pytest
import torch
import toy_sizes
from toy_shared import BEST, cells, images, squared, toy_batches, toy_program

import mutandis as mu
from mutandis.algorithms.oneshot.enas import ENAS
from mutandis.algorithms.oneshot.gates import DSNAS, ProxylessNAS
from mutandis.algorithms.oneshot.gumbel import GDAS, SNAS
from mutandis.algorithms.oneshot.mixtures import DARTS, SETN
from mutandis.algorithms.oneshot.resources import ResourceConstrained, TableCost
from mutandis.algorithms.oneshot.single_path import RSPS, SPOS
from mutandis.algorithms.oneshot.sizes import TAS, FBNetV2
from mutandis.algorithms.oneshot.tunas import TuNAS
from mutandis.errors import LoweringError, SettingError
from mutandis.flows.costs import fit_cost

ALGORITHMS = {
    "RSPS": RSPS(num_candidates=3),
    "SPOS": SPOS(num_trials=3),
    "ENAS": ENAS(num_candidates=3, num_steps=1, batch_size=2),
    "TuNAS": TuNAS(),
    "DARTS": DARTS(),
    "DARTS second order": DARTS(order=2),
    "SETN": SETN(num_candidates=3),
    "GDAS": GDAS(),
    "GDAS autodl": GDAS(form="autodl"),
    "GDAS all": GDAS(form="all"),
    "SNAS": SNAS(),
    "DSNAS": DSNAS(),
    "ProxylessNAS": ProxylessNAS(every=1),
    "ProxylessNAS all": ProxylessNAS(paths="all", every=2),
    "FBNetV2": FBNetV2(),
    "TAS": TAS(),
    "resource constrained": ResourceConstrained(GDAS(), TableCost({"edge 0 to 1": [0.0, 0.0, 1.0, 9.0, 0.0]})),
    "random": mu.algorithms.Random(),
    "evolution": mu.algorithms.RegularizedEvolution(2, 2),
    "REINFORCE": mu.algorithms.Reinforce(),
    "TPE": mu.algorithms.TPE(),
}


def run(algorithm, shared=None, **changes):
    settings = {"train": images(3, 0), "valid": images(2, 1), "epochs": 2, "num_candidates": 3, "num_calibration": 2,
                "collapse": 2.0}  # fmt: skip
    return mu.one_shot(shared or cells(), algorithm, **{**settings, **changes})


@pytest.mark.parametrize("name", ALGORITHMS)
def test_another_algorithm_is_another_argument(name):
    result = run(ALGORITHMS[name])
    assert len(result.history) == 2 and result.history[-1].num_skipped == 0
    assert result.shared.space.allows(result.dna)
    child = result.child()
    child.eval()
    live = result.shared.materialize(result.dna)
    live.eval()
    x = images(1, 2)[0][0]
    assert torch.allclose(child(x), live(x)) and child.arch == live.arch
    for path, chances in result.policy.items():
        assert sum(chances) == pytest.approx(1.0) and path in result.history[-1].entropy


@pytest.mark.parametrize("name", ["RSPS", "GDAS", "TuNAS", "DARTS second order"])
def test_a_run_hangs_on_its_seed_alone(name):
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    first = run(ALGORITHMS[name], seed=3)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(2)
    second, other = run(ALGORITHMS[name], seed=3), run(ALGORITHMS[name], seed=4)
    assert (first.dna, first.history, first.policy) == (second.dna, second.history, second.policy)
    assert other.history != first.history


FOUND = {
    "RSPS": (RSPS(num_candidates=60), None),
    "SPOS": (SPOS(num_trials=60), None),
    "ENAS": (ENAS(num_candidates=60, num_steps=3, batch_size=5), None),
    "TuNAS": (TuNAS(learning_rate=0.1), None),
    "DARTS": (DARTS(learning_rate=0.05), None),
    "DARTS second order": (DARTS(order=2, learning_rate=0.05), None),
    "SETN": (SETN(num_candidates=6, learning_rate=0.05), None),
    "GDAS": (GDAS(learning_rate=0.1), None),
    "SNAS": (SNAS(learning_rate=0.05), None),
    "DSNAS": (DSNAS(learning_rate=0.05), None),
    "ProxylessNAS": (ProxylessNAS(every=1, learning_rate=0.1), None),
    "random": (mu.algorithms.Random(), "uniform"),
    "evolution": (mu.algorithms.RegularizedEvolution(10, 3), "uniform"),
    "REINFORCE": (mu.algorithms.Reinforce(), "proposals"),
}


@pytest.mark.parametrize("name", FOUND)
def test_the_functions_that_made_the_data_are_found(name):
    algorithm, train_with = FOUND[name]
    # Without a number of its own a candidate cannot scale itself, which gates and hard draws need; see gumbel.py.
    shared = mu.share_weights(mu.nn.Sequential(toy_program(False), mu.nn.Unflatten(0, (-1, 1)), mu.nn.Linear(1, 1)))
    loss = lambda child, batch: (child(batch[0])[:, 0] - batch[1]).square().mean()  # noqa: E731
    result = mu.one_shot(shared, algorithm, train=toy_batches(25, 0), valid=toy_batches(25, 1), epochs=8, loss=loss,
                         train_with=train_with, num_candidates=60, seed=0)  # fmt: skip
    assert result.dna.values == BEST


def test_a_cost_reaches_the_algorithm_that_weighs_it():
    cost = fit_cost(cells(), "params")
    cheap = run(TuNAS(target=900.0, exponent=-5.0, learning_rate=1.0, delay=0.0, op_warmup=0.0, size_warmup=0.0),
                cost=cost, epochs=20)  # fmt: skip
    dear = run(TuNAS(target=2700.0, exponent=-5.0, learning_rate=1.0, delay=0.0, op_warmup=0.0, size_warmup=0.0),
               cost=cost, epochs=20)  # fmt: skip
    assert cost(cheap.dna) < cost(dear.dna)


def test_candidates_are_measured_on_the_same_batches():
    seen = []

    def metric(child, batch):
        seen.append(id(batch[0]))
        return 0.0

    batches = images(5, 3)
    run(RSPS(num_candidates=4), metric=metric, evaluation=batches, num_eval_batches=2)
    assert seen == [id(x) for x, _ in batches[:2]] * 4


def test_the_found_child_is_calibrated_and_the_live_program_stands_there():
    result = run(GDAS(), num_calibration=2)
    norms = [m for m in result.shared.materialize(result.dna).modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert result.shared.dna == result.dna
    assert all(int(norm.num_batches_tracked) == 2 for norm in norms)


def test_memory_is_expected_before_training():
    shared = cells()
    single, whole = run(RSPS(num_candidates=1), shared), run(DARTS(), cells())
    weights = sum(p.numel() * 4 for p in shared.module.parameters())
    assert 2 * weights < single.memory.expected_bytes < whole.memory.expected_bytes
    assert single.memory.measured_bytes is None


def test_batches_go_where_the_weights_are():
    result = run(RSPS(num_candidates=1), cells(), epochs=1)
    assert next(result.shared.module.parameters()).device.type == "cpu"


def test_widths_that_do_not_mix_are_searched_by_sampling_and_refused_by_mixtures_before_training():
    width = mu.oneof([2, 4, 6], name="width")
    program = mu.nn.Sequential(mu.nn.Linear(2, width), mu.nn.LayerNorm(width), mu.nn.Linear(width, 1))
    loss = lambda child, batch: (child(batch[0])[:, 0] - batch[1]).square().mean()  # noqa: E731
    settings = {"train": toy_batches(4, 0), "valid": toy_batches(2, 1), "loss": loss}
    shared = mu.share_weights(program, torch.zeros(1, 2))
    assert run(TuNAS(op_warmup=0.0), shared, **settings).dna in list(shared.space.enumerate())
    before = {name: p.clone() for name, p in shared.module.named_parameters()}
    with pytest.raises(LoweringError, match="cannot mix the sizes of a decision"):
        run(DARTS(), shared, **settings)
    assert all(torch.equal(p, before[name]) for name, p in shared.module.named_parameters())


def test_weights_that_no_child_of_a_step_uses_are_left_alone():
    width = mu.oneof([2, 4], name="width")
    shared = mu.share_weights(mu.nn.Sequential(mu.nn.Linear(2, width), mu.nn.Linear(width, 1)), torch.zeros(1, 2))
    narrow = mu.algorithms.Grid()
    loss = lambda child, batch: (child(batch[0])[:, 0] - batch[1]).square().mean()  # noqa: E731
    before = shared.module.get_parameter("0.weight").detach().clone()
    run(narrow, shared, train=toy_batches(1, 0), valid=toy_batches(1, 1), loss=loss, epochs=1, train_with="proposals",
        num_candidates=1)  # fmt: skip
    after = shared.module.get_parameter("0.weight").detach()
    assert torch.equal(after[2:], before[2:]) and not torch.equal(after[:2], before[:2])


def test_a_collapse_is_warned_about():
    cost = fit_cost(cells(), "params")
    algorithm = ResourceConstrained(DARTS(learning_rate=1.0), cost)
    with pytest.warns(mu.errors.MutandisWarning, match="takes candidates without weights .* at 100% of the choices"):
        run(algorithm, collapse=0.8)


def test_one_skip_is_no_collapse():
    block = mu.oneof([mu.nn.Identity(), mu.nn.Linear(4, 4)], name="block")
    shared = mu.share_weights(mu.nn.Sequential(mu.nn.Linear(4, 4), block, mu.nn.Linear(4, 2)), torch.zeros(1, 4))
    batches = [(torch.ones(4, 4), torch.tensor([0, 1, 0, 1]))]
    policy = DARTS(init_std=0.0, learning_rate=1e-9)  # The first candidate stays the likeliest.
    result = mu.one_shot(shared, policy, train=batches, valid=batches, epochs=2, collapse=0.5, progress=False)
    assert result.history[-1].free_share == 1.0  # Known, and not warned about: warnings are errors here.


def test_the_example_of_the_documentation_runs():
    result = mu.one_shot(cells(), mu.algorithms.Random(), train=images(2, 0), valid=images(1, 1), epochs=1,
                         num_candidates=2)  # fmt: skip
    assert result.child().arch.startswith("|")


@pytest.mark.parametrize(("changes", "message"), [
    ({"algorithm": "GDAS"}, "cannot search shared weights\n"
                            "  at:       one_shot.algorithm\n"
                            "  got:      'GDAS' (str)\n"
                            "  expected: an algorithm\n"
                            "  fix:      write mu.algorithms.Random() or another"),
    ({"train_with": "uniform"}, "cannot choose how weights are trained\n"
                                "  at:       one_shot.train_with\n"
                                "  got:      'uniform' (str)\n"
                                "  expected: None for GDAS, which has a way of its own\n"
                                "  fix:      leave it out"),
    ({"algorithm": mu.algorithms.Grid(), "train_with": "proposal"}, "cannot choose how weights are trained\n"
                                                                    "  at:       one_shot.train_with\n"
                                                                    "  got:      'proposal' (str)\n"
                                                                    "  expected: 'uniform' or 'proposals'\n"
                                                                    "  fix:      leave it out"),
    ({"algorithm": mu.algorithms.Grid(), "cost": 3}, "cannot weigh a cost\n"
                                                     "  at:       one_shot.cost\n"
                                                     "  got:      3 (int)\n"
                                                     "  expected: None for Grid, which only sees rewards\n"
                                                     "  fix:      put the cost into metric=, or wrap the algorithm in "
                                                     "Constrained(...)"),
])  # fmt: skip
def test_settings_without_effect_are_refused(changes, message):
    with pytest.raises(SettingError) as caught:
        run(changes.pop("algorithm", GDAS()), **changes)
    assert str(caught.value) == message


def test_a_program_whose_weights_are_not_shared_is_refused():
    with pytest.raises(SettingError) as caught:
        run(GDAS(), 5)
    assert str(caught.value) == (
        "cannot train shared weights\n"
        "  at:       one_shot.shared\n"
        "  got:      5 (int)\n"
        "  expected: a program whose weights are shared\n"
        "  fix:      pass mu.share_weights(program)"
    )


def test_the_loss_of_your_own_is_what_is_trained():
    shared = mu.share_weights(toy_program())
    result = mu.one_shot(shared, RSPS(num_candidates=16), train=toy_batches(20, 0), valid=toy_batches(1, 1), epochs=4,
                         loss=squared)  # fmt: skip
    assert result.history[-1].loss < result.history[0].loss


@pytest.mark.parametrize("name", sorted(ALGORITHMS.keys() - {"resource constrained"}))  # Its table is of cells.
def test_choices_below_choices_are_searched(name):
    inner = mu.oneof([mu.nn.Identity(), mu.nn.Linear(2, 2)], name="inner")
    outer = mu.oneof([mu.nn.Linear(2, 2), mu.nn.Sequential(mu.nn.Linear(2, 2), inner)], name="outer")
    shared = mu.share_weights(mu.nn.Sequential(outer, mu.nn.Linear(2, 1)), torch.zeros(1, 2))
    loss = lambda child, batch: (child(batch[0])[:, 0] - batch[1]).square().mean()  # noqa: E731
    settings = {"train": toy_batches(4, 0), "valid": toy_batches(2, 1), "loss": loss, "norm": "any"}
    assert shared.space.allows(run(ALGORITHMS[name], shared, **settings).dna)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_on_a_gpu_passes_are_in_half_precision_and_memory_is_measured():
    shared = cells()
    shared.module.cuda()
    result = run(GDAS(), shared)
    assert result.memory.measured_bytes > result.memory.expected_bytes / 4
    shared.module.cpu()


@pytest.mark.parametrize("name", ["sizes", "resnet"])
@pytest.mark.parametrize("algorithm", [FBNetV2(), TAS(), mu.algorithms.Reinforce()], ids=lambda a: type(a).__name__)
def test_sizes_of_networks_are_searched(name, algorithm):
    shared = toy_sizes.shared_of(name)
    batches = [[(x.double(), y) for x, y in images(count, seed)] for count, seed in ((3, 0), (2, 1))]
    result = run(algorithm, shared, train=batches[0], valid=batches[1])
    assert result.history[-1].num_skipped == 0 and shared.space.allows(result.dna)
    child, live = result.child().eval(), shared.materialize(result.dna).eval()
    assert torch.allclose(child(batches[0][0][0]), live(batches[0][0][0]))


SIZES = [8, 2, 4, 6]


def size_found(algorithm, seed, num_units):
    """Returns which width is found for data that so many units make."""
    width = mu.oneof(SIZES, name="width")
    layers = [mu.nn.Linear(6, width), mu.nn.BatchNorm1d(width), mu.nn.ReLU(), mu.nn.Linear(width, 1)]
    shared = mu.share_weights(mu.nn.Sequential(*layers), torch.randn(4, 6), seed=seed)

    def data(seed):
        generator = torch.Generator().manual_seed(seed)
        for _ in range(20):
            x = torch.randn(64, 6, generator=generator)
            y = sum((-1) ** k * torch.relu(x[:, k : k + 1] - x[:, k + 1 : k + 2]) for k in range(num_units))
            yield x, y + 0.05 * torch.randn(64, 1, generator=generator)

    result = mu.one_shot(
        shared, algorithm, train=list(data(seed)), valid=list(data(seed + 1000)), epochs=15, seed=seed,
        loss=lambda child, batch: (child(batch[0]) - batch[1]).square().mean(),
        optimizer=lambda weights: torch.optim.Adam(weights, 0.01),
    )  # fmt: skip
    return SIZES[result.dna.values[0]]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [FBNetV2, TAS])
def test_a_narrow_width_that_is_enough_is_found_where_width_costs(kind):
    cost = TableCost({"width": [float(size) for size in SIZES]})
    algorithm = ResourceConstrained(kind(learning_rate=0.03, weight_decay=0.0), cost, weight=0.05)
    assert sum(size_found(algorithm, seed, 1) == 2 for seed in range(10)) >= 9


@pytest.mark.slow
def test_the_largest_width_is_found_where_it_costs_nothing():
    """As published: interpolation finds it; masks, whose first channels all sizes share, only move towards it."""
    found = [size_found(TAS(learning_rate=0.03, weight_decay=0.0), seed, 4) for seed in range(10)]
    assert found.count(8) >= 9
    masked = [size_found(FBNetV2(learning_rate=0.03, weight_decay=0.0), seed, 4) for seed in range(10)]
    assert 2 not in masked and masked.count(8) < 9


@pytest.mark.parametrize("name", sorted(set(ALGORITHMS) - {"resource constrained"}))
def test_a_decision_with_a_single_candidate_is_that_candidate(name):
    width = mu.oneof([4], name="width")
    layer = mu.oneof([mu.bind(torch.nn.Linear, width, 2)], name="layer")
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    batches = [(x, torch.arange(8) % 2)] * 2
    shared = mu.share_weights(mu.nn.Sequential(mu.nn.Linear(4, width), layer), x)
    before = shared.module.get_parameter("0.weight").detach().clone()
    result = mu.one_shot(shared, ALGORITHMS[name], train=batches, valid=batches, epochs=2)
    assert result.dna.values == (0, 0) and not torch.equal(before, shared.module.get_parameter("0.weight"))


def _one_batch(batch, **options):
    shared = mu.share_weights(mu.nn.Sequential(mu.oneof([mu.nn.Linear(2, 3), mu.nn.Linear(2, 3, bias=False)])))
    return mu.one_shot(shared, mu.algorithms.RSPS(num_candidates=1), train=[batch], valid=[batch], epochs=1,
                       progress=False, **options)  # fmt: skip


_X, _Y = torch.ones(4, 2), torch.zeros(4, dtype=torch.int64)


@pytest.mark.parametrize(
    ("batch", "got"),
    [(_X, "a Tensor"), ((_X, _Y, _Y), "a tuple of 3"), ({"x": _X, "y": _Y}, "a dict of 2")],
    ids=["input", "triple", "dict"],
)
def test_a_batch_that_is_no_pair_needs_a_loss(batch, got):
    with pytest.raises(SettingError) as error:
        _one_batch(batch)
    assert str(error.value) == (
        f"cannot tell inputs from labels\n  at:       batch\n  got:      {got!r} (str)\n  expected: a pair (x, y)\n"
        "  fix:      pass loss=lambda child, batch: ..., and metric= likewise"
    )


@pytest.mark.parametrize("dtype", ["float32", "int32", "bool"])
def test_labels_that_are_no_classes_are_named(dtype):
    with pytest.raises(SettingError) as error:
        _one_batch((_X, _Y.to(getattr(torch, dtype))))
    assert str(error.value) == (
        "cannot compare outputs with labels\n"
        "  at:       batch[1]\n"
        f"  got:      '{dtype} of shape (4,)' (str)\n"
        "  expected: classes as int64, or probabilities of shape (4, 3)\n"
        "  fix:      pass y.long() for classes, or loss= for another task"
    )


def test_probabilities_are_labels_too():
    assert _one_batch((_X, torch.full((4, 3), 1 / 3)), metric=lambda child, batch: 0.0).dna is not None


def test_a_loss_without_a_graph_is_refused_for_what_it_is():
    with pytest.raises(SettingError) as error:
        _one_batch((_X, _Y), loss=lambda child, batch: child(batch[0]).sum().detach())
    assert str(error.value) == (
        "cannot train on a loss\n"
        "  at:       loss\n"
        "  got:      'a tensor without a graph' (str)\n"
        "  expected: a loss that hangs on the weights\n"
        "  fix:      return it without detach(), item() or no_grad()"
    )


def test_batches_must_be_something_to_go_through():
    shared = mu.share_weights(mu.nn.Sequential(mu.oneof([mu.nn.Linear(2, 3), mu.nn.Linear(2, 3, bias=False)])))
    with pytest.raises(SettingError, match="batches, such as a DataLoader or a list"):
        mu.one_shot(shared, mu.algorithms.RSPS(), train=shared, valid=[(_X, _Y)], epochs=1)
