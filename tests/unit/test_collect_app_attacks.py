"""Attacks that must fail: guessing, forged requests, planted sessions, bodies meant to break things."""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import Any

import pytest
from collect_site import PASSWORD, Site, close, make_site, new_task, submission
from sqlalchemy import func, select

from accord.collect import people
from accord.collect.app import AppSettings
from accord.collect.app.settings import Rate
from accord.collect.schema import AnnotationRow, UserRow

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)> ${7*7} {{7*7}} ' OR 1=1 --"
INJECTIONS = ("' OR '1'='1", "'; DROP TABLE task; --", "1 UNION SELECT password_hash FROM user", '" OR ""="', "%", "\\")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Generator[Site]:
    made = make_site(tmp_path_factory.mktemp("attacks"), items=[new_task(n) for n in range(40)])
    made.users["known"] = people.create_user(made.store, "known", "annotator", password=PASSWORD)
    yield made
    close(made)


def form(client: Any, page: str = "/login") -> str:
    """The CSRF token of a form page, which also sets its cookie."""
    answer = client.get(page)
    found = re.search(r'name="csrf"[^>]*value="([0-9a-f]{64})"', answer.text)
    assert found, answer.text
    return found[1]


def log_in(client: Any, handle: str = "known", password: str = PASSWORD, **more: Any) -> Any:
    body = {"handle": handle, "password": password, "csrf": form(client), **more}
    return client.post("/login", data=body)


# Forged requests


def test_a_change_needs_the_token_of_its_session(site: Site) -> None:
    client = site.client("annotator")
    good = client.headers["X-CSRF-Token"]
    other = people.csrf_token(people.start_session(site.store, site.users["admin"].id))
    for token in ("", "0" * 64, good[:-1], other, good.upper(), "\u00e9".encode()):
        answer = client.post("/api/v1/claim", json={}, headers={"X-CSRF-Token": token})
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "csrf")
    assert client.post("/api/v1/claim", json={}).status_code == 200


def test_another_site_cannot_send_requests_even_with_the_token(site: Site) -> None:
    client = site.client("annotator")
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://testserver.evil.example"},
        {"Origin": "http://["},
        {"Referer": "https://evil.example/testserver"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ):
        answer = client.post("/api/v1/claim", json={}, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "csrf"), headers
    same = {"Origin": "http://testserver", "Sec-Fetch-Site": "same-origin"}
    assert client.post("/api/v1/claim", json={}, headers=same).status_code == 200


def test_login_and_logout_cannot_be_forged(site: Site) -> None:
    client = site.client()
    body = {"handle": "known", "password": PASSWORD}
    assert client.post("/login", data=body).status_code == 403
    token = form(client)
    assert client.post("/login", data={**body, "csrf": token[:-1] + "x"}).status_code == 403
    stranger = site.client()
    stranger.get("/login")
    assert stranger.post("/login", data={**body, "csrf": token}).status_code == 403
    assert (
        client.post("/login", data={**body, "csrf": token}, headers={"Origin": "https://evil.example"}).status_code
        == 403
    )
    assert client.post("/login", data={**body, "csrf": token}).status_code == 303
    assert client.post("/logout", data={"csrf": "0" * 64}).status_code == 403
    assert client.get("/api/v1/me").status_code == 200
    csrf = client.get("/api/v1/me").json()["csrf"]
    assert client.post("/logout", data={"csrf": csrf}).status_code == 303


def test_a_beacon_releases_with_the_token_in_its_body(site: Site) -> None:
    client = site.person("beacon")
    token = client.headers.pop("X-CSRF-Token")
    task = client.post("/api/v1/claim", json={}, headers={"X-CSRF-Token": token}).json()["assignment"]
    assert client.post("/api/v1/release", json={"assignment": task}).status_code == 403
    assert client.post("/api/v1/release", json={"assignment": task, "csrf": token}).status_code == 200


# Sessions


def test_a_planted_session_is_not_adopted(site: Site) -> None:
    victim = site.client()
    planted = people.start_session(site.store, site.users["annotator"].id)
    victim.cookies.set("accord_session", planted)
    answer = log_in(victim)
    assert answer.status_code == 303
    fresh = answer.cookies["accord_session"]
    assert fresh != planted
    assert people.session_user(site.store, planted) is None
    assert people.session_user(site.store, fresh).handle == "known"
    for invented in ("abc", "../../etc/passwd", fresh[:-1], "'; --"):
        stranger = site.client()
        stranger.cookies.set("accord_session", invented)
        assert stranger.get("/api/v1/me").status_code == 401


