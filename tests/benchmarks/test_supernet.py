"""The benchmark of weight sharing runs, and counts what it claims to count."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "supernet.py"


def test_a_step_has_the_flops_and_activations_of_the_child_alone(tmp_path):
    small = ["--channels", "4", "--batch", "2", "--image", "8", "--archs", "2", "--reps", "1"]
    command = [sys.executable, str(SCRIPT), *small, "--json", str(tmp_path / "out.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = json.loads((tmp_path / "out.json").read_text())["rows"]
    for name in ("shared", "single by hand"):
        assert rows[name]["flops"] == rows[name]["saved"] == [1.0, 1.0]
    assert rows["shared, widths"]["flops"] == rows["guarded, widths"]["flops"] == [1.0, 1.0]
    assert rows["shared, masks"]["flops"] == [1.0] and 1.0 < rows["masks by hand"]["flops"][0] < 1.001
    assert rows["shared, gates"]["flops"] == [1.0, 1.0]
    assert rows["shared, mixture"]["flops"] == rows["mixture by hand"]["flops"]
    assert min(rows["mixture by hand"]["flops"]) > 1.0
    assert "| shared | " in done.stdout
