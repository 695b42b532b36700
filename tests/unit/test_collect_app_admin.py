"""The admin API over HTTP: agreement, hidden tests, settings, audit trail, import and export."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from collect_site import SECRET_MODELS, Site, close, make_site, new_task, submission

from accord.collect.app.agreement import agreement
from accord.collect.client import ApiFailure, Client
from accord.collect.records import ProjectSettings, Verdict
from accord.data import read
from accord.types import Candidate, Message, Preference, Prompt

RULES = ProjectSettings(
    overlap=2, slice_overlap=2, escalate_overlap=2, random_slice=1.0, gold_rate=0, gold_rate_new=0, repeat_rate=0,
    min_seen=False, gate="off",
)  # fmt: skip


@pytest.fixture
def site(tmp_path: Path, store_url: str) -> Generator[Site]:
    made = make_site(tmp_path, rules=RULES, url=store_url)
    yield made
    close(made)


def label(client: Any, wanted: list[int | None]) -> None:
    """Prefer the stored candidate of that number, task by task; None is a tie."""
    for choice in wanted:
        task = client.post("/api/v1/claim", json={}).json()
        said: dict[str, Any] = {"tie": True, "position": None, "strength": None}
        if choice is not None:
            texts = [c["text"] for c in task["candidates"]]
            said = {"position": next(i for i, text in enumerate(texts) if f".{choice} " in text)}
        assert client.post("/api/v1/submit", json=submission(task, **said)).status_code == 200


def preference(task: int, who: str, **said: Any) -> Preference:
    prompt = Prompt(id=f"p{task}", messages=(Message(role="user", content="?"),))
    candidates = tuple(Candidate(text=f"{task} {i}") for i in range(said.pop("replies", 2)))
    return Preference(
        id=f"{task}{who}", prompt=prompt, candidates=candidates, annotator=who, meta={"task": f"t{task}"}, **said
    )


def test_agreement_of_four_pairs_by_hand() -> None:
    """Three of four tasks agree: raw 0.75; counted both ways round, chance is one half and kappa 0.5."""
    rows = [
        preference(t, who, choice=c)
        for t, ab in enumerate(((0, 0), (0, 0), (0, 0), (0, 1)))
        for who, c in zip("ab", ab, strict=True)
    ]
    found = {(r.measure, r.swap_symmetrised): r for r in agreement(rows).rows}
    assert found["raw", False].value == pytest.approx(0.75)
    assert found["fleiss", True].value == pytest.approx(0.5)
    assert found["fleiss", False].value == pytest.approx(1 - 0.25 / (1 - (49 + 1) / 64))
    assert {r.units for r in found.values()} == {4}


def test_agreement_says_when_there_is_nothing_and_when_everybody_says_the_same() -> None:
    assert agreement([preference(0, "a", choice=0)]).note
    same = [preference(t, who, choice=0) for t in range(3) for who in "ab"]
    found = {(r.measure, r.swap_symmetrised): r for r in agreement(same).rows}
    assert found["raw", False].value == 1.0
    assert found["fleiss", False].value is None and found["fleiss", False].reason
    ranked = [preference(0, who, replies=3, ranking=((2,), (0, 1))) for who in "ab"]
    assert {r.measure: r.value for r in agreement(ranked).rows}["rankings_tau_b"] == pytest.approx(1.0)


def test_agreement_on_the_page_follows_the_labels(site: Site) -> None:
    admin = site.client("admin")
    assert admin.get("/api/v1/admin/agreement").json()["rows"] == []
    label(site.client("annotator"), [0, 1, None])
    label(site.client("adjudicator"), [0, 1, 1])
    rows = admin.get("/api/v1/admin/agreement").json()["rows"]
    raw = next(r for r in rows if r["measure"] == "raw")
    assert raw["value"] == pytest.approx(2 / 3) and raw["units"] == 3
    label(site.client("annotator"), [0])
    label(site.client("adjudicator"), [0])
    raw = admin.get("/api/v1/admin/agreement").json()["rows"][0]
    assert raw["value"] == pytest.approx(3 / 4) and raw["units"] == 4


def test_a_task_becomes_a_hidden_test_and_an_ordinary_one_again(site: Site) -> None:
    admin = site.client("admin")
    task = admin.get("/api/v1/admin/tasks").json()["tasks"][0]["id"]
    assert admin.post("/api/v1/admin/gold", json={"task": task, "gold": {"position": 1}}).status_code == 200
    item = admin.get("/api/v1/admin/gold").json()["items"][0]
    assert (item["task"], item["gold"]["position"], item["others"]) == (task, 1, [])
    assert admin.get("/api/v1/admin/progress").json()["tasks"]["total"] == 11
    assert admin.post("/api/v1/admin/gold", json={"task": task, "gold": {"position": 2}}).status_code == 422
    assert admin.post("/api/v1/admin/gold", json={"task": "none", "gold": None}).status_code == 404
    assert admin.post("/api/v1/admin/gold", json={"task": task, "gold": None}).status_code == 200
    assert admin.get("/api/v1/admin/gold").json()["items"] == []


def test_a_decision_becomes_a_hidden_test_with_the_candidate_that_was_chosen(site: Site) -> None:
    label(site.client("annotator"), [0] * 6)
    label(site.client("admin"), [1] * 6)
    judge, admin = site.client("adjudicator"), site.client("admin")
    for item in judge.get("/api/v1/admin/adjudication").json()["items"]:
        position = next(c["position"] for c in item["candidates"] if ".1 " in c["text"])
        body = {"verdict": {"kind": "pair", "position": position, "strength": 1}, "gold": True}
        assert judge.post(f"/api/v1/admin/adjudication/{item['task']}", json=body).status_code == 200
    items = admin.get("/api/v1/admin/gold").json()["items"]
    assert [item["candidates"][item["gold"]["position"]][-8:] for item in items] == [".1 to it"[-7:] + "."] * 6


def test_annotators_are_listed_with_what_to_look_at(site: Site) -> None:
    client = site.client("annotator")
    for _ in range(10):
        task = client.post("/api/v1/claim", json={}).json()
        assert client.post("/api/v1/submit", json=submission(task)).status_code == 200
    row = site.client("admin").get("/api/v1/admin/annotators").json()["annotators"][0]
    assert (row["handle"], row["done"], row["median_seconds"]) == ("the-annotator", 10, 0.9)
    assert row["flags"] == ["very fast"]


def test_settings_are_replaced_whole_and_every_change_is_on_record(site: Site) -> None:
    admin = site.client("admin")
    rules = admin.get("/api/v1/admin/settings").json()
    assert rules["overlap"] == 2
    assert admin.post("/api/v1/admin/settings", json={**rules, "overlap": 4}).json()["overlap"] == 4
    assert admin.post("/api/v1/admin/settings", json={**rules, "overlap": 0}).status_code == 422
    assert admin.post("/api/v1/admin/settings", json={**rules, "typo": 1}).status_code == 422
    event = admin.get("/api/v1/admin/events", params={"verb": "set_settings"}).json()["events"][0]
    assert (event["actor"], event["before"], event["after"]) == ("the-admin", {"overlap": 2}, {"overlap": 4})


def test_the_audit_trail_comes_in_pages_and_is_checked(site: Site) -> None:
    admin = site.client("admin")
    label(site.client("annotator"), [0, 1])
    seen, before = [], None
    while True:
        query = {"limit": 3, **({"before": before} if before else {})}
        page = admin.get("/api/v1/admin/events", params=query).json()
        seen += [event["id"] for event in page["events"]]
        before = page["next"]
        if before is None:
            break
    assert seen == list(range(len(seen), 0, -1)) and len(seen) > 6
    mine = admin.get("/api/v1/admin/events", params={"actor": "the-annotator", "verb": "submit"}).json()["events"]
    assert len(mine) == 2
    found = admin.get("/api/v1/admin/verify").json()
    assert found["intact"] and found["events"] == len(seen)


def test_files_come_in_and_bad_rows_are_named(site: Site) -> None:
    admin = site.client("admin")
    rows = [{"prompt": f"New {n}?", "responses": ["One.", "Two."]} for n in range(3)]
    lines = [*(json.dumps(row) for row in rows), "{not json"]
    sent = {"content": "\n".join(lines).encode(), "params": {"name": "../../new.jsonl", "kind": "pair", "overlap": 3}}
    done = admin.post("/api/v1/admin/tasks/upload", **sent).json()
    assert (done["added"], done["refused_total"], done["refused"][0]["line"]) == (3, 1, 4)
    again = admin.post("/api/v1/admin/tasks/upload", **sent).json()
    assert (again["added"], again["repeated"]) == (0, 3)
    for name, content in (
        ("x.jsonl", b"not json"),
        ("x.parquet", b"PAR1"),
        ("x.json", b""),
        ("x.csv", b"\xff\xfe\x00"),
    ):
        answer = admin.post("/api/v1/admin/tasks/upload", content=content, params={"name": name})
        assert answer.status_code == 422 and "/tmp" not in answer.text, answer.text
    for name in ("x.exe", "x", "x.jsonl.gz", "x.jsonl/../y"):
        assert admin.post("/api/v1/admin/tasks/upload", content=b"{}", params={"name": name}).status_code == 422


def test_labels_go_out_as_files_that_read_back(site: Site, tmp_path: Path) -> None:
    admin = site.client("admin")
    assert admin.get("/api/v1/export").status_code == 422
    label(site.client("annotator"), [0, 1, None])
    for form in ("jsonl", "parquet"):
        answer = admin.get("/api/v1/export", params={"format": form})
        assert answer.status_code == 200
        assert answer.headers["content-disposition"] == f'attachment; filename="preferences.{form}"'
        path = tmp_path / f"out.{form}"
        path.write_bytes(answer.content)
        found = [p for p in read(str(path), Preference).records if isinstance(p, Preference)]
        assert sorted(str(p.choice) for p in found) == ["0", "1", "None"]
        assert {p.annotator for p in found} == {site.users["annotator"].pseudonym}
        assert {c.model for p in found for c in p.candidates} == set(SECRET_MODELS[:2])
    packed = admin.get("/api/v1/export", params={"format": "hf", "kind": "annotations"})
    names = zipfile.ZipFile(io.BytesIO(packed.content)).namelist()
    assert {"annotations/README.md", "annotations/SHA256SUMS"} <= set(names)
    assert "the-annotator" not in packed.content.decode("latin-1")
    assert admin.get("/api/v1/export", params={"format": "exe"}).status_code == 422


def test_the_python_client_does_the_whole_round(site: Site, tmp_path: Path) -> None:
    waits: list[float] = []

    def connect(who: str, *scopes: str) -> Client:
        key = site.key(who, *scopes).headers["Authorization"].removeprefix("Bearer ")
        return Client("http://testserver", key, transport=Wsgi(site), sleep=waits.append)

    with connect("service", "read", "import", "export") as service, connect("annotator", "annotate") as person:
        assert service.add_tasks([new_task(n) for n in range(100, 103)]) == {"added": 3, "repeated": 0, "refused": 0}
        (tmp_path / "more.jsonl").write_text('{"prompt": "?", "responses": ["a", "b"]}\n')
        assert service.upload(tmp_path / "more.jsonl")["added"] == 1
        task = person.claim()
        assert task is not None
        key = "my-own-key"
        first = person.submit(task, Verdict(kind="pair", position=0), key=key)
        assert person.submit(task, Verdict(kind="pair", position=0), key=key)["annotation"] == first["annotation"]
        with pytest.raises(ApiFailure) as refused:
            person.submit(task, Verdict(kind="pair", position=1), key=key)
        assert (refused.value.status, refused.value.code) == (409, "conflict")
        again = person.undo()
        assert again.previous is not None and again.previous.position == 0
        person.submit(again, Verdict(kind="pair", tie=True))
        following = person.claim()
        assert following is not None
        person.skip(following, "unclear")
        last = person.claim()
        assert last is not None
        person.release(last)
        assert service.progress()["annotations"]["total"] == 1
        out = service.export(tmp_path / "labels.jsonl")
        assert [p.tie for p in read(str(out), Preference).records] == [True]
        with pytest.raises(ApiFailure, match="annotator"):
            person.progress()
        with pytest.raises(ApiFailure, match="annotator"):
            person.export(tmp_path / "no.jsonl")
        assert not (tmp_path / "no.jsonl").exists() and not (tmp_path / "no.jsonl.partial").exists()
    assert waits == []


class Wsgi:  # an httpx transport into the app, in this process
    """Carries requests of the client to the test client."""

    def __init__(self, site: Site) -> None:
        import httpx

        self._client = site.client()
        self._answer = httpx.Response

    def handle_request(self, request: Any) -> Any:
        request.read()
        got = self._client.request(
            request.method, str(request.url), content=request.content, headers=dict(request.headers)
        )
        return self._answer(got.status_code, headers=dict(got.headers), content=got.content, request=request)

    def close(self) -> None:
        """Nothing to do."""
