"""Numbers and text as people read them: intervals, durations, memory, axis ticks, deceiving characters."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from accord.stats import Interval

_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")
"""Control characters, bidirectional overrides and lone surrogates: they can hide or reorder what is shown."""

DASH = "\u2013"
MINUS = "\u2212"
MISSING = "\u2014"


def visible(text: str) -> str:
    """Return the text with characters that deceive the eye spelled out as `\\uXXXX`."""
    return _UNSAFE.sub(lambda m: f"\\u{ord(m.group()):04x}", text.replace("\r\n", "\n"))


def finite(value: Any) -> float | None:
    """Return a finite number as float, and None for everything else (null, NaN, text, booleans)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


class Cell(NamedTuple):
    """One cell of a table."""

    shown: str
    interval: str = ""
    tone: str = ""


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval, as far as they are known."""

    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The interval when both ends are known."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    @property
    def lower(self) -> float:
        """The low end, or the value when there is no interval."""
        return self.value if self.low is None else self.low

    @property
    def upper(self) -> float:
        """The high end, or the value when there is no interval."""
        return self.value if self.high is None else self.high


def from_interval(found: Interval) -> Estimate:
    """Return a computed interval as an estimate; infinite ends, where nothing is known, become None."""
    return Estimate(found.value, finite(found.low), finite(found.high), found.n)


def estimate(raw: Any) -> Estimate | None:
    """Read `{"value", "low", "high", "n"}` or a plain number; None when there is no finite value."""
    if isinstance(raw, Mapping):
        value = finite(raw.get("value"))
        if value is None:
            return None
        n = finite(raw.get("n"))
        return Estimate(value, finite(raw.get("low")), finite(raw.get("high")), None if n is None else int(n))
    value = finite(raw)
    return None if value is None else Estimate(value)


def number(value: Any, digits: int = 3) -> str:
    """Return a number with about `digits` significant digits, short for large and tiny ones."""
    x = finite(value)
    if x is None:
        return MISSING
    size = abs(x)
    if size >= 1e15 or 0 < size < 1e-4:
        text = f"{x:.{max(digits - 2, 0)}e}".replace("e-0", "e-").replace("e+", "e").replace("e0", "e")
    elif size >= 1e5:
        unit, name = (1e12, "T") if size >= 1e12 else (1e9, "G") if size >= 1e9 else (1e6, "M")
        unit, name = (unit, name) if size >= 1e6 else (1e3, "k")
        text = f"{x / unit:.{digits}g}{name}" if size / unit < 1000 else f"{x / unit:.0f}{name}"
    elif x == int(x) or size >= 10**digits:
        text = f"{x:.0f}"
    else:
        decimals = digits - 1 - math.floor(math.log10(size))
        text = f"{x:.{min(max(decimals, 0), 6)}f}"
    return text.replace("-", MINUS) if "e" not in text else text


def percent(value: Any, digits: int = 0) -> str:
    """Return a share as a percentage: 0.714 -> `71 %`."""
    x = finite(value)
    return MISSING if x is None else f"{100 * x:.{digits}f}\u00a0%".replace("-", MINUS)


def percent_interval(value: Estimate, digits: int = 0) -> str:
    """Return a share with its interval: `71 % (66\u201376)`."""
    if value.interval is None:
        return percent(value.value, digits)
    low, high = (f"{100 * end:.{digits}f}" for end in value.interval)
    return f"{percent(value.value, digits)} ({low}{DASH}{high})".replace("-", MINUS)


def signed(value: float, digits: int = 2) -> str:
    """Return a difference with its sign."""
    return f"{value:+.{digits}f}".replace("-", MINUS)


def signed_percent(value: float) -> str:
    """Return a relative change with its sign: 0.12 -> `+12 %`."""
    return f"{100 * value:+.0f}\u00a0%".replace("-", MINUS)


def duration(seconds: Any) -> str:
    """Return a time span in the two largest units."""
    x = finite(seconds)
    if x is None:
        return MISSING
    if x < 10:
        return f"{x:.1f} s"
    whole = round(x)
    if whole < 90:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def memory(megabytes: Any) -> str:
    """Return an amount of memory given in MB."""
    x = finite(megabytes)
    if x is None:
        return MISSING
    return f"{x:.0f} MB" if x < 1000 else f"{x / 1000:.1f} GB"


def listed(words: list[str]) -> str:
    """Join words as in a sentence: `a, b and c`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Return about `count` round numbers that cover [low, high] from inside.

    Args:
        low: smallest value on the axis.
        high: largest value, greater than `low`.
        count: how many ticks to aim at.
    """
    raw = (high - low) / max(count, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = min((m * power for m in (1, 2, 2.5, 5, 10)), key=lambda s: abs(math.log(s / raw)))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 12) + 0.0 for i in range(first, last + 1)]


def tick_labels(values: list[float]) -> list[str]:
    """Return tick labels that all show the same number of decimals."""
    size = max((abs(v) for v in values), default=0.0)
    if size >= 10_000 or 0 < size < 1e-3:
        return [number(v) for v in values]
    step = abs(values[1] - values[0]) if len(values) > 1 else size or 1.0
    decimals = next((d for d in range(6) if abs(step * 10**d - round(step * 10**d)) < 1e-6), 6)
    return [f"{v:.{decimals}f}".replace("-", MINUS) for v in values]
