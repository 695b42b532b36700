"""Records to token rows: pairs of a judgement, rows that are too long, windows of documents."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from accord.errors import DataError
from accord.models import chat
from accord.models.tokenizer import train_tokenizer
from accord.train.examples import (
    Encoded,
    Example,
    Row,
    fit_row,
    from_demonstrations,
    from_documents,
    from_preferences,
    pairs_of,
    with_ref_logp,
)
from accord.types import Candidate, Demonstration, Document, Message, Preference, Prompt

TOKENIZER = train_tokenizer(["some words, and some more words to merge: words of a prompt and a reply"] * 3, 290)
BOS, EOS = TOKENIZER.bos_token_id, TOKENIZER.eos_token_id
WORDS = [1, 2, 3, 4, 5, 6, 7]
MASK = [False, False, False, True, True, True, True]


def preference(*texts: str, question: str = "a prompt", **verdict: object) -> Preference:
    prompt = Prompt(id="q", messages=(Message(role="user", content=question),))
    return Preference(id="x", prompt=prompt, candidates=tuple(Candidate(text=t) for t in texts), **verdict)


def abc(**verdict: object) -> Preference:
    return preference("a", "b", "c", **verdict)


def ab(**verdict: object) -> Preference:
    return preference("a", "b", **verdict)


@pytest.mark.parametrize(
    "record, wanted",
    [
        (ab(choice=0), [(0, 1, None, 1.0)]),
        (ab(choice=1), [(1, 0, None, 1.0)]),
        (abc(choice=1), [(1, 0, None, 0.5), (1, 2, None, 0.5)]),
        (abc(ranking=((2,), (0,), (1,))), [(2, 0, None, 1 / 3), (2, 1, None, 1 / 3), (0, 1, None, 1 / 3)]),
        (abc(ranking=((1,), (0, 2))), [(1, 0, None, 0.5), (1, 2, None, 0.5)]),
        (abc(ranking=((0, 2), (1,))), [(0, 1, None, 0.5), (2, 1, None, 0.5)]),
        (abc(ranking=((0, 1, 2),)), []),
        (ab(ranking=((0, 1),)), [(0, 1, 0.5, 1.0)]),
        (ab(ranking=((1,), (0,))), [(1, 0, None, 1.0)]),
        (ab(tie=True), [(0, 1, 0.5, 1.0)]),
        (abc(tie=True), []),
        (ab(both_bad=True), []),
        (ab(soft=0.8), [(0, 1, 0.8, 1.0)]),
        (ab(soft=0.3), [(1, 0, 0.7, 1.0)]),
        (ab(soft=0.5), [(0, 1, 0.5, 1.0)]),
        (ab(soft=0.9, choice=0), [(0, 1, 0.9, 1.0)]),
    ],
)
def test_pairs_that_a_judgement_implies(record: Preference, wanted: list[tuple]) -> None:
    got = pairs_of(record)
    assert [p[:2] for p in got] == [p[:2] for p in wanted]
    for (_, _, target, weight), (_, _, wanted_target, wanted_weight) in zip(got, wanted, strict=True):
        assert target == (None if wanted_target is None else pytest.approx(wanted_target))
        assert weight == pytest.approx(wanted_weight)


def test_a_row_that_fits_is_left_alone() -> None:
    for overlong in ("error", "drop", "truncate_prompt", "truncate"):
        assert fit_row(WORDS, MASK, 7, overlong) == (Row(tuple(WORDS), tuple(MASK)), False)


def test_the_four_ways_with_a_row_that_is_too_long() -> None:
    assert fit_row(WORDS, MASK, 5, "drop") == (None, False)
    assert fit_row(WORDS, MASK, 5, "truncate") == (Row((1, 2, 3, 4, 5), tuple(MASK[:5])), True)
    assert fit_row(WORDS, MASK, 5, "truncate_prompt") == (Row((3, 4, 5, 6, 7), tuple(MASK[2:])), True)
    with pytest.raises(DataError, match="7 tokens and max_length is 5") as caught:
        fit_row(WORDS, MASK, 5, "error", "record 3")
    assert caught.value.where == "record 3"
    assert caught.value.fix


def test_truncating_never_leaves_a_row_that_trains_nothing_or_whose_first_token_is_trained() -> None:
    assert fit_row(WORDS, MASK, 3, "truncate") == (None, False)
    assert fit_row(WORDS, MASK, 4, "truncate_prompt") == (None, False)
    assert fit_row(WORDS, MASK, 3, "truncate_prompt") == (None, False)
    row, shortened = fit_row(WORDS, MASK, 4, "truncate")
    assert shortened and row is not None and row.mask == (False, False, False, True)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(alphabet="abc words,.", max_size=30), min_size=1, max_size=4), st.integers(2, 12))
def test_every_token_of_a_document_is_predicted_exactly_once(texts: list[str], max_length: int) -> None:
    documents = [Document(id=f"d{i}", text=text) for i, text in enumerate(texts)]
    encoded = from_documents(documents, TOKENIZER, max_length=max_length)
    assert not encoded.dropped
    for document in documents:
        whole = [BOS, *TOKENIZER.encode(document.text, add_special_tokens=False), EOS]
        rows = [e.rows[0] for e in encoded.examples if e.id.split("/")[0] == document.id]
        assert [i for row in rows for i, counts in zip(row.ids, row.mask, strict=True) if counts] == whole[1:]
        for before, after in pairwise(rows):
            assert before.ids[-1] == after.ids[0], "the context of the first prediction is the token before it"
            assert len(before.ids) == max_length
        assert all(len(row.ids) <= max_length and not row.mask[0] for row in rows)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(alphabet="abc words,.", max_size=30), min_size=1, max_size=5), st.integers(2, 12))
def test_packed_documents_fill_their_windows_and_every_token_is_predicted_once(
    texts: list[str], max_length: int
) -> None:
    documents = [Document(id=f"d{i}", text=text) for i, text in enumerate(texts)]
    encoded = from_documents(documents, TOKENIZER, max_length=max_length, packing=True, seed=3)
    rows = [e.rows[0] for e in encoded.examples]
    assert all(len(row.ids) == max_length for row in rows[:-1])
    stream = [rows[0].ids[0], *(i for row in rows for i in row.ids[1:])]
    assert all(row.mask == (False,) + (True,) * (len(row.ids) - 1) for row in rows)
    starts = [t for t, i in enumerate(stream) if i == BOS]
    pieces = [tuple(stream[a:b]) for a, b in zip(starts, [*starts[1:], len(stream)], strict=True)]
    whole = [(BOS, *TOKENIZER.encode(text, add_special_tokens=False), EOS) for text in texts]
    assert sorted(pieces) == sorted(whole)
    assert from_documents(documents, TOKENIZER, max_length=max_length, packing=True, seed=3) == encoded


def test_the_order_of_packed_documents_is_that_of_the_seed() -> None:
    documents = [Document(id=f"d{i}", text=f"words {i}") for i in range(6)]
    packed = [from_documents(documents, TOKENIZER, max_length=9, packing=True, seed=s) for s in (1, 1, 2)]
    assert packed[0] == packed[1] != packed[2]


def test_windows_too_short_to_predict_anything_are_refused() -> None:
    with pytest.raises(DataError, match="max_length 1"):
        from_documents([Document(id="d", text="words")], TOKENIZER, max_length=1)


class NoBos:
    """A tokenizer without a token that begins a text."""

    bos_token_id, eos_token_id = None, EOS

    def encode(self, text: str, **options: object) -> list[int]:
        return TOKENIZER.encode(text, **options)


def test_a_document_without_a_token_to_predict_is_counted() -> None:
    encoded = from_documents([Document(id="d", text=""), Document(id="e", text="words")], NoBos(), max_length=9)
    assert encoded.dropped == (("d", "no text"),)
    assert [e.id for e in encoded.examples] == ["e/0"]


def demonstration(name: str, *turns: str) -> Demonstration:
    roles = ["user", "assistant"] * len(turns)
    messages = tuple(Message(role=r, content=t) for r, t in zip(roles, turns, strict=False))  # type: ignore[arg-type]
    return Demonstration(id=name, messages=messages)


@pytest.mark.parametrize("train_on", ["all", "last"])
def test_demonstrations_are_the_ids_of_prompt_and_completion(train_on: str) -> None:
    record = demonstration("d", "words", "a reply", "more words", "some more")
    (example,) = from_demonstrations([record], TOKENIZER, max_length=200, overlong="error", train_on=train_on).examples
    (row,) = example.rows
    prompt = chat.encode_prompt(TOKENIZER, record.messages[:3])
    reply = chat.encode_completion(TOKENIZER, "some more")
    assert list(row.ids) == prompt + reply
    trained = [i for i, counts in zip(row.ids, row.mask, strict=True) if counts]
    first = chat.encode_completion(TOKENIZER, "a reply") if train_on == "all" else []
    assert trained == first + reply
    assert trained[-1] == EOS


def test_demonstrations_that_were_dropped_or_shortened_are_counted() -> None:
    records = [demonstration("a", "words", "a"), demonstration("b", "words", "a reply " * 20)]
    dropped = from_demonstrations(records, TOKENIZER, max_length=20, overlong="drop", train_on="all")
    assert [e.id for e in dropped.examples] == ["a"]
    assert dropped.dropped == (("b", "longer than max_length 20"),)
    assert dropped.truncated == 0
    cut = from_demonstrations(records, TOKENIZER, max_length=20, overlong="truncate", train_on="all")
    assert (len(cut.examples), cut.dropped, cut.truncated) == (2, (), 1)
    with pytest.raises(DataError, match="max_length is 20") as caught:
        from_demonstrations(records, TOKENIZER, max_length=20, overlong="error", train_on="all")
    assert caught.value.where == "demonstration b"


def test_what_was_left_out_is_described_with_counts() -> None:
    assert Encoded((), (), 0).describe() == "0 examples"
    encoded = Encoded((Example("a", ()),) * 3, (("x", "long"), ("y", "same"), ("z", "long")), 2)
    assert encoded.describe() == "3 examples, 2 shortened to max_length, 2 left out (long), 1 left out (same)"


def preferences(*records: Preference, max_length: int = 200, overlong: str = "drop", **options: object) -> Encoded:
    return from_preferences(records, TOKENIZER, max_length=max_length, overlong=overlong, **options)


def test_pairs_are_rows_of_prompt_and_reply_with_the_better_one_first() -> None:
    record = preference("a reply", "words", "some more", ranking=((2,), (0,), (1,)))
    encoded = preferences(record)
    prompt = chat.encode_prompt(TOKENIZER, record.prompt.messages)
    replies = [chat.encode_completion(TOKENIZER, c.text) for c in record.candidates]
    assert [e.id for e in encoded.examples] == ["x/0", "x/1", "x/2"]
    for example, (better, worse) in zip(encoded.examples, [(2, 0), (2, 1), (0, 1)], strict=True):
        assert [list(row.ids) for row in example.rows] == [prompt + replies[better], prompt + replies[worse]]
        for row in example.rows:
            assert list(row.mask) == [False] * len(prompt) + [True] * (len(row.ids) - len(prompt))
        assert example.weight == pytest.approx(1 / 3)
        assert example.origin == (record, better, worse)
        assert example.target is None and example.margin is None


def test_strength_becomes_the_margin_when_asked_for_and_never_of_a_tie() -> None:
    records = [ab(choice=0, strength=1.5), ab(tie=True, strength=2.0), ab(choice=1)]
    assert [e.margin for e in preferences(*records).examples] == [None, None, None]
    assert [e.margin for e in preferences(*records, use_margin=True).examples] == [1.5, None, None]


def test_pairs_without_an_order_or_a_difference_are_left_out_and_listed() -> None:
    encoded = preferences(ab(both_bad=True), abc(tie=True), preference("same", "same", choice=0))
    assert not encoded.examples
    reasons = [reason for _, reason in encoded.dropped]
    assert reasons == ["both bad or a tie of more than two: no order"] * 2 + ["both replies are the same"]
    some = preferences(preference("a", "a", "b", choice=0))
    assert len(some.examples) == 1 and len(some.dropped) == 1


def test_a_pair_is_dropped_as_a_whole() -> None:
    record = preference("a", "a reply " * 20, choice=0)
    encoded = preferences(record, max_length=25)
    assert not encoded.examples
    assert encoded.dropped == (("x", "a side is longer than max_length 25"),)
    with pytest.raises(DataError) as caught:
        preferences(record, max_length=25, overlong="error")
    assert caught.value.where == "preference x"


def test_both_sides_of_a_shortened_pair_keep_the_same_prompt() -> None:
    record = preference("a", "some more words of a reply", question="some words " * 10, choice=0)
    prompt = chat.encode_prompt(TOKENIZER, record.prompt.messages)
    replies = [chat.encode_completion(TOKENIZER, c.text) for c in record.candidates]
    longest = max(map(len, replies))
    encoded = preferences(record, max_length=longest + 4, overlong="truncate_prompt")
    (example,) = encoded.examples
    kept = prompt[-4:]
    assert [list(row.ids) for row in example.rows] == [kept + replies[0], kept + replies[1]]
    assert [row.mask.index(True) for row in example.rows] == [4, 4]
    assert encoded.truncated == 1
    assert preferences(record, max_length=longest, overlong="truncate_prompt").dropped


def test_a_pair_that_is_cut_down_to_the_same_tokens_says_nothing() -> None:
    record = preference("some more words, a", "some more words, b", choice=0)
    prompt = chat.encode_prompt(TOKENIZER, record.prompt.messages)
    encoded = preferences(record, max_length=len(prompt) + 1, overlong="truncate")
    assert not encoded.examples
    assert encoded.dropped == (("x", f"both replies are the same within max_length {len(prompt) + 1}"),)
    kept = preferences(record, max_length=len(prompt) + 30, overlong="truncate")
    assert len(kept.examples) == 1 and kept.truncated == 0


def test_reference_log_probs_must_fit_the_rows() -> None:
    examples = [Example("a", (Row((1, 2), (False, True)), Row((1, 2, 3), (False, True, True))))]
    (done,) = with_ref_logp(examples, [torch.zeros(2), torch.ones(3)])
    assert done.rows[1].ref_logp is not None and done.rows[1].ref_logp.tolist() == [1, 1, 1]
    for wrong in ([torch.zeros(2)], [torch.zeros(3), torch.zeros(2)], [torch.zeros(2), torch.zeros(3), torch.zeros(1)]):
        with pytest.raises(ValueError, match="one number for each token"):
            with_ref_logp(examples, wrong)
