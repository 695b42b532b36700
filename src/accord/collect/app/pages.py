"""The pages, rendered by Jinja2 with autoescape; everything that changes on them is fetched from the JSON API.

Context of every template:
    asset(name)  address of a static file, with the content hash
    csrf         token for forms and the header X-CSRF-Token ("" only on error pages of nobody)
    me, user     the person: .handle .role .id; None on login, join and some errors
    project      name of the project
    version      of Accord
    nav          [{href, title, current}], what this person can go to
    title        of the page
Context of single templates:
    login.html   error (str|None), next (path), handle (str). POST /login: csrf, handle, password, next
    join.html    error, token, role, handle. POST /join/{token}: csrf, handle, password, consent
    label.html, guidelines.html, quiz.html: nothing more
    admin.html   section, one of SECTIONS
    error.html   status (int), title, detail, fix ("" when there is none)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined, TemplateNotFound

from accord import __version__
from accord.collect import people
from accord.collect.app import passwords
from accord.collect.app.answers import ApiError, ErrorDetail
from accord.collect.app.security import (
    ANYONE,
    LABELLERS,
    Caller,
    allow,
    allow_page,
    check_csrf,
    clear_cookie,
    cookie_name,
    identify,
    local_path,
    new_form_secret,
    new_session,
    set_cookie,
    settings_of,
    store_of,
)
from accord.collect.passwords import csrf_token
from accord.collect.records import User
from accord.errors import AccordError

SECTIONS = (
    *("progress", "agreement", "annotators", "gold", "adjudication"),
    *("audit", "people", "guidelines", "data", "settings"),
)
"""Parts of the admin page; adjudicators see one of them."""

router = APIRouter(include_in_schema=False)


def environment(*, reload: bool = False) -> Environment:
    """The templates: autoescape always, and a name that is not in the context is an error."""
    return Environment(
        loader=PackageLoader("accord.collect.app", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        auto_reload=reload,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(
    request: Request, name: str, *, user: User | None, csrf: str, status: int = 200, context: Mapping[str, Any]
) -> HTMLResponse:
    """A page.

    Args:
        request: the request.
        name: the template.
        user: the person, if known.
        csrf: token of this page.
        status: HTTP status.
        context: what the template needs besides what all get.
    """
    templates: Environment = request.app.state.templates
    shared: dict[str, Any] = {
        "asset": request.app.state.assets.url,
        "csrf": csrf,
        "me": user,
        "user": user,
        "project": settings_of(request).project,
        "version": __version__,
        "nav": _navigation(request, user),
        "title": "Accord",
    }
    return HTMLResponse(templates.get_template(name).render({**shared, **context}), status)


def _navigation(request: Request, user: User | None) -> list[dict[str, Any]]:
    if user is None:
        return []
    found = [("/label", "Label"), ("/guidelines", "Guidelines")] if user.role in LABELLERS else []
    if user.role == "admin":
        found += [("/admin", "Admin")]
    elif user.role == "adjudicator":
        found += [("/admin/adjudication", "Adjudication")]
    here = request.url.path
    return [
        {"href": href, "title": title, "current": here == href or here.startswith(f"{href}/")} for href, title in found
    ]


def error_page(
    request: Request, status: int, detail: ErrorDetail, headers: Mapping[str, str] | None = None
) -> Response:
    """An error for a person."""
    try:
        caller = identify(request)
    except AccordError:
        caller = None
    words = {403: "Not allowed", 404: "Not found", 429: "Too many requests"}
    context = {
        "status": status,
        "title": words.get(status, "That did not work"),
        "detail": detail.message,
        "fix": detail.fix or "",
    }
    user, csrf = (caller.user, caller.csrf) if caller else (None, "")
    try:
        page = render(request, "error.html", user=user, csrf=csrf, status=status, context=context)
    except TemplateNotFound:
        page = HTMLResponse(f"<!doctype html><title>{status}</title><h1>{status}</h1>", status)
    page.headers.update(dict(headers or {}))
    return page


def _form_page(request: Request, name: str, context: Mapping[str, Any], status: int = 200) -> Response:
    """A page with a form for people who are not logged in yet, protected by a cookie of its own."""
    secret = request.cookies.get(cookie_name(request, "form")) or new_form_secret()
    page = render(request, name, user=None, csrf=csrf_token(secret), status=status, context=context)
    set_cookie(request, page, "form", secret)
    return page


def _logged_in(request: Request, user: User, target: str) -> Response:
    """Start a session under a new token, end the one the browser came with, go on."""
    answer = RedirectResponse(target, 303)
    new_session(request, answer, user)
    clear_cookie(request, answer, "form")
    return answer


@router.get("/")
def start(caller: Annotated[Caller, Depends(allow_page(*ANYONE))]) -> Response:
    """Go where this person works."""
    home = {"admin": "/admin", "service": "/guidelines"}
    return RedirectResponse(home.get(caller.user.role, "/label"), 303)


@router.get("/login")
def login_page(request: Request, next: str = "/") -> Response:
    """The form."""
    return _form_page(request, "login.html", {"error": None, "next": local_path(next), "handle": "", "title": "Log in"})


@router.post("/login")
def login(
    request: Request,
    handle: Annotated[str, Form(max_length=200)] = "",
    password: Annotated[str, Form(max_length=1000)] = "",
    csrf: Annotated[str, Form(max_length=200)] = "",
    next: Annotated[str, Form(max_length=2000)] = "/",
) -> Response:
    """Check name and password; the answer does not say which of them was wrong."""
    context = {"next": local_path(next), "handle": handle, "title": "Log in"}
    try:
        check_csrf(request, request.cookies.get(cookie_name(request, "form")), csrf)
        user = passwords.check(request, handle, password)
    except ApiError as error:
        page = _form_page(request, "login.html", {**context, "error": error.what}, error.status)
        page.headers.update(error.headers)
        return page
    if user is None:
        return _form_page(request, "login.html", {**context, "error": "name or password is wrong"}, 401)
    return _logged_in(request, user, local_path(next))


def _invitation(request: Request, token: str) -> people.Invitation:
    """What a link would make; a wrong one counts as a failed attempt of this address.

    Raises:
        ApiError: 404 when the link does not work, 429 after too many that did not.
    """
    passwords.may_try(request)
    invitation = people.read_invitation(store_of(request), token)
    if invitation is None:
        passwords.failed(request)
        raise ApiError(
            404,
            "this invitation is unknown, used, revoked, too old, or replaced by a newer one",
            code="not_found",
            fix="ask for a new one",
        )
    return invitation


@router.get("/join/{token}")
def join_page(request: Request, token: str) -> Response:
    """The form of an invitation, or of the one-time link of the first admin."""
    invitation = _invitation(request, token)
    context = {"error": None, "token": token, "role": invitation.role, "handle": "", "title": "Join"}
    return _form_page(request, "join.html", context)


@router.post("/join/{token}")
def join(
    request: Request,
    token: str,
    handle: Annotated[str, Form(max_length=200)] = "",
    password: Annotated[str, Form(max_length=1000)] = "",
    csrf: Annotated[str, Form(max_length=200)] = "",
    consent: Annotated[str, Form(max_length=20)] = "",
) -> Response:
    """Accept an invitation: the account is made and logged in."""
    invitation = _invitation(request, token)
    context = {"token": token, "role": invitation.role, "handle": handle, "title": "Join"}
    try:
        check_csrf(request, request.cookies.get(cookie_name(request, "form")), csrf)
        if not consent:
            raise ApiError(422, "please confirm that you have read what is stored", code="invalid")
        with passwords.turn(request):
            user = people.accept_invitation(store_of(request), token, handle, password)
    except AccordError as error:
        status = error.status if isinstance(error, ApiError) else 422
        return _form_page(request, "join.html", {**context, "error": error.what}, status)
    return _logged_in(request, user, "/")


@router.post("/logout")
def logout(
    request: Request,
    caller: Annotated[Caller, Depends(allow(*ANYONE, scope="annotate", csrf=False))],
    csrf: Annotated[str, Form(max_length=200)] = "",
) -> Response:
    """End the session on the server, not only in the browser."""
    check_csrf(request, caller.session, csrf or request.headers.get("x-csrf-token"))
    if caller.session:
        people.end_session(store_of(request), caller.session)
    answer = RedirectResponse("/login", 303)
    clear_cookie(request, answer, "session")
    return answer


def _page(request: Request, caller: Caller, name: str, title: str, **context: Any) -> Response:
    return render(request, name, user=caller.user, csrf=caller.csrf, context={"title": title, **context})


@router.get("/label")
def label_page(request: Request, caller: Annotated[Caller, Depends(allow_page(*LABELLERS))]) -> Response:
    """Where people label."""
    return _page(request, caller, "label.html", "Label")


@router.get("/guidelines")
def guidelines_page(request: Request, caller: Annotated[Caller, Depends(allow_page(*ANYONE))]) -> Response:
    """The guidelines on a page of their own."""
    return _page(request, caller, "guidelines.html", "Guidelines")


@router.get("/quiz")
def quiz_page(request: Request, caller: Annotated[Caller, Depends(allow_page(*LABELLERS))]) -> Response:
    """The qualification."""
    return _page(request, caller, "quiz.html", "Qualification")


@router.get("/admin")
def admin_page(request: Request, caller: Annotated[Caller, Depends(allow_page("admin", "adjudicator"))]) -> Response:
    """The section a person starts with."""
    if caller.user.role == "adjudicator":
        return RedirectResponse("/admin/adjudication", 303)
    return _page(request, caller, "admin.html", "Progress", section="progress")


@router.get("/admin/{section}")
def admin_section(
    request: Request, section: str, caller: Annotated[Caller, Depends(allow_page("admin", "adjudicator"))]
) -> Response:
    """One section of the admin page."""
    if section not in SECTIONS:
        raise ApiError(404, "there is no such page", code="not_found")
    if caller.user.role == "adjudicator" and section != "adjudication":
        raise ApiError(403, "adjudicators see the adjudication only", code="not_allowed")
    return _page(request, caller, "admin.html", section.capitalize(), section=section)
