"""Contract suites for other people's algorithms and schedulers; needs pytest."""

from __future__ import annotations

from mutandis.testing.algorithm_contract import AlgorithmContract as AlgorithmContract
from mutandis.testing.algorithm_contract import answer as answer
from mutandis.testing.algorithm_contract import reward_of as reward_of
from mutandis.testing.algorithm_contract import run as run
from mutandis.testing.algorithm_contract import trace_of as trace_of
from mutandis.testing.executor_contract import ExecutorContract as ExecutorContract
from mutandis.testing.scheduler_contract import SchedulerContract as SchedulerContract
from mutandis.testing.spaces import contract_spaces as contract_spaces
from mutandis.testing.store_contract import StoreContract as StoreContract

__all__ = [
    "AlgorithmContract", "ExecutorContract", "SchedulerContract", "StoreContract", "answer", "contract_spaces",
    "reward_of", "run", "trace_of",
]  # fmt: skip
