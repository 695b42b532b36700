"""Answers of the admin API."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from accord.collect.app.shapes import Answer
from accord.collect.gold import GoldItem
from accord.collect.projects import Project
from accord.collect.reading import AnnotatorStats
from accord.collect.records import Guideline


class AgreementRow(Answer):
    """One measure of agreement; None with a reason where it is undefined."""

    measure: str
    label: str
    value: float | None
    low: float | None
    high: float | None
    units: int
    swap_symmetrised: bool
    reason: str | None = None


class Agreement(Answer):
    """Agreement on the random slice."""

    slice: str
    rows: tuple[AgreementRow, ...]
    note: str | None = None


class AnnotatorEntry(AnnotatorStats):
    """One person's work, with what an administrator should look at."""

    flags: tuple[str, ...]


class Annotators(Answer):
    """Everybody who labels."""

    annotators: tuple[AnnotatorEntry, ...]


class GoldEntry(GoldItem):
    """A hidden test; `gold` is its first right answer."""

    others: tuple[dict[str, Any], ...] = ()
    """Further answers that are right as well."""


class GoldItems(Answer):
    """The hidden tests of a project."""

    items: tuple[GoldEntry, ...]


class EventEntry(Answer):
    """One entry of the audit trail."""

    id: int
    ts: datetime
    actor: str
    verb: str
    object_type: str
    object_id: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    hash: str


class Events(Answer):
    """A page of the audit trail, newest first."""

    events: tuple[EventEntry, ...]
    next: int | None
    intact: bool | None = None


class GuidelineVersions(Answer):
    """All versions, newest first."""

    versions: tuple[Guideline, ...]


class Projects(Answer):
    """The projects of the database."""

    projects: tuple[Project, ...]
