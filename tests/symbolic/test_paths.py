"""Paths read as the code that reaches the value."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutandis.errors import PathError
from mutandis.symbolic.paths import Key, Path

STEPS = st.lists(
    st.one_of(
        st.from_regex(r"[a-z_][a-z0-9_]{0,5}", fullmatch=True),
        st.integers(0, 99),
        st.text(st.characters(codec="ascii", exclude_categories=("C",)), max_size=6).map(Key),
    ),
    max_size=5,
)


@given(STEPS)
def test_writing_and_reading_a_path_is_identity(steps):
    path = Path(steps)
    assert Path.parse(str(path)).steps == path.steps


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("", ()),
        ("model.blocks[1].kernel_size", ("model", "blocks", 1, "kernel_size")),
        ("aug['train'].p", ("aug", Key("train"), "p")),
        ('aug["a b"]', ("aug", Key("a b"))),
        ("[0]", (0,)),
        ("[-1].x", (-1, "x")),
        ("layers.0.weight", ("layers", 0, "weight")),
        ("d[1.5]", ("d", Key(1.5))),
        ("größe", ("größe",)),
    ],
)
def test_paths_are_read_as_code(text, steps):
    assert Path.parse(text).steps == steps


@pytest.mark.parametrize("text", ["a..b", ".a", "a.", "a[", "a[]", "a b", "a]"])
def test_what_is_not_a_path_is_refused(text):
    with pytest.raises(PathError, match="cannot read a symbolic path"):
        Path.parse(text)


def test_an_int_is_an_index_and_a_path_is_itself():
    assert Path.parse(3).steps == (3,)
    path = Path(("a",))
    assert Path.parse(path) is path


def test_paths_compare_with_texts_and_each_other():
    path = Path(("a", 1))
    assert path == "a[1]"
    assert path == Path(("a", 1))
    assert hash(path) == hash(Path(("a", 1)))
    assert path < Path(("b",))
    assert path.parent == "a"
    assert path.name == 1
    assert Path().name is None
    assert path.startswith(Path(("a",)))
    assert (path / "x") + Path(("y",)) == "a[1].x.y"
    assert repr(path) == "Path('a[1]')"


def test_paths_pickle():
    assert pickle.loads(pickle.dumps(Path(("a", Key("b"))))) == "a['b']"
