"""The run report: whole on a full run, honest on a partial one, and safe against what models and people write."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from report_page import Page, rewrite
from synthetic_run import EVIL, INPUTS, MODELS, fingerprint, make_run, write_rows, write_stage

from accord.errors import ArtifactError
from accord.report import write_report
from accord.report.paths import EvalPath
from accord.report.runfiles import read_run

SECTIONS = (
    "results", "answers", "overoptimisation", "reward-model", "labels", "training", "pipeline", "cost", "environment",
    "reproduce",
)  # fmt: skip


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, Page]:
    run = make_run(tmp_path_factory.mktemp("runs"))
    out = write_report(run, run / "report-0" / "report.html")
    html = out.read_text(encoding="utf-8")
    return run, html, Page(html)


def test_full_run_has_every_section_and_nothing_is_missing(full: tuple[Path, str, Page]) -> None:
    _, html, page = full
    assert [i for i in page.ids if i in SECTIONS] == list(SECTIONS)
    assert "Not in this run" not in page.text
    assert not page.stack, "an element was left open"
    assert len(page.ids) == len(set(page.ids))
    assert len(html.encode()) < 3_000_000


def test_headline_says_who_won_by_how_much(full: tuple[Path, str, Page]) -> None:
    _, _, page = full
    assert "PPO and DPO both beat SFT." in page.text
    assert "PPO is preferred to SFT in 71\u00a0% of 300 comparisons".replace("\u00a0", " ") in page.text
    assert "Reward model good orders 74 % (69\u201379) of held-out pairs as labelled" in page.text
    assert "PPO: gold beside proxy look closer part of the gain was lost again" in page.text


def test_every_stage_and_its_figures_are_drawn(full: tuple[Path, str, Page]) -> None:
    _, _, page = full
    for heading in (
        "Win rates",
        "Utility and its parts",
        "Accuracy beside baselines",
        "Reliability",
        "pretrain: Loss",
        "Entropy",
        "Margin",
        "Gold: what the answers are worth",
        "Agreement with gold",
        "Gold, part by part",
    ):
        assert heading in page.text, heading
    for stage in INPUTS:
        assert fingerprint(stage)[:8] in page.text
    drawings = [v for t, n, v in page.attributes if t == "svg" and n == "role"]
    assert len(drawings) > 30
    assert set(drawings) == {"img"}
    assert page.tags.count("desc") == len(drawings)


def test_twelve_prompts_from_every_family_with_all_answers(full: tuple[Path, str, Page]) -> None:
    _, _, page = full
    assert page.tags.count("article") == 12
    answers = [v for t, n, v in page.attributes if t == "div" and n == "class" and v.startswith("answer ")]
    assert len(answers) == 48
    assert page.text.count("look-alikes") >= 4


def test_hostile_text_is_shown_and_never_becomes_markup(full: tuple[Path, str, Page]) -> None:
    _, html, page = full
    assert "script" not in page.tags
    assert "img" not in page.tags
    assert "<script" not in html.lower()
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert page.text.count(EVIL) > 20


def test_page_loads_nothing_and_forbids_it(full: tuple[Path, str, Page]) -> None:
    _, html, page = full
    links = [v for _, name, v in page.attributes if name in ("href", "src", "srcset", "action", "data", "xlink:href")]
    assert links
    assert all(v.startswith("#") for v in links)
    style = re.search(r"<style>(.*?)</style>", html, re.S)
    assert style is not None
    assert not re.search(r"url\(|@import|https?:", style.group(1))
    policy = next(v for _, n, v in page.attributes if n == "content" and "default-src" in v)
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:")
    assert not {"link", "iframe", "object", "form"} & set(page.tags)


def test_anchors_lead_somewhere(full: tuple[Path, str, Page]) -> None:
    _, _, page = full
    targets = [v[1:] for _, n, v in page.attributes if n == "href"]
    named = [i for _, n, v in page.attributes if n == "aria-labelledby" for i in v.split()]
    assert set(targets) | set(named) <= set(page.ids)


def test_same_files_give_the_same_bytes(full: tuple[Path, str, Page], tmp_path: Path) -> None:
    run, html, _ = full
    assert write_report(run, tmp_path / "again.html").read_text(encoding="utf-8") == html


@pytest.mark.parametrize("count", range(len(INPUTS)))
def test_partial_runs_name_what_is_missing(count: int, tmp_path: Path) -> None:
    run = make_run(tmp_path, list(INPUTS)[:count])
    page = Page(write_report(run, run / "report.html").read_text(encoding="utf-8"))
    assert [i for i in page.ids if i in SECTIONS] == list(SECTIONS)
    assert "Models have not been compared. Not in this run." in page.text
    assert ("No stage of this run has finished yet." in page.text) == (count == 0)
    assert ("No preferences were collected. Not in this run." in page.text) == (count < 4)


def test_each_stage_alone_gives_a_report(tmp_path: Path) -> None:
    for stage in INPUTS:
        run = make_run(tmp_path / stage, [stage])
        page = Page(write_report(run, run / "report.html").read_text(encoding="utf-8"))
        assert not page.stack
        assert all(f"from elsewhere {fingerprint(s)[:8]}" in page.text for s in INPUTS[stage])


def test_values_that_are_not_finite_are_marked_and_told(tmp_path: Path) -> None:
    run = make_run(tmp_path, ["pretrain", "reward"])
    log = next(run.glob("pretrain-*")) / "metrics.jsonl"
    values = [2.0, None, math.nan, math.inf, 1.5, -math.inf, 1.2]
    write_rows(log, [{"step": i, "time_s": 0.1, "loss": v, "eval/loss": None} for i, v in enumerate(values)])
    bad = {"accuracy": {"value": None, "low": None, "high": None, "n": 0}, "gold_accuracy": None, "ece": None}
    bad |= {"reliability": [{"p": None, "freq": math.nan, "n": 3}], "brier": math.nan, "baselines": None}
    rewrite(next(run.glob("reward-*")) / "eval.json", bad)
    html = write_report(run, run / "report.html").read_text(encoding="utf-8")
    page = Page(html)
    assert "Not finite: eval/loss (7 of 7) and loss (4 of 7); marked \u00d7 in the charts." in page.text
    assert "Values that are not finite problem logged by pretrain" in page.text
    assert html.count('class="broken"') == 4
    assert not re.search(r'="[^"]*\b(nan|inf)\b', html, re.I)


def test_the_report_card_shows_each_number_with_its_verdict(tmp_path: Path) -> None:
    run = make_run(tmp_path, ["reward"])
    page = Page(write_report(run, run / "report.html").read_text(encoding="utf-8"))
    assert not page.stack
    assert "not fit to optimise against" in page.text
    for shown in ("length bias fail 0.30", "padding pass 0.05", "best-of-n gain unknown \u2014 ; within \u00b10.1"):
        assert shown in page.text
    assert "Human ceiling 0.72" in page.text
    assert "Temperature" not in page.text  # not known, so left out
    path = next(run.glob("reward-*")) / "eval.json"
    rewrite(path, json.loads(path.read_text(encoding="utf-8")) | {"card": {"seven": [{}, 3], "slices": 1, "edits": []}})
    write_report(run, run / "report.html")


def test_null_results_leave_gaps_not_errors(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    path = next(run.glob("evaluate-*")) / "results.json"
    models: dict[str, Any] = {
        m: {"utility": None, "parts": {"helpful": None}, "length": None, "kl": None} for m in MODELS
    }
    row = {
        "a": "ppo",
        "b": "sft",
        "win_rate": 0.6,
        "low": None,
        "high": None,
        "n": None,
        "length_a": None,
        "length_b": 0,
    }
    rewrite(
        path,
        {"models": models, "win_rates": [row, {"a": "dpo", "b": "sft", "win_rate": None}, 3], "extra": None},
    )
    page = Page(write_report(run, run / "report.html").read_text(encoding="utf-8"))
    assert "PPO shows no clear difference from SFT." in page.text


def test_damaged_lines_and_manifests_are_named_on_the_page(tmp_path: Path) -> None:
    run = make_run(tmp_path, ["pretrain", "sft"])
    with (next(run.glob("pretrain-*")) / "metrics.jsonl").open("a", encoding="utf-8") as log:
        log.write('[1]\n{"step": 999, "loss": 1.')
    (next(run.glob("sft-*")) / "manifest.json").write_text("{", encoding="utf-8")
    page = Page(write_report(run, run / "report.html").read_text(encoding="utf-8"))
    assert re.search(r"pretrain-\w+/metrics\.jsonl: 2 unreadable lines left out", page.text)
    assert re.search(r"sft-\w+/manifest\.json: not a JSON object, left out", page.text)


def test_newest_artifact_counts_unless_the_evaluation_used_another(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    other = write_stage(run, "ppo")
    newer = other.rename(run / "ppo-newer")
    rewrite(newer / "manifest.json", {"fingerprint": "f" * 64, "created": "2031-01-01T00:00:00Z"})
    write_stage(run, "ppo")
    assert read_run(run).stage("ppo").fingerprint == fingerprint("ppo")  # type: ignore[union-attr]
    assert [s.fingerprint for s in read_run(run).superseded] == ["f" * 64]
    (next(run.glob("evaluate-*")) / "manifest.json").unlink()
    assert read_run(run).stage("ppo").fingerprint == "f" * 64  # type: ignore[union-attr]


def test_control_and_bidi_characters_are_spelled_out(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    hostile = "a\u202eb\x00c\ud800d\x1b[31m"
    row = {
        "prompt": {"id": hostile, "messages": [{"role": "user", "content": hostile}]},
        "answers": {"sft": hostile},
    }
    write_rows(next(run.glob("evaluate-*")) / "answers.jsonl", [row])
    html = write_report(run, run / "report.html").read_text(encoding="utf-8")
    assert html.count("a\\u202eb\\u0000c\\ud800d\\u001b[31m") == 3
    assert not re.search("[\x00\x1b\u202e]", html)


def test_long_answers_are_cut_and_say_so(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    row = {"prompt": {"id": "1", "messages": []}, "answers": {"sft": "x" * 5000, "ppo": ""}, "gold": {}}
    write_rows(next(run.glob("evaluate-*")) / "answers.jsonl", [row])
    page = Page(write_report(run, run / "report.html").read_text(encoding="utf-8"))
    assert "(3800 more characters)" in page.text
    assert "empty answer" in page.text


def test_refuses_what_cannot_be_read_or_written(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no such run directory"):
        write_report(tmp_path / "absent", tmp_path / "x.html")
    run = make_run(tmp_path, [])
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ArtifactError, match="cannot be written"):
        write_report(run, tmp_path / "file" / "x.html")


def test_agreement_with_others_counts_shared_pairs_only(tmp_path: Path) -> None:
    run = make_run(tmp_path, ["collect"])
    directory = next(run.glob("collect-*"))
    rewrite(directory / "manifest.json", {"metrics": {}})
    prompt = {"id": "1", "messages": [{"role": "user", "content": "?"}]}
    a, b = {"text": "yes"}, {"text": "no, never"}
    rows = [
        {"annotator": "ana", "prompt": prompt, "candidates": [a, b], "choice": 0, "order_shown": [0, 1]},
        {"annotator": "ben", "prompt": prompt, "candidates": [b, a], "choice": 1, "order_shown": [0, 1]},
        {"annotator": "chi", "prompt": prompt, "candidates": [a, b], "tie": True},
        {"annotator": "dov", "prompt": {**prompt, "id": "2"}, "candidates": [a, b], "choice": 1},
    ]
    write_rows(directory / "preferences.jsonl", rows)
    page = Page(write_report(run, run / "report.html").read_text(encoding="utf-8"))
    assert "Two annotators agree 33 % over 3 shared judgements" in page.text
    assert "ana \u2014 1 \u2014 50 % 0 % 0 % 100 %" in page.text  # agrees with ben, not with chi; shown first, shorter
    assert "ben \u2014 1 \u2014 50 % 0 % 0 % 0 %" in page.text


@pytest.mark.parametrize(
    ("gold", "tone"),
    [((0.4, 0.5, 0.6), "good"), ((0.4, 0.6, 0.5), "caution"), ((0.4, 0.6, 0.3), "bad")],
)
def test_over_optimisation_light(gold: tuple[float, ...], tone: str) -> None:
    steps = tuple(enumerate(gold))
    path = EvalPath("ppo", kl=steps, proxy=((0, 0.0), (1, 1.0), (2, 2.0)), gold=steps)
    assert path.overoptimised is not None
    assert path.overoptimised[0] == tone


def test_report_needs_no_torch() -> None:
    code = "import sys, accord.report; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
