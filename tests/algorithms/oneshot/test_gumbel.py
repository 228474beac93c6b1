"""GDAS and SNAS: known answers, temperatures, and where GDAS is known to fail."""

from __future__ import annotations

import pytest
import torch
from oneshot_probe import probed, vector
from toy_supernet import BEST, combine, run_shared, successes

from mutandis.algorithms import GDAS, SNAS
from mutandis.algorithms.oneshot import Index, Mixture, Subset
from mutandis.errors import SettingError

QUICK = {"learning_rate": 0.03, "weight_decay": 0.0, "init_std": 0.0}
NOISE = [(-0.2, 1.5, 0.3)]
OUTPUTS = [vector(2, 1), vector(3, -1), vector(0, 0)]
AT_ONE = {
    "selected": [-2.6907924787, 3.2911894354, -0.6003969567],
    "autodl": [-2.3063935532, 2.8210195161, -0.5146259629],
    "all": [-1.4098178571, 2.1379926588, -0.7281748018],
}


def gradient(form, fraction, **settings):
    search, seen = probed(GDAS(form=form, **settings), [[1.0, 0.0, -1.0]], gumbel=NOISE, fraction=fraction)
    chosen = search.policy()
    loss = ((combine(chosen[0], [lambda o=o: o for o in OUTPUTS]) - vector(1, 0)) ** 2).sum()
    assert float(loss.detach()) == pytest.approx(5.0, abs=1e-12)
    search.feedback(chosen, loss=loss)
    return chosen[0], seen.last[0]


@pytest.mark.parametrize("form", AT_ONE)
def test_each_form_has_its_gradient_at_temperature_one(form):
    _, slope = gradient(form, 0.0, temperature=1.0)
    assert slope == pytest.approx(AT_ONE[form], abs=1e-8)


def test_a_cold_draw_has_next_to_no_gradient():
    chosen, slope = gradient("selected", 1.0)
    assert chosen.indices == (1,)
    assert slope == pytest.approx([-0.127430965, 0.127431004, -3.9e-8], abs=1e-8)


@pytest.mark.parametrize("fraction", [0.0, 0.5, 1.0])
def test_the_winner_is_the_same_at_every_temperature(fraction):
    assert gradient("selected", fraction)[0].indices == (1,)


@pytest.mark.parametrize(("form", "kind"), [("selected", Subset), ("autodl", Subset), ("all", Mixture)])
def test_forms_differ_in_what_runs(form, kind):
    chosen, _ = gradient(form, 0.0)
    assert isinstance(chosen, kind)
    assert chosen.runs == ((0, 1, 2) if form == "all" else (1,))
    if form == "autodl":
        assert float(chosen.offset.detach()) == pytest.approx(0.0, abs=1e-15)
    elif form == "selected":
        assert chosen.offset is None


def test_only_selected_forms_need_norms_without_scale():
    norms = {form: probed(GDAS(form=form), [[0.0] * 3])[0].needs.norm for form in AT_ONE}
    assert norms == {"selected": "batch_no_affine", "autodl": "batch_no_affine", "all": "any"}


def test_weights_train_on_a_draw_of_their_own():
    search, _ = probed(GDAS(), [[1.0, 0.0, -1.0]], gumbel=[(-0.2, 1.5, 0.3), (0.0, 0.0, 0.0)])
    assert [search.weights()[0] for _ in range(2)] == [Index(1), Index(0)]


@pytest.mark.parametrize(
    ("annealing", "start", "fraction", "temperature"),
    [("linear", 10.0, 0.0, 10.0), ("linear", 10.0, 125 / 249, 10 - 9.9 * 125 / 249), ("linear", 10.0, 1.0, 0.1),
     ("cosine", 5.0, 0.5, 2.55)],
)  # fmt: skip
def test_the_temperature_follows_the_progress(annealing, start, fraction, temperature):
    search, _ = probed(GDAS(temperature=start, annealing=annealing), [[0.0] * 3], fraction=fraction)
    assert search._view([], 0).temperature == pytest.approx(temperature, abs=1e-12)


