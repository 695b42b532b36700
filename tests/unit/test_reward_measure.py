"""Measuring a reward model: no reply is read or judged twice, and what is known already is what reading gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from accord import lab
from accord.models.tokenizer import train_tokenizer
from accord.stages import reward_measure
from accord.stages.reward_measure import Measured, scored
from accord.train.examples import Example, from_preferences
from accord.types import Candidate, Preference

TOKENIZER: Any = train_tokenizer(["one two three, perhaps?\n"] * 3, 280)


class Reader:
    """A reward model that notes what it reads; the score depends on all tokens."""

    def __init__(self) -> None:
        self.read: list[tuple[int, ...]] = []

    def score_ids(self, rows: Sequence[Sequence[int]], lengths: Sequence[int]) -> list[float]:
        self.read += map(tuple, rows)
        return [score(row) + n for row, n in zip(rows, lengths, strict=True)]


def score(row: Sequence[int]) -> float:
    return sum((k + 1) * token for k, token in enumerate(row)) % 97


def judged(number: int, annotator: str, *texts: str, prompt: int | None = None) -> Preference:
    asked = lab.prompts(5, 40)[number if prompt is None else prompt]
    return Preference(
        id=f"{number}-{annotator}",
        prompt=asked,
        candidates=tuple(Candidate(text=text) for text in texts),
        choice=0,
        annotator=annotator,
        group="g",
    )


def pairs(records: Sequence[Preference]) -> tuple[Example, ...]:
    return from_preferences(records, TOKENIZER, max_length=400, overlong="drop").examples


HELD_OUT = [judged(k, "", f"reply {k}", f"other {k}, perhaps") for k in range(12)]


def measured(reader: Reader, known: dict[tuple[int, ...], float] | None = None) -> Measured:
    return Measured(reader, 2.0, TOKENIZER, 400, pairs, None, known or {})  # type: ignore[arg-type]


def test_nothing_is_read_twice_and_everything_has_its_own_score() -> None:
    reader = Reader()
    test = pairs(HELD_OUT)
    learnt = {row.ids: -1000.0 - k for k, row in enumerate(r for e in test[:3] for r in e.rows)}
    by = measured(reader, dict(learnt))
    found = scored(by, test)
    for example, one in zip(test, found, strict=True):
        expected = tuple(learnt.get(row.ids, score(row.ids) + sum(row.mask)) for row in example.rows)
        assert one.scores == expected
    assert reward_measure._deltas(by, test) == [one.delta for one in found]
    edits = reward_measure._edits(by, test, 0)
    assert {name: found["n"] for name, found in edits.items()} == dict.fromkeys(edits, 24)
    assert len(reader.read) == len(set(reader.read)) and not set(reader.read) & set(learnt)
    afresh = reward_measure._edits(measured(Reader(), dict(learnt)), test, 0)
    assert afresh == edits  # whether the replies were read before or for the edits


def test_single_judgements_have_the_scores_and_the_truth_of_the_replies(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def truth(prompt: Any, text: str) -> Any:
        asked.append((prompt.id, text))
        return real(prompt, text)

    real = lab.score
    monkeypatch.setattr(lab, "score", truth)
    by = measured(Reader())
    test = pairs(HELD_OUT)
    rows = scored(by, test)
    singles = [judged(k, who, f"reply {k}", f"other {k}, perhaps") for k in range(12) for who in "abc"]
    swapped = [judged(k, "d", f"other {k}, perhaps", f"reply {k}") for k in range(12)]
    others = [judged(0, "a", "reply 0", "never scored"), judged(1, "a", "reply 1", "other 1, perhaps", prompt=20)]
    found = reward_measure._scored_again(by, [*singles, *swapped, *others], test)
    assert [(s.annotator, s.scores) for s in found] == [
        *((who, row.scores) for row in rows for who in "abc"),
        *(("d", row.scores[::-1]) for row in rows),
    ]
    assert len(asked) == len(set(asked)) == 24
    for one, record in zip(found, [*singles, *swapped], strict=True):
        assert one.gold == tuple(real(record.prompt, c.text).utility for c in record.candidates)
    other = next(p for p in lab.prompts(5, 40) if p.meta["family"] != HELD_OUT[0].prompt.meta["family"])
    twin = HELD_OUT[0].model_copy(update={"prompt": other.model_copy(update={"id": HELD_OUT[0].prompt.id})})
    replies = (Candidate(text=str(other.meta["answer"])), HELD_OUT[0].candidates[0])
    expected = tuple(real(other, c.text).utility for c in replies)
    own = reward_measure._gold(by, HELD_OUT[0], replies)
    assert reward_measure._gold(by, twin, replies) == expected != own  # a name alone says nothing
