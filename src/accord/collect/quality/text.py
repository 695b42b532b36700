"""The report as text and as a page."""

from __future__ import annotations

import html
from collections.abc import Sequence

from accord.collect.quality.audit import MATERIAL, RATE, Finding
from accord.collect.quality.report import Person, Report
from accord.stats.intervals import Estimate, Interval

_PEOPLE = 60
"""Annotators in the table; all are in the JSON."""
CONTEXT = (
    "60 to 77 % raw agreement and coefficients of 0.2 to 0.5 are usual for preferences: people want different things. "
    "The rule of thumb that below 0.667 nothing can be concluded is for coding facts."
)


def as_text(report: Report) -> str:
    """Return the report for a terminal or a log."""
    return "\n".join(line for title, lines in _sections(report) for line in (title, "-" * len(title), *lines, ""))


def as_html(report: Report) -> str:
    """Return the report as a page that needs nothing else."""
    body = "".join(
        f"<h2>{html.escape(title)}</h2><pre>{html.escape(chr(10).join(lines))}</pre>"
        for title, lines in _sections(report)
    )
    style = (
        ":root{color-scheme:light dark}body{font-family:system-ui,sans-serif;max-width:75rem;margin:2rem auto;"
        "padding:0 1rem}pre{overflow-x:auto;font-size:.9rem;line-height:1.4}"
    )
    title = html.escape(f"Quality of judgements: {report.name}")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{style}</style></head>'
        f"<body><main><h1>{title}</h1>{body}</main></body></html>\n"
    )


def _sections(report: Report) -> list[tuple[str, list[str]]]:
    parts = [
        ("Judgements", _counts(report)),
        ("Agreement", _agreement(report)),
        ("Groups", _groups(report)),
        ("Alarms", _alarms(report)),
        ("What sways the annotators together", _audit([f for f in report.findings if f.scope == "all"])),
        ("Annotators", _people(report.people)),
        ("Labels from the votes", _resolved(report)),
        ("What these labels can show", _size(report)),
    ]
    return [(title, lines) for title, lines in parts if lines]


def _counts(report: Report) -> list[str]:
    lines = [
        f"{report.name}: {report.judgements:,} judgements on {report.prompts:,} prompts "
        f"by {len(report.people)} annotators",
        f"{report.repeats:,} are repeats by the same person, which measure consistency only",
    ]
    if report.unclear:
        lines.append(f"{report.unclear:,} are probabilities that nobody said; left out")
    return [*lines, report.note] if report.note else lines


def _agreement(report: Report) -> list[str]:
    found = report.agreement
    lines = [
        f"{found.pairable:,} pairs were judged by two or more ({found.lone:,} by one, which say nothing here)",
        "",
        *_table(
            ("", "both orientations", "as the replies are named"),
            [
                ("raw agreement", _estimate(found.raw), ""),
                ("raw, where both had a preference", _estimate(found.decided), ""),
                *((c.name, _estimate(c.symmetric), _estimate(c.given)) for c in found.coefficients),
            ],
        ),
    ]
    for title, values in (("rankings", report.rankings), ("ratings", report.ratings)):
        if values:
            lines += ["", f"{title}:", *_table(("", ""), [(name, _estimate(v)) for name, v in values.items()])]
    return [
        *lines,
        "",
        CONTEXT,
        "Read the first column: the second depends on which reply happens to be called the first.",
    ]


def _groups(report: Report) -> list[str]:
    if not report.groups:
        return []
    rows = [
        (g.group or "(none)", str(g.people), str(g.judgements), _interval(g.within), _interval(g.between))
        for g in report.groups
    ]
    lines = _table(("group", "people", "judgements", "agree within", "agree with others"), rows)
    told = report.contrast
    if told is not None and told.difference is not None:
        lines.append(f"within minus between: {_interval(told.difference)}, p = {told.p_value:.3f}")
    return lines


def _alarms(report: Report) -> list[str]:
    guessing = [p.name for p in report.people if p.conduct.guessing == "fail"]
    lines = [_alarm(f) for f in report.alarms]
    lines += [f"{name}: votes as if guessing, by what others say of the same pairs" for name in guessing]
    rule = f"at most {RATE:.0%} of alarms are false (Benjamini-Hochberg over {_tested(report)} tests); "
    return [*(lines or ["none"]), "", f"{rule}log odds below {MATERIAL:g} are no alarm"]


