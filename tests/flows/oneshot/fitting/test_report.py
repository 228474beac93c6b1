"""The report on a program and an algorithm, and what is refused before training."""

from __future__ import annotations

import re

import pytest
import supernet_zoo as zoo
import torch
from toy_shared import cells, images, toy_program
from toy_supernet import BEST as BEST_OF_FOUR
from toy_supernet import LAYERS, phi

import mutandis as mu
from mutandis.algorithms.oneshot.gates import DSNAS, ProxylessNAS
from mutandis.algorithms.oneshot.gumbel import GDAS
from mutandis.algorithms.oneshot.mixtures import DARTS
from mutandis.algorithms.oneshot.tunas import TuNAS
from mutandis.errors import LoweringError, SettingError
from mutandis.flows import lowering_report

X = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))


def network(scale=False):
    norm = mu.nn.Sequential(mu.nn.Linear(4, 4), mu.nn.BatchNorm1d(4, affine=scale))
    return mu.nn.Sequential(mu.oneof([norm, mu.nn.Identity()], name="layer"), mu.nn.Linear(4, 1))


def test_the_table_says_what_each_decision_is_to_the_algorithm():
    program = {"net": network(), "rate": mu.floatv(0.1, 1.0, name="rate")}
    report = lowering_report(program, DARTS(), X, forward=lambda child, x: child["net"](x))
    assert not report.is_possible
    lines = str(report).splitlines()
    cells = [re.split(r"\s{2,}", line) for line in lines[:3]]
    assert cells[0] == ["decision", "values", "shared", "DARTS"]
    assert cells[1][0] == "layer" and cells[1][3] == "all candidates at once, learnt by gradients"
    assert cells[2] == ["rate", "float in [0.1, 1.0]", "outside of the modules: the program around them is bu...",
                        "refused: cannot learn a decision from the gradient of a loss"]  # fmt: skip
    assert "\n".join(lines[3:]) == (
        "DARTS cannot search this program: cannot learn a decision from the gradient of a loss\n"
        "  at:       ['rate']\n"
        "  got:      'float in [0.1, 1.0]' (str)\n"
        "  expected: a choice among layers, whose outputs can be weighed\n"
        "  fix:      search it with an algorithm that learns from rewards, such as TuNAS() or ENAS()"
    )
    with pytest.raises(LoweringError, match="from the gradient of a loss"):
        report.require()


@pytest.mark.parametrize("algorithm", [mu.algorithms.Random(), TuNAS(), TuNAS(target=3.0), mu.algorithms.TPE()])
def test_algorithms_that_sample_children_can_search_all_of_it(algorithm):
    program = {"net": network(), "rate": mu.floatv(0.1, 1.0, name="rate")}
    report = lowering_report(program, algorithm, X, forward=lambda child, x: child["net"](x))
    assert report.is_possible and report.require() is None
    assert str(report.fits[1]) == "one value at a time, learnt by rewards"


def test_a_space_that_the_algorithm_refuses_is_told():
    program = {"net": network(), "size": mu.intv(1, 4, name="size")}
    report = lowering_report(program, DARTS(), X)
    assert report.fits == () and isinstance(report.refusals[0], SettingError)
    assert str(report).startswith("DARTS cannot search this program: cannot relax a decision\n  at:       ['size']")


@pytest.mark.parametrize(("algorithm", "is_fine"), [(DARTS(), False), (GDAS(), False), (TuNAS(), True)])
def test_numbers_that_decide_more_than_channels_are_searched_one_at_a_time(algorithm, is_fine):
    program, batch = zoo.programs()["attention"]
    report = lowering_report(program, algorithm, batch)
    assert report.is_possible == is_fine
    if not is_fine:
        heads = report.fits[1]
        assert heads.decision == "heads" and "at:       heads" in str(heads.refusal)
        assert "such as TuNAS() or ENAS()" in str(heads.refusal)


def test_a_program_that_cannot_share_weights_is_told():
    def build(depth):
        return torch.nn.Sequential(*[torch.nn.Linear(4, 4 + i % depth) for i in range(depth)])

    report = lowering_report(mu.bind(build, mu.oneof([2, 3])), GDAS(), X)
    assert not report.is_possible and not report.lowering.is_possible
    assert str(report).startswith("GDAS cannot search this program: cannot ")


