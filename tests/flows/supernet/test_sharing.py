"""What can share weights and what cannot, and that the program itself is left alone."""

from __future__ import annotations

import pytest
import supernet_zoo as zoo
from torch import nn

import mutandis as mu
from mutandis.errors import LoweringError, SettingError, SpaceError
from mutandis.flows import lowering_report
from mutandis.hyper import HyperValue


def test_what_is_no_program_with_modules_and_decisions_is_refused():
    with pytest.raises(SpaceError, match="program without decisions"):
        mu.share_weights(mu.nn.Linear(2, 2))
    with pytest.raises(LoweringError, match="program without modules"):
        mu.share_weights({"x": mu.oneof([1, 2])})
    for name, options in (("positions", "'proven' or 'leading'"), ("check", "'sampled' or 'always'")):
        with pytest.raises(SettingError, match=f"{name}(.|\n)*{options}"):
            mu.share_weights(mu.oneof([mu.nn.ReLU(), mu.nn.Tanh()]), **{name: "some"})


def test_a_traced_function_is_refused():
    traced = mu.trace(lambda: mu.oneof([nn.ReLU(), nn.Tanh()]))
    with pytest.raises(LoweringError, match="cannot share the weights of a function that decides as it runs"):
        mu.share_weights(traced)


def test_nothing_in_a_program_is_changed():
    program, batch = zoo.programs()["residual"]
    before = mu.to_json(program)
    mu.share_weights(program, batch)
    assert mu.to_json(program) == before
    assert all(isinstance(v, HyperValue) for v in mu.arguments(program).values())


def test_a_symbolic_call_stays_a_call():
    def build(width) -> nn.Sequential:
        return nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 2))

    shared = mu.share_weights(mu.bind(build, mu.oneof([2, 5])), zoo.features(3, 4))
    live = shared.materialize(shared.space.dna({shared.points[0].path: 0}))
    assert live()[0].out_features == 2 and live() is live()


def test_a_space_is_taken_for_its_program():
    program, batch = zoo.programs()["concat"]
    shared = mu.share_weights(mu.space(program), batch)
    assert shared.points == mu.space(program).points


def test_with_a_batch_four_children_are_verified(monkeypatch):
    program, batch = zoo.programs()["concat"]
    seen = []
    kind = type(mu.share_weights(program, batch))
    monkeypatch.setattr(kind, "verify", lambda self, dna, x: seen.append(dna.values))
    mu.share_weights(program, batch)
    assert {(0, 1), (1, 0)} < set(seen) and 3 <= len(seen) <= 4


def test_the_report_is_reached_without_loading_torch_before():
    program, batch = zoo.programs()["arms"]
    assert lowering_report(program, batch).is_possible
