"""Any sampler of Optuna behind `propose` and `feedback`.

Akiba, Sano, Yanase, Ohta, Koyama: Optuna: A Next-generation Hyperparameter Optimization Framework, KDD 2019,
arXiv 1907.10902. Active decisions are suggested one after another, by its define-by-run interface; so conditional
spaces work as far as the sampler models them.

| decision                        | parameters of the trial                                                          |
|---------------------------------|----------------------------------------------------------------------------------|
| a choice                        | a categorical one, of indices                                                    |
| a range                         | a float or an int; the number of the value for a float with steps                |
| picks with an order             | a Lehmer code: the place of each among those that are left (Optuna's FAQ)        |
| distinct picks without an order | a categorical one for each candidate, as long as both answers are still legal    |
| picks with repetition           | a categorical one a slot; sorted if there is no order                            |

A varying number of picks with an order or with repetition is one more int. Everything but sorted slots is one to one.
"""

from __future__ import annotations

import contextlib
import inspect
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import field
from typing import Any, Protocol

from mutandis.algorithms.base import JSON, Algorithm, Search, from_state, settings, to_state
from mutandis.errors import MissingDependency, SettingError, SpaceExhausted, closest
from mutandis.hyper import DNA, Feedback, Point, Proposal, SearchSpace
from mutandis.hyper.rng import Rng


@settings
class Optuna(Algorithm):
    """Lets a sampler of Optuna decide. Needs optuna: `pip install 'mutandis[optuna]'`.

    The study of Optuna lives in memory. A search is restored by asking the sampler again for all it proposed, which is
    exact and costs what the proposals did; the state grows by a line a trial.

    Args:
        sampler: The name of a sampler (`TPESampler`), its class, or a function that makes one from a seed.
        options: Arguments of a sampler that is given by name or class, the seed left aside.

    Raises:
        SettingError: the sampler is an instance, whose seed and memory cannot be set, or unknown; an option is the
            seed, or goes with a function.

    Example:
        >>> import mutandis as mu
        >>> space = mu.space({"x": mu.floatv(-1.0, 1.0), "op": mu.oneof(["add", "mul"])})
        >>> algorithm = mu.algorithms.Optuna("TPESampler", {"n_startup_trials": 5})
        >>> for child, feedback in mu.sample(space, algorithm, trials=20):
        ...     feedback(-(child["x"] ** 2) + (child["op"] == "mul"))
    """

    sampler: str | type | Callable[[int], Any] = "TPESampler"
    options: Mapping[str, Any] = field(default_factory=dict)
    objectives = "many"

    def __post_init__(self) -> None:
        if not isinstance(self.sampler, str) and not callable(self.sampler):
            name = type(self.sampler).__name__
            raise SettingError("cannot use an instance of a sampler", at="Optuna.sampler", got=self.sampler,
                               expected="a name, a class, or a function of the seed",
                               fix=f'write Optuna("{name}", {{...}}) or '
                                   f"Optuna(lambda seed: {name}(seed=seed, ...))")  # fmt: skip
        if "seed" in self.options:
            raise SettingError("cannot set the seed of a sampler", at="Optuna.options", got=self.options["seed"],
                               expected="other options: the seed of the run goes in",
                               fix="pass seed= to mu.sample")  # fmt: skip
        is_function = not isinstance(self.sampler, (str, type))
        if is_function and self.options:
            raise SettingError("cannot pass options to a function", at="Optuna.options", got=dict(self.options),
                               expected="no options, since the function makes the sampler from the seed alone",
                               fix="write the options into the function")  # fmt: skip

    def start(self, space: SearchSpace, *, seed: int, num_objectives: int = 1) -> Search:
        """Begins a run with a new sampler and a new study in memory.

        Raises:
            SettingError: the space is open-ended, or Optuna has no such sampler.
            MissingDependency: optuna cannot be imported.
        """
        for point in space.points:
            if point.kind == "custom":
                raise SettingError("cannot suggest an open-ended decision", at=point.path, got=point.describe(),
                                   expected="choices, ranges and picks", fix="use RegularizedEvolution()")  # fmt: skip
        return _StudySearch(self, space.bare(), seed, num_objectives)

    def make(self, seed: int) -> Any:
        """Returns a new sampler.

        Args:
            seed: In [0, 2^32).
        """
        optuna = _optuna()
        kind: Any = self.sampler
        if isinstance(kind, str):
            kind = getattr(optuna.samplers, kind, None)
            if kind is None:
                raise SettingError("cannot find a sampler", at="Optuna.sampler", got=self.sampler,
                                   expected="a name in optuna.samplers"
                                            + closest(str(self.sampler), dir(optuna.samplers)),
                                   fix='use "TPESampler"')  # fmt: skip
        with _quiet():
            if not isinstance(kind, type):
                return kind(seed)
            takes_seed = "seed" in inspect.signature(kind).parameters
            return kind(**self.options, **({"seed": seed} if takes_seed else {}))


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise MissingDependency("cannot start Optuna", at="Optuna", expected="the package optuna",
                                fix="pip install 'mutandis[optuna]'") from error  # fmt: skip
    return optuna


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Holds back the warnings that half of Optuna's samplers give about being experimental, and no others."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", _optuna().exceptions.ExperimentalWarning)
        yield


