"""The stage `evaluate` with judges behind addresses, people and reward models, and its table of base abilities."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from accord.artifacts import Artifact
from accord.cli import load
from accord.collect import claims, people, submissions
from accord.collect.database import open_store
from accord.collect.records import Submission, Verdict
from accord.errors import ConfigError, EngineError, Waiting
from accord.models.build import new_causal, reward_from_causal
from accord.models.checkpoint import save_model
from accord.models.policy import CausalModel
from accord.models.tokenizer import train_tokenizer
from accord.pipeline import run_pipeline
from accord.report import write_report
from accord.stages import STAGES, evaluate
from mock_model import MockModel

torch.set_num_threads(1)
PROMPTS = 12


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three language models that say different things, a reward model, and data."""
    place = tmp_path_factory.mktemp("kit")
    tokenizer = train_tokenizer(["the cat sat on the mat and thought of a better place to be"] * 3, 320)
    for seed, name in enumerate(("sft", "one", "two")):
        model = new_causal(
            tokenizer, hidden_size=16, num_layers=1, num_heads=2, max_positions=64, init_std=0.3, seed=seed
        )
        with torch.no_grad():
            model.get_input_embeddings().weight.mul_(30)  # away from uniform: the models say different things
        save_model(CausalModel(model), tokenizer, place / name, "card")
        if name == "sft":
            save_model(reward_from_causal(model, seed=5), tokenizer, place / "reward", "card")
    write(place / "prompts.jsonl", [{"prompt": f"the cat {i}"} for i in range(PROMPTS)])
    write(place / "questions.jsonl", [{"prompt": f"{i} + 1?", "answer": str(i + 1)} for i in range(5)])
    write(place / "texts.jsonl", [{"text": f"the cat sat on the mat {i}"} for i in range(5)])
    write(place / "demos.jsonl", [{"prompt": "the cat?", "completion": f"the mat {i}"} for i in range(5)])
    write(place / "labels.jsonl", [{"prompt": f"q{i}", "chosen": f"a{i}", "rejected": f"bb{i}"} for i in range(12)])
    return place


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def config(kit: Path, tmp_path: Path, lines: str = "") -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(f"""\
run: {{name: r, dir: {tmp_path}, threads: 1}}
evaluate:
  models: {{sft: {kit}/sft, one: {kit}/one, two: {kit}/two}}
  prompts: {kit}/prompts.jsonl
  max_completion_length: 5
{lines}""")
    return path


def run(path: Path, said: list[str] | None = None) -> tuple[Artifact, dict[str, Any]]:
    """The artifact and its results."""
    made = run_pipeline(load(path, []), STAGES, say=[].append if said is None else said.append)["evaluate"]
    return made, json.loads(made.path("results.json").read_text())


def shorter(body: dict[str, Any]) -> dict[str, Any]:
    """A judge that prefers the shorter answer, and the first of equally long ones."""
    text = body["messages"][-1]["content"]
    first, second = (text.split(f"<answer {x} ")[1].split("</answer")[0] for x in "AB")
    return {"text": f"[[{'A' if len(first) <= len(second) else 'B'}]]"}


@pytest.fixture
def judge() -> Iterator[MockModel]:
    with MockModel(shorter) as model:
        yield model


def test_a_model_behind_an_address_judges_in_both_orders_and_is_measured_first(
    kit: Path, tmp_path: Path, judge: MockModel
) -> None:
    said: list[str] = []
    lines = f"  judge: {judge.url}\n  judge_model: small\n  judge_labels: {kit}/labels.jsonl\n  compare: all\n"
    made, results = run(config(kit, tmp_path, lines), said)
    assert any("agrees with labels.jsonl in 1.000 of 12 pairs" in line for line in said)
    assert [(r["a"], r["b"]) for r in results["win_rates"]] == [("one", "sft"), ("two", "sft"), ("one", "two")]
    rows = [json.loads(line)["answers"] for line in made.path("answers.jsonl").read_text().splitlines()]
    for found in results["win_rates"]:
        lengths = [(len(r[found["a"]]), len(r[found["b"]])) for r in rows]
        assert found["wins"] == sum(a < b for a, b in lengths) and found["ties"] == sum(a == b for a, b in lengths)
        assert found["unreadable"] == 0 and found["n"] == PROMPTS and found["wins"] and found["losses"]
    names = [row["name"] for row in results["measured"]]
    assert "win rate, one against sft" in names and "length-controlled win rate, one against sft" in names
    assert "Elo points of two" in names
    first = results["measured"][0]
    assert first["judge"] == "small" and first["judge_accuracy"]["n"] == 12 and first["prompt_hash"]
    assert first["parse_failures"] == 0 and first["inconsistent"] is not None
    assert results["judge"] == f"small at {judge.url}" and "utility" not in results["models"]["one"]
    assert made.manifest.metrics["win_rate_one"] == results["win_rates"][0]["win_rate"]
    assert "labels.jsonl, n 12" in made.path("results.md").read_text()
    assert not (made.dir / evaluate.KEPT).exists()
    page = write_report(tmp_path / "r", tmp_path / "report.html").read_text()
    assert "small at" in page and "on labels.jsonl" in page


