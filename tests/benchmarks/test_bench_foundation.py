"""The benchmark runs without its rival where it measures only us, and its table can be read."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "bench_foundation.py"


@pytest.mark.parametrize("section", ["objects", "spaces", "random"])
def test_a_section_measures_something(section):
    command = [sys.executable, str(SCRIPT), "--section", section, "--library", "mutandis", "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    figures = json.loads(done.stdout)
    assert figures
    assert all(value > 0 for value in figures.values())


def test_the_table_has_a_ratio_for_every_figure():
    spec = importlib.util.spec_from_file_location("bench_foundation", SCRIPT)
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    sampling = {
        section: {
            library: {f"sampling loop, {section}": cost, f"flatness, {section}": 1.0, f"trials, {section}": 10}
            for library, cost in (("mutandis", 2.0), ("pyglove", 500.0))
        }
        for section in ("random", "evolution")
    }
    shown = bench.table(sampling, {"attribute read": 1.01})
    assert "| sampling loop, random | 2 us | 500 us | 250.0x | 100x |" in shown
    assert "| last fifth to first fifth, evolution | 1.00 in 10 | 1.00 in 10 | | flat |" in shown
    assert "| attribute read | 1.010 | 1.05 |" in shown
