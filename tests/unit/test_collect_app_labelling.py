"""Labelling over HTTP: claim, submit, undo, skip, leases, idempotency, guidelines, quiz, adjudication."""

from __future__ import annotations

from collections.abc import Generator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from collect_site import Site, close, make_site, new_task, submission
from sqlalchemy import select

from accord.collect.database import Store
from accord.collect.failures import Busy
from accord.collect.projects import ensure_project
from accord.collect.records import NewTask, ProjectSettings
from accord.collect.schema import AnnotationRow, AssignmentRow
from accord.collect.tasks import add_tasks
from accord.types import Candidate, Message, Prompt


@pytest.fixture
def site(tmp_path: Path, store_url: str) -> Generator[Site]:
    made = make_site(tmp_path, url=store_url)
    yield made
    close(made)


def claim(client: Any, **body: Any) -> Any:
    answer = client.post("/api/v1/claim", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_label_arrives_once_however_often_it_is_sent(site: Site) -> None:
    client = site.client("annotator")
    task = claim(client)
    body = submission(task)
    first, again = (client.post("/api/v1/submit", json=body).json() for _ in range(2))
    assert (first["repeated"], again["repeated"]) == (False, True)
    assert first["annotation"] == again["annotation"]
    assert first["progress"]["done"] == again["progress"]["done"] == 1
    other = {**body, "verdict": {**body["verdict"], "position": 1}}
    conflict = client.post("/api/v1/submit", json=other)
    assert (conflict.status_code, conflict.json()["error"]["code"]) == (409, "conflict")
    with site.store.read() as session:
        assert len(session.scalars(select(AnnotationRow)).all()) == 1


def test_positions_become_candidates_with_the_order_that_was_shown(site: Site) -> None:
    client = site.client("annotator")
    orders = set()
    for position in (0, 1) * 6:
        task = claim(client)
        done = client.post("/api/v1/submit", json=submission(task, position=position)).json()
        with site.store.read() as session:
            row = session.get(AnnotationRow, done["annotation"])
            shown = session.get(AssignmentRow, task["assignment"]).shown_order
        orders.add(tuple(shown))
        assert row.choice == shown[position]
        chosen = task["candidates"][position]["text"]
        assert f".{row.choice} " in chosen
    assert len(orders) == 2


def test_the_next_task_is_held_beside_the_current_one_and_no_third(site: Site) -> None:
    client = site.client("annotator")
    first = claim(client)
    second = claim(client, prefetch=True)
    assert first["assignment"] != second["assignment"]
    third = client.post("/api/v1/claim?prefetch=1", json={})
    assert third.status_code in (200, 204, 429)
    with site.store.read() as session:
        assert len(session.scalars(select(AssignmentRow).where(AssignmentRow.state == "open")).all()) == 2
    for task in (second, first):
        assert client.post("/api/v1/submit", json=submission(task)).status_code == 200


def test_nothing_left_is_204_with_a_time_to_come_back(tmp_path: Path) -> None:
    site = make_site(tmp_path, items=[new_task(0)])
    client = site.client("annotator")
    client.post("/api/v1/submit", json=submission(claim(client)))
    answer = client.post("/api/v1/claim", json={})
    assert (answer.status_code, answer.content) == (204, b"")
    assert int(answer.headers["Retry-After"]) >= 1
    close(site)


def test_undo_opens_the_last_label_and_the_new_one_supersedes_it(site: Site) -> None:
    client = site.client("annotator")
    task = claim(client)
    first = client.post("/api/v1/submit", json=submission(task, position=0, strength=3)).json()
    again = client.post("/api/v1/undo", json={}).json()
    assert again["assignment"] == task["assignment"]
    assert again["candidates"] == task["candidates"]
    assert (again["previous"]["position"], again["previous"]["strength"]) == (0, 3)
    second = client.post("/api/v1/submit", json=submission(again, position=1)).json()
    with site.store.read() as session:
        row = session.get(AnnotationRow, second["annotation"])
    assert row.supersedes_id == first["annotation"]
    assert second["progress"]["done"] == 1


def test_undo_without_a_label_is_refused_with_words(site: Site) -> None:
    answer = site.client("annotator").post("/api/v1/undo", json={})
    assert answer.status_code in (404, 409) and answer.json()["error"]["message"]


def test_skipped_and_released_tasks_go_to_somebody_else(tmp_path: Path) -> None:
    site = make_site(tmp_path, items=[new_task(0)])
    first, second = site.client("annotator"), site.client("adjudicator")
    task = claim(first)
    assert second.post("/api/v1/claim", json={}).status_code == 204
    assert first.post("/api/v1/release", json={"assignment": task["assignment"]}).status_code == 200
    task = claim(second)
    body = {"assignment": task["assignment"], "key": "skip-0001", "reason": "unclear", "comment": "?"}
    assert second.post("/api/v1/skip", json=body).status_code == 200
    skipped = second.post("/api/v1/skip", json=body)
    assert skipped.status_code == 200
    assert skipped.json()["progress"]["remaining"] == 0 and skipped.json()["progress"]["done"] == 0
    assert second.post("/api/v1/claim", json={}).status_code == 204
    assert claim(first)["candidates"]
    assert second.post("/api/v1/skip", json={**body, "reason": "bored"}).status_code == 422
    close(site)


def test_a_locked_database_says_come_back(site: Site, monkeypatch: Any) -> None:
    def locked(*_: Any) -> None:
        raise Busy("the database is too busy", fix="nothing was stored; send it again")

    me = site.client("annotator")
    task = claim(me)
    monkeypatch.setattr(Store, "transact", locked)
    answer = me.post("/api/v1/skip", json={"assignment": task["assignment"], "key": "skip-0001", "reason": "unclear"})
    assert answer.status_code == 503 and answer.headers["retry-after"] == "5"
    assert answer.json()["error"]["code"] == "unavailable"


def test_a_lease_that_ran_out_returns_the_task_and_a_late_label_is_kept(tmp_path: Path, monkeypatch: Any) -> None:
    site = make_site(tmp_path, items=[new_task(0)])
    slow, quick = site.client("annotator"), site.client("adjudicator")
    task = claim(slow)
    assert slow.post("/api/v1/heartbeat", json={"assignment": task["assignment"]}).status_code == 200
    with site.store.write() as session:
        row = session.get(AssignmentRow, task["assignment"])
        row.lease_expires_at = row.lease_expires_at - timedelta(hours=2)
        session.flush()
    other = claim(quick)
    assert quick.post("/api/v1/submit", json=submission(other)).json()["extra"] is False
    late = slow.post("/api/v1/submit", json=submission(task))
    assert late.status_code == 200 and late.json()["extra"] is True
    close(site)


@pytest.mark.parametrize(
    "verdict",
    [
        {"position": 2},
        {"position": -1},
        {"position": None},
        {"tie": True},
        {"strength": 4},
        {"kind": "rank", "ranking": [[0]]},
        {"flags": {"7": ["sexual"]}},
        {"flags": {"0": ["no such flag"]}},
        {"rationale": "x" * 4001},
        {"confidence": 0},
        {"edit": "text"},
        {"extra_field": 1},
        {"rationale": "\x00"},
    ],
)
def test_verdicts_that_make_no_sense_are_refused_by_name(site: Site, verdict: dict[str, Any]) -> None:
    client = site.client("annotator")
    answer = client.post("/api/v1/submit", json=submission(claim(client), **verdict))
    assert answer.status_code == 422
    assert answer.json()["error"]["message"]


def test_ties_and_both_bad_are_different_answers(site: Site) -> None:
    client = site.client("annotator")
    outcomes = []
    for said in ({"tie": True}, {"both_bad": True}):
        body = submission(claim(client), position=None, strength=None, **said)
        done = client.post("/api/v1/submit", json=body).json()
        with site.store.read() as session:
            outcomes.append(session.get(AnnotationRow, done["annotation"]).outcome)
    assert outcomes == ["tie", "both_bad"]


def test_guidelines_in_force_are_part_of_the_task(site: Site) -> None:
    client, admin = site.client("annotator"), site.client("admin")
    assert client.get("/api/v1/guidelines").json()["version"] == 1
    assert claim(client)["guideline"]["version"] == 1
    made = admin.post("/api/v1/admin/guidelines", json={"markdown": "# New rules"})
    assert (made.status_code, made.json()["version"]) == (201, 2)
    assert client.get("/api/v1/guidelines").json() == {
        "version": 2, "id": made.json()["id"], "markdown": "# New rules",
    }  # fmt: skip
    assert claim(client, prefetch=True)["guideline"]["version"] == 2
    versions = admin.get("/api/v1/admin/guidelines").json()["versions"]
    assert [v["version"] for v in versions] == [2, 1]


def test_an_adjudicator_decides_what_people_disagree_about(tmp_path: Path) -> None:
    rules = ProjectSettings(
        overlap=2, slice_overlap=2, escalate_overlap=2, random_slice=0, gold_rate=0, gold_rate_new=0, repeat_rate=0,
        min_seen=False, gate="off",
    )  # fmt: skip
    site = make_site(tmp_path, items=[new_task(0)], rules=rules)
    for who, wanted in (("annotator", ".0 "), ("admin", ".1 ")):
        client = site.client(who)
        task = claim(client)
        position = next(c["position"] for c in task["candidates"] if wanted in c["text"])
        assert client.post("/api/v1/submit", json=submission(task, position=position)).status_code == 200
    judge = site.client("adjudicator")
    queue = judge.get("/api/v1/admin/adjudication").json()["items"]
    assert len(queue) == 1
    item = queue[0]
    assert {label["annotator"] for label in item["labels"]} == {site.users[w].pseudonym for w in ("annotator", "admin")}
    said = [item["candidates"][label["verdict"]["position"]]["text"] for label in item["labels"]]
    assert sorted(text[9] for text in said) == ["0", "1"]
    position = next(c["position"] for c in item["candidates"] if ".1 " in c["text"])
    body = {"verdict": {"kind": "pair", "position": position, "strength": 1}, "reason": "it is right"}
    assert judge.post(f"/api/v1/admin/adjudication/{item['task']}", json=body).status_code == 200
    assert judge.get("/api/v1/admin/adjudication").json()["items"] == []
    with site.store.read() as session:
        assert len(session.scalars(select(AnnotationRow)).all()) == 2
    close(site)


def test_undo_and_progress_are_of_the_project_one_works_in(site: Site) -> None:
    client = site.client("annotator")
    prompt = Prompt(id="other", messages=(Message(role="user", content="Elsewhere?"),))
    texts = (Candidate(text="one"), Candidate(text="two"))
    ensure_project(site.store, "other", ProjectSettings(gold_rate=0, gold_rate_new=0, repeat_rate=0))
    add_tasks(site.store, "other", [NewTask(kind="pair", prompt=prompt, candidates=texts, overlap=1)])
    client.post("/api/v1/submit", json=submission(claim(client)))
    task = client.post("/api/v1/claim", json={"project": "other"}).json()
    done = client.post("/api/v1/submit?project=other", json=submission(task)).json()
    assert (done["progress"]["done"], done["progress"]["remaining"]) == (1, 0)
    assert client.post("/api/v1/undo").json()["assignment"] != task["assignment"], "the site's own project"
    assert client.post("/api/v1/undo?project=other").json()["assignment"] == task["assignment"]


def test_progress_counts_what_is_left(site: Site) -> None:
    client = site.client("annotator")
    assert client.get("/api/v1/progress").json()["remaining"] == 20, "twelve are left, told in tens"
    client.post("/api/v1/submit", json=submission(claim(client)))
    found = client.get("/api/v1/progress").json()
    assert (found["done"], found["today"], found["remaining"]) == (1, 1, 20)
    admin = site.client("admin").get("/api/v1/admin/progress").json()
    assert admin["tasks"]["total"] == 12 and admin["annotations"] == {"total": 1, "today": 1}


def test_health_says_whether_the_server_can_work(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    client = site.client()
    assert client.get("/health/live").json() == client.get("/health/ready").json() == {"status": "ok"}
    site.app.state.closing = True
    assert client.get("/health/ready").status_code == 503
