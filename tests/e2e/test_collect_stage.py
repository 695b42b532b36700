"""The stage `collect` with people: tasks go into a database, the run waits, and goes on when the labels are there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tiny_lab
from accord.cli import load
from accord.collect import people as accounts
from accord.collect import projects
from accord.collect.claims import claim
from accord.collect.database import open_store
from accord.collect.ids import new_id
from accord.collect.records import Submission, TaskView, Verdict
from accord.collect.submissions import submit
from accord.errors import ConfigError, Waiting
from accord.pipeline import run_pipeline
from accord.stages import STAGES
from tiny_lab import rows

HEAD = "run:\n  name: tiny\n  threads: 1\n"
ASKED = [{"role": "user", "content": "Name a colour."}]


def samples(directory: Path, number: int = 4, replies: int = 2) -> Path:
    """Samples of a sample stage: prompts 0, 1, ..., replies "reply 0" (the good one), "reply 1", ..."""
    path = directory / "samples.jsonl"
    made = [
        {
            "prompt": {"id": f"p{n}", "messages": [{"role": "user", "content": f"Question {n}?"}], "meta": {}},
            "candidates": [
                {"token_ids": [1], "finish": "stop", "text": f"reply {k} to {n}", "model": f"m{k}"}
                for k in range(replies)
            ],
        }
        for n in range(number)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in made), encoding="utf-8")
    return path


def config(directory: Path, collect: str, more: str = "") -> Path:
    text = f"{HEAD}collect:\n  samples: {directory}/samples.jsonl\n{collect}{more}"
    return tiny_lab.write_config(directory, text)


def start(path: Path, directory: Path, *overrides: str, only: str | None = "collect") -> tuple[Any, list[str]]:
    lines: list[str] = []
    loaded = load(path, [f"run.dir={directory}", *overrides])
    return run_pipeline(loaded, STAGES, only=only, say=lines.append), lines


def label(
    database: Path, project: str, verdict: Callable[[TaskView], dict[str, Any]], *, num_people: int = 1, most: int = 99
) -> int:
    """Let people answer what the store gives them, as clients do; return how many answers they gave."""
    given = 0
    with open_store(database) as store:
        for number in range(num_people):
            handle = f"person{number}"
            known = {user.handle: user for user in accounts.list_users(store)}
            user = known.get(handle) or accounts.create_user(store, handle, "annotator", groups=["warm"])
            while given < most and (task := claim(store, project, user)) is not None:
                said = Verdict.model_validate({"kind": task.kind, **verdict(task)})
                sent = Submission(assignment=task.assignment, key=new_id(), verdict=said, dwell_ms=2500, seen_ms=2500)
                submit(store, user, sent)
                given += 1
    return given


def good_one(task: TaskView) -> dict[str, Any]:
    """Prefer reply 0 wherever it is shown."""
    at = next(c.position for c in task.candidates if c.text.startswith("reply 0"))
    return {"position": at, "strength": 2}


def test_waits_with_counts_and_command_and_goes_on_with_the_labels(tmp_path: Path) -> None:
    samples(tmp_path)
    path = config(tmp_path, "  min_labels: 4\n  overlap_fraction: 0\n  rules: {gold_rate: 0, repeat_rate: 0}\n")
    database = tmp_path / "tiny" / "labels.db"
    with pytest.raises(Waiting, match="0 of 4 labels") as raised:
        start(path, tmp_path)
    assert raised.value.exit_code == 75
    assert f"accord collect serve --db {database} --project collect" in str(raised.value)
    assert "4 more are asked for in 4 open tasks" in str(raised.value)
    assert label(database, "collect", good_one, most=3) == 3
    with pytest.raises(Waiting, match="3 of 4 labels"):
        start(path, tmp_path)
    assert label(database, "collect", good_one) == 1
    made, _ = start(path, tmp_path)
    found = rows(made["collect"].path("preferences.jsonl"))
    assert len(found) == 4
    for row in found:
        assert row["candidates"][row["choice"]]["text"].startswith("reply 0")
        assert row["candidates"][row["choice"]]["model"] == "m0"
        assert (row["strength"], row["group"], row["seconds"]) == (2.0, "warm", 2.5)
        assert sorted(row["order_shown"]) == [0, 1]
        assert row["annotator"].startswith("annotator-")
    metrics = made["collect"].manifest.metrics
    assert (metrics["num"], metrics["num_pairs"], metrics["num_annotators"]) == (4, 4, 1)


def test_the_same_command_adds_no_task_twice_and_config_sets_the_rules(tmp_path: Path) -> None:
    samples(tmp_path, number=6)
    text = "  labels_per_item: 2\n  overlap_fraction: 0.5\n  overlap_labels: 3\n  rules: {gold_rate: 0.2}\n"
    (tmp_path / "rules.md").write_text("Be **fair**.", encoding="utf-8")
    path = config(tmp_path, text + f"  guidelines: {tmp_path}/rules.md\n")
    for _ in range(2):
        with pytest.raises(Waiting):
            start(path, tmp_path)
    with open_store(tmp_path / "tiny" / "labels.db") as store:
        rules = projects.settings(store, "collect")
        assert (rules.overlap, rules.random_slice, rules.slice_overlap, rules.gold_rate) == (2, 0.5, 3, 0.2)
        written = projects.guidelines(store, "collect")
        assert written is not None and (written.version, written.markdown) == (1, "Be **fair**.")
    assert label(tmp_path / "tiny" / "labels.db", "collect", good_one, num_people=5) >= 12
    lines: list[str] = []
    loaded = load(path, [f"run.dir={tmp_path}", "collect.labels_per_item=1"])
    with pytest.raises(Waiting):
        run_pipeline(loaded, STAGES, only="collect", say=lines.append)
    assert any("the project's own rule stands: overlap is 2, the config says 1" in line for line in lines)


def test_rankings_edits_and_ratings_come_out_as_what_they_are(tmp_path: Path) -> None:
    samples(tmp_path, number=2, replies=3)
    text = "  kind: rank\n  min_labels: 2\n  overlap_fraction: 0\n  rules: {gold_rate: 0, repeat_rate: 0}\n"
    path = config(tmp_path, text)
    with pytest.raises(Waiting):
        start(path, tmp_path)

    def ranked(task: TaskView) -> dict[str, Any]:
        order = sorted(task.candidates, key=lambda c: c.text)
        ratings = [7 if c.text.startswith("reply 0") else 1 for c in task.candidates]
        first = order[0].position
        told = {"edit": "a better reply", "edit_position": first}
        return {"ranking": [[c.position] for c in order[:2]], "ratings": ratings, **told}

    assert label(tmp_path / "tiny" / "labels.db", "collect", ranked) == 2
    made, lines = start(path, tmp_path)
    first = rows(made["collect"].path("preferences.jsonl"))[0]
    texts = [c["text"] for c in first["candidates"]]
    assert [texts[i][:7] for group in first["ranking"] for i in group] == ["reply 0", "reply 1", "reply 2"]
    assert first["meta"]["ranked"] == 2
    demonstrations = rows(made["collect"].path("demonstrations.jsonl"))
    assert {d["messages"][-1]["content"] for d in demonstrations} == {"a better reply"}
    thumbs = rows(made["collect"].path("unpaired.jsonl"))
    assert {(u["completion"][:7], u["label"]) for u in thumbs} == {
        ("reply 0", True),
        ("reply 1", False),
        ("reply 2", False),
    }
    assert any("collect:demonstrations" in line for line in lines)


def test_several_judgements_become_one_row_by_the_named_rule(tmp_path: Path) -> None:
    samples(tmp_path, number=3)
    text = "  labels_per_item: 3\n  min_labels: 9\n  overlap_fraction: 0\n"
    path = config(tmp_path, text + "  rules: {gold_rate: 0, repeat_rate: 0, escalate_overlap: 3}\n")
    with pytest.raises(Waiting):
        start(path, tmp_path)
    count = [0]

    def one_of_three_errs(task: TaskView) -> dict[str, Any]:
        count[0] += 1
        right = good_one(task)
        return {**right, "position": 1 - right["position"]} if count[0] <= 3 else right

    assert label(tmp_path / "tiny" / "labels.db", "collect", one_of_three_errs, num_people=3) == 9
    for aggregate, expected in (
        ("majority", {"choice": 1.0}),
        ("soft", {"soft": 2 / 3}),
        ("weighted", {"soft": 2 / 3}),
    ):
        made, _ = start(path, tmp_path, f"collect.aggregate={aggregate}")
        found = rows(made["collect"].path("preferences.jsonl"))
        assert len(found) == 3
        for row in found:
            good = next(i for i, c in enumerate(row["candidates"]) if c["text"].startswith("reply 0"))
            if "choice" in expected:
                assert row["choice"] == good
            else:
                assert row["soft"] == pytest.approx(expected["soft"] if good == 0 else 1 - expected["soft"])
        assert len(rows(made["collect"].path("judgements.jsonl"))) == 9
    for aggregate in ("dawid_skene", "annotator_bt"):
        made, _ = start(path, tmp_path, f"collect.aggregate={aggregate}")
        for row in rows(made["collect"].path("preferences.jsonl")):
            good = next(i for i, c in enumerate(row["candidates"]) if c["text"].startswith("reply 0"))
            assert 0 <= row["soft"] <= 1
            assert (row["soft"] > 0.5) == (good == 0)


def test_a_file_of_labels_is_still_enough(tmp_path: Path) -> None:
    samples(tmp_path, number=1)
    path = config(tmp_path, f"  min_labels: 1\n  labels: {tmp_path}/mine.jsonl\n")
    with pytest.raises(Waiting) as raised:
        start(path, tmp_path)
    assert "mine.jsonl" in str(raised.value) and "serve" not in str(raised.value)
    assert not (tmp_path / "tiny" / "labels.db").exists()
    (task,) = rows(tmp_path / "tiny" / "collect-tasks.jsonl")
    (tmp_path / "mine.jsonl").write_text(json.dumps({**task, "choice": 0, "annotator": "ann"}) + "\n", encoding="utf-8")
    made, _ = start(path, tmp_path)
    assert [p["choice"] for p in rows(made["collect"].path("preferences.jsonl"))] == [0]


def test_fewer_comparisons_by_coverage_with_their_propensity(tmp_path: Path) -> None:
    samples(tmp_path, number=12)
    text = "  selection: coverage\n  num_pairs: 5\n  random_slice: 0.4\n  min_labels: 5\n  overlap_labels: 1\n"
    path = config(tmp_path, text + "  rules: {gold_rate: 0, repeat_rate: 0}\n")
    with pytest.raises(Waiting, match="0 of 5 labels"):
        start(path, tmp_path)
    assert label(tmp_path / "tiny" / "labels.db", "collect", good_one) == 5
    made, _ = start(path, tmp_path)
    found = [p["meta"] for p in rows(made["collect"].path("preferences.jsonl"))]
    assert sorted(m["slice"] for m in found) == ["active"] * 3 + ["random"] * 2
    assert {m["policy"] for m in found} == {"coverage", "random"}
    assert all(0 < m["propensity"] <= 1 for m in found)
    assert len(rows(made["collect"].path("plan.jsonl"))) == 5


@pytest.mark.parametrize(
    "text, message",
    [
        ("  selection: coverage\n", "num_pairs is -1"),
        ("  selection: uncertainty\n  num_pairs: 2\n", "needs a reward_model"),
        ("  kind: rank\n  annotators: lab\n", "compare pairs"),
        ("  rules: {overlap: 3}\n", "key of its own"),
        ("  rules: {gold_rate: 2}\n", "gold_rate"),
        ("  rules: {gold_rat: 0.1}\n", "gold_rat"),
    ],
)
def test_keys_that_do_not_go_together_are_refused(tmp_path: Path, text: str, message: str) -> None:
    samples(tmp_path)
    with pytest.raises(ConfigError, match=message):
        load(config(tmp_path, text), [f"run.dir={tmp_path}"])


def test_replies_that_name_their_model_are_masked(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    reply = {"token_ids": [1], "finish": "stop", "model": "m"}
    row = {
        "prompt": {"id": "p", "messages": ASKED, "meta": {}},
        "candidates": [{**reply, "text": "As ChatGPT, I like blue."}, {**reply, "text": "Blue."}],
    }
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    lines: list[str] = []
    loaded = load(config(tmp_path, "  leaks: mask\n"), [f"run.dir={tmp_path}"])
    with pytest.raises(Waiting):
        run_pipeline(loaded, STAGES, only="collect", say=lines.append)
    assert any("1 replies name a model or its maker (1 masked, 0 left out)" in line for line in lines)
    seen: list[str] = []

    def look(task: TaskView) -> dict[str, Any]:
        seen.extend(c.text for c in task.candidates)
        return {"tie": True}

    label(tmp_path / "tiny" / "labels.db", "collect", look)
    assert "As [name], I like blue." in seen and not any("ChatGPT" in text for text in seen)


def test_hidden_tests_come_from_a_file_and_stay_out_of_the_labels(tmp_path: Path) -> None:
    samples(tmp_path, number=2)
    gold = {
        "prompt": [{"role": "user", "content": "1+1?"}],
        "chosen": [{"role": "assistant", "content": "reply 0: 2"}],
        "rejected": [{"role": "assistant", "content": "reply 1: 3"}],
    }
    (tmp_path / "gold.jsonl").write_text(json.dumps(gold) + "\n", encoding="utf-8")
    text = f"  gold: {tmp_path}/gold.jsonl\n  min_labels: 2\n  overlap_fraction: 0\n"
    path = config(tmp_path, text + "  rules: {gold_rate: 0.9, gold_rate_new: 0.9, repeat_rate: 0}\n")
    with pytest.raises(Waiting):
        start(path, tmp_path)
    assert label(tmp_path / "tiny" / "labels.db", "collect", good_one) == 3
    made, _ = start(path, tmp_path)
    found = rows(made["collect"].path("preferences.jsonl"))
    assert sorted(p["prompt"]["id"] for p in found) == ["p0", "p1"]


@pytest.mark.slow
def test_a_run_waits_for_people_and_then_trains_the_reward_model(tmp_path: Path) -> None:
    text = tiny_lab.CONFIG.split("\nppo:")[0].replace("annotators: lab", "min_labels: 30")
    path = tiny_lab.write_config(tmp_path, text)
    with pytest.raises(Waiting, match="0 of 30 labels"):
        start(path, tmp_path, only=None)
    given = label(tmp_path / "tiny" / "labels.db", "collect", lambda t: {"position": 0}, num_people=3, most=45)
    assert given >= 30
    made, _ = start(path, tmp_path, only=None)
    assert made["reward"].manifest.metrics["pairs"] > 0
    assert made["collect"].manifest.metrics["num"] >= 30


@pytest.mark.slow
def test_a_reward_model_says_which_pairs_are_judged(tmp_path: Path) -> None:
    text = tiny_lab.CONFIG.split("\nppo:")[0]
    text += "\ncollect_two:\n  annotators: lab\n  selection: uncertainty\n  reward_model: reward\n  num_pairs: 12\n"
    made, lines = start(tiny_lab.write_config(tmp_path, text), tmp_path, only=None)
    found = [p["meta"] for p in rows(made["collect_two"].path("preferences.jsonl"))]
    assert made["collect_two"].manifest.metrics["num_pairs"] == 12
    assert {m["slice"] for m in found} == {"active", "random"}
    assert any("12 of" in line and "comparisons chosen" in line for line in lines)


@pytest.mark.parametrize("project", ["team", "collect"])
def test_in_a_shared_project_only_labels_of_the_stages_own_tasks_count(tmp_path: Path, project: str) -> None:
    samples(tmp_path, number=4)
    named = "" if project == "collect" else f"  project: {project}\n"  # the usual name, in a database of all runs
    shared = f"  database: {tmp_path}/shared.db\n{named}  overlap_fraction: 0\n"
    path = config(tmp_path, shared + "  min_labels: 4\n  rules: {gold_rate: 0, repeat_rate: 0}\n")
    with pytest.raises(Waiting, match=f"--project {project}"):
        start(path, tmp_path)
    assert label(tmp_path / "shared.db", project, good_one) == 4
    samples(tmp_path, number=6)
    with pytest.raises(Waiting, match="4 of 6 labels"):
        start(path, tmp_path, "collect.min_labels=6")
    samples(tmp_path, number=2)
    with pytest.raises(Waiting, match="2 of 6 labels"):
        start(path, tmp_path, "collect.min_labels=6")
