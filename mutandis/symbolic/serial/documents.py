"""Symbolic trees as JSON: readable, versioned, and safe to read.

An object with the key `$` is a tagged value; its `$` says which kind. A node that stands at several places is
written once with an `id`, and as `{"$": "ref", "id": ...}` elsewhere. Leaves that are arrays or tensors are
written as their bytes in base64; tensors come back on the CPU.

Reading never unpickles, never imports what a file asks for, and calls nothing but the constructors of
symbolic classes (and allowed functions, when a symbolic call is the argument of an object).
"""

from __future__ import annotations

import json
import os
from pathlib import Path as File
from typing import Any

from mutandis.errors import SchemaError
from mutandis.symbolic.serial.names import Allow, allowed
from mutandis.symbolic.serial.reader import Reader
from mutandis.symbolic.serial.writer import Writer

VERSION = 1
"""The version of the schema that this package writes."""


def to_data(x: Any) -> dict[str, Any]:
    """Returns a symbolic tree as what JSON can hold: dicts with string keys, lists, strings and numbers.

    Args:
        x: A symbolic object, an undecided value, or a list, tuple or dict of them.

    Returns:
        `{"mutandis": version, "program": ...}`.

    Raises:
        SchemaError: something in it has no data form: a lambda, an open file, a plain object.
    """
    try:
        return {"mutandis": VERSION, "program": Writer().value(x, None)}
    except RecursionError:
        raise _too_deep("write") from None


def from_data(data: object, *, allow: Allow = ()) -> Any:
    """Builds the tree that `to_data` described.

    Args:
        data: What `to_data` returned.
        allow: Functions and classes that may be named beside the registered ones: objects, import names, or
            a dict of names.

    Returns:
        The tree.

    Raises:
        SchemaError: the data is not of this schema, or names what may not be named.
    """
    if not isinstance(data, dict) or "mutandis" not in data or "program" not in data:
        raise SchemaError("cannot read a program", at="mutandis", got=data, expected="what mu.to_json wrote",
                          fix="write the file with mu.save(x, path)")  # fmt: skip
    if data["mutandis"] != VERSION or isinstance(data["mutandis"], bool):
        raise SchemaError("cannot read a program", at="mutandis", got=data["mutandis"],
                          expected=f"schema version {VERSION}",
                          fix="read it with the version of mutandis that wrote it")  # fmt: skip
    try:
        return Reader(allowed(allow)).value(data["program"], None)
    except RecursionError:
        raise _too_deep("read") from None


def to_json(x: Any, *, indent: int | None = None) -> str:
    """Writes a symbolic tree as JSON.

    Args:
        x: A symbolic object, an undecided value, or a list, tuple or dict of them.
        indent: Spaces per level; None writes one line.

    Returns:
        The text; `from_json` rebuilds a tree that is equal and shares what was shared.

    Raises:
        SchemaError: something in it has no data form; the message names the path.
    """
    return json.dumps(to_data(x), indent=indent, allow_nan=False)


def from_json(text: str | bytes, *, allow: Allow = ()) -> Any:
    """Builds the tree that a JSON text describes.

    Args:
        text: What `to_json` returned.
        allow: Functions and classes that may be named beside registered ones: `[f]`, `["package.module:f"]`
            or `{"package.module:f": f}`.

    Returns:
        The tree.

    Raises:
        SchemaError: the text is not JSON, not of this schema, or names what may not be named.
    """
    try:
        data = json.loads(text)
    except ValueError as error:
        raise SchemaError("cannot read JSON", got=text, expected=f"a JSON text; {error}",
                          fix="write it with mu.to_json or mu.save") from None  # fmt: skip
    except RecursionError:
        raise _too_deep("read") from None
    return from_data(data, allow=allow)


def save(x: Any, path: str | os.PathLike[str], *, indent: int | None = 1) -> None:
    """Writes a symbolic tree to a JSON file; the file is whole or as it was.

    Args:
        x: The tree.
        path: The file.
        indent: Spaces per level.

    Raises:
        SchemaError: something in the tree has no data form.
    """
    target = File(path)
    text = to_json(x, indent=indent)
    draft = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        draft.write_text(text + "\n", encoding="utf-8")
        os.replace(draft, target)
    finally:
        draft.unlink(missing_ok=True)


def load(path: str | os.PathLike[str], *, allow: Allow = ()) -> Any:
    """Builds the tree that a JSON file describes.

    Args:
        path: A file that `save` wrote.
        allow: As for `from_json`.

    Returns:
        The tree.

    Raises:
        SchemaError: the file is not of this schema, or names what may not be named.
    """
    return from_json(File(path).read_text(encoding="utf-8"), allow=allow)


def _too_deep(verb: str) -> SchemaError:
    return SchemaError(
        f"cannot {verb} a program",
        expected="a tree that does not contain itself, nested less deeply than the recursion limit",
        fix="take out the cycle, or raise sys.setrecursionlimit",
    )