def test_without_an_algorithm_it_is_the_report_on_the_program():
    report = lowering_report(network(), batch=X)
    assert report.is_possible and report.roles[0].decision == "layer"
    with pytest.raises(SettingError) as caught:
        lowering_report(network(), X)
    assert "fix:      pass an example as batch=" in str(caught.value)


def test_a_shared_program_is_reported_on_and_stands_where_it_stood():
    shared = mu.share_weights(network(), X)
    here = shared.space.dna({"layer": 0})
    live = shared.materialize(here)
    live.eval()
    before = {name: tensor.clone() for name, tensor in shared.module.state_dict().items()}
    assert lowering_report(shared, GDAS()).is_possible  # With the batch of share_weights.
    assert shared.dna == here and not live.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in shared.module.state_dict().items())


def test_a_program_of_several_modules_runs_as_it_was_said_to():
    layer = mu.oneof([mu.nn.Sequential(mu.nn.Linear(4, 4), mu.nn.BatchNorm1d(4)), mu.nn.Tanh()], name="layer")
    program = {"first": mu.nn.Linear(4, 4), "second": layer}

    def run(made, x):
        return made["second"](made["first"](x))

    assert lowering_report(program, GDAS(), X, run=run).is_possible
    shared = mu.share_weights(program, X, run=run, norms="no_affine")
    assert lowering_report(shared, DARTS()).is_possible
    assert mu.flows.steps(shared, GDAS(), num_steps=1)


def test_an_example_of_zeros_is_as_good_as_any():
    first = mu.nn.Sequential(mu.nn.Conv2d(3, 8, 3, padding=1), mu.nn.ReLU())
    layer = mu.oneof([mu.nn.Sequential(mu.nn.Conv2d(8, 8, 1), mu.nn.BatchNorm2d(8)), mu.nn.Identity()], name="layer")
    program, x = mu.nn.Sequential(first, layer), torch.zeros(2, 3, 8, 8)
    assert lowering_report(program, GDAS(), x).is_possible
    loop = mu.sample(mu.share_weights(program, x, norms="no_affine"), GDAS(), trials=1)
    assert [step.kind for _, step in loop if step(torch.zeros(())) is None] == ["weights", "policy"]


def test_second_order_steps_on_parts_of_weights_are_refused():
    width = mu.oneof([2, 4], name="width")
    program = mu.nn.Sequential(mu.nn.Linear(4, width), mu.nn.ReLU(), mu.nn.Linear(width, 1))
    report = lowering_report(program, DARTS(order=2), X)
    assert "cannot look a step ahead" in str(report.refusals[0])
    assert lowering_report(network(), DARTS(order=2), X).is_possible


SCALES = (
    "cannot tell which candidate is best where candidates scale their own outputs\n"
    "  at:       args[0]\n"
    "  got:      ['Linear(4, 4)', 'Linear(4, 4, bias=False)'] (list)\n"
    "  expected: candidates whose outputs do not grow with their weights: GDAS learns from <dL/do, o>, which training "
    "the scale of o drives to 0\n"
    "  fix:      end each candidate with a norm, whose scale one_shot leaves at 1 (in a loop of your own, "
    "share_weights(..., norms='no_affine') does); pass norm='any' to run all the same; or use an algorithm that runs "
    "all candidates, such as GDAS(form='all') or DARTS()"
)


def test_candidates_that_scale_their_outputs_are_refused():
    layers = [mu.nn.Linear(4, 4), mu.nn.Identity(), mu.nn.Linear(4, 4, bias=False)]
    layer = mu.oneof(layers, name="layer")
    program = mu.nn.Sequential(layer, mu.nn.Linear(4, 1))
    assert str(lowering_report(program, GDAS(), X).refusals[0]) == SCALES
    assert lowering_report(program, GDAS(form="all"), X).is_possible
    assert lowering_report(program, GDAS(), X, norm="any").is_possible
    assert not lowering_report(program, ProxylessNAS(), X).notes  # What it probes tells it more.
    noted = lowering_report(program, DSNAS(), X)
    assert noted.is_possible and "weakens the signal of hard draws" in str(noted)


def test_scales_of_norms_are_left_alone_by_the_run_and_by_the_shared_program():
    """`one_shot` does not train them for GDAS; a loop of one's own asks `share_weights` for that."""
    assert lowering_report(network(scale=True), GDAS(), X).is_possible
    shared = mu.share_weights(network(scale=True), X, norms="no_affine")
    assert lowering_report(shared, GDAS(), norm="batch_no_affine").is_possible


