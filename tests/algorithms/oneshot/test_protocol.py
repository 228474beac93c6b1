"""What every algorithm on shared weights owes its loop, on every space that it takes."""

from __future__ import annotations

import json
import pickle

import pytest
import torch
from oneshot_probe import vector

import mutandis as mu
from mutandis.algorithms import (
    DARTS,
    DSNAS,
    ENAS,
    GDAS,
    RSPS,
    SETN,
    SNAS,
    SPOS,
    TAS,
    FBNetV2,
    OnceForAll,
    ProxylessNAS,
    ResourceConstrained,
    TuNAS,
)
from mutandis.algorithms.oneshot import Gate, Mixture, OneShot, Subset, TableCost, Value
from mutandis.algorithms.oneshot.protocol import finite, need_fraction
from mutandis.errors import SettingError
from mutandis.symbolic.compare import equal
from mutandis.testing import contract_spaces

SPACES = {
    **contract_spaces(),
    "mixed": mu.space({"x": mu.oneof(["a", {"z": mu.oneof([1, 2]), "lr": mu.floatv(1e-3, 1.0, scale="log")}])}),
}
ALGORITHMS = [
    RSPS(num_candidates=5),
    SPOS(mu.algorithms.Random(), num_trials=5),
    OnceForAll((), search=mu.algorithms.Random(), num_trials=5),
    ENAS(hidden_size=4, num_layers=1, batch_size=3, learning_rate=0.1, num_candidates=5),
    TuNAS(delay=0.1, op_warmup=0.1, size_warmup=0.1, learning_rate=0.1),
    TuNAS(delay=0.1, op_warmup=0.1, size_warmup=0.1, learning_rate=0.1, ranges="normal"),
    DARTS(learning_rate=0.1),
    SETN(learning_rate=0.1, num_candidates=5),
    GDAS(learning_rate=0.1),
    SNAS(learning_rate=0.1),
    DSNAS(learning_rate=0.1),
    DSNAS(learning_rate=0.1, early_fix=0.1),
    ProxylessNAS(learning_rate=0.1),
    ProxylessNAS("reinforce", learning_rate=0.1, batch_size=2),
    ProxylessNAS(paths="all", learning_rate=0.1),
    FBNetV2(learning_rate=0.1, warmup=0.1),
    TAS(learning_rate=0.1),
    ResourceConstrained(GDAS(learning_rate=0.1), TableCost({}, base=2.0), form="band", budget=1.0),
]
CASES = [(a, name) for a in ALGORITHMS for name in SPACES]
GRADIENT_ONLY = [a for a in ALGORITHMS if not isinstance(a, (RSPS, SPOS, OnceForAll, ENAS, TuNAS))]


def started(algorithm, space, seed=1):
    """Returns a search, or skips the space that the algorithm refuses."""
    try:
        return algorithm.start_shared(space.bare(), seed=seed)
    except SettingError:
        pytest.skip("refused at the start")


def loss_of(selections):
    """Returns a loss that reads every tensor of selections, those of later decisions more."""
    total = vector(0.0)[0]
    for index, selection in selections.items():
        read = {Gate: "gate", Subset: "weights", Mixture: "weights", Value: "value"}.get(type(selection))
        tensor = None if read is None else getattr(selection, read)
        if torch.is_tensor(tensor):
            flat = tensor.reshape(-1)
            total = total + (index + 1) * (flat * torch.arange(1, len(flat) + 1)).sum()
    return total


def reward_of(selections):
    return float(sum(sum(s.runs) for s in selections.values()) % 5)


def log_of(selections):
    """Returns selections as plain numbers."""
    made = []
    for index, s in selections.items():
        tensors = [getattr(s, name).tolist() for name in ("gate", "weights", "value")
                   if torch.is_tensor(getattr(s, name, None))]  # fmt: skip
        made.append((index, type(s).__name__, s.runs, tensors, s.value if isinstance(s, Value) and not tensors else 0))
    return made


def play(search, steps, start=0, total=12):
    """Runs steps of a loop, and returns all selections as numbers."""
    log = []
    for step in range(start, start + steps):
        search.progress(step / total)
        log.append(log_of(search.weights()))
        if search.needs.data == "none":
            continue
        chosen = search.policy()
        log.append(log_of(chosen))
        if search.needs.outcome == "reward":
            search.feedback(chosen, reward=reward_of(chosen))
        else:
            search.feedback(chosen, loss=loss_of(chosen))
    return log


