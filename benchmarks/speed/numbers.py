"""From measured times to what is reported: medians and spread, ratios of the same steps, straight lines, FLOPs."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

TOLERANCE = 1e-4
"""Largest relative difference of float32 losses that counts as the same mathematics."""


@dataclass(frozen=True)
class Spread:
    """A median with the smallest and the largest value."""

    median: float
    low: float
    high: float
    n: int

    def text(self, digits: int = 2) -> str:
        """Median [low, high]."""
        return f"{self.median:.{digits}f} [{self.low:.{digits}f}, {self.high:.{digits}f}]"


def spread(values: Sequence[float]) -> Spread | None:
    """Median and extremes; None without values."""
    if not values:
        return None
    return Spread(statistics.median(values), min(values), max(values), len(values))


def ratios(slow: Sequence[float], fast: Sequence[float]) -> Spread | None:
    """How many times as long `slow` took, step by step; both did the same steps in the same order."""
    return spread([a / b for a, b in zip(slow, fast, strict=False)])


def relative(a: float, b: float) -> float:
    """Difference in units of the larger magnitude, or of 1 where both are smaller."""
    return abs(a - b) / max(1.0, abs(a), abs(b))


def compare_losses(contenders: dict[str, dict[str, Any]], first: str) -> dict[str, dict[str, float | bool]]:
    """Largest difference to the first contender's losses and gradient norms over the steps that are compared.

    Args:
        contenders: by name, with `checked` steps.
        first: the one the others are compared with.
    """
    found: dict[str, dict[str, float | bool]] = {}
    base = contenders[first].get("checked") or []
    for name, one in contenders.items():
        pairs = [p for p in zip(base, one.get("checked") or [], strict=False) if p[1]["loss"] is not None]
        if name == first or not pairs:
            continue
        loss = max(relative(a["loss"], b["loss"]) for a, b in pairs)
        norms = [(a["grad_norm"], b["grad_norm"]) for a, b in pairs if b["grad_norm"] is not None]
        # Gradient norms are compared with each other's size: on-policy losses are near 0, their gradients are not.
        norm = max((abs(a - b) / max(abs(a), abs(b), 1e-12) for a, b in norms), default=0.0)
        found[name] = {"loss": loss, "grad_norm": norm, "same": loss <= TOLERANCE and norm <= 10 * TOLERANCE}
    return found


@dataclass(frozen=True)
class Line:
    """A least-squares line and how well it fits."""

    slope: float
    start: float
    r2: float


def line(x: Sequence[float], y: Sequence[float]) -> Line:
    """Fit y = start + slope x.

    Raises:
        ValueError: fewer than two different x.
    """
    mean_x, mean_y = statistics.fmean(x), statistics.fmean(y)
    square = sum((a - mean_x) ** 2 for a in x)
    if square == 0:
        raise ValueError("a line needs two different x")
    slope = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / square
    start = mean_y - slope * mean_x
    left = sum((b - start - slope * a) ** 2 for a, b in zip(x, y, strict=True))
    whole = sum((b - mean_y) ** 2 for b in y)
    return Line(slope, start, 1.0 - left / whole if whole else 1.0)


def training_flops(lengths: Sequence[int], scored: int, shape: dict[str, Any]) -> float:
    """Multiplications and additions of one forward and backward pass, recomputation not counted.

    6 for each weight of the trunk and token, causal attention (half of the square), and the head on scored tokens.

    Args:
        lengths: real tokens of each row.
        scored: tokens that go through the head.
        shape: `hidden`, `layers`, `intermediate`, `vocab` of a Llama with as many key as query heads.
    """
    hidden, layers = shape["hidden"], shape["layers"]
    weights = layers * (4 * hidden**2 + 3 * hidden * shape["intermediate"])
    attention = 6 * hidden * layers * sum(n * n for n in lengths)
    return 6.0 * weights * sum(lengths) + attention + 6.0 * hidden * shape["vocab"] * scored


def decode_step(batch: int, columns: int, shape: dict[str, Any], size: int, *, shared: int = 0) -> tuple[float, float]:
    """FLOPs and bytes of one decoding step of a batch: weights and cache are read once.

    Args:
        batch: sequences.
        columns: cached tokens of a sequence.
        shared: cached tokens, over the batch, that need not be read since another sequence of the same prompt has them.
        shape: see `training_flops`.
        size: bytes of a number.
    """
    hidden, layers = shape["hidden"], shape["layers"]
    weights = layers * (4 * hidden**2 + 3 * hidden * shape["intermediate"]) + hidden * shape["vocab"]
    cached = 2 * layers * hidden * columns * batch
    read = 2 * layers * hidden * (columns * batch - shared)
    return 2.0 * weights * batch + 2.0 * cached, float((weights + read) * size)
