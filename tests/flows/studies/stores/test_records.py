"""Events and their lines."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutandis.errors import SchemaError, StorageError
from mutandis.flows.studies.stores.records import (
    Claimed,
    Finished,
    Opened,
    Released,
    Reported,
    StudyHeader,
    TrialRecord,
    Unread,
    decode,
    decode_rule,
    encode,
    fold,
)

HEADER = StudyHeader("f", ({"path": "x", "range": [0, 1.5]},), ("a", "-b"), "{}", "p = 1\n", "{}", 3, {"n": [1]})
CLAIM = Claimed(3, 1, "host:1:2:3", 60.0, 0, {"dna": {"x": 1}}, 12.5)

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("event", [
    Opened(HEADER, 1.5), Opened(StudyHeader()), CLAIM, Reported(3, 1, 7, {"loss": 0.25}), Released(3, 1),
    Finished(3, 2, {"state": "completed", "rewards": [1.0]}, 2.0),
], ids=lambda event: event.kind)  # fmt: skip
def test_an_event_comes_back_from_its_line(event):
    assert decode(encode(event)) == event


@pytest.mark.parametrize(("event", "needed"), [
    (Opened(HEADER, 1.5), Opened(HEADER, 1.5)), (Released(3, 1), Released(3, 1)),
    (Finished(3, 2, {"state": "completed"}, 2.0), Finished(3, 2, {})),
    (CLAIM, Unread(CLAIM.number, CLAIM.attempt, encode(CLAIM))), (Reported(3, 1, 7, {"kind": "claimed"}), None),
])  # fmt: skip
def test_the_rules_need_no_more_of_an_event_than_this(event, needed):
    assert decode_rule(encode(event)) == needed


@pytest.mark.parametrize("version", [0, 2, 11])
@pytest.mark.parametrize("event", [CLAIM, Reported(3, 1, 7, {}), Finished(3, 2, {})], ids=lambda event: event.kind)
def test_the_rules_take_no_line_of_another_version_for_one_of_this(event, version):
    with pytest.raises(SchemaError, match="cannot read a study"):
        decode_rule(encode(event).replace('"v":1', f'"v":{version}'))


@pytest.mark.parametrize("line", ['{"v":1,"kind":"finished","number":-3,"attempt":1}', '{"v":1}', "", "[]"])
def test_what_is_no_event_is_no_event_for_the_rules_either(line):
    with pytest.raises(SchemaError, match="cannot read an event of a study"):
        decode_rule(line)


@given(st.dictionaries(st.text(), VALUES, max_size=4))
def test_any_json_comes_back_to_the_last_bit_from_one_line_of_ascii(value):
    line = encode(Finished(0, 1, value))
    assert line.isascii() and "\n" not in line
    assert repr(decode(line).result) == repr(value)


def test_the_line_of_this_version_is_as_it_was_released():
    assert encode(CLAIM) == (
        '{"v":1,"kind":"claimed","number":3,"attempt":1,"worker":"host:1:2:3","lease":60.0,"losses":0,'
        '"proposal":{"dna":{"x":1}},"at":12.5}'
    )
    assert encode(Reported(3, 1, 7, {"loss": math.nan})) == (
        '{"v":1,"kind":"reported","number":3,"attempt":1,"step":7,"metrics":{"loss":{"$float":"nan"}}}'
    )
    assert encode(Released(3, 1)) == '{"v":1,"kind":"released","number":3,"attempt":1}'
    assert encode(Finished(3, 1, {}, 0.5)) == '{"v":1,"kind":"finished","number":3,"attempt":1,"result":{},"at":0.5}'
    assert encode(Opened(StudyHeader(), 0.5)) == (
        '{"v":1,"kind":"opened","header":{"fingerprint":"","points":[],"objectives":["reward"],"program":null,'
        '"python":null,"algorithm":null,"seed":0,"notes":{}},"at":0.5}'
    )


@pytest.mark.parametrize("value", [object(), {1, 2}, b"x"])
def test_what_json_cannot_hold_is_refused(value):
    with pytest.raises(StorageError) as error:
        encode(Finished(0, 1, {"x": value}))
    assert str(error.value) == (
        "cannot record an event\n  at:       finished\n"
        f"  got:      TypeError('Object of type {type(value).__name__} is not JSON serializable') (TypeError)\n"
        "  expected: dicts with text keys, lists, texts, numbers, bools and None\n"
        "  fix:      turn values into these before they are recorded"
    )


def test_what_contains_itself_is_refused():
    value = {}
    value["x"] = value
    with pytest.raises(StorageError, match="Circular reference"):
        encode(Finished(0, 1, value))


@pytest.mark.parametrize("line", ["", "[]", "{}", "3", '{"v":1}', '{"v":1,"kind":"eaten"}',
                                  '{"v":1,"kind":"released","number":3}', '{"v":1,"kind":"opened","header":{}}',
                                  '{"v":1,"kind":"released","number":3,"attempt":1,"more":1}'])  # fmt: skip
def test_what_is_no_event_is_refused(line):
    with pytest.raises(SchemaError, match="cannot read an event of a study"):
        decode(line)


@pytest.mark.parametrize("version", [0, 2, None, "1"])
def test_an_unknown_version_is_refused(version):
    text = {None: "null", "1": '"1"'}.get(version, str(version))
    with pytest.raises(SchemaError, match="a schema version that this release knows, at most 1"):
        decode(f'{{"v":{text},"kind":"released","number":3,"attempt":1}}')
    with pytest.raises(SchemaError, match="a schema version that this release knows, at most 1"):
        decode_rule(f'{{"v":{text},"kind":"reported","number":3,"attempt":1}}')


def test_trials_have_the_curve_of_their_latest_attempt_and_their_first_result():
    again = Claimed(3, 2, "other", 60.0, 1, {"dna": {"x": 1}})
    events = [Opened(HEADER), CLAIM, Reported(3, 1, 1, {"a": 9}), again, Reported(3, 2, 1, {"a": 1}),
              Reported(3, 2, 2, {"a": 2}), Finished(3, 2, {"state": "completed"}), Finished(3, 2, {"state": "failed"}),
              Claimed(4, 1, "w", 1.0, 0, {}), Finished(9, 1, {})]  # fmt: skip
    assert fold(events) == (
        TrialRecord(3, 2, "other", {"dna": {"x": 1}}, ((1, {"a": 1}), (2, {"a": 2})), {"state": "completed"}),
        TrialRecord(4, 1, "w", {}),
    )


def test_reports_of_an_attempt_that_is_over_do_not_count():
    events = [Claimed(0, 2, "w", 1.0, 1, {}), Reported(0, 1, 1, {"a": 1})]
    assert fold(events)[0].curve == ()
