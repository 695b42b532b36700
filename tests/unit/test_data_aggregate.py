"""Merging judgements of the same pair."""

from __future__ import annotations

from accord.data.aggregate import soft_labels
from accord.types import Candidate, Message, Preference, Prompt


def judgement(who: str, first: str = "a", second: str = "b", **verdict: object) -> Preference:
    prompt = Prompt(id="p", messages=(Message(role="user", content="q"),))
    return Preference.model_validate(
        {"id": who, "prompt": prompt, "candidates": (Candidate(text=first), Candidate(text=second)), **verdict}
    )


def test_votes_are_averaged_whichever_reply_was_named_first() -> None:
    merged = soft_labels(
        [
            judgement("x", choice=0),
            judgement("y", "b", "a", choice=1),
            judgement("z", choice=1),
            judgement("t", tie=True),
        ]
    )
    assert [m.soft for m in merged] == [(1 + 1 + 0 + 0.5) / 4]
    assert merged[0].candidates[0].text == "a"
    assert merged[0].meta["votes"] == 4


def test_both_bad_does_not_vote_but_is_counted() -> None:
    (merged,) = soft_labels([judgement("x", choice=1), judgement("y", both_bad=True)])
    assert merged.soft == 0.0
    assert (merged.meta["judgements"], merged.meta["votes"]) == (2, 1)


def test_pairs_without_a_vote_and_different_pairs_stay_apart() -> None:
    both_bad = judgement("x", both_bad=True)
    merged = soft_labels([both_bad, judgement("y", "a", "c", choice=0)])
    assert merged[0] == both_bad
    assert merged[1].soft == 1.0
