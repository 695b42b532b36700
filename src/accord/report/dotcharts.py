"""Charts of single values: dots by group and model, and the reliability of probabilities."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from accord.report.formats import Estimate, number, percent, tick_labels, ticks
from accord.report.svg import drawing, fitted, legend, line, marker, responsive, tag, text, text_width
from accord.stats import wilson


@dataclass(frozen=True)
class Bin:
    """Predictions of about the same probability."""

    p: float
    freq: float
    n: int


def dot_plot(
    groups: Sequence[str],
    values: Mapping[str, Mapping[str, Estimate]],
    slots: Mapping[str, int],
    *,
    title: str,
    names: Mapping[str, str],
) -> Markup | None:
    """Draw one value a model in every group, with intervals where they are known.

    Args:
        groups: rows from top to bottom; the first one is set apart as the total.
        values: for each model, its value by group.
        slots: colour slot a model.
        title: what is compared.
        names: what a model is called.
    """
    flat = [e for by_group in values.values() for g, e in by_group.items() if g in groups]
    if not flat:
        return None
    low, high = min(e.lower for e in flat), max(e.upper for e in flat)
    pad = 0.06 * (high - low) or 0.05
    low, high = low - pad, high + pad
    said = (
        f"{names[m]}: " + ", ".join(f"{g} {number(values[m][g].value)}" for g in groups if g in values[m]) + "."
        for m in values
    )
    desc = " ".join(said)

    def build(width: float, wide: bool) -> Markup:
        left = max(text_width(g, 13) for g in groups) + 20 if wide else 4.0
        left, right = min(left, width * 0.3), width - 8.0
        step = 7.0
        band = step * (len(values) - 1) + 16
        row_h = band + (6 if wide else 24)
        keys = legend([(names[m], slots[m]) for m in values], width)
        top, gap = 12.0 + 18 * len(keys), 12.0
        bottom = top + row_h * len(groups) + gap

        def x(value: float) -> float:
            return left + (value - low) / (high - low) * (right - left)

        parts = [mark for row in keys for mark in row]
        marks = ticks(low, high, 6 if wide else 4)
        for mark, label in zip(marks, tick_labels(marks), strict=True):
            parts.append(line(x(mark), top, x(mark), bottom, class_="grid"))
            parts.append(text(x(mark), bottom + 16, label, anchor="middle"))
        for i, group in enumerate(groups):
            y = top + row_h * i + (gap if i else 0)
            style = "row strong" if i == 0 else "row"
            parts.append(
                text(0, y + (row_h / 2 + 4 if wide else 15), fitted(group, left - 12 if wide else width), class_=style)
            )
            if i:
                parts.append(line(0, y, width, y, class_="grid"))
            for j, model in enumerate(m for m in values if group in values[m]):
                at = y + (row_h - band) / (2 if wide else 1) + 8 + step * j
                parts += _dot(values[model][group], slots[model], x, at, f"{names[model]}, {group}")
        return drawing(parts, width=width, height=bottom + 22, title=title, desc=desc)

    return responsive(build)


def _dot(value: Estimate, slot: int, x: Callable[[float], float], y: float, what: str) -> list[Markup]:
    hint = f"{what}: {number(value.value)}"
    parts: list[Markup] = []
    if value.interval is not None:
        a, b = (x(end) for end in value.interval)
        parts.append(tag("g", line(a, y, b, y, class_="ln whisker"), class_=f"s{slot}"))
        hint += f" ({number(value.lower)} to {number(value.upper)})"
    parts.append(marker(slot, x(value.value), y, r=4.4, hint=hint))
    return parts


def reliability(bins: Sequence[Bin], *, title: str) -> Markup | None:
    """Draw how often a probability came true: observed share by predicted probability, with counts below.

    Args:
        bins: predictions grouped by probability; empty ones are skipped.
        title: whose probabilities they are.
    """
    bins = [b for b in bins if b.n > 0]
    if not bins:
        return None
    width, top, side, left = 350.0, 14.0, 268.0, 46.0
    low = 0.5 if min(b.p for b in bins) >= 0.5 else 0.0
    right = width - 20
    strip, height = 40.0, top + side + 84

    def x(p: float) -> float:
        return left + (p - low) / (1 - low) * (right - left)

    def y(p: float) -> float:
        return top + side * (1 - p) if low == 0 else top + side * (1 - max(p - 0.25, 0) / 0.75)

    parts: list[Markup] = []
    for mark in ticks(0.0 if low == 0 else 0.25, 1, 4):
        parts.append(line(left, y(mark), right, y(mark), class_="grid"))
        parts.append(text(left - 7, y(mark) + 4, percent(mark), anchor="end"))
    for mark in ticks(low, 1, 4):
        parts.append(text(x(mark), top + side + strip + 22, percent(mark), anchor="middle"))
    parts.append(line(x(low), y(low), x(1), y(1), class_="reference"))
    most = max(b.n for b in bins)
    base = top + side + strip + 6
    bar = min((right - left) / (len(bins) * 1.6), 18)
    floor = 0.0 if low == 0 else 0.25
    for b in bins:
        around = wilson(b.freq * b.n, b.n)
        tall = max(strip * 0.8 * b.n / most, 1)
        hint = tag("title", f"predicted {percent(b.p)}, observed {percent(b.freq)} of {b.n}")
        parts.append(tag("rect", hint, x=x(b.p) - bar / 2, y=base - tall, width=bar, height=tall, class_="count"))
        parts.append(line(x(b.p), y(max(around.low, floor)), x(b.p), y(around.high), class_="bar"))
        parts.append(tag("circle", hint, cx=x(b.p), cy=y(max(b.freq, floor)), r=4.6, class_="point"))
    parts.append(line(left, base, right, base, class_="axis"))
    middle = (left + right) / 2
    parts.append(text(middle, height - 6, "probability the reward model gave", class_="axis-label", anchor="middle"))
    parts.append(text(left + 6, top + 12, "observed share", class_="axis-label"))
    parts.append(text(right, base - strip - 4, f"pairs (tallest bar: {most})", class_="axis-label", anchor="end"))
    desc = " ".join(f"Predicted {percent(b.p)}: observed {percent(b.freq)} of {b.n}." for b in bins)
    return drawing([tag("g", *parts, class_="tone-plain")], width=width, height=height, title=title, desc=desc)
