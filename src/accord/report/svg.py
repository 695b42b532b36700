"""Small SVG building blocks. Colours are CSS classes (`s0`..`s7`), so that dark mode recolours them."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence

from markupsafe import Markup, escape

from accord.report.formats import visible

NUM_SLOTS = 8
_SIZES = {"wide": 1086.0, "mid": 620.0, "narrow": 340.0}


def tag(name: str, *children: str, **attributes: str | float | None) -> Markup:
    """Return one element; text is escaped, `class_` and `text_anchor` become `class` and `text-anchor`."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_value(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    inner = Markup("").join(c if isinstance(c, Markup) else escape(visible(c)) for c in children)
    return Markup(f"<{name}{written}>{inner}</{name}>")


def text(x: float, y: float, content: str, *, class_: str = "tick", anchor: str | None = None) -> Markup:
    """Return a line of text with its baseline at (x, y)."""
    return tag("text", content, x=x, y=y, class_=class_, text_anchor=anchor)


def line(x1: float, y1: float, x2: float, y2: float, *, class_: str) -> Markup:
    """Return a straight line."""
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def polyline(points: Sequence[tuple[float, float]], *, class_: str) -> Markup:
    """Return an open line through the points; one point becomes a dot."""
    if len(points) == 1:
        return tag("circle", cx=points[0][0], cy=points[0][1], r=2.2, class_=f"{class_} dot")
    return tag("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points), class_=class_)


def marker(slot: int, x: float, y: float, *, r: float = 4.5, hint: str = "", class_: str = "mk") -> Markup:
    """Return a mark whose shape, like its colour, tells the slot."""
    inner = (tag("title", hint),) if hint else ()
    class_ = f"{class_} s{slot % NUM_SLOTS}"
    shape = slot % 4
    if shape == 1:
        return tag("circle", *inner, cx=x, cy=y, r=r, class_=class_)
    if shape == 2:
        corners = [(x, y - 1.3 * r), (x + 1.3 * r, y), (x, y + 1.3 * r), (x - 1.3 * r, y)]
    elif shape == 3:
        corners = [(x, y - 1.2 * r), (x + 1.15 * r, y + 0.85 * r), (x - 1.15 * r, y + 0.85 * r)]
    else:
        corners = [(x - 0.88 * r, y - 0.88 * r), (x + 0.88 * r, y - 0.88 * r)]
        corners += [(x + 0.88 * r, y + 0.88 * r), (x - 0.88 * r, y + 0.88 * r)]
    return tag("polygon", *inner, points=" ".join(f"{a:.1f},{b:.1f}" for a, b in corners), class_=class_)


def drawing(
    parts: Iterable[Markup], *, width: float, height: float, title: str, desc: str, least: float = 0.0
) -> Markup:
    """Return a whole figure that scales with its column and that a screen reader can tell.

    Args:
        parts: elements, drawn in order.
        width: natural width in CSS pixels; the figure grows to a quarter more at most.
        height: natural height in CSS pixels.
        title: what the figure shows.
        desc: what can be read off it.
        least: the figure does not shrink below this part of its width; its column scrolls then.
    """
    body = Markup("").join(parts)
    key = f"f{zlib.crc32((title + desc + body).encode('utf-8', 'replace')):08x}{int(width)}"
    return tag(
        "svg",
        tag("title", title, id=f"{key}t"),
        tag("desc", desc, id=f"{key}d"),
        body,
        viewBox=f"0 0 {width:g} {height:g}",
        width="100%",
        role="img",
        aria_labelledby=f"{key}t {key}d",
        style=f"max-width:{width * 1.25:.0f}px" + (f";min-width:{width * least:.0f}px" if least else ""),
    )


def responsive(build: Callable[[float, bool], Markup], sizes: Mapping[str, float] = _SIZES) -> Markup:
    """Return a figure drawn for several column widths; the style sheet shows the one that fits.

    Args:
        build: draws the figure, given its width and whether there is room for columns beside the marks.
        sizes: classes of the columns (`wide`, `mid`, `narrow`, or several) and the width drawn for them.
    """
    drawn = (
        Markup('<div class="{}">{}</div>').format(column, build(width, column != "narrow"))
        for column, width in sizes.items()
    )
    return Markup('<div class="fit">{}</div>').format(Markup("").join(drawn))


def text_width(content: str, size: float = 12) -> float:
    """Estimate the width of a text in CSS pixels (system fonts differ by some percent)."""
    return 0.6 * size * len(content)


def fitted(content: str, room: float, size: float = 13) -> str:
    """Return the text, cut with an ellipsis when it is wider than the room for it."""
    content = visible(content)
    if text_width(content, size) <= room:
        return content
    return content[: max(int(room / text_width("x", size)) - 1, 1)] + "\u2026"


def legend(keys: Sequence[tuple[str, int]], width: float, left: float = 0.0) -> list[list[Markup]]:
    """Return the keys of a figure in rows of 18 pixels that fit the width.

    Args:
        keys: (name, colour slot).
        width: of the figure.
        left: where a row begins.
    """
    rows: list[list[Markup]] = [[]]
    at = left
    for name, slot in keys:
        label = fitted(name, width - left - 30, 12)
        if rows[-1] and at + 16 + text_width(label) > width:
            rows.append([])
            at = left
        y = 9 + 18 * (len(rows) - 1)
        rows[-1] += [marker(slot, at + 6, y, r=4.4), text(at + 15, y + 4.3, label, class_="key")]
        at += 32 + text_width(label)
    return rows


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move label positions at least `gap` apart, near where they were wanted and inside [low, high]."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    placed = list(wanted)
    floor = low
    for i in order:
        placed[i] = max(wanted[i], floor)
        floor = placed[i] + gap
    ceiling = high
    for i in reversed(order):
        placed[i] = min(placed[i], ceiling)
        ceiling = placed[i] - gap
    return placed


def _value(value: str | float) -> str:
    if isinstance(value, str):
        return visible(value)
    return f"{value:.2f}".rstrip("0").rstrip(".")
