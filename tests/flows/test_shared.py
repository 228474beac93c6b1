"""Searches that share a study in a store: killed, resumed, several at once, on spaces that change."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
import warnings

import postgres
import pytest
from workers import PROGRAM, SIMPLE, answer, chaos, contract_algorithms, decisions, in_child, reward_of, start

import mutandis as mu
from mutandis.algorithms import Grid, Random, RegularizedEvolution, schedulers
from mutandis.errors import MutandisWarning, SettingError, SpaceExhausted
from mutandis.flows.feedback import TrialFeedback
from mutandis.flows.studies.stores import Claimed, Finished, Heartbeat, open_store
from mutandis.hyper import Proposal

ALGORITHMS = contract_algorithms()
TYPICAL = ["Random", "Grid", "RegularizedEvolution", "HillClimbInBatches", "LocalSearch", "NSGA2", "CMAES", "Reinforce",
           "DedupedRandom", "Constrained", "Hyperband", "ASHA", "KernelDensity"]  # fmt: skip


@pytest.fixture
def path(tmp_path):
    return tmp_path / "study.db"


def searching(algorithm, study=None, trials=24, **options):
    """Returns a loop, over a simple program where the algorithm refuses a conditional one."""
    try:
        return mu.sample(PROGRAM, algorithm, trials=trials, study=study, seed=1, **options)
    except SettingError:
        return mu.sample(SIMPLE, algorithm, trials=trials, study=study, seed=1, **options)


@pytest.mark.parametrize("name", ["study.db", "study.jsonl"])
def test_threads_may_share_one_study(tmp_path, name):
    study, failures = mu.Study(tmp_path / name), []

    def work():
        try:
            answer(searching(RegularizedEvolution(8, 3), study, trials=60))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert failures == []
    assert study.counts() == {"completed": 60}
    assert study.best.reward == max(trial.reward for trial in study.trials)


def killed_and_resumed(algorithm, path, seed):
    """Returns the study of a search that is killed at three random trials."""
    rng = random.Random(seed)
    for kill_at in sorted(rng.sample(range(24), 3)):
        moment = rng.choice(["before", "after"])
        in_child(lambda at=kill_at, when=moment: answer(searching(algorithm, path), at, when))
    return answer(searching(algorithm, path))


def check_kill(name, path):
    whole = answer(searching(ALGORITHMS[name]))
    study = killed_and_resumed(ALGORITHMS[name], path, name)
    assert decisions(study) == decisions(whole)
    assert [t.rewards for t in study.trials] == [t.rewards for t in whole.trials]
    assert {t.state for t in study.trials} == {"completed"}


@pytest.mark.parametrize("name", TYPICAL)
def test_a_search_that_is_killed_and_resumed_is_the_search_that_was_not(name, path):
    check_kill(name, path)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(ALGORITHMS) - set(TYPICAL)))
def test_every_search_that_is_killed_and_resumed_is_the_search_that_was_not(name, path):
    check_kill(name, path)


def test_what_a_killed_worker_left_is_tried_again_with_its_checkpoint(path):
    def die():
        for _, feedback in mu.sample(PROGRAM, Random(), study=path, trials=3):
            (feedback.checkpoint / "epoch").write_text("7")
            os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(die) == -signal.SIGKILL
    loop = mu.sample(PROGRAM, Random(), study=path, trials=3)
    _, feedback = next(loop)
    assert (feedback.trial.id, feedback.attempt, (feedback.checkpoint / "epoch").read_text()) == (0, 2, "7")
    place = feedback.checkpoint
    assert place == path.with_name("study.db.checkpoints") / "trial-0"
    feedback(1)
    assert not place.exists()
    _, feedback = next(loop)
    assert (feedback.trial.id, feedback.attempt) == (1, 1)
    feedback(1)
    loop.close()
    assert loop.study.trials[0].attempt == 2


def test_a_trial_that_kills_every_worker_fails_in_the_end(path):
    for _ in range(2):
        in_child(lambda: answer(mu.sample(PROGRAM, Grid(points=2), study=mu.Study(path, attempts=2), trials=2), 0))
    study = answer(mu.sample(PROGRAM, Grid(points=2), study=mu.Study(path, attempts=2), trials=2))
    assert [(t.state, t.attempt, t.reason) for t in study.trials] == [
        ("failed", 2, "its worker was lost 2 times"), ("completed", 1, None),
    ]  # fmt: skip


# Schedulers.


def loss(dna, step):
    return random.Random(f"{dna.values} {step}").random() + 1 / step


def train(loop, kill_at=None, longest=9):
    """Trains from the checkpoint on; dies in the third epoch of a trial, or when it shall stop, and saves none."""
    for _, feedback in loop:
        dies = feedback.trial.id == kill_at and feedback.attempt == 1
        sources = [p / "epoch" for p in (feedback.checkpoint, feedback.inherited) if p is not None]
        done = step = next((int(source.read_text()) for source in sources if source.exists()), 0)
        for step in range(done + 1, longest + 1):
            feedback.report({"loss": loss(feedback.dna, step)}, step=step)
            stops = feedback.should_stop()
            if dies and (stops or step == done + 3):
                os.kill(os.getpid(), signal.SIGKILL)
            if not dies:
                (feedback.checkpoint / "epoch").write_text(str(step))
            if stops:
                break
        feedback(loss(feedback.dna, step))
    return loop.study


PACES = [schedulers.ASHA(1, 9, 3), schedulers.SuccessiveHalving(4, 1, 9), schedulers.Hyperband(1, 9),
         schedulers.Median(3), schedulers.Hyperband(1, 9, variant="stop")]  # fmt: skip


def paced(scheduler, study=None):
    return mu.sample(PROGRAM, RegularizedEvolution(5, 2), trials=30, objectives="-loss", scheduler=scheduler, seed=2,
                     study=study)  # fmt: skip


@pytest.mark.parametrize("scheduler", PACES, ids=str)
def test_a_pruned_search_that_is_killed_and_resumed_is_the_search_that_was_not(scheduler, path):
    whole = train(paced(scheduler))
    long = [t.id for t in whole.trials if len(t.curve) > 1]
    for kill_at in long[1::3]:
        in_child(lambda at=kill_at: train(paced(scheduler, path), at))
    study = train(paced(scheduler, path))
    facts = [[(t.dna, t.state, t.rewards, t.fidelity, t.parent) for t in s.trials] for s in (whole, study)]
    assert facts[0] == facts[1]
    left = {int(p.name.removeprefix("trial-")) for p in path.with_name("study.db.checkpoints").iterdir()}
    went_on = {t.parent for t in study.trials}
    assert left == {t.id for t in study.trials if t.state == "paused"} - went_on


def test_an_answer_that_stands_for_a_report_leaves_no_point_on_the_curve(path):
    whole, study = ([], [])
    for found, where in ((whole, None), (study, path)):
        loop = mu.sample(mu.intv(1, 4), Grid(), scheduler=schedulers.ASHA(1, 4, 2), study=where)
        for child, feedback in loop:
            feedback(child)
        found.extend((t.dna, t.state, t.fidelity, t.parent, t.curve) for t in loop.study.trials)
    assert study == whole


# Several workers.


def begun(loop, total=None):
    """Returns the feedback of the next trial of a loop, or None where the loop would wait for others."""
    found = loop._run.engine.start(total)
    if found is None:
        return None
    trial, turn = found
    return TrialFeedback(trial, loop.study.objectives, loop._run.finish, None, turn)


class Crew:
    """Loops on one study that take turns at random, each with a trial at a time under way.

    Args:
        loops: The loops.
        rng: Whose turn it is.
        step: Goes on with a trial; returns whether that has ended.
        races: Whether others act between the proposal and the claim of a loop.
    """

    def __init__(self, loops, rng, step, races):
        self.loops, self.rng, self.step = loops, rng, step
        self.under_way, self.made, self.busy = {}, [0] * len(loops), set()
        for which, loop in enumerate(loops if races else ()):
            archive = loop.study.archive
            archive.claim = self.raced(which, archive.claim)

    def raced(self, which, claim):
        def claimed(*arguments, **options):
            self.busy.add(which)
            while self.rng.random() < 0.5:
                self.act()
            self.busy.discard(which)
            return claim(*arguments, **options)

        return claimed

    def act(self):
        which = self.rng.randrange(len(self.loops))
        if which in self.busy:
            return
        feedback = self.under_way.get(which)
        if feedback is None:
            self.under_way[which] = begun(self.loops[which])
            self.made[which] += self.under_way[which] is not None
        elif self.step(feedback):
            del self.under_way[which]

    def run(self, trials):
        """Runs until so many trials have begun, and those under way have ended; returns how many each loop made."""
        while len(self.loops[0].study) < trials:
            self.act()
        for feedback in filter(None, self.under_way.values()):
            while not self.step(feedback):
                pass
        return self.made


def answered(feedback):
    feedback(reward_of(feedback.dna))
    return True


def interleaved(loops, rng, trials, races=False):
    return Crew(loops, rng, answered, races).run(trials)


@pytest.mark.parametrize("name", ["Random", "RegularizedEvolution", "DedupedEvolution", "CMAES"])
def test_workers_share_one_search_and_whoever_comes_later_retraces_it(name, path):
    algorithm = ALGORITHMS[name]
    loops = [searching(algorithm, mu.Study(path), trials=200) for _ in range(3)]
    made = interleaved(loops, random.Random(name), 40, races=True)
    assert min(made) > 3
    total = sum(made)
    for loop in loops:
        loop.close()
    # One more worker goes through the record: where it proposed otherwise, it would begin a run of its own.
    answer(searching(algorithm, mu.Study(path), trials=total + 3))
    runs = [claim.proposal["run"] for claim in claims(path)]
    assert len(runs) == total + 3 and len(set(runs)) == 1


@pytest.mark.parametrize("is_alive", [False, True])
def test_who_is_last_takes_over_what_a_lost_machine_left(is_alive, path):
    answer(searching(Random(), path, trials=2))
    begun(searching(Random(), mu.Study(path, lease=0.3)))  # It holds trial 2, as if it were far away.
    with open_store(path, lease=0.3, worker="far:1::") as store:
        log = store.open("study")
        log.release(log.running[0])
        lease = log.take_over()
        with Heartbeat(log) as heart:
            if is_alive:
                heart.add(lease)
            study = answer(searching(Random(), mu.Study(path, lease=0.3), trials=3))
    assert [(t.state, t.attempt) for t in study.trials[2:]] == (
        [("running", 2)] if is_alive else [("completed", 3)]
    )  # fmt: skip


def test_random_workers_make_the_trials_of_one(path):
    loops = [searching(Random(), mu.Study(path), trials=99) for _ in range(3)]
    interleaved(loops, random.Random(0), 30, races=True)
    one = answer(searching(Random(), trials=30))
    assert decisions(loops[0].study)[:30] == decisions(one)


@pytest.mark.parametrize("scheduler", PACES[:4], ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_workers_under_a_scheduler_share_one_search(scheduler, seed, path):
    def begin():
        return mu.sample(PROGRAM, RegularizedEvolution(5, 2), objectives="-loss", scheduler=scheduler,
                         study=mu.Study(path))  # fmt: skip

    loops = [begin() for _ in range(3)]

    def an_epoch(feedback):
        trial = feedback.trial
        done = [s for s, _ in trial.curve] or [s for s, _ in came_from(loops[0].study, trial)] or [0]
        step = max(done) + 1
        if step > 9:
            feedback(loss(feedback.dna, 9))
            return True
        feedback.report({"loss": loss(feedback.dna, step)}, step=step)
        if feedback.should_stop():
            feedback(loss(feedback.dna, step))
        return feedback.is_answered

    Crew(loops, random.Random(seed), an_epoch, races=True).run(40)
    before = len(claims(path))
    train(mu.sample(PROGRAM, RegularizedEvolution(5, 2), objectives="-loss", scheduler=scheduler, study=mu.Study(path),
                    trials=before + 3))  # fmt: skip
    runs = [claim.proposal["run"] for claim in claims(path)]
    assert len(runs) == before + 3 and len(set(runs)) == 1


def came_from(study, trial):
    return () if trial.parent is None else study.trials[trial.parent].curve


def claims(path):
    with open_store(path) as store:
        return [event for event in store.open("study").read().events if isinstance(event, Claimed)]


class Fickle(mu.algorithms.Algorithm):
    """Has nothing to propose every third trial before all results are in, and proposes otherwise when asked in vain."""

    def start(self, space, *, seed, num_objectives=1):
        return FickleSearch(space)


class FickleSearch(mu.algorithms.Search):
    def __init__(self, space):
        self.space, self.made, self.told, self.vain = space, 0, 0, 0

    def propose(self):
        if self.made % 3 == 2 and self.told < self.made:
            self.vain += 1
            raise SpaceExhausted("cannot propose: results are missing")
        self.made += 1
        return Proposal(self.made - 1, self.space.random(self.made + 100 * self.vain))

    def feedback(self, feedback):
        self.told += 1

    def state_dict(self):
        return {"made": self.made, "told": self.told, "vain": self.vain}

    def load_state_dict(self, state):
        self.made, self.told, self.vain = state["made"], state["told"], state["vain"]


def test_to_ask_in_vain_changes_nothing_for_others(path):
    loops = [mu.sample(PROGRAM, Fickle(), study=mu.Study(path)) for _ in range(3)]
    total = sum(interleaved(loops, random.Random(2), 30))
    answer(mu.sample(PROGRAM, Fickle(), study=path, trials=total + 3))
    assert len({claim.proposal["run"] for claim in claims(path)}) == 1


def test_another_algorithm_learns_what_is_there_and_whoever_repeats_it_joins_it(path):
    answer(searching(Random(), path, trials=6))
    first = answer(searching(Grid(points=3), path, trials=9))
    assert decisions(first)[6:] == decisions(answer(searching(Grid(points=3), trials=3)))
    second = answer(searching(Grid(points=3), path, trials=12))
    assert decisions(second)[6:] == decisions(answer(searching(Grid(points=3), trials=6)))
    assert len({claim.proposal["run"] for claim in claims(path)}) == 2


def test_who_proposes_otherwise_than_its_own_record_begins_a_run_of_its_own(path, monkeypatch):
    study = answer(searching(Random(), path, trials=6))
    monkeypatch.setattr("mutandis.flows.opening.blake2b", lambda *_, **__: Same())  # All runs have one name.
    path = path.with_name("same.db")
    answer(searching(Random(), path, trials=6))
    loop = mu.sample(PROGRAM, Random(), study=path, trials=9, seed=2)
    study = answer(loop)
    other = mu.sample(PROGRAM, Random(), trials=9, seed=2)
    assert decisions(study)[6:] == decisions(answer(other))[:3]
    again = answer(mu.sample(PROGRAM, Random(), study=path, trials=12, seed=2))
    assert decisions(again)[9:] == decisions(answer(mu.sample(PROGRAM, Random(), trials=6, seed=2)))[3:]
    assert [claim.proposal["run"] for claim in claims(path)] == ["same"] * 6 + ["same/0"] * 6


class Same:
    def hexdigest(self):
        return "same"


def test_a_worker_that_lost_its_trial_drops_what_it_found(path):
    slow = mu.Study(path, lease=0.2)
    loop = mu.sample(PROGRAM, Random(), study=slow, trials=1)
    _, feedback = next(loop)
    slow.archive._heart.close()  # The worker hangs.
    with open_store(path, lease=0.2) as store:
        log = store.open("study")
        deadline = time.monotonic() + 20
        while (lease := log.take_over()) is None and time.monotonic() < deadline:
            time.sleep(0.02)
        log.finish(lease, {"state": "completed", "rewards": [5.0]})
    with pytest.warns(MutandisWarning, match="trial 0 was taken over by another worker"):
        feedback.report({"reward": 1.0}, step=1)
    assert feedback.should_stop()
    feedback(1)
    assert [(t.state, t.reward) for t in loop.study.trials] == [("completed", 5.0)]


# The same decisions for any number of workers.


@pytest.mark.parametrize("workers", [1, 2, 4, 8])
def test_interleaved_loops_decide_as_one(workers, path):
    one = answer(searching(RegularizedEvolution(6, 3), trials=40, deterministic=True))
    loops = [searching(RegularizedEvolution(6, 3), mu.Study(path), trials=99, deterministic=True)
             for _ in range(workers)]  # fmt: skip
    interleaved(loops, random.Random(workers), 40, races=True)
    assert decisions(loops[0].study)[:40] == decisions(one)


def test_a_deterministic_loop_runs_behind_its_results():
    plain = answer(searching(RegularizedEvolution(6, 3), trials=40))
    assert decisions(plain) != decisions(answer(searching(RegularizedEvolution(6, 3), trials=40, deterministic=True)))


@pytest.mark.parametrize("cut", [1, 9, 23])
def test_a_deterministic_loop_in_two_parts_is_the_loop_in_one(cut):
    whole = answer(searching(RegularizedEvolution(6, 3), trials=40, deterministic=True))
    study = answer(searching(RegularizedEvolution(6, 3), mu.Study(), trials=cut, deterministic=True))
    answer(searching(RegularizedEvolution(6, 3), study, trials=40, deterministic=True))
    assert decisions(study) == decisions(whole)


@pytest.mark.parametrize("workers", [2, 4])
def test_searches_decide_as_loops_do(workers, path):
    one = answer(searching(RegularizedEvolution(6, 3), trials=30, deterministic=True))
    study = mu.search(PROGRAM, RegularizedEvolution(6, 3), trials=30, seed=1, deterministic=True, study=path,
                      workers=workers, objective=by_dna)  # fmt: skip
    assert decisions(study) == decisions(one)
    assert study.counts() == {"completed": 30}


def by_dna(child, feedback):
    return reward_of(feedback.dna)


def test_a_study_keeps_to_its_order_of_results(path):
    answer(searching(Random(), path, trials=2, deterministic=True))
    with pytest.raises(SettingError) as error:
        searching(Random(), path)
    assert str(error.value) == (
        "cannot continue a study\n"
        "  at:       deterministic\n"
        "  got:      False (bool)\n"
        "  expected: True, as its 2 trials were made\n"
        "  fix:      pass deterministic=True, or start a new study"
    )


# Processes.


def check_chaos(where, trials, kills):
    study = mu.Study(where)
    assert [trial.id for trial in study.trials] == list(range(trials))
    assert study.counts() == {"completed": trials}
    with open_store(where) as store:
        events = store.open("study").read().events
    ended = [event.number for event in events if isinstance(event, Finished)]
    assert sorted(ended) == list(range(trials))
    taken = sum(isinstance(event, Claimed) and event.attempt > 1 for event in events)
    assert taken <= kills
    return taken


def test_workers_that_are_killed_at_random_lose_and_repeat_nothing(path):
    kills = chaos(path, workers=3, trials=120, seconds=0.1, every=0.7)
    assert kills > 2
    check_chaos(path, 120, kills)


def check_two_hundred(where):
    kills = chaos(where, workers=4, trials=200, seconds=0.4, every=1.0)
    assert kills > 10
    assert check_chaos(where, 200, kills) > 3


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["study.db", "study.jsonl"])
def test_two_hundred_trials_in_a_file_survive_a_kill_each_second(name, tmp_path):
    check_two_hundred(str(tmp_path / name))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_hundred_trials_on_a_server_survive_a_kill_each_second():
    with postgres.server() as server:
        check_two_hundred(server.fresh())


def test_processes_decide_as_one(path):
    chaos(path, workers=2, trials=24, seconds=0.01, deterministic=True)
    one = mu.sample(PROGRAM, RegularizedEvolution(8, 3), trials=24, deterministic=True)
    assert decisions(mu.Study(path)) == decisions(answer(one))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 4, 8])
def test_any_number_of_processes_decides_as_one(workers, path):
    chaos(path, workers=workers, trials=60, seconds=0.05, deterministic=True, every=2.0)
    one = mu.sample(PROGRAM, RegularizedEvolution(8, 3), trials=60, deterministic=True)
    assert decisions(mu.Study(path)) == decisions(answer(one))


_INTERRUPTED = """
import sys, time, mutandis as mu
from workers import PROGRAM
for child, feedback in mu.sample(PROGRAM, mu.algorithms.Random(), trials=5, study=sys.argv[1]):
    if feedback.trial.id == 2:
        print("waiting", flush=True)
        time.sleep(60)
    feedback(1)
