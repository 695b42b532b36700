"""The preference data: who labelled, how much, and how far people agree with each other and with gold."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from markupsafe import Markup

from accord.report.forest import Row, forest
from accord.report.formats import (
    MISSING,
    Estimate,
    duration,
    estimate,
    finite,
    from_interval,
    number,
    percent,
    percent_interval,
)
from accord.report.names import model_name
from accord.report.runfiles import Run, mapping
from accord.stats import wilson

_SHOWN = 40
_VERDICTS = {
    "choice": "One was better",
    "tie": "Ties",
    "both_bad": "Both bad",
    "ranking": "Rankings",
    "soft": "Probabilities",
}


@dataclass
class Annotator:
    """What one annotator did."""

    name: str
    group: str = ""
    count: int = 0
    ties: int = 0
    longer: int = 0
    """Choices in which the longer reply won."""
    first: int = 0
    """Choices in which the reply shown first won."""
    choices: int = 0
    ordered: int = 0
    """Choices in which the order shown is known."""
    seconds: list[float] = field(default_factory=list)
    same: int = 0
    """Judgements of another annotator on the same pair that agree."""
    shared: int = 0
    """Judgements of another annotator on the same pair."""
    gold: float | None = None


@dataclass(frozen=True)
class LabelReport:
    """The section on data and agreement."""

    total: int
    verdicts: tuple[tuple[str, str], ...]
    agreement: str
    agreement_value: float | None
    agreement_n: int
    rows: tuple[tuple[str, ...], ...]
    left_out: int
    """Annotators beyond the table."""
    gold_chart: Markup | None
    sources: str
    stage: str = ""
    """Which stage they are of, when several collected some."""


def read_labels(run: Run) -> LabelReport | None:
    """Read the single judgements and the metrics of the stage that wrote them; None when there were no labels."""
    name = "judgements.jsonl" if run.with_file("judgements.jsonl") else "preferences.jsonl"
    collected = run.of_kind("preferences")
    stage = run.with_file(name) or (collected[-1] if collected else None)
    if stage is None:
        return None
    people: dict[str, Annotator] = {}
    verdicts: Counter[str] = Counter()
    sources: Counter[str] = Counter()
    by_pair: dict[tuple[str, ...], list[tuple[str, str]]] = defaultdict(list)
    for row in run.rows(name):
        verdict = _verdict(row)
        verdicts[verdict] += 1
        sources[str(row.get("source", "human"))] += 1
        who = str(row.get("annotator") or "unnamed")
        _count(people.setdefault(who, Annotator(who)), row, verdict)
        texts = _texts(row)
        outcome = texts[row["choice"]] if verdict == "choice" and _is_index(row, texts) else verdict
        by_pair[(str(mapping(row.get("prompt")).get("id", "")), *sorted(texts))].append((who, outcome))
    _overlap(people, by_pair)
    for name, told in mapping(stage.metrics.get("annotators")).items():
        person = people.setdefault(str(name), Annotator(str(name)))
        told = mapping(told)
        person.gold = finite(told.get("gold_agreement"))
        person.group = str(told.get("group") or person.group)
        person.count = person.count or int(finite(told.get("n")) or 0)
    total = sum(verdicts.values()) or int(finite(stage.metrics.get("num")) or 0)
    told = estimate(stage.metrics.get("agreement"))
    pairs = sum(p.shared for p in people.values()) // 2
    if told is None and pairs:
        told = Estimate(sum(p.same for p in people.values()) / 2 / pairs, n=pairs)
    ranked = sorted(people.values(), key=lambda p: (-p.count, p.name))
    return LabelReport(
        total=total,
        verdicts=tuple((_VERDICTS[k], f"{n} ({percent(n / total)})") for k, n in verdicts.most_common() if total),
        agreement=MISSING if told is None else percent_interval(told),
        agreement_value=None if told is None else told.value,
        agreement_n=pairs,
        rows=tuple(_table_row(p) for p in ranked[:_SHOWN]),
        left_out=max(len(ranked) - _SHOWN, 0),
        gold_chart=_gold_chart(ranked[:_SHOWN]),
        sources=", ".join(f"{name} {count}" for name, count in sources.most_common()),
        stage=model_name(stage.name) if len(collected) > 1 else "",
    )


def _verdict(row: Mapping[str, Any]) -> str:
    if row.get("tie"):
        return "tie"
    if row.get("both_bad"):
        return "both_bad"
    for key in ("choice", "ranking"):
        if row.get(key) is not None:
            return key
    return "soft"


def _texts(row: Mapping[str, Any]) -> list[str]:
    candidates = row.get("candidates")
    return [str(mapping(c).get("text", "")) for c in candidates] if isinstance(candidates, list) else []


def _is_index(row: Mapping[str, Any], texts: Sequence[str]) -> bool:
    choice = row.get("choice")
    return isinstance(choice, int) and not isinstance(choice, bool) and 0 <= choice < len(texts)


def _count(person: Annotator, row: Mapping[str, Any], verdict: str) -> None:
    person.count += 1
    person.group = str(row.get("group") or person.group)
    person.ties += verdict == "tie"
    seconds = finite(row.get("seconds"))
    if seconds is not None:
        person.seconds.append(seconds)
    texts = _texts(row)
    if verdict != "choice" or not _is_index(row, texts):
        return
    choice = row["choice"]
    lengths = [len(t) for t in texts]
    if lengths.count(max(lengths)) == 1:
        person.choices += 1
        person.longer += lengths[choice] == max(lengths)
    order = row.get("order_shown")
    if isinstance(order, list) and order:
        person.ordered += 1
        person.first += order[0] == choice


def _overlap(people: Mapping[str, Annotator], by_pair: Mapping[tuple[str, ...], list[tuple[str, str]]]) -> None:
    """Count, for each annotator, how often others who judged the same replies said the same."""
    for judged in by_pair.values():
        for i, (a, verdict_a) in enumerate(judged):
            for b, verdict_b in judged[i + 1 :]:
                if a == b:
                    continue
                for name in (a, b):
                    people[name].shared += 1
                    people[name].same += verdict_a == verdict_b


def _share(part: int, whole: int) -> str:
    return percent(part / whole) if whole else MISSING


def _table_row(p: Annotator) -> tuple[str, ...]:
    return (
        p.name,
        p.group or MISSING,
        number(p.count),
        percent(p.gold),
        _share(p.same, p.shared),
        _share(p.ties, p.count),
        _share(p.longer, p.choices),
        _share(p.first, p.ordered),
        duration(median(p.seconds)) if p.seconds else MISSING,
    )


def _gold_chart(people: Sequence[Annotator]) -> Markup | None:
    known = [p for p in people if p.gold is not None]
    if not known:
        return None
    rows: list[Row] = []
    for p in sorted(known, key=lambda p: -(p.gold or 0)):
        share = p.gold or 0.0
        value = Estimate(share)
        if p.count and 0 <= share <= 1:
            value = from_interval(wilson(share * p.count, p.count))
        rows.append(Row(p.name, value, percent_interval(value), note=p.group))
    low = min(0.5, *(r.value.lower for r in rows))
    return forest(rows, title="Agreement of each annotator with gold", low=low - 0.02, note_title="group")
