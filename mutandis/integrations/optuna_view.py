"""A study as a storage of Optuna that can be read: its plots, importances and dashboard work on it as they are.

    import optuna
    optuna.visualization.plot_slice(mu.integrations.to_optuna(study)).show()
    mu.integrations.dashboard(study)

Nothing is copied or stored: trials are converted when they are first asked for, and a search that goes on shows.
"""

from __future__ import annotations

import copy
from collections.abc import Container, Sequence
from typing import Any, NoReturn

from mutandis.errors import MissingDependency, SettingError, StorageError
from mutandis.flows import Study, Trial
from mutandis.integrations.optuna_params import Parameters, need_optuna
from mutandis.integrations.optuna_trials import PREFIX, to_frozen

need_optuna()  # Says what to install, before the imports fail that a subclass needs.

import optuna  # noqa: E402
from optuna.storages import BaseStorage  # noqa: E402
from optuna.study import StudyDirection  # noqa: E402
from optuna.study._frozen import FrozenStudy  # noqa: E402  # Storages answer with it; it has no public place.
from optuna.trial import FrozenTrial, TrialState  # noqa: E402

METRIC_NAMES = "study:metric_names"
"""The system attribute in which Optuna keeps the names of the objectives."""

_BLOCK = 2**32
"""How many ids of trials each study has."""


def optuna_storage(*studies: Study) -> BaseStorage:
    """Returns a storage of Optuna that shows studies and refuses to be written to.

    The first read of a trial costs some microseconds per active decision; later ones cost next to nothing.

    Raises:
        SettingError: there is no study, something is no study, or two have the same name.
        MissingDependency: optuna is not installed.
    """
    names = [study.name if isinstance(study, Study) else study for study in studies]
    if not studies or not all(isinstance(study, Study) for study in studies) or len(set(names)) != len(names):
        raise SettingError("cannot show studies", at="studies", got=names,
                           expected="one or more instances of mu.Study, of different names",
                           fix='write optuna_storage(study), or name them: mu.Study(name="second")')  # fmt: skip
    return _View(studies)


def to_optuna(study: Study) -> optuna.study.Study:
    """Returns a study as a study of Optuna that can be read, for `optuna.visualization` and `optuna.importance`.

    Raises:
        SettingError: it is no study.
        MissingDependency: optuna is not installed.
    """
    return optuna.load_study(study_name=study.name, storage=optuna_storage(study))


def dashboard(*studies: Study, host: str = "127.0.0.1", port: int = 8080) -> None:
    """Serves optuna-dashboard over studies until it is interrupted.

    Args:
        *studies: What is shown, as it stands at each look.
        host: The address to listen at; the dashboard asks nobody for a password.
        port: The port.

    Raises:
        SettingError: there is no study, something is no study, two have the same name, or the address is taken.
        MissingDependency: optuna-dashboard is not installed.
    """
    try:
        from optuna_dashboard import run_server
    except ImportError as error:
        raise MissingDependency("cannot serve a dashboard", at="mu.integrations.dashboard",
                                expected="the package optuna-dashboard",
                                fix="pip install 'mutandis[dashboard]'") from error  # fmt: skip
    storage = optuna_storage(*studies)
    try:
        run_server(storage, host=host, port=port)
    except OSError as error:
        raise SettingError("cannot serve a dashboard", at=f"{host}:{port}", got=error,
                           expected="an address of this machine, and a port that nobody listens at",
                           fix="give another port") from error  # fmt: skip


class _View(BaseStorage):
    """Studies by their place as id; the trials of study `i` have the ids from `i * _BLOCK` on."""

    def __init__(self, studies: Sequence[Study]) -> None:
        self._studies = tuple(studies)
        self._parameters: dict[str, Parameters] = {}
        self._known: list[dict[int, tuple[Trial, FrozenTrial]]] = [{} for _ in studies]

    def get_study_id_from_name(self, study_name: str) -> int:
        for id, study in enumerate(self._studies):
            if study.name == study_name:
                return id
        raise KeyError(f"no study is called {study_name!r}")

    def get_study_name_from_id(self, study_id: int) -> str:
        return self._study(study_id).name

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        signs = [objective.sign for objective in self._study(study_id).objectives] or [1]
        return [StudyDirection.MAXIMIZE if sign > 0 else StudyDirection.MINIMIZE for sign in signs]

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        space = self._study(study_id).space
        return {} if space is None else {PREFIX + "space": space.fingerprint}

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        names = [objective.name for objective in self._study(study_id).objectives]
        return {METRIC_NAMES: names} if names else {}

    def get_all_studies(self) -> list[FrozenStudy]:
        return [
            FrozenStudy(
                study.name,
                None,
                self.get_study_user_attrs(id),
                self.get_study_system_attrs(id),
                id,
                directions=self.get_study_directions(id),
            )
            for id, study in enumerate(self._studies)
        ]

    def get_trial(self, trial_id: int) -> FrozenTrial:
        id, number = divmod(trial_id, _BLOCK)
        trials = self._study(id).trials
        if number >= len(trials):
            raise KeyError(f"study {self._studies[id].name!r} has no trial {number}")
        return self._frozen(id, trials[number])

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        found = [self._frozen(study_id, trial) for trial in self._study(study_id).trials]
        if states is not None:
            found = [trial for trial in found if trial.state in states]
        return copy.deepcopy(found) if deepcopy else found

    def _study(self, study_id: int) -> Study:
        if not 0 <= study_id < len(self._studies):
            raise KeyError(f"no study has the id {study_id}")
        return self._studies[study_id]

    def _frozen(self, study_id: int, trial: Trial) -> FrozenTrial:
        known = self._known[study_id].get(trial.id)
        if known is not None and known[0] is trial:
            return known[1]
        fingerprint = trial.dna.space.fingerprint
        if fingerprint not in self._parameters:
            self._parameters[fingerprint] = Parameters(trial.dna.space)
        objectives = self._study(study_id).objectives
        frozen: FrozenTrial = to_frozen(
            trial, self._parameters[fingerprint], objectives, id=study_id * _BLOCK + trial.id
        )
        self._known[study_id][trial.id] = (trial, frozen)  # Of this very record: another one takes its place.
        return frozen

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise StorageError("cannot write to a view of a study", at="mu.integrations.optuna_storage",
                           expected="calls that only read",
                           fix='copy it: mu.integrations.export_to_optuna(study, "sqlite:///optuna.db")')  # fmt: skip

    create_new_study = delete_study = set_study_user_attr = set_study_system_attr = _refuse
    create_new_trial = set_trial_param = set_trial_state_values = set_trial_intermediate_value = _refuse
    set_trial_user_attr = set_trial_system_attr = _refuse


__all__ = ["METRIC_NAMES", "dashboard", "optuna_storage", "to_optuna"]
