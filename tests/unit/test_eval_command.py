"""`accord eval`: its commands, and that it still is the stage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from accord.cli import app
from accord.errors import ConfigError, DataError


def run(*arguments: object) -> str:
    done = CliRunner().invoke(app, ["eval", *map(str, arguments)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def llmbar(tmp_path: Path) -> Path:
    rows = []
    for i in range(20):
        winner = "1" if i else "2"
        result = {"swap = False": {"winner": winner}, "swap = True": {"winner": winner}}
        rows.append({"input": f"q{i}", "output_1": "xx", "output_2": "y", "label": 1, "results": [result]})
    return write(tmp_path / "GPT-4.result.jsonl", rows)


def test_the_list_names_suites_and_formats() -> None:
    shown = run("list")
    for name in ("mt-bench", "gsm8k", "llmbar", "alpaca", "arena", "ratings"):
        assert f"\n  {name}" in shown


def test_a_judges_accuracy_goes_from_one_file_into_the_numbers_of_another(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "accuracy.json"
    shown = run("judged", llmbar(tmp_path), "--out", out)
    assert "| accuracy | 0.950 | 0.764 to 0.991 | 20 pairs | GPT-4 " in shown
    saved = json.loads(out.read_text())
    assert saved["rows"][0]["value"] == 0.95 and saved["details"]["published_statistics"]["equal"] == "20 / 20 = 100.0%"
    single = {"question_id": 1, "model": "m", "judge": "GPT-4", "judgment": "[[7]]", "turn": 1}
    judged = write(tmp_path / "s.jsonl", [single, {**single, "question_id": 2, "judgment": "[[9]]"}])
    table = tmp_path / "table.md"
    run("judged", judged, "--judge-accuracy", out, "--out", table)
    assert "0.950 (LLMBar, GPT-4.result.jsonl, n 20)" in table.read_text()
    with pytest.raises(DataError, match="no measured accuracy"):
        run("judged", judged, "--judge-accuracy", judged)


def test_formats_are_told_by_their_columns_or_named(tmp_path: Path) -> None:
    games = [{"score": "B>A"}, {"score": "A>B"}]
    arena = write(tmp_path / "a.jsonl", [{"question_id": "1", "model": "m", "games": games}])
    assert "score against gpt, m" in run("judged", arena, "--baseline", "gpt")
    alpaca = tmp_path / "p.csv"
    lines = [f"m,{i},{100 + i},{90 + 3 * i},{1 + i % 2}\n" for i in range(30)]
    alpaca.write_text("model,index,len_baseline,len_model,preference\n" + "".join(lines))
    assert "length-controlled win rate, m" in run("judged", alpaca)
    assert "No Bradley-Terry ratings" not in run("judged", alpaca, "--format", "ratings")
    battles = [{"model_a": "x", "model_b": "y", "winner": w} for w in ("model_a", "model_b", "tie") * 5]
    assert "rating, x" in run("judged", write(tmp_path / "b.jsonl", battles))
    with pytest.raises(DataError, match="no row could be used"):
        run("judged", alpaca, "--format", "llmbar")


def test_refusals_reward_bench_and_length_bias(tmp_path: Path) -> None:
    replies = write(tmp_path / "r.jsonl", [{"completion": "I cannot help with that."}, {"completion": "Sure."}])
    assert "| refused | 0.500 |" in run("refusals", replies)
    pairs = write(tmp_path / "b.jsonl", [{"prompt": "q", "chosen": "a", "rejected": "b", "scores": [2, 1]}])
    assert "| score, mean of sections | 1.000 |" in run("reward-bench", pairs)
    assert "| the preferred reply is the longer one" in run("length-bias", "llmbar", llmbar(tmp_path))
    with pytest.raises(ConfigError, match="no suite of pairs"):
        run("length-bias", "gsm8k", pairs)
    with pytest.raises(ConfigError, match=r"\.json nor in \.md"):
        run("refusals", replies, "--out", tmp_path / "x.txt")


def test_a_config_still_runs_the_stage(tmp_path: Path) -> None:
    for arguments in (["--config", tmp_path / "no.yaml"], [tmp_path / "no.yaml"]):
        with pytest.raises(ConfigError, match="config file does not exist"):
            run(*arguments)


def test_a_reward_model_on_disk_is_measured(tmp_path: Path) -> None:
    from accord.models.build import new_causal, reward_from_causal
    from accord.models.checkpoint import save_model
    from accord.models.tokenizer import train_tokenizer

    tokenizer = train_tokenizer(["the cat sat on the mat"] * 3, 270)
    model = new_causal(tokenizer, hidden_size=16, num_layers=1, num_heads=2, max_positions=64, init_std=0.3)
    save_model(reward_from_causal(model, seed=3), tokenizer, tmp_path / "reward", "card")
    texts = [f"the cat {n}" for n in range(6)]
    rows = [{"prompt": "sat", "chosen": a, "rejected": b} for a in texts for b in texts if a < b]
    shown = []
    for name, turn in (("a", False), ("b", True)):
        pairs = [{**r, "chosen": r["rejected"], "rejected": r["chosen"]} if turn else r for r in rows]
        out = tmp_path / f"{name}.json"
        run(
            "reward-bench",
            write(tmp_path / f"{name}.jsonl", pairs),
            "--reward-model",
            tmp_path / "reward",
            "--out",
            out,
        )
        shown.append(json.loads(out.read_text())["rows"][-1])
    assert shown[0]["value"] + shown[1]["value"] == pytest.approx(1.0) and shown[0]["judge"] == "reward"
    too_long = [{"prompt": "sat", "chosen": "cat " * 200, "rejected": "mat"}]
    found = run("reward-bench", write(tmp_path / "l.jsonl", too_long), "--reward-model", tmp_path / "reward")
    assert "could not be scored and count as wrong" in found and "64 positions" in found
