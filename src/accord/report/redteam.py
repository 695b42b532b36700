"""The red-team run as one HTML page that needs nothing else; replies to harmful requests are folded away.

Texts of attacks and replies are data from outside: they are escaped, characters that deceive the eye are spelled out,
no script is on the page and its policy allows none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from accord.evals.measured import Measured
from accord.redteam.attempts import REDACTED, Attempt, harmful, harmless
from accord.redteam.campaign import Summary
from accord.redteam.judging import TRUTH
from accord.redteam.markdown import headline
from accord.redteam.taxonomy import title_of
from accord.report.forest import Row, forest
from accord.report.formats import Cell, Estimate, percent
from accord.report.rendering import rendered
from accord.storage import io_errors, write_atomic

_SHOWN = 12
"""Attempts of a kind on the page; all are in redteam.jsonl."""
_CUT = 2000
"""Characters of a text on the page."""


@dataclass(frozen=True)
class Shown:
    """An attempt on the page."""

    id: str
    category: str
    attack: str
    label: str
    turns: list[tuple[str, str]]
    reply: str
    redacted: bool


def write_page(path: Path, summary: Summary, attempts: Sequence[Attempt], *, redact: bool = False) -> Path:
    """Write the page and return its path.

    Args:
        path: the HTML file.
        summary: of the attempts.
        attempts: of one target.
        redact: replies to harmful requests are left out, not only folded.

    Raises:
        ArtifactError: it cannot be written.
    """
    with io_errors("write the page", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, page(summary, attempts, redact=redact).encode("utf-8", "replace"))
    return path


def page(summary: Summary, attempts: Sequence[Attempt], *, redact: bool = False) -> str:
    """Return the page as text; the same attempts give the same text."""
    successes = spread([a for a in harmful(attempts) if a.success])
    refusals = spread([a for a in harmless(attempts) if a.success])
    values: dict[str, Any] = {
        "summary": summary,
        "headline": headline(summary),
        "accuracy": summary.all.asr1.judge_accuracy,
        "exact": summary.header.get("judge_prompt_hash") == TRUTH,
        "tiles": [(_tile_name(m), _cell(m), m) for m in summary.all.numbers],
        "figure": _figure(summary),
        "findings": summary.findings,
        "tables": [
            ("By attack", "", [(r.group, _cells(r)) for r in summary.attacks]),
            ("By category of harm", "", [(title_of(r.group), _cells(r)) for r in summary.categories]),
        ],
        "margin": f"{100 * float(summary.header.get('margin', 0.05)):.3g}",
        "successes": [_shown(a, redact) for a in successes[:_SHOWN]],
        "refusals": [_shown(a, redact) for a in refusals[:_SHOWN]],
        "numbers": (sum(a.success for a in harmful(attempts)), sum(a.success for a in harmless(attempts))),
        "settings": [(k, v) for k, v in summary.header.items() if v is not None],
    }
    return rendered("redteam.html", values)


def spread(attempts: Sequence[Attempt]) -> list[Attempt]:
    """The attempts in an order that shows every attack and every category before it repeats one."""
    seen: dict[tuple[str, str], int] = {}
    ranked: list[tuple[int, int, Attempt]] = []
    for place, attempt in enumerate(attempts):
        key = (attempt.attack, attempt.seed.category)
        by_attack = seen.get((attempt.attack, ""), 0)
        seen[attempt.attack, ""] = by_attack + 1
        rank = max(by_attack, seen.get(key, 0))
        seen[key] = seen.get(key, 0) + 1
        ranked.append((rank, place, attempt))
    return [a for _, _, a in sorted(ranked, key=lambda r: r[:2])]


def _tile_name(m: Measured) -> str:
    return m.name.removesuffix(", all").replace("over-refusal", "Over-refusal")


def _cell(m: Measured) -> Cell:
    if m.value is None:
        return Cell("\u2013", m.reason)
    interval = "" if m.low is None or m.high is None else f"{percent(m.low)} to {percent(m.high)}"
    return Cell(percent(m.value), interval)


def _cells(row: Any) -> list[Cell]:
    cells = [_cell(m) for m in (row.asr1, row.asrk, row.corrected, row.refused_harmless)]
    return [*(Cell(c.shown, c.interval if c.shown != "\u2013" else "") for c in cells), Cell(str(row.abstained))]


def _figure(summary: Summary) -> Markup | None:
    """Success rate of every attack, against that of the plain question."""
    weak = {f.attack for f in summary.findings if f.weakness}
    plain = next((r for r in summary.families if r.group == "none"), None)
    measured = [r for r in summary.families if r.asr1.value is not None]
    if len(measured) < 2:
        return None
    ordered = sorted(measured, key=lambda r: (r.group != "none", -(r.asr1.value or 0.0)))
    rows = [
        Row(
            label="plain question" if r.group == "none" else r.group,
            value=Estimate(r.asr1.value or 0.0, r.asr1.low, r.asr1.high, r.asr1.n),
            shown=percent(r.asr1.value or 0.0),
            tone="bad" if r.group in weak else "plain",
            note="weakness" if r.group in weak else f"{r.asr1.n} {r.asr1.unit}",
        )
        for r in ordered
    ]
    reference = plain.asr1.value if plain and plain.asr1.value is not None else 0.0
    return forest(
        rows,
        title="Attack success rate by family, with 95 % intervals",
        low=-0.001,
        high=1.0,
        ends=("", "more than plainly asked"),
        reference=reference,
    )


def _shown(attempt: Attempt, redact: bool) -> Shown:
    hide = redact and attempt.seed.harmful
    turns = [(m.role, REDACTED if hide and m.role == "assistant" else _cut(m.content)) for m in attempt.turns]
    reply = REDACTED if hide else _cut(attempt.reply)
    return Shown(
        id=attempt.seed.id,
        category=title_of(attempt.seed.category),
        attack=attempt.attack,
        label=attempt.label,
        turns=turns,
        reply=reply,
        redacted=reply == REDACTED,
    )


def _cut(text: str) -> str:
    return text if len(text) <= _CUT else f"{text[:_CUT]} ({len(text) - _CUT} more characters)"
