"""Answers of the admin API."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from accord.collect.app.shapes import Answer
from accord.collect.records import Kind, Purpose, Scale, ShownCandidate, Verdict
from accord.types import Message


class TaskCounts(Answer):
    """Tasks by state; hidden tests and repeats are not among them."""

    total: int
    open: int
    done: int
    adjudicate: int
    closed: int


class LabelCounts(Answer):
    """Labels that count."""

    total: int
    today: int


class KindCount(Answer):
    """Tasks of one kind."""

    kind: str
    total: int
    done: int


class DayCount(Answer):
    """Labels of one day, UTC."""

    day: str
    count: int


class AdminProgress(Answer):
    """How far a project is."""

    project: str
    tasks: TaskCounts
    annotations: LabelCounts
    by_kind: tuple[KindCount, ...]
    by_day: tuple[DayCount, ...]
    skips: dict[str, int]
    open_leases: int
    active_annotators: int
    remaining: int
    """Labels still wanted."""
    eta_seconds: float | None


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


class AnnotatorRow(Answer):
    """One person's work."""

    id: str
    handle: str
    pseudonym: str
    role: str
    groups: tuple[str, ...]
    done: int
    today: int
    skipped: int
    median_seconds: float | None
    gold_right: int
    gold_total: int
    gold_low: float | None
    gold_high: float | None
    state: str
    disabled: bool
    flags: tuple[str, ...] = ()
    last_seen: datetime | None = None


class Annotators(Answer):
    """Everybody who labels."""

    annotators: tuple[AnnotatorRow, ...]


class GoldRow(Answer):
    """A hidden test."""

    task: str
    kind: Kind
    prompt: str
    candidates: tuple[str, ...]
    gold: dict[str, Any]
    answered: int
    right: int
    repeated: int = 0


class GoldItems(Answer):
    """The hidden tests of a project."""

    items: tuple[GoldRow, ...]


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


class AdjudicationLabel(Answer):
    """What somebody said, in positions of the item's `candidates`."""

    annotator: str
    verdict: Verdict
    seconds: float
    created_at: datetime
    guideline: int | None


class AdjudicationItem(Answer):
    """A task people disagreed about."""

    task: str
    kind: Kind
    purpose: Purpose
    messages: tuple[Message, ...]
    candidates: tuple[ShownCandidate, ...]
    flags: tuple[str, ...]
    scale: Scale
    reason: str
    labels: tuple[AdjudicationLabel, ...]


class AdjudicationQueue(Answer):
    """The next tasks that need a decision."""

    items: tuple[AdjudicationItem, ...]
    remaining: int = 0


class GuidelineEntry(Answer):
    """One version."""

    version: int
    id: str
    markdown: str
    sha256: str
    created_at: datetime
    author: str | None = None


class GuidelineVersions(Answer):
    """All versions, newest first."""

    versions: tuple[GuidelineEntry, ...]


class TaskEntry(Answer):
    """One task as an admin sees it."""

    id: str
    kind: Kind
    purpose: Purpose
    state: str
    slice: str
    policy: str
    overlap: int
    claimed: int
    done: int
    prompt: str
    candidates: int


class Tasks(Answer):
    """A page of tasks."""

    tasks: tuple[TaskEntry, ...]
    next: str | None


class ProjectEntry(Answer):
    """One project."""

    id: str
    name: str
    created_at: datetime


class Projects(Answer):
    """The projects of the database."""

    projects: tuple[ProjectEntry, ...]
