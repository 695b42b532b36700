"""Verdicts read as the original programs read them."""

from __future__ import annotations

import math

import pytest

from accord.evals.suites.verdicts import (
    LEVEL_SCORES,
    alpaca_preference,
    arena_level,
    llmbar_output,
    mt_bench_pair,
    mt_bench_rating,
    swapped_level,
)


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("Both are good. [[A]]", "A"),
        ("[[B]]", "B"),
        ("A tie: [[C]].", "tie"),
        ("Not [[C]] and not [[B]], but [[A]]", "A"),  # the original looks for A first, wherever it stands
        ("[A]", None),
        ("[[a]]", None),
        ("I cannot decide", None),
        ("", None),
    ],
)
def test_mt_bench_pairs(text: str, verdict: str | None) -> None:
    assert mt_bench_pair(text) == verdict


@pytest.mark.parametrize(
    ("text", "rating"),
    [
        ("Rating: [[7]]", 7.0),
        ("[[7.5]]", 7.5),
        ("[[10]] no, [[3]]", 10.0),
        ("Rating: [8]", 8.0),
        ("[5] or rather [[6]]", 6.0),
        ("[[rating]]", None),
        ("8/10", None),
    ],
)
def test_mt_bench_ratings(text: str, rating: float | None) -> None:
    assert mt_bench_rating(text) == rating


@pytest.mark.parametrize(
    ("text", "new", "old"),
    [
        ("My final verdict is: [[A>>B]]", "A>>B", "A>>B"),
        ("[[A=B]]", "A=B", "A=B"),
        ("[[B>A]] ... so [[B>A]]", "B>A", "B>A"),
        ("[[A>B]] ... no: [[B>>A]]", "B>>A", None),
        ("verdict [B>A]", "B>A", None),
        ("[[a>b]]", "A>B", None),
        ("[[A<<B]]", "B>>A", "B>>A"),
        ("[[A]]", None, None),
        ("nothing", None, None),
    ],
)
def test_arena_levels_of_both_versions(text: str, new: str | None, old: str | None) -> None:
    assert arena_level(text) == new
    assert arena_level(text, version="0.1") == old


def test_a_swapped_level_turns_the_score_round() -> None:
    for level, score in LEVEL_SCORES.items():
        assert LEVEL_SCORES[swapped_level(level)] == 1 - score
        assert swapped_level(swapped_level(level)) == level


def test_alpaca_preferences_come_from_the_probabilities_of_two_tokens() -> None:
    both = {"m": math.log(0.3), "M": math.log(0.1), "x": math.log(0.6)}
    assert alpaca_preference(both, swapped=False) == pytest.approx(2 - 0.75)
    assert alpaca_preference(both, swapped=True) == pytest.approx(1 + 0.75)
    assert alpaca_preference({"M": -0.1}, swapped=False) == 2.0
    assert alpaca_preference({"x": -0.1}, swapped=False) is None


def test_llmbar_outputs() -> None:
    assert llmbar_output("Output (a)") == "1"
    assert llmbar_output("therefore Output (b) is better") == "2"
    assert llmbar_output("Output (a) or Output (b)") is None
    assert llmbar_output("neither") is None
