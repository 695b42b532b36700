"""Read any supported data set into records, say how it was understood, refuse bad rows by file and line."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

from pydantic import ValidationError

from accord.data.convert import can_derive, derive
from accord.data.formats import columns_for, detect
from accord.data.rows import Columns, Format, RawRow, Row, RowError, plain, unpack_nested
from accord.data.sources import Source, open_source
from accord.data.write import atomic_file
from accord.errors import DataError
from accord.memory import no_collection
from accord.types import Preference, Record, Unpaired

R = TypeVar("R", bound=Record)

_PEEK = 200
"""Rows that vote on the format; enough to outvote damaged ones, few enough to start at once."""
_ENOUGH = 10
"""Verdicts from which on one that never occurs means that the file numbers the replies differently."""
_SHOWN = 10
"""Bad rows listed in a message."""


@dataclass(frozen=True)
class BadRow:
    """A row that was refused."""

    where: str
    """"file:line"."""
    reason: str
    """Why."""
    row: Any = None
    """The row as parsed, or the text when it could not be parsed."""


@dataclass(frozen=True)
class Dataset(Generic[R]):
    """Records of one kind, with how they were found."""

    records: tuple[R, ...]
    """In file order."""
    kind: type[R]
    """What the records are."""
    format: str
    """Name of the detected format."""
    mapping: dict[str, str]
    """Column -> field; a column no field needed goes to "meta.<column>"."""
    source: str
    """What was read."""
    bad: tuple[BadRow, ...]
    """Rows left out."""
    found: type[Record]
    """What the format holds; differs from `kind` when records were derived."""

    def describe(self) -> list[str]:
        """Return the lines that tell a user how the data was understood."""
        used = [f"{name} -> {field}" for name, field in self.mapping.items() if not field.startswith("meta.")]
        kept = [name for name, field in self.mapping.items() if field.startswith("meta.")]
        derived = "" if self.found is self.kind else f", read as {self.kind.__name__}"
        return [
            f"data     {self.source}",
            f"format   {self.format} ({self.found.__name__}{derived})",
            f"columns  {'; '.join(used)}",
            f"in meta  {', '.join(kept) or '-'}",
            f"rows     {len(self.records)} read, {len(self.bad)} refused",
        ]


@overload
def read(
    source: str | Path,
    want: type[R],
    *,
    columns: Mapping[str, str] | None = None,
    max_bad_rows: int = 0,
    limit: int | None = None,
    rejects: Path | None = None,
) -> Dataset[R]: ...
@overload
def read(
    source: str | Path,
    want: None = None,
    *,
    columns: Mapping[str, str] | None = None,
    max_bad_rows: int = 0,
    limit: int | None = None,
    rejects: Path | None = None,
) -> Dataset[Record]: ...
def read(
    source: str | Path,
    want: type[Record] | None = None,
    *,
    columns: Mapping[str, str] | None = None,
    max_bad_rows: int = 0,
    limit: int | None = None,
    rejects: Path | None = None,
) -> Dataset[Any]:
    """Read a data set in any format of docs/data-formats.md.

    Args:
        source: file, directory, ``PATH:NAME`` or hub id; see `sources.open_source`.
        want: the record to make; None takes what the format holds.
        columns: our column name -> the file's, applied before the format is looked for, e.g.
            ``{"prompt": "question", "completion": "solution"}``.
        max_bad_rows: rows that may be left out.
        limit: stop after this many good rows.
        rejects: JSONL file for the rows left out; required when any are.

    Returns:
        The records and how they were found.

    Raises:
        DataError: nothing to read, no known format, a format that cannot serve as `want`, more bad rows than
            allowed, bad rows but no `rejects`, no usable row, or KTO labels that are all equal.
    """
    opened = open_source(source)
    stream = _prepared(opened, dict(columns or {}))
    head = list(itertools.islice(stream, _PEEK))
    _check_mapping(head, columns or {})
    fmt = _choose(opened, head, want)
    kind = want or fmt.kind
    records: list[Record] = []
    mapping: dict[str, str] = {}
    seen: dict[str, None] = {}
    bad: list[BadRow] = []
    num_bad = 0
    with no_collection():
        for item in itertools.chain(head, stream):
            if limit is not None and len(records) >= limit:
                break
            for outcome in _outcomes(item, fmt, kind):
                if isinstance(outcome, BadRow):
                    num_bad += 1
                    if num_bad <= max(max_bad_rows, _SHOWN):
                        bad.append(outcome)
                    continue
                record, used = outcome
                records.append(record)
                mapping.update(used)
                seen.update(dict.fromkeys((*item.columns, *item.extra)))
    del records[len(records) if limit is None else limit :]
    _judge(opened.name, len(records), num_bad, bad, max_bad_rows, rejects)
    if limit is None:
        _check_labels(opened.name, fmt, records)
    names = {name: mapping.get(name, f"meta.{name}") for name in seen}
    back = dict(columns or {})
    shown = {back.get(name, name): field for name, field in names.items()}
    return Dataset(tuple(records), kind, fmt.name, shown, opened.name, tuple(bad), fmt.kind)


@dataclass(frozen=True)
class _Item:
    where: str
    raw: Any
    columns: Row
    extra: Row
    problem: str


def _prepared(source: Source, columns: dict[str, str]) -> Iterator[_Item]:
    """Yield rows with nested columns decoded and declared columns renamed."""
    for raw in source.rows():
        yield _prepare_row(source, raw, columns)


def _check_mapping(head: list[_Item], columns: Mapping[str, str]) -> None:
    rows = [item for item in head if not item.problem]
    missing = [theirs for ours, theirs in columns.items() if not any(ours in item.columns for item in rows)]
    if rows and missing:
        have = [str(name) for name in rows[0].raw]
        near = get_close_matches(missing[0], have, n=1)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise DataError(
            f"the mapping names columns the data does not have: {', '.join(missing)}",
            where=rows[0].where,
            fix=f"{hint}columns found: {', '.join(have)}",
        )


def _prepare_row(source: Source, raw: RawRow, columns: dict[str, str]) -> _Item:
    if raw.row is None:
        return _Item(raw.where, raw.text, {}, {}, raw.problem)
    row, extra = unpack_nested(raw.row), Row()
    try:
        if source.prepare:
            row, extra = source.prepare(row)
    except RowError as error:
        return _Item(raw.where, raw.row, {}, {}, str(error))
    if columns:
        moved = {ours: row[theirs] for ours, theirs in columns.items() if theirs in row}
        taken = set(columns.values())
        # A column that only shares the name of a mapped one must not be taken for it.
        extra = {
            **extra,
            **{f"original_{name}": row[name] for name in moved if name in row and name not in taken},
        }
        rest = {name: value for name, value in row.items() if name not in taken and name not in moved}
        row = unpack_nested({**moved, **rest})
    return _Item(raw.where, raw.row, row, extra, "")


def _choose(source: Source, head: list[_Item], want: type[Record] | None) -> Format:
    if not head:
        raise DataError("no rows", where=f"{source.name}:1", fix="check the download or the export")
    good = [item for item in head if not item.problem]
    fmt = detect(item.columns for item in good)
    needs = columns_for(want)
    if fmt is None and not good:
        first = head[0]
        raise DataError(
            f"none of the first {len(head)} rows can be parsed: {first.problem}",
            where=first.where,
            fix="check that the file is what its name says",
        )
    if fmt is None:
        found = ", ".join(map(str, list(good[0].columns)[:20])) or "none"
        raise DataError(
            f"no known format has these columns: {found}",
            where=good[0].where,
            fix=f'map them, e.g. columns={{"prompt": "question"}}, to: {needs} (all: docs/data-formats.md)',
        )
    if want and not can_derive(fmt.kind, want):
        raise DataError(
            f"{want.__name__} records were asked for, but this is {fmt.name} data ({fmt.kind.__name__})",
            where=good[0].where,
            fix=f"give or map these columns: {needs or ', '.join(want.model_fields)} (all: docs/data-formats.md)",
        )
    return fmt


def _outcomes(item: _Item, fmt: Format, kind: type[Record]) -> Iterator[tuple[Record, dict[str, str]] | BadRow]:
    """Yield a record, or why there is none, for every judgement the row holds."""
    if item.problem:
        yield BadRow(item.where, item.problem, item.raw)
        return
    try:
        parts = fmt.unpack(item.columns)
    except RowError as error:
        yield BadRow(item.where, str(error), item.raw)
        return
    for part in parts:
        yield _convert(item, part, fmt, kind)


def _convert(item: _Item, row: Row, fmt: Format, kind: type[Record]) -> tuple[Record, dict[str, str]] | BadRow:
    columns = Columns(row, item.extra)
    try:
        return derive(fmt.convert(columns), kind), columns.used
    except ValidationError as error:
        reason = "; ".join(
            f"{'.'.join(map(str, part['loc'])) or 'row'}: {part['msg'].removeprefix('Value error, ')}"
            for part in error.errors(include_url=False, include_input=False)[:3]
        )
    except RowError as error:
        reason = str(error)
    return BadRow(item.where, reason, item.raw if row is item.columns else row)


def _judge(name: str, num_good: int, num_bad: int, bad: list[BadRow], max_bad_rows: int, rejects: Path | None) -> None:
    lines = [f"  {item.where}: {item.reason}" for item in bad[:_SHOWN]]
    more = [f"  ... and {num_bad - len(lines)} more"] if num_bad > len(lines) else []
    listing = "\n".join([*lines, *more])
    if num_bad > max_bad_rows:
        raise DataError(
            f"{num_bad} of {num_good + num_bad} rows cannot be used ({max_bad_rows} allowed):\n{listing}",
            where=name,
            fix=f"repair them, or set max_bad_rows to at least {num_bad} to leave them out",
        )
    if num_bad and rejects is None:
        raise DataError(
            f"{num_bad} rows would be left out, but no file is given to keep them:\n{listing}",
            where=name,
            fix="give `rejects`, the JSONL file the rows left out are written to",
        )
    if num_bad and rejects is not None:
        with atomic_file(rejects) as stream:
            for item in bad:
                line = {"where": item.where, "reason": item.reason, "row": plain(item.row)}
                stream.write(json.dumps(line, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n")
    if not num_good:
        raise DataError(f"no usable rows:\n{listing}" if bad else "no rows", where=name, fix="check the data")


def _check_labels(name: str, fmt: Format, records: list[Record]) -> None:
    labels = {record.label for record in records if isinstance(record, Unpaired)}
    if len(labels) == 1:
        raise DataError(
            f"all {len(records)} labels are {str(labels.pop()).lower()}: nothing can be learned from them",
            where=f"{name}, column 'label'",
            fix="check how the labels were exported, or add rows with the other label",
        )
    if fmt.name in ("alpaca-farm", "auto-j") and len(records) >= _ENOUGH:
        pairs = [record for record in records if isinstance(record, Preference)]
        sides = {pair.choice for pair in pairs if pair.choice is not None}
        if len(sides) == 1 and any(pair.tie for pair in pairs):
            raise DataError(
                f"{len(pairs)} verdicts, some of them ties, and reply {2 - sides.pop()} never wins: the verdict column"
                " seems to count from another number",
                where=name,
                fix=f"write it as the format says ({fmt.needs})",
            )
