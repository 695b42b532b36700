"""Rows of a suite's file: each one is used or named by file and line with the reason; none is lost in silence."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from accord.data.files import read_file
from accord.data.read import BadRow
from accord.data.rows import Row, RowError, check_number, check_text
from accord.errors import DataError
from accord.evals.suites.base import Loaded

T = TypeVar("T")


def load(path: Path, parse: Callable[[Row, str], T], *, needs: str) -> Loaded[T]:
    """Read one file.

    Args:
        path: JSON, JSON lines, CSV, Parquet, Arrow; text may be gzipped.
        parse: makes an item of a row and its place ("file:line"), or raises RowError with the reason.
        needs: the columns, for the message when nothing fits.

    Raises:
        DataError: the file cannot be read, or no row of it can be used.
    """
    items: list[T] = []
    bad: list[BadRow] = []
    for raw in read_file(path):
        if raw.row is None:
            bad.append(BadRow(raw.where, raw.problem, raw.text))
            continue
        try:
            items.append(parse(raw.row, raw.where))
        except RowError as error:
            bad.append(BadRow(raw.where, str(error), raw.row))
    if not items:
        first = f"; {bad[0].where}: {bad[0].reason}" if bad else ""
        raise DataError(f"no row could be used{first}", where=str(path), fix=f"every row needs {needs}")
    return Loaded(tuple(items), tuple(bad), hash_of(path))


def columns_of(path: Path) -> set[str]:
    """Return the columns of the first row that can be parsed.

    Raises:
        DataError: the file cannot be read or has no such row.
    """
    for raw in read_file(path):
        if raw.row is not None:
            return set(map(str, raw.row))
    raise DataError("no row could be parsed", where=str(path), fix="give one JSON object a line, JSON, CSV or Parquet")


def hash_of(*paths: Path) -> str:
    """Return the first 12 hex digits of the SHA-256 of files, one after the other.

    Raises:
        DataError: one of them cannot be read.
    """
    digest = hashlib.sha256()
    for path in paths:
        try:
            with path.open("rb") as stream:
                for block in iter(lambda: stream.read(1 << 20), b""):
                    digest.update(block)
        except OSError as error:
            reason = error.strerror or str(error)
            raise DataError(f"cannot read the file: {reason}", where=str(path), fix="check the path") from error
    return digest.hexdigest()[:12]


def text_hash(*texts: str) -> str:
    """Return the first 12 hex digits of the SHA-256 of texts, each ended by a NUL."""
    return hashlib.sha256("".join(f"{text}\0" for text in texts).encode()).hexdigest()[:12]


def field(row: Row, *names: str) -> object:
    """Return the first of these columns that the row has.

    Raises:
        RowError: it has none of them.
    """
    for name in names:
        if name in row:
            return row[name]
    raise RowError(f"column '{names[0]}' is missing; it has {', '.join(map(str, row)) or 'none'}")


def text(row: Row, *names: str, empty: bool = False) -> str:
    """Return a column that must be text.

    Raises:
        RowError: it is missing, no usable text, or without a visible character although `empty` is False.
    """
    return check_text(field(row, *names), f"column '{_present(row, names)}'", empty=empty)


def number(row: Row, *names: str) -> float:
    """Return a column that must be a finite number (as JSON, or as the text of one in CSV).

    Raises:
        RowError: it is missing or no finite number.
    """
    return check_number(field(row, *names), f"column '{_present(row, names)}'")


def _present(row: Row, names: tuple[str, ...]) -> str:
    return next((name for name in names if name in row), names[0])


def whole(row: Row, *names: str) -> int:
    """Return a column that must be a whole number.

    Raises:
        RowError: it is missing or no whole number.
    """
    value = number(row, *names)
    if value != int(value):
        raise RowError(f"column '{names[0]}' is {value:g}, not a whole number")
    return int(value)


def texts(row: Row, name: str) -> tuple[str, ...]:
    """Return a column that must be a list of texts, at least one.

    Raises:
        RowError: it is not.
    """
    value = field(row, name)
    if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
        raise RowError(f"column '{name}' must be a list of texts with at least one")
    return tuple(str(item) for item in value)
