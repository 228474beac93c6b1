"""The loop that the user owns: what it yields, when it ends, what it refuses."""

from __future__ import annotations

import sys
import tracemalloc
from types import SimpleNamespace

import pytest
from hash_seeds import outputs_of

import mutandis as mu
from mutandis.algorithms import Grid, Random, RegularizedEvolution
from mutandis.errors import MutandisWarning, SettingError, SpaceError
from mutandis.hyper import SearchSpace


@mu.symbolize
class Net:
    def __init__(self, width, depth=1):
        self.width = width
        self.depth = depth


def program():
    return {"x": mu.oneof(list(range(10))), "y": mu.floatv(0.0, 1.0)}


def branching():
    if mu.boolv(name="deep"):
        return mu.intv(1, 3, name="depth")
    return 0


def decisions(made, algorithm, **options):
    """Returns the DNAs of a search that is rewarded by the first decision."""
    loop = mu.sample(made, algorithm, **options)
    for _, feedback in loop:
        feedback(feedback.dna.values[0])
    return [trial.dna for trial in loop.study.trials]


def test_a_loop_yields_children_and_records_their_rewards():
    loop = mu.sample(Net(mu.oneof([8, 16])), Grid())
    for child, feedback in loop:
        assert isinstance(child, Net)
        feedback(child.width)
    assert [trial.reward for trial in loop.study.trials] == [8.0, 16.0]
    assert loop.study.counts() == {"completed": 2}


def test_trials_ends_the_loop():
    assert len(decisions(program(), Random(), trials=7)) == 7


def test_without_trials_the_algorithm_ends_the_loop():
    assert len(decisions([mu.oneof([1, 2, 3]), mu.boolv()], Grid())) == 6


def test_the_loop_ends_early_where_the_algorithm_has_nothing_left():
    assert len(decisions(mu.boolv(), Grid(), trials=100)) == 2


