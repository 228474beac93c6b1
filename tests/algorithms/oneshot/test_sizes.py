"""FBNetV2 and TAS: masks and interpolated sizes with their known answers."""

from __future__ import annotations

import collections

import pytest
import torch
from oneshot_probe import probed, vector
from torch.nn import functional as F
from toy_supernet import BEST, combine, run_shared, successes

import mutandis as mu
from mutandis.algorithms import TAS, FBNetV2, ResourceConstrained
from mutandis.algorithms.oneshot import Index, Mixture, Subset, TableCost
from mutandis.algorithms.oneshot.sizes import largest
from mutandis.errors import DecisionError, SettingError

QUICK = {"learning_rate": 0.03, "weight_decay": 0.0, "init_std": 0.0}
WIDTH = mu.space(mu.oneof([1, 2, 4])).bare()


def interpolated(x, width):
    """Returns channels brought to a width, as TAS does: adaptive mean pooling over channels."""
    return F.adaptive_avg_pool1d(x[None, None], width)[0, 0]


def test_a_mask_of_channels_is_the_tail_sum_of_the_weights():
    search, seen = probed(FBNetV2(temperature=5.0, warmup=0.0), [[0.0, 1.0, 2.0]], space=WIDTH,
                          gumbel=[(0.5, -0.5, 0.0)])  # fmt: skip
    chosen = search.policy()
    weights = chosen[0].weights
    assert weights.tolist() == pytest.approx([0.2985200444, 0.2985200444, 0.4029599112], abs=1e-8)
    masks = [vector(*(1.0 if channel < width else 0.0 for channel in range(4))) for width in (1, 2, 4)]
    mask = combine(chosen[0], [lambda m=m: m for m in masks])
    assert mask.tolist() == pytest.approx([1, 0.7014799556, 0.4029599112, 0.4029599112], abs=1e-8)
    assert float(weights.detach() @ vector(1, 2, 4)) == pytest.approx(2.507399778, abs=1e-8)
    search.feedback(chosen, loss=mask @ vector(1, -2, 3, -4))
    assert seen.last[0] == pytest.approx([0.1078206531, -0.0115873646, -0.0962332885], abs=1e-8)


def test_a_mask_before_a_norm_leaks_its_bias_and_one_after_it_does_not():
    norm = torch.nn.BatchNorm1d(2).double()
    torch.nn.init.constant_(norm.bias, 0.7)
    x, mask = torch.tensor([[1.0, 5.0], [3.0, 9.0]], dtype=torch.float64), vector(1, 0)
    assert norm(x * mask)[:, 1].tolist() == pytest.approx([0.7, 0.7], abs=1e-8)
    assert (norm(x) * mask)[:, 1].tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("width", "channels"), [(2, [1.5, 2.5]), (3, [1, 2, 3]), (4, [1, 1.5, 2.5, 3]), (5, [1, 1.5, 2, 2.5, 3])]
)
def test_interpolated_channels(width, channels):
    assert interpolated(vector(1, 2, 3), width).tolist() == pytest.approx(channels, abs=1e-12)


def test_interpolated_channels_have_their_gradient():
    x = vector(1, 2, 3).requires_grad_()
    (slope,) = torch.autograd.grad(interpolated(x, 5).sum(), x)
    assert slope.tolist() == pytest.approx([1.5, 2.0, 1.5], abs=1e-12)


def test_two_sizes_are_renormalised():
    # Uniform numbers that draw candidate 0, and then candidate 2 of the two that are left.
    search, _ = probed(TAS(temperature=2.0), [[0.2, -0.1, 0.4]], space=WIDTH, gumbel=[(0.3, 0.1, -0.6)],
                       uniform=[0.1, 0.9])  # fmt: skip
    chosen = search.policy()
    assert chosen[0].indices == (0, 2)
    assert chosen[0].weights.tolist() == pytest.approx([0.5866175789, 0.4133824211], abs=1e-8)
    features = vector(1, 2, 3, 4)
    sizes = {0: 2, 2: 4}
    output = combine(chosen[0], [lambda i=i: features[: sizes.get(i, 1)] for i in range(3)],
                     lambda channels: interpolated(channels, 4))  # fmt: skip
    assert output.tolist() == pytest.approx([1, 1.4133824211, 2.4133824211, 2.8267648422], abs=1e-8)


def test_sizes_are_drawn_in_proportion_to_the_soft_draw():
    search, _ = probed(TAS(temperature=2.0), [[0.2, -0.1, 0.4]], space=WIDTH)
    search.noise.gumbel = lambda count: vector(0.3, 0.1, -0.6)
    counts = collections.Counter(search.weights()[0].indices for _ in range(2500))
    p = [0.4026593439, 0.3135914123, 0.2837492438]
    for (a, b), count in counts.items():
        assert count / 2500 == pytest.approx(p[a] * p[b] / (1 - p[a]), abs=0.035)


def test_the_depth_is_mixed_in_full():
    space = mu.space([mu.oneof([1, 2, 3], name="width"), mu.oneof([1, 3, 5], name="depth")])
    search, _ = probed(TAS(full=("depth",), temperature=2.0), [[0.0] * 3, [0.2, -0.1, 0.4]], space=space,
                       gumbel=[(0.0, 0.0, 0.0), (0.3, 0.1, -0.6)])  # fmt: skip
    chosen = search.policy()
    assert isinstance(chosen[0], Subset) and isinstance(chosen[1], Mixture)
    assert chosen[1].weights.tolist() == pytest.approx([0.4026593439, 0.3135914123, 0.2837492438], abs=1e-8)


