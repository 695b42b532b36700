"""Raw rows out of one file: JSON, JSON lines, CSV, Parquet, Arrow; gzip of any text one.

A row that cannot be parsed is yielded with its problem, so that the caller can count and report it. What
makes the rest of the file unreadable (damaged gzip, cut-off JSON, foreign encoding) is a DataError.
"""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from accord.data.rows import RawRow, Row
from accord.data.tables import read_arrow, read_parquet
from accord.errors import DataError

_BOM = b"\xef\xbb\xbf"
_FOREIGN = (
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)
_CONVERT = "convert it first: iconv -f {encoding} -t UTF-8 IN > OUT"


def suffix_of(path: Path) -> str:
    """Return the suffix that names the file's format, looking through a final ``.gz``."""
    name = path.name.lower()
    return Path(name.removesuffix(".gz")).suffix


def is_data_file(path: Path) -> bool:
    """Return whether the name of `path` says it is in a format `read_file` reads."""
    return suffix_of(path) in _READERS


def read_file(path: Path) -> Iterator[RawRow]:
    """Yield the rows of one file in order.

    Args:
        path: a .json, .jsonl, .ndjson, .csv, .tsv, .parquet or .arrow file; text formats may end in .gz.

    Yields:
        Rows with where they came from.

    Raises:
        DataError: unknown suffix, unreadable, empty or damaged file, or not UTF-8 as a whole.
    """
    reader = _READERS.get(suffix_of(path))
    if reader is None:
        raise DataError(
            f"unknown kind of data file: '{path.name}'",
            where=str(path),
            fix=f"use one of {', '.join(sorted(_READERS))} (text formats also with .gz)",
        )
    try:
        if path.stat().st_size == 0:
            raise DataError("the file is empty", where=f"{path}:1", fix="check the download or the export")
        yield from reader(path)
    except OSError as error:
        raise DataError(
            f"cannot read the file: {error.strerror or error}",
            where=str(path),
            fix="check the path, its permissions and that the file is complete",
        ) from error


@contextmanager
def _gzip_errors(path: Path, line: Callable[[], int]) -> Generator[None]:
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"the gzip data is damaged or cut off: {error}",
            where=f"{path}:{line()}",
            fix="download or compress the file again",
        ) from error


def _open(path: Path) -> IO[bytes]:
    with path.open("rb") as stream:
        magic = stream.read(2)
    if magic == b"\x1f\x8b":
        return cast(IO[bytes], gzip.open(path, "rb"))
    if path.name.lower().endswith(".gz"):
        raise DataError(
            "the name ends in .gz but the file is not gzip data",
            where=f"{path}:1",
            fix="rename it without .gz, or compress it",
        )
    return path.open("rb")


def _refuse_foreign(path: Path, head: bytes) -> None:
    for mark, encoding in _FOREIGN:
        if head.startswith(mark):
            raise DataError(
                f"the file is {encoding}, not UTF-8",
                where=f"{path}:1",
                fix=_CONVERT.format(encoding=encoding),
            )


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    number = 0
    with _open(path) as stream, _gzip_errors(path, lambda: number + 1):
        for line in stream:
            number += 1
            if number == 1:
                _refuse_foreign(path, line)
                line = line.removeprefix(_BOM)
            yield number, line
    if number == 0:
        raise DataError("the file is empty", where=f"{path}:1", fix="check the download or the export")


def _parse_object(text: str, *, last: bool) -> tuple[Row | None, str]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        cut = "; the file seems to be cut off here" if last else ""
        return None, f"not JSON: {error.msg} (column {error.colno}){cut}"
    except (ValueError, RecursionError) as error:
        return None, f"not usable JSON: {error}"
    return _as_row(value)


def _as_row(value: Any) -> tuple[Row | None, str]:
    if isinstance(value, dict):
        return cast(Row, value), ""
    return None, f"a JSON {type(value).__name__}, not an object with named columns"


def _read_jsonl(path: Path) -> Iterator[RawRow]:
    for number, line in _lines(path):
        where = f"{path}:{number}"
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            yield RawRow(where, None, _not_utf8(line, error), line.decode("utf-8", "backslashreplace"))
            continue
        if not text.strip():
            continue
        if "\x00" in text:
            yield RawRow(where, None, "contains a NUL byte", text)
            continue
        row, problem = _parse_object(text, last=not text.endswith("\n"))
        yield RawRow(where, row, problem, "" if row is not None else text.rstrip("\r\n"))


def _not_utf8(data: bytes, error: UnicodeDecodeError) -> str:
    return f"not UTF-8: byte 0x{data[error.start]:02x} at byte {error.start + 1} of the line"


def _read_text(path: Path) -> str:
    with _open(path) as stream, _gzip_errors(path, lambda: 1):
        data = stream.read()
    _refuse_foreign(path, data)
    data = data.removeprefix(_BOM)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"not UTF-8: byte 0x{data[error.start]:02x}",
            where=f"{path}:{line}",
            fix=_CONVERT.format(encoding="LATIN1") + " (with the encoding the file really has)",
        ) from error


