"""Finished judgements of other tools, and our own raw annotations, as labels of a project."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from accord.collect import events
from accord.collect.database import Store
from accord.collect.events import digest
from accord.collect.exporting.raw import NESTED, RawAnnotation
from accord.collect.importing.answers import Answer, Stored, store_answers
from accord.collect.importing.files import read_all
from accord.collect.importing.leaks import leaks
from accord.collect.importing.options import Imported, ImportOptions, Refused
from accord.collect.importing.prepare import MOST, line_of, task_key
from accord.collect.projects import guideline_versions, set_guidelines
from accord.collect.records import NewTask, Verdict
from accord.data.rows import Row, RowError
from accord.data.sources import open_source
from accord.errors import DataError
from accord.types import Preference

RAW = "annotations"
_REASONS = ("rationale", "reason", "comment", "why", "explanation")
_STRENGTHS = (1.0, 2.0, 3.0)


def import_judgements(
    store: Store,
    project: str,
    source: str | Path,
    *,
    options: ImportOptions | None = None,
    actor: str = events.SYSTEM,
) -> Imported:
    """Add finished judgements: a raw annotation export of ours, or any preference data set.

    People get pseudonyms; judgements without a name are taken for those of different people wherever one of them would
    otherwise have judged the same replies twice. Importing a file again changes nothing.

    Args:
        store: an open store.
        project: its name.
        source: as for `accord.data.read`, or a folder or file written by `export(..., kind="annotations")`.
        options: `columns`, `overlap`, `purpose`, `tags` and `max_bad_rows` count here.
        actor: id of who does it.

    Raises:
        DataError: the file cannot be read, or has more bad rows than allowed.
        NotFound: no such project.
    """
    chosen = options or ImportOptions()
    if holds_annotations(source):
        return import_annotations(store, project, source, max_bad_rows=chosen.max_bad_rows, actor=actor)
    dataset, refused = read_all(source, chosen)
    answers: list[Answer] = []
    unnamed: Counter[str] = Counter()
    leaking = 0
    for number, record in enumerate(dataset.records, 1):
        where = f"row {number}"
        try:
            answers.append(_answer(record, number, dataset.format, chosen, unnamed))
        except (RowError, ValidationError) as error:
            reason = _reason(error)
            refused.append(Refused(number, reason, where))
            continue
        asked = "\n".join(m.content for m in record.prompt.messages)
        leaking += sum(bool(leaks(c.text, asked=asked, model=c.model)) for c in record.candidates)
    _check(source, refused, chosen.max_bad_rows)
    done = store_answers(store, project, answers, overlap=chosen.overlap, actor=actor)
    return _report(source, dataset.format, done, refused, leaking)


def import_annotations(
    store: Store,
    project: str,
    source: str | Path,
    *,
    max_bad_rows: int | None = None,
    actor: str = events.SYSTEM,
) -> Imported:
    """Add raw annotations that `export(..., kind="annotations")` wrote, with the guidelines beside them.

    Args:
        store: an open store.
        project: its name.
        source: the folder, or a file of it (then without guidelines).
        max_bad_rows: rows that may be refused; None = any.
        actor: id of who does it.

    Raises:
        DataError: the file cannot be read, or has more bad rows than allowed.
        NotFound: no such project.
    """
    _import_guidelines(store, project, Path(source), actor)
    answers: list[Answer] = []
    refused: list[Refused] = []
    for raw in open_source(source).rows():
        try:
            if raw.row is None:
                raise RowError(raw.problem)
            record = RawAnnotation.model_validate(_unpacked(raw.row))
            answers.append(_own(record, raw.where))
        except (RowError, ValidationError) as error:
            refused.append(Refused(line_of(raw.where), _reason(error), raw.where))
    _check(source, refused, max_bad_rows)
    done = store_answers(store, project, answers, actor=actor)
    return _report(source, RAW, done, refused, 0)


def _report(source: str | Path, found: str, done: Stored, refused: list[Refused], leaking: int) -> Imported:
    bad = sorted([*refused, *done.refused], key=lambda one: one.line)
    return Imported(str(source), found, done.added, done.repeated, leaking, refused=tuple(bad))


def _check(source: str | Path, refused: list[Refused], most: int | None) -> None:
    if most is not None and len(refused) > most:
        listing = "\n".join(f"  {one.where}: {one.why}" for one in refused[:10])
        raise DataError(
            f"{len(refused)} rows cannot be used ({most} allowed):\n{listing}",
            where=str(source),
            fix="repair them, or allow more with max_bad_rows; nothing was imported",
        )


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(map(str, first['loc'])) or 'row'}: {first['msg'].removeprefix('Value error, ')}"
    return str(error)


def holds_annotations(source: str | Path) -> bool:
    """Return whether a file is an export of raw annotations."""
    row = next((raw.row for raw in open_source(source).rows() if raw.row is not None), None)
    return row is not None and {"task", "verdict", "shown_order", "outcome", "candidates"} <= row.keys()


def _unpacked(row: Row) -> Row:
    """Return a row of a table with its JSON text decoded."""
    found = dict(row)
    for name in NESTED:
        if isinstance(found.get(name), str):
            try:
                found[name] = json.loads(found[name])
            except ValueError as error:
                raise RowError(f"column '{name}' is not JSON: {error}") from error
    return found


def _own(raw: RawAnnotation, where: str) -> Answer:
    task = NewTask(
        kind=raw.kind,
        prompt=raw.prompt,
        candidates=raw.candidates,
        key=raw.task,
        slice=raw.slice,
        policy=raw.policy,
        propensity=raw.propensity,
        gold=raw.gold,
        purpose=raw.purpose,
        tags=raw.tags,
        meta=raw.task_meta,
    )
    return Answer(
        where=where,
        line=line_of(where),
        task=task,
        verdict=raw.verdict,
        pseudonym=raw.annotator,
        key=f"import:{raw.id}",
        shown_order=raw.shown_order,
        groups=raw.groups,
        dwell_ms=raw.dwell_ms,
        seen_ms=raw.seen_ms,
        number=raw.number,
        served_at=_time(raw.served_at),
        created_at=_time(raw.created_at),
        client=raw.client,
        id=raw.id,
        supersedes=raw.supersedes or "",
        extra=raw.extra,
        guideline=raw.guideline_sha256 or "",
        repeat_of=raw.repeat_of or "",
    )


def _time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError as error:
        raise RowError(f"'{text[:40]}' is no time") from error


def _import_guidelines(store: Store, project: str, folder: Path, actor: str) -> None:
    """Take over the versions of the guidelines that are newer than the project's own."""
    known = {one.sha256 for one in guideline_versions(store, project)}
    files = sorted(folder.glob("guidelines/*.md"), key=lambda path: (len(path.name), path.name))
    for path in files:
        text = path.read_bytes().decode("utf-8")
        if hashlib.sha256(text.encode()).hexdigest() not in known:
            set_guidelines(store, project, text, actor=actor)


