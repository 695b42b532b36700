"""How many comparisons are needed, and what a number of them can show: the test of a win rate against one half.

Normal approximation, two-sided. A tie counts one half and says less than a win: the variance is p (1 - p) - t / 4 where
a share t of the comparisons are ties. Several labels on one prompt are not independent; m of them with intra-class
correlation rho are worth 1 / (1 + (m - 1) rho) of as many independent ones (Kish 1965).
"""

# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

_NORMAL = NormalDist()


@dataclass(frozen=True)
class Design:
    """How comparisons are collected and tested."""

    labels_per_prompt: float = 1.0
    """Mean number of labels on a prompt, m."""
    icc: float = 0.0
    """Intra-class correlation of labels on one prompt, rho; the symmetric alpha of your data estimates it."""
    ties: float = 0.0
    """Share of ties."""
    level: float = 0.05
    """Of the two-sided test: how often no difference is called one."""
    power: float = 0.8
    """How often a real difference is found."""

    def __post_init__(self) -> None:
        """Refuse what has no meaning."""
        if self.labels_per_prompt < 1 or not 0 <= self.icc <= 1 or not 0 <= self.ties < 1:
            raise ValueError("labels a prompt must be at least 1, the correlation in [0, 1] and ties in [0, 1)")
        if not 0 < self.level < 1 or not 0 < self.power < 1:
            raise ValueError("level and power must be between 0 and 1")

    @property
    def effect(self) -> float:
        """The design effect: labels needed for each independent one."""
        return 1 + (self.labels_per_prompt - 1) * self.icc


def comparisons_needed(win_rate: float, design: Design | None = None) -> int:
    """Return the labels needed to find that a win rate is not one half.

    Args:
        win_rate: the true one, ties counting half.
        design: how they are collected; None = independent labels, 5 %, 80 %.

    Raises:
        ValueError: if the win rate is one half, not in (0, 1), or out of reach with so many ties.
    """
    how = design or Design()
    if win_rate == 0.5 or not 0 < win_rate < 1:
        raise ValueError(f"a win rate other than one half, between 0 and 1, can be found; got {win_rate}")
    return math.ceil(_needed(win_rate, how) - 1e-9)


def minimum_detectable(labels: float, design: Design | None = None) -> float | None:
    """Return the smallest win rate above one half that so many labels find with the design's power.

    Args:
        labels: how many there are.
        design: how they were collected.

    Returns:
        The win rate; None where not even the largest possible one would be found.

    Raises:
        ValueError: if there are no labels.
    """
    how = design or Design()
    if labels <= 0:
        raise ValueError(f"the number of labels must be positive, not {labels}")
    top = 1 - how.ties / 2
    low, high = 0.5 + 1e-9, top - 1e-9
    if _needed(high, how) > labels:
        return None
    while high - low > 1e-10:  # fewer labels are needed the larger the difference
        middle = (low + high) / 2
        low, high = (middle, high) if _needed(middle, how) > labels else (low, middle)
    return high


def power_of(win_rate: float, labels: float, design: Design | None = None) -> float:
    """Return how often so many labels find a true win rate; the far side of the test is ignored.

    Args:
        win_rate: the true one.
        labels: how many there are.
        design: how they are collected; its `power` plays no part.
    """
    how = design or Design()
    null, actual = _deviations(win_rate, how)
    z = (abs(win_rate - 0.5) * math.sqrt(labels / how.effect) - _NORMAL.inv_cdf(1 - how.level / 2) * null) / actual
    return _NORMAL.cdf(z)


def labels_for_agreement(agreement: float, half_width: float, design: Design | None = None) -> int:
    """Return the units to be judged twice so that raw agreement is known to plus or minus `half_width`.

    Args:
        agreement: the expected one; preference data have 0.6 to 0.77.
        half_width: of the interval with confidence 1 - level.
        design: `labels_per_prompt` = units on one prompt.

    Raises:
        ValueError: if a share is not between 0 and 1.
    """
    how = design or Design()
    if not 0 < agreement < 1 or not 0 < half_width < 1:
        raise ValueError("agreement and half-width must be between 0 and 1")
    z = _NORMAL.inv_cdf(1 - how.level / 2)
    return math.ceil(z**2 * agreement * (1 - agreement) / half_width**2 * how.effect - 1e-9)


def _needed(win_rate: float, how: Design) -> float:
    null, actual = _deviations(win_rate, how)
    reach = _NORMAL.inv_cdf(1 - how.level / 2) * null + _NORMAL.inv_cdf(how.power) * actual
    return (reach / (win_rate - 0.5)) ** 2 * how.effect


def _deviations(win_rate: float, how: Design) -> tuple[float, float]:
    """Standard deviation of one comparison if there is no difference, and if the win rate is the true one."""
    variance = win_rate * (1 - win_rate) - how.ties / 4
    if variance <= 0:
        raise ValueError(f"a win rate of {win_rate} is not possible with a share of {how.ties} ties")
    return math.sqrt((1 - how.ties) / 4), math.sqrt(variance)
