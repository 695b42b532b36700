"""Records of each kind of export out of a project's answers, with what the data card says about them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from accord.collect.exporting.combine import Combined, combine
from accord.collect.exporting.derive import Derived, demonstrations, edited_pairs, preference, preferences, selected
from accord.collect.exporting.derive import unpaired as labelled_replies
from accord.collect.exporting.gather import Collected
from accord.collect.exporting.options import Combine, ExportOptions, FileFormat, Kind
from accord.collect.exporting.pairs import ordered, ranks
from accord.collect.exporting.raw import NESTED, RawAnnotation
from accord.collect.exporting.rows import (
    Row,
    demonstration_rows,
    hh_rows,
    pair_rows,
    ranking_rows,
    unpaired_rows,
)
from accord.collect.rules import LEARNT
from accord.collect.values import PairKey, judged_pairs
from accord.data.canonical import to_row
from accord.types import Preference


@dataclass
class Built:
    """Records to write, the judgements behind them, and what was left out."""

    records: list[Any]
    judgements: list[Preference] = field(default_factory=list[Preference])
    answers: list[RawAnnotation] = field(default_factory=list[RawAnnotation])
    left_out: dict[str, int] = field(default_factory=dict[str, int])
    notes: list[str] = field(default_factory=list[str])


def build(collected: Collected, kind: Kind, options: ExportOptions) -> Built:
    """Return what an export of a kind holds.

    Args:
        collected: the project.
        kind: what is wanted.
        options: which labels, and how they are combined.
    """
    if kind == "annotations":
        # Raw means everything: tests, repeats and what was undone, each marked as what it is.
        return Built(list(collected.answers), preferences(collected.answers), list(collected.answers))
    chosen = selected(collected.answers, options)
    answers: list[RawAnnotation] = chosen.records
    if kind == "demonstrations":
        return Built(demonstrations(answers), [], answers, chosen.left_out)
    if kind == "unpaired":
        made = labelled_replies(answers, options)
        notes = _one_sided(made)
        return Built(made.records, [], answers, {**chosen.left_out, **made.left_out}, notes)
    given = preferences(answers)
    combined = labels(collected, given, options.combine)
    built = Built(list(combined.labels), given, answers, chosen.left_out, list(combined.notes))
    if kind == "pairs":
        extra = edited_pairs(answers) if options.edits else []
        found = ordered([*combined.labels, *extra])
        built.records = list(found.pairs)
        built.left_out |= {"ties, which order no pair": found.ties, "both bad, which orders no pair": found.both_bad}
    elif kind == "rankings":
        built.records = [p for p in combined.labels if ranks(p) is not None]
        built.left_out["both bad, which ranks nothing"] = len(combined.labels) - len(built.records)
    return built


def labels(collected: Collected, given: Sequence[Preference], how: Combine) -> Combined:
    """Combine judgements; hidden tests teach the estimators, and an adjudicator's word stands for its task.

    Args:
        collected: the project the judgements are from.
        given: the judgements to combine.
        how: the rule; with none every judgement stays, adjudicated or not.
    """
    if how.aggregate == "none":
        return combine(given, how)
    decided = [p for p in given if p.meta.get("task") in collected.decisions]
    left = [p for p in given if p.meta.get("task") not in collected.decisions]
    gold: dict[PairKey, str] = {}
    tests: list[Preference] = []
    if how.aggregate in LEARNT:
        tests, gold = _tests(collected, {p.id for p in given})
    made = combine([*left, *tests], how, gold=gold)
    names = {p.meta.get("task") for p in tests}
    kept = [p for p in made.labels if p.meta.get("task") not in names]
    final = [_decision(collected, group) for group in _by_task(decided)]
    notes = [*made.notes, *([f"{len(final)} labels are an adjudicator's"] if final else [])]
    return Combined((*kept, *final), len(given), made.undecided, tuple(notes))


def _tests(collected: Collected, known: set[str]) -> tuple[list[Preference], dict[PairKey, str]]:
    """Answers to hidden tests about pairs that are not among the judgements, and the replies that are right."""
    answers = [a for a in selected(collected.answers, ExportOptions(gold=True, purpose="all")).records if a.is_gold]
    found: list[Preference] = []
    gold: dict[PairKey, str] = {}
    for a in answers:
        p = preference(a)
        accepted = (a.gold or {}).get("accept") or []
        right = {json.dumps(v.get("position")) for v in accepted}
        if p is None or p.id in known or a.kind != "pair" or len(right) != 1 or "null" in right:
            continue
        found.append(p)
        pair = judged_pairs([p])[0][0]
        gold[pair.key] = p.candidates[int(right.pop())].text
    return found, gold


def _by_task(given: Sequence[Preference]) -> list[list[Preference]]:
    groups: dict[str, list[Preference]] = {}
    for p in given:
        groups.setdefault(str(p.meta["task"]), []).append(p)
    return list(groups.values())


def _decision(collected: Collected, group: Sequence[Preference]) -> Preference:
    first = group[0]
    v = collected.decisions[str(first.meta["task"])]
    told: dict[str, Any] = {"choice": v.position, "tie": v.tie, "both_bad": v.both_bad}
    if v.ranking is not None:
        named = {index for places in v.ranking for index in places}
        rest = tuple(index for index in range(len(first.candidates)) if index not in named)
        told = {"ranking": (*v.ranking, rest) if rest else v.ranking}
    kept = {
        name: first.meta[name] for name in ("task", "slice", "policy", "purpose", "propensity") if name in first.meta
    }
    return Preference(
        id=f"{first.id}-adjudicated-{len(group)}",
        prompt=first.prompt,
        candidates=first.candidates,
        **told,
        strength=None if v.strength is None else float(v.strength),
        annotator="adjudicator",
        source=first.source,
        meta={**kept, "rule": "adjudicated", "judgements": len(group)},
    )


def _one_sided(made: Derived) -> list[str]:
    sides = {r.label for r in made.records}
    if len(sides) != 1:
        return []
    return [f"all labels are {str(sides.pop()).lower()}: nothing can be learned from these rows alone"]


def rows(kind: Kind, form: FileFormat, records: Sequence[Any], options: ExportOptions) -> list[Row]:
    """Return records as the rows of their kind.

    Raises:
        DataError: a conversation HH transcripts cannot hold.
    """
    if kind == "annotations":
        return [_annotation(record, flat=form in ("parquet", "dataset")) for record in records]
    if kind == "preferences":
        return [dict(to_row(_without_models(r, options), flat=form in ("parquet", "dataset"))) for r in records]
    if kind == "unpaired":
        return unpaired_rows(records)
    if kind == "demonstrations":
        return demonstration_rows(records)
    if kind == "rankings":
        return ranking_rows(records, models=options.models)
    if form == "hh":
        return hh_rows(records)
    return pair_rows(records, margins=options.margins, models=options.models)


def _annotation(record: RawAnnotation, *, flat: bool) -> Row:
    row = record.model_dump(mode="json")
    if not flat:
        return row
    return {name: _text(value) if name in NESTED else value for name, value in row.items()}


def _text(value: Any) -> Any:
    return None if value is None else json.dumps(value, ensure_ascii=False)


def _without_models(p: Preference, options: ExportOptions) -> Preference:
    if options.models:
        return p
    return p.model_copy(update={"candidates": tuple(c.model_copy(update={"model": ""}) for c in p.candidates)})
