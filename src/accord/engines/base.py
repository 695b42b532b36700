"""The seam between whoever needs text and whatever generates it: prompts as token ids in, completions out.

Token ids, never text, cross this seam: text that is decoded and encoded again does not give back the ids that
were sampled, and log-probabilities of other ids are worthless to a trainer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from accord.errors import EngineError
from accord.types import Completion


@dataclass(frozen=True)
class Sampling:
    """How to sample; the same object means the same distribution on every engine.

    Raises:
        EngineError: a value is out of range.
    """

    max_new_tokens: int
    """Most tokens of one completion, the stop token included; at least 1."""
    temperature: float = 1.0
    """Logits are divided by it; 0 takes the most likely token (log-probs are then those at temperature 1)."""
    top_p: float = 1.0
    """Keep the smallest set of tokens whose mass is at least this, in (0, 1]; 1 keeps all."""
    top_k: int = 0
    """Keep this many most likely tokens, before top_p; 0 keeps all."""
    n: int = 1
    """Completions per prompt."""
    stop: tuple[str, ...] = ()
    """Text that ends a completion; it is cut from the text, the token ids that spell it are kept."""
    seed: int = 0
    """Seed of the prompts' seeds when `generate` is not given one seed per prompt."""

    def __post_init__(self) -> None:
        _require(self.max_new_tokens >= 1, "max_new_tokens", self.max_new_tokens, "at least 1")
        _require(
            math.isfinite(self.temperature) and self.temperature >= 0,
            "temperature",
            self.temperature,
            "0 or more",
        )
        _require(0 < self.top_p <= 1, "top_p", self.top_p, "in (0, 1]; 1 switches it off")
        _require(self.top_k >= 0, "top_k", self.top_k, "0 (off) or more")
        _require(self.n >= 1, "n", self.n, "at least 1")
        _require(not isinstance(self.stop, str), "stop", self.stop, "a tuple of strings, not one string")
        _require(all(self.stop), "stop", self.stop, "made of non-empty strings")


@dataclass(frozen=True)
class Caps:
    """What an engine can do; callers check this instead of the engine's class."""

    weights: Literal["shared", "stream", "ipc", "path", "none"]
    """How new weights arrive; "shared": the learner's own tensors, "none": they cannot be changed."""
    logps: bool
    """Completions carry the sampler's log-probabilities."""
    seeds: bool
    """A prompt's seed fixes its completions whatever else is in the batch."""
    max_length: int | None = None
    """Most tokens of prompt and completion together; None = unknown or unbounded."""


@runtime_checkable
class Engine(Protocol):
    """Anything that turns prompts into completions."""

    @property
    def caps(self) -> Caps:
        """What this engine can do."""
        ...

    def generate(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, *, seeds: Sequence[int] | None = None
    ) -> list[Completion]:
        """Return `sampling.n` completions per prompt, all of prompt 0 first.

        Args:
            prompts: token ids, each at least one.
            sampling: distribution, length and stops.
            seeds: one per prompt; sample j of prompt i depends on (seeds[i], j) alone. None derives them from
                `sampling.seed` and the prompt's index.

        Raises:
            EngineError: the request or the model's output cannot be used.
        """
        ...

    def update_weights(self, policy: object, version: int) -> None:
        """Make later completions come from `policy`; `version` counts up with every update."""
        ...

    def close(self) -> None:
        """Free what the engine holds; generating afterwards is an error."""
        ...


def check_request(
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    seeds: Sequence[int] | None,
    *,
    vocab_size: int | None = None,
    max_length: int | None = None,
) -> None:
    """Refuse a request that no engine could answer, naming the prompt at fault.

    Args:
        prompts: token ids per prompt.
        sampling: what is asked for.
        seeds: one per prompt, or None.
        vocab_size: ids must be below it; None skips the check.
        max_length: most tokens of prompt and completion together; None skips the check.

    Raises:
        EngineError: an empty or too long prompt, an id outside the vocabulary, a wrong number of seeds.
    """
    if seeds is not None and len(seeds) != len(prompts):
        raise EngineError(
            f"got {len(seeds)} seeds for {len(prompts)} prompts",
            fix="give one seed per prompt, or none at all",
        )
    for index, ids in enumerate(prompts):
        where = f"prompt {index} of {len(prompts)}"
        if len(ids) == 0:
            raise EngineError("the prompt is empty", where=where, fix="start every prompt with a BOS or role token")
        if max_length is not None and len(ids) + sampling.max_new_tokens > max_length:
            raise EngineError(
                f"{len(ids)} prompt tokens + max_new_tokens {sampling.max_new_tokens} = "
                f"{len(ids) + sampling.max_new_tokens}, but the model has {max_length} positions",
                where=where,
                fix=f"shorten the prompt by {len(ids) + sampling.max_new_tokens - max_length} tokens, lower "
                "max_new_tokens, or use a model with a longer context",
            )
        if vocab_size is not None and not (min(ids) >= 0 and max(ids) < vocab_size):
            bad = next(token for token in ids if not 0 <= token < vocab_size)
            raise EngineError(
                f"token id {bad} is outside the model's vocabulary of {vocab_size}",
                where=where,
                fix="encode prompts with the tokenizer that belongs to this model",
            )


def _require(holds: bool, name: str, value: object, what: str) -> None:
    if not holds:
        raise EngineError(f"{name} is {value!r}", where="sampling", fix=f"{name} must be {what}")
