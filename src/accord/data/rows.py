"""What a converter sees of one row: typed access to columns that records which column went where."""

from __future__ import annotations

import base64
import datetime
import decimal
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

from accord.types import Record

Row = dict[str, Any]

_NESTED = frozenset(
    (
        *("messages", "conversations", "prompt", "chosen", "rejected", "completion", "completions", "labels"),
        *("responses", "ranks", "models", "context", "turns", "history", "conversation_a", "conversation_b"),
        "reward_model",
    )
)
_TYPE_NAMES: tuple[tuple[type, str], ...] = (
    (type(None), "null"),
    (dict, "an object"),
    (list, "a list"),
    (bool, "a boolean"),
    (int, "a number"),
    (float, "a number"),
    (str, "text"),
)
_AS_IS = frozenset((str, int, bool, type(None)))
"""Types that JSON carries as they are; almost every value has one of them."""
_TRUE = (True, 1, "true", "True", "TRUE", "1", "1.0")
_FALSE = (False, 0, "false", "False", "FALSE", "0", "0.0")


class RawRow(NamedTuple):
    """One row as the file has it, or why it could not be parsed."""

    where: str
    """"file:line"; for Parquet and Arrow the row number counted from 1."""
    row: Row | None
    """The parsed object; None when `problem` says why there is none."""
    problem: str = ""
    """Why the row could not be parsed."""
    text: str = ""
    """What the file had there, kept for the list of rejected rows when it could not be parsed."""


class RowError(ValueError):
    """Why one row cannot be used; the reader collects it with the row's file and line."""


@dataclass(frozen=True)
class Format:
    """One way rows can look, and how such a row becomes a record."""

    name: str
    """Name printed to the user and used in the documentation."""
    kind: type[Record]
    """Record it makes."""
    needs: str
    """The columns it needs, for messages."""
    match: Callable[[Row], bool]
    """Whether a row looks like this format."""
    convert: Callable[[Columns], Record]
    """Makes the record; raises RowError or pydantic's ValidationError for a row that cannot be used."""
    unpack: Callable[[Row], Sequence[Row]] = lambda row: (row,)
    """Parts of a row that holds several judgements, each of which `convert` makes a record of; raises RowError."""


def has(row: Row, *names: str) -> bool:
    """Return whether every column in `names` is there and not null."""
    return all(row.get(name) is not None for name in names)


def has_list(row: Row, name: str, *keys: str) -> bool:
    """Return whether column `name` is a non-empty list, of objects with all of `keys` if any are given."""
    value = row.get(name)
    if not isinstance(value, list) or not value:
        return False
    return not keys or all(
        isinstance(item, dict) and all(key in item for key in keys) for item in cast(list[Any], value)
    )


def unpack_nested(row: Row) -> Row:
    """Return `row` with lists and objects that CSV or Parquet carried as JSON text decoded."""
    changed: Row = {}
    for name in _NESTED & row.keys():
        value = row[name]
        if isinstance(value, str) and value.lstrip()[:2] in ("[{", "[[", '["', "[t", "[f", "[0", "[1", '{"'):
            try:
                decoded = json.loads(value)
            except ValueError:
                continue
            # A prompt may be text that happens to be JSON; there only a clear message list is decoded.
            if name in ("prompt", "chosen", "rejected", "completion") and not _looks_like_messages(decoded):
                continue
            changed[name] = decoded
    return {**row, **changed} if changed else row


def _looks_like_messages(value: Any) -> bool:
    items = cast(list[Any], value if isinstance(value, list) else [value])
    return bool(items) and all(
        isinstance(item, dict) and ({"role", "content"} <= item.keys() or {"from", "value"} <= item.keys())
        for item in items
    )


def check_text(value: Any, what: str, *, empty: bool = False) -> str:
    """Return `value` if it is usable text.

    Args:
        value: anything found in a row.
        what: how the message names it, e.g. "column 'chosen'".
        empty: accept text without any visible character.

    Raises:
        RowError: not text, NUL characters, lone surrogates, or empty.
    """
    if not isinstance(value, str):
        raise RowError(f"{what} is {_type_name(value)}, not text")
    if "\x00" in value:
        raise RowError(f"{what} contains a NUL character")
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise RowError(f"{what} contains half a surrogate pair at character {error.start + 1}") from error
    if not empty and not value.strip():
        raise RowError(f"{what} is empty")
    return value