def test_logout_ends_the_session_on_the_server(site: Site) -> None:
    client = site.client()
    token = log_in(client).cookies["accord_session"]
    csrf = client.get("/api/v1/me").json()["csrf"]
    assert client.post("/logout", data={"csrf": csrf}).status_code == 303
    again = site.client()
    again.cookies.set("accord_session", token)
    assert again.get("/api/v1/me").status_code == 401


def test_a_new_password_ends_every_other_session(site: Site) -> None:
    people.create_user(site.store, "changer", "annotator", password=PASSWORD)
    one, two = site.client(), site.client()
    assert log_in(one, "changer").status_code == log_in(two, "changer").status_code == 303
    csrf = one.get("/api/v1/me").json()["csrf"]
    body = {"old": "wrong password here", "new": "another long password"}
    assert one.post("/api/v1/me/password", json=body, headers={"X-CSRF-Token": csrf}).status_code == 403
    body["old"] = PASSWORD
    changed = one.post("/api/v1/me/password", json=body, headers={"X-CSRF-Token": csrf})
    assert changed.status_code == 200
    assert one.get("/api/v1/me").json()["csrf"] == changed.json()["csrf"] != csrf
    assert two.get("/api/v1/me").status_code == 401
    assert log_in(site.client(), "changer").status_code == 401
    assert log_in(site.client(), "changer", "another long password").status_code == 303


def test_cookies_are_hidden_from_scripts_and_kept_to_https_where_there_is_https(site: Site) -> None:
    plain = log_in(site.client()).headers["set-cookie"]
    assert "HttpOnly" in plain and "SameSite=lax" in plain and "Secure" not in plain
    secure = site.client(base_url="https://labels.example")
    secure.get("/login")
    answer = log_in(secure)
    assert "__Host-accord_session=" in answer.headers["set-cookie"] and "Secure" in answer.headers["set-cookie"]
    assert "max-age" in answer.headers["strict-transport-security"]
    assert secure.get("/api/v1/me").status_code == 200


@pytest.mark.parametrize(
    "target",
    ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)", "/%0d%0aX: 1\r\nY: 2"],
)
def test_the_login_sends_nobody_to_another_site(site: Site, target: str) -> None:
    answer = log_in(site.client(), next=target)
    assert answer.status_code == 303
    assert answer.headers["location"] in ("/", "/%0d%0aX: 1") or answer.headers["location"] == "/"
    assert "Y" not in answer.headers


# Guessing


def test_guessing_a_password_is_stopped_for_the_name_and_for_the_address(tmp_path: Any) -> None:
    settings = AppSettings(
        logins_per_name=Rate(burst=4, per_second=0.001), logins_per_address=Rate(burst=7, per_second=0.001)
    )
    site = make_site(tmp_path, settings=settings)
    people.create_user(site.store, "target", "admin", password=PASSWORD)
    client = site.client()
    token = form(client)

    def guess(handle: str, password: str) -> int:
        answer = client.post("/login", data={"handle": handle, "password": password, "csrf": token})
        if answer.status_code == 429:
            assert int(answer.headers["Retry-After"]) >= 1
        return answer.status_code

    assert [guess("target", f"wrong {n}") for n in range(5)] == [401, 401, 401, 401, 429]
    assert guess("TARGET ", PASSWORD) == 429  # not even the right one, and no other spelling
    assert [guess(f"other-{n}", "x") for n in range(4)] == [401, 401, 401, 429]
    assert guess("nobody-at-all", "x") == 429
    for _ in range(3):
        assert client.get("/join/guessed").status_code == 429
        answer = client.get("/api/v1/me", headers={"Authorization": "Bearer acc_000000000000_" + "a" * 43})
        assert answer.status_code == 429
    close(site)


def test_a_login_says_the_same_whether_the_name_or_the_password_is_wrong(site: Site) -> None:
    unknown, wrong = log_in(site.client(), "nobody-here"), log_in(site.client(), "known", "wrong")
    assert unknown.status_code == wrong.status_code == 401
    strip = re.compile(r'[0-9a-f]{64}|value="[^"]*"')
    assert strip.sub("", unknown.text) == strip.sub("", wrong.text)


def test_an_invitation_works_once_and_tokens_cannot_be_guessed(site: Site) -> None:
    token = people.invite(site.store, "annotator")
    client, late = site.client(), site.client()
    page = f"/join/{token}"
    body = {"handle": "joiner", "password": PASSWORD, "consent": "on"}
    late_csrf = form(late, page)
    assert client.post(page, data={**body, "csrf": "0" * 64}).status_code == 403
    assert client.post(page, data={**body, "csrf": form(client, page), "password": "short"}).status_code == 422
    assert client.post(page, data={**body, "csrf": form(client, page), "consent": ""}).status_code == 422
    joined = client.post(page, data={**body, "csrf": form(client, page)})
    assert joined.status_code == 303
    assert client.get("/api/v1/me").json()["role"] == "annotator"
    assert late.post(page, data={**body, "handle": "second", "csrf": late_csrf}).status_code == 404
    for wrong in (token[:-1], token + "x", "%27%20OR%201=1", "..%2f..%2fadmin"):
        assert site.client().get(f"/join/{wrong}").status_code == 404


