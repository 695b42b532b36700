"""Scatter plots: one dot a policy, some of them named beside their dots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from accord.report.formats import number
from accord.report.linechart import Axis, frame, span
from accord.report.svg import drawing, fitted, line, responsive, spread, tag, text, text_width

_LEFT, _BOTTOM, _TOP = 46.0, 40.0, 14.0


@dataclass(frozen=True)
class Dot:
    """One point of the plot."""

    label: str
    x: float
    y: float
    named: bool = False
    """Whether the label is written; otherwise it is a tooltip."""


def scatter(dots: Sequence[Dot], *, title: str, x_label: str, alone: bool = False) -> Markup | None:
    """Draw dots; returns None when there are none.

    Args:
        dots: points in any order.
        title: what the plot shows, for screen readers.
        x_label: what x is.
        alone: whether it has the column for itself, not half of it.
    """
    if not dots:
        return None
    desc = " ".join(f"{d.label}: {number(d.y)} at {number(d.x)}." for d in dots)

    def build(width: float, roomy: bool) -> Markup:
        height = 300.0 if roomy else 250.0
        named = [d for d in dots if d.named]
        margin = 14 + min(max((text_width(d.label, 11.5) for d in named), default=0.0), width * 0.36)
        x = Axis(*span(min(d.x for d in dots), max(d.x for d in dots), pad=0.04), _LEFT, width - margin)
        y = Axis(*span(min(d.y for d in dots), max(d.y for d in dots), pad=0.06), height - _BOTTOM, _TOP)
        parts = frame(x, y, x_label)
        places = spread([y(d.y) for d in named], 13.5, _TOP, height - _BOTTOM)
        for d, place in zip(named, places, strict=True):
            # Labels stand in a column at the right, so that none lies on a dot.
            parts.append(line(x(d.x) + 5, y(d.y), width - margin + 4, place, class_="leader"))
            parts.append(text(width - margin + 8, place + 4, fitted(d.label, margin - 8, 11.5), class_="small strong"))
        for d in dots:
            hint = f"{d.label}: {number(d.y)} at {number(d.x)}"
            parts.append(
                tag("circle", tag("title", hint), cx=x(d.x), cy=y(d.y), r=4.4 if d.named else 3.4, class_="point")
            )
        return drawing([tag("g", *parts, class_="tone-plain")], width=width, height=height, title=title, desc=desc)

    return responsive(build) if alone else responsive(build, {"mid wide": 500.0, "narrow": 340.0})
