"""What the worker is given and what it tells: one job a prompt, pieces of replies as they come."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from accord.engines.base import Sampling
from accord.engines.stops import Decode
from accord.serve.errors import ApiError
from accord.serve.scoring import TokenScore
from accord.serve.spelling import TextStream
from accord.types import Completion, FinishReason


@dataclass(frozen=True)
class Piece:
    """A part of a reply; without streaming the whole of it."""

    sample: int
    """Which of the job's n samples."""
    text: str
    scores: tuple[TokenScore, ...]
    """Of the tokens that were drawn since the last piece, when log-probabilities are wanted."""
    tokens: int = 0
    """Tokens of the reply so far, the stop token included."""
    finish: FinishReason | None = None
    """Set on the last piece of a sample."""


@dataclass(frozen=True)
class PromptScores:
    """Log-probabilities of the prompt's tokens; told before any piece, when they are wanted."""

    scores: tuple[TokenScore, ...]


Event = Piece | PromptScores | ApiError


@dataclass(eq=False)
class Job:
    """One prompt and its samples."""

    ids: tuple[int, ...]
    """Token ids of the prompt."""
    sampling: Sampling
    """Its `max_new_tokens` is the job's own limit; not read where `only_scores` is set."""
    seed: int
    top: int | None
    """Most likely tokens told beside each one; None = no log-probabilities."""
    scores_prompt: bool
    """Whether the prompt's log-probabilities are wanted too."""
    only_scores: bool
    """Whether nothing is to be drawn."""
    stream: bool
    tell: Callable[[Event], None]
    """Called in the worker's thread."""
    cancelled: bool = False
    """Set by whoever does not want it any more, from any thread."""
    left: int = field(init=False)
    """Samples that are not finished."""

    def __post_init__(self) -> None:
        self.left = self.sampling.n

    @property
    def shape(self) -> tuple[float, float, int, int, tuple[str, ...]]:
        """Jobs of equal shape can be decoded together; their limits may differ."""
        s = self.sampling
        return s.temperature, s.top_p, s.top_k, s.n, s.stop


class Writing:
    """One sample in the making: collects what was drawn, and says what can be told."""

    def __init__(self, job: Job, sample: int, decode: Decode) -> None:
        """Begin.

        Args:
            job: what it belongs to.
            sample: its number there.
            decode: token ids to text.
        """
        self.job, self.sample = job, sample
        self._scores: list[TokenScore] = []
        self._text = TextStream(decode, job.sampling.stop) if job.stream else None

    def add(self, ids: Sequence[int], score: TokenScore | None, finished: Completion | None) -> Piece | None:
        """Take one token; a piece, when there is something to tell.

        Args:
            ids: all tokens so far.
            score: of the last one, when it is wanted.
            finished: the whole completion, when this is its last token.
        """
        if score is not None:
            self._scores.append(score)
        if finished is not None:
            text = finished.text if self._text is None else self._text.finish(finished.text)
            return self._piece(text, len(finished.token_ids), finished.finish)
        text = "" if self._text is None else self._text.push(ids)
        return self._piece(text, len(ids), None) if text else None

    def _piece(self, text: str, tokens: int, finish: FinishReason | None) -> Piece:
        scores, self._scores = tuple(self._scores), []
        return Piece(self.sample, text, scores, tokens, finish)
