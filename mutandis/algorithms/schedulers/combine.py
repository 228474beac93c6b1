"""Several schedulers at once."""

from __future__ import annotations

from mutandis.algorithms.base import JSON, need_instance, settings
from mutandis.algorithms.schedulers.base import Directive, Pacing, Rewards, Scheduler
from mutandis.errors import SettingError

_WEIGHT = {Directive.CONTINUE: 0, Directive.PAUSE: 1, Directive.COMPLETE: 2, Directive.STOP: 3}


@settings
class AnyOf(Scheduler):
    """Ends a trial where any of its members says so.

    All members hear everything; the strongest answer wins: stop, then complete, then pause. The shortest length that
    any of them plans is planned.

    Args:
        members: The schedulers, such as `AnyOf((ASHA(1, 81), Patience(5)))`; at most one that pauses.

    Raises:
        SettingError: there is none, one is no scheduler, or two of them pause trials.
    """

    members: tuple[Scheduler, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.members, tuple) or not self.members:
            fix = "write AnyOf((Median(), Patience(5)))"
            raise SettingError("cannot use a setting", at="AnyOf.members", got=self.members,
                               expected="a tuple of schedulers", fix=fix)  # fmt: skip
        for member in self.members:
            need_instance("AnyOf.members", member, Scheduler, "AnyOf((Median(), Patience(5)))")
        pausing = [member for member in self.members if member.pauses]
        if len(pausing) > 1:
            raise SettingError("cannot combine two schedulers that pause", at="AnyOf.members", got=tuple(pausing),
                               expected="at most one of them, since each waits for trials to rest on its own rungs",
                               fix="use variant='stop' for all but one")  # fmt: skip

    @property
    def pauses(self) -> bool:
        """Whether one of the members does."""
        return any(member.pauses for member in self.members)

    def start(self, *, seed: int, num_objectives: int = 1) -> Pacing:
        """Begins a run of every member."""
        return _JoinedPacing([member.start(seed=seed, num_objectives=num_objectives) for member in self.members])


class _JoinedPacing(Pacing):
    def __init__(self, members: list[Pacing]) -> None:
        self._members = members

    def begin(self, trial: int) -> float | None:
        planned = [length for member in self._members if (length := member.begin(trial)) is not None]
        return min(planned, default=None)

    def report(self, trial: int, step: float, rewards: Rewards) -> Directive:
        answers = [member.report(trial, step, rewards) for member in self._members]
        return max(answers, key=_WEIGHT.__getitem__)

    def pause(self, trial: int) -> None:
        for member in self._members:
            member.pause(trial)

    def finish(self, trial: int, rewards: Rewards | None) -> None:
        for member in self._members:
            member.finish(trial, rewards)

    def promote(self, *, last: bool = False) -> int | None:
        promoted = (member.promote(last=last) for member in self._members)
        return next((trial for trial in promoted if trial is not None), None)

    def state_dict(self) -> JSON:
        return {"members": [member.state_dict() for member in self._members]}

    def load_state_dict(self, state: JSON) -> None:
        for member, found in zip(self._members, state["members"], strict=True):
            member.load_state_dict(found)