"""


def test_control_c_leaves_nothing_running_and_loses_nothing(path):
    process = start(_INTERRUPTED, path)
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in err
    with open_store(path) as store:
        log = store.open("study")
        assert [lease.number for lease in log.running] == [2]
        assert log.take_over().attempt == 2  # It was given back: nobody waits for a lease.
    assert process.returncode != 0


_SEARCH = """
import sys, mutandis as mu
from workers import PROGRAM
from flows.test_shared import slow
if __name__ == "__main__":
    mu.search(PROGRAM, mu.algorithms.Random(), trials=50, study=sys.argv[1], workers=2, objective=slow)
    print("done")
"""


def slow(child, feedback):
    if feedback.trial >= 2:
        time.sleep(60)
    return 1.0


def test_control_c_gives_back_the_trials_of_a_pool(path):
    process = start(_SEARCH, path)
    deadline = time.monotonic() + 60
    study = mu.Study(path)
    while len(study) < 4 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert out == "done\n" and "2 running trials are given back to the study" in err
    loop = mu.sample(PROGRAM, Random(), study=path, trials=4)
    assert [(f.trial.id, f.attempt, f(1)) for _, f in loop] == [(2, 2, None), (3, 2, None)]


def test_an_exception_of_the_body_fails_its_trial_alone(path):
    def loop():
        for _ in mu.sample(PROGRAM, Random(), study=path, trials=3):
            1 / 0

    with pytest.raises(ZeroDivisionError):
        loop()
    study = answer(mu.sample(PROGRAM, Random(), study=path, trials=3))
    assert [t.state for t in study.trials] == ["failed", "completed", "completed"]


def test_a_search_in_this_process_records_all(path):
    study = mu.search(PROGRAM, Random(), trials=5, executor="inline", objective=by_dna, study=path)
    assert mu.Study(path).counts() == {"completed": 5}
    assert mu.Study(path).rows() == study.rows()


def test_a_worker_waits_for_results_that_must_come_first(path):
    loops = [searching(Random(), mu.Study(path), trials=20, deterministic=True) for _ in range(2)]
    _, first = next(loops[0])
    for _ in range(7):
        next(loops[1])[1](1.0)
    assert begun(loops[1]) is None  # Trial 8 needs the result of trial 0.
    first(1.0)
    assert begun(loops[1]).trial.id == 8


def test_no_warning_without_a_reason(path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        answer(searching(Random(), path, trials=3))
        answer(searching(Random(), path, trials=5))


def test_a_script_is_done_at_once_where_all_is_done(path):
    answer(searching(Random(), path, trials=3))
    process = start(_INTERRUPTED.replace("trials=5", "trials=3"), path)
    assert process.wait(60) == 0
    process.communicate()
    assert len(mu.Study(path)) == 3
