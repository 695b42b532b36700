"""Who may do what: every route of the site for every role, every scope, and nobody. A route without an entry fails."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from typing import Any

import pytest
from collect_site import ROLES, Site, close, make_site

ADMIN = {"admin"}
READERS = {"admin", "service"}
LABEL = {"admin", "adjudicator", "annotator"}
DECIDE = {"admin", "adjudicator"}
ALL = set(ROLES)
PUBLIC = {*ROLES, "nobody"}

API: dict[tuple[str, str], tuple[set[str], str | None]] = {
    ("GET", "/api/v1/openapi.json"): (PUBLIC, None),
    ("GET", "/health/live"): (PUBLIC, None),
    ("GET", "/health/ready"): (PUBLIC, None),
    ("GET", "/api/v1/me"): (ALL, "annotate"),
    ("POST", "/api/v1/me/password"): (LABEL, "annotate"),
    ("POST", "/api/v1/claim"): (LABEL, "annotate"),
    ("POST", "/api/v1/heartbeat"): (LABEL, "annotate"),
    ("POST", "/api/v1/release"): (LABEL, "annotate"),
    ("POST", "/api/v1/submit"): (LABEL, "annotate"),
    ("POST", "/api/v1/skip"): (LABEL, "annotate"),
    ("POST", "/api/v1/undo"): (LABEL, "annotate"),
    ("GET", "/api/v1/guidelines"): (ALL, "read"),
    ("GET", "/api/v1/progress"): (LABEL, "annotate"),
    ("GET", "/api/v1/quiz"): (LABEL, "annotate"),
    ("POST", "/api/v1/quiz"): (LABEL, "annotate"),
    ("GET", "/api/v1/export"): (READERS, "export"),
    ("GET", "/api/v1/admin/projects"): (READERS, "read"),
    ("GET", "/api/v1/admin/progress"): (READERS, "read"),
    ("GET", "/api/v1/admin/agreement"): (READERS, "read"),
    ("GET", "/api/v1/admin/annotators"): (READERS, "read"),
    ("GET", "/api/v1/admin/tasks"): (READERS, "read"),
    ("POST", "/api/v1/admin/tasks"): (READERS, "import"),
    ("POST", "/api/v1/admin/tasks/upload"): (READERS, "import"),
    ("GET", "/api/v1/admin/gold"): (ADMIN, "admin"),
    ("POST", "/api/v1/admin/gold"): (READERS, "import"),
    ("POST", "/api/v1/admin/tasks/close"): (READERS, "import"),
    ("POST", "/api/v1/admin/quiz"): (READERS, "import"),
    ("GET", "/api/v1/admin/guidelines"): (READERS, "read"),
    ("POST", "/api/v1/admin/guidelines"): (READERS, "import"),
    ("GET", "/api/v1/admin/settings"): (READERS, "read"),
    ("POST", "/api/v1/admin/settings"): (ADMIN, "admin"),
    ("GET", "/api/v1/admin/events"): (ADMIN, "admin"),
    ("GET", "/api/v1/admin/verify"): (ADMIN, "admin"),
    ("GET", "/api/v1/admin/users"): (ADMIN, "admin"),
    ("POST", "/api/v1/admin/users"): (ADMIN, "admin"),
    ("POST", "/api/v1/admin/users/{user}/disable"): (ADMIN, "admin"),
    ("POST", "/api/v1/admin/users/{user}/qualify"): (ADMIN, "admin"),
    ("POST", "/api/v1/admin/invitations"): (ADMIN, "admin"),
    ("POST", "/api/v1/admin/invitations/{invitation}/revoke"): (ADMIN, "admin"),
    ("POST", "/api/v1/admin/keys"): (ADMIN, "admin"),
    ("POST", "/api/v1/admin/keys/{key}/revoke"): (ADMIN, "admin"),
    ("GET", "/api/v1/admin/adjudication"): (DECIDE, "annotate"),
    ("POST", "/api/v1/admin/adjudication/{task}"): (DECIDE, "annotate"),
}
"""(method, path) -> roles that may, scope a key needs (None: not even a key)."""

PAGES: dict[tuple[str, str], set[str]] = {
    ("GET", "/"): ALL,
    ("GET", "/login"): PUBLIC,
    ("POST", "/login"): PUBLIC,
    ("GET", "/join/{token}"): PUBLIC,
    ("POST", "/join/{token}"): PUBLIC,
    ("POST", "/logout"): ALL,
    ("GET", "/label"): LABEL,
    ("GET", "/guidelines"): ALL,
    ("GET", "/quiz"): LABEL,
    ("GET", "/admin"): DECIDE,
    ("GET", "/admin/{section}"): DECIDE,
    ("GET", "/static/{digest}/{name:path}"): PUBLIC,
}
BODIES: dict[str, Any] = {
    "/api/v1/claim": {},
    "/api/v1/heartbeat": {"assignment": "none"},
    "/api/v1/release": {"assignment": "none"},
    "/api/v1/admin/users": {"handle": "somebody-new"},
    "/api/v1/admin/invitations": {},
    "/api/v1/admin/guidelines": {"markdown": "# New"},
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Generator[Site]:
    made = make_site(tmp_path_factory.mktemp("access"))
    yield made
    close(made)


def routes(site: Site) -> set[tuple[str, str]]:
    """(method, path) of everything the app answers."""
    found = set()
    for route in flat(site.app.routes):
        found |= {(method, route.path) for method in route.methods - {"HEAD"}}
    return found


def flat(found: Any) -> Iterator[Any]:
    """The routes of routers too."""
    for route in found:
        inner = getattr(route, "original_router", None)
        yield from flat(inner.routes) if inner is not None else [route]


def concrete(path: str) -> str:
    """The path with something in the place of its parameters."""
    values = {"section": "adjudication", "digest": "0", "name:path": "x.js"}
    return re.sub(r"\{([^}]+)\}", lambda m: values.get(m[1], "none"), path)


def ask(client: Any, method: str, path: str) -> Any:
    """Send a request that is well-formed as far as its route can be met without real ids."""
    if method == "GET":
        return client.get(concrete(path))
    return client.post(concrete(path), json=BODIES.get(path, {}))


def test_every_route_has_an_entry(site: Site) -> None:
    assert routes(site) == API.keys() | PAGES.keys()


@pytest.mark.parametrize("who", [*ROLES, "nobody"])
@pytest.mark.parametrize(("method", "path"), sorted(API))
def test_api_routes_let_in_exactly_who_may(site: Site, method: str, path: str, who: str) -> None:
    answer = ask(site.client(None if who == "nobody" else who), method, path)
    assert answer.status_code < 500
    roles, _ = API[method, path]
    if who in roles:
        assert answer.status_code not in (401, 403), answer.text
    else:
        assert answer.status_code == (401 if who == "nobody" else 403)
        assert answer.json()["error"]["code"] in ("unauthenticated", "not_allowed")


@pytest.mark.parametrize("scope", ["annotate", "read", "export", "import", "admin"])
@pytest.mark.parametrize(("method", "path"), sorted(k for k, v in API.items() if v[1]))
def test_keys_do_what_their_scope_names_and_no_more(site: Site, method: str, path: str, scope: str) -> None:
    answer = ask(site.key("admin", scope), method, path)
    if scope == API[method, path][1]:
        refused = answer.status_code == 403 and answer.json()["error"]["code"] == "scope"
        assert answer.status_code != 401 and not refused
    else:
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "scope")


def test_a_key_never_does_more_than_its_owners_role(site: Site) -> None:
    client = site.key("annotator", "annotate", "read", "export", "import", "admin")
    for (method, path), (roles, _) in API.items():
        if "annotator" not in roles:
            assert ask(client, method, path).status_code == 403, path


@pytest.mark.parametrize("who", [*ROLES, "nobody"])
@pytest.mark.parametrize(("method", "path"), sorted(PAGES))
def test_pages_let_in_exactly_who_may(site: Site, method: str, path: str, who: str) -> None:
    if path == "/logout":
        return  # ends the session; see the test of sessions
    client = site.client(None if who == "nobody" else who)
    answer = client.request(method, concrete(path), headers={"Accept": "text/html"})
    to_login = answer.status_code == 303 and answer.headers["location"].startswith("/login")
    if who in PAGES[method, path]:
        assert not to_login and (answer.status_code != 403 or (method, path) == ("POST", "/login"))
    elif who == "nobody":
        assert to_login
    else:
        assert answer.status_code == 403


def test_adjudicators_see_one_section_of_the_admin_page(site: Site) -> None:
    client = site.client("adjudicator")
    assert client.get("/admin/adjudication").status_code == 200
    assert client.get("/admin/people").status_code == 403
    assert client.get("/admin").headers["location"] == "/admin/adjudication"


def test_a_disabled_person_is_out_at_once_with_session_and_key(site: Site) -> None:
    client, admin = site.person("leaver"), site.client("admin")
    key = site.key("leaver", "annotate")
    assert client.get("/api/v1/me").status_code == key.get("/api/v1/me").status_code == 200
    user = site.users["leaver"].id
    assert admin.post(f"/api/v1/admin/users/{user}/disable", json={"disabled": True}).status_code == 200
    assert client.get("/api/v1/me").status_code == key.get("/api/v1/me").status_code == 401
    assert admin.post(f"/api/v1/admin/users/{user}/disable", json={"disabled": False}).status_code == 200
    assert key.get("/api/v1/me").status_code == 200


def test_the_last_admin_cannot_be_disabled(site: Site) -> None:
    user = site.users["admin"].id
    answer = site.client("admin").post(f"/api/v1/admin/users/{user}/disable", json={})
    assert answer.status_code == 409


def test_revoked_and_unknown_keys_are_refused(site: Site) -> None:
    admin = site.client("admin")
    body = {"handle": "the-service", "scopes": ["read"]}
    made = admin.post("/api/v1/admin/keys", json=body).json()
    headers = {"Authorization": f"Bearer {made['secret']}"}
    nobody = site.client()
    assert nobody.get("/api/v1/admin/progress", headers=headers).status_code == 200
    listed = admin.get("/api/v1/admin/users").json()["keys"]
    assert made["secret"] not in str(listed) and made["prefix"] in str(listed)
    assert admin.post(f"/api/v1/admin/keys/{made['id']}/revoke", json={}).status_code == 200
    assert nobody.get("/api/v1/admin/progress", headers=headers).status_code == 401
    for secret in ("", "x", "acc_000000000000_" + "a" * 43, made["secret"][:-1] + "!", "\x00"):
        answer = nobody.get("/api/v1/admin/progress", headers={"Authorization": f"Bearer {secret}".encode()})
        assert answer.status_code in (400, 401)