def test_no_trial_begins_after_the_timeout(monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr(sys.modules["mutandis.flows.sample"], "time", SimpleNamespace(monotonic=lambda: next(clock)))
    assert len(decisions(program(), Random(), timeout=4)) == 3


def test_a_search_space_is_a_program():
    space = mu.space(program())
    loop = mu.sample(space, Random(), trials=1)
    assert loop.space is space


def test_the_loop_of_a_search_has_its_study_and_space():
    study = mu.Study()
    loop = mu.sample(program(), Random(), trials=1, study=study)
    assert loop.study is study
    assert isinstance(loop.space, SearchSpace)


@pytest.mark.parametrize("algorithm", [Random(), RegularizedEvolution(population_size=4, tournament_size=2)])
def test_the_same_seed_makes_the_same_decisions(algorithm):
    assert decisions(program(), algorithm, trials=12, seed=3) == decisions(program(), algorithm, trials=12, seed=3)


@pytest.mark.parametrize("algorithm", [Random(), RegularizedEvolution(population_size=4, tournament_size=2)])
def test_another_seed_makes_other_decisions(algorithm):
    assert decisions(program(), algorithm, trials=12, seed=3) != decisions(program(), algorithm, trials=12, seed=4)


SCRIPT = """
import mutandis as mu
evolution = mu.algorithms.RegularizedEvolution(population_size=4, tournament_size=2)
program = {"f": mu.oneof([len, print, {1, 2}]), "p": mu.permutate("a b c".split()), "l": mu.floatv(0.1, 1.0)}
for child, feedback in mu.sample(program, evolution, trials=20, seed=5):
    feedback(child["l"])
    print(feedback.dna.to_numbers())
"""


def test_another_process_and_hash_seed_make_the_same_decisions():
    assert len(outputs_of(SCRIPT)) == 1


# Functions that decide as they run.


def test_a_function_is_searched_by_running_it():
    loop = mu.sample(branching, Grid())
    results = []
    for child, feedback in loop:
        results.append(child())
        feedback(results[-1])
    assert results == [0, 1, 2, 3]


def test_the_best_function_call_can_be_made_again():
    loop = mu.sample(branching, Grid())
    for child, feedback in loop:
        feedback(child())
    assert loop.study.best.child()() == 3


# Parts of a program: where=.


def hardware_and_net():
    return {"hw": mu.oneof(["cpu", "gpu"]), "net": Net(mu.oneof([8, 16, 32]))}


@pytest.mark.parametrize("where", ["['hw']", lambda point: point.path == "['hw']"])
def test_where_takes_a_path_or_a_predicate(where):
    children = []
    for child, feedback in mu.sample(hardware_and_net(), Grid(), where=where):
        children.append(child)
        feedback(0)
    assert [child["hw"] for child in children] == ["cpu", "gpu"]
    assert [mu.space(child).size for child in children] == [3, 3]


def test_loops_nest():
    seen = []
    outer = mu.sample(hardware_and_net(), Grid(), where="['hw']")
    for part, answer in outer:
        inner = mu.sample(part, Grid())
        for child, feedback in inner:
            seen.append((child["hw"], child["net"].width))
            feedback(child["net"].width)
        answer(inner.study.best.reward)
    assert seen == [("cpu", 8), ("cpu", 16), ("cpu", 32), ("gpu", 8), ("gpu", 16), ("gpu", 32)]
    assert [trial.reward for trial in outer.study.trials] == [32.0, 32.0]


def test_a_nested_loop_keeps_a_shared_decision_shared():
    width = mu.oneof([8, 16])
    for part, answer in mu.sample([mu.boolv(), width, Net(width)], Grid(), where="[0]"):
        inner = mu.sample(part, Grid())
        for child, feedback in inner:
            assert child[1] == child[2].width
            feedback(0)
        answer(len(inner.study))
        assert len(inner.study) == 2


def test_where_that_takes_nothing_is_refused():
    where = "['nothing']"
    with pytest.raises(SpaceError) as error:
        mu.sample(hardware_and_net(), Grid(), where=where)
    assert str(error.value) == (
        "cannot sample: `where` takes no decision\n"
        "  at:       where\n"
        "  got:      \"['nothing']\" (str)\n"
        "  expected: some of ['hw'], ['net'].width\n"
        "  fix:      test your predicate on mu.space(program).points"
    )


def test_where_on_a_space_with_a_predicate_is_refused():
    space = mu.space(hardware_and_net()).require(lambda child: True)
    with pytest.raises(SpaceError) as error:
        mu.sample(space, Grid(), where="['hw']")
    assert str(error.value) == (
        "cannot split a space with a predicate\n"
        "  at:       require\n"
        "  expected: a space without predicates, since a part of a child cannot be judged\n"
        "  fix:      split first, then call require on the parts"
    )


# Predicates.


def test_what_a_predicate_refuses_costs_no_trial():
    space = mu.space([mu.intv(1, 4), mu.intv(1, 4)]).require(lambda child: sum(child) == 5)
    loop = mu.sample(space, Grid())
    children = []
    for child, feedback in loop:
        children.append(child)
        feedback(0)
    assert children == [[1, 4], [2, 3], [3, 2], [4, 1]]
    assert [trial.id for trial in loop.study.trials] == [0, 1, 2, 3]


def test_a_predicate_that_refuses_everything_is_an_error():
    loop = mu.sample(mu.space(program()).require(lambda child: False), Random(), trials=2)
    with pytest.raises(SpaceError) as error:
        next(loop)
    assert str(error.value) == (
        "cannot sample: the predicates of the space refuse everything\n"
        "  at:       require\n"
        "  got:      '1000 refusals in a row' (str)\n"
        "  expected: a DNA that they allow\n"
        "  fix:      loosen the predicate, or build the constraint into the space with conditional candidates"
    )
    assert len(loop.study) == 0


# Studies that go on.


def test_trials_counts_those_that_the_study_has():
    study = mu.Study()
    decisions(program(), Random(), trials=3, study=study)
    decisions(program(), Random(), trials=5, study=study)
    assert [trial.id for trial in study.trials] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    "algorithm", [Random(), Grid(points=4), RegularizedEvolution(population_size=4, tournament_size=2)]
)
def test_a_search_in_two_parts_is_the_search_in_one(algorithm):
    study = mu.Study()
    decisions(program(), algorithm, trials=6, study=study)
    assert decisions(program(), algorithm, trials=12, study=study) == decisions(program(), algorithm, trials=12)


