"""Runs code in processes with different hash seeds."""

from __future__ import annotations

import os
import subprocess
import sys


def outputs_of(code, seeds=("1", "2", "3")):
    """Returns the different outputs of a program over several hash seeds; one where the seed plays no part."""
    return {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, text=True, capture_output=True,
            check=True,
        ).stdout
        for seed in seeds
    }  # fmt: skip
