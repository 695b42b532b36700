"""A language model as judge: every pair in both orders, by log-probabilities where there are any, else by verdicts."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from accord.errors import EngineError
from accord.judges.base import Comparison, Rating
from accord.judges.client import ChatClient
from accord.judges.templates import PAIRS, RATING, PairName, Template
from accord.judges.wire import Reply, Request
from accord.types import Message, Prompt

TOP_LOGPROBS = 5
"""First tokens to be told; what AlpacaEval 2 asks for, and every server that tells any allows."""
_PROBE = (
    Prompt(id="probe", messages=(Message(role="user", content="How many legs has a spider?"),)),
    "A spider has eight legs.",
    "A spider has three legs.",
)


@dataclass(frozen=True)
class Capabilities:
    """What a server was seen to do."""

    logprobs: bool
    """It tells log-probabilities of the first token, with the letters A or B among the likely ones."""
    why: str = ""
    """Why not."""


def probe(client: ChatClient) -> Capabilities:
    """Ask one easy question in the way that needs log-probabilities, and look at what comes back.

    Raises:
        EngineError, ConfigError: the server does not answer at all.
    """
    question, right, wrong = _PROBE
    messages = PAIRS["letter"].messages(question, right, wrong)
    reply = client.complete(messages, max_tokens=1, top_logprobs=TOP_LOGPROBS)
    if reply.text is None:
        return Capabilities(False, reply.error)
    if not reply.first_token:
        return Capabilities(False, "the reply has no choices[].logprobs.content[].top_logprobs")
    if first_is_better(reply.first_token) is None:
        return Capabilities(False, "neither A nor B is among the likely first tokens")
    return Capabilities(True)


def first_is_better(first_token: Mapping[str, float]) -> float | None:
    """P(A) / (P(A) + P(B)) from log-probabilities of the first token; None when neither is among them.

    A letter counts with any spaces around it; one that is missing has probability 0 (AlpacaEval 2).
    """
    mass = {letter: 0.0 for letter in "AB"}
    for token, logp in first_token.items():
        if token.strip() in mass:
            mass[token.strip()] += math.exp(logp)
    total = mass["A"] + mass["B"]
    return mass["A"] / total if total > 0 else None


@dataclass(frozen=True)
class Style:
    """How a judge is asked."""

    how: Literal["auto", "logprobs", "verdict"] = "auto"
    """auto: log-probabilities of one letter where the server tells them, else a verdict in words."""
    template: PairName = "pairwise"
    """Of verdicts: pairwise (A, B or tie) or arena (five levels)."""
    samples: int = 1
    """Verdicts an order, averaged; more than one are drawn at `temperature`."""
    temperature: float | None = None
    """None = 0 for one sample, 0.7 for several."""
    seed: int = 0


class LLMJudge:
    """A model behind an OpenAI-compatible address as judge; see `accord.judges.base.Judge`."""

    def __init__(
        self,
        client: ChatClient,
        style: Style | None = None,
        *,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """Find out what the server can do.

        Args:
            client: to the model.
            style: how it is asked.
            progress: called with the number of requests that were answered.

        Raises:
            EngineError: the server does not answer, or tells no log-probabilities and `how` is logprobs.
            ConfigError: address, model or key are wrong.
        """
        self.client = client
        self.style = style or Style()
        self.progress = progress
        self.capabilities = Capabilities(False, "not asked") if self.style.how == "verdict" else probe(client)
        if self.style.how == "logprobs" and not self.capabilities.logprobs:
            raise EngineError(
                f"the judge tells no log-probabilities: {self.capabilities.why}",
                where=f"{client.model} at {client.base_url}",
                fix="let it give verdicts in words instead",
            )
        self.pair: Template = PAIRS["letter" if self.capabilities.logprobs else self.style.template]

    @property
    def name(self) -> str:
        """The model's name."""
        return self.client.model

    @property
    def prompt_hash(self) -> str:
        """Of templates, model and sampling."""
        asked = [self.pair.text, RATING.text, self.client.model, *(str(v) for v in vars(self.style).values())]
        return hashlib.sha256("\x1e".join([*asked, str(self.capabilities.logprobs)]).encode()).hexdigest()[:12]

    def compare(self, items: Sequence[tuple[Prompt, str, str]]) -> list[Comparison]:
        """Compare in both orders; p = (p(a first) + 1 - p(b first)) / 2 of the orders that are readable.

        Raises:
            EngineError: the server stopped answering, or the budget is used up; answers so far are kept.
        """
        asked: list[Request] = []
        for prompt, a, b in items:
            asked += self._requests(self.pair, self.pair.messages(prompt, a, b))
            asked += self._requests(self.pair, self.pair.messages(prompt, b, a))
        replies = self.client.complete_many(asked, progress=self.progress)
        size = self._samples(self.pair)
        orders = [_mean([self._read(r) for r in replies[i : i + size]]) for i in range(0, len(replies), size)]
        return [_comparison(orders[i], orders[i + 1]) for i in range(0, len(orders), 2)]

    def rate(self, items: Sequence[tuple[Prompt, str]]) -> list[Rating]:
        """Rate from 1 to 10; the mean over samples.

        Raises:
            EngineError: as `compare`.
        """
        asked = [r for prompt, reply in items for r in self._requests(RATING, RATING.messages(prompt, reply))]
        replies = self.client.complete_many(asked, progress=self.progress)
        size = self.style.samples
        return [Rating(*_mean([_said(r, RATING) for r in replies[i : i + size]])) for i in range(0, len(replies), size)]

    def _samples(self, template: Template) -> int:
        # The distribution over the first token is known already; drawing from it would only add noise.
        return 1 if template.name == "letter" else self.style.samples

    def _requests(self, template: Template, messages: tuple[Message, ...]) -> list[Request]:
        number = self._samples(template)
        temperature = self.style.temperature
        if template.name == "letter":
            temperature = 0.0
        elif temperature is None:
            temperature = 0.0 if number == 1 else 0.7
        top = TOP_LOGPROBS if template.name == "letter" else 0
        return [
            Request(messages, template.max_tokens, temperature, top, sample=i, seed=self.style.seed)
            for i in range(number)
        ]

    def _read(self, reply: Reply) -> tuple[float | None, str]:
        if reply.text is None or self.pair.name != "letter":
            return _said(reply, self.pair)
        p = first_is_better(reply.first_token)
        return p, "" if p is not None else f"neither A nor B is a likely answer: {reply.text[:40]!r}"


def _said(reply: Reply, template: Template) -> tuple[float | None, str]:
    """Value and, where there is none, why."""
    if reply.text is None:
        return None, reply.error
    value = template.read(reply.text)
    if value is not None:
        return value, ""
    cut = "cut off before a verdict" if reply.finish == "length" else "no verdict"
    return None, f"{cut}: ...{reply.text[-60:]!r}"


def _mean(values: Sequence[tuple[float | None, str]]) -> tuple[float | None, str]:
    """Mean of what could be read, and the first reason why something could not."""
    known = [value for value, _ in values if value is not None]
    why = next((reason for value, reason in values if value is None), "")
    return (sum(known) / len(known) if known else None), why


def _comparison(a_first: tuple[float | None, str], b_first: tuple[float | None, str]) -> Comparison:
    first, second = a_first[0], None if b_first[0] is None else 1 - b_first[0]
    known = [p for p in (first, second) if p is not None]
    return Comparison(sum(known) / len(known) if known else None, (first, second), a_first[1] or b_first[1])
