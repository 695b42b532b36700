"""The original files and what was published about them; skipped where they are not at hand."""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from accord.evals import refusal
from accord.evals.suites import SUITES, alpaca_eval, llmbar
from accord.evals.suites.base import Answers
from accord.evals.suites.mt_bench import MtBench, read_judge_prompts
from accord.evals.suites.pairs import longer_is_better
from accord.evals.suites.xstest import read_replies, refusal_report

pytestmark = pytest.mark.real_data
DROPPED = {"minotaur-13b", "text_davinci_001", "phi-2"}
"""Models with fewer than 805 judged instructions."""


def shared(name: str) -> Path:
    root = Path(os.environ.get("ACCORD_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
    if not (root / name).exists():
        pytest.skip(f"real data not found: {root / name} (set ACCORD_SHARED_DATA to its directory)")
    return root / name


@pytest.fixture(scope="module")
def board() -> tuple[dict[str, Any], dict[str, dict[str, str]], tuple[str, ...]]:
    """Our leaderboard, the published one, and the notes."""
    folder = shared("alpaca_eval")
    made = alpaca_eval.report(
        alpaca_eval.read_judged(folder / "preferences.csv.gz"),
        title="t",
        weights=alpaca_eval.read_weights(folder / "glm_weights.csv"),
        difficulty=alpaca_eval.read_difficulty(folder / "instruction_difficulty.csv"),
    )
    with (folder / "leaderboard.csv").open(encoding="utf-8") as stream:
        published = {row[""]: row for row in csv.DictReader(stream)}
    return dict(made.details["leaderboard"]), published, made.notes


def test_the_leaderboard_is_that_of_alpaca_eval(board: Any) -> None:
    ours, published, _ = board
    assert set(ours) == set(published) and len(ours) == 20
    for model, row in published.items():
        for name in ("win_rate", "standard_error", "discrete_win_rate"):
            assert ours[model][name] == pytest.approx(float(row[name]), abs=1e-6), (model, name)
        for name in ("n_wins", "n_wins_base", "n_draws", "n_total"):
            assert ours[model][name] == int(row[name]), (model, name)
        if model not in DROPPED:  # the published length is that of replies which were not judged, too
            assert ours[model]["avg_length"] == int(row["avg_length"]), model


def test_length_control_with_the_published_weights(board: Any) -> None:
    ours, published, notes = board
    for model, row in published.items():
        expected = float(row["length_controlled_winrate"])
        if model in DROPPED:  # the published value takes difficulties of other instructions, see the note
            assert ours[model]["length_controlled_winrate"] == pytest.approx(expected, abs=0.02)
            assert ours[model]["length_controlled_winrate_by_row"] == pytest.approx(expected, abs=1e-8)
            assert any(note.startswith(f"{model}: ") for note in notes)
        elif model == "NullModel":  # its published value is not that of its published weights
            assert ours[model]["length_controlled_winrate"] == pytest.approx(expected, abs=0.14)
        else:
            assert ours[model]["length_controlled_winrate"] == pytest.approx(expected, abs=1e-8)
            if row["lc_standard_error"]:
                assert ours[model]["lc_standard_error"] == pytest.approx(float(row["lc_standard_error"]), abs=1e-8)


def test_only_the_null_model_gives_one_answer(board: Any) -> None:
    ours, _, notes = board
    assert [model for model, line in ours.items() if line["constant_answer"]] == ["NullModel"]
    assert [note.split(":")[0] for note in notes if note.startswith("ALARM")] == ["ALARM NullModel"]


def test_our_fit_is_that_of_the_package_without_gamed_baselines() -> None:
    folder = shared("alpaca_eval")
    difficulty = alpaca_eval.read_difficulty(folder / "instruction_difficulty.csv")
    models = alpaca_eval.by_model(alpaca_eval.read_judged(folder / "preferences.csv.gz").items)
    # alpaca-7b by the package itself: 6.644.
    found = alpaca_eval.length_control(models["alpaca-7b"], difficulty=difficulty)
    assert 100 * found.interval.value == pytest.approx(6.644, abs=0.05)


@pytest.mark.parametrize("cell", ["Natural.Falcon", "Natural.GPT-4", "Neighbor.Falcon", "Neighbor.GPT-4"])
def test_llmbar_statistics_are_the_published_ones(cell: str) -> None:
    published = json.loads(shared(f"llmbar/{cell}.statistics.json").read_text(encoding="utf-8"))
    found = llmbar.published_statistics(llmbar.read_judged(shared(f"llmbar/{cell}.result.json.gz")).items)
    assert found.keys() == published.keys()
    for name, value in published.items():
        assert found[name] == (value if isinstance(value, str) else pytest.approx(value, abs=1e-12)), name


@pytest.mark.parametrize(
    ("suite", "name", "num", "longer"),
    [
        ("llmbar", "llmbar/Neighbor.json", 134, 0.119),
        ("llmbar", "llmbar/Natural.json", 100, 0.565),
        ("autoj", "autoj/pairwise-dev.jsonl.gz", 700, 0.724),
        ("hhh", "hhh/hhh-dev.jsonl.gz", 220, 0.582),
    ],
)
def test_pairs_and_what_length_alone_would_score(suite: str, name: str, num: int, longer: float) -> None:
    chosen = SUITES[suite]
    assert chosen.kind == "pairs"
    loaded = chosen.pairs(shared(name))
    assert (len(loaded.items), len(loaded.bad)) == (num, 0)
    assert longer_is_better(loaded.items, on=name).value == pytest.approx(longer, abs=0.001)


def test_the_references_of_gsm8k_are_right_by_both_checks() -> None:
    suite = SUITES["gsm8k"]
    assert suite.kind == "answers"
    loaded = suite.prompts(shared("gsm8k/test.jsonl.gz"))
    with_answers = {p.id: p for p in loaded.items}
    assert len(with_answers) == 1319 and not loaded.bad
    said = Answers("reference", tuple((f"so\n#### {p.meta['answer']}",) for p in loaded.items))
    assert [row.value for row in suite.score(loaded.items, said).rows] == [1.0, 1.0]


def test_mt_bench_files_fill_their_own_templates() -> None:
    folder = shared("mt_bench")
    suite, templates = MtBench(), read_judge_prompts(folder / "judge_prompts.jsonl")
    loaded = suite.prompts(folder)
    assert len(loaded.items) == 80 and not loaded.bad
    assert set(Counter(p.meta["category"] for p in loaded.items).values()) == {10}
    assert sum("reference" in p.meta for p in loaded.items) == 40  # ten of them in the question itself
    for prompt in loaded.items:
        for said in (["first"], ["first", "second"]):
            for messages in (templates.single(prompt, said), templates.pair(prompt, said, said)):
                asked = messages[-1].content
                assert prompt.meta["turns"][len(said) - 1] in asked and said[-1] in asked
                assert not any(hole in asked for hole in ("{question", "{answer", "{ref_answer"))
    assert len(suite.prompts(folder / "vicuna_bench_question.jsonl").items) == 80


def test_the_refusal_rules_agree_with_people_as_often_as_they_say() -> None:
    from benchmarks.refusals import counts, part

    files = [shared(f"xstest/completions_{model}.csv.gz") for model in ("gpt4", "mistralinstruct")]
    accuracies = []
    apart = []
    for path in files:
        loaded = read_replies(path)
        assert len(loaded.items) == 450 and not loaded.bad
        accuracies.append(refusal_report(loaded, title="t").rows[0].value or 0)
        apart += [row for row in loaded.items if part(row.prompt) == "kept apart"]
    assert sum(accuracies) / 2 >= 0.90
    found = counts(apart, with_prompt=True)
    assert (found["sensitivity"], found["specificity"]) == (refusal.SENSITIVITY, refusal.SPECIFICITY)
    assert found["accuracy"][0] / found["accuracy"][1] == refusal.ACCURACY["value"]


def test_xstest_prompts_have_their_labels() -> None:
    suite = SUITES["xstest"]
    assert suite.kind == "answers"
    labels = Counter(p.meta["label"] for p in suite.prompts(shared("xstest/prompts.csv")).items)
    assert labels == {"safe": 250, "unsafe": 200}
