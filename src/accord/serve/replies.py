"""Replies in the form of OpenAI's API: whole ones, chunks of streams, log-probabilities in both of its forms."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Literal

from accord import __version__
from accord.serve.scoring import TokenScore
from accord.serve.spelling import Spelling

_FINGERPRINT = f"accord-{__version__}"
_LEAST = -9999.0
"""Log-probability of what a model rules out: JSON has no infinity, and clients know this number from OpenAI's API."""


@dataclass(frozen=True)
class Usage:
    """Tokens of a request."""

    prompt: int
    reply: int

    def row(self) -> dict[str, int]:
        """As JSON."""
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.reply,
            "total_tokens": self.prompt + self.reply,
        }


@dataclass(frozen=True)
class Choice:
    """One reply, or a part of it."""

    index: int
    text: str
    finish: str | None
    scores: Sequence[TokenScore] | None
    """None = log-probabilities were not asked for."""
    role: bool = False
    """The first part of a streamed reply says whose it is."""


@dataclass(frozen=True)
class Form:
    """What all replies to one request have in common."""

    kind: Literal["chat", "text"]
    model: str
    spelling: Spelling
    usage_everywhere: bool = False
    """Streams whose last chunk has the usage say `usage: null` in the others."""
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, choices: Sequence[Choice], usage: Usage) -> dict[str, Any]:
        """The answer to a request that is not streamed."""
        made = self._head("chat.completion" if self.kind == "chat" else "text_completion")
        return made | {"choices": [self._choice(choice, "message") for choice in choices], "usage": usage.row()}

    def chunk(self, choices: Sequence[Choice], usage: Usage | None = None) -> dict[str, Any]:
        """One event of a stream."""
        made = self._head("chat.completion.chunk" if self.kind == "chat" else "text_completion")
        made["choices"] = [self._choice(choice, "delta") for choice in choices]
        if self.usage_everywhere:
            made["usage"] = None if usage is None else usage.row()
        return made

    def _head(self, kind: str) -> dict[str, Any]:
        prefix = "chatcmpl" if self.kind == "chat" else "cmpl"
        return {
            "id": f"{prefix}-{self.id}",
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": _FINGERPRINT,
        }

    def _choice(self, choice: Choice, place: str) -> dict[str, Any]:
        made: dict[str, Any] = {"index": choice.index, "finish_reason": choice.finish, "logprobs": None}
        if self.kind == "text":
            made["text"] = choice.text
            if choice.scores is not None:
                made["logprobs"] = text_logprobs(choice.scores, self.spelling)
            return made
        if choice.scores is not None:
            made["logprobs"] = chat_logprobs(choice.scores, self.spelling)
        if place == "message":
            made["message"] = {"role": "assistant", "content": choice.text, "refusal": None}
        else:
            role = {"role": "assistant", "content": choice.text} if choice.role else {}
            made["delta"] = role or ({"content": choice.text} if choice.text else {})
        return made


def finite(logp: float | None) -> float | None:
    """A log-probability that JSON can say."""
    return None if logp is None else max(logp, _LEAST)


def chat_logprobs(scores: Sequence[TokenScore], spelling: Spelling) -> dict[str, Any]:
    """Log-probabilities as chat completions have them.

    The stop token is among them; like other special tokens it has no bytes, so that all bytes make up the content.
    """

    def entry(token: int, logp: float | None) -> dict[str, Any]:
        spelled = None if spelling.is_special(token) else list(spelling.bytes_of(token))
        return {"token": spelling.text_of(token), "logprob": finite(logp), "bytes": spelled}

    content = [
        {**entry(score.token, score.logp), "top_logprobs": [entry(*one) for one in score.top]} for score in scores
    ]
    return {"content": content, "refusal": None}


def text_logprobs(scores: Sequence[TokenScore], spelling: Spelling) -> dict[str, Any]:
    """Log-probabilities as completions have them: parallel lists, the likely tokens as dicts by their text.

    Where two tokens are spelled alike the better one counts, so that the largest value is that of the best token. The
    drawn or given token is always among them.
    """
    tokens = [spelling.text_of(score.token) for score in scores]
    tops: list[dict[str, float] | None] = []
    for score in scores:
        if score.logp is None:
            tops.append(None)
            continue
        top: dict[str, float] = {}
        for token, logp in (*score.top, (score.token, score.logp)):
            top.setdefault(spelling.text_of(token), max(logp, _LEAST))
        tops.append(top)
    offsets = list(accumulate(map(len, tokens), initial=0))[:-1]
    return {
        "tokens": tokens,
        "token_logprobs": [finite(score.logp) for score in scores],
        "top_logprobs": tops,
        "text_offset": offsets,
    }
