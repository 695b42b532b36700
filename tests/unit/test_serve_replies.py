"""Log-probabilities in both forms of the API: likely tokens by their text, numbers that JSON can say."""

from __future__ import annotations

import json
import math
from typing import Any

from transformers import PreTrainedTokenizerBase

from accord.models.tokenizer import END, train_tokenizer
from accord.serve.replies import Choice, Form, Usage, chat_logprobs, text_logprobs
from accord.serve.scoring import TokenScore
from accord.serve.spelling import Spelling


class Letters(Spelling):
    """Tokens 0 and 5 are spelled alike; 9 is special."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__(tokenizer)
        self._texts = {0: "s", 1: " cat", 2: "the", 5: "s", 9: "<end>"}

    def is_special(self, token: int) -> bool:
        return token == 9

    def bytes_of(self, token: int) -> bytes:
        return self._texts[token].encode()


TOKENIZER = train_tokenizer(["a b"], 270)
LETTERS = Letters(TOKENIZER)
SCORES = [
    TokenScore(2, None),
    TokenScore(5, -3.0, ((0, -1.0), (5, -3.0))),
    TokenScore(1, -5.0, ((0, -0.5),)),
    TokenScore(9, -math.inf, ((9, -math.inf),)),
]


def test_of_tokens_spelled_alike_the_better_one_counts_and_the_given_one_is_always_there() -> None:
    told = text_logprobs(SCORES, LETTERS)
    assert told["tokens"] == ["the", "s", " cat", "<end>"] and told["text_offset"] == [0, 3, 4, 8]
    assert told["token_logprobs"] == [None, -3.0, -5.0, -9999.0]
    assert told["top_logprobs"] == [None, {"s": -1.0}, {"s": -0.5, " cat": -5.0}, {"<end>": -9999.0}]
    json.dumps(told, allow_nan=False)


def test_special_tokens_of_a_chat_have_no_bytes() -> None:
    content = chat_logprobs(SCORES[1:], LETTERS)["content"]
    assert [entry["bytes"] for entry in content] == [[115], list(b" cat"), None]
    assert [entry["logprob"] for entry in content] == [-3.0, -5.0, -9999.0]
    assert content[0]["top_logprobs"][0] == {"token": "s", "logprob": -1.0, "bytes": [115]}
    end = TOKENIZER.convert_tokens_to_ids(END)
    assert chat_logprobs([TokenScore(end, -1.0)], Spelling(TOKENIZER))["content"][0]["token"] == END


def test_the_parts_of_a_stream_belong_together_and_only_one_with_usage_says_so() -> None:
    form = Form("chat", "m", LETTERS, usage_everywhere=True)
    first = form.chunk([Choice(0, "", None, None, role=True)])
    text = form.chunk([Choice(0, "cat", None, None)])
    last = form.chunk([Choice(0, "", "length", None)])
    used = form.chunk([], Usage(3, 4))
    deltas: list[Any] = [chunk["choices"][0]["delta"] for chunk in (first, text, last)]
    assert deltas == [{"role": "assistant", "content": ""}, {"content": "cat"}, {}]
    assert len({(c["id"], c["created"], c["object"]) for c in (first, text, last, used)}) == 1
    assert [c["usage"] and c["usage"]["total_tokens"] for c in (first, text, last, used)] == [None, None, None, 7]
    assert "usage" not in Form("text", "m", LETTERS).chunk([])