def _read_json(path: Path) -> Iterator[RawRow]:
    text = _read_text(path)
    start = _skip_space(text, 0)
    if start == len(text):
        raise DataError("the file is empty", where=f"{path}:1", fix="check the download or the export")
    try:
        if text[start] == "[":
            yield from _array_rows(path, text, start, whole=True)
            return
        if text[start] == "{" and _is_json_lines(text, start):
            yield from _read_jsonl(path)
            return
        yield from _array_rows(path, text, _find_row_list(path, text, start), whole=False)
    except json.JSONDecodeError as error:
        raise DataError(
            f"not valid JSON: {error.msg} (column {error.colno})",
            where=f"{path}:{error.lineno}",
            fix="the file may be cut off: download or export it again, or write one object a line as .jsonl",
        ) from error
    except RecursionError as error:
        raise DataError("JSON nested too deeply", where=f"{path}:1", fix="flatten the file") from error


def _skip_space(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at


def _is_json_lines(text: str, start: int) -> bool:
    """Return whether a file called .json holds one object a line, as many exporters write it."""
    first, _, rest = text[start:].partition("\n")
    try:
        return isinstance(json.loads(first), dict) and bool(rest.strip())
    except json.JSONDecodeError:
        return False


def _array_rows(path: Path, text: str, start: int, *, whole: bool) -> Iterator[RawRow]:
    decoder = json.JSONDecoder()
    at, line, counted = _skip_space(text, start + 1), 1, 0
    while text[at : at + 1] != "]":
        line, counted = line + text.count("\n", counted, at), at
        value, at = decoder.raw_decode(text, at)
        row, problem = _as_row(value)
        yield RawRow(f"{path}:{line}", row, problem, "" if row is not None else str(value))
        at = _skip_space(text, at)
        if text[at : at + 1] == ",":
            at = _skip_space(text, at + 1)
        elif text[at : at + 1] != "]":
            raise json.JSONDecodeError("expecting ',' or ']'", text, at)
    if whole and _skip_space(text, at + 1) < len(text):
        raise json.JSONDecodeError("extra data after the list", text, at + 1)


def _find_row_list(path: Path, text: str, start: int) -> int:
    """Return the position of the list of rows inside a top-level JSON object."""
    decoder = json.JSONDecoder()
    json.loads(text)
    lists: dict[str, int] = {}
    at = _skip_space(text, start + 1)
    while text[start] == "{" and text[at : at + 1] == '"':
        key, at = decoder.raw_decode(text, at)
        begin = _skip_space(text, _skip_space(text, at) + 1)
        value, at = decoder.raw_decode(text, begin)
        if isinstance(value, list) and value and all(isinstance(item, dict) for item in cast(list[Any], value)):
            lists[key] = begin
        at = _skip_space(text, at)
        if text[at : at + 1] == ",":
            at = _skip_space(text, at + 1)
    if "data" in lists:
        return lists["data"]
    if len(lists) == 1:
        return next(iter(lists.values()))
    found = f"it has {len(lists)} lists of rows: {', '.join(lists)}" if lists else "it has none"
    raise DataError(
        f"a JSON file must hold one list of rows; {found}",
        where=f"{path}:1",
        fix='write a JSON array of objects, {"data": [...]}, or one object a line (.jsonl)',
    )


def _read_csv(path: Path) -> Iterator[RawRow]:
    delimiter = "\t" if suffix_of(path) == ".tsv" else ","
    csv.field_size_limit(2**31 - 1)  # the default of 128 KiB refuses long answers
    # Undecodable bytes become lone surrogates, so that one bad row does not end the file.
    text = (line.decode("utf-8", "surrogateescape") for _, line in _lines(path))
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    try:
        header: list[str] = next(reader, list[str]())
        if not any(header) or len(set(header)) != len(header):
            raise DataError(
                f"the first line must name the columns, each once: {header[:8]}",
                where=f"{path}:1",
                fix="add a header line",
            )
        line = reader.line_num + 1
        for cells in reader:
            where, line = f"{path}:{line}", reader.line_num + 1
            if not cells:
                continue
            if len(cells) != len(header):
                problem = f"{len(cells)} cells where the header has {len(header)} columns"
                yield RawRow(where, None, problem, delimiter.join(cells))
            elif any("\udc80" <= char <= "\udcff" for cell in cells if not cell.isascii() for char in cell):
                joined = delimiter.join(cells).encode("utf-8", "surrogateescape")
                yield RawRow(where, None, "not UTF-8", joined.decode("utf-8", "backslashreplace"))
            else:
                yield RawRow(where, dict(zip(header, cells, strict=True)))
    except csv.Error as error:
        raise DataError(
            f"not valid CSV: {error}",
            where=f"{path}:{reader.line_num}",
            fix="check for an unclosed quote or a file that is cut off",
        ) from error


_READERS: dict[str, Callable[[Path], Iterator[RawRow]]] = {
    ".json": _read_json,
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".parquet": read_parquet,
    ".arrow": read_arrow,
}