@pytest.mark.parametrize(("algorithm", "name"), CASES)
def test_a_run_resumes_exactly(algorithm, name):
    space = SPACES[name]
    first = started(algorithm, space)
    play(first, 5)
    state = json.loads(json.dumps(first.state_dict(), allow_nan=False))
    second = started(algorithm, space)
    second.load_state_dict(state)
    assert second.state_dict() == first.state_dict()
    assert play(first, 5, 5) == play(second, 5, 5)
    assert first.derive(lambda dna: 0.5) == second.derive(lambda dna: 0.5)


@pytest.mark.parametrize(("algorithm", "name"), CASES)
def test_active_decisions_have_selections_and_the_result_is_a_child(algorithm, name):
    space = SPACES[name]
    search = started(algorithm, space)
    for _ in range(3):
        for chosen in (search.weights(), *([search.policy()] if search.needs.data != "none" else [])):
            for point in space.points:
                above = [chosen[i].runs for i, c in point.conditions if i in chosen and c in chosen[i].runs]
                assert (point.index in chosen) == (not point.conditions or bool(above))
            if chosen.is_single_path:
                dna = chosen.dna(space)
                assert space.dna(dna.to_json()) == dna
    found = search.derive(lambda dna: float(len(dna)))
    assert space.dna(found.to_json()) == found


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_weight_steps_want_no_gradient(algorithm):
    search = started(algorithm, SPACES["mixed"])
    play(search, 8)
    for s in search.weights().values():
        for name in ("weights", "value"):
            tensor = getattr(s, name, None)
            assert not (torch.is_tensor(tensor) and tensor.requires_grad)
        assert not isinstance(s, Gate)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_same_seed_same_run_and_other_seed_other_run(algorithm):
    runs = [play(started(algorithm, SPACES["mixed"], seed), 8) for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_global_generators_stay_untouched(algorithm):
    before = torch.random.get_rng_state()
    play(started(algorithm, SPACES["mixed"]), 6)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_silence_and_failures_are_taken(algorithm):
    search = started(algorithm, SPACES["mixed"])
    if search.needs.data == "none":
        pytest.skip("nothing is asked for")
    for _ in range(3):
        search.policy()
    before = search.probabilities()
    search.feedback(search.policy())
    assert search.probabilities() == before
    play(search, 8)


@pytest.mark.parametrize("algorithm", [a for a in ALGORITHMS if not isinstance(a, (RSPS, SPOS, OnceForAll, ENAS))])
def test_the_policy_learns(algorithm):
    search = started(algorithm, SPACES["mixed"])
    before = search.probabilities()
    play(search, 12)
    assert search.probabilities() != before
    is_normal = isinstance(algorithm, TuNAS) and algorithm.ranges == "normal"  # Whose entropy is differential.
    assert all(h >= 0.0 or is_normal for h in search.entropy().values())


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_settings_are_plain_comparable_and_unchanged(algorithm):
    before = pickle.dumps(algorithm)
    play(started(algorithm, SPACES["mixed"]), 4)
    assert pickle.loads(before) == algorithm
    assert equal(mu.clone(algorithm), algorithm)


@pytest.mark.parametrize("algorithm", GRADIENT_ONLY)
def test_gradients_need_shared_weights(algorithm):
    with pytest.raises(SettingError) as caught:
        algorithm.start(SPACES["choice"], seed=0)
    assert str(caught.value) == (
        f"cannot search by trials\n  at:       {type(algorithm).__name__}\n"
        "  got:      'a space without shared weights' (str)\n"
        "  expected: a loss whose gradient reaches the decisions\n"
        "  fix:      run it by mu.one_shot on mu.share_weights(program), or search with Reinforce() or evolution"
    )


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("fraction", [-0.1, 1.5, None, True, float("nan")])
def test_progress_is_a_fraction(algorithm, fraction):
    with pytest.raises(SettingError, match="cannot set the progress"):
        started(algorithm, SPACES["choice"]).progress(fraction)


def test_an_algorithm_of_ones_own_needs_no_more_than_the_protocol():
    assert OneShot.__abstractmethods__ == {"start_shared"}


@pytest.mark.parametrize(("reward", "found"), [(1, 1.0), (None, None), (float("nan"), None), (float("-inf"), None)])
def test_only_finite_rewards_count(reward, found):
    assert finite(reward) == found


def test_fractions_are_floats():
    assert need_fraction(1) == 1.0 and isinstance(need_fraction(1), float)