def test_too_many_requests_of_one_person_wait_and_others_do_not(tmp_path: Any) -> None:
    site = make_site(tmp_path, settings=AppSettings(per_caller=Rate(burst=5, per_second=0.01)))
    first, second = site.client("annotator"), site.client("adjudicator")
    assert [first.get("/api/v1/me").status_code for _ in range(6)] == [200] * 5 + [429]
    refused = first.get("/api/v1/me")
    assert int(refused.headers["Retry-After"]) > 10 and refused.json()["error"]["code"] == "too_many"
    assert second.get("/api/v1/me").status_code == 200
    close(site)


def test_too_many_requests_from_one_address_wait(tmp_path: Any) -> None:
    site = make_site(tmp_path, settings=AppSettings(per_address=Rate(burst=3, per_second=0.01)))
    client = site.client()
    assert [client.get("/health/live").status_code for _ in range(4)] == [200, 200, 200, 429]
    close(site)


# Bodies and addresses


@pytest.mark.parametrize(
    "body", [b"{", b"\xff\xfe", b"[]", b'"x"', b"null", b"", b"{}" * 1000, b'{"assignment": 1e999}', b"[" * 5000]
)
def test_malformed_json_is_a_clear_refusal(site: Site, body: bytes) -> None:
    answer = site.client("annotator").post("/api/v1/submit", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)
    assert set(answer.json()["error"]) == {"message", "where", "fix", "code"}