def test_few_candidates_are_all_mixed():
    chosen = TAS(num_sampled=3).start_shared(WIDTH, seed=0).policy()
    assert isinstance(chosen[0], Mixture)


def test_weights_need_no_gradient():
    assert not TAS().start_shared(WIDTH, seed=0).weights()[0].weights.requires_grad


def test_a_single_sampled_size_is_refused():
    with pytest.raises(SettingError) as caught:
        TAS(num_sampled=1)
    assert str(caught.value) == (
        "cannot use a setting\n  at:       TAS.num_sampled\n  got:      1 (int)\n  expected: an int >= 2\n"
        "  fix:      give a larger whole number"
    )


def test_an_unknown_depth_is_refused():
    with pytest.raises(DecisionError):
        TAS(full=("nowhere",)).start_shared(WIDTH, seed=0)


@pytest.mark.parametrize(
    ("value", "found"), [(mu.oneof([4, 16, 8]), 1), (mu.oneof([8, 8]), 0), (mu.oneof(["a", 8]), None)]
)
def test_the_largest_candidate(value, found):
    assert largest(mu.space(value).points[0]) == found


@pytest.mark.parametrize(("fraction", "share"), [(0.0, 1.0), (0.1, 0.6 + 0.4 / 3), (0.2499, 1 / 3)])
def test_warm_up_trains_the_largest_size_less_and_less(fraction, share):
    search, _ = probed(FBNetV2(), [[0.0] * 3], space=WIDTH, fraction=fraction)
    drawn = [search.weights()[0] for _ in range(800)]
    assert all(isinstance(selection, Index) for selection in drawn)
    assert sum(s.index == 2 for s in drawn) / 800 == pytest.approx(share, abs=0.06)


def test_other_choices_are_uniform_in_the_warm_up():
    search, _ = probed(FBNetV2(), [[9.0, 0.0, 0.0]], fraction=0.0)
    counts = collections.Counter(search.weights()[0].index for _ in range(600))
    assert all(count > 150 for count in counts.values()) and len(counts) == 3


def test_the_policy_rests_in_the_warm_up():
    search, seen = probed(FBNetV2(), [[0.0] * 3], space=WIDTH, fraction=0.24)
    chosen = search.policy()
    search.feedback(chosen, loss=chosen[0].weights[0])
    assert seen.gradients == []
    search.progress(0.25)
    assert isinstance(search.weights()[0], Mixture)
    chosen = search.policy()
    search.feedback(chosen, loss=chosen[0].weights[0])
    assert len(seen.gradients) == 1


@pytest.mark.parametrize("algorithm", [FBNetV2(**QUICK), TAS(**QUICK)])
def test_the_toy_supernet_is_solved(algorithm):
    assert run_shared(algorithm, 500, 0) == BEST


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", [FBNetV2(**QUICK), TAS(**QUICK)])
def test_nine_of_ten_seeds_solve_the_toy_supernet(algorithm):
    assert successes(algorithm, 600, range(10)) >= 9


def width_of(algorithm, seed, steps=1200):
    """Returns the width, of 2, 4, 6 or 8, that is found for one hidden layer whose teacher has 8 units."""
    widths = (2, 4, 6, 8)
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    teacher, last = normal(8, 12) / 3, normal(8)
    inner, outer = (normal(8, 12) / 3).requires_grad_(), (normal(8) / 2).requires_grad_()
    optimizer = torch.optim.SGD([inner, outer], lr=0.03, momentum=0.9)
    search = algorithm.start_shared(mu.space(mu.oneof(list(widths), name="width")), seed=seed)

    def loss_of(selection):
        x = normal(64, 12)
        hidden = torch.relu(x @ inner.T)
        if isinstance(selection, Subset):  # TAS: both sizes, interpolated to the larger one.
            most = max(widths[i] for i in selection.indices)
            arms = [lambda w=w: F.adaptive_avg_pool1d(hidden[None, :, :w], most)[0] for w in widths]
            hidden = F.pad(combine(selection, arms), (0, 8 - most))
        else:
            hidden = combine(selection, [lambda w=w: hidden * (torch.arange(8) < w) for w in widths])
        return ((hidden @ outer - torch.relu(x @ teacher.T) @ last) ** 2).mean()

    for step in range(steps):
        search.progress(step / steps)
        optimizer.zero_grad()
        loss_of(search.weights()[0]).backward()
        torch.nn.utils.clip_grad_norm_([inner, outer], 5.0)
        optimizer.step()
        chosen = search.policy()
        search.feedback(chosen, loss=loss_of(chosen[0]))
    return widths[search.derive().values[0]]


WIDTHS = {"learning_rate": 0.01, "weight_decay": 0.0, "init_std": 0.0}


@pytest.mark.slow
def test_interpolated_widths_find_the_largest_where_nothing_costs_and_masks_do_not():
    assert sum(width_of(TAS(**WIDTHS), seed) == 8 for seed in range(6)) >= 5
    assert sum(width_of(FBNetV2(**WIDTHS), seed) == 8 for seed in range(6)) <= 4


@pytest.mark.slow
def test_a_band_holds_the_width_near_its_budget():
    cost = TableCost({"width": [2.0, 4.0, 6.0, 8.0]})
    algorithm = ResourceConstrained(TAS(**WIDTHS), cost, form="band", budget=4.0, weight=2.0)
    found = [width_of(algorithm, seed) for seed in range(6)]
    assert 2.0 <= sum(found) / 6 <= 6.0
