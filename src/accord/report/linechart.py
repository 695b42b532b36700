"""Line charts: training curves over steps, and paths such as reward against KL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from accord.report.formats import number, tick_labels, ticks
from accord.report.svg import drawing, fitted, legend, line, marker, polyline, responsive, spread, tag, text, text_width

_WIDTH, _HEIGHT = 340.0, 210.0
_TOP, _BOTTOM, _LEFT = 14.0, 40.0, 46.0
_MANY = 60
"""From this many points on, the line is a running mean and the raw values are pale."""
KEPT = 240
"""At most this many raw points are drawn a line; extremes are kept."""

Point = tuple[float, float | None]


@dataclass(frozen=True)
class Figure:
    """A chart with its heading and one line on how to read it."""

    title: str
    note: str
    svg: Markup


@dataclass(frozen=True)
class Series:
    """One line of a chart."""

    label: str
    points: Sequence[Point]
    """(x, y); y is None where the value was not finite."""
    slot: int = 1
    """Colour slot."""
    note: str = ""
    """For paths: what to write at the highest point, unless it is the last."""
    bars: Sequence[tuple[float, float, float]] = ()
    """For paths: (x, low, high) of 95 % intervals."""
    hints: Sequence[str] = ()
    """For paths: what each point is, beside its values."""


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    x_label: str = "step",
    level: float | None = None,
    path: bool = False,
    kept: int = KEPT,
) -> Markup | None:
    """Draw values over x; returns None when no series has a finite value.

    Args:
        series: lines, drawn in order; several are labelled at their right ends (paths: in a legend).
        title: what the chart shows, for screen readers.
        x_label: what x is.
        level: a value to mark by a dashed line, such as a target.
        path: join points in the order given and mark each one, instead of smoothing a curve over steps.
        kept: at most this many raw points are drawn a line; extremes are kept.
    """
    shown = [s for s in series if any(y is not None for _, y in s.points)]
    if not shown:
        return None

    def build(width: float, roomy: bool) -> Markup:
        height = 270.0 if path and roomy else _HEIGHT
        return _draw(shown, (width, height), title, x_label, level, path, kept)

    return responsive(build, {"mid wide": 500.0, "narrow": 340.0}) if path else build(_WIDTH, False)


def small_chart(s: Series, over: tuple[float, float], title: str, level: float | None = None) -> Markup:
    """Draw one of many small charts that share a scale: a name, a line and the last value.

    Args:
        s: the line.
        over: lowest and highest value of all charts.
        title: what it shows, for screen readers.
        level: a value to mark by a dashed line.
    """
    width, height = 168.0, 78.0
    points = [(a, b) for a, b in s.points if b is not None]
    parts = [text(0, 12, fitted(s.label, width - 44, 12), class_="key")]
    if points:
        parts.append(text(width, 12, number(points[-1][1]), class_="key strong", anchor="end"))
        x = Axis(*span(points[0][0], points[-1][0], pad=0.0), 1, width - 3)
        y = Axis(*span(*over, pad=0.04), height - 4, 20)
        parts.append(line(0, height - 2, width, height - 2, class_="axis"))
        if level is not None:
            parts.append(line(0, y(level), width, y(level), class_="level"))
        for segment in _segments(s.points):
            parts.append(polyline([(x(a), y(b)) for a, b in _thin(segment, KEPT // 4)], class_="ln"))
        parts.append(tag("circle", cx=x(points[-1][0]), cy=y(points[-1][1]), r=2.6, class_="mk dot"))
    body = tag("g", *parts, class_=f"s{s.slot}")
    return drawing([body], width=width, height=height, title=title, desc=_told([s], "step") if points else "No value.")


def _draw(
    shown: Sequence[Series],
    size: tuple[float, float],
    title: str,
    x_label: str,
    level: float | None,
    path: bool,
    kept: int,
) -> Markup:
    width, height = size
    named = len(shown) > 1
    top, right = _TOP, 16.0
    keys: list[list[Markup]] = []
    if path:
        keys = legend([(s.label, s.slot) for s in shown], width, _LEFT) if named else []
        top += 18 * len(keys)
        height += 18 * max(len(keys) - 1, 0)
    else:
        right = 12 + min(max(text_width(_end_text(s, named), 11.5) for s in shown), 120)
    xs = [x for s in shown for x, _ in s.points]
    ys = [y for s in shown for _, y in s.points if y is not None] + ([] if level is None else [level])
    ys += [end for s in shown for _, *ends in s.bars for end in ends]
    x_axis = Axis(*span(min(xs), max(xs), pad=0.03 if path else 0.0), _LEFT, width - right)
    y_axis = Axis(*span(min(ys), max(ys), pad=0.06), height - _BOTTOM, top)
    parts = frame(x_axis, y_axis, x_label, whole=all(value.is_integer() for value in map(float, xs)))
    if level is not None:
        parts.append(line(_LEFT, y_axis(level), width - right, y_axis(level), class_="level"))
    for s in shown:
        parts += _path(s, x_axis, y_axis) if path else _curve(s, x_axis, y_axis, kept)
    parts += [mark for row in keys for mark in row]
    if not path:
        parts += _end_labels(shown, x_axis, y_axis, named)
    return drawing(parts, width=width, height=height, title=title, desc=_told(shown, x_label))


@dataclass(frozen=True)
class Axis:
    """A scale: values from low to high lie between two places of the drawing."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def span(low: float, high: float, *, pad: float) -> tuple[float, float]:
    """Widen a range; a constant gets a range around it."""
    if high - low <= 1e-9 * max(abs(low), abs(high)) or high == low:
        half = abs(low) * 0.1 or 0.5
        return (low - half, high + half)
    return (low - pad * (high - low), high + pad * (high - low))


