"""The API of the last word: tasks people disagree about, with what each said, and the decision."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request

from accord.collect import adjudication
from accord.collect.app.answers import documented
from accord.collect.app.routes_annotator import ALWAYS, project_of
from accord.collect.app.security import Caller, allow, store_of
from accord.collect.app.shapes import Adjudicated, Decision, ProjectName
from accord.collect.app.shapes_admin import AdjudicationQueue

router = APIRouter(prefix="/api/v1/admin/adjudication", tags=["adjudication"])

Adjudicator = Annotated[Caller, Depends(allow("admin", "adjudicator", scope="annotate"))]


@router.get("", response_model=AdjudicationQueue, responses={**ALWAYS, **documented(404)})
def queue(
    request: Request,
    caller: Adjudicator,
    project: ProjectName = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> AdjudicationQueue:
    """The tasks that need a decision, longest waiting first; labels carry pseudonyms."""
    found = adjudication.queue(store_of(request), project_of(request, project), caller.user, limit=limit)
    return AdjudicationQueue.model_validate(found, from_attributes=True)


@router.post("/{task}", response_model=Adjudicated, responses={**ALWAYS, **documented(404, 409)})
def decide(request: Request, task: str, body: Decision, caller: Adjudicator) -> Adjudicated:
    """Decide; the labels of the annotators stay as they are."""
    found = adjudication.adjudicate(store_of(request), caller.user, task, body.verdict, reason=body.reason)
    return Adjudicated(adjudication=found)
