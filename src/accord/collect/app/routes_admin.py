"""The admin API for a project: progress, agreement, annotators, hidden tests, guidelines, settings, audit trail."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request

from accord.collect import events, gold, projects, reading, tasks
from accord.collect.app.answers import documented
from accord.collect.app.audit import events_page
from accord.collect.app.routes_annotator import ALWAYS, project_of
from accord.collect.app.security import Caller, allow, store_of
from accord.collect.app.shapes import (
    ChainCheck,
    Count,
    Done,
    GoldItem,
    GuidelineVersion,
    NewGuidelines,
    NewQuiz,
    ProjectName,
    TaskIds,
)
from accord.collect.app.shapes_admin import (
    Agreement,
    AnnotatorEntry,
    Annotators,
    Events,
    GoldEntry,
    GoldItems,
    GuidelineVersions,
    Projects,
)
from accord.collect.reading import ProjectProgress, TaskPage
from accord.collect.records import ProjectSettings

router = APIRouter(prefix="/api/v1/admin", tags=["admin"])

Reader = Annotated[Caller, Depends(allow("admin", "service", scope="read"))]
Editor = Annotated[Caller, Depends(allow("admin", "service", scope="import"))]
Admin = Annotated[Caller, Depends(allow("admin", scope="admin"))]
READ = {**ALWAYS, **documented(404)}
CHANGED = {**ALWAYS, **documented(404, 409)}
LOW_GOLD = 0.7
"""Share right that even the upper end of the interval stays below."""
FAST_S = 3.0
"""Median seconds a label: too short to read two replies of a few lines."""
MANY_SKIPS = 0.3
ENOUGH = 10
"""Labels or skips before anything is said."""
Limit = Annotated[int, Query(ge=1, le=500)]


@router.get("/projects", response_model=Projects, responses=ALWAYS)
def list_projects(request: Request, caller: Reader) -> Projects:
    """The projects of the database."""
    del caller
    return Projects(projects=tuple(projects.list_projects(store_of(request))))


@router.get("/progress", response_model=ProjectProgress, responses=READ)
def progress(request: Request, caller: Reader, project: ProjectName = None) -> ProjectProgress:
    """How far the project is."""
    del caller
    return reading.progress(store_of(request), project_of(request, project))


@router.get("/agreement", response_model=Agreement, responses=READ)
def agreement(request: Request, caller: Reader, project: ProjectName = None) -> Agreement:
    """Agreement on the random slice, with bootstrap intervals over prompts."""
    del caller
    return request.app.state.agreement.get(store_of(request), project_of(request, project))


@router.get("/annotators", response_model=Annotators, responses=READ)
def annotators(request: Request, caller: Reader, project: ProjectName = None) -> Annotators:
    """Everybody who labels, with their hidden tests."""
    del caller
    rows = reading.annotators(store_of(request), project_of(request, project))
    return Annotators(annotators=tuple(AnnotatorEntry(**dict(row), flags=_flags(row)) for row in rows))


def _flags(row: reading.AnnotatorStats) -> tuple[str, ...]:
    """What to look at; none of it is a verdict on the person."""
    found = {
        "few hidden tests right": row.gold_high is not None and row.gold_high < LOW_GOLD,
        "very fast": row.median_seconds is not None and row.done >= ENOUGH and row.median_seconds < FAST_S,
        "skips a lot": row.skipped >= ENOUGH and row.skipped > MANY_SKIPS * (row.done + row.skipped),
    }
    return tuple(name for name, seen in found.items() if seen)


@router.get("/tasks", response_model=TaskPage, responses=READ)
def list_tasks(
    request: Request,
    caller: Reader,
    project: ProjectName = None,
    state: Annotated[str | None, Query(pattern="^(open|done|adjudicate|closed)$")] = None,
    after: Annotated[str | None, Query(max_length=100)] = None,
    limit: Limit = 50,
) -> TaskPage:
    """A page of tasks, in the order they were added."""
    del caller
    return reading.tasks(store_of(request), project_of(request, project), state=state, after=after, limit=limit)


@router.get("/gold", response_model=GoldItems, responses=READ)
def gold_items(request: Request, caller: Admin, project: ProjectName = None) -> GoldItems:
    """The hidden tests and how often they were answered right."""
    del caller
    rows = gold.items(store_of(request), project_of(request, project))
    return GoldItems(items=tuple(_gold_row(row) for row in rows))


def _gold_row(row: gold.GoldItem) -> GoldEntry:
    """The first right answer by itself, which is all there is in nearly all of them."""
    first, *others = row.gold.get("accept") or [row.gold]
    return GoldEntry(**{**dict(row), "gold": first}, others=tuple(others))


@router.post("/gold", response_model=Done, responses=CHANGED)
def set_gold(request: Request, body: GoldItem, caller: Editor, project: ProjectName = None) -> Done:
    """Make a task a hidden test, or an ordinary one again."""
    gold.set_gold(store_of(request), project_of(request, project), body.task, body.gold, actor=caller.user.id)
    return Done()


@router.post("/quiz", response_model=Count, status_code=201, responses=CHANGED)
def add_quiz(request: Request, body: NewQuiz, caller: Editor, project: ProjectName = None) -> Count:
    """Add questions to the qualification."""
    found = gold.add_quiz_items(
        store_of(request), project_of(request, project), body.items, actor=caller.user.id, replace=body.replace
    )
    return Count(count=len(found))


@router.post("/tasks/close", response_model=Count, responses=CHANGED)
def close_tasks(request: Request, body: TaskIds, caller: Editor, project: ProjectName = None) -> Count:
    """Withdraw tasks; their labels stay."""
    store, name = store_of(request), project_of(request, project)
    return Count(count=tasks.close_tasks(store, name, body.tasks, actor=caller.user.id))


@router.get("/events", response_model=Events, responses=READ)
def list_events(
    request: Request,
    caller: Admin,
    before: Annotated[int | None, Query(ge=0, le=2**62)] = None,
    limit: Limit = 50,
    verb: Annotated[str | None, Query(max_length=40)] = None,
    actor: Annotated[str | None, Query(max_length=100)] = None,
) -> Events:
    """The audit trail, newest first."""
    del caller
    return events_page(store_of(request), before=before, limit=limit, verb=verb, actor=actor)


@router.get("/verify", response_model=ChainCheck, responses=ALWAYS)
def verify(request: Request, caller: Admin) -> ChainCheck:
    """Whether the audit trail is whole: each event holds the hash of the one before."""
    del caller
    found = events.verify_events(store_of(request))
    return ChainCheck(
        intact=not found.broken,
        events=found.num_events,
        head=found.head,
        first_bad=found.broken[0] if found.broken else None,
    )


@router.get("/guidelines", response_model=GuidelineVersions, responses=READ)
def guideline_versions(request: Request, caller: Reader, project: ProjectName = None) -> GuidelineVersions:
    """All versions of the guidelines, newest first."""
    del caller
    return GuidelineVersions(
        versions=tuple(projects.guideline_versions(store_of(request), project_of(request, project)))
    )


@router.post("/guidelines", response_model=GuidelineVersion, status_code=201, responses=CHANGED)
def set_guidelines(
    request: Request, body: NewGuidelines, caller: Editor, project: ProjectName = None
) -> GuidelineVersion:
    """Put the next version of the guidelines into force."""
    found = projects.set_guidelines(
        store_of(request), project_of(request, project), body.markdown, actor=caller.user.id
    )
    return GuidelineVersion(version=found.version, id=found.id)


@router.get("/settings", response_model=ProjectSettings, responses=READ)
def settings(request: Request, caller: Reader, project: ProjectName = None) -> ProjectSettings:
    """The project's rules."""
    del caller
    return projects.settings(store_of(request), project_of(request, project))


@router.post("/settings", response_model=ProjectSettings, responses=CHANGED)
def set_settings(
    request: Request, body: ProjectSettings, caller: Admin, project: ProjectName = None
) -> ProjectSettings:
    """Replace the project's rules, all of them."""
    projects.set_settings(store_of(request), project_of(request, project), body, actor=caller.user.id)
    return body
