"""One torch thread, and hypothesis that gives the same answer every time."""

from __future__ import annotations

import contextlib

from hypothesis import HealthCheck, settings

settings.register_profile(
    "mutandis", deadline=None, derandomize=True, max_examples=50, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("mutandis")

with contextlib.suppress(ImportError):
    import torch

    torch.set_num_threads(1)
