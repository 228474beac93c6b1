"""Contract suites for other people's algorithms; needs pytest."""

from __future__ import annotations

from mutandis.testing.algorithm_contract import AlgorithmContract as AlgorithmContract
from mutandis.testing.algorithm_contract import answer as answer
from mutandis.testing.algorithm_contract import reward_of as reward_of
from mutandis.testing.algorithm_contract import run as run
from mutandis.testing.algorithm_contract import trace_of as trace_of
from mutandis.testing.spaces import contract_spaces as contract_spaces

__all__ = ["AlgorithmContract", "answer", "contract_spaces", "reward_of", "run", "trace_of"]
