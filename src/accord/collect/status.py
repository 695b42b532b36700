"""How far a project is, as `accord collect status` prints it."""

from __future__ import annotations

from collections.abc import Iterable

from accord.collect.reading import ProjectProgress


def as_text(found: ProjectProgress) -> str:
    """Return a table of a project's progress, without colours or a final newline."""
    tasks = found.tasks
    rows: list[tuple[str, object, str]] = [
        (
            "tasks",
            tasks.total,
            f"{tasks.done} done, {tasks.open} open, {tasks.adjudicate} to decide, {tasks.closed} closed",
        ),
        *((f"  {kind.kind}", kind.total, f"{kind.done} done") for kind in found.by_kind),
        ("labels", found.annotations.total, f"{found.annotations.today} today"),
        ("labels still wanted", found.remaining, _left(found.eta_seconds)),
        ("skips", sum(found.skips.values()), ", ".join(f"{n} {why}" for why, n in sorted(found.skips.items()))),
        ("tasks held now", found.open_leases, ""),
        ("people active", found.active_annotators, "within the last hour"),
    ]
    return "\n".join([f"project {found.project}", "", *_aligned(rows)])


def _aligned(rows: Iterable[tuple[str, object, str]]) -> list[str]:
    cells = [(name, f"{count:,}", said) for name, count, said in rows]
    name, count = (max(len(row[i]) for row in cells) for i in range(2))
    return [f"{a:<{name}}  {b:>{count}}  {c}".rstrip() for a, b, c in cells]


def _left(seconds: float | None) -> str:
    if seconds is None:
        return ""
    minutes = round(seconds / 60)
    words = f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{max(minutes, 1)} min"
    return f"about {words} at the pace of the last hour"