def test_a_stage_that_was_stopped_asks_only_for_what_is_left(kit: Path, tmp_path: Path, judge: MockModel) -> None:
    lines = f"  judge: {judge.url}\n  judge_model: small\n"
    path = config(kit, tmp_path, lines + "  judge_max_calls: 20\n")
    with pytest.raises(EngineError, match="budget of 20 calls"):
        run(path)
    assert len(judge.requests) == 20
    run(config(kit, tmp_path, lines))
    # Equal answers make one request of two orders.
    assert 20 < len(judge.requests) <= 1 + 2 * 2 * PROMPTS and set(judge.counts().values()) == {1}


def test_a_judge_no_better_than_a_coin_stops_the_stage_before_anything_is_generated(
    kit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "_answer", None)
    with MockModel(lambda body: {"text": "[[B]]"}) as model:
        lines = f"  judge: {model.url}\n  judge_model: small\n  judge_labels: {kit}/labels.jsonl\n"
        with pytest.raises(ConfigError, match="no better than a coin"):
            run(config(kit, tmp_path, lines))


def answer_everything(database: Path) -> None:
    """One person prefers the shorter reply of every task."""
    with open_store(str(database)) as store:
        user = people.create_user(store, "ann", "annotator")
        while (view := claims.claim(store, "evaluate", user)) is not None:
            short = min(view.candidates, key=lambda c: len(c.text))
            verdict = Verdict(kind="pair", position=short.position)
            done = Submission(assignment=view.assignment, key=f"key-{view.assignment}", verdict=verdict, dwell_ms=900)
            submissions.submit(store, user, done)


def test_people_judge_blind_pairs_while_the_run_waits(
    kit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = config(kit, tmp_path, "  judge: people\n")
    with pytest.raises(Waiting, match="answers of people are missing"):
        run(path)
    answer_everything(tmp_path / "r" / "labels.db")
    monkeypatch.setattr(evaluate, "_answer", None)  # what was answered before people were asked is not made again
    _, results = run(path)
    assert results["judge"] == "people" and len(results["win_rates"]) == 2
    for found in results["win_rates"]:
        assert found["n"] == PROMPTS
    assert results["measured"][0]["judge"] == "people (one answer each)"


def fraction_of_a(prompts: list[str], replies: list[str]) -> list[float]:
    """A scorer."""
    return [reply.count("a") / max(len(reply), 1) for reply in replies]


def test_base_abilities_before_and_after(kit: Path, tmp_path: Path) -> None:
    lines = (
        f"  judge: {kit}/reward\n"
        f"  abilities: {{text: {kit}/texts.jsonl, replies: {kit}/demos.jsonl, sums: {kit}/questions.jsonl}}\n"
        f"  scorers: {{letters: {__name__}:fraction_of_a}}\n"
    )
    made, results = run(config(kit, tmp_path, lines))
    text, replies, sums = results["abilities"]
    assert [(r["name"], r["kind"], r["better"]) for r in results["abilities"]] == [
        ("text", "perplexity", "lower"),
        ("replies", "perplexity", "lower"),
        ("sums", "accuracy", "higher"),
    ]
    for row in (text, replies):
        before, after = row["models"]["sft"], row["models"]["one"]
        assert before["change"] is None and before["n"] == 5 and before["low"] <= before["value"] <= before["high"]
        assert after["change"]["value"] == pytest.approx(after["value"] / before["value"])
        assert after["worse"] == (after["change"]["low"] > 1)
    assert all(0 <= found["value"] <= 1 for found in sums["models"].values())
    assert "## Base abilities" in made.path("results.md").read_text()
    assert any(row["name"].startswith("mean preference") for row in results["measured"])
    texts = [json.loads(line)["answers"]["one"] for line in made.path("answers.jsonl").read_text().splitlines()]
    letters = next(row for row in results["measured"] if row["name"] == "letters, one")
    assert letters["value"] == pytest.approx(sum(fraction_of_a([], texts)) / PROMPTS)
    assert results["models"]["one"]["utility"]["value"] == made.manifest.metrics["utility_one"]
    page = write_report(tmp_path / "r", tmp_path / "report.html").read_text()
    assert "Base abilities" in page


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("  judge: http://localhost:1/v1\n", "needs judge_model"),
        ("  judge_model: small\n", "judge_model is for a judge behind an address"),
        ("  database: labels.db\n", "database and project are for judge: people"),
        ("  judge: nobody\n", "neither a stage"),
    ],
)
def test_settings_that_do_not_fit_the_judge_are_refused(lines: str, words: str, kit: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        run(config(kit, tmp_path, lines))
