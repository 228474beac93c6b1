"""Costs from a table of operations, such as the times that were measured on a phone.

A child is run once, and what each of its layers does is named by a key; the cost of the child is the sum of what the
table says of the keys (Cai et al. 2019, arXiv 1812.00332, Sec. 3.3.1; Wu et al. 2019, arXiv 1812.03443, Sec. 3.2).
"""

from __future__ import annotations

import csv
import json
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mutandis.errors import SettingError, StorageError, closest
from mutandis.flows.costs.fit import fit_cost
from mutandis.flows.costs.measures import Forward, call, evaluating, modules_of
from mutandis.flows.costs.model import CostModel
from mutandis.hyper import Rng, space

Key = Callable[[nn.Module, Any, Any], str | None]
"""Names what a layer does from the layer, its input and its output; None for what costs nothing."""
_SETTINGS = {"kernel_size": "k", "stride": "s", "dilation": "d", "groups": "g"}
_NUMBERS = ("mean", "ms", "latency_ms", "value")


def operation_key(layer: nn.Module, given: Any, made: Any) -> str | None:
    """Returns a key of class, sizes of input and output without the batch, and settings, as in published tables.

    `Conv2d-3x32x32-16x16x16-k3-s2`: dilation and groups are left out where they are 1.

    Args:
        layer: A layer without layers inside.
        given: Its first input.
        made: Its output.
    """
    parts = [type(layer).__name__, _size(given), _size(made)]
    for name, letter in _SETTINGS.items():
        value = getattr(layer, name, None)
        if value is not None and (letter in "ks" or _number(value) != "1"):
            parts.append(f"{letter}{_number(value)}")
    return "-".join(parts)


def _size(value: Any) -> str:
    first = value[0] if isinstance(value, (tuple, list)) and value else value
    return "x".join(map(str, first.shape[1:])) or "1" if isinstance(first, Tensor) else type(first).__name__


def _number(value: Any) -> str:
    numbers = [str(v) for v in value] if isinstance(value, tuple) else [str(value)]
    return numbers[0] if len(set(numbers)) == 1 else "x".join(numbers)


@contextmanager
def _hearing(child: Any, hear: Callable[[nn.Module, Any, Any], None]) -> Iterator[None]:
    """Calls a function with each layer that runs, its first input and its output."""
    layers = {id(m): m for module in modules_of(child) for m in module.modules() if not list(m.children())}
    handles = [layer.register_forward_hook(lambda m, given, made: hear(m, given[0] if given else None, made))
               for layer in layers.values()]  # fmt: skip
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def operations(child: Any, batch: Any, *, key: Key = operation_key, forward: Forward = call) -> list[str]:
    """Returns the keys of all that a child does in a pass over a batch in evaluation, in its order.

    Args:
        child: A program that is, or holds, modules.
        batch: What it is called with, a tuple for several arguments.
        key: Names what a layer does.
        forward: Runs the child on the batch, where it is not called.
    """
    found: list[str | None] = []
    with evaluating(child), torch.no_grad(), _hearing(child, lambda *what: found.append(key(*what))):
        forward(child, batch)
    return [name for name in found if name is not None]


