"""What a reward is: a function from a batch of rollouts to as many scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, Protocol, runtime_checkable

from accord.types import Rollout, Score


class RewardFn(Protocol):
    """Scores rollouts; batched, so that models batch and group-aware rewards see siblings."""

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """Return one score a rollout, in order. A failure is a Score with an error, never a zero."""
        ...


@runtime_checkable
class TakesRollouts(RewardFn, Protocol):
    """A RewardFn that may be named in `reward_funcs`: it says that it wants rollouts, not columns of text."""

    takes_rollouts: ClassVar[Literal[True]]
