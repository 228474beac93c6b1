"""Evolution of the best: published operations, what is kept, and that nothing is proposed twice."""

from __future__ import annotations

import pytest
from toy_supernet import BEST, run_shared, successes

import mutandis as mu
from mutandis.algorithms import SPOS
from mutandis.algorithms.oneshot import TopKEvolution
from mutandis.algorithms.oneshot.top_k import crossed, mutant
from mutandis.errors import SettingError, SpaceExhausted
from mutandis.hyper import Feedback, Rng

FOUR = mu.space([mu.oneof([0, 1, 2, 3]) for _ in range(4)]).bare()
CONDITIONAL = mu.space({"x": mu.oneof(["a", {"z": mu.oneof([1, 2, 3])}]), "y": mu.oneof([1, 2])}).bare()
QUICK = SPOS(TopKEvolution(population_size=20, num_top=5, num_mutants=10, num_crossovers=10), num_trials=120)


class Scripted(Rng):
    """A generator whose next numbers are given."""

    def __new__(cls, numbers):
        return super().__new__(cls)

    def __init__(self, numbers):
        super().__init__(0)
        self.numbers = list(numbers)

    def random(self):
        return self.numbers.pop(0)


def four(*values):
    return FOUR.dna({f"[{i}]": value for i, value in enumerate(values)})


def tell(search, dna, reward):
    search.feedback(Feedback(None, dna, None, None, None if reward is None else (reward,)))


def test_a_crossover_takes_each_decision_of_either_parent():
    rng = Scripted([0.1, 0.6, 0.9, 0.4])
    assert crossed(four(0, 1, 2, 3), four(3, 2, 1, 0), rng) == four(0, 2, 1, 3)


def test_a_mutation_touches_a_decision_with_its_chance():
    rng = Scripted([0.5, 0.05, 0.9, 0.2, 0.99])
    assert mutant(four(0, 0, 0, 0), 0.1, rng) == four(0, 3, 0, 0)


def test_a_decision_that_is_drawn_anew_may_stay():
    assert mutant(four(1, 1, 1, 1), 0.1, Scripted([0.5, 0.05, 0.9, 0.2, 0.25])) == four(1, 1, 1, 1)


def conditional(*values):
    given = zip(CONDITIONAL.points, values, strict=True)
    return CONDITIONAL.dna({point.path: value for point, value in given if value is not None})


def test_a_mutation_draws_what_becomes_active_and_drops_what_does_not():
    opened = mutant(conditional(0, None, 1), 0.5, Scripted([0.1, 0.9, 0.99, 0.0]))
    assert opened == conditional(1, 0, 1)
    assert mutant(opened, 0.5, Scripted([0.1, 0.9, 0.9, 0.0])) == conditional(0, None, 1)


def test_a_crossover_takes_from_the_other_what_one_parent_does_not_have():
    found = crossed(conditional(1, 2, 0), conditional(0, None, 1), Scripted([0.1, 0.9, 0.9]))
    assert found == conditional(1, 2, 1)


def test_the_best_of_all_generations_are_kept():
    search = TopKEvolution(num_top=2).start(FOUR, seed=0)
    dnas = [four(i, 0, 0, 0) for i in range(4)]
    for dna, error in zip(dnas[:3], (0.3, 0.2, 0.25), strict=True):
        tell(search, dna, -error)
    assert [dna for _, dna in search._top] == [dnas[1], dnas[2]]
    tell(search, dnas[3], -0.1)
    assert [dna for _, dna in search._top] == [dnas[3], dnas[1]]


def test_failures_and_second_answers_keep_nothing_twice():
    search = TopKEvolution(num_top=3).start(FOUR, seed=0)
    for reward in (None, 0.5, 0.7):
        tell(search, four(0, 0, 0, 0), reward)
    assert [(reward, dna) for reward, dna in search._top] == [(0.7, four(0, 0, 0, 0))]


def test_a_generation_is_mutants_then_crossovers_then_random_ones():
    settings = TopKEvolution(population_size=6, num_top=2, num_mutants=2, num_crossovers=2, mutation_chance=0.01)
    space = mu.space([mu.oneof([0, 1]) for _ in range(30)]).bare()
    search = settings.start(space, seed=1)
    zeros, ones = (space.dna({f"[{i}]": value for i in range(30)}) for value in (0, 1))
    tell(search, zeros, 1.0)
    tell(search, ones, 0.5)
    sums = [sum(search.propose().dna.values) for _ in range(6)]
    assert all(min(s, 30 - s) <= 3 for s in sums[:2])
    assert all(5 <= s <= 25 for s in sums[2:])


def test_nothing_is_proposed_twice_until_all_is_used_up():
    search = TopKEvolution(population_size=5, num_top=2, num_mutants=2, num_crossovers=2).start(FOUR, seed=0)
    found = []
    for _ in range(256):
        proposal = search.propose()
        found.append(proposal.dna)
        search.feedback(Feedback(proposal.id, proposal.dna, None, None, (float(sum(proposal.dna.values)),)))
    assert len(set(found)) == 256
    with pytest.raises(SpaceExhausted) as caught:
        search.propose()
    assert str(caught.value) == (
        "cannot propose: no new DNA was found\n  got:      256 (int)\n"
        "  expected: more than that many DNAs; the space has 256"
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"num_top": 0}, "num_top\n  got:      0 (int)\n  expected: an int >= 1\n  fix:      give a larger whole number"),
     ({"mutation_chance": 0.0}, "mutation_chance\n  got:      0.0 (float)\n  expected: a finite number > 0 and <= 1\n"
      "  fix:      give a number within these bounds")],
)  # fmt: skip
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(SettingError) as caught:
        TopKEvolution(**settings)
    assert str(caught.value) == "cannot use a setting\n  at:       TopKEvolution." + message


def test_spos_searches_by_it_unless_told_otherwise():
    assert SPOS().search == TopKEvolution()


def test_spos_solves_the_toy_supernet():
    assert run_shared(QUICK, 600, 0) == BEST


@pytest.mark.slow
def test_nine_of_ten_seeds_solve_the_toy_supernet():
    assert successes(QUICK, 600, range(10)) >= 9
