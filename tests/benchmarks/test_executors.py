"""The benchmark of executors runs at its smallest size, and measures the sleep."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "executors.py"


def test_the_benchmark_counts_what_is_beyond_the_ideal(tmp_path):
    spec = importlib.util.spec_from_file_location("executors", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    arguments = ["--executors", "inline", "--jobs", "3", "--sleep", "0.05", "--workers", "1", "2"]
    (row,) = module.main([*arguments, "--json", str(tmp_path / "rows.json")])
    assert json.loads((tmp_path / "rows.json").read_text()) == [row]
    assert (row["executor"], row["workers"]) == ("inline", 1)
    assert row["jobs_s"] >= 0.15
    assert row["ratio"] <= 1.0