def table_cost(
    program: Any, table: Mapping[str, float], batch: Any, *, key: Key = operation_key, default: float | None = None,
    forward: Forward = call, **settings: Any,
) -> CostModel:  # fmt: skip
    """Returns what children cost by a table of operations.

        cost = mu.flows.table_cost(program, mu.flows.read_table("pixel.json"), torch.zeros(1, 3, 224, 224))
        mu.one_shot(shared, algorithm, cost=cost, ...)

    Args:
        program: A program, its space, or what `share_weights` has made of it.
        table: The cost of each operation, by its key.
        batch: What a child is called with.
        key: Names what a layer does.
        default: The cost of operations that the table does not have; by default these are refused.
        forward: Runs a child on the batch, where it is not called.
        **settings: Further arguments of `fit_cost`.

    Raises:
        SettingError: the table misses an operation, or holds what is no finite number.
    """
    for name, value in table.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise SettingError("cannot read costs", at=f"table[{name!r}]", got=value, expected="a finite number",
                               fix="read tables with read_table(path)")  # fmt: skip

    def price(name: str) -> float:
        if name in table:
            return float(table[name])
        if default is None:
            raise SettingError("cannot look up a cost", at=name, got="no such operation in the table",
                               expected=f"one of {len(table)} keys{closest(name, table)}",
                               fix="pass key=, which names operations as the table does, or default=")  # fmt: skip
        return default

    return fit_cost(program, lambda child: math.fsum(map(price, operations(child, batch, key=key, forward=forward))),
                    **settings)  # fmt: skip


def measure_table(
    program: Any, batch: Any, *, key: Key = operation_key, forward: Forward = call, num_children: int = 16,
    repeats: int = 15, seed: int = 0,
) -> dict[str, float]:  # fmt: skip
    """Measures each operation of some random children alone, on the device where they are.

    Args:
        program: As for `table_cost`.
        batch: What a child is called with.
        key: Names what a layer does; equal names are measured once.
        forward: Runs a child on the batch, where it is not called.
        num_children: How many children are looked at.
        repeats: How many passes through an operation are measured, after three others.
        seed: Draws the children.

    Returns:
        The median time of each operation in milliseconds, by key.
    """
    made, rng = space(program), Rng(seed, "table")
    times: dict[str, float] = {}
    for number in range(num_children):
        child = made.materialize(made.bare().random(rng.derive("child", number)))
        fresh: dict[str, tuple[nn.Module, Any]] = {}

        def hear(layer: nn.Module, given: Any, result: Any, fresh: dict[str, Any] = fresh) -> None:
            name = key(layer, given, result)
            if name is not None and name not in times:
                fresh.setdefault(name, (layer, given))

        with evaluating(child), torch.no_grad():
            with _hearing(child, hear):
                forward(child, batch)
            for name, (layer, given) in fresh.items():
                times[name] = _milliseconds(layer, given, repeats)
    return times


def _milliseconds(layer: nn.Module, given: Any, repeats: int) -> float:
    is_cuda = isinstance(given, Tensor) and given.is_cuda
    times = []
    for number in range(3 + repeats):
        start = time.perf_counter()
        layer(given)
        if is_cuda:
            torch.cuda.synchronize()
        if number >= 3:
            times.append(1000.0 * (time.perf_counter() - start))
    return statistics.median(times)


def read_table(path: str | Path) -> dict[str, float]:
    """Returns a table of operations from a file.

    Args:
        path: JSON, `{key: number}` or `{key: {"mean": number, ...}}`; or CSV, the key in the first column and the
            number in the second, with or without a head.

    Raises:
        StorageError: it cannot be read as either.
    """
    try:
        text = Path(path).read_text()
        if Path(path).suffix.lower() == ".json":
            return {str(name): _one_number(value) for name, value in json.loads(text).items()}
        rows = [row for row in csv.reader(text.splitlines()) if len(row) >= 2]
        return {row[0]: float(row[1]) for number, row in enumerate(rows) if number or _is_number(row[1])}
    except (OSError, ValueError, AttributeError, KeyError) as error:
        raise StorageError("cannot read a table of costs", at=path, got=f"{type(error).__name__}: {error}",
                           expected="JSON of keys and numbers, or CSV with keys and numbers in the first columns",
                           fix="write it with json.dump({key: milliseconds, ...}, file)") from error  # fmt: skip


def _one_number(value: Any) -> float:
    if isinstance(value, Mapping):
        return float(next(value[name] for name in _NUMBERS if name in value))
    return float(value)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


__all__ = ["Key", "measure_table", "operation_key", "operations", "read_table", "table_cost"]
