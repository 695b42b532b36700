"""Records as rows with fixed columns: the shapes TRL loads, rankings, HH transcripts, Accord's own records.

| kind | columns |
|---|---|
| preferences | the fields of `accord.types.Preference` |
| pairs | id, prompt, chosen, rejected, margin, soft, weight, annotator, group, chosen_model, rejected_model, meta |
| rankings | id, prompt, responses, ranks, models, annotator, group, meta |
| unpaired | id, prompt, completion, label, annotator, meta |
| demonstrations | id, messages, meta |
| annotations | the fields of `records.RawAnnotation` |

`margin`, `soft` and the names of models, annotators and groups are left out when no row has one. `meta` is an object
in JSON lines and JSON text in tables, whose columns have one type.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from accord.collect.exporting.pairs import ranks
from accord.errors import DataError
from accord.types import Demonstration, Message, Preference, Unpaired

Row = dict[str, Any]
OPTIONAL = ("margin", "soft", "annotator", "group", "chosen_model", "rejected_model", "models")
"""Columns left out of a file in which no row has a value for them."""


@dataclass(frozen=True)
class Table:
    """Rows with the same columns."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]

    def flat(self) -> list[Row]:
        """The rows with every object as JSON text, as tables need it."""
        return [{name: _flat(value) for name, value in row.items()} for row in self.rows]


def _flat(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value


def table(rows: Iterable[Row], *, keep: Sequence[str] = ()) -> Table:
    """Return rows as a table; optional columns without a value are left out, missing values are null.

    Args:
        rows: rows whose keys are in the same order.
        keep: optional columns to keep in any case, so that all splits of a data set have the same columns.
    """
    found = list(rows)
    names = dict.fromkeys(name for row in found for name in row)
    used = {name for row in found for name, value in row.items() if value is not None} | set(keep)
    columns = tuple(name for name in names if name in used or name not in OPTIONAL)
    return Table(columns, tuple({name: row.get(name) for name in columns} for row in found))


def used(rows: Iterable[Row]) -> tuple[str, ...]:
    """Return the optional columns that some row has a value for."""
    return tuple(sorted({name for row in rows for name in OPTIONAL if row.get(name) is not None}))


def turns(messages: Sequence[Message]) -> list[Row]:
    """Return messages as {role, content} objects."""
    return [{"role": message.role, "content": message.content} for message in messages]


def pair_rows(pairs: Iterable[Preference], *, margins: bool = True, models: bool = True) -> list[Row]:
    """Return pairs (`exporting.pairs.ordered`) in the columns TRL's DPO and reward trainers load.

    Where some pairs have a strength, the others get margin 0, because a trainer subtracts the column as it is.

    Args:
        pairs: two candidates each, the better one first.
        margins: strength as `margin`.
        models: name the models.
    """
    given = list(pairs)
    some = margins and any(p.strength is not None for p in given)
    return [_pair_row(p, margin=(p.strength or 0.0) if some else None, models=models) for p in given]


def _pair_row(p: Preference, *, margin: float | None, models: bool) -> Row:
    better, worse = p.candidates
    meta = {name: value for name, value in p.meta.items() if name != "weight"}
    return {
        "id": p.id,
        "prompt": turns(p.prompt.messages),
        "chosen": [{"role": "assistant", "content": better.text}],
        "rejected": [{"role": "assistant", "content": worse.text}],
        "margin": margin,
        "soft": p.soft,
        "weight": float(p.meta.get("weight", 1.0)),
        "annotator": p.annotator or None,
        "group": p.group or None,
        "chosen_model": (better.model or None) if models else None,
        "rejected_model": (worse.model or None) if models else None,
        "meta": meta,
    }


def ranking_rows(preferences: Iterable[Preference], *, models: bool = True) -> list[Row]:
    """Return verdicts as `{prompt, responses, ranks}`, 0 the best; verdicts that rank nothing (both bad) are left out.

    Args:
        preferences: verdicts of any kind.
        models: name the models.
    """
    rows: list[Row] = []
    for p in preferences:
        places = ranks(p)
        if places is None:
            continue
        names = [c.model for c in p.candidates]
        rows.append(
            {
                "id": p.id,
                "prompt": turns(p.prompt.messages),
                "responses": [c.text for c in p.candidates],
                "ranks": places,
                "models": names if models and any(names) else None,
                "annotator": p.annotator or None,
                "group": p.group or None,
                "meta": dict(p.meta),
            }
        )
    return rows


def unpaired_rows(records: Iterable[Unpaired]) -> list[Row]:
    """Return labelled replies in the columns TRL's KTO trainer loads."""
    return [
        {
            "id": r.id,
            "prompt": turns(r.prompt.messages),
            "completion": [{"role": "assistant", "content": r.completion}],
            "label": r.label,
            "meta": dict(r.meta),
        }
        for r in records
    ]


def demonstration_rows(records: Iterable[Demonstration]) -> list[Row]:
    """Return conversations in the columns TRL's SFT trainer loads."""
    return [{"id": r.id, "messages": turns(r.messages), "meta": dict(r.meta)} for r in records]


def transcript(messages: Sequence[Message]) -> str:
    """Return a conversation as an HH-RLHF transcript.

    Raises:
        DataError: a turn the form has no place for (system, tool, two of one speaker in a row), or a text that itself
            looks like the start of a turn.
    """
    names = {"user": "Human", "assistant": "Assistant"}
    parts: list[str] = []
    before = ""
    for message in messages:
        text = message.content.strip()
        marked = f"\n\n{text}"
        if message.role not in names or message.role == before or "\n\nHuman:" in marked or "\n\nAssistant:" in marked:
            raise DataError(
                f"a {message.role} turn has no place in an HH transcript: '{text[:60]}'",
                fix="export jsonl, parquet or dataset instead",
            )
        before = message.role
        parts.append(f"\n\n{names[message.role]}: {text}")
    return "".join(parts)


def hh_rows(pairs: Iterable[Preference]) -> list[Row]:
    """Return pairs as `{chosen, rejected}` transcripts (Bai et al. 2022, 2204.05862, data release).

    Raises:
        DataError: a conversation that form cannot hold.
    """
    rows: list[Row] = []
    for p in pairs:
        sides = [(*p.prompt.messages, Message(role="assistant", content=c.text)) for c in p.candidates]
        rows.append({"chosen": transcript(sides[0]), "rejected": transcript(sides[1])})
    return rows