class _StudySearch(Search):
    def __init__(self, settings: Optuna, space: SearchSpace, seed: int, num_objectives: int) -> None:
        optuna = _optuna()
        self._space = space
        self._names = [point.key or "(the root)" for point in space.points]
        sampler = settings.make(Rng(seed, "optuna").getrandbits(32))
        with _quiet():
            self._study = optuna.create_study(sampler=sampler, directions=["maximize"] * num_objectives)
        self._study.stop = self._stop  # What samplers call when nothing is left; Optuna's own fails outside its loop.
        self._pending: dict[int, Any] = {}
        self._events: list[list[Any]] = []  # What happened, in order: asked, told, added.
        self._proposed = 0
        self._is_over = False

    def propose(self) -> Proposal:
        if self._is_over:
            raise SpaceExhausted("cannot propose: the sampler of Optuna has stopped the study", got=self._proposed,
                                 expected="no more proposals")  # fmt: skip
        number = self._proposed
        with _quiet():
            trial = self._study.ask()
            dna = self._decided(_Asked(trial), None)
        self._proposed += 1
        self._pending[number] = trial
        self._events.append(["asked", to_state(dna)])
        return Proposal(number, dna)

    def _decided(self, answers: _Answers, target: DNA | None) -> DNA:
        """Returns the DNA of answers to questions about the active decisions."""
        values: list[Any] = [None] * len(self._space.points)
        for point, name in zip(self._space.points, self._names, strict=True):
            if self._space.is_active(point, values):
                wanted = None if target is None else target.values[point.index]
                values[point.index] = decide(point, name, answers, wanted)
        return DNA(self._space, tuple(values))

    def feedback(self, feedback: Feedback) -> None:
        trial = None if feedback.id is None else self._pending.pop(feedback.id, None)
        rewards = None if feedback.rewards is None else list(feedback.rewards)
        if trial is None:
            self._add(feedback.dna, rewards)
        else:
            self._tell(trial, rewards)
        head = ["added", to_state(feedback.dna)] if trial is None else ["told", feedback.id]
        self._events.append([*head, None if rewards is None else [_written(reward) for reward in rewards]])

    def _tell(self, trial: Any, rewards: list[float] | None) -> None:
        failed = _optuna().trial.TrialState.FAIL
        with _quiet():
            self._study.tell(trial, rewards, state=failed if rewards is None else None)

    def _add(self, dna: DNA, rewards: list[float] | None) -> None:
        """Adds a result that the sampler did not propose as a trial of its own."""
        optuna = _optuna()
        record = _Recorded()
        self._decided(record, dna)
        states = optuna.trial.TrialState
        self._study.add_trial(optuna.trial.create_trial(
            state=states.FAIL if rewards is None else states.COMPLETE,
            values=rewards, params=record.params, distributions=record.distributions,
        ))  # fmt: skip

    def _stop(self) -> None:
        self._is_over = True

    def state_dict(self) -> JSON:
        return {"events": [list(event) for event in self._events]}

    def load_state_dict(self, state: JSON) -> None:
        for kind, subject, *rest in state["events"]:
            rewards = tuple(map(float, rest[0])) if rest and rest[0] is not None else None
            if kind == "asked":
                proposal = self.propose()
                if to_state(proposal.dna) != subject:
                    raise SettingError(
                        "cannot restore a search of Optuna",
                        at=f"proposal {proposal.id}",
                        got=to_state(proposal.dna),
                        expected=f"{subject}, as it proposed before",
                        fix="use the same version of optuna, and a sampler that follows its seed",
                    )
            elif kind == "told":
                self.feedback(Feedback(subject, self._space.default(), rewards=rewards))
            else:
                self.feedback(Feedback(None, from_state(self._space, subject), rewards=rewards))


def _written(reward: float) -> float | str:
    return reward if math.isfinite(reward) else str(reward)  # JSON has no infinity.


