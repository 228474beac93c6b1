"""The published recipe of weight sharing as a driver, and the parts it is made of for loops of your own."""

from __future__ import annotations

from mutandis.flows.oneshot.driver import one_shot as one_shot
from mutandis.flows.oneshot.loop import Step as Step
from mutandis.flows.oneshot.loop import Steps as Steps
from mutandis.flows.oneshot.loop import steps as steps
from mutandis.flows.oneshot.recipe import cosine as cosine
from mutandis.flows.oneshot.result import Epoch as Epoch
from mutandis.flows.oneshot.result import Memory as Memory
from mutandis.flows.oneshot.result import OneShotResult as OneShotResult
from mutandis.flows.oneshot.running import running as running
from mutandis.flows.oneshot.splits import split as split

__all__ = ["Epoch", "Memory", "OneShotResult", "Step", "Steps", "cosine", "one_shot", "running", "split", "steps"]
