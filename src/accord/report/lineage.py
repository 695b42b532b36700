"""The pipeline as a drawing: stages in columns by depth, a line for every artifact that went into another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from accord.report.svg import drawing, fitted, tag, text

_BOX_W, _BOX_H, _GUTTER, _ROW_GAP = 112.0, 74.0, 46.0, 20.0
_ROOM = _BOX_W - 18
"""For a line of text in a box."""
_LANE = 11.0
_BUNDLE = 4
"""So many stages made from the same and used by the same are drawn as one box."""

Spot = tuple[float, float]


@dataclass(frozen=True)
class Node:
    """A stage, or data from outside the run."""

    key: str
    label: str
    lines: tuple[str, ...] = ()
    """Three short lines under the name at most."""
    slot: int = 0
    """Colour slot."""
    outside: bool = False
    """Whether it was made elsewhere."""
    members: tuple[str, ...] = ()
    """Names of the stages that the box stands for, when it is more than one."""


def bundled(nodes: Sequence[Node], edges: Sequence[tuple[str, str]]) -> tuple[list[Node], list[tuple[str, str]]]:
    """Put stages that are made from the same and used by the same into one box, so that many algorithms stay readable.

    What comes from elsewhere keeps its box, since no table names it.

    Args:
        nodes: in an order in which sources come before what is made from them.
        edges: (source key, target key).

    Returns:
        The nodes, a bundle in the place of its first member, and the edges without repetitions.
    """
    groups: dict[tuple[frozenset[str], frozenset[str], str], list[Node]] = {}
    for node in nodes:
        sources = frozenset(a for a, b in edges if b == node.key)
        targets = frozenset(b for a, b in edges if a == node.key)
        groups.setdefault((sources, targets, node.key if node.outside else ""), []).append(node)
    into: dict[str, str] = {}
    kept: dict[str, Node] = {}
    for group in groups.values():
        if len(group) < _BUNDLE:
            kept.update({node.key: node for node in group})
            continue
        names = tuple(node.label for node in group)
        lines = (fitted(", ".join(names), _ROOM, 11), "see the table")
        first = group[0]
        kept[first.key] = Node(first.key, f"{len(group)} stages", lines, first.slot, members=names)
        into.update({node.key: first.key for node in group})
    joined = dict.fromkeys((into.get(a, a), into.get(b, b)) for a, b in edges)
    return [kept[node.key] for node in nodes if node.key in kept], list(joined)


def lineage(nodes: Sequence[Node], edges: Sequence[tuple[str, str]], *, title: str) -> Markup:
    """Draw the graph; a line that skips columns runs in a lane below the boxes, one lane a source.

    Args:
        nodes: in an order in which sources come before what is made from them.
        edges: (source key, target key), both among the nodes.
        title: whose pipeline it is.
    """
    depth: dict[str, int] = {}
    for node in nodes:
        depth[node.key] = 1 + max((depth[a] for a, b in edges if b == node.key and a in depth), default=-1)
    edges = [(a, b) for a, b in edges if depth[a] < depth[b]]
    for node in nodes:  # a root is drawn just before its first use
        uses = [depth[b] for a, b in edges if a == node.key]
        if uses and not any(b == node.key for _, b in edges):
            depth[node.key] = min(uses) - 1
    place = _places(nodes, depth, edges)
    num_rows = 1 + max((row for _, row in place.values()), default=0)
    boxes_end = 8 + num_rows * _BOX_H + (num_rows - 1) * _ROW_GAP
    long = [a.key for a in nodes if any(s == a.key and depth[t] - depth[s] > 1 for s, t in edges)]
    lanes = {key: boxes_end + 14 + _LANE * (len(long) - 1 - i) for i, key in enumerate(long)}
    parts: list[Markup] = []
    slots = {node.key: node.slot for node in nodes}
    for node in nodes:
        incoming = sorted((a for a, b in edges if b == node.key), key=lambda a: (a in lanes, lanes.get(a, 0)))
        incoming.sort(key=lambda a: depth[node.key] - depth[a] > 1)
        for port, source in enumerate(incoming):
            points = _route(
                place[source],
                place[node.key],
                port,
                len(incoming),
                long.index(source) if depth[node.key] - depth[source] > 1 else None,
                lanes.get(source, 0.0),
            )
            parts.append(_edge(points, slots[source]))
    for node in nodes:
        parts.append(_box(node, place[node.key], slots[node.key]))
    columns = 1 + max((column for column, _ in place.values()), default=0)
    height = (max(lanes.values()) if lanes else boxes_end) + 12
    said = (
        f"{n.label}{f' ({names})' if (names := ', '.join(n.members)) else ''} from "
        f"{', '.join(m.label for m in nodes if (m.key, n.key) in edges) or 'nothing'}."
        for n in nodes
    )
    return drawing(
        parts,
        width=columns * _BOX_W + (columns - 1) * _GUTTER + 4,
        height=height,
        title=title,
        desc=" ".join(said),
        least=0.85,
    )


def _places(
    nodes: Sequence[Node], depth: dict[str, int], edges: Sequence[tuple[str, str]]
) -> dict[str, tuple[int, int]]:
    """Return (column, row) of every node; in a column, the one with more made from it comes first."""
    columns: dict[int, list[Node]] = {}
    for node in nodes:
        columns.setdefault(depth[node.key], []).append(node)
    place: dict[str, tuple[int, int]] = {}
    for column, members in columns.items():
        members.sort(key=lambda n: -sum(a == n.key for a, _ in edges))
        place.update({node.key: (column, row) for row, node in enumerate(members)})
    return place


def _corner(place: tuple[int, int]) -> Spot:
    column, row = place
    return (2 + column * (_BOX_W + _GUTTER), 4 + row * (_BOX_H + _ROW_GAP))


def _route(
    source: tuple[int, int], target: tuple[int, int], port: int, ports: int, lane: int | None, lane_y: float
) -> list[Spot]:
    (ax, ay), (bx, by) = _corner(source), _corner(target)
    out, into = ay + _BOX_H / 2, by + _BOX_H / 2 + (port - (ports - 1) / 2) * 10
    if lane is None:
        turn = bx - _GUTTER / 2
        return [(ax + _BOX_W, out), (turn, out), (turn, into), (bx - 5, into)]
    leave, enter = ax + _BOX_W + 9 + 4 * lane, bx - 13 - 5 * port
    return [(ax + _BOX_W, out), (leave, out), (leave, lane_y), (enter, lane_y), (enter, into), (bx - 5, into)]


def _edge(points: list[Spot], slot: int) -> Markup:
    points = [p for i, p in enumerate(points) if i == 0 or p != points[i - 1]]
    (x, y) = points[-1]
    head = tag("polygon", points=f"{x + 4},{y} {x - 3},{y - 3.6} {x - 3},{y + 3.6}", class_="mk")
    return tag("g", tag("path", d=_rounded(points, 7), class_="flow"), head, class_=f"s{slot}")


def _rounded(points: Sequence[Spot], radius: float) -> str:
    """Return path data of an angular line with round corners."""
    d = f"M{points[0][0]:.1f} {points[0][1]:.1f}"
    for before, at, after in zip(points, points[1:], points[2:], strict=False):
        r = min(radius, _length(before, at) / 2, _length(at, after) / 2)
        a, b = _toward(at, before, r), _toward(at, after, r)
        d += f"L{a[0]:.1f} {a[1]:.1f}Q{at[0]:.1f} {at[1]:.1f} {b[0]:.1f} {b[1]:.1f}"
    return d + f"L{points[-1][0]:.1f} {points[-1][1]:.1f}"


def _length(a: Spot, b: Spot) -> float:
    return abs(a[0] - b[0]) + abs(a[1] - b[1])


def _toward(a: Spot, b: Spot, distance: float) -> Spot:
    whole = _length(a, b)
    return a if whole == 0 else (a[0] + (b[0] - a[0]) * distance / whole, a[1] + (b[1] - a[1]) * distance / whole)


def _box(node: Node, place: tuple[int, int], slot: int) -> Markup:
    x, y = _corner(place)
    parts = [
        tag(
            "rect",
            x=x,
            y=y,
            width=_BOX_W,
            height=_BOX_H,
            rx=7,
            class_="box outside" if node.outside else "box",
        )
    ]
    if not node.outside:
        parts.append(tag("rect", x=x, y=y + 8, width=3.5, height=_BOX_H - 16, rx=1.75, class_="mk"))
    parts.append(text(x + 13, y + 21, fitted(node.label, _ROOM, 12), class_="key strong"))
    lines = (fitted(words, _ROOM, 11) for words in node.lines[:3])
    parts += [text(x + 13, y + 37 + 14 * i, words, class_="small") for i, words in enumerate(lines)]
    if node.members:
        parts.insert(0, tag("rect", x=x + 4, y=y - 4, width=_BOX_W, height=_BOX_H, rx=7, class_="box"))
    return tag("g", tag("title", ", ".join(node.members) or node.label), *parts, class_=f"s{slot}")
