"""Base abilities before and after, and models on one scale, by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest

from accord import stats
from accord.evals.abilities import Ability, Outcomes, answer_of, is_right, markdown, table
from accord.evals.comparing import Match, measured, pairings, win_row
from accord.judges.base import Comparison
from accord.types import Message, Prompt


def question(answer: Any) -> Prompt:
    return Prompt(id="q", messages=(Message(role="user", content="?"),), meta={"answer": answer})


@pytest.mark.parametrize(
    ("answer", "reply", "right"),
    [
        ("42", "First 7, so 42.", True),
        ("42", "42, not 7", False),
        (1234, "It is 1,234", True),
        ("so 3 + 4 = 7\n#### 7", "7.0", True),
        ("Paris", "the town is PARIS!", True),
        ("Paris", "Parisian", False),
        ("C++", "I like c++ most", True),
        ("-3", "it is -3", True),
    ],
)
def test_what_counts_as_the_right_answer(answer: Any, reply: str, right: bool) -> None:
    assert is_right(question(answer), reply) is right


@pytest.mark.parametrize("answer", [None, True, "", "####  ", ["x"]])
def test_a_question_without_an_answer(answer: Any) -> None:
    assert answer_of(question(answer)) is None


DOCUMENTS = tuple(str(i // 4) for i in range(80))
LOSSES = tuple(1.0 + 0.1 * (i % 7) for i in range(80))


def perplexities(numbers: dict[str, int]) -> dict[str, Any]:
    outcomes = {
        "sft": Outcomes(LOSSES, DOCUMENTS),
        "ppo": Outcomes(tuple(x + 0.5 for x in LOSSES), DOCUMENTS),
        "dpo": Outcomes(tuple(x - 0.25 for x in LOSSES), DOCUMENTS),
    }
    return table([Ability("text", "perplexity", outcomes, numbers)], "sft", seed=0)[0]["models"]


def test_perplexities_change_by_a_ratio_and_higher_is_worse() -> None:
    found = perplexities({"sft": 0, "ppo": 0, "dpo": 0})
    assert found["sft"]["value"] == pytest.approx(math.exp(sum(LOSSES) / 80)) and found["sft"]["n"] == 20
    assert found["sft"]["change"] is None
    assert found["ppo"]["change"]["value"] == pytest.approx(math.exp(0.5)) and found["ppo"]["worse"]
    assert found["dpo"]["change"]["value"] == pytest.approx(math.exp(-0.25)) and not found["dpo"]["worse"]
    assert found["ppo"]["low"] < found["ppo"]["value"] < found["ppo"]["high"]


def test_perplexities_over_other_tokens_are_not_compared() -> None:
    found = perplexities({"sft": 0, "ppo": 1, "dpo": 0})
    assert found["ppo"]["change"] is None and "another vocabulary" in found["ppo"]["reason"]
    assert found["dpo"]["change"] is not None


def test_accuracies_change_by_a_difference_and_lower_is_worse() -> None:
    names = tuple(map(str, range(40)))
    outcomes = {
        "sft": Outcomes((1.0,) * 30 + (0.0,) * 10, names),
        "ppo": Outcomes((1.0,) * 10 + (0.0,) * 30, names),
        "dpo": Outcomes((1.0,) * 29 + (0.0,) * 11, names),
    }
    rows = table([Ability("sums", "accuracy", outcomes, dict.fromkeys(outcomes, 0))], "sft", seed=0)
    found = rows[0]["models"]
    assert found["ppo"]["change"]["value"] == pytest.approx(-0.5) and found["ppo"]["worse"]
    assert found["dpo"]["change"]["value"] == pytest.approx(-1 / 40) and not found["dpo"]["worse"]
    text = markdown(rows, "sft")
    assert "| 0.250 [" in text and text.count("**worse**") == 2  # the cell and the note


class _Judge:
    name, prompt_hash = "judge", "abc"


def said(*p: float | None) -> tuple[Comparison, ...]:
    return tuple(Comparison(x, (x, x)) for x in p)


def test_pairings() -> None:
    assert pairings(["a", "b", "c"], "b", every=False) == [("a", "b"), ("c", "b")]
    assert pairings(["a", "b", "c"], "b", every=True) == [("a", "b"), ("c", "b"), ("a", "c")]


def test_a_win_row_counts_what_could_be_read() -> None:
    match = Match("a", "b", said(1.0, 0.75, 0.5, 0.0, None))
    row = win_row(match, {"a": [1, 2, 3, 4, 5], "b": [2] * 5})
    assert (row["wins"], row["ties"], row["losses"], row["unreadable"], row["n"]) == (2, 1, 1, 1, 4)
    assert row["win_rate"] == pytest.approx(2.5 / 4) and (row["length_a"], row["length_b"]) == (3, 2)
    nothing = win_row(Match("a", "b", said(None)), {"a": [1], "b": [2]})
    assert nothing["win_rate"] is None and nothing["unreadable"] == 1


def test_every_number_of_several_models() -> None:
    n = 40
    prompts = [f"p{i}" for i in range(n)]
    good, fair = said(*(0.9 if i % 4 else 0.2 for i in range(n))), said(*(0.7 if i % 2 else 0.4 for i in range(n)))
    matches = [Match("a", "base", good), Match("b", "base", fair)]
    texts = {"a": ["x" * (i % 9) for i in range(n)], "b": ["y" * (i % 5) for i in range(n)], "base": ["z"] * n}
    rows = {row.name: row for row in measured(matches, texts, prompts, judge=_Judge(), seed=0)}  # pyright: ignore
    assert rows["win rate, a against base"].value == 0.75
    assert rows["mean preference, a against base"].value == pytest.approx(0.725)
    longer = [len(texts["a"][i]) - 1 for i in range(n)]
    controlled = rows["length-controlled win rate, a against base"]
    assert controlled.value == stats.length_controlled_win_rate([c.p for c in good], longer).value
    assert controlled.low < controlled.value < controlled.high
    points = [rows[f"Elo points of {name}"].value for name in ("a", "b", "base")]
    assert points[0] > points[1] > points[2] and sum(points) == pytest.approx(0, abs=1e-6)
    # With one rival only, the distance in points is the log-odds of the mean preference.
    assert points[1] - points[2] == pytest.approx(400 / math.log(10) * math.log(0.55 / 0.45), rel=1e-6)
    assert all(row.judge == "judge" and row.prompt_hash == "abc" for row in rows.values())
    same = {name: ["same"] * n for name in texts}
    rows = {row.name: row for row in measured(matches, same, prompts, judge=_Judge(), seed=0)}  # pyright: ignore
    assert "the same length" in rows["length-controlled win rate, a against base"].reason
