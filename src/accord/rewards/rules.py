"""Any Python callable as a reward: the adapter that turns its failures into errors, not zeros."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

from accord.errors import RewardError
from accord.types import Rollout, Score


class CallableReward:
    """Adapts `f(prompts, completions, **columns) -> list[float | None]`, TRL's signature.

    `prompts` holds the text of the last turn of each prompt, `completions` the replies. Every key that all prompts
    carry in `meta` arrives as a list of its own, provided that the function takes an argument of this name or
    `**kwargs`.
    """

    def __init__(self, function: Callable[..., Sequence[float | None]], name: str = "") -> None:
        """Wrap `function`; `name` appears in errors."""
        self.function = function
        self.name = name or getattr(function, "__name__", "reward")
        self.columns = _columns_of(function)
        """Arguments the function takes; None = any."""

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """Score rollouts; what is not a finite number is a Score with an error.

        Raises:
            RewardError: the function raised, or returned another number of scores.
        """
        if not rollouts:
            return []
        shared = set.intersection(*(set(r.prompt.meta) for r in rollouts)) - {"prompts", "completions"}
        taken = sorted(key for key in shared if self.columns is None or key in self.columns)
        columns = {key: [r.prompt.meta[key] for r in rollouts] for key in taken}
        prompts = [r.prompt.messages[-1].content for r in rollouts]
        completions = [r.completion.text for r in rollouts]
        try:
            values = list(self.function(prompts, completions, **columns))
        # The boundary to the user's code: whatever it raises is reported as theirs.
        except Exception as error:
            raise RewardError(
                f"the reward function '{self.name}' raised {type(error).__name__}: {error}",
                fix="mend the function; it must return a number or None for every completion",
            ) from error
        if len(values) != len(rollouts):
            raise RewardError(f"'{self.name}' returned {len(values)} scores for {len(rollouts)} completions")
        return [self._score(value) for value in values]

    def _score(self, value: Any) -> Score:
        try:
            number = math.nan if isinstance(value, str) else float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number):
            return Score(value=None, error=f"'{self.name}' returned {value!r}")
        return Score(value=number)


def _columns_of(function: Callable[..., Any]) -> frozenset[str] | None:
    """Names of the arguments a function takes; None where it takes any."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # some functions written in C do not say
        return None
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return frozenset(p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY))
