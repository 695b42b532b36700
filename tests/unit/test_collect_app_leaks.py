"""Blindness: nothing an annotator can fetch names a model, a gold answer, a response id or what others said."""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import Any

import pytest
from collect_site import SECRET_MODELS, Site, close, make_site, new_task, submission
from sqlalchemy import select

from accord.collect import people
from accord.collect.records import ProjectSettings, QuizRule
from accord.collect.schema import AnnotationRow, ProjectRow, ResponseRow, TaskRow

RATIONALE = "zz-what-somebody-else-wrote"
GOLD_NOTE = "zz-why-the-gold-answer-is-right"
PAGES = ("/", "/label", "/guidelines", "/quiz")
ADMIN_ONLY = ("/admin", "/admin/progress", "/admin/gold", "/admin/adjudication")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Generator[Site]:
    gold = {"kind": "pair", "position": 1, "rationale": GOLD_NOTE}
    items = [new_task(n, meta={"note": "zz-meta-of-task"}, tags=("zz-tag",)) for n in range(6)]
    items += [new_task(n, kind="rank", replies=4) for n in range(6, 9)]
    items += [new_task(n, kind="edit", replies=1) for n in range(9, 11)]
    items += [new_task(n, gold=gold) for n in range(20, 26)]
    rules = ProjectSettings(
        overlap=2, slice_overlap=2, escalate_overlap=3, random_slice=1.0, gold_rate=0.5, gold_rate_new=0.5,
        repeat_rate=0.2, repeat_after=1, min_seen=False, gate="off", quiz_pass=QuizRule(items=2),
    )  # fmt: skip
    made = make_site(tmp_path_factory.mktemp("leaks"), items=items, rules=rules)
    yield made
    close(made)


def secrets_of(site: Site, who: str) -> dict[str, str]:
    """Text that must not appear -> what it is."""
    found = {name: "a model" for name in SECRET_MODELS}
    found |= {RATIONALE: "a rationale", GOLD_NOTE: "a gold answer", "zz-meta-of-task": "meta", "zz-tag": "a tag"}
    with site.store.read() as session:
        found |= {i: "a response id" for i in session.scalars(select(ResponseRow.id))}
        found |= {i: "a task id" for i in session.scalars(select(TaskRow.id))}
        found |= {str(n): "the seed of the draws" for n in session.scalars(select(ProjectRow.seed))}
        mine = site.users[who].id
        others = session.execute(select(AnnotationRow.id).where(AnnotationRow.annotator_id != mine))
        found |= {row.id: "somebody's annotation" for row in others}
    for user in people.list_users(site.store):
        if user.id != site.users[who].id:
            found |= {user.handle: "a person", user.pseudonym: "a pseudonym", user.id: "a user id"}
    return found


def answer_for(task: dict[str, Any], rationale: str) -> dict[str, Any]:
    """Any valid verdict."""
    if task["kind"] == "pair":
        return submission(task, rationale=rationale)
    if task["kind"] == "rank":
        return submission(task, kind="rank", ranking=[[c["position"]] for c in task["candidates"]], rationale=rationale)
    if task["kind"] == "edit":
        return submission(task, kind="edit", edit=f"{rationale} edited", edit_position=0)
    return submission(task, kind="rate", ratings=[4] * len(task["candidates"]), rationale=rationale)


def label_all(client: Any, rationale: str, seen: list[Any]) -> list[dict[str, Any]]:
    """Everything there is for a person, keeping every answer of the server."""
    tasks = []
    for _ in range(40):
        claimed = client.post("/api/v1/claim", json={})
        seen.append(claimed)
        if claimed.status_code == 204:
            break
        tasks.append(claimed.json())
        seen.append(client.post("/api/v1/submit", json=answer_for(tasks[-1], rationale)))
        assert seen[-1].status_code == 200, seen[-1].text
    return tasks


def test_crawling_everything_an_annotator_can_reach_gives_nothing_away(site: Site) -> None:
    first = site.person("zz-first-annotator", groups=("zz-group",))
    people.update_user(site.store, site.users["zz-first-annotator"].id, actor="system", qualified=True)
    assert len(label_all(first, RATIONALE, [])) > 8

    me = site.person("crawler")
    people.update_user(site.store, site.users["crawler"].id, actor="system", qualified=True)
    seen: list[Any] = []
    tasks = label_all(me, "mine", seen)
    assert {t["kind"] for t in tasks} == {"pair", "rank", "edit"}
    seen.append(me.post("/api/v1/undo", json={}))
    again = seen[-1].json()
    assert again["previous"] is not None
    seen.append(me.post("/api/v1/heartbeat", json={"assignment": again["assignment"]}))
    seen.append(me.post("/api/v1/submit", json=answer_for(again, "mine again")))
    skip = {"assignment": tasks[0]["assignment"], "key": "skip-key-1", "reason": "other"}
    seen += [
        me.post("/api/v1/skip", json=skip),
        me.post("/api/v1/release", json={"assignment": tasks[0]["assignment"]}),
    ]
    seen += [me.get(f"/api/v1/{name}") for name in ("me", "progress", "guidelines", "quiz", "openapi.json")]
    seen += [me.get(page, headers={"Accept": "text/html"}) for page in (*PAGES, *ADMIN_ONLY, "/nowhere")]
    seen += [me.get(f"/api/v1/admin/{name}") for name in ("progress", "gold", "tasks", "annotators", "events", "users")]
    seen += [me.get("/api/v1/export", params={"kind": "annotations", "format": "jsonl"})]
    assert all(answer.status_code < 500 for answer in seen)
    secrets = secrets_of(site, "crawler")
    for answer in seen:
        text = answer.text + json.dumps(dict(answer.headers))
        leaks = {name: what for name, what in secrets.items() if name in text}
        assert leaks == {}, f"{answer.request.method} {answer.request.url} gives away {leaks}"


def test_a_task_says_nothing_that_tells_gold_and_repeats_from_ordinary_ones(site: Site) -> None:
    client = site.person("watcher")
    people.update_user(site.store, site.users["watcher"].id, actor="system", qualified=True)
    seen: list[Any] = []
    tasks = label_all(client, "mine", seen)
    with site.store.read() as session:
        lanes = set(session.scalars(select(TaskRow.lane)))
    assert {"queue", "gold"} <= lanes
    shapes = {tuple(sorted(t)) for t in tasks if t["kind"] == "pair"}
    assert len(shapes) == 1
    assert shapes.pop() == (
        "assignment", "can_undo", "candidates", "flags", "guideline", "kind", "lease_expires_at", "messages",
        "previous", "progress", "purpose", "require", "scale",
    )  # fmt: skip
    assert {t["purpose"] for t in tasks} == {"label"}
    assert all(set(c) == {"position", "text"} for t in tasks for c in t["candidates"])
    answers = [a.json() for a in seen if a.request.url.path == "/api/v1/submit"]
    assert {tuple(sorted(a)) for a in answers} == {("annotation", "extra", "progress", "repeated")}


def test_a_program_with_a_service_key_sees_numbers_and_pseudonyms_but_no_gold(site: Site) -> None:
    key = site.key("service", "read", "export", "import", "annotate", "admin")
    assert key.get("/api/v1/admin/gold").status_code == 403
    tasks = key.get("/api/v1/admin/tasks").text
    assert GOLD_NOTE not in tasks
