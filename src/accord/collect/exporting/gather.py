"""Everything an export draws on, read in one moment: answers, last words of adjudicators, guidelines, rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from accord.collect.current import holds
from accord.collect.database import Store
from accord.collect.exporting.raw import RawAnnotation, raw_annotations
from accord.collect.projects import require_project
from accord.collect.records import Verdict
from accord.collect.schema import AdjudicationRow, AnnotationRow, TaskRow
from accord.collect.tables import GuidelineRow

_TOLD = ("overlap", "random_slice", "slice_overlap", "escalate_overlap", "gold_rate", "repeat_rate", "tie", "both_bad")


@dataclass(frozen=True)
class GuidelineText:
    """One version of the written rules."""

    version: int
    sha256: str
    markdown: str


@dataclass(frozen=True)
class Collected:
    """A project's answers and what they were given under."""

    project: str
    project_id: str
    answers: tuple[RawAnnotation, ...]
    """All of them, in the order they were given."""
    planned: frozenset[str]
    """Ids of the answers that stand and that every task was to get from the start. More are asked for where people
    disagree; with those agreement would look worse than it is."""
    decisions: Mapping[str, Verdict]
    """Key of a task -> the last word of an adjudicator, in candidate indexes."""
    guidelines: tuple[GuidelineText, ...]
    settings: Mapping[str, Any]

    def rules(self) -> dict[str, object]:
        """Rules of the project worth telling in a data card."""
        return {name: self.settings[name] for name in _TOLD if name in self.settings}

    def guideline_counts(self, answers: Sequence[RawAnnotation]) -> list[tuple[int, str, int]]:
        """(version, sha256, answers made under it) of the versions these answers were made under."""
        counts = Counter((a.guideline_version, a.guideline_sha256) for a in answers)
        return sorted((v, sha, n) for (v, sha), n in counts.items() if v is not None and sha is not None)


def gather(store: Store, project: str) -> Collected:
    """Read a project.

    Args:
        store: an open store.
        project: name or id.

    Raises:
        NotFound: no such project.
    """
    with store.read(snapshot=True) as session:
        row = require_project(session, project)
        decided = (
            select(TaskRow.key, AdjudicationRow.verdict)
            .join(TaskRow, AdjudicationRow.task_id == TaskRow.id)
            .where(AdjudicationRow.project_id == row.id)
            .order_by(AdjudicationRow.id)
        )
        decisions = {found.key: Verdict.model_validate(found.verdict) for found in session.execute(decided)}
        query = select(GuidelineRow).where(GuidelineRow.project_id == row.id).order_by(GuidelineRow.version)
        texts = tuple(GuidelineText(g.version, g.sha256, g.markdown) for g in session.scalars(query))
        name, project_id, settings = row.name, row.id, row.settings
        answers = tuple(raw_annotations(session, project_id))
        first = select(AnnotationRow.id).join(TaskRow, TaskRow.id == AnnotationRow.task_id)
        first = first.where(AnnotationRow.project_id == project_id, TaskRow.lane == "queue", holds())
        planned = frozenset(session.scalars(first.where(AnnotationRow.ordinal <= TaskRow.overlap_base)))
    return Collected(name, project_id, answers, planned, decisions, texts, settings)
