"""Proxy against gold: what a judge that nobody optimises says while the reward rises (Gao et al. 2022, 2210.10760).

Gold is the truth of the lab, or a held-out reward model. The same prompts and sampling seeds are measured every time,
so that differences are paired over prompts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from accord.diagnose.readings import over
from accord.diagnose.rules import Reading
from accord.stats.overoptimisation import Curve, Peak, fit_curve

LEAST_POINTS = 4
"""Points beyond the start that a curve of two parameters is fitted to."""


@dataclass(frozen=True)
class Measurement:
    """What one measurement on the fixed prompts gave."""

    step: int
    kl: float
    """Nats a reply."""
    proxy: tuple[float, ...]
    """Score of each prompt's reply."""
    gold: tuple[float, ...]
    """Judged value of each prompt's reply."""

    @property
    def mean(self) -> float:
        """Mean gold."""
        return sum(self.gold) / len(self.gold)


def drop(now: Measurement, best: Measurement) -> Reading:
    """How far gold is below its best in standard errors, when the proxy is not clearly below what it was there; else 0.

    Args:
        now: the newest measurement.
        best: the one with the highest mean gold so far.
    """
    gold = over([b - a for a, b in zip(now.gold, best.gold, strict=True)])
    proxy = over([a - b for a, b in zip(now.proxy, best.proxy, strict=True)])
    if gold.error == 0 or proxy.value < -2 * proxy.error:
        return Reading(0.0, 0.0)
    return Reading(gold.value / gold.error, 0.0)


def over_optimisation(path: Sequence[tuple[float, float]]) -> tuple[Curve, Peak | None] | None:
    """Fit R(d) = d (alpha - beta log d) to gold over d = sqrt(KL), from the gold of the start.

    Args:
        path: (KL, mean gold) of the start and of the measurements after it, in order.

    Returns:
        The curve and its peak (None when it never falls); None while there are too few points.
    """
    start = path[0][1] if path else 0.0
    points = [(math.sqrt(kl), gold - start) for kl, gold in path[1:] if kl > 0 and math.isfinite(gold)]
    if len(points) < LEAST_POINTS or len({d for d, _ in points}) < 2:
        return None
    curve = fit_curve("rl", [d for d, _ in points], [g for _, g in points])
    return curve, curve.peak


def win_rate(now: Measurement, first: Measurement) -> Reading:
    """How often the policy's reply is judged better than the SFT model's to the same prompt, ties half.

    Args:
        now: of the policy.
        first: of the SFT model.
    """
    return over([0.5 if a == b else float(a > b) for a, b in zip(now.gold, first.gold, strict=True)])