def test_snas_mixes_with_a_soft_draw():
    search, seen = probed(SNAS(temperature=0.5), [[0.0, 0.5, -0.5]], gumbel=[(0.3, -0.1, 0.7)])
    chosen = search.policy()
    assert chosen[0].weights.tolist() == pytest.approx([0.3289329223, 0.4017595785, 0.2693074992], abs=1e-8)
    output = chosen[0].weights @ vector(2, -1, 0.5)
    assert float(output.detach()) == pytest.approx(0.3907600156, abs=1e-8)
    search.feedback(chosen, loss=output)
    assert seen.last[0] == pytest.approx([1.0586640214, -1.1175023154, 0.058838294], abs=1e-8)


def test_the_published_gradient_of_snas_is_that_over_alpha():
    alpha = torch.exp(vector(0, 0.5, -0.5))
    weights, outputs = vector(0.3289329223, 0.4017595785, 0.2693074992), vector(2, -1, 0.5)
    equation = weights * (outputs - weights @ outputs) / (0.5 * alpha)
    assert equation.tolist() == pytest.approx([1.0586640214, -0.6777994166, 0.0970079468], abs=1e-7)
    assert (equation * alpha).tolist() == pytest.approx([1.0586640214, -1.1175023154, 0.058838294], abs=1e-7)


def test_snas_learns_weights_and_policy_from_one_pass():
    needs = probed(SNAS(), [[0.0] * 3])[0].needs
    assert (needs.data, needs.is_one_pass, needs.outcome) == ("train", True, "loss")


def test_one_pass_leaves_the_graph_for_the_weights():
    search, _ = probed(SNAS(), [[0.0] * 3])
    weight = torch.tensor(2.0, requires_grad=True)
    chosen = search.policy()
    loss = weight * chosen[0].weights[1]
    search.feedback(chosen, loss=loss)
    loss.backward()
    assert float(weight.grad) == pytest.approx(float(chosen[0].weights[1].detach()), abs=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GDAS(form="x"), "GDAS.form\n  got:      'x' (str)\n"
         "  expected: 'selected' or 'autodl' or 'all'\n  fix:      write 'selected'"),
        (lambda: SNAS(annealing="x"), "SNAS.annealing\n  got:      'x' (str)\n"
         "  expected: 'linear' or 'cosine' or 'exponential'\n  fix:      write 'linear'"),
        (lambda: GDAS(temperature=0.0), "GDAS.temperature\n  got:      0.0 (float)\n"
         "  expected: a finite number > 0\n  fix:      give a number within these bounds"),
    ],
)  # fmt: skip
def test_wrong_settings_are_refused(make, message):
    with pytest.raises(SettingError) as caught:
        make()
    assert str(caught.value) == "cannot use a setting\n  at:       " + message


@pytest.mark.parametrize(("algorithm", "steps", "is_fixed"), [(GDAS(**QUICK), 600, True), (SNAS(**QUICK), 400, False)])
def test_the_toy_supernet_is_solved(algorithm, steps, is_fixed):
    assert run_shared(algorithm, steps, 1, is_fixed=is_fixed) == BEST


@pytest.mark.slow
@pytest.mark.parametrize(
    ("algorithm", "steps", "is_fixed"),
    [(SNAS(**QUICK), 600, False), (GDAS(**QUICK), 1000, True), (GDAS(form="autodl", **QUICK), 1000, True),
     (GDAS(form="all", **QUICK), 1000, True), (GDAS(form="all", **QUICK), 1000, False)],
)  # fmt: skip
def test_nine_of_ten_seeds_solve_the_toy_supernet(algorithm, steps, is_fixed):
    assert successes(algorithm, steps, range(10), is_fixed=is_fixed) >= 9


@pytest.mark.slow
@pytest.mark.parametrize("form", ["selected", "autodl"])
def test_gdas_fails_where_operations_scale_their_own_output(form):
    assert successes(GDAS(form=form, **QUICK), 1000, range(10)) == 0
