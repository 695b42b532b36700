"""Do the groups want different things: agreement by group, pairs that split them, what each rule would decide."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from accord.collect.groups import Contrast, contrast, group_agreement, likeness
from accord.collect.meetings import meetings_of
from accord.collect.splits import Split, Splits, splits
from accord.collect.values import RULES, JudgedPair, Rule, decide, judged_pairs
from accord.report.formats import (
    MISSING,
    finite,
    from_interval,
    number,
    percent,
    percent_interval,
    signed,
)
from accord.report.runfiles import Run, mapping
from accord.stats import Interval, bootstrap_means
from accord.types import Preference

_SHOWN, _UNDIVIDED = 8, 3
"""Pairs shown when some split the groups, and when none does."""
_LIMIT = 700
_NAMES: dict[Rule, str] = {
    "weighted": "Everybody alike",
    "majority": "Majority",
    "group_mixture": "Mixture of groups",
    "worst_group": "Worst group",
}
_CONFIG = {"soft": "weighted", **{rule: rule for rule in RULES}}
"""What a collect stage calls a rule -> its name here."""


@dataclass(frozen=True)
class Bar:
    """One group's view of a pair."""

    group: str
    share: float
    """Prefers the first reply, in percent."""
    told: str


@dataclass(frozen=True)
class SplitCard:
    """One pair of replies that the groups see differently."""

    id: str
    turns: tuple[tuple[str, str], ...]
    """(role, text)"""
    replies: tuple[tuple[str, str], ...]
    """("First reply" or "Second reply", text)"""
    bars: tuple[Bar, ...]
    decisions: tuple[tuple[str, str], ...]
    """(rule, what it decides)"""
    evidence: str


@dataclass(frozen=True)
class GroupReport:
    """The section on groups."""

    sentence: str
    tiles: tuple[tuple[str, str, str], ...]
    """(name, value, small print)"""
    agreement: tuple[tuple[str, ...], ...]
    likeness: tuple[tuple[str, ...], ...]
    groups: tuple[str, ...]
    rules: tuple[tuple[str, ...], ...]
    """Rule, then the share of each group's votes that its decisions follow, the worst of these, and how often it
    decides otherwise than the majority."""
    cards: tuple[SplitCard, ...]
    found: int
    """Pairs that split the groups; the cards show the most divided ones also when it is 0."""
    unread: int
    """Judgements that could not be read, or name no person or group."""


def read_groups(run: Run, *, rate: float = 0.05) -> GroupReport | None:
    """Read the single judgements and compare the groups; None when they are of fewer than two.

    Args:
        run: gives `judgements.jsonl`, or `preferences.jsonl` where nothing was merged.
        rate: expected share of false findings among the pairs that are said to split the groups.
    """
    name = "judgements.jsonl" if run.with_file("judgements.jsonl") else "preferences.jsonl"
    records, unread = _records(run.rows(name))
    groups = tuple(sorted({r.group for r in records}))
    if len(groups) < 2:
        return None
    pairs, _ = judged_pairs(records)
    met = meetings_of(pairs)
    found = splits(pairs, rate=rate)
    against = contrast(pairs, meetings=met)
    stage = run.with_file(name)
    config = stage.config if stage is not None else {}
    population = _population(config, groups)
    return GroupReport(
        sentence=_sentence(against, found),
        tiles=_tiles(against, found),
        agreement=tuple(
            (g.group, number(g.people), number(g.judgements), _interval(g.within), _interval(g.between))
            for g in group_agreement(pairs, meetings=met)
        ),
        likeness=tuple(
            (f"{x.first} and {x.second}", _interval(x.agreement), _ratio(x.shared))
            for x in likeness(pairs, meetings=met)
        ),
        groups=groups,
        rules=_rule_rows(pairs, groups, population, str(config.get("aggregate"))),
        cards=tuple(_card(s, population) for s in found.found[:_SHOWN] or found.pairs[:_UNDIVIDED]),
        found=len(found.found),
        unread=unread,
    )


def _records(rows: Iterable[Mapping[str, Any]]) -> tuple[list[Preference], int]:
    """The rows as records, and how many cannot be read or name no person or group.

    A pair is judged by several people, and prompt and replies stand in the row of each: they are checked once.
    """
    records: list[Preference] = []
    unread = 0
    row_before: Mapping[str, Any] = {}
    before: Preference | None = None
    for row in rows:
        known = {
            name: getattr(before, name)
            for name in ("prompt", "candidates")
            if before is not None and row.get(name) == row_before[name]
        }
        try:
            record = Preference.model_validate({**row, **known})
        except ValidationError:
            unread += 1
            continue
        row_before, before = row, record
        if record.annotator and record.group:
            records.append(record)
        else:
            unread += 1
    return records, unread


def _population(config: Mapping[str, Any], groups: Sequence[str]) -> dict[str, float] | None:
    told = mapping(config.get("population"))
    shares = {g: finite(told.get(g)) for g in groups}
    return {g: s for g, s in shares.items() if s is not None} if any(shares.values()) else None


