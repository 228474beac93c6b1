"""What becomes of each decision, as a table."""

from __future__ import annotations

import supernet_zoo as zoo

import mutandis as mu
from mutandis.flows import lowering_report
from mutandis.models.nats import topology_program


def test_each_decision_is_told_by_what_it_does():
    program, batch = zoo.programs()["transformer"]
    assert str(lowering_report(program, batch=batch)) == (
        "decision  values              shared\n"
        "width     one of [8, 12, 16]  a part of shared weights in 22 modules; 33 settings\n"
        "heads     one of [1, 2, 4]    6 settings\n"
        "depth     one of [1, 2, 3]    18 modules there or not\n"
        "hidden    one of [8, 20]      a part of shared weights in 6 modules; 6 settings\n"
        "5804 shared weights; positions proven"
    )


def test_arms_late_attributes_and_decisions_outside_are_told():
    report = lowering_report({"net": topology_program(channels=2, cells_per_stage=1), "lr": mu.floatv(0.1, 1.0)})
    first, last = report.roles[0], report.roles[-1]
    assert (first.arms, first.late, first.tensors) == (3, 1, 0)
    assert str(first) == "separate weights at 3 places; 51 settings; 1 attribute read late"
    assert str(last) == "outside of the modules: the program around them is built for each DNA"


def test_modules_without_a_proof_are_listed():
    report = lowering_report(zoo.Rearranged(mu.oneof([4, 2]), "mixed"), batch=zoo.images(size=4))
    assert report.unproven == ("last",) and str(report).endswith("positions unknown in last")


def test_a_refusal_is_told_and_not_raised():
    report = lowering_report(zoo.Stages(mu.oneof([1, 2])), batch=zoo.features(3, 4))
    assert not report.is_possible
    assert str(report) == (
        "weights cannot be shared\n"
        "cannot share weights: a depth decides which layer stands at a place of a list\n"
        "  at:       depth, module layers.1\n"
        "  got:      'one of [1, 2]' (str)\n"
        "  expected: a list that grows at its end, its first layers the same for every depth\n"
        "  fix:      give each stage a list of its own, or search this decision with trials (where=)"
    )


def test_a_decision_that_nothing_shows_is_told():
    @mu.symbolize
    class Silent(mu.nn.Linear):
        def __init__(self, seed):
            super().__init__(2, 2)

    role = lowering_report(Silent(mu.oneof([1, 2]))).roles[0]
    assert str(role) == "nothing that a module shows"
