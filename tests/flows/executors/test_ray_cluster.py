"""The settings of `Ray`, the way to a cluster, and whole searches on one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from ray_here import need_ray
from search_programs import Trainer

import mutandis as mu
from mutandis.errors import ExecutorError, MissingDependency, MutandisWarning, SettingError
from mutandis.flows.executors import Ray
from mutandis.testing.executor_contract import is_alive, work

PROGRAM = {"x": mu.intv(0, 9)}


def ignore(key, data):
    return None


def directories():
    return set(Path(tempfile.gettempdir()).glob("mutandis-ray-*"))


@pytest.fixture
def place():
    """A directory with a name that is short enough for the sockets of Ray."""
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as place:
        yield place


@pytest.fixture
def ray(place):
    """Ray, not yet initialised, and ended after the test, before its directory goes."""
    ray = need_ray()
    yield ray
    ray.shutdown()


@pytest.fixture
def cluster(ray):
    """Starts clusters of simulated machines: `cluster({"num_cpus": 1}, ...)`, the first of which is the head."""
    from ray.cluster_utils import Cluster

    clusters = []

    def start(*machines):
        head = {"include_dashboard": False, **machines[0]}
        clusters.append(Cluster(initialize_head=True, head_node_args=head))
        nodes = [clusters[-1].add_node(**machine) for machine in machines[1:]]
        return clusters[-1], nodes

    yield start
    ray.shutdown()
    for one in clusters:
        one.shutdown()


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"num_cpus": -1}, "num_cpus"),
        ({"num_gpus": float("inf")}, "num_gpus"),
        ({"num_gpus": float("nan")}, "num_gpus"),
        ({"num_cpus": True}, "num_cpus"),
        ({"resources": {"tpu": "one"}}, "resources['tpu']"),
    ],
)
def test_an_amount_that_makes_no_sense_is_refused(settings, name):
    with pytest.raises(SettingError) as error:
        Ray(**settings)
    value = settings.get(name, "one")
    shown = f"{value!r} ({type(value).__name__})"
    assert str(error.value) == (
        f"cannot use a setting\n  at:       Ray.{name}\n  got:      {shown}\n  expected: a number >= 0\n"
        "  fix:      use 1"
    )


def test_a_missing_ray_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependency) as error:
        mu.search(PROGRAM, mu.algorithms.Grid(), executor="ray", objective=len)
    assert str(error.value) == (
        "cannot run trials on Ray\n"
        '  at:       executor="ray"\n'
        "  expected: the packages ray and cloudpickle, but import of ray halted; None in sys.modules\n"
        '  fix:      pip install "mutandis[ray]"'
    )


def test_nothing_of_ray_is_loaded_unless_it_is_used():
    code = "import sys, mutandis as mu; mu.flows.executors.Ray(); assert not {'ray', 'cloudpickle'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_settings_are_shown():
    assert repr(Ray("auto", num_gpus=0.5)) == (
        "Ray('auto', num_cpus=1.0, num_gpus=0.5, resources={}, runtime_env=None)"
    )


def test_a_search_on_this_machine_needs_no_cluster_and_leaves_nothing(ray, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    before = directories()
    program = Trainer(mu.intv(0, 2), mu.oneof(["calm", "raises", "dies"]))
    with pytest.warns(MutandisWarning, match="trial . failed"):
        study = mu.search(program, mu.algorithms.Grid(), executor="ray", workers=3)
    assert [trial.state for trial in study.trials] == ["completed", "failed", "failed"] * 3
    assert [trial.reward for trial in study.trials[::3]] == [-49.0, -36.0, -25.0]
    assert {study.trials[1].reason, study.trials[2].reason} == {
        "ValueError: x is 0", "its process was killed by SIGKILL"
    }  # fmt: skip
    assert not ray.is_initialized()
    assert directories() == before


@pytest.mark.slow
def test_a_job_that_no_machine_has_room_for_is_refused(ray, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    before = directories()
    with pytest.raises(SettingError) as error:
        Ray(num_gpus=1, resources={"tpu": 4}).open(work, ignore)
    assert str(error.value) == (
        "cannot run jobs on Ray\n"
        "  at:       Ray\n"
        "  got:      'CPU: 1, GPU: 1, tpu: 4' (str)\n"
        "  expected: resources that this machine has\n"
        "  fix:      ask for less, or pass an address"
    )
    assert not ray.is_initialized()
    assert directories() == before


@pytest.mark.slow
def test_a_ray_that_runs_is_used_as_it_is(ray, place):
    ray.init("local", num_cpus=2, include_dashboard=False, _temp_dir=place, logging_level="WARNING")
    before = directories()
    with Ray(num_cpus=0.5).open(work, ignore, memory_bytes=2**28) as pool:
        pool.submit(0, ("square", 3))
        assert pool.wait(60.0)[0].value == 9
        deadline = time.monotonic() + 20
        while (free := ray.available_resources())["CPU"] != 1.5:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert ray.cluster_resources()["memory"] - free["memory"] == 2**28
        assert directories() == before
    assert ray.is_initialized()
    with pytest.warns(MutandisWarning, match=r"no machine .* has room for a job \(CPU: 3\); it waits"):
        Ray(num_cpus=3).open(work, ignore).close()
    with pytest.raises(SettingError, match=r"pass it to ray\.init"):
        Ray(runtime_env={"env_vars": {"A": "1"}}).open(work, ignore)


@pytest.mark.slow
def test_a_cluster_at_an_address_is_joined_and_left(ray, cluster):
    running, _ = cluster({"num_cpus": 2})
    for _ in range(2):  # Leaving it does not end it.
        executor = Ray(running.address, runtime_env={"env_vars": {"GREETING": "hello"}})
        with executor.open(lambda payload, talk: os.environ["GREETING"], ignore) as pool:
            pool.submit(0, None)
            assert pool.wait(60.0)[0].value == "hello"
        assert not ray.is_initialized()


@pytest.mark.slow
def test_a_cluster_that_does_not_answer_is_told_so(ray):
    with pytest.raises(ExecutorError) as error:
        Ray("nowhere").open(work, ignore)
    assert str(error.value).startswith(
        "cannot reach a Ray cluster\n  at:       Ray.address\n  got:      'nowhere' (str)"
    )
    assert "start one with `ray start --head`, or leave address out" in str(error.value)


@pytest.mark.slow
def test_a_machine_that_is_lost_in_flight_costs_no_trial(cluster):
    running, (doomed, _) = cluster({"num_cpus": 0}, {"num_cpus": 2, "resources": {"doomed": 1}}, {"num_cpus": 2})

    def objective(child, feedback):
        feedback.report({"reward": 0.0}, step=1)
        time.sleep(1.0)
        return float(child["x"])

    removed = []

    class Watching(mu.flows.executors.Executor):
        """Takes a machine away when four trials run."""

        def open(self, task, on_message, **limits):
            def hear(key, data):
                answer = on_message(key, data)
                heard.add(key)
                if len(heard) == 4 and not removed:
                    removed.append(running.remove_node(doomed, allow_graceful=False))
                return answer

            heard = set()
            return Ray(running.address).open(task, hear, **limits)

    study = mu.search(PROGRAM, mu.algorithms.Grid(), executor=Watching(), workers=4, objective=objective)
    assert len(removed) == 1
    assert {trial.state for trial in study.trials} == {"completed"}
    assert [trial.reward for trial in study.trials] == [float(x) for x in range(10)]


SCRIPT = """
import os, time
import mutandis as mu

class Net:
    def __init__(self, x):
        self.x = x
    def run(self, feedback):
        print("PID", os.getpid(), flush=True)
        time.sleep({seconds})
        return float(self.x)

study = mu.search(mu.symbolize(Net)(mu.intv(0, 2)), mu.algorithms.Grid(), executor="ray")
print("BEST", study.best.reward)
"""


@pytest.mark.slow
def test_classes_of_a_script_are_sent_and_no_guard_is_needed(ray, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT.format(seconds=0))
    command = [sys.executable, str(tmp_path / "script.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert "BEST 2.0" in done.stdout, done.stderr


@pytest.mark.slow
def test_nothing_outlives_a_search_that_was_killed(ray, place, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", place)
    (tmp_path / "script.py").write_text(SCRIPT.format(seconds=100))
    process = subprocess.Popen([sys.executable, str(tmp_path / "script.py")], stdout=subprocess.PIPE, text=True)
    line = next(line for line in process.stdout if "PID" in line)
    pid = int(line.split("PID")[1].split()[0])
    assert is_alive(pid)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    deadline = time.monotonic() + 60
    while is_alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.1)
