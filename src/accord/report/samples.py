"""Twelve prompts with every model's answer side by side, chosen by position, never by how good they look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from accord.report.formats import finite, number
from accord.report.names import distinct, model_name
from accord.report.outcome import TOTAL, Outcome
from accord.report.runfiles import Run, mapping

_LIMIT = 1200
_FAMILY = ("family", "task", "category", "kind", "split", "source")


@dataclass(frozen=True)
class Answer:
    """What one model said."""

    model: str
    slot: int
    text: str
    cut: int
    """Characters left out at the end."""
    utility: str
    parts: str
    best: bool


@dataclass(frozen=True)
class Sample:
    """A prompt and the answers to it."""

    id: str
    family: str
    turns: tuple[tuple[str, str], ...]
    """(role, text)"""
    answers: tuple[Answer, ...]
    left_out: int = 0
    """Models whose answers are not shown."""


def read_samples(run: Run, outcome: Outcome | None = None, count: int = 12) -> list[Sample]:
    """Pick prompts in turn from each family (one of the prompt's meta fields), evenly spaced within it.

    Args:
        run: gives `answers.jsonl` and the colours.
        outcome: tells the order of the models, and of many models which are shown.
        count: prompts.
    """
    rows = list(run.rows("answers.jsonl"))
    families: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        families.setdefault(_family(row), []).append(i)
    quota = {family: 0 for family in families}
    while sum(quota.values()) < min(count, len(rows)):
        for family, members in families.items():
            if quota[family] < len(members) and sum(quota.values()) < count:
                quota[family] += 1
    picked: list[int] = []
    for family, members in families.items():
        picked += [members[k * len(members) // quota[family]] for k in range(quota[family])]
    return [_sample(rows[i], run, outcome) for i in sorted(picked)]


def _family(row: Mapping[str, Any]) -> str:
    meta = mapping(mapping(row.get("prompt")).get("meta"))
    return next((str(meta[key]) for key in _FAMILY if isinstance(meta.get(key), str | int)), "")


def _sample(row: Mapping[str, Any], run: Run, outcome: Outcome | None) -> Sample:
    prompt, answers, gold = (mapping(row.get(key)) for key in ("prompt", "answers", "gold"))
    messages = prompt.get("messages")
    turns = [mapping(m) for m in messages] if isinstance(messages, list) else []
    everyone = list(map(str, answers))
    known = () if outcome is None else outcome.models
    everyone.sort(key=lambda m: known.index(m) if m in known else len(known))
    some = outcome is not None and outcome.many
    names = [m for m in everyone if not some or (outcome is not None and m in outcome.shown)]
    slots = distinct(names, run.slots)
    utility = {m: finite(mapping(gold.get(m)).get(TOTAL)) for m in names}
    best = max((u for u in utility.values() if u is not None), default=None)
    differ = len({u for u in utility.values() if u is not None}) > 1
    answered: list[Answer] = []
    for m in names:
        text, cut = _cut(str(answers[m]))
        value = utility[m]
        answered.append(
            Answer(
                model=model_name(m),
                slot=slots[m],
                text=text,
                cut=cut,
                utility="" if value is None else number(value, 2),
                parts=_parts(mapping(mapping(gold.get(m)).get("parts"))),
                best=differ and value == best,
            )
        )
    asked = tuple((str(t.get("role", "")), _shown(str(t.get("content", "")))) for t in turns)
    return Sample(
        id=str(prompt.get("id", "")),
        family=_family(row),
        turns=asked,
        answers=tuple(answered),
        left_out=len(everyone) - len(names),
    )


def _shown(text: str) -> str:
    kept, cut = _cut(text)
    return f"{kept} ({cut} more characters)" if cut else kept


def _parts(parts: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {number(value, 2)}" for name, value in parts.items() if finite(value) is not None)


def _cut(text: str) -> tuple[str, int]:
    return text[:_LIMIT], max(len(text) - _LIMIT, 0)


def columns(samples: Sequence[Sample]) -> int:
    """Return the largest number of answers to one prompt."""
    return max((len(s.answers) for s in samples), default=0)