def test_a_search_goes_on_after_trials_that_taught_it_nothing():
    study = mu.Study()
    for _, feedback in mu.sample(program(), Grid(points=2), trials=3, study=study):
        feedback.skip() if feedback.trial.id else feedback.fail("once")
    assert len(set(decisions(program(), Grid(points=2), trials=6, study=study))) == 6


def test_a_search_with_a_predicate_goes_on_where_it_stopped():
    study = mu.Study()
    space = mu.space(mu.intv(1, 20)).require(lambda child: child % 2 == 0)
    decisions(space, Grid(), trials=3, study=study)
    assert [dna.values[0] for dna in decisions(space, Grid(), study=study)] == list(range(2, 21, 2))


def test_another_algorithm_is_told_what_is_finished():
    study = mu.Study()
    made = mu.intv(0, 1000)
    decisions(made, Random(), trials=30, study=study)
    best = study.best.dna
    decisions(made, RegularizedEvolution(population_size=30, tournament_size=30), trials=31, study=study)
    alone = decisions(made, RegularizedEvolution(population_size=30, tournament_size=30), trials=1)
    assert study.trials[30].dna != alone[0]
    assert best in [trial.dna for trial in study.trials]


def test_another_algorithm_begins_at_its_beginning():
    study = mu.Study()
    decisions(mu.intv(1, 5), Random(), trials=3, study=study, seed=1)
    found = decisions(mu.intv(1, 5), Grid(), trials=8, study=study)
    assert [dna.values[0] for dna in found[3:]] == [1, 2, 3, 4, 5]


def test_a_study_of_another_space_is_refused():
    study = mu.Study(name="mine")
    decisions(mu.oneof([1, 2]), Random(), trials=2, study=study)
    with pytest.raises(SpaceError) as error:
        mu.sample(mu.oneof([3, 4]), Random(), study=study)
    one, other = (mu.space(mu.oneof(c)).fingerprint[:8] for c in ([1, 2], [3, 4]))
    assert str(error.value) == (
        "cannot continue a study with another space\n"
        "  at:       mine\n"
        f"  got:      SearchSpace(1 decisions, version {other}) (SearchSpace)\n"
        f"  expected: the space of its 2 trials: SearchSpace(1 decisions, version {one}), "
        "or one that some of them fit\n"
        "  fix:      start a new mu.Study(), or search the same program"
    )


def test_a_study_with_other_objectives_is_refused():
    study = mu.Study(name="mine")
    decisions(mu.oneof([1, 2]), Random(), trials=2, study=study)
    with pytest.raises(SettingError) as error:
        mu.sample(mu.oneof([1, 2]), Random(), study=study, objectives=("-loss",))
    assert str(error.value) == (
        "cannot continue a study with other objectives\n"
        "  at:       mine\n"
        "  got:      ['-loss'] (list)\n"
        "  expected: reward\n"
        "  fix:      start a new mu.Study(), or keep the objectives"
    )


def test_a_study_without_trials_takes_any_space():
    study = mu.Study()
    mu.sample(mu.oneof([1, 2]), Random(), study=study)
    mu.sample(mu.oneof([1, 2, 3]), Random(), study=study, objectives="-loss")
    assert study.space.size == 3


def test_what_is_no_study_is_refused():
    with pytest.raises(SettingError) as error:
        mu.sample(program(), Random(), study=3)
    assert str(error.value) == (
        "cannot record a search\n"
        "  at:       study\n"
        "  got:      3 (int)\n"
        "  expected: a mu.Study, or a path or address that it opens\n"
        '  fix:      pass study="search.db", or study=mu.Study()'
    )


# What is refused.


def test_a_program_without_decisions_is_refused():
    with pytest.raises(SpaceError) as error:
        mu.sample({"x": 1}, Random())
    assert str(error.value) == (
        "cannot sample a program without decisions\n"
        "  got:      {'x': 1} (dict)\n"
        "  expected: at least one hyper value in its arguments\n"
        "  fix:      put mu.oneof([...]), mu.floatv(low, high) or another hyper value where something shall be searched"
    )


def test_a_function_without_decisions_is_refused():
    with pytest.raises(SpaceError, match="cannot sample a program without decisions"):
        mu.sample(lambda: 3, Random())


