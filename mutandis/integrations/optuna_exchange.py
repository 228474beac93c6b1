"""Studies written to Optuna's storages, and read from them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from mutandis.errors import DecisionError, SettingError, StorageError
from mutandis.flows import Study
from mutandis.flows.studies.objectives import Objective, parse_objectives
from mutandis.flows.studies.stores.sql import without_password
from mutandis.flows.studies.trial import RUNNING
from mutandis.hyper import SearchSpace, space
from mutandis.integrations.optuna_params import Parameters, need_optuna
from mutandis.integrations.optuna_trials import PREFIX, from_frozen, to_frozen


@dataclass(frozen=True, slots=True)
class Imported:
    """What came of an import.

    Attributes:
        study: The trials that fit the program, numbered anew from 0.
        set_aside: The number in Optuna and the reason of each that does not.
    """

    study: Study
    set_aside: tuple[tuple[int, str], ...] = ()

    def __str__(self) -> str:
        """Returns how many came over, and the first reasons why others did not."""
        total = len(self.study) + len(self.set_aside)
        lines = [f"imported {len(self.study)} of {total} trials"]
        lines += [f"  trial {number}: {reason}" for number, reason in self.set_aside[:5]]
        if len(self.set_aside) > 5:
            lines.append(f"  and {len(self.set_aside) - 5} more")
        return "\n".join(lines)


def export_to_optuna(study: Study, storage: Any = None, name: str | None = None) -> Any:
    """Writes a copy of a study as a study of Optuna, which may then go on there.

    Trials that are still running are left out, so that none waits in Optuna for a worker that it does not have; the
    numbers of later ones move down.

    Args:
        study: The study.
        storage: A storage of Optuna, or its URL such as `sqlite:///optuna.db`; by default memory.
        name: What it is called there; by default as here.

    Returns:
        The `optuna.Study`.

    Raises:
        SettingError: it is no study, or never was of a search.
        StorageError: the storage has a study of that name, or cannot be opened.
        MissingDependency: optuna is not installed.
    """
    optuna = need_optuna()
    if not isinstance(study, Study) or not study.objectives:
        raise SettingError("cannot export a study", at="study", got=study, expected="a mu.Study that was searched",
                           fix="pass loop.study of a mu.sample(...)")  # fmt: skip
    directions = ["maximize" if objective.sign > 0 else "minimize" for objective in study.objectives]
    try:
        made = optuna.create_study(storage=storage, study_name=name or study.name, directions=directions)
    except optuna.exceptions.DuplicatedStudyError as error:
        raise StorageError("cannot export a study", at="name", got=name or study.name,
                           expected="a name that the storage does not have yet",
                           fix="pass another name=, or optuna.delete_study(...) before") from error  # fmt: skip
    except Exception as error:  # Whatever keeps a storage from opening: its driver, the address, the disk.
        if not isinstance(storage, str):
            raise
        raise StorageError("cannot use a storage of Optuna", at=without_password(storage), got=error,
                           expected="an address that it can be opened at",
                           fix="write sqlite:///optuna.db") from error  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        made.set_metric_names([objective.name for objective in study.objectives])
    if study.space is not None:
        made.set_user_attr(PREFIX + "space", study.space.fingerprint)
    parameters: dict[str, Parameters] = {}
    numbers: dict[int | None, int] = {}
    for trial in study.trials:
        if trial.state == RUNNING:
            continue
        fingerprint = trial.dna.space.fingerprint
        if fingerprint not in parameters:
            parameters[fingerprint] = Parameters(trial.dna.space)
        moved = replace(trial, parent=numbers.get(trial.parent))
        made.add_trial(to_frozen(moved, parameters[fingerprint], study.objectives, id=trial.id))
        numbers[trial.id] = len(numbers)
    return made


def import_from_optuna(
    optuna_study: Any, program: Any, *, objectives: Sequence[str] | str | None = None, name: str | None = None
) -> Imported:
    """Reads a study of Optuna as trials of a program, which a search may then learn from.

        imported = mu.integrations.import_from_optuna(optuna.load_study(...), Model(mu.oneof([...], name="width")))
        print(imported)
        for child, feedback in mu.sample(program, algorithm, study=imported.study, objectives=..., trials=200):

    Parameters are found by the name or the path of a decision, `lr` also where the program is `{"lr": ...}`, and
    categories by the label of a candidate.

    Args:
        optuna_study: The `optuna.Study`.
        program: What holds the hyper values, or a `SearchSpace`.
        objectives: What its values are called, with a minus where it minimises; by default its metric names, or else
            `reward` (`reward_0`, `reward_1`, ... for several).
        name: What the study is called; by default as in Optuna.

    Returns:
        The study, and the trials that were set aside: those that have not ended, whose parameters are no decisions of
        the program or are out of range, or that lack a decision without a default.

    Raises:
        SettingError: the objectives do not go with the directions of the study.
        MissingDependency: optuna is not installed.
    """
    need_optuna()
    searched = program if isinstance(program, SearchSpace) else space(program)
    parameters = Parameters(searched)
    signed = _objectives(optuna_study, objectives)
    study = Study(name=optuna_study.study_name if name is None else name)
    study.open(searched, signed)
    numbers: dict[int, int] = {}
    set_aside: list[tuple[int, str]] = []
    for frozen in optuna_study.get_trials(deepcopy=False):
        if not frozen.state.is_finished():
            set_aside.append((frozen.number, f"it is {frozen.state.name.lower()}"))
            continue
        try:
            trial = from_frozen(frozen, parameters, signed, id=len(study))
        except DecisionError as error:
            reason = f"{error.problem}: {error.at}: got {error.got}, expected {error.expected}"
            set_aside.append((frozen.number, reason))
            continue
        parent = None if trial.parent is None else numbers.get(trial.parent)
        numbers[frozen.number] = study.add(trial.dna, parent=parent).id
        study.finish(replace(trial, parent=parent, space=searched))
    return Imported(study, tuple(set_aside))


def _objectives(optuna_study: Any, given: Sequence[str] | str | None) -> tuple[Objective, ...]:
    signs = ["" if direction.name == "MAXIMIZE" else "-" for direction in optuna_study.directions]
    if given is None:
        many = [f"reward_{place}" for place in range(len(signs))]
        names = optuna_study.metric_names or (["reward"] if len(signs) == 1 else many)
        return parse_objectives([sign + name for sign, name in zip(signs, names, strict=True)])
    objectives = parse_objectives(given)
    if [objective.sign for objective in objectives] != [-1 if sign else 1 for sign in signs]:
        raise SettingError("cannot import a study with these objectives", at="objectives", got=given,
                           expected=f"{len(signs)} of them, "
                                    + ", ".join("smaller is better" if sign else "larger is better" for sign in signs),
                           fix="put a minus in front of what Optuna minimises")  # fmt: skip
    return objectives


__all__ = ["Imported", "export_to_optuna", "import_from_optuna"]
