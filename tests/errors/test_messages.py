"""The errors that users meet most, as they read them; `messages.txt` holds the whole texts."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from torch import nn

import mutandis as mu

GOLDEN = Path(__file__).parent / "messages.txt"


@mu.symbolize
class Net(nn.Module):
    def __init__(self, width, depth=2, dropout=0.1):
        super().__init__()
        self.layers = nn.Sequential(*(nn.Linear(width, width) for _ in range(depth)))
        self.drop = nn.Dropout(dropout)


@mu.symbolize
class Trainer:
    def __init__(self, model, lr=0.1):
        self.model, self.lr = model, lr


def program():
    return Trainer(Net(mu.oneof([8, 16], name="width")), mu.floatv(1e-3, 1.0, scale="log"))


def twice():
    loop = mu.sample(program(), mu.algorithms.Random())
    _, feedback = next(loop)
    feedback(1.0)
    feedback(2.0)


def missing_objective():
    loop = mu.sample(program(), mu.algorithms.Random(), objectives="accuracy")
    _, feedback = next(loop)
    try:
        feedback({"acuracy": 0.9})
    finally:
        feedback.skip()


MISTAKES = {
    "a misspelt path": lambda: mu.rebind(Trainer(Net(8)), {"model.widht": 16}),
    "a misspelt argument": lambda: mu.clone(Trainer(Net(8)), rl=0.5),
    "reading an abstract object": lambda: program().model.width,
    "calling an abstract module": lambda: Net(mu.oneof([8, 16]))(torch.zeros(1, 8)),
    "a hyper value in a plain layer": lambda: nn.Linear(mu.oneof([8, 16]), 4),
    "a hyper value hidden in a plain container": lambda: mu.space([nn.Sequential(Net(mu.oneof([8, 16])))]),
    "a hyper value as a condition": lambda: 1 if mu.boolv() else 2,
    "a hyper value as an index": lambda: [1, 2, 3][mu.intv(0, 2)],
    "no candidates": lambda: mu.oneof([]),
    "a range upside down": lambda: mu.floatv(1.0, 0.1),
    "a log scale through zero": lambda: mu.floatv(0.0, 1.0, scale="log"),
    "more picks than candidates": lambda: mu.manyof(3, ["a", "b"]),
    "one name with two meanings": lambda: mu.space([mu.oneof([1, 2], name="w"), mu.oneof([1, 3], name="w")]),
    "an unknown decision": lambda: mu.space(program()).dna({"width": 0, "ler": 0.1}),
    "a value out of range": lambda: mu.space(program()).dna({"width": 0, "lr": 3.0}),
    "a candidate instead of its index": lambda: mu.space(program()).dna({"width": 16, "lr": 0.1}),
    "a DNA of another space": lambda: mu.space(program()).materialize(mu.space(mu.oneof([1, 2])).random(0)),
    "a program without decisions": lambda: mu.sample(Trainer(Net(8)), mu.algorithms.Random()),
    "an algorithm that was not called": lambda: mu.sample(program(), mu.algorithms.Random),
    "a grid over a continuous space": lambda: mu.sample(program(), mu.algorithms.Grid()),
    "two answers": twice,
    "a missing objective": missing_objective,
    "something else as a study": lambda: mu.sample(program(), mu.algorithms.Random(), study=["fashion.db"]),
    "a hostile file": lambda: mu.from_json(json.dumps({"mutandis": 1, "program": {"$": "name", "name": "os:system"}})),
    "a plain module in JSON": lambda: mu.to_json(Trainer(nn.Linear(2, 2))),
    "symbolizing an enum": lambda: mu.symbolize(json.JSONEncoder().__class__.__mro__[-1]),
}  # fmt: skip


def texts():
    found = {}
    for title, mistake in MISTAKES.items():
        with pytest.raises(mu.errors.MutandisError) as error:
            mistake()
        found[title] = f"{type(error.value).__name__}: {error.value}"
    return found


def stored():
    """Returns the stored texts by title."""
    parts = GOLDEN.read_text().split("## ")[1:]
    return {part.split("\n", 1)[0]: part.split("\n", 1)[1].strip() for part in parts}


def test_every_message_is_stored():
    if os.environ.get("MUTANDIS_WRITE_GOLDEN"):
        body = "\n\n".join(f"## {title}\n{text}" for title, text in texts().items())
        GOLDEN.write_text(f"# Errors as users read them; test_messages.py makes each mistake.\n\n{body}\n")
    assert list(stored()) == list(MISTAKES)


@pytest.mark.parametrize("title", MISTAKES)
def test_a_mistake_is_answered_with_the_whole_story(title):
    assert texts_of(title) == stored()[title]


def texts_of(title):
    with pytest.raises(mu.errors.MutandisError) as error:
        MISTAKES[title]()
    return f"{type(error.value).__name__}: {error.value}"
