"""The records that cross a process: files, HTTP, the database. Frozen, and an unknown field is an error.

Field names are the field's standard terms: a *score* is the raw output of a reward function, a *reward* is what is
left after the KL penalty; log-probabilities are natural logarithms (nats).
"""

from __future__ import annotations

import math
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Role = Literal["system", "user", "assistant", "tool"]
FinishReason = Literal["stop", "length", "error"]
Source = Literal["human", "judge", "simulated", "import"]


class Record(BaseModel):
    """Base of all records: immutable, strict about fields, equal by value."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Message(Record):
    """One turn of a conversation."""

    role: Role
    content: str


class Document(Record):
    """Raw text for pretraining."""

    id: str
    text: str
    meta: dict[str, Any] = Field(default_factory=dict)


class Prompt(Record):
    """What the model is asked: the conversation up to, and not including, the reply."""

    id: str
    messages: tuple[Message, ...] = Field(min_length=1)
    meta: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _ends_before_a_reply(self) -> Self:
        if self.messages[-1].role == "assistant":
            raise ValueError("a prompt must end with a user, tool or system turn, not with the reply")
        return self


class Demonstration(Record):
    """A conversation to imitate; it ends with an assistant turn."""

    id: str
    messages: tuple[Message, ...] = Field(min_length=1)
    meta: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _ends_with_a_reply(self) -> Self:
        if self.messages[-1].role != "assistant" or not self.messages[-1].content:
            raise ValueError("a demonstration must end with a non-empty assistant turn")
        return self


class Completion(Record):
    """A sampled reply as token ids, exactly as the sampler saw them."""

    token_ids: tuple[int, ...]
    """Ids including the sampled stop token when `finish` is "stop" through a stop id."""
    logps: tuple[float, ...] | None = None
    """log pi_sampler(token) under the distribution that was sampled (temperature, top-p, top-k applied)."""
    finish: FinishReason
    text: str = ""
    """Decoded without the stop token; for people, judges and rules. Never re-encoded for training."""
    model: str = ""

    @model_validator(mode="after")
    def _aligned(self) -> Self:
        if self.logps is not None and len(self.logps) != len(self.token_ids):
            raise ValueError("logps and token_ids differ in length")
        return self


class Candidate(Record):
    """One reply shown to an annotator."""

    text: str
    model: str = ""
    meta: dict[str, Any] = Field(default_factory=dict)


class Preference(Record):
    """One judgement about n >= 2 replies to the same prompt; append-only.

    Exactly one of these says what was judged: `choice` (index of the best), `ranking` (groups of indices, best group
    first, ties share a group), `tie`, `both_bad`, or `soft` alone (probability that candidate 0 is the better of two).
    """

    id: str
    prompt: Prompt
    candidates: tuple[Candidate, ...] = Field(min_length=2)
    choice: int | None = None
    ranking: tuple[tuple[int, ...], ...] | None = None
    tie: bool = False
    both_bad: bool = False
    soft: float | None = Field(default=None, ge=0, le=1)
    """P(candidate 0 is better), pairs only; may accompany `choice`."""
    strength: float | None = Field(default=None, ge=0)
    """Margin in reward units (Llama-2 style) or Likert strength; 0 = barely better."""
    annotator: str = ""
    group: str = ""
    source: Source = "human"
    order_shown: tuple[int, ...] | None = None
    seconds: float | None = Field(default=None, ge=0)
    meta: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_verdict(self) -> Self:
        n = len(self.candidates)
        verdicts = [self.choice is not None, self.ranking is not None, self.tie, self.both_bad]
        if sum(verdicts) > 1:
            raise ValueError("give one of choice, ranking, tie, both_bad, not several")
        if sum(verdicts) == 0 and self.soft is None:
            raise ValueError("no verdict: give one of choice, ranking, tie, both_bad, soft")
        if self.choice is not None and not 0 <= self.choice < n:
            raise ValueError(f"choice {self.choice} is not an index of {n} candidates")
        if self.ranking is not None and sorted(i for g in self.ranking for i in g) != list(range(n)):
            raise ValueError("ranking must name every candidate exactly once")
        if self.soft is not None and n != 2:
            raise ValueError("soft labels are for pairs")
        if self.order_shown is not None and sorted(self.order_shown) != list(range(n)):
            raise ValueError("order_shown must be a permutation of the candidates")
        return self


class Unpaired(Record):
    """A reply with a thumbs up or down (KTO)."""

    id: str
    prompt: Prompt
    completion: str
    label: bool
    meta: dict[str, Any] = Field(default_factory=dict)


class Stepwise(Record):
    """A reply in steps with a label a step (process reward models)."""

    id: str
    prompt: Prompt
    completions: tuple[str, ...] = Field(min_length=1)
    labels: tuple[bool, ...] = Field(min_length=1)
    meta: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _aligned(self) -> Self:
        if len(self.labels) != len(self.completions):
            raise ValueError("labels and completions differ in length")
        return self


class Score(Record):
    """What a reward function said of one rollout. A failure is an `error`, never a zero."""

    value: float | None
    parts: dict[str, float] = Field(default_factory=dict)
    error: str | None = None

    @model_validator(mode="after")
    def _finite(self) -> Self:
        if self.value is None and self.error is None:
            raise ValueError("a score without a value must say why in `error`")
        if self.value is not None and not math.isfinite(self.value):
            raise ValueError(f"score {self.value} is not finite")
        return self


class Rollout(Record):
    """A prompt with one sampled reply, scored or not yet."""

    prompt: Prompt
    prompt_ids: tuple[int, ...]
    completion: Completion
    group: str
    """Rollouts of the same prompt in the same round share it."""
    score: Score | None = None
    policy_version: int = 0
