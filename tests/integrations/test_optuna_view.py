"""The view of a study: read by Optuna's own tools, refused to writers, and always what the study is now."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import threading
import urllib.request
import warnings
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest

import mutandis as mu
from mutandis.errors import MissingDependency, SettingError, StorageError

optuna = pytest.importorskip("optuna")
from mutandis.integrations import dashboard, optuna_storage, to_optuna  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SINGLE = (
    "plot_optimization_history", "plot_param_importances", "plot_parallel_coordinate", "plot_slice", "plot_contour",
    "plot_timeline", "plot_intermediate_values", "plot_edf", "plot_rank",
)  # fmt: skip


def program():
    return {
        "lr": mu.floatv(1e-4, 1.0, scale="log", name="lr"),
        "width": mu.intv(8, 64, step=8, name="width"),
        "op": mu.oneof(["pool", {"kernel": mu.oneof([3, 5], name="kernel")}], name="op"),
        "used": mu.subset(["a", "b"], name="used"),
    }


def searched(objectives, trials=24, name="study"):
    loop = mu.sample(program(), mu.algorithms.Random(), trials=trials, objectives=objectives, study=mu.Study(name=name))
    for child, feedback in loop:
        if feedback.trial.id % 8 == 7:
            feedback.fail("out of memory")
            continue
        for epoch in range(1, 4):
            feedback.report({"accuracy": child["lr"] * epoch}, step=epoch)
        feedback({"accuracy": child["lr"], "cost": child["width"] + len(child["used"])})
    return loop.study


@pytest.fixture(scope="module")
def study():
    return searched(("accuracy",))


@pytest.fixture(scope="module")
def two():
    return searched(("accuracy", "-cost"), name="two")


@pytest.fixture
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("plot", SINGLE)
def test_the_plots_of_optuna_draw_it(study, plot):
    pytest.importorskip("plotly", reason="Optuna draws with plotly")
    figure = getattr(optuna.visualization, plot)(to_optuna(study))
    assert len(figure.data) > 0


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("plot", ["plot_pareto_front", "plot_hypervolume_history"])
def test_the_plots_of_several_objectives_draw_it(two, plot):
    pytest.importorskip("plotly", reason="Optuna draws with plotly")
    options = {"reference_point": [0.0, 100.0]} if plot == "plot_hypervolume_history" else {}
    figure = getattr(optuna.visualization, plot)(to_optuna(two), **options)
    assert sum(len(trace.x) for trace in figure.data) >= 21


@pytest.mark.usefixtures("quiet")
def test_the_importances_of_optuna_find_the_decision_that_counts(study):
    found = optuna.importance.get_param_importances(to_optuna(study), params=["lr", "width"])
    assert max(found, key=found.get) == "lr"


def test_the_best_trials_are_the_same(study, two):
    assert to_optuna(study).best_trial.number == study.best.id
    assert sorted(trial.number for trial in to_optuna(two).best_trials) == [trial.id for trial in two.front]


def test_a_minus_in_front_of_an_objective_is_a_direction(two):
    view = to_optuna(two)
    assert [direction.name for direction in view.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert view.metric_names == ["accuracy", "cost"]


def test_a_study_that_was_never_searched_is_empty():
    view = to_optuna(mu.Study(name="new"))
    assert (view.trials, view.metric_names, view.user_attrs) == ([], None, {})


def test_a_search_that_goes_on_shows():
    loop = mu.sample({"x": mu.oneof([1, 2])}, mu.algorithms.Random(), trials=3)
    view = to_optuna(loop.study)
    _, feedback = next(loop)
    assert [trial.state.name for trial in view.trials] == ["RUNNING"]
    feedback(1.0)
    assert [(trial.state.name, trial.value) for trial in view.trials] == [("COMPLETE", 1.0)]


def test_a_trial_is_converted_once(study):
    storage = optuna_storage(study)
    first, second = (storage.get_all_trials(0, deepcopy=False) for _ in range(2))
    assert all(a is b for a, b in zip(first, second, strict=True)) and len(first) == 24


def test_what_is_copied_can_be_changed_without_harm(study):
    storage = optuna_storage(study)
    storage.get_all_trials(0)[0].params.clear()
    assert storage.get_all_trials(0)[0].params


def test_trials_are_filtered_by_their_state(study):
    failed = optuna_storage(study).get_all_trials(0, states=(optuna.trial.TrialState.FAIL,))
    assert [trial.number for trial in failed] == [7, 15, 23]


def test_studies_and_trials_are_found_by_id_and_name(study, two):
    storage = optuna_storage(study, two)
    assert [found.study_name for found in storage.get_all_studies()] == ["study", "two"]
    id = storage.get_study_id_from_name("two")
    trial = storage.get_all_trials(id)[5]
    assert storage.get_trial(trial._trial_id).values == trial.values and len(trial.values) == 2
    assert storage.get_trial_id_from_study_id_trial_number(id, 5) == trial._trial_id
    assert storage.get_n_trials(id) == 24


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda storage: storage.get_study_id_from_name("other"), "no study is called 'other'"),
        (lambda storage: storage.get_study_directions(1), "no study has the id 1"),
        (lambda storage: storage.get_all_trials(-1), "no study has the id -1"),
        (lambda storage: storage.get_trial(24), "study 'study' has no trial 24"),
    ],
)
def test_what_is_not_there_is_a_key_error(study, ask, message):
    with pytest.raises(KeyError, match=message):
        ask(optuna_storage(study))


@pytest.mark.parametrize(
    "write",
    [
        lambda view: view.ask(),
        lambda view: view.set_user_attr("a", 1),
        lambda view: view.add_trial(view.trials[0]),
        lambda view: view.enqueue_trial({"lr": 0.5}),
        lambda view: optuna.delete_study(study_name="study", storage=view._storage),
        lambda view: optuna.create_study(storage=view._storage),
        lambda view: view._storage.set_trial_user_attr(0, "a", 1),
        lambda view: view._storage.set_trial_system_attr(0, "a", 1),
        lambda view: view._storage.set_study_system_attr(0, "a", 1),
        lambda view: view._storage.set_trial_state_values(0, optuna.trial.TrialState.FAIL),
        lambda view: view._storage.set_trial_intermediate_value(0, 1, 1.0),
        lambda view: view._storage.set_trial_param(0, "lr", 0.5, optuna.distributions.FloatDistribution(0, 1)),
    ],
)
def test_writing_is_refused(study, write):
    with pytest.raises(StorageError) as caught:
        write(to_optuna(study))
    assert str(caught.value) == (
        "cannot write to a view of a study\n  at:       mu.integrations.optuna_storage\n"
        "  expected: calls that only read\n"
        '  fix:      copy it: mu.integrations.export_to_optuna(study, "sqlite:///optuna.db")'
    )


@pytest.mark.parametrize("studies", [(), (mu.Study(name="a"), mu.Study(name="a")), ("study.db",)])
def test_what_are_no_studies_of_different_names_is_refused(studies):
    with pytest.raises(SettingError, match=r"one or more instances of mu\.Study, of different names"):
        optuna_storage(*studies)


class Silent(WSGIRequestHandler):
    def log_message(self, *args):
        pass


@contextlib.contextmanager
def served(app):
    """Serves an application on loopback; yields a function that returns the JSON of a path."""
    server = make_server("127.0.0.1", 0, app, handler_class=Silent)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()

    def get(path):
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}{path}", timeout=30) as answer:
            return json.loads(answer.read(), parse_constant=pytest.fail)

    get.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield get
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def app(study, two):
    found = pytest.importorskip("optuna_dashboard", reason="optuna-dashboard is not installed")
    return found.wsgi(optuna_storage(study, two))


@pytest.mark.usefixtures("quiet")
@pytest.mark.filterwarnings("default::DeprecationWarning")
def test_the_dashboard_of_optuna_serves_it(app):
    with served(app) as get:
        assert [found["study_name"] for found in get("/api/studies")["study_summaries"]] == ["study", "two"]
        detail = get("/api/studies/1?after=0")
        assert detail["objective_names"] == ["accuracy", "cost"] and len(detail["trials"]) == 24
        assert {param["name"] for param in detail["trials"][0]["params"]} >= {"lr", "width", "op"}
        importances = get("/api/studies/0/param_importances")["param_importances"]
        assert {found["name"] for found in importances[0]} >= {"lr", "width"}


@pytest.mark.slow
@pytest.mark.usefixtures("quiet")
@pytest.mark.filterwarnings("default::DeprecationWarning")
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_a_browser_shows_the_dashboard_without_a_complaint(app, tmp_path):
    image = pytest.importorskip("matplotlib.image")
    with served(app) as get:
        done = subprocess.run(
            [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
             "--disable-background-networking", "--disable-component-update", f"--user-data-dir={tmp_path / 'profile'}",
             "--enable-logging=stderr", "--virtual-time-budget=8000", "--window-size=1200,1000",
             f"--screenshot={tmp_path / 'shot.png'}", f"{get.address}/dashboard/studies/1"],
            capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
    assert "Uncaught" not in done.stderr
    pixels = image.imread(tmp_path / "shot.png")[..., :3]
    assert pixels.std() > 0.05  # Something is drawn.


def test_serving_goes_to_the_address_that_was_asked_for(study, monkeypatch):
    found = pytest.importorskip("optuna_dashboard", reason="optuna-dashboard is not installed")
    calls = []
    monkeypatch.setattr(found, "run_server", lambda storage, **options: calls.append((storage, options)))
    dashboard(study, port=9000)
    [(storage, options)] = calls
    assert options == {"host": "127.0.0.1", "port": 9000} and len(storage.get_all_trials(0)) == 24


def test_a_port_that_is_taken_is_told(study):
    pytest.importorskip("optuna_dashboard", reason="optuna-dashboard is not installed")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SettingError) as error:
            dashboard(study, port=port)
    assert str(error.value) == (
        "cannot serve a dashboard\n"
        f"  at:       127.0.0.1:{port}\n"
        "  got:      OSError(98, 'Address already in use') (OSError)\n"
        "  expected: an address of this machine, and a port that nobody listens at\n"
        "  fix:      give another port"
    )


def test_a_missing_dashboard_is_named(study, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    with pytest.raises(MissingDependency) as caught:
        dashboard(study)
    assert str(caught.value) == (
        "cannot serve a dashboard\n  at:       mu.integrations.dashboard\n"
        "  expected: the package optuna-dashboard\n  fix:      pip install 'mutandis[dashboard]'"
    )