def check_number(value: Any, what: str) -> float:
    """Return `value` as a finite float; text such as CSV cells is converted.

    Raises:
        RowError: not a number, NaN or infinite.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str | decimal.Decimal):
        raise RowError(f"{what} is {_type_name(value)}, not a number")
    try:
        number = float(value)
    except ValueError:
        raise RowError(f"{what} is '{str(value)[:40]}', not a number") from None
    if not math.isfinite(number):
        raise RowError(f"{what} is {number}, not a finite number")
    return number


def check_bool(value: Any, what: str) -> bool:
    """Return `value` as a boolean; 0, 1 and the words true and false count.

    Raises:
        RowError: anything else.
    """
    if isinstance(value, bool | int | float | str):
        if value in _TRUE:
            return True
        if value in _FALSE:
            return False
    raise RowError(f"{what} is {str(value)[:40]!r}, not true or false")


def check_list(value: Any, what: str) -> list[Any]:
    """Return `value` if it is a non-empty list.

    Raises:
        RowError: anything else.
    """
    if not isinstance(value, list | tuple):
        raise RowError(f"{what} is {_type_name(value)}, not a list")
    items = list(cast(Sequence[Any], value))
    if not items:
        raise RowError(f"{what} is an empty list")
    return items


def _object(value: Any) -> dict[str, Any] | None:
    """Return a JSON object, or text that holds one, as a dictionary; None for anything else."""
    if isinstance(value, str) and value.startswith("{"):
        try:
            value = json.loads(value)
        except ValueError:
            return None
    return cast(dict[str, Any], value) if isinstance(value, dict) else None


def _type_name(value: Any) -> str:
    for kind, name in _TYPE_NAMES:
        if isinstance(value, kind):
            return name
    return type(value).__name__


def content_id(prefix: str, *parts: Any) -> str:
    """Return an id made from content alone: the same in every file and on every machine."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=_dump)
    return f"{prefix}-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


def _dump(value: Any) -> Any:
    if isinstance(value, Record):
        return value.model_dump(mode="json")
    raise TypeError(f"{type(value).__name__} has no content id")


def plain(value: Any) -> Any:
    """Return `value` as JSON can carry it: dates as ISO text, bytes as base64, NaN as null."""
    if type(value) in _AS_IS:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict | Mapping):  # a dict is told at once; the abstract class takes longer to ask
        pairs = cast(Mapping[Any, Any], value).items()
        return {str(key): item if type(item) in _AS_IS else plain(item) for key, item in pairs}
    if isinstance(value, list | tuple):
        return [plain(item) for item in cast(Sequence[Any], value)]
    if isinstance(value, str | int):  # subclasses, such as members of an enumeration
        return value
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return float(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    return str(value)


class Columns:
    """One row during conversion; remembers which column became which field."""

    def __init__(self, row: Row, extra: Row | None = None) -> None:
        """Wrap a row.

        Args:
            row: the columns a converter may read.
            extra: columns that only go to `meta`.
        """
        self.row = row
        self.extra = extra or {}
        self.used: dict[str, str] = {}

    def has(self, *names: str) -> bool:
        """Return whether all of `names` are there and not null."""
        return has(self.row, *names)

    def first(self, *names: str) -> str | None:
        """Return the first of `names` that is there and not null."""
        return next((name for name in names if self.has(name)), None)

    def get(self, name: str, field: str) -> Any:
        """Return the value of a column and record that it became `field`.

        Raises:
            RowError: the column is missing or null.
        """
        if name not in self.row:
            raise RowError(f"column '{name}' is missing")
        if self.row[name] is None:
            raise RowError(f"column '{name}' is null")
        self.used[name] = field
        return self.row[name]

    def text(self, name: str, field: str, *, empty: bool = False) -> str:
        """Return a column as text; see `check_text`."""
        return check_text(self.get(name, field), f"column '{name}'", empty=empty)

    def number(self, name: str, field: str) -> float:
        """Return a column as a finite number; see `check_number`."""
        return check_number(self.get(name, field), f"column '{name}'")

    def list(self, name: str, field: str) -> list[Any]:
        """Return a column as a non-empty list; see `check_list`."""
        return check_list(self.get(name, field), f"column '{name}'")

    def optional_text(self, name: str, field: str) -> str:
        """Return a column as text, or "" when it is missing or null; numbers are accepted (annotator ids)."""
        if not self.has(name):
            return ""
        value = self.get(name, field)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return str(value)
        return check_text(value, f"column '{name}'", empty=True)

    def optional_number(self, name: str, field: str) -> float | None:
        """Return a column as a number, or None when it is missing, null or an empty CSV cell."""
        return self.number(name, field) if self.has(name) and self.row[name] != "" else None

    def id(self) -> str:
        """Return the id the file gives this row, or ""."""
        return self.optional_text("id", "id")

    def meta(self) -> dict[str, Any]:
        """Return the columns no field took, as JSON can carry them; an object in the column `meta` is unfolded."""
        rest = {**self.extra, **{name: value for name, value in self.row.items() if name not in self.used}}
        kept = {str(name): plain(value) for name, value in rest.items() if value is not None}
        nested = _object(kept.get("meta"))
        if nested is None:
            return kept
        if "meta" in self.row:
            self.used["meta"] = "meta"
        del kept["meta"]
        return {**nested, **kept}