def test_a_body_may_not_be_too_large_whether_it_says_so_or_not(tmp_path: Any) -> None:
    site = make_site(tmp_path, settings=AppSettings(max_body=2000, max_upload=5000))
    client = site.client("admin")
    json_type = {"Content-Type": "application/json"}

    def drip(size: int) -> Generator[bytes]:
        for _ in range(size // 500):
            yield b" " * 500

    for path in ("/api/v1/submit", "/api/v1/admin/tasks", "/login", "/nowhere"):
        assert client.post(path, content=b" " * 3000, headers=json_type).status_code == 413
    for path in ("/api/v1/submit", "/api/v1/admin/tasks/upload?name=x.jsonl"):
        assert client.post(path, content=drip(8000), headers=json_type).status_code == 413, path
    assert client.post("/login", data={"handle": "x" * 3000}).status_code == 413
    assert site.client().post("/api/v1/admin/tasks/upload", content=b" " * 4000).status_code == 401
    lie = {**json_type, "Content-Length": "-5"}
    assert client.post("/api/v1/submit", content=b"{}", headers=lie).status_code in (400, 422)
    close(site)


@pytest.mark.parametrize(
    "name",
    [
        "../settings.py",
        "..%2f..%2fsettings.py",
        "%2e%2e/answers.py",
        "/etc/passwd",
        "....//x.js",
        "api.js%00.txt",
        "..\\settings.py",
        "C:\\x.js",
    ],
)
def test_static_files_are_only_those_that_ship(site: Site, name: str) -> None:
    digest = site.app.state.assets.digest
    answer = site.client().get(f"/static/{digest}/{name}")
    assert answer.status_code == 404
    assert "import" not in answer.text


def test_static_files_are_kept_for_ever_under_the_hash_of_their_content(site: Site) -> None:
    assets, client = site.app.state.assets, site.client()
    for name, content in assets.files().items():
        answer = client.get(assets.url(name))
        assert answer.content == content and "immutable" in answer.headers["cache-control"]
        assert client.get(f"/static/{'0' * 16}/{name}").status_code == 404
    with pytest.raises(KeyError):
        assets.url("nothing.js")


@pytest.mark.parametrize("text", INJECTIONS)
def test_sql_in_any_field_is_only_text(site: Site, text: str) -> None:
    admin, annotator = site.client("admin"), site.client("annotator")
    with site.store.read() as session:
        before = session.scalar(select(func.count()).select_from(UserRow))
    assert log_in(site.client(), text, text).status_code == 401
    for path in ("progress", "annotators", "tasks", "gold", "agreement", "settings", "guidelines", "adjudication"):
        assert admin.get(f"/api/v1/admin/{path}", params={"project": text}).status_code in (404, 422)
    assert admin.get("/api/v1/admin/events", params={"verb": text, "actor": text}).json()["events"] == []
    assert admin.get("/api/v1/admin/tasks", params={"after": text}).status_code < 500
    for path, body in (
        ("/api/v1/claim", {"project": text}),
        ("/api/v1/heartbeat", {"assignment": text}),
        ("/api/v1/release", {"assignment": text}),
        ("/api/v1/skip", {"assignment": text, "key": text + "12345678", "reason": "other"}),
    ):
        assert annotator.post(path, json=body).status_code in (404, 422), path
    assert admin.post("/api/v1/admin/users", json={"handle": text}).status_code == 422
    with site.store.read() as session:
        assert session.scalar(select(func.count()).select_from(UserRow)) == before


def test_hostile_text_comes_back_as_data_never_as_markup(tmp_path: Any) -> None:
    item = new_task(0)
    item = item.model_copy(
        update={
            "candidates": tuple(c.model_copy(update={"text": f"{HOSTILE} {i}"}) for i, c in enumerate(item.candidates))
        }
    )
    site = make_site(tmp_path, items=[item])
    admin, annotator = site.client("admin"), site.client("annotator")
    site.client("admin").post("/api/v1/admin/guidelines", json={"markdown": HOSTILE})
    task = annotator.post("/api/v1/claim", json={})
    assert task.headers["content-type"] == "application/json"
    assert {c["text"][:-2] for c in task.json()["candidates"]} == {HOSTILE}
    assert annotator.post("/api/v1/submit", json=submission(task.json(), rationale=HOSTILE)).status_code == 200
    assert annotator.get("/api/v1/guidelines").json()["markdown"] == HOSTILE
    for client in (admin, annotator):
        for page in ("/label", "/guidelines", "/quiz", "/admin", "/admin/audit", "/admin/gold", "/admin/guidelines"):
            text = client.get(page, headers={"Accept": "text/html"}).text
            assert "alert(1)" not in text
    page = log_in(site.client(), HOSTILE, "x").text
    assert "<script>alert" not in page and "&lt;script&gt;alert" in page
    page = site.client().get("/login", params={"next": '/"><script>alert(1)</script>'}).text
    assert "<script>alert" not in page
    missing = site.client("annotator").get("/<script>alert(1)</script>", headers={"Accept": "text/html"})
    assert missing.status_code == 404 and "<script>alert" not in missing.text
    close(site)


def test_header_injection_finds_no_header(site: Site) -> None:
    client = site.client()
    for path in ("/label%0d%0aSet-Cookie:%20x=1", "/login?next=/%0d%0aSet-Cookie:%20x=1", "/join/%0d%0aX-Y:1"):
        answer = client.get(path, headers={"Accept": "text/html"})
        assert "x=1" not in answer.headers.get("set-cookie", "") and "x-y" not in answer.headers


def test_headers_are_strict_on_every_kind_of_answer(site: Site) -> None:
    client = site.client("admin")
    pages = ["/login", "/label", "/admin/people", "/api/v1/me", "/api/v1/openapi.json", "/nowhere", "/health/live"]
    for path in [*pages, "/api/v1/admin/progress?project=none", "/static/0/x"]:
        headers = client.get(path, headers={"Accept": "text/html"}).headers
        policy = headers["content-security-policy"]
        assert "default-src 'self'" in policy and "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy and "data:" not in policy and "*" not in policy
        assert headers["x-content-type-options"] == "nosniff" and headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "same-origin" and "no-store" in headers["cache-control"]


def test_pages_have_nothing_inline(site: Site) -> None:
    client = site.client("admin")
    for page in ("/login", "/label", "/guidelines", "/quiz", "/admin", "/admin/people", "/nowhere"):
        text = client.get(page, headers={"Accept": "text/html"}).text
        assert not re.search(r"<script(?![^>]*\bsrc=)", text), page
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", text), page


def test_nobody_submits_for_somebody_else(site: Site) -> None:
    mine, other = site.person("victim"), site.person("thief")
    task = mine.post("/api/v1/claim", json={}).json()
    stolen = submission(task)
    assert other.post("/api/v1/submit", json=stolen).status_code in (403, 404)
    for path in ("heartbeat", "release"):
        assert other.post(f"/api/v1/{path}", json={"assignment": task["assignment"]}).status_code in (403, 404)
    skip = {"assignment": task["assignment"], "key": "12345678", "reason": "other"}
    assert other.post("/api/v1/skip", json=skip).status_code in (403, 404)
    assert mine.post("/api/v1/submit", json=stolen).status_code == 200
    with site.store.read() as session:
        rows = session.scalars(select(AnnotationRow).where(AnnotationRow.assignment_id == task["assignment"])).all()
    assert [row.annotator_id for row in rows] == [site.users["victim"].id]