def test_one_shot_refuses_before_it_trains():
    shared = mu.share_weights(toy_program())
    before = {name: tensor.clone() for name, tensor in shared.module.state_dict().items()}
    batches = [(torch.randn(8, 2), torch.randn(8))]
    settings = {"train": batches, "valid": batches, "epochs": 1,
                "loss": lambda child, batch: (child(batch[0]) - batch[1]).square().mean()}  # fmt: skip
    with pytest.raises(LoweringError, match="cannot tell which candidate is best"):
        mu.one_shot(shared, GDAS(), **settings)
    assert all(torch.equal(tensor, before[name]) for name, tensor in shared.module.state_dict().items())
    assert mu.one_shot(shared, GDAS(), norm="any", **settings).dna


def test_kernels_that_are_shared_in_another_way_than_was_asked_for_are_refused():
    size = mu.oneof([3, 5], name="size")
    program, x = mu.nn.Conv1d(1, 1, size, padding=size // 2), torch.randn(2, 1, 6)
    algorithm = mu.algorithms.OnceForAll((("size",),), transform=True)
    report = lowering_report(mu.share_weights(program, x), algorithm)
    assert [str(refusal) for refusal in report.refusals] == [
        "cannot train kernels in the way that was asked for\n"
        "  at:       share_weights, kernels\n"
        "  got:      'crop' (str)\n"
        "  expected: 'transform', which OnceForAll was set to\n"
        "  fix:      pass kernels='transform' to mu.share_weights, or leave the setting of OnceForAll out"
    ]
    assert lowering_report(mu.share_weights(program, x, kernels="transform"), algorithm).is_possible


def test_searched_cells_that_end_with_norms_are_fine():
    assert lowering_report(cells(), GDAS(), images(1, 0)[0][0]).is_possible


@mu.symbolize
class Function(torch.nn.Module):
    """One of four functions of a number, times what a norm makes of its size."""

    def __init__(self, index):
        super().__init__()
        self.index = index

    def forward(self, x):
        return phi(x)[..., self.index]


@mu.symbolize
class Sum(torch.nn.Module):
    def __init__(self, parts):
        super().__init__()
        self.parts = torch.nn.ModuleList(parts)
        self.shift = torch.nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return sum(part(x[:, i : i + 1]) for i, part in enumerate(self.parts))[:, 0] + self.shift


def four_choices():
    def candidate(index):
        return mu.nn.Sequential(Function(index), mu.nn.BatchNorm1d(1))

    return Sum([mu.oneof([candidate(i) for i in range(4)], name=f"part {k}") for k in range(LAYERS)])


def batches(seed, count):
    """Inputs and sums of the functions that are best."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for _ in range(count):
        x = torch.rand(64, LAYERS, generator=generator) * 2 - 1
        y = phi(x)[:, range(LAYERS), BEST_OF_FOUR].sum(1) + 0.1 * torch.randn(64, generator=generator)
        made.append((x, y))
    return made


def finds(seed, norm):
    shared = mu.share_weights(four_choices())
    result = mu.one_shot(
        shared, GDAS(learning_rate=0.05, weight_decay=0.0), train=batches(seed, 50), valid=batches(100 + seed, 50),
        epochs=8, norm=norm, loss=lambda child, batch: (child(batch[0]) - batch[1]).square().mean(), clip=None,
        optimizer=lambda weights: torch.optim.SGD(weights, lr=0.05), schedule=None, seed=seed,
    )  # fmt: skip
    return result.dna.values == BEST_OF_FOUR


def test_without_scales_the_best_functions_are_found():
    assert finds(0, norm=None)


def test_with_scales_they_are_not():
    assert not finds(0, norm="any")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_in_ten_of_ten_runs_it_is_the_scales_that_decide(seed):
    assert finds(seed, norm=None) and not finds(seed, norm="any")


def library_network() -> torch.nn.Module:
    """Builds what somebody else wrote."""
    return torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 1))


def test_a_network_that_a_function_builds_is_reported_on():
    network = mu.bind(library_network)
    network.rebind({"[0]": mu.oneof([mu.nn.Linear(4, 4), mu.nn.Identity()], name="layer")})
    report = lowering_report(network, DARTS(), X)
    assert report.is_possible
    assert "learnt by gradients" in str(report)
