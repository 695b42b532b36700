"""Judging the judge before it is believed: agreement with labels of people or gold, and what may be refused.

A judge whose agreement could as well be that of a coin says nothing, however many numbers are made with it
(reference: LLMBar, Zeng et al. 2024, where chat models fall below chance on adversarial pairs).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from accord import stats
from accord.data import prompt_text
from accord.errors import ConfigError, DataError
from accord.judges.base import Judge
from accord.judges.conduct import Conduct, conduct
from accord.types import Preference, Prompt


@dataclass(frozen=True)
class Labelled:
    """Two replies, of which people or gold prefer the first."""

    prompt: Prompt
    better: str
    worse: str


@dataclass(frozen=True)
class Agreement:
    """How often a judge prefers what the labels prefer."""

    judge: str
    prompt_hash: str
    on: str
    """Which labels."""
    value: float
    """Share; a tie, and a pair without any readable verdict, count one half."""
    low: float
    """Lower end of the 95 % interval: Wilson, or a bootstrap over prompts where a prompt has several pairs."""
    high: float
    """Upper end."""
    n: int
    """Pairs."""
    conduct: Conduct

    @property
    def better_than_chance(self) -> bool:
        """Whether the interval lies above one half."""
        return self.low > 0.5

    def row(self) -> dict[str, Any]:
        """As `Measured.judge_accuracy`."""
        return {"value": self.value, "low": self.low, "high": self.high, "n": self.n, "on": self.on}


def labelled_pairs(preferences: Sequence[Preference]) -> list[Labelled]:
    """The pairs among preferences in which one reply is preferred; ties and rankings are left out."""
    found: list[Labelled] = []
    for p in preferences:
        better = p.choice if p.choice is not None else None if p.soft in (None, 0.5) else int(p.soft < 0.5)
        if len(p.candidates) == 2 and better is not None:
            found.append(Labelled(p.prompt, p.candidates[better].text, p.candidates[1 - better].text))
    return found


def agreement(judge: Judge, labels: Sequence[Labelled], *, on: str, seed: int = 0) -> Agreement:
    """Let a judge compare labelled pairs.

    The better reply is given first in every other pair only, so that a judge that ties or answers by place gains
    nothing from how the file is written.

    Args:
        judge: to be measured.
        labels: pairs.
        on: what they are called in tables.
        seed: of the bootstrap.

    Raises:
        DataError: there are no labels.
    """
    if not labels:
        raise DataError("there is no labelled pair to measure the judge on", where=on, fix="give pairs with a choice")
    turned = [bool(number % 2) for number in range(len(labels))]
    items = [
        (pair.prompt, pair.worse, pair.better) if turn else (pair.prompt, pair.better, pair.worse)
        for pair, turn in zip(labels, turned, strict=True)
    ]
    said = judge.compare(items)
    outcomes: list[float] = []
    for turn, c in zip(turned, said, strict=True):
        p = 0.5 if c.p is None else 1 - c.p if turn else c.p
        outcomes.append(0.5 if p == 0.5 else float(p > 0.5))
    prompts = [prompt_text(pair.prompt) for pair in labels]
    rate = stats.win_rate(outcomes, None if len(set(prompts)) == len(prompts) else prompts, seed=seed)
    low, high = max(rate.low, 0.0), min(rate.high, 1.0)  # one prompt alone: infinite, so nothing is known
    return Agreement(judge.name, judge.prompt_hash, on, rate.value, low, high, rate.n, conduct(said))


class WeakJudge(UserWarning):
    """A judge is used although its agreement with labels may be that of a coin."""


def require_agreement(found: Agreement, action: Literal["refuse", "warn"] = "refuse") -> None:
    """Stop, or warn loudly, when a judge is not shown to be better than a coin.

    Args:
        found: its agreement.
        action: refuse raises, warn warns.

    Raises:
        ConfigError: the interval includes or lies below one half, and the action is refuse.
    """
    if found.better_than_chance:
        return
    what = (
        f"the judge {found.judge} agrees with {found.on} in {found.value:.3f} of {found.n} pairs "
        f"(95 % {found.low:.3f} to {found.high:.3f}): that may be no better than a coin"
    )
    if action == "warn":
        warnings.warn(what, WeakJudge, stacklevel=2)
        return
    raise ConfigError(
        what,
        where=f"judge {found.judge}",
        fix="take a better judge or more labels; to go on nevertheless, ask for a warning instead",
    )
