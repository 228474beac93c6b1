"""Every executor, one suite."""

from __future__ import annotations

from mutandis.flows.executors import Inline, Processes
from mutandis.testing.executor_contract import ExecutorContract


class TestInline(ExecutorContract):
    executor = Inline()
    isolates = False


class TestProcesses(ExecutorContract):
    executor = Processes(num_threads=1)


class TestOneProcess(ExecutorContract):
    executor = Processes(num_threads=1)
    workers = 1
