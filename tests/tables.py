"""Real tables, where they lie beside the repository; tests that need them are skipped where they do not."""

from __future__ import annotations

from pathlib import Path

import pytest

DATA = Path(__file__).parents[2] / "shared" / "data"
TOPOLOGY = DATA / "nasbench201" / "nasbench201.npz"
SIZE = DATA / "nats_sss" / "nats_sss.npz"
FCNET = DATA / "hpo_fcnet" / "fcnet.npz"
LATENCY = DATA / "nasbench201" / "nasbench201_latency_ms.npz"
FBNET = DATA / "latency_fbnet_ofa" / "fbnet_latency_ms.npz"
OFA = DATA / "latency_fbnet_ofa" / "ofa_latency_ms.npz"
RECURRENT = DATA / "nasbench_nlp_wt2" / "logs.jsonl.gz"

needs_topology = pytest.mark.skipif(not TOPOLOGY.exists(), reason="the table of NAS-Bench-201 is not here")
needs_size = pytest.mark.skipif(not SIZE.exists(), reason="the table of NATS-Bench's size space is not here")
needs_latency = pytest.mark.skipif(not LATENCY.exists(), reason="the latencies of NAS-Bench-201 are not here")
needs_fbnet = pytest.mark.skipif(not (FBNET.exists() and OFA.exists()), reason="the latencies of FBNet are not here")
needs_fcnet = pytest.mark.skipif(not FCNET.exists(), reason="the table of FCNet is not here")
needs_recurrent = pytest.mark.skipif(not RECURRENT.exists(), reason="the logs of NAS-Bench-NLP are not here")
