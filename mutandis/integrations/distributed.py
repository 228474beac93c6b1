"""One search for all ranks of torch.distributed: rank 0 decides and records, the others build the same children.

    torch.distributed.init_process_group("gloo")          # or "nccl"; under torchrun
    for child, feedback in mu.integrations.distributed_sample(program, algorithm, trials=20, study=study):
        model = DistributedDataParallel(child.model)
        for epoch in range(9):
            feedback.report({"reward": train(model)}, step=epoch + 1)
            if feedback.should_stop():
                break
        feedback(evaluate(model))

Decisions travel as JSON, which keeps floats bit for bit. Two things are collective, so all ranks do them together: to
take the next child, and to ask `should_stop`. All the rest, also an answer, happens on rank 0 alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch.distributed as dist

from mutandis.algorithms import Algorithm, Random
from mutandis.errors import ExecutorError, SettingError, SpaceError
from mutandis.flows import Sampling, Study, TrialFeedback, sample
from mutandis.hyper import DNA, SearchSpace

_ELSEWHERE = {"study": None, "progress": False, "scheduler": None, "stop": None, "callbacks": ()}
"""What a loop is given on the other ranks: it is there for its space alone."""


def distributed_sample(program: Any, algorithm: Algorithm, *, group: Any = None, **options: Any) -> SharedSampling:
    """Searches a program with all ranks of a process group at once; all of them call it, with the same program.

    Args:
        program: As for `mu.sample`; equal on all ranks.
        algorithm: As for `mu.sample`.
        group: The process group whose ranks train one child together; by default all. Messages are a few hundred
            bytes of Python objects; with nccl they pass through the current device.
        **options: Further arguments of `mu.sample`. Only those of rank 0 count, `where` left aside.

    Returns:
        An iterator of (child, feedback). Leave it on all ranks in the same turn, or on none.

    Raises:
        SettingError: torch.distributed was not started, or an argument is out of range.
        SpaceError: the program has other decisions on another rank than on rank 0.
        ExecutorError: the search could not begin on another rank.
    """
    if not (dist.is_available() and dist.is_initialized()):
        raise SettingError("cannot share a search", at="torch.distributed", got="no process group",
                           expected="a process group that all ranks have joined",
                           fix="call torch.distributed.init_process_group(...) first, or use mu.sample")  # fmt: skip
    is_leader = dist.get_rank(group) == 0
    loop: Sampling | None = None
    failure: Exception | None = None
    try:
        loop = sample(program, algorithm, **options) if is_leader else _silent(program, options)
    except Exception as error:  # The others wait: they are told before it goes on.
        failure = error
    _agree(loop, failure, group)
    assert loop is not None  # Else _agree has raised.
    return SharedSampling(loop, is_leader, group)


def _silent(program: Any, options: Mapping[str, Any]) -> Sampling:
    return sample(program, Random(), **{**options, **{name: v for name, v in _ELSEWHERE.items() if name in options}})


def _agree(loop: Sampling | None, failure: Exception | None, group: Any) -> None:
    """Makes sure that all ranks have begun on the same space; on all of them, so that none waits for ever."""
    told: list[Any] = [None] * dist.get_world_size(group)
    mine = {"failure": _in_words(failure), "space": None if loop is None else loop.space.fingerprint}
    dist.all_gather_object(told, mine, group=group)
    if failure is not None:
        raise failure
    for rank, other in enumerate(told):
        if other["failure"] is not None:
            raise ExecutorError("cannot share a search", at=f"rank {rank}", got=other["failure"],
                                expected="a search that begins on every rank",
                                fix="see the output of that rank")  # fmt: skip
        if other["space"] != told[0]["space"]:
            raise SpaceError("cannot share a search", at=f"rank {rank}", got=other["space"],
                             expected=f"the space of rank 0, {told[0]['space']}",
                             fix="build the same program on every rank, from no randomness of its own")  # fmt: skip


def _in_words(error: Exception | None) -> str | None:
    return None if error is None else f"{type(error).__name__}: {error}"


def _sent(message: Any, group: Any) -> Any:
    """Returns, on every rank, the message of rank 0."""
    box = [message]
    dist.broadcast_object_list(box, group=group, group_src=0)
    return box[0]


class SharedSampling:
    """A running search of several ranks: an iterator of (child, feedback). Made by `distributed_sample`.

    Attributes:
        space: The space that is searched.
        study: The trials on rank 0; None on the others.
        is_leader: Whether this is rank 0.
    """

    def __init__(self, loop: Sampling, is_leader: bool, group: Any) -> None:
        self.space: SearchSpace = loop.space
        self.is_leader = is_leader
        self.study: Study | None = loop.study if is_leader else None
        self._loop = loop
        self._group = group

    def __iter__(self) -> Iterator[tuple[Any, SharedFeedback]]:
        return self

    def __next__(self) -> tuple[Any, SharedFeedback]:
        """Returns the next child and the way to answer it. All ranks take it together.

        Raises:
            StopIteration: the search is over.
            ExecutorError: rank 0 could not make the next trial; there, its own error goes on.
        """
        return self._lead() if self.is_leader else self._follow()

    def _lead(self) -> tuple[Any, SharedFeedback]:
        try:
            child, feedback = next(self._loop)
        except StopIteration:
            _sent({"kind": "over"}, self._group)
            raise
        except Exception as error:
            _sent({"kind": "failed", "reason": _in_words(error)}, self._group)
            raise
        facts = {"kind": "trial", "id": feedback.trial.id, "decisions": json.dumps(feedback.dna.to_json()),
                 "fidelity": feedback.fidelity, "inherited": _text(feedback.inherited)}  # fmt: skip
        _sent(facts, self._group)
        return child, SharedFeedback(feedback.dna, facts, feedback, self._group)

    def _follow(self) -> tuple[Any, SharedFeedback]:
        facts = _sent(None, self._group)
        if facts["kind"] == "over":
            raise StopIteration
        if facts["kind"] == "failed":
            raise ExecutorError("cannot go on: rank 0 could not make a trial", at="rank 0", got=facts["reason"],
                                expected="a child", fix="see the output of rank 0")  # fmt: skip
        dna = DNA.from_json(facts["decisions"], self.space.bare())
        return self.space.materialize(dna), SharedFeedback(dna, facts, None, self._group)


class SharedFeedback:
    """The answer to one trial that several ranks train; what it is told counts on rank 0.

    Attributes:
        dna: The decisions of the trial.
        id: The number of the trial.
        fidelity: As of `TrialFeedback`: how long it shall have been trained in all, or None.
        inherited: The checkpoint of the trial that this one goes on from, or None: a directory of the machine of
            rank 0.
        is_leader: Whether this is rank 0.
    """

    def __init__(self, dna: DNA, facts: Mapping[str, Any], own: TrialFeedback | None, group: Any) -> None:
        self.dna = dna
        self.id: int = facts["id"]
        self.fidelity: float | None = facts["fidelity"]
        self.inherited = None if facts["inherited"] is None else Path(facts["inherited"])
        self.is_leader = own is not None
        self._own = own
        self._group = group

    def __call__(self, reward: Any, *, metrics: Mapping[str, Any] | None = None) -> None:
        """Answers the trial with what rank 0 has measured; `TrialFeedback` tells more."""
        if self._own is not None:
            self._own(reward, metrics=metrics)

    def report(self, metrics: Mapping[str, Any], *, step: float) -> None:
        """Records metrics of rank 0 on the way."""
        if self._own is not None:
            self._own.report(metrics, step=step)

    def should_stop(self) -> bool:
        """Returns what rank 0 has decided. Collective: all ranks ask, after rank 0 has reported."""
        return bool(_sent(None if self._own is None else self._own.should_stop(), self._group))

    def skip(self, reason: str = "") -> None:
        """Ends the trial without a reward, if rank 0 says so."""
        if self._own is not None:
            self._own.skip(reason)

    def fail(self, reason: str) -> None:
        """Marks the trial failed, if rank 0 says so."""
        if self._own is not None:
            self._own.fail(reason)

    def shared_checkpoint(self) -> Path:
        """Returns the directory of the trial, on the machine of rank 0. Collective: all ranks ask for it together."""
        return Path(_sent(None if self._own is None else str(self._own.checkpoint), self._group))


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


__all__ = ["SharedFeedback", "SharedSampling", "distributed_sample"]
