"""Workers that share a study and are killed, and the check of what they leave."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from mutandis.flows.studies.stores import Finished, StudyLog
from mutandis.hyper import Rng

_WORKER = """
import json, os, sys, time
from mutandis.flows.studies.stores import Heartbeat, LeaseLost, open_store
where, total, journal, seconds, worker = sys.argv[1], int(sys.argv[2]), sys.argv[3], float(sys.argv[4]), sys.argv[5]
log = open_store(where, lease=1.0, attempts=1000, worker=worker or None).open("study")
out = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
with Heartbeat(log) as heart:
    while True:
        lease = log.take_over()
        if lease is None and log.next_number < total:
            lease = log.claim({"asked": log.next_number}, number=log.next_number)
        if lease is None:
            if log.next_number >= total and not log.running:
                break
            time.sleep(0.01)
            continue
        heart.add(lease)
        try:
            for step in range(3):
                time.sleep(seconds / 3)
                log.report(lease, {"loss": lease.number / 7}, step=step)
            log.finish(lease, {"state": "completed", "rewards": [lease.number / 7]})
            os.write(out, json.dumps([lease.number, lease.attempt]).encode() + b"\\n")
        except LeaseLost:
            pass
        heart.drop(lease)
"""


class Workers:
    """Processes that work on one study together until it has enough trials.

    Args:
        where: The address of the store.
        total: How many trials the study shall have.
        journal: A file where workers write down each result whose recording was confirmed to them.
        seconds: How long a trial takes.
        name: The workers' name; with one they cannot be seen to be dead but by their heartbeat.
        kill_after_trials: After how many results a worker is killed, again and again.
        kill_after_seconds: Likewise, by the clock.
    """

    def __init__(
        self,
        where: str,
        total: int,
        journal: Path,
        *,
        seconds: float = 0.0,
        name: str = "",
        kill_after_trials: float = math.inf,
        kill_after_seconds: float = math.inf,
    ) -> None:
        self.total = total
        self.kill_after_trials, self.kill_after_seconds = kill_after_trials, kill_after_seconds
        self._command = [sys.executable, "-c", _WORKER, where, str(total), str(journal), str(seconds), name]
        self._running: list[subprocess.Popen[bytes]] = []
        self.num_kills = 0

    def start(self, count: int) -> None:
        """Starts some workers."""
        self._running += [subprocess.Popen(self._command) for _ in range(count)]

    def kill_one(self, rng: Rng) -> None:
        """Kills a worker without a warning, if one is left, and starts another."""
        alive = [process for process in self._running if process.poll() is None]
        if alive:
            victim = alive[rng.randrange(len(alive))]
            victim.send_signal(signal.SIGKILL)
            victim.wait()
            self._running.remove(victim)
            self.num_kills += 1
            self.start(1)

    def wait(self, timeout: float) -> None:
        """Waits for all, and says if one failed."""
        try:
            codes = [process.wait(timeout) for process in self._running]
        finally:
            self.close()
        assert codes == [0] * len(codes)

    def close(self) -> None:
        """Ends those that still run."""
        for process in self._running:
            if process.poll() is None:
                process.kill()
                process.wait()


def run_workers(log: StudyLog, workers: Workers, timeout: float = 240.0) -> int:
    """Runs four workers to the end, kills some on the way, and returns how many."""
    rng, deadline = Rng(0), time.monotonic() + timeout
    last, num_ended = time.monotonic(), 0
    try:
        workers.start(4)
        while log.next_number < workers.total or log.running:
            assert time.monotonic() < deadline, f"{len(log.running)} trials run, {log.next_number} were begun"
            time.sleep(0.01)
            log.sync()
            ended = log.next_number - len(log.running)
            is_due = ended - num_ended >= workers.kill_after_trials
            if is_due or time.monotonic() - last >= workers.kill_after_seconds:
                last, num_ended = time.monotonic(), ended
                workers.kill_one(rng)
        workers.wait(60)
    finally:
        workers.close()
    return workers.num_kills


def check_whole(log: StudyLog, total: int, journal: Path) -> None:
    """Checks that a study of `Workers` has each trial once, whole and ended, and what was confirmed to them."""
    events = log.read().events
    trials = log.trials()
    assert [trial.number for trial in trials] == list(range(total))
    assert not log.running
    for trial in trials:
        value = trial.number / 7
        assert trial.proposal == {"asked": trial.number}
        assert trial.result == {"state": "completed", "rewards": [value]}
        assert trial.curve == tuple((step, {"loss": value}) for step in range(3))
    ends = Counter(event.number for event in events if isinstance(event, Finished))
    assert ends == Counter(range(total))
    attempts = {event.number: event.attempt for event in events if isinstance(event, Finished)}
    confirmed = [json.loads(line) for line in journal.read_text().splitlines()]
    assert all(attempts[number] == attempt for number, attempt in confirmed)
    assert len({number for number, _ in confirmed}) == len(confirmed)
