"""Stores: where studies live, and how many workers share one."""

from __future__ import annotations

from mutandis.flows.studies.stores.base import Store as Store
from mutandis.flows.studies.stores.headers import header_of as header_of
from mutandis.flows.studies.stores.headers import space_of as space_of
from mutandis.flows.studies.stores.heartbeat import Heartbeat as Heartbeat
from mutandis.flows.studies.stores.ledger import LeaseLost as LeaseLost
from mutandis.flows.studies.stores.log import Batch as Batch
from mutandis.flows.studies.stores.log import StudyLog as StudyLog
from mutandis.flows.studies.stores.records import Claimed as Claimed
from mutandis.flows.studies.stores.records import Event as Event
from mutandis.flows.studies.stores.records import Finished as Finished
from mutandis.flows.studies.stores.records import Lease as Lease
from mutandis.flows.studies.stores.records import Opened as Opened
from mutandis.flows.studies.stores.records import Released as Released
from mutandis.flows.studies.stores.records import Reported as Reported
from mutandis.flows.studies.stores.records import StudyHeader as StudyHeader
from mutandis.flows.studies.stores.records import TrialRecord as TrialRecord
from mutandis.flows.studies.stores.records import fold as fold
from mutandis.flows.studies.stores.registry import open_store as open_store
from mutandis.flows.studies.stores.registry import register_scheme as register_scheme

__all__ = [
    "Batch", "Claimed", "Event", "Finished", "Heartbeat", "Lease", "LeaseLost", "Opened", "Released", "Reported",
    "Store", "StudyHeader", "StudyLog", "TrialRecord", "fold", "header_of", "open_store", "register_scheme",
    "space_of",
]  # fmt: skip