def _tested(report: Report) -> int:
    return sum(f.p_value is not None for f in report.findings)


def _alarm(f: Finding) -> str:
    who = {"all": "everybody", "annotator": f.who, "group": f"group {f.who}"}[f.scope]
    ends = "" if f.low is None else f" [{f.low:.2f}, {f.high:.2f}]"
    return f"{who}: {f.what} {f.value:+.2f}{ends} {f.unit}, q = {f.q_value:.1g}, {f.n} judgements"


def _audit(findings: Sequence[Finding]) -> list[str]:
    rows = [
        (
            f.what,
            "-" if f.value is None else f"{f.value:+.2f} [{f.low:+.2f}, {f.high:+.2f}]",
            f.unit if f.value is not None else "",
            "" if f.q_value is None else f"{f.q_value:.2g}",
            str(f.n) if f.n else "",
            "ALARM" if f.alarm else f.reason,
        )
        for f in findings
    ]
    lines = _table(("property", "effect", "unit", "q", "n", ""), rows)
    return (
        [
            *lines,
            "position: lean to what is shown first. Others: log odds per unit of difference (length, markdown: logs).",
            "An effect of length is a bias only as far as longer replies are not better ones.",
        ]
        if rows
        else []
    )


def _people(people: Sequence[Person]) -> list[str]:
    rows = [
        (
            p.name,
            p.group,
            str(p.conduct.judgements),
            _percent(p.agreed),
            _percent(p.right),
            "-" if p.skill is None else f"{p.skill.value:+.2f} [{p.skill.low:+.2f}, {p.skill.high:+.2f}]",
            "-" if p.side is None else f"{p.side.value:+.2f} [{p.side.low:+.2f}, {p.side.high:+.2f}]",
            "-" if p.conduct.seconds is None else f"{p.conduct.seconds:.0f} s",
            _percent(p.conduct.hasty),
            str(p.conduct.longest_streak),
            f"{_percent(p.conduct.consistent)}/{p.conduct.repeats}" if p.conduct.repeats else "-",
            {"fail": "GUESSING", "pass": "ok", "continue": "?"}[p.conduct.guessing],
        )
        for p in people[:_PEOPLE]
    ]
    names = (
        "annotator",
        "group",
        "n",
        "agree",
        "right",
        "skill b",
        "side g",
        "time",
        "hasty",
        "streak",
        "repeats",
        "others say",
    )
    more = [f"... and {len(people) - _PEOPLE} more (all are in the JSON)"] if len(people) > _PEOPLE else []
    return [*_table(names, rows), *more] if rows else []


def _resolved(report: Report) -> list[str]:
    found = report.resolved
    if found is None:
        return []
    lines = [
        f"{found.method} on {found.pairs:,} pairs judged twice or more: "
        f"{found.contested:,} contested (no verdict has 80 %), {found.ties:,} ties or both bad"
    ]
    return [*lines, found.note] if found.note else lines


def _size(report: Report) -> list[str]:
    size = report.size
    if size is None:
        return []
    icc = "0.3 assumed" if size.icc is None else f"{size.icc:.2f}"
    told = "nothing" if size.detectable is None else f"a win rate of {size.detectable:.1%} or more"
    return [
        f"{size.labels:,} labels, {size.labels_per_prompt:.2f} a prompt, correlation {icc}: "
        f"design effect {size.effect:.2f}",
        f"a comparison of two models with as many labels finds {told} (8 times of 10, 5 % level)",
    ]


def _estimate(found: Estimate) -> str:
    if found.value is None:
        return f"- ({found.reason})"
    ends = f" [{found.low:.3f}, {found.high:.3f}]" if found.low is not None else f" ({found.reason})"
    return f"{found.value:.3f}{ends}"


def _interval(found: Interval | None) -> str:
    return "-" if found is None else f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[k]) for row in (names, *rows)) for k in range(len(names))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (names, *rows)
    ]