class _Answers(Protocol):
    """What answers the questions about a decision; `wanted` is the answer of a DNA that is known already."""

    def category(self, name: str, count: int, wanted: int | None) -> int:
        """Returns an int in [0, count), none of them next to another."""
        ...

    def whole(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False, wanted: int | None) -> int:
        """Returns an int in [low, high]."""
        ...

    def real(self, name: str, low: float, high: float, *, log: bool, wanted: float | None) -> float:
        """Returns a number in [low, high]."""
        ...


class _Asked:
    """Answers of a sampler."""

    def __init__(self, trial: Any) -> None:
        self._trial = trial

    def category(self, name: str, count: int, wanted: int | None) -> int:
        return int(self._trial.suggest_categorical(name, tuple(range(count))))

    def whole(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False, wanted: int | None) -> int:
        return int(self._trial.suggest_int(name, low, high, step=step, log=log))

    def real(self, name: str, low: float, high: float, *, log: bool, wanted: float | None) -> float:
        return float(self._trial.suggest_float(name, low, high, log=log))


class _Recorded:
    """Answers of a DNA, written down as the parameters of a trial."""

    def __init__(self) -> None:
        self.params: dict[str, Any] = {}
        self.distributions: dict[str, Any] = {}

    def _record(self, name: str, distribution: Any, wanted: Any) -> Any:
        self.params[name], self.distributions[name] = wanted, distribution
        return wanted

    def category(self, name: str, count: int, wanted: int | None) -> int:
        kinds = _optuna().distributions
        return int(self._record(name, kinds.CategoricalDistribution(tuple(range(count))), wanted))

    def whole(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False, wanted: int | None) -> int:
        return int(self._record(name, _optuna().distributions.IntDistribution(low, high, log=log, step=step), wanted))

    def real(self, name: str, low: float, high: float, *, log: bool, wanted: float | None) -> float:
        return float(self._record(name, _optuna().distributions.FloatDistribution(low, high, log=log), wanted))


def decide(point: Point, name: str, answers: _Answers, wanted: Any) -> Any:
    """Returns the raw value of a point from answers to questions.

    Args:
        point: The point.
        name: What its parameters are called, or begin with.
        answers: A sampler, or the record of a DNA.
        wanted: The value in that DNA, or None.
    """
    if point.kind == "choice":
        return answers.category(name, point.num_candidates, wanted)
    if point.kind != "many":
        return _number(point, name, answers, wanted)
    if point.distinct and not point.ordered:
        return _members(point, name, answers, wanted)
    count = point.k_min
    if point.k_min != point.k_max:
        count = answers.whole(f"{name}#count", point.k_min, point.k_max, wanted=None if wanted is None else len(wanted))
    picks: list[int] = []
    for slot in range(count):
        pick = None if wanted is None else wanted[slot]
        if point.distinct:
            left = [c for c in range(point.num_candidates) if c not in picks]
            place = None if pick is None else left.index(pick)
            picks.append(left[answers.whole(f"{name}#{slot}", 0, len(left) - 1, wanted=place)])
        else:
            picks.append(answers.category(f"{name}#{slot}", point.num_candidates, pick))
    return tuple(picks if point.ordered else sorted(picks))


def _number(point: Point, name: str, answers: _Answers, wanted: Any) -> Any:
    if not point.is_finite:
        value = answers.real(name, float(point.low), float(point.high), log=point.scale == "log", wanted=wanted)
        return min(max(value, float(point.low)), float(point.high))
    last, step = point.num_steps - 1, point.step or 1
    if point.kind == "int":
        low, high = int(point.low), int(point.at(last))
        if point.scale != "log":
            return answers.whole(name, low, high, step=int(step), wanted=wanted)
        number = float(answers.whole(name, low, high, log=True, wanted=wanted))
    elif point.scale == "log":
        number = answers.real(name, float(point.low), float(point.at(last)), log=True, wanted=wanted)
    else:  # Optuna checks that the step divides the range in decimals, which 0.1 + 0.2 does not survive.
        place = None if wanted is None else round((wanted - point.low) / step)
        number = point.low + step * answers.whole(name, 0, last, wanted=place)
    return point.at(min(max(round((number - point.low) / step), 0), last))


def _members(point: Point, name: str, answers: _Answers, wanted: Any) -> tuple[int, ...]:
    """Asks of each candidate whether it is picked, unless only one answer leads to a legal number of picks."""
    picks: list[int] = []
    for candidate in range(point.num_candidates):
        left = point.num_candidates - candidate  # Candidates that are not decided, this one included.
        if len(picks) == point.k_max:
            break
        is_forced = len(picks) + left <= point.k_min
        known = None if wanted is None else int(candidate in wanted)
        if is_forced or answers.category(f"{name}#{candidate}", 2, known):
            picks.append(candidate)
    return tuple(picks)