def test_the_class_of_an_algorithm_is_refused():
    with pytest.raises(SettingError) as error:
        mu.sample(program(), Random)
    assert str(error.value) == (
        "cannot search with this algorithm\n"
        "  at:       algorithm\n"
        "  got:      <class 'mutandis.algorithms.random_search.Random'> (ABCMeta)\n"
        "  expected: an instance of a mu.algorithms class\n"
        "  fix:      write Random()"
    )


def test_the_name_of_an_algorithm_is_refused():
    with pytest.raises(SettingError) as error:
        mu.sample(program(), "random")
    assert str(error.value) == (
        "cannot search with this algorithm\n"
        "  at:       algorithm\n"
        "  got:      'random' (str)\n"
        "  expected: an instance of a mu.algorithms class\n"
        "  fix:      use mu.algorithms.Random()"
    )


@pytest.mark.parametrize(
    ("options", "got", "what"),
    [
        ({"trials": 0}, "0 (int)", "an int"),
        ({"trials": -1}, "-1 (int)", "an int"),
        ({"trials": 2.5}, "2.5 (float)", "an int"),
        ({"trials": True}, "True (bool)", "an int"),
        ({"timeout": 0}, "0 (int)", "a number"),
        ({"timeout": float("nan")}, "nan (float)", "a number"),
        ({"timeout": "1h"}, "'1h' (str)", "a number"),
    ],
)
def test_a_limit_that_is_no_amount_is_refused(options, got, what):
    with pytest.raises(SettingError) as error:
        mu.sample(program(), Random(), **options)
    (name,) = options
    assert str(error.value) == (
        "cannot sample\n"
        f"  at:       {name}\n"
        f"  got:      {got}\n"
        f"  expected: {what} above 0, or None for no limit\n"
        f"  fix:      give a larger number, or leave {name} out"
    )


def test_several_objectives_are_refused_by_an_algorithm_for_one():
    with pytest.raises(SettingError, match="cannot search for several objectives"):
        mu.sample(program(), RegularizedEvolution(), objectives=("a", "b"))


def test_a_space_without_a_program_is_refused_at_the_first_child():
    loop = mu.sample(mu.space(program()).bare(), Random())
    with pytest.raises(SpaceError, match="cannot materialize without a program"):
        next(loop)


# Bodies that do not answer.


def test_a_body_that_answers_nothing_is_abandoned_with_a_warning():
    loop = mu.sample(program(), Random(), trials=1)
    next(loop)
    with pytest.warns(MutandisWarning) as caught, pytest.raises(StopIteration):
        next(loop)
    assert str(caught[0].message) == (
        "trial 0 was not answered and counts as abandoned; call feedback(reward) or feedback.skip(reason) in every "
        "turn of the loop"
    )
    assert caught[0].filename == __file__
    assert loop.study.counts() == {"abandoned": 1}


def test_a_loop_goes_on_after_an_abandoned_trial():
    loop = mu.sample(program(), Random(), trials=2)
    next(loop)
    with pytest.warns(MutandisWarning):
        _, feedback = next(loop)
    feedback(1)
    assert [trial.state for trial in loop.study.trials] == ["abandoned", "completed"]


def test_an_exception_inside_with_is_recorded_with_its_text():
    study = mu.Study()

    def search():
        with mu.sample(program(), Random(), study=study) as loop:
            for _ in loop:
                raise RuntimeError("no memory")

    with pytest.raises(RuntimeError, match="no memory"):
        search()
    assert study.trials[0].state == "failed"
    assert study.trials[0].reason == "RuntimeError: no memory"


def test_a_break_inside_with_abandons_the_trial():
    study = mu.Study()
    with mu.sample(program(), Random(), study=study) as loop:
        for _ in loop:
            break
    assert study.counts() == {"abandoned": 1}


def test_an_answered_trial_stays_completed_when_its_body_raises_later():
    study = mu.Study()

    def search():
        with mu.sample(program(), Random(), study=study) as loop:
            for _, feedback in loop:
                feedback(1)
                raise RuntimeError

    with pytest.raises(RuntimeError):
        search()
    assert study.counts() == {"completed": 1}