def frame(x: Axis, y: Axis, x_label: str, *, whole: bool = False) -> list[Markup]:
    """Return grid lines, ticks and the line at the bottom; `whole`: x counts something."""
    parts: list[Markup] = []
    y_ticks = ticks(y.low, y.high, 4)
    for value, label in zip(y_ticks, tick_labels(y_ticks), strict=True):
        parts.append(line(x.start, y(value), x.end, y(value), class_="grid"))
        parts.append(text(x.start - 7, y(value) + 4, label, anchor="end"))
    x_ticks = ticks(x.low, x.high, 4)
    if whole:
        x_ticks = sorted({float(round(value)) for value in x_ticks if x.low <= round(value) <= x.high})
    for value, label in zip(x_ticks, tick_labels(x_ticks), strict=True):
        parts.append(line(x(value), y.start, x(value), y.start + 4, class_="axis"))
        parts.append(text(x(value), y.start + 17, label, anchor="middle"))
    parts.append(line(x.start, y.start, x.end, y.start, class_="axis"))
    parts.append(text((x.start + x.end) / 2, y.start + 34, x_label, class_="axis-label", anchor="middle"))
    return parts


def _curve(s: Series, x: Axis, y: Axis, most: int) -> list[Markup]:
    raw = _segments(s.points)
    parts: list[Markup] = []
    smooth = sum(len(segment) for segment in raw) >= _MANY
    for segment in raw:
        drawn = [(x(a), y(b)) for a, b in _thin(segment, most)]
        parts.append(polyline(drawn, class_="raw" if smooth else "ln"))
        if smooth:
            mean = running_mean(segment)
            stride = max(len(mean) // most, 1)
            kept = mean[::stride] + ([mean[-1]] if (len(mean) - 1) % stride else [])
            parts.append(polyline([(x(a), y(b)) for a, b in kept], class_="ln"))
        elif len(segment) <= 24 and len(segment) > 1:
            parts += [
                tag(
                    "circle",
                    tag("title", f"{s.label} {number(b)} at {number(a)}"),
                    cx=x(a),
                    cy=y(b),
                    r=2.2,
                    class_="mk dot",
                )
                for a, b in segment
            ]
    for a, b in s.points:
        if b is None:
            parts.append(text(x(a), y.start - 3, "\u00d7", class_="broken", anchor="middle"))
    return [tag("g", *parts, class_=f"s{s.slot}")]


def _path(s: Series, x: Axis, y: Axis) -> list[Markup]:
    points = [(a, b) for a, b in s.points if b is not None]
    whiskers = [line(x(a), y(low), x(a), y(high), class_="ln whisker") for a, low, high in s.bars]
    thread = polyline([(x(a), y(b)) for a, b in points], class_="ln thin")
    parts = [tag("g", *whiskers, thread, class_=f"s{s.slot}")]
    for i, (a, b) in enumerate(points):
        last = i == len(points) - 1
        what = f", {s.hints[i]}" if i < len(s.hints) else ""
        hint = f"{s.label}{what}: {number(b)} at {number(a)}"
        parts.append(marker(s.slot, x(a), y(b), r=5.4 if last else 3.0, hint=hint))
    a, b = max(points, key=lambda p: p[1])
    if s.note and (a, b) != points[-1]:
        inside = min(max(x(a), x.start + 24), x.end - 24)
        parts.append(text(inside, max(y(b) - 10, 11), s.note, class_=f"lb s{s.slot}", anchor="middle"))
    return parts


def _end_labels(shown: Sequence[Series], x: Axis, y: Axis, named: bool) -> list[Markup]:
    places = spread([y(_end(s)) for s in shown], 13.5, y.end, y.start - 2)
    return [
        text(x.end + 6, place + 4, _end_text(s, named), class_=f"lb s{s.slot}")
        for s, place in zip(shown, places, strict=True)
    ]


def _end(s: Series) -> float:
    """Return where the line ends."""
    segment = _segments(s.points)[-1]
    return (running_mean(segment) if len(segment) >= _MANY else segment)[-1][1]


def _end_text(s: Series, named: bool) -> str:
    return fitted(s.label, 120, 11.5) if named else number(_end(s))


def _segments(points: Sequence[Point]) -> list[list[tuple[float, float]]]:
    """Cut a line where a value is missing."""
    segments: list[list[tuple[float, float]]] = [[]]
    for a, b in points:
        if b is None:
            segments.append([])
        else:
            segments[-1].append((a, b))
    return [segment for segment in segments if segment]


def _thin(points: list[tuple[float, float]], most: int) -> list[tuple[float, float]]:
    """Keep the lowest and the highest point of each bucket, in order of x."""
    if len(points) <= most:
        return points
    size = -(-len(points) * 2 // most)
    kept: list[tuple[float, float]] = []
    for i in range(0, len(points), size):
        bucket = points[i : i + size]
        pair = {min(bucket, key=lambda p: p[1]), max(bucket, key=lambda p: p[1])}
        kept += sorted(pair)
    return kept


def running_mean(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return centred means over a sixteenth of the points (at least seven), cut off at both ends."""
    half = max(len(points) // 16, 7) // 2
    sums = [0.0]
    for _, b in points:
        sums.append(sums[-1] + b)
    result: list[tuple[float, float]] = []
    for i, (a, _) in enumerate(points):
        low, high = max(i - half, 0), min(i + half + 1, len(points))
        result.append((a, (sums[high] - sums[low]) / (high - low)))
    return result


def _told(shown: Sequence[Series], x_label: str) -> str:
    said: list[str] = []
    for s in shown:
        values = [(a, b) for a, b in s.points if b is not None]
        low, high = min(b for _, b in values), max(b for _, b in values)
        said.append(
            f"{s.label}: {number(values[0][1])} at {x_label} {number(values[0][0])}, "
            f"{number(values[-1][1])} at {number(values[-1][0])}; lowest {number(low)}, highest {number(high)}."
        )
    return " ".join(said)
