"""The report card of a reward model: numbers from pairs whose answer is known, and unknown where data is missing."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from accord.evals.biases import EDITS, Scored, edit_shifts, feature_bias, markup, position_bias, ties
from accord.evals.preferences import LabelledPair
from accord.evals.report_card import best_of_n_gain, human_ceiling, number, report_card, summary, top_half
from accord.types import Candidate, Message, Preference, Prompt

CEILING = {"value": 0.8, "low": 0.78, "high": 0.82, "n": 900}
FLAT = {"value": 0.0, "low": -0.01, "high": 0.01, "n": 100, "raised": 0.5}


def row(number: int, scores=(1.0, 0.0), texts=("a b c", "d e f"), target=1.0, **known) -> Scored:
    return Scored(LabelledPair(f"prompt {number}", *texts, target), scores, **known)


def simulated(num: int, length_weight: float, seed: int = 0) -> list[Scored]:
    """A model that knows the true difference exactly, plus a bonus a character; labels are drawn from the truth."""
    draw = np.random.default_rng(seed)
    rows = []
    for i in range(num):
        quality, sizes = draw.normal(size=2) * 1.5, draw.integers(20, 200, size=2)
        sure = 1 / (1 + math.exp(quality[1] - quality[0]))
        scores = tuple(float(q + length_weight * n) for q, n in zip(quality, sizes, strict=True))
        texts = tuple("x" * int(n) for n in sizes)
        rows.append(row(i, scores, texts, float(draw.random() < sure), gold=tuple(map(float, quality))))
    return rows


def card_of(rows: list[Scored], **changes) -> dict:
    given = {"judgements": rows, "ceiling": CEILING, "edits": dict.fromkeys(EDITS, FLAT), "ece": 0.02}
    return report_card(rows, **given | changes)


def seven(card: dict) -> dict[str, dict]:
    return {x["name"]: x for x in card["seven"]}


def judged(number: int, annotator: str, choice: int | None, turned: bool = False) -> Preference:
    texts = ("worse", "better") if turned else ("better", "worse")
    return Preference(
        id=f"{number}-{annotator}",
        prompt=Prompt(id=f"p{number}", messages=(Message(role="user", content=f"q{number}"),)),
        candidates=tuple(Candidate(text=t) for t in texts),
        choice=choice,
        tie=choice is None,
        annotator=annotator,
    )


def test_length_bias_is_that_of_the_model_beyond_the_labels() -> None:
    fair = feature_bias(simulated(600, 0.0), len)
    biased = feature_bias(simulated(600, 0.03), len)
    assert abs(fair["excess"]["value"]) < 0.05
    assert abs(fair["partial"]["value"]) < 0.1
    assert biased["excess"]["low"] > 0.2
    assert biased["partial"]["low"] > 0.5
    assert seven(card_of(simulated(600, 0.0)))["length bias"]["status"] == "pass"
    card = card_of(simulated(600, 0.03))
    assert seven(card)["length bias"]["status"] == "fail"
    assert card["verdict"] == "fail"


def test_a_model_that_knows_the_truth_passes() -> None:
    card = card_of(simulated(1500, 0.0), ceiling=CEILING)
    found = seven(card)
    assert found["best-of-n gain"]["value"] == 1.0
    assert found["accuracy at the top"]["status"] == "pass"
    assert found["calibration error"]["status"] == "pass"
    share = found["share of the human ceiling"]
    assert share["value"] == pytest.approx((card["judgement_accuracy"]["value"] - 0.5) / (CEILING["value"] - 0.5))
    assert share["low"] < share["value"] < share["high"]


def test_what_the_data_cannot_say_is_unknown_with_a_reason() -> None:
    card = report_card([], judgements=None, ceiling=human_ceiling([]), edits={}, ece=None)
    assert {x["status"] for x in card["seven"]} == {"unknown"}
    assert all(x["reason"] and x["value"] is None for x in card["seven"])
    assert card["verdict"] == "unknown"
    assert len(summary(card)) == 8
    few = seven(card_of([row(i) for i in range(5)]))
    assert few["accuracy at equal length"]["reason"] == "only 5 observations, 30 are needed"
    assert few["best-of-n gain"]["reason"] == "true utility is known in the lab only"


@pytest.mark.parametrize(
    ("good", "low", "high", "status"),
    [
        ("at least", 0.5, 0.9, "pass"), ("at least", 0.4, 0.6, "unknown"), ("at least", 0.1, 0.49, "fail"),
        ("at most", 0.1, 0.5, "pass"), ("at most", 0.4, 0.6, "unknown"), ("at most", 0.51, 0.6, "fail"),
        ("within", -0.5, 0.5, "pass"), ("within", -0.6, 0.1, "unknown"), ("within", -0.9, -0.6, "fail"),
    ],
)  # fmt: skip
def test_a_number_is_judged_by_its_whole_interval(good, low: float, high: float, status: str) -> None:
    found = {"value": (low + high) / 2, "low": low, "high": high, "n": 50}
    assert number("x", "?", found, limit=0.5, good=good, missing="none").status == status
    assert number("x", "?", found | {"n": 10}, limit=0.5, good=good, missing="none").status == "unknown"


def test_many_pairs_of_one_prompt_prove_nothing() -> None:
    """Nothing is known about other prompts, so every number without an interval is unknown and none is a pass."""
    rows = [
        Scored(LabelledPair("one prompt", *texts, float(i % 2)), (2.0 * (i % 2), 1.0))
        for i in range(60)
        for texts in (("a b c", "d e f"), ("a longer reply", "short"))
    ]
    shifts = edit_shifts([0.0] * 40, [0.0] * 40, 1.0, ["one prompt"] * 40)
    card = card_of(rows, edits=dict.fromkeys(EDITS, shifts))
    found = seven(card)
    assert found["length bias"]["n"] == 60 and found["padding"]["n"] == 40
    for name in ("accuracy at equal length", "length bias", "padding"):
        assert found[name]["status"] == "unknown" and found[name]["low"] is None, name
    json.dumps(card, allow_nan=False)


def test_the_partial_correlation_knows_that_pairs_of_one_prompt_are_alike() -> None:
    together = feature_bias([row for row in simulated(60, 0.03) for _ in range(8)], len)["partial"]
    once = feature_bias(simulated(60, 0.03), len)["partial"]
    assert together["value"] == pytest.approx(once["value"])
    assert together["n"] == 480
    width = [found["high"] - found["low"] for found in (together, once)]
    assert 0.5 * width[1] < width[0] < 2 * width[1]  # not a third of it, as if there were 480 prompts


def test_the_human_ceiling_is_one_annotator_against_the_mean_of_the_others() -> None:
    # three agree and one does not: 3 x (2 of 3 others agree) right, the fourth wrong, whichever order is named
    votes = [judged(0, "a", 0), judged(0, "b", 1, turned=True), judged(0, "c", 0), judged(0, "d", 1)]
    assert human_ceiling(votes)["value"] == pytest.approx(0.75)
    # the others are split: half; a tie is an opinion of the others and none of one's own
    split = [judged(1, "a", 0), judged(1, "b", 1), judged(1, "c", 0)]
    assert human_ceiling(split)["value"] == pytest.approx((0.5 + 0 + 0.5) / 3)
    assert human_ceiling([judged(2, "a", 0), judged(2, "b", None)]) | {"low": 0, "high": 0} == {
        "value": 0.5, "low": 0, "high": 0, "n": 1,
    }  # fmt: skip
    assert human_ceiling([judged(3, "a", 0), judged(4, "b", 0)])["value"] is None


def test_ties_are_told_apart_by_small_differences() -> None:
    rows = [row(i, (0.1 * i, 0.0), tie=i < 3) for i in range(8)]
    assert ties(rows)["auc"] == 1.0
    assert ties([row(i, (0.1 * i, 0.0), tie=i > 4) for i in range(8)])["auc"] == 0.0
    assert ties(rows)["labelled"] == pytest.approx(3 / 8)
    assert ties(rows)["near_zero"] == pytest.approx(3 / 8)  # sigmoid(0.2) < 0.55 <= sigmoid(0.3)
    assert ties(rows, temperature=100)["near_zero"] == 1.0
    assert ties([row(0)])["auc"] is None


def test_position_and_markup() -> None:
    rows = [row(i, first_shown=i < 6, target=1.0) for i in range(8)]
    assert position_bias(rows)["value"] == pytest.approx(6 / 8)
    assert position_bias([row(0)])["value"] is None
    assert markup("## Title\n- one\n* two\n1. three\nand **bold**") == 5
    assert markup("2 - 1 is one. A * b") == 0
    assert markup(EDITS["made a list"]("One. Two! Three?")) == 3


def test_edits_are_measured_in_deviations_of_the_score() -> None:
    found = edit_shifts([0.0, 1.0, 2.0], [1.0, 2.0, 1.0], 2.0, ["a", "b", "c"])
    assert found["value"] == pytest.approx(1 / 6)
    assert found["raised"] == pytest.approx(2 / 3)
    assert edit_shifts([], [], 1.0, [])["value"] is None
    worst = dict.fromkeys(EDITS, FLAT) | {"reply repeated": FLAT | {"value": 0.4, "low": 0.3, "high": 0.5}}
    assert seven(card_of([row(0)], edits=worst))["padding"]["status"] == "fail"
    liked = dict.fromkeys(EDITS, FLAT) | {"made a list": FLAT | {"value": 0.4, "low": 0.3, "high": 0.5}}
    assert seven(card_of([row(0)], edits=liked))["padding"]["status"] == "pass"


def test_best_of_n_and_the_top_half() -> None:
    rows = [
        row(0, (2.0, 1.0), ("a", "b"), gold=(5.0, 1.0)),
        row(0, (2.0, 3.0), ("a", "c"), gold=(5.0, 3.0)),
        row(1, (1.0, 1.0), ("a", "b"), gold=(1.0, 0.0)),
        row(2, (9.0, 0.0), ("a", "b"), gold=(4.0, 4.0)),
    ]
    # prompt 0: the best score is c with 3, the mean; prompt 1: equal scores give the mean; prompt 2: nothing to gain
    assert best_of_n_gain(rows)["value"] == 0.0
    assert best_of_n_gain(rows)["n"] == 2
    assert best_of_n_gain([row(0)])["value"] is None
    assert [s.scores for s in top_half(rows)] == [(2.0, 3.0), (9.0, 0.0)]
