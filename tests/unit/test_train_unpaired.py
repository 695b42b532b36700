"""Replies with thumbs up or down as examples, and the mismatched replies of KTO."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accord.errors import DataError
from accord.models.tokenizer import train_tokenizer
from accord.train.examples import Example, Row
from accord.train.unpaired import Balance, balance, from_unpaired, thumbs_of, with_mismatches
from accord.types import Candidate, Message, Preference, Prompt, Unpaired

TOKENIZER: Any = train_tokenizer(["some words, and some more words to merge: words of a reply"] * 3, 290)


def prompt(text: str) -> Prompt:
    return Prompt(id=text, messages=(Message(role="user", content=text),))


def judged(*texts: str, **verdict: Any) -> Preference:
    return Preference(id="j", prompt=prompt("q"), candidates=tuple(Candidate(text=t) for t in texts), **verdict)


def one(prompt_id: int, *reply: int, target: float = 1.0) -> Example:
    ids = (100 + prompt_id, 50, *reply)
    return Example(f"{prompt_id}/{reply}", (Row(ids, (False, False) + (True,) * len(reply)),), target)


@pytest.mark.parametrize(
    ("preference", "wanted"),
    [
        (judged("a", "b", choice=1), [(1, 1.0, 1.0), (0, 0.0, 1.0)]),
        (judged("a", "b", soft=0.25), [(1, 0.75, 1.0), (0, 0.25, 1.0)]),
        (judged("a", "b", tie=True), []),
        (judged("a", "b", soft=0.5), []),
        (judged("a", "b", both_bad=True), [(0, 0.0, 1.0), (1, 0.0, 1.0)]),
        (
            judged("a", "b", "c", choice=0),
            [(0, 1.0, 0.5), (1, 0.0, 0.5), (0, 1.0, 0.5), (2, 0.0, 0.5)],
        ),
    ],
)
def test_thumbs_that_a_preference_implies(preference, wanted):
    assert thumbs_of(preference) == wanted


def test_replies_become_rows_with_their_label():
    records = [
        Unpaired(id="u", prompt=prompt("hi"), completion="yes", label=True),
        Unpaired(id="d", prompt=prompt("hi"), completion="no" * 40, label=False),
        judged("a", "b", choice=0),
        judged("a", "b", tie=True),
    ]
    encoded = from_unpaired(records, TOKENIZER, max_length=30, overlong="drop")
    assert [(e.id, e.target) for e in encoded.examples] == [("u/0", 1.0), ("j/0", 1.0), ("j/1", 0.0)]
    assert [name for name, _ in encoded.dropped] == ["d", "j"]
    assert all(any(e.rows[0].mask) and not e.rows[0].mask[0] for e in encoded.examples)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(1, 3)), min_size=2, max_size=15),
    st.integers(0, 99),
)
def test_no_prompt_meets_its_own_reply(drawn, seed):
    """For odd and even numbers, repeated prompts and repeated replies."""
    examples = [one(p, *[r] * length) for p, r, length in drawn]
    replies = {e.rows[0].ids[2:] for e in examples}
    if len(replies) < 2:
        with pytest.raises(DataError, match="all replies are the same"):
            with_mismatches(examples, max_length=10, seed=seed)
        return
    made = with_mismatches(examples, max_length=10, seed=seed)
    assert [e.id for e in made] == [e.id for e in examples]
    for before, after in zip(examples, made, strict=True):
        row, other = after.rows
        assert row == before.rows[0]
        assert other.ids[:2] == row.ids[:2] and other.mask == (False, False) + (True,) * (len(other.ids) - 2)
        assert other.ids[2:] in replies - {row.ids[2:]}
        lenders = {e.rows[0].ids[0] for e in examples if e.rows[0].ids[2:] == other.ids[2:]}
        elsewhere = [e for e in examples if e.rows[0].ids[0] != row.ids[0] and e.rows[0].ids[2:] != row.ids[2:]]
        assert not elsewhere or lenders - {row.ids[0]}, "a reply to another prompt, where there is one"
    assert made == with_mismatches(examples, max_length=10, seed=seed)


def test_two_replies_to_one_prompt_do_not_serve_each_other():
    """The rows of a split preference are neighbours in the data."""
    examples = [one(p, 10 * p + side) for p in range(5) for side in range(2)]
    for seed in range(5):
        for e in with_mismatches(examples, max_length=10, seed=seed):
            assert e.rows[1].ids[2] // 10 != e.rows[0].ids[2] // 10
    orders = {tuple(e.rows[1].ids for e in with_mismatches(examples, max_length=10, seed=s)) for s in range(5)}
    assert len(orders) == 5
    lent = [e.rows[1].ids[2] for e in with_mismatches(examples, max_length=10, seed=0)]
    assert len(set(lent)) > 5, "many replies are lent, not one to all"


def test_a_mismatch_that_is_too_long_loses_its_end():
    examples = [one(0, 1), one(1, 2, 3, 4, 5)]
    first, second = with_mismatches(examples, max_length=4, seed=0)
    assert first.rows[1].ids == (100, 50, 2, 3)
    assert second.rows[1].ids == (101, 50, 1)


def test_balance_says_what_would_mend_it():
    few = [one(0, 1, target=1.0)] + [one(1, 2, target=0.0)] * 3
    found = balance(few)
    assert found == Balance(1.0, 3.0)
    assert found.ratio(1.0, 1.0) == pytest.approx(1 / 3)
    text = found.describe(1.0, 1.0)
    assert "desirable_weight between 3 and 4 puts it into [1, 4/3]" in text
    assert found.ratio(3.0, 1.0) == 1.0 and found.ratio(4.0, 1.0) == pytest.approx(4 / 3)
    for weight in (3.0, 3.5, 4.0):
        assert "between" not in found.describe(weight, 1.0)
    for weight in (2.9, 4.1):
        assert "between" in found.describe(weight, 1.0)


@pytest.mark.parametrize(("target", "word"), [(1.0, "desirable"), (0.0, "undesirable")])
def test_one_label_is_refused(target, word):
    with pytest.raises(DataError, match=f"labelled {word}"):
        balance([one(0, 1, target=target), one(1, 2, target=target)])