def test_closing_a_loop_twice_does_nothing():
    loop = mu.sample(program(), Random())
    next(loop)
    loop.close()
    loop.close()
    assert loop.study.counts() == {"abandoned": 1}


def test_an_algorithm_learns_from_failures_but_not_from_skips():
    told = []

    class Listening(Random):
        def start(self, space, *, seed, num_objectives=1):
            search = super().start(space, seed=seed, num_objectives=num_objectives)
            search.feedback = told.append
            return search

    for _, feedback in mu.sample(program(), Listening(), trials=3):
        answer, *args = [(feedback.skip,), (feedback.fail, "broken"), (feedback, 4)][feedback.trial.id]
        answer(*args)
    assert [(record.id, record.reward) for record in told] == [(1, None), (2, 4.0)]


def memory_of(trials):
    tracemalloc.start()
    try:
        loop = mu.sample(mu.intv(1, 9), Random(), trials=trials)
        for child, feedback in loop:
            feedback(child)
        return tracemalloc.get_traced_memory()[1], loop.study
    finally:
        tracemalloc.stop()


def test_twenty_thousand_trials_take_memory_in_proportion():
    few, _ = memory_of(2_000)
    many, study = memory_of(20_000)
    assert study.counts() == {"completed": 20_000}
    assert many < 12 * few


@mu.symbolize
class Fussy:
    def __init__(self, size):
        if size == 2:
            raise ValueError("two is too many")
        self.size = size


def test_a_child_that_cannot_be_built_is_a_failed_trial_and_the_loop_may_go_on():
    loop = mu.sample(Fussy(mu.oneof([1, 2, 3])), mu.algorithms.Grid())
    child, feedback = next(loop)
    feedback(child.size)
    with pytest.raises(ValueError, match="two is too many") as error:
        next(loop)
    assert "while building the child of trial 1: {size: 2}" in error.value.__notes__
    child, feedback = next(loop)
    feedback(child.size)
    assert [(t.state, t.reason) for t in loop.study.trials] == [
        ("completed", None),
        ("failed", "ValueError: two is too many"),
        ("completed", None),
    ]


def test_callbacks_hear_of_every_trial_that_ends_in_order():
    heard = []
    loop = mu.sample(
        {"x": mu.oneof([1, 2, 3])},
        mu.algorithms.Random(),
        trials=4,
        callbacks=[
            lambda study, trial: heard.append((len(study), trial.id, trial.state, study.trials[trial.id] is trial))
        ],
    )
    for number, (child, feedback) in enumerate(loop):
        if number == 1:
            feedback.skip()
        elif number == 2:
            feedback.fail("why")
        else:
            feedback(child["x"])
    assert heard == [
        (1, 0, "completed", True),
        (2, 1, "skipped", True),
        (3, 2, "failed", True),
        (4, 3, "completed", True),
    ]


def test_callbacks_do_not_hear_again_of_trials_of_before():
    heard = []
    study = mu.Study()
    for total in (2, 3):
        loop = mu.sample(
            {"x": mu.oneof([1, 2, 3])},
            mu.algorithms.Random(),
            trials=total,
            study=study,
            callbacks=(lambda study, trial: heard.append(trial.id),),
        )
        for child, feedback in loop:
            feedback(child["x"])
    assert heard == [0, 1, 2]


def test_the_error_of_a_callback_goes_on_after_the_trial_is_recorded():
    def broken(study, trial):
        raise ZeroDivisionError("broken")

    loop = mu.sample({"x": mu.oneof([1, 2])}, mu.algorithms.Random(), callbacks=[broken])
    child, feedback = next(loop)
    with pytest.raises(ZeroDivisionError, match="broken"):
        feedback(child["x"])
    assert [trial.state for trial in loop.study] == ["completed"]


@pytest.mark.parametrize("callbacks", [print, [1], None])
def test_callbacks_that_cannot_be_called_are_refused(callbacks):
    with pytest.raises(SettingError) as caught:
        mu.sample({"x": mu.oneof([1, 2])}, mu.algorithms.Random(), callbacks=callbacks)
    assert caught.value.expected == "a list of functions of the study and a trial"
    assert caught.value.fix == "write callbacks=[mu.integrations.TensorBoard()]"