def _answer(record: Any, number: int, found: str, options: ImportOptions, unnamed: Counter[str]) -> Answer:
    if not isinstance(record, Preference):
        raise RowError(f"a {type(record).__name__} is no judgement between replies")
    kind, verdict = verdict_of(record)
    named = kind if options.purpose == "label" else f"{options.purpose}-{kind}"
    key = task_key(named, record.prompt, record.candidates)
    task = NewTask(
        kind=kind,
        prompt=record.prompt,
        candidates=record.candidates,
        key=key,
        overlap=options.overlap,
        purpose=options.purpose,
        tags=options.tags,
    )
    person = record.annotator
    if not person:
        person = f"unnamed {unnamed[key]}"
        unnamed[key] += 1
    client = {"imported": found, "id": record.id, **({"meta": record.meta} if record.meta else {})}
    if record.strength is not None and verdict.strength is None:
        client["strength"] = record.strength
    said = verdict.model_dump(mode="json")
    return Answer(
        where=f"row {number}",
        line=number,
        task=task,
        verdict=verdict,
        pseudonym=pseudonym(found, person),
        key=f"import:{digest([found, record.id, key, person, said])[:40]}",
        shown_order=record.order_shown or tuple(range(len(record.candidates))),
        groups=(record.group,) if record.group else (),
        dwell_ms=round(1000 * (record.seconds or 0.0)),
        client=client,
    )


def pseudonym(found: str, person: str) -> str:
    """Return the pseudonym of somebody another tool names: the same for the same name, and nothing else known of it."""
    return f"annotator-{digest(['import', found, person])[:10]}"


def verdict_of(record: Preference) -> tuple[Any, Verdict]:
    """Return (kind of task, verdict) of a judgement, in candidate indexes.

    Raises:
        RowError: nothing a person can have said: a soft label, both bad about more than two.
    """
    number = len(record.candidates)
    why = next((str(record.meta[name]) for name in _REASONS if isinstance(record.meta.get(name), str)), "")
    if number > MOST:
        raise RowError(f"{number} replies; a task has at most {MOST}")
    told = {"rationale": why if len(why) <= 4000 else ""}
    if number == 2 and record.ranking is None:
        if record.choice is None and not (record.tie or record.both_bad):
            raise RowError("a soft label is the judgement of no single person")
        strength = int(record.strength) if record.choice is not None and record.strength in _STRENGTHS else None
        fields = {"position": record.choice, "strength": strength, "tie": record.tie, "both_bad": record.both_bad}
        return "pair", Verdict.model_validate({"kind": "pair", **fields, **told})
    if record.both_bad:
        raise RowError("'both bad' is said of two replies")
    groups = record.ranking
    if record.tie:
        groups = (tuple(range(number)),)
    elif record.choice is not None:
        groups = ((record.choice,),)
    if number == 2 and groups is not None:
        fields = {"tie": True} if len(groups) == 1 else {"position": groups[0][0]}
        return "pair", Verdict.model_validate({"kind": "pair", **fields, **told})
    return "rank", Verdict.model_validate({"kind": "rank", "ranking": groups, **told})
