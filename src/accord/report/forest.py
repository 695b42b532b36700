"""Forest plots: shares with their intervals against one half, a line each, with values and notes beside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from accord.report.formats import Estimate, percent, ticks
from accord.report.svg import drawing, fitted, line, responsive, tag, text, text_width

_EVEN = 0.5
_LONG = 12
"""From this many rows on, they stand closer."""


@dataclass(frozen=True)
class Row:
    """One estimate of a forest plot."""

    label: str
    value: Estimate
    shown: str
    """The value in words and digits, at the right."""
    tone: str = "plain"
    """`good`, `bad`, `caution` or `plain`."""
    note: str = ""
    """A second column, such as lengths or counts."""


@dataclass(frozen=True)
class _Layout:
    """Where things are, for one width."""

    roomy: bool
    """Label, marks, value and note in one line; else label and value above the marks, and the note below."""
    width: float
    left: float
    right: float
    row_height: float
    low: float
    high: float
    top: float = 26.0

    def x(self, share: float) -> float:
        part = (min(max(share, self.low), self.high) - self.low) / (self.high - self.low)
        return self.left + part * (self.right - self.left)

    def y(self, index: int) -> float:
        """The height of the marks of one row."""
        return self.top + self.row_height * index + (self.row_height / 2 if self.roomy else 30)


def forest(
    rows: Sequence[Row],
    *,
    title: str,
    low: float,
    high: float = 1.0,
    ends: tuple[str, str] = ("", "better than a coin"),
    note_title: str = "",
    reference: float = _EVEN,
) -> Markup:
    """Draw shares with their intervals, one a line, against a dashed line.

    Args:
        rows: estimates from top to bottom.
        title: what is compared.
        low: left end of the scale, a share below the dashed line.
        high: right end of the scale, a share above it.
        ends: what lies left and right of the dashed line.
        note_title: head of the column of notes.
        reference: where the dashed line is.
    """
    desc = " ".join(f"{r.label}: {r.shown}{', ' + r.note if r.note else ''}." for r in rows)

    def build(width: float, roomy: bool) -> Markup:
        layout = _layout(rows, width, roomy, (low, high))
        parts = _scale(layout, len(rows), ends, reference)
        if roomy and note_title:
            parts.append(text(width, 14, note_title, class_="axis-label", anchor="end"))
        for i, row in enumerate(rows):
            parts += _marks(row, layout.x, layout.y(i)) + _words(row, layout, layout.y(i))
        height = layout.top + layout.row_height * len(rows) + 24
        return drawing(parts, width=width, height=height, title=title, desc=desc)

    return responsive(build)


def _layout(rows: Sequence[Row], width: float, roomy: bool, span: tuple[float, float]) -> _Layout:
    noted = any(r.note for r in rows)
    if not roomy:
        return _Layout(roomy, width, 16.0, width - 20, 68.0 if noted else 48.0, *span)  # three lines of words, or two
    labels = min(max(text_width(r.label, 13) for r in rows) + 22, width * 0.38)
    values = max(text_width(r.shown, 13) for r in rows) + 24
    notes = max(text_width(r.note, 11.5) for r in rows) + 16 if noted else 0.0
    return _Layout(roomy, width, labels, width - values - notes, 34.0 if len(rows) < _LONG else 25.0, *span)


def _scale(layout: _Layout, count: int, ends: tuple[str, str], reference: float) -> list[Markup]:
    top, bottom = layout.top, layout.top + layout.row_height * count
    room = (layout.right - layout.left) / (layout.high - layout.low) * 0.1
    step = 0.1 if room > 44 else 0.25
    marks = ticks(layout.low, layout.high, round((layout.high - layout.low) / step))
    if reference == _EVEN and not any(abs(mark - _EVEN) < 1e-9 for mark in marks):
        marks = [i * 0.25 for i in range(5) if layout.low <= i * 0.25 <= layout.high]
    strips = [(top, bottom)]
    if not layout.roomy:  # words lie between the rows: keep the lines out of them
        strips = [(layout.y(i) - 9, layout.y(i) + 9) for i in range(count)]
    parts: list[Markup] = []
    for mark in marks:
        parts += [line(layout.x(mark), a, layout.x(mark), b, class_="grid") for a, b in strips]
        parts.append(text(layout.x(mark), bottom + 16, percent(mark), anchor="middle"))
    middle = layout.x(reference)
    parts += [line(middle, a, middle, b, class_="reference") for a, b in strips]
    if ends[0]:
        parts.append(text(middle - 8, 14, f"\u2190 {ends[0]}", class_="axis-label", anchor="end"))
    parts.append(text(middle + (8 if ends[0] else 0), 14, f"{ends[1]} \u2192", class_="axis-label"))
    return parts


def _marks(row: Row, x: Callable[[float], float], y: float) -> list[Markup]:
    parts: list[Markup] = []
    if row.value.interval is not None:
        a, b = (x(end) for end in row.value.interval)
        parts = [line(a, y, b, y, class_="bar"), line(a, y - 4, a, y + 4, class_="cap")]
        parts.append(line(b, y - 4, b, y + 4, class_="cap"))
    hint = f"{row.label}: {row.shown}" + (f" (n = {row.value.n})" if row.value.n is not None else "")
    parts.append(tag("circle", tag("title", hint), cx=x(row.value.value), cy=y, r=5, class_="point"))
    return [tag("g", *parts, class_=f"tone-{row.tone}")]


def _words(row: Row, layout: _Layout, y: float) -> list[Markup]:
    if layout.roomy:
        return [
            text(0, y + 4.5, fitted(row.label, layout.left - 14), class_="row"),
            text(layout.right + 18, y + 4.5, row.shown, class_="row strong"),
            text(layout.width, y + 4.5, row.note, class_="tick", anchor="end"),
        ]
    room = layout.width - text_width(row.shown, 13) - 12
    return [
        text(0, y - 15, fitted(row.label, room), class_="row"),
        text(layout.width, y - 15, row.shown, class_="row strong", anchor="end"),
        text(0, y + 23, fitted(row.note, layout.width, 11.5), class_="tick"),
    ]
