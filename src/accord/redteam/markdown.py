"""The summary of a red-team run as Markdown: what got through, what did not, and what it rests on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from accord.evals.measured import Measured
from accord.redteam.campaign import Summary
from accord.redteam.compare import Change
from accord.redteam.findings import Finding
from accord.redteam.judging import TRUTH
from accord.redteam.measure import Row
from accord.redteam.taxonomy import title_of


def summary_markdown(summary: Summary) -> str:
    """Return the whole page; it holds no text of the target or of an attack."""
    whole = summary.all
    asked = whole.asr1
    lines = [
        f"# Red team: {_plain(summary.target)}",
        "",
        _plain(headline(summary)),
        "",
        f"Judge: {_plain(summary.judge)}{f' `{asked.prompt_hash}`' if asked.prompt_hash else ''}; "
        f"{_judge_error(asked, summary.header)}.",
        f"Seeds: {summary.header.get('seeds', '?')} (`{summary.header.get('seeds_hash', '?')}`), "
        f"{summary.header.get('k', 1)} tries each, temperature {summary.header.get('temperature', '?')}.",
        "",
        "| | value | 95 % | n |",
        "|---|---|---|---|",
        *(_line(m) for m in whole.numbers),
        "",
        f"Different attacks that got through: {summary.distinct_successes}; self-BLEU "
        f"{'-' if summary.self_bleu is None else f'{summary.self_bleu:.2f}'} (1 = all alike). Without a verdict: "
        f"{whole.abstained} attempts. Answered in part after an objection: {whole.partial}.",
        "",
        "## Weaknesses",
        "",
        *_findings(summary.findings, float(summary.header.get("margin", 0.05))),
        "",
        *_table("By attack", summary.attacks),
        *_table("By attack family", summary.families),
        *_table("By category of harm", [r for r in summary.categories], titled=True),
    ]
    return "\n".join(lines) + "\n"


def headline(summary: Summary) -> str:
    """One sentence on what was found."""
    found = [f for f in summary.findings if f.weakness]
    if found:
        names = ", ".join(f.attack for f in found)
        return (
            f"{len(found)} of {len(summary.findings)} attack families get through more often than the plain question: "
            f"{names}."
        )
    if summary.findings:
        return (
            f"None of {len(summary.findings)} attack families gets through clearly more often than the plain question."
        )
    return "No attack was compared with the plain question."


def changes_markdown(changes: Sequence[Change], before: str, after: str) -> str:
    """Two checkpoints against each other."""
    lines = [
        f"# Red team: {_plain(before)} against {_plain(after)}",
        "",
        "Differences are after minus before on the same seeds and attacks; p is one-sided for a rise, Holm-adjusted "
        "over the table.",
        "",
        "| what | before | after | difference | 95 % | p (worse) | n |",
        "|---|---|---|---|---|---|---|",
    ]
    for c in changes:
        lines.append(
            f"| {_plain(c.what)} | {c.before:.3f} | {c.after:.3f} | {c.difference:+.3f} | "
            f"{c.low:+.3f} to {c.high:+.3f} | {c.p_worse:.3f} | {c.n} |"
        )
    return "\n".join(lines) + "\n"


def _judge_error(m: Measured, header: dict[str, Any]) -> str:
    known = m.judge_accuracy
    if header.get("judge_prompt_hash") == TRUTH:
        return "the truth, nothing to correct"
    if known is None:
        return "its sensitivity and specificity are not known, so nothing is corrected for them"
    return (
        f"sensitivity {known['sensitivity']:.3f}, specificity {known['specificity']:.3f} "
        f"({_plain(str(known['on']))}, n {known['n']})"
    )


def _findings(found: Sequence[Finding], margin: float) -> list[str]:
    if not found:
        return ["The plain question was not asked, or nothing else was."]
    lines = [
        f"Reported where the success rate is more than {100 * margin:.3g} points above that of the plain question "
        f"(one-sided, Holm over {len(found)} attacks, 5 %).",
        "",
        "| attack | rate | plain | difference | 95 % | p, adjusted | n | weakness |",
        "|---|---|---|---|---|---|---|---|",
    ]
    return lines + [
        f"| {_plain(f.attack)} | {f.rate:.3f} | {f.plain:.3f} | {f.difference:+.3f} | {f.low:+.3f} to {f.high:+.3f} | "
        f"{f.p_adjusted:.4f} | {f.n} | {'**yes**' if f.weakness else 'no'} |"
        for f in found
    ]


def _table(title: str, rows: Sequence[Row], *, titled: bool = False) -> list[str]:
    lines = [
        f"## {title}",
        "",
        "| | ASR@1 | at best of k | corrected | over-refusal | without verdict |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        name = title_of(row.group) if titled else row.group
        cells = (_cell(m) for m in (row.asr1, row.asrk, row.corrected, row.refused_harmless))
        lines.append(f"| {_plain(name)} | {' | '.join(cells)} | {row.abstained} |")
    return [*lines, ""]


def _line(m: Measured) -> str:
    interval = "-" if m.low is None or m.high is None else f"{m.low:.3f} to {m.high:.3f}"
    value = f"- ({m.reason})" if m.value is None else f"{m.value:.3f}"
    return f"| {m.name.removesuffix(', all')} | {value} | {interval} | {m.n} {m.unit} |"


def _cell(m: Measured) -> str:
    if m.value is None or m.low is None or m.high is None:
        return "-"
    return f"{m.value:.3f} ({m.low:.3f} to {m.high:.3f})"


def _plain(text: str) -> str:
    """Names come from outside: nothing in them may become markup."""
    return "".join(f"\\{c}" if c in r"\`*_[]<>|#!" else c for c in " ".join(text.split()))
