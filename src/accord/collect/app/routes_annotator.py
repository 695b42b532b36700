"""The JSON API of those who label: nothing here names a model, a gold answer or what somebody else said."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from accord.collect import claims, gold, people, projects, reading, submissions
from accord.collect.app import passwords
from accord.collect.app.answers import ApiError, answer, documented
from accord.collect.app.security import ANYONE, LABELLERS, Caller, allow, check_csrf, new_session, settings_of, store_of
from accord.collect.app.shapes import (
    AssignmentRef,
    ClaimRequest,
    Done,
    GuidelineText,
    Me,
    NewPassword,
    ProjectName,
    QuizAnswers,
    QuizResult,
    QuizView,
    ReleaseRequest,
    SessionRenewed,
    SkipResult,
    SubmitResult,
)
from accord.collect.passwords import csrf_token
from accord.collect.records import Progress, Skip, Submission, TaskView

router = APIRouter(prefix="/api/v1", tags=["labelling"])

ALWAYS = documented(400, 401, 403, 413, 422, 429)
"""Error answers any route may give."""
EMPTY_RETRY_S = 30
"""Seconds after which to ask again when no task was free: a lease may have ended, somebody may have skipped."""

Labeller = Annotated[Caller, Depends(allow(*LABELLERS, scope="annotate"))]
Anyone = Annotated[Caller, Depends(allow(*ANYONE, scope="read"))]


def project_of(request: Request, named: str | None) -> str:
    """The project a request is about."""
    return named or settings_of(request).project


@router.get("/me", response_model=Me, responses=ALWAYS)
def me(request: Request, caller: Annotated[Caller, Depends(allow(*ANYONE, scope="annotate"))]) -> Me:
    """Who is asking, with the CSRF token of the session."""
    project = settings_of(request).project
    return Me(
        handle=caller.user.handle,
        role=caller.user.role,
        csrf=caller.csrf,
        project=project,
        qualified=gold.is_qualified(store_of(request), project, caller.user),
    )


@router.post("/me/password", response_model=SessionRenewed, responses=ALWAYS)
def change_password(request: Request, response: Response, body: NewPassword, caller: Labeller) -> SessionRenewed:
    """Change one's own password; every other session ends and this one goes on under a new token."""
    if caller.session is None:
        raise ApiError(403, "passwords are changed in a session, not with a key", code="not_allowed")
    if passwords.check(request, caller.user.handle, body.old) is None:
        raise ApiError(403, "the old password is wrong", code="not_allowed")
    with passwords.turn(request):
        people.set_password(store_of(request), caller.user.id, body.new, actor=caller.user.id)
    return SessionRenewed(csrf=csrf_token(new_session(request, response, caller.user)))


@router.post(
    "/claim",
    response_model=TaskView,
    responses={
        **ALWAYS,
        **documented(404, 409),
        204: {
            "description": "no task is free for you now",
            "headers": {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}},
        },
    },
)
def claim(
    request: Request,
    caller: Labeller,
    body: ClaimRequest,
    prefetch: Annotated[bool, Query(description="ask for the one after the current")] = False,
) -> Response:
    """Get a task to label, under a lease; a person holds at most two: the current one and the next."""
    project = project_of(request, body.project)
    task = claims.claim(store_of(request), project, caller.user, prefetch=prefetch or body.prefetch)
    return answer(task) if task is not None else Response(status_code=204, headers={"Retry-After": str(EMPTY_RETRY_S)})


@router.post("/heartbeat", response_model=Done, responses={**ALWAYS, **documented(404, 409)})
def heartbeat(request: Request, body: AssignmentRef, caller: Labeller) -> Done:
    """Keep the lease of a task that is still being read."""
    claims.heartbeat(store_of(request), body.assignment, caller.user)
    return Done()


@router.post("/release", response_model=Done, responses={**ALWAYS, **documented(404, 409)})
def release(
    request: Request,
    body: ReleaseRequest,
    caller: Annotated[Caller, Depends(allow(*LABELLERS, scope="annotate", csrf=False))],
) -> Done:
    """Give a task back, as a closing tab does; the CSRF token may be in the body, since beacons have no headers."""
    if caller.session:
        check_csrf(request, caller.session, body.csrf or request.headers.get("x-csrf-token"))
    claims.release(store_of(request), body.assignment, caller.user)
    return Done()


@router.post("/submit", response_model=SubmitResult, responses={**ALWAYS, **documented(404, 409)})
def submit(request: Request, body: Submission, caller: Labeller, project: ProjectName = None) -> Response:
    """Hand in a verdict; the same key again returns the stored one, another body under that key is refused (409)."""
    store = store_of(request)
    done = submissions.submit(store, caller.user, body)
    progress = reading.own_progress(store, project_of(request, project), caller.user)
    return answer(SubmitResult(annotation=done.annotation, repeated=done.repeated, extra=done.extra, progress=progress))


@router.post("/skip", response_model=SkipResult, responses={**ALWAYS, **documented(404, 409)})
def skip(request: Request, body: Skip, caller: Labeller, project: ProjectName = None) -> SkipResult:
    """Give a task back for good, with the reason."""
    store = store_of(request)
    submissions.skip(store, caller.user, body)
    return SkipResult(progress=reading.own_progress(store, project_of(request, project), caller.user))


@router.post("/undo", response_model=TaskView, responses={**ALWAYS, **documented(404, 409)})
def undo(request: Request, caller: Labeller, project: ProjectName = None) -> TaskView:
    """Open the last verdict in the project again; a new one will supersede it."""
    return submissions.undo(store_of(request), caller.user, project_of(request, project))


@router.get("/guidelines", response_model=GuidelineText, responses={**ALWAYS, **documented(404)})
def guidelines(request: Request, caller: Anyone, project: ProjectName = None) -> GuidelineText:
    """The guidelines in force."""
    del caller
    found = projects.guidelines(store_of(request), project_of(request, project))
    if found is None:
        return GuidelineText(id=None, version=0, markdown="")
    return GuidelineText(version=found.version, id=found.id, markdown=found.markdown)


@router.get("/progress", response_model=Progress, responses={**ALWAYS, **documented(404)})
def progress(request: Request, caller: Labeller, project: ProjectName = None) -> Progress:
    """One's own progress; right answers to gold items are counted, never named."""
    return reading.own_progress(store_of(request), project_of(request, project), caller.user)


@router.get("/quiz", response_model=QuizView, responses={**ALWAYS, **documented(404)})
def quiz(request: Request, caller: Labeller, project: ProjectName = None) -> QuizView:
    """The qualification: items without their answers."""
    found = gold.quiz(store_of(request), project_of(request, project), caller.user)
    return QuizView.model_validate({**found.model_dump(exclude={"required"}), "pass": found.required})


@router.post("/quiz", response_model=QuizResult, responses={**ALWAYS, **documented(404, 409)})
def answer_quiz(request: Request, body: QuizAnswers, caller: Labeller, project: ProjectName = None) -> QuizResult:
    """Hand in the qualification; what was wrong is said afterwards, when it cannot help any more."""
    answers = {answer.id: answer.verdict for answer in body.answers}
    found = gold.answer_quiz(store_of(request), project_of(request, project), caller.user, answers)
    return QuizResult(**dict(found), next="/label" if found.passed else "/quiz")
