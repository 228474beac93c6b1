"""What stands in the studies that earlier releases wrote (tests/flows/studies/stores/fixtures)."""

from __future__ import annotations

import math
from pathlib import Path

import mutandis as mu
from mutandis.flows.studies.stores import TrialRecord, space_of

FIXTURES = Path(__file__).parent / "flows/studies/stores/fixtures"


def check_version_1(store):
    """Checks all that `version_1.*` holds, and that it goes on."""
    assert store.studies() == ("another", "study")
    log = store.open("study")
    header = log.header
    assert (header.objectives, header.seed) == (("accuracy", "-latency_ms"), 7)
    assert mu.from_json(header.algorithm) == mu.algorithms.RegularizedEvolution(10, 3)
    assert header.python.endswith("program = {'width': mu.oneof([16, 32]), 'rate': mu.floatv(0.1, 1.0)}\n")
    space = space_of(header)
    assert header.fingerprint == space.fingerprint
    assert space.materialize(space.dna(log.trials()[0].proposal["dna"])) == {"width": 32, "rate": 0.25}
    dna = {"dna": {"['width']": 1, "['rate']": 0.25}}
    done = {"state": "completed", "rewards": [0.5, 12.0], "metrics": {"accuracy": 0.5, "latency_ms": 12.0}}
    gone = {"state": "failed", "reason": "its worker was lost 2 times"}
    trials = log.trials()
    assert repr(trials[0].curve) == repr(((1, {"loss": math.nan}), (2, {"loss": 0.1})))
    assert trials[1:] == (
        TrialRecord(1, 2, "second", {**dna, "text": "\u00e4\n\ud800"}, ((1, {"loss": 2.0}),), done),
        TrialRecord(2, 2, "second", dna, (), gone),
        TrialRecord(3, 1, "first", dna),
        TrialRecord(4, 1, "first", dna),
    )
    assert [lease.number for lease in log.running] == [3, 4]
    again = log.take_over()
    assert (again.number, again.attempt, again.losses) == (4, 2, 0)
    log.finish(again, done)
    assert log.claim(dna).number == 5
    assert store.open("another").claim({}).number == 0
