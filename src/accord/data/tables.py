# pyright: basic
# (pyarrow has no type stubs)
"""Parquet and Arrow files, row by row."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from accord.data.rows import RawRow
from accord.errors import DataError

_TEXT = pa.string()
_MESSAGES = pa.list_(pa.struct({"role": _TEXT, "content": _TEXT}))
# One type a field name, whatever the record; every `meta` is JSON text, since its keys differ by row.
_FIELDS = {
    "id": _TEXT,
    "text": _TEXT,
    "messages": _MESSAGES,
    "prompt": pa.struct({"id": _TEXT, "messages": _MESSAGES, "meta": _TEXT}),
    "candidates": pa.list_(pa.struct({"text": _TEXT, "model": _TEXT, "meta": _TEXT})),
    "choice": pa.int64(),
    "ranking": pa.list_(pa.list_(pa.int64())),
    "tie": pa.bool_(),
    "both_bad": pa.bool_(),
    "soft": pa.float64(),
    "strength": pa.float64(),
    "annotator": _TEXT,
    "group": _TEXT,
    "source": _TEXT,
    "order_shown": pa.list_(pa.int64()),
    "seconds": pa.float64(),
    "completion": _TEXT,
    "label": pa.bool_(),
    "completions": pa.list_(_TEXT),
    "labels": pa.list_(pa.bool_()),
    "meta": _TEXT,
}


@contextmanager
def _damage(path: Path) -> Generator[None]:
    try:
        yield
    except pa.ArrowException as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"damaged, or not the kind of file its name says: {reason[:200]}",
            where=f"{path}:1",
            fix="download or export the file again",
        ) from error


def read_parquet(path: Path) -> Iterator[RawRow]:
    """Yield the rows of a Parquet file; the place of a row is its number, counted from 1.

    Raises:
        DataError: damaged file.
    """
    with _damage(path), pq.ParquetFile(path) as table:
        number = 0
        for batch in table.iter_batches(batch_size=1024):
            yield from _batch_rows(path, batch, number)
            number += batch.num_rows


def read_arrow(path: Path) -> Iterator[RawRow]:
    """Yield the rows of an Arrow file, stream form (as `datasets` writes it) or random-access form.

    Raises:
        DataError: damaged file.
    """
    with _damage(path), pa.memory_map(str(path)) as source:
        number = 0
        for batch in _arrow_batches(source):
            yield from _batch_rows(path, batch, number)
            number += batch.num_rows


def _arrow_batches(source: Any) -> Iterator[Any]:
    random_access = source.read(6) == b"ARROW1"
    source.seek(0)
    if not random_access:
        yield from pa.ipc.open_stream(source)
        return
    reader = pa.ipc.open_file(source)
    for index in range(reader.num_record_batches):
        yield reader.get_batch(index)


def _batch_rows(path: Path, batch: Any, before: int) -> Iterator[RawRow]:
    for index in range(batch.num_rows):
        where = f"{path}:{before + index + 1}"
        try:
            yield RawRow(where, batch.slice(index, 1).to_pylist()[0])
        except UnicodeDecodeError as error:
            yield RawRow(where, None, f"not UTF-8: {error.reason}")


def write_parquet(rows: Iterable[Mapping[str, Any]], columns: Iterable[str], stream: IO[bytes]) -> None:
    """Write rows of Accord's own records.

    Args:
        rows: `canonical.to_row(record, flat=True)`.
        columns: the fields of that kind of record.
        stream: where to.
    """
    pq.write_table(typed(rows, record_types(columns)), stream)


def typed(rows: Iterable[Mapping[str, Any]], types: Mapping[str, Any]) -> Any:
    """Return rows as an Arrow table.

    Args:
        rows: values by column.
        types: column -> Arrow type.
    """
    return pa.Table.from_pylist([dict(row) for row in rows], schema=pa.schema(dict(types)))


def record_types(columns: Iterable[str]) -> dict[str, Any]:
    """Return the Arrow types of fields of Accord's own records."""
    return {name: _FIELDS[name] for name in columns}
