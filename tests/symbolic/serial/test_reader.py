"""Reading: only what is registered or allowed is built; anything else is refused with path and remedy."""

from __future__ import annotations

import base64
import enum
import pickle
from typing import NamedTuple

import pytest

import mutandis as mu
from mutandis.errors import SchemaError
from mutandis.symbolic.serial.documents import from_data, from_json, to_data, to_json


@mu.symbolize
class Node:
    def __init__(self, value, child=None):
        self.value, self.child = value, child


def plain(width):
    return width


class Pair(NamedTuple):
    left: object
    right: object


class Color(enum.Enum):
    RED = 1


def wrap(program):
    return {"mutandis": 1, "program": program}


@pytest.mark.parametrize(
    "program",
    [
        {"$": "name", "name": "os:system"},
        {"$": "name", "name": "torch:os.system"},
        {"$": "name", "name": "torch.hub:load"},
        {"$": "name", "name": "subprocess:Popen"},
        {"$": "call", "function": {"$": "name", "name": "os:system"}, "args": {"command": "true"}},
        {"$": "object", "class": "subprocess:Popen", "args": {"args": ["true"]}},
        {"$": "object", "class": "collections:OrderedDict", "args": {}},
        {"$": "object", "class": f"{__name__}:plain", "args": {}},
        {"$": "object", "class": "builtins:int", "args": {}},
        {"$": "object", "class": "torch:relu", "args": {}},
        {"$": "object", "class": ["torch.nn:ReLU"], "args": {}},
        {"$": "object", "class": "torch.nn:ReLU", "args": [1]},
        {"$": "object", "args": {}},
        {"$": "undecided", "class": "torch.nn:ReLU", "settings": {}},
        {"$": "namedtuple", "class": "os:system", "items": []},
        {"$": "namedtuple", "class": f"{__name__}:Pair", "items": [1]},
        {"$": "enum", "class": f"{__name__}:Color", "name": "BLUE"},
        {"$": "pickle", "data": base64.b64encode(pickle.dumps(print)).decode()},
        {"$": "tensor", "dtype": "load", "shape": [], "data": ""},
        {"$": "tensor", "dtype": "float32", "shape": [3], "data": "AAAA"},
        {"$": "array", "dtype": "O", "shape": [1], "data": "AAAAAAAAAAA="},
        {"$": "bytes", "data": "not base64!"},
        {"$": "ref", "id": 5},
        {"$": "float", "value": "1"},
        {"$": "set", "items": [[1]]},
        {"$": 3},
        {"$": ["name"]},
        {"$": None},
    ],
    ids=lambda program: str(program)[:60],
)
def test_a_hostile_or_broken_file_is_refused(program):
    with pytest.raises(SchemaError):
        from_data(wrap({"model": program}))


def test_the_refusal_names_path_and_remedy():
    with pytest.raises(SchemaError) as caught:
        from_data(wrap([{"$": "object", "class": f"{__name__}:Node",
                         "args": {"value": {"$": "name", "name": "os:system"}}}]))  # fmt: skip
    assert caught.value.at == "[0].value"
    assert "'os:system'" in str(caught.value)
    assert "allow=" in caught.value.fix


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"mutandis": 1}', '{"mutandis": 99, "program": 1}',
                                  '{"mutandis": true, "program": 1}', '{"mutandis": 1, "program": NaN}',
                                  "[" * 100_000])  # fmt: skip
def test_other_text_is_refused(text):
    with pytest.raises(SchemaError):
        from_json(text)


def test_a_function_that_is_not_decorated_must_be_allowed():
    text = to_json(mu.partial(plain, 3))
    with pytest.raises(SchemaError):
        from_json(text)
    assert from_json(text, allow=[plain])() == 3


def test_an_argument_that_the_class_lost_is_refused_with_a_close_miss():
    data = to_data(mu.nn.Dropout(0.5))
    data["program"]["args"]["inplce"] = data["program"]["args"].pop("inplace")
    with pytest.raises(SchemaError, match="did you mean 'inplace'"):
        from_data(data)


def test_a_missing_argument_takes_its_default():
    data = to_data(mu.nn.Dropout(0.5))
    del data["program"]["args"]["inplace"]
    assert mu.equal(from_data(data), mu.nn.Dropout(0.5))


def test_errors_of_user_code_pass_through_with_a_note():
    data = to_data([mu.nn.Dropout(0.5)])
    data["program"][0]["args"]["p"] = 2.0
    with pytest.raises(ValueError, match="dropout probability") as caught:
        from_data(data)
    assert "while reading [0] from JSON" in caught.value.__notes__
