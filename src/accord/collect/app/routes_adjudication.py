"""The API of the last word: tasks people disagree about, with what each said, and the decision."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request

from accord.collect import adjudication, gold
from accord.collect.adjudication import AdjudicationQueue
from accord.collect.app.answers import ApiError, documented
from accord.collect.app.routes_annotator import ALWAYS, project_of
from accord.collect.app.security import Caller, allow, store_of
from accord.collect.app.shapes import Adjudicated, Decision, ProjectName
from accord.collect.schema import AdjudicationRow

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
    return adjudication.queue(store_of(request), project_of(request, project), caller.user, limit=limit)


@router.post("/{task}", response_model=Adjudicated, responses={**ALWAYS, **documented(404, 409)})
def decide(request: Request, task: str, body: Decision, caller: Adjudicator) -> Adjudicated:
    """Decide; the labels of the annotators stay as they are."""
    if body.gold and body.verdict.kind == "edit":
        raise ApiError(422, "an edit cannot be right or wrong, so it is no hidden test", code="invalid")
    store = store_of(request)
    made = adjudication.adjudicate(store, caller.user, task, body.verdict, reason=body.reason)
    if body.gold:
        with store.read() as session:
            row = session.get_one(AdjudicationRow, made)
        gold.set_gold(store, row.project_id, task, row.verdict, actor=caller.user.id)
    return Adjudicated(adjudication=made)