def _sentence(against: Contrast, found: Splits) -> str:
    if against.difference is None or against.p_value is None:
        return f"Whether the groups want different things cannot be said: {against.reason}."
    gap, low, high = (100 * x for x in (against.difference.value, against.difference.low, against.difference.high))
    told = (
        f"Two people of one group agree {abs(gap):.1f} points {'more' if gap > 0 else 'less'} often than two of "
        f"different groups (95 % interval {signed(low, 1)} to {signed(high, 1)}); "
        f"were groups drawn by lot, a gap this large would occur with probability {_p(against.p_value)}."
    )
    if found.found:
        return f"{told} {len(found.found)} pairs of replies split the groups."
    return f"{told} No single pair of replies splits the groups beyond chance."


def _p(value: float) -> str:
    return "below 0.001" if value < 0.001 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def _tiles(against: Contrast, found: Splits) -> tuple[tuple[str, str, str], ...]:
    return (
        ("Agreement within groups", _interval(against.within), ""),
        ("Agreement between groups", _interval(against.between), ""),
        (
            "Pairs that split the groups",
            number(len(found.found)),
            f"of {found.testable} whose votes could show it; at most {percent(found.rate)} of them false",
        ),
        ("Pairs judged by two groups", number(len(found.pairs)), ""),
    )


def _interval(found: Interval | None) -> str:
    return MISSING if found is None else percent_interval(from_interval(found))


def _ratio(found: Interval | None) -> str:
    if found is None:
        return MISSING
    value = from_interval(found)
    if value.interval is None:
        return f"{found.value:.2f}"
    return f"{found.value:.2f} ({value.lower:.2f} to {value.upper:.2f})"


def _rule_rows(
    pairs: Sequence[JudgedPair], groups: Sequence[str], population: Mapping[str, float] | None, chosen: str
) -> tuple[tuple[str, ...], ...]:
    """How far the decisions of each rule follow the votes of each group."""
    shares_of = [pair.shares() for pair in pairs]
    decided: dict[Rule, list[tuple[float, float]]] = {}
    samples: dict[tuple[Rule, str], tuple[list[float], list[str]]] = {}
    for rule in RULES:
        for pair, shares in zip(pairs, shares_of, strict=True):
            p, most = (decide(pair, r, population=population) for r in (rule, "majority"))
            if p is None or most is None:
                continue
            decided.setdefault(rule, []).append((p, most))
            for group, share in shares.items():
                followed, prompts = samples.setdefault((rule, group), ([], []))
                followed.append(share if p > 0.5 else 1 - share if p < 0.5 else 0.5)
                prompts.append(pair.key[0])
    means = dict(zip(samples, bootstrap_means(list(samples.values())), strict=True))
    return tuple(
        _rule_row(
            rule, {g: means[rule, g] for g in groups if (rule, g) in means}, groups, decided.get(rule, []), chosen
        )
        for rule in RULES
    )


def _rule_row(
    rule: Rule,
    shares: Mapping[str, Interval],
    groups: Sequence[str],
    decided: Sequence[tuple[float, float]],
    chosen: str,
) -> tuple[str, ...]:
    """One row of the table; `decided` holds the decisions of this rule beside those of the majority."""
    otherwise = sum((p > 0.5) != (most > 0.5) or (p < 0.5) != (most < 0.5) for p, most in decided)
    worst = min(shares, key=lambda g: shares[g].value) if shares else None
    name = _NAMES[rule] + (" (used)" if _CONFIG.get(chosen) == rule else "")
    return (
        name,
        *(_interval(shares.get(g)) for g in groups),
        MISSING if worst is None else f"{percent(shares[worst].value)} {worst}",
        percent(otherwise / len(decided)) if decided else MISSING,
    )


def _card(split: Split, population: Mapping[str, float] | None) -> SplitCard:
    first = split.pair.first
    bars = [
        Bar(g, round(100 * s, 1), f"{percent(s)} of {split.counts[g]} for the first") for g, s in split.shares.items()
    ]
    decisions = [(_NAMES[rule], _decision(decide(split.pair, rule, population=population))) for rule in RULES]
    told = f"p = {_p(split.p_value)}, q = {_p(split.q_value)}".replace("= below", "below")
    return SplitCard(
        id=first.prompt.id,
        turns=tuple((m.role, _cut(m.content)) for m in first.prompt.messages),
        replies=tuple(
            (name, _cut(c.text)) for name, c in zip(("First reply", "Second reply"), first.candidates, strict=True)
        ),
        bars=tuple(bars),
        decisions=tuple(decisions),
        evidence=f"{told}; {'groups on opposite sides' if split.opposed else 'one side, more and less clearly'}",
    )


def _decision(p: float | None) -> str:
    if p is None:
        return MISSING
    side = "first" if p > 0.5 else "second" if p < 0.5 else "neither"
    return side if p in (0.0, 0.5, 1.0) else f"{side}, {percent(max(p, 1 - p))} sure"


def _cut(text: str) -> str:
    return text if len(text) <= _LIMIT else f"{text[:_LIMIT]} (and {len(text) - _LIMIT} more characters)"
