"""Text in pieces: what was sent is never taken back, and all pieces together are the reply."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serve_world import TEXTS
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from accord.engines.stops import cut
from accord.models import chat
from accord.models.tokenizer import END, train_tokenizer
from accord.serve.spelling import Spelling, TextStream

BYTES = train_tokenizer(TEXTS * 3, 290)


def sentence_pieces() -> PreTrainedTokenizerFast:
    """Words with a mark for the space before them, and single bytes for everything else, as SentencePiece has them."""
    words = ["\u2581the", "\u2581cat", "s", "\u2581", *(f"<0x{byte:02X}>" for byte in range(256))]
    backend = Tokenizer(models.BPE(vocab={w: i for i, w in enumerate(words)}, merges=[], byte_fallback=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()  # pyright: ignore
    backend.decoder = decoders.Sequence(  # pyright: ignore
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend)


PIECES = sentence_pieces()


def streamed(
    ids: list[int], stop: tuple[str, ...], tokenizer: PreTrainedTokenizerFast = BYTES
) -> tuple[list[str], str]:
    """(pieces, the whole reply)."""

    def decode(some: list[int]) -> str:
        return chat.decode(tokenizer, some)

    kept, text, _ = cut(ids, stop_ids=(), stop=stop, decode=decode)
    stream = TextStream(decode, stop)
    pieces = [stream.push(ids[: i + 1]) for i in range(kept - 1)]
    return [*pieces, stream.finish(text)], text


@given(
    st.lists(st.integers(7, len(BYTES) - 1), min_size=1, max_size=40),
    st.sets(st.text("abe t\n", min_size=1), max_size=3),
)
def test_all_pieces_are_the_reply_whatever_is_drawn(ids: list[int], stop: set[str]) -> None:
    pieces, text = streamed(ids, tuple(stop))
    assert "".join(pieces) == text


@given(st.text(max_size=30), st.sampled_from([(), ("\u00e9",), ("at the", "t t"), ("\n\n",)]))
def test_texts_come_through_whole_and_never_half_a_character(text: str, stop: tuple[str, ...]) -> None:
    ids = BYTES.encode(text + "the cat sat", add_special_tokens=False)
    pieces, whole = streamed(ids, stop)
    assert "".join(pieces) == whole
    assert "\ufffd" not in "".join(pieces) or "\ufffd" in text or "\x00" in text


def test_a_character_of_several_tokens_waits_for_its_last_byte() -> None:
    ids = BYTES.encode("\u65e5", add_special_tokens=False)
    assert len(ids) == 3  # not in the texts, so a token a byte
    assert streamed([*ids, *ids], ())[0] == ["", "", "\u65e5", "", "", "\u65e5"]


def test_what_may_become_a_stop_text_is_held_back_until_it_does_not() -> None:
    ids = [BYTES.convert_tokens_to_ids(letter) for letter in "xabaaby"]
    pieces, text = streamed(ids, ("aab",))
    assert text == "xab" and "".join(pieces) == "xab" and pieces[:2] == ["x", ""]
    pieces, text = streamed(ids, ("aac",))
    assert text == "xabaaby" and "".join(pieces) == text and pieces[0] == "x"


def test_a_stop_text_that_the_engine_saw_late_is_not_let_out() -> None:
    stream = TextStream(lambda ids: chat.decode(BYTES, ids), ("ab",))
    ids = [BYTES.convert_tokens_to_ids(letter) for letter in "xabyz"]
    assert [stream.push(ids[: i + 1]) for i in range(5)] == ["x", "", "", "", ""]
    assert stream.finish("x") == ""


def test_spaces_before_words_survive_where_a_decoder_strips_the_first() -> None:
    ids = [0, 1, 2, 0, 4 + 0xC3, 4 + 0xA9, 1]
    pieces, text = streamed(ids, (), PIECES)
    assert text == "the cats the\u00e9 cat" and "".join(pieces) == text
    assert pieces == ["the", " cat", "s", " the", "", "\u00e9", " cat"]


@pytest.mark.parametrize("text", ["the cat", "sch\u00f6n \u4f60", "\u65e5 tab\t"])
def test_the_bytes_of_tokens_are_the_bytes_of_the_text(text: str) -> None:
    spelling = Spelling(BYTES)
    ids = BYTES.encode(text, add_special_tokens=False)
    assert b"".join(map(spelling.bytes_of, ids)) == text.encode()
    assert not any(map(spelling.is_special, ids))


def test_special_tokens_halves_of_characters_and_ids_beyond_the_vocabulary_have_a_text() -> None:
    spelling = Spelling(BYTES)
    end = BYTES.convert_tokens_to_ids(END)
    assert spelling.text_of(end) == END and spelling.is_special(end)
    first = BYTES.encode("\u65e5", add_special_tokens=False)[0]
    assert spelling.text_of(first) == "bytes:\\xe6"
    assert spelling.text_of(len(BYTES) + 5) == ""
    other = Spelling(PIECES)
    assert [other.bytes_of(i) for i in (0, 2, 4 + 0xE4)] == [b" the", b"s", b"\xe4"]
