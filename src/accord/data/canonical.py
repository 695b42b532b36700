"""Accord's own records as rows: what `write_records` wrote is read back equal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from pydantic import ValidationError

from accord.data.conversations import last_role
from accord.data.rows import Columns, Format, Row, RowError, check_text, plain
from accord.types import Demonstration, Document, Preference, Prompt, Record, Stepwise, Unpaired

KINDS: tuple[type[Record], ...] = (Preference, Unpaired, Stepwise, Demonstration, Prompt, Document)


def to_row(record: Record, *, flat: bool) -> Row:
    """Return `record` as JSON values.

    Args:
        record: any record.
        flat: write every `meta` as JSON text, which Parquet needs because its columns have one type.
    """
    row = plain(record.model_dump(mode="json"))
    return cast(Row, _meta(row, encode=True)) if flat else row


def _meta(value: Any, *, encode: bool) -> Any:
    # Called for lists and mappings only: files have tens of thousands of rows, and most values are neither.
    if isinstance(value, list):
        items = cast(list[Any], value)
        return [_meta(item, encode=encode) if isinstance(item, dict | list) else item for item in items]
    return {
        key: _meta_field(item, encode)
        if key == "meta"
        else (_meta(item, encode=encode) if isinstance(item, dict | list) else item)
        for key, item in cast(Mapping[str, Any], value).items()
    }


def _meta_field(value: Any, encode: bool) -> Any:
    if encode:
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError as error:
            raise RowError(f"meta is not JSON: {error}") from error
    return value


def _format(kind: type[Record]) -> Format:
    def match(row: Row) -> bool:
        required = {name for name, field in kind.model_fields.items() if field.is_required()}
        if not required <= row.keys() or not isinstance(row.get("meta"), dict | str):
            return False
        if "prompt" in required:
            prompt = row["prompt"]
            return isinstance(prompt, dict) and "messages" in prompt
        if kind in (Demonstration, Prompt):
            return (last_role(row["messages"]) == "assistant") == (kind is Demonstration)
        return True

    def convert(columns: Columns) -> Record:
        columns.used.update({name: name for name in columns.row})
        try:
            record = kind.model_validate(columns.row)
        except ValidationError:  # what is wrong may be that a `meta` is text, as in Parquet
            record = kind.model_validate(_meta(columns.row, encode=False))
        _check(record)
        return record

    return Format(f"accord-{kind.__name__.lower()}", kind, ", ".join(kind.model_fields), match, convert)


def _check(record: Record) -> None:
    """Apply what every imported row must satisfy and the record types alone do not."""
    if isinstance(record, Preference):
        for number, candidate in enumerate(record.candidates, 1):
            check_text(candidate.text, f"reply {number}")
        alike = len({candidate.text for candidate in record.candidates}) == 1
        if alike and not (record.tie or record.both_bad):
            raise RowError("the replies are identical, although one is said to be better")
    elif isinstance(record, Unpaired):
        check_text(record.completion, "the completion")
    elif isinstance(record, Document):
        check_text(record.text, "the text")


FORMATS = tuple(_format(kind) for kind in KINDS)
