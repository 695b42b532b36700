"""Judges against labels: LLMBar, HHH, Auto-J, position, consistency, length."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from accord.errors import DataError
from accord.evals.suites.autoj import AutoJ
from accord.evals.suites.base import GoldPair, PairSuite
from accord.evals.suites.hhh import Hhh
from accord.evals.suites.llmbar import LlmBar, judged_report, published_statistics, read_judged
from accord.evals.suites.pairs import agreement, longer_is_better
from accord.judges.base import Comparison
from accord.judges.conduct import conduct
from accord.types import Message, Prompt


def pair(i: int, gold: float, a: str = "aa", b: str = "b", subset: str = "") -> GoldPair:
    return GoldPair(Prompt(id=str(i), messages=(Message(role="user", content=f"q{i}"),)), a, b, gold, subset)


def said(first: float | None, second: float | None) -> Comparison:
    read = [p for p in (first, second) if p is not None]
    return Comparison(sum(read) / len(read) if read else None, (first, second))


def test_conduct_counts_unreadable_inconsistent_and_first_position() -> None:
    # by_order[0]: a was shown first; by_order[1]: b was. 1 = a wins.
    found = conduct([said(1, 0), said(1, 1), said(0, 0), said(None, 1), said(0.5, 0.5)], unpaired=True)
    assert found.parse_failures == pytest.approx(1 / 10)
    assert found.inconsistent == pytest.approx(1 / 4)
    # Shown first and won: order 0 twice (1, 1) of three, order 1 (b wins): 0 and 0 of four.
    assert found.first_position == pytest.approx(4 / 7)


def test_a_reward_model_has_no_orders() -> None:
    found = conduct([Comparison(0.7), Comparison(0.2)], unpaired=True)
    assert (found.parse_failures, found.inconsistent, found.first_position) == (None, None, None)


def test_accuracy_counts_unreadable_pairs_as_wrong_and_never_drops_them() -> None:
    pairs = [pair(0, 1.0), pair(1, 0.0), pair(2, 1.0), pair(3, 0.5)]
    rows = agreement(
        pairs, [said(1, 1), said(1, 1), said(None, None), said(0.5, 0.5)], judge="j", prompt_hash="h", on="L"
    )
    by_name = {row.name: row for row in rows}
    assert by_name["accuracy"].value == pytest.approx(1 / 3) and by_name["accuracy"].n == 3
    assert by_name["accuracy"].parse_failures == pytest.approx(2 / 6)
    assert by_name["right in both orders"].value == pytest.approx(1 / 3)
    assert by_name["called a tie where the label is a tie"].value == 1.0
    known = by_name["accuracy"].judge_accuracy
    assert known is not None and known["on"] == "L" and known["value"] == by_name["accuracy"].value


def test_pairs_of_one_prompt_are_one_cluster() -> None:
    many = [pair(i // 10, 1.0) for i in range(200)]
    verdicts = [said(float(i // 10 % 2), float(i // 10 % 2)) for i in range(200)]
    (row, *_) = agreement(many, verdicts, judge="j", prompt_hash="", on="L")
    apart = [pair(i, 1.0) for i in range(200)]
    (single, *_) = agreement(apart, verdicts, judge="j", prompt_hash="", on="L")
    assert row.method.startswith("bootstrap") and single.method == "Wilson"
    assert (row.high or 0) - (row.low or 0) > 2 * ((single.high or 0) - (single.low or 0))


def test_the_length_probe_is_the_accuracy_of_the_longer_reply() -> None:
    pairs = [pair(0, 1.0), pair(1, 0.0), pair(2, 0.0, "a", "bbb"), pair(3, 1.0, "x", "y"), pair(4, 0.5)]
    assert longer_is_better(pairs, on="own").value == pytest.approx((1 + 0 + 1 + 0.5) / 4)
    assert longer_is_better([pair(0, 0.0, "a", "bbb")], on="own").value == 1.0


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def llmbar_row(i: int, label: int, first: str | None, second: str | None) -> dict[str, Any]:
    result = {"swap = False": {"completion": ["", ""], "winner": first}, "swap = True": {"winner": second}}
    return {"input": f"q{i}", "output_1": "x", "output_2": "yy", "label": label, "results": ["metrics", result]}


def test_llmbar_statistics_as_published_with_their_oddities(tmp_path: Path) -> None:
    rows = [
        llmbar_row(0, 1, "1", "1"),
        llmbar_row(1, 2, "2", "1"),
        llmbar_row(2, 1, "2", "2"),
        llmbar_row(3, 2, None, None),
    ]
    loaded = read_judged(write(tmp_path / "r.json", rows))
    found = published_statistics(loaded.items)
    assert found["correct_False"] == "2 / 4 = 50.0%"
    assert found["correct_True"] == "1 / 4 = 25.0%"
    assert found["correct_average"] == "37.5%"
    assert found["correct_both"] == "1 / 4 = 25.0%"
    assert found["equal"] == "3 / 4 = 75.0%"  # None == None counts there
    # Codes 1, 0, 0, 0 against labels 1, 2, 1, 2: agree once of four; by chance (1 * 2) / 16.
    assert found["kappa_False"] == pytest.approx((1 / 4 - 2 / 16) / (1 - 2 / 16))
    made = judged_report(loaded, title="t", judge="j")
    by_name = {row.name: row for row in made.rows}
    assert by_name["accuracy"].value == pytest.approx((1 + 0.5 + 0 + 0) / 4)
    assert by_name["accuracy"].parse_failures == pytest.approx(2 / 8)
    assert by_name["accuracy, first reply shown first"].value == 0.5
    assert by_name["accuracy, second reply shown first"].value == 0.25
    # Swapped, output 2 is shown first: it won once of three.
    assert by_name["accuracy, second reply shown first"].first_position == pytest.approx(1 / 3)
    assert made.details["published_statistics"] == found
    assert set(made.details["kappas"]) == {"kappa with labels, given order", "kappa with labels, swapped order"}


def test_rows_that_are_no_pairs_are_named(tmp_path: Path) -> None:
    rows = [llmbar_row(0, 3, "1", "1"), llmbar_row(1, 1, "x", "1"), llmbar_row(2, 1, "1", "1"), {"input": "q"}]
    found = read_judged(write(tmp_path / "r.json", rows))
    assert len(found.items) == 1 and len(found.bad) == 3
    assert "expected 1 or 2" in found.bad[0].reason and "winner" in found.bad[1].reason
    with pytest.raises(DataError, match="no row could be used"):
        AutoJ().pairs(write(tmp_path / "a.json", [{"prompt": "q", "label": 7}]))


def test_hhh_and_auto_j_read_their_formats(tmp_path: Path) -> None:
    talk = "\n\nHuman: hi\n\nAssistant: yes?\n\nHuman: go on\n\nAssistant: "
    row = {
        "text_correct": f"{talk}good",
        "text_incorrect": f"{talk}bad",
        "prompt": "Options: ...",
        "corrects": [" (B)"],
    }
    (found,) = Hhh().pairs(write(tmp_path / "h.json", [row])).items
    assert (found.a, found.b, found.gold) == ("good", "bad", 1.0)
    assert [m.role for m in found.prompt.messages] == ["user", "assistant", "user"]
    assert found.prompt.meta["answer"] == "B"
    rows = [
        {"prompt": f"q{i}", "response 1": "x", "response 2": "yy", "label": i, "scenario": f"s{i % 2}"}
        for i in range(3)
    ]
    pairs = AutoJ().pairs(write(tmp_path / "a.json", rows)).items
    assert [p.gold for p in pairs] == [1.0, 0.0, 0.5]
    verdicts = [said(1, 1), said(1, 0), said(0.5, 0.5)]
    by_name = {r.name: r for r in AutoJ().score(pairs, verdicts, judge="j").rows}
    assert by_name["agreement in both orders, ties included"].value == pytest.approx(2 / 3)
    assert by_name["accuracy"].value == pytest.approx(1.5 / 2)


@pytest.mark.parametrize("suite", [LlmBar(), Hhh(), AutoJ()])
def test_suites_of_pairs_conform(suite: PairSuite) -> None:
    pairs = [pair(i, float(i % 2), subset=f"part {i % 3}") for i in range(12)]
    verdicts = [said(p.gold, p.gold) for p in pairs]
    made = suite.score(pairs, verdicts, judge="perfect", prompt_hash="abc")
    assert suite.kind == "pairs" and suite.name and suite.about
    assert made.rows[0].value == 1.0 and made.rows[0].judge == "perfect" and made.rows[0].prompt_hash == "abc"
    assert sum(row.name.startswith("accuracy, part") for row in made.rows) == 3
