"""RewardBench 1 and 2 by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from accord.errors import DataError
from accord.evals.suites.reward_bench import COUNTS, SECTIONS, credit, read_items, score_items, ties_score
from accord.judges.base import Comparison, Rating


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def row(subset: str, chosen: Any, rejected: Any, **more: Any) -> dict[str, Any]:
    """Texts that are the numbers the judge of these tests gives them."""
    return {"prompt": "q", "chosen": chosen, "rejected": rejected, "subset": subset, **more}


class Reads:
    """Gives a reply the number it says."""

    name, prompt_hash = "reads", "1" * 12

    def compare(self, items: Any) -> list[Comparison]:
        return [Comparison(0.5) for _ in items]

    def rate(self, items: Any) -> list[Rating]:
        return [Rating(None, "too long") if reply == "?" else Rating(float(reply)) for _, reply in items]


def test_sections_of_the_first_benchmark() -> None:
    assert sum(COUNTS[s] for s in SECTIONS["Chat"]) == 358
    assert sum(COUNTS[s] for s in SECTIONS["Chat Hard"]) == 456
    assert sum(COUNTS[s] for s in SECTIONS["Safety"]) == 740
    assert sum(COUNTS[s] for s in SECTIONS["Reasoning"]) == 984 + 6 * 164


def test_sections_weigh_subsets_as_published_and_the_score_weighs_sections(tmp_path: Path) -> None:
    rows = [
        row("math-prm", "2", "1"),
        row("math-prm", "2", "1"),
        row("hep-cpp", "1", "2"),
        row("donotanswer", "2", "1"),
        row("donotanswer", "1", "1"),  # a tie is wrong
        row("own", "3", "1"),
        row("shp", "1", "2"),
    ]
    made = score_items(read_items(write(tmp_path / "r.jsonl", rows)), Reads(), title="t")
    by_name = {r.name: r for r in made.rows}
    assert by_name["math-prm"].value == 1.0 and by_name["math-prm"].n == 2
    assert by_name["section Reasoning"].value == pytest.approx(984 / (984 + 164))
    assert by_name["section Safety"].value == 0.5
    assert by_name["section own"].value == 1.0 and by_name["section Prior Sets"].value == 0.0
    expected = (984 / 1148 + 0.5 + 1.0 + 0.5 * 0.0) / 3.5
    score = by_name["score, mean of sections"]
    assert score.value == pytest.approx(expected) and (score.low or 0) < expected < (score.high or 1)
    assert score.judge == "reads" and score.prompt_hash == "1" * 12
    assert any("1 of 2 questions have equal scores" in note for note in made.notes)


def test_credit_of_pairs_and_of_best_of_four() -> None:
    assert [credit((2.0, 1.0)), credit((1.0, 1.0)), credit((1.0, 2.0))] == [1.0, 0.0, 0.0]
    assert credit((3.0, 1.0, 2.0, 0.0)) == 1.0
    assert credit((3.0, 3.0, 2.0, 0.0)) == 0.5
    assert credit((3.0, 3.0, 3.0, 3.0)) == 0.25
    assert credit((2.0, 3.0, 0.0, 0.0)) == 0.0


def ties_rows() -> list[dict[str, Any]]:
    return [
        row("Ties", ["5"], ["2", "1"], id="ref:1"),
        row("Ties", ["9", "8"], ["4"], id="tied:1"),  # right ones 1 apart, wrong 4 below
        row("Ties", ["3"], ["2"], id="ref:2"),
        row("Ties", ["9", "4"], ["6", "1"], id="tied:2"),  # a wrong one above a right one
    ]


def test_ties_by_hand(tmp_path: Path) -> None:
    loaded = read_items(write(tmp_path / "r.jsonl", ties_rows()))
    scored = [(item, [float(r) for r in item.replies]) for item in loaded.items]
    found = ties_score(scored)
    assert (found["ref_accuracy"], found["tied_accuracy"], found["pairs"]) == (1.0, 0.5, 2)
    assert found["correctness_preferred"] == 0.5  # 4 > 1, -2 > 5 is not
    assert found["correctness_preferred_hard"] == 0.5  # min(3, 4) > 1
    margin = (math.tanh(3 / 1 - 1) + math.tanh(-2 / 5 - 1)) / 2
    assert found["correctness_margin"] == pytest.approx(margin)
    assert found["score"] == pytest.approx(0.3 * 0.5 + 0.3 * 1 + 0.2 * 0.5 + 0.2 * 0.5 + 0.01 * margin)
    assert ties_score(scored[:1])["score"] is None
    same = [(loaded.items[0], [5.0, 2.0, 1.0]), (loaded.items[1], [8.0, 8.0, 4.0])]
    assert ties_score(same)["correctness_margin"] == 1.0  # right replies with one score are infinitely close


def test_the_second_benchmark_is_the_mean_of_its_subsets(tmp_path: Path) -> None:
    rows = [
        row("Factuality", ["4"], ["1", "2", "3"]),
        row("Factuality", ["4"], ["4", "2", "3"]),
        row("Math", ["1"], ["2", "2", "3"]),
        *ties_rows(),
    ]
    made = score_items(read_items(write(tmp_path / "r.jsonl", rows)), Reads(), title="t")
    by_name = {r.name: r for r in made.rows}
    assert by_name["Factuality"].value == 0.75 and by_name["Math"].value == 0.0
    ties = by_name["Ties"].value
    assert ties is not None
    assert by_name["score, mean of subsets"].value == pytest.approx((0.75 + 0.0 + ties) / 3)
    assert made.details["ties"]["score"] == ties


def test_scores_in_the_file_replies_that_cannot_be_scored_and_bad_rows(tmp_path: Path) -> None:
    rows = [
        row("a", "x", "y", score_chosen=2, score_rejected=1),
        row("a", "x", ["y", "z"], scores=[1.0, 3.0, 2.0]),
        row("a", "x", "y", scores=[1.0]),
        row("a", [], "y"),
    ]
    path = write(tmp_path / "r.jsonl", rows)
    loaded = read_items(path)
    assert [item.scores for item in loaded.items] == [(2.0, 1.0), (1.0, 3.0, 2.0)]
    assert "list of 2 numbers" in loaded.bad[0].reason and "empty list" in loaded.bad[1].reason
    made = score_items(loaded, None, title="t")
    assert made.rows[0].value == 0.5 and made.bad == loaded.bad
    unscored = read_items(write(tmp_path / "u.jsonl", [row("a", "2", "1"), row("a", "?", "1")]))
    with pytest.raises(DataError, match="2 of 2 rows have no scores"):
        score_items(unscored, None, title="t")
    made = score_items(unscored, Reads(), title="t")
    assert made.rows[0].value == 0.5 and made.rows[0].parse_failures == 0.5
    assert any("too long" in note for note in made.notes)
