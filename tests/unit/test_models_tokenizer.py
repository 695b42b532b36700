"""The trained tokenizer: deterministic, lossless, and the same after a journey through the disk."""

from __future__ import annotations

import json
import random

import pytest
from transformers import AutoTokenizer, LlamaConfig

from accord.errors import ModelError
from accord.models.chat import check_template
from accord.models.tokenizer import BOS, CHAT_TEMPLATE, END, PAD, SPECIALS, train_tokenizer

TEXTS = [f"the cat number {i} sat on the mat and said hello world" for i in range(60)]


def test_training_is_deterministic_and_ignores_order() -> None:
    one = train_tokenizer(TEXTS, 320).backend_tokenizer.to_str()
    shuffled = TEXTS.copy()
    random.Random(0).shuffle(shuffled)
    assert train_tokenizer(iter(shuffled), 320).backend_tokenizer.to_str() == one
    assert json.loads(one)["model"]["merges"]


def test_special_tokens() -> None:
    tokenizer = train_tokenizer(TEXTS, 300)
    assert len(tokenizer) <= 300
    assert tokenizer.convert_tokens_to_ids(list(SPECIALS)) == list(range(len(SPECIALS)))
    assert (tokenizer.pad_token, tokenizer.bos_token, tokenizer.eos_token) == (PAD, BOS, END)
    assert set(tokenizer.all_special_ids) == set(range(len(SPECIALS)))


@pytest.mark.parametrize(
    "text", ["the cat", "  two  spaces \n\n", "1234 +  5", "na\u00efve \u6f22\u5b57 \U0001f642 \x00 \u200b", ""]
)
def test_every_text_comes_back(text) -> None:
    tokenizer = train_tokenizer(TEXTS, 300)
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert tokenizer.decode(ids) == text


def test_digits_are_tokens() -> None:
    tokenizer = train_tokenizer([*TEXTS, *["1999 1999 1999"] * 9], 400)
    assert tokenizer.tokenize("1999") == ["1", "9", "9", "9"]


def test_loads_through_auto_tokenizer(tmp_path) -> None:
    tokenizer = train_tokenizer(TEXTS, 320, max_length=77)
    tokenizer.save_pretrained(tmp_path)
    LlamaConfig().save_pretrained(tmp_path)  # the model type must not choose another tokenizer class
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert (tmp_path / "chat_template.jinja").read_text(encoding="utf-8") == CHAT_TEMPLATE
    assert again.chat_template == tokenizer.chat_template
    assert again.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()
    assert again.special_tokens_map == tokenizer.special_tokens_map
    assert again.all_special_ids == tokenizer.all_special_ids
    assert (again.padding_side, again.model_max_length) == ("right", 77)
    for text in TEXTS[:5]:
        assert again.encode(text) == tokenizer.encode(text)
    check_template(again)


def test_generation_markers_name_the_reply() -> None:
    tokenizer = train_tokenizer(TEXTS, 320)
    turns = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "the cat"}]
    out = tokenizer.apply_chat_template(turns, return_dict=True, return_assistant_tokens_mask=True)
    reply = [i for i, on in zip(out["input_ids"], out["assistant_masks"], strict=True) if on]
    assert tokenizer.decode(reply) == "the cat" + END


def test_unknown_roles_are_refused() -> None:
    with pytest.raises(Exception, match="unknown role: robot"):
        train_tokenizer(TEXTS, 300).apply_chat_template([{"role": "robot", "content": "x"}])


def test_a_vocabulary_must_hold_all_bytes() -> None:
    with pytest.raises(ModelError, match="cannot hold 256 bytes"):
        train_tokenizer(TEXTS, 262)
