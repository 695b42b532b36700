"""Write records: Accord's own JSONL and Parquet, read back equal, and the columns TRL's trainers expect."""

from __future__ import annotations

import gzip
import json
import os
import secrets
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Literal

from accord.data.canonical import KINDS, to_row
from accord.data.files import suffix_of
from accord.data.tables import write_parquet
from accord.errors import DataError
from accord.types import Demonstration, Document, Message, Preference, Prompt, Record, Stepwise, Unpaired


@contextmanager
def atomic_file(path: Path) -> Generator[IO[bytes]]:
    """Open a file that appears under its name only once it is complete and on disk.

    Args:
        path: final name; missing parent directories are made.

    Raises:
        DataError: the directory or file cannot be written, or the disk is full.
    """
    temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}.tmp"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        raise DataError(
            f"cannot write the file: {error.strerror or error}",
            where=str(path),
            fix="check the directory's permissions and the space left on the disk",
        ) from error
    finally:
        with suppress(OSError):  # already renamed, or never made
            temporary.unlink()


def write_records(records: Iterable[Record], path: str | Path) -> int:
    """Write records in Accord's own form, one row a record; `read` gives them back equal.

    Args:
        records: any records; one kind only for Parquet.
        path: .jsonl, .jsonl.gz or .parquet.

    Returns:
        Rows written.

    Raises:
        DataError: no records, unknown suffix, mixed kinds, not writable.
    """
    items = list(records)
    target = Path(path)
    kinds = {type(item) for item in items}
    if len(kinds) != 1 or not kinds <= set(KINDS):
        found = ", ".join(sorted(kind.__name__ for kind in kinds)) or "none"
        raise DataError(
            f"a data file holds records of one kind; given: {found}",
            where=str(target),
            fix=f"write one file a kind ({', '.join(kind.__name__ for kind in KINDS)})",
        )
    if target.suffix.lower() == ".parquet":
        kind = kinds.pop()
        with atomic_file(target) as stream:
            write_parquet((to_row(item, flat=True) for item in items), kind.model_fields, stream)
        return len(items)
    return _write_jsonl((to_row(item, flat=False) for item in items), target)


def export_trl(records: Iterable[Record], path: str | Path, *, ties: Literal["error", "drop"] = "error") -> int:
    """Write records with the columns TRL's trainers expect (TRL docs, dataset_formats).

    A preference becomes one row for every pair its verdict orders; `margin`, `soft` and `annotator` go along
    as columns, and so does everything in `meta`.

    Args:
        records: records of one or more kinds with the same columns.
        path: .jsonl or .jsonl.gz.
        ties: what to do with preferences that order no pair, which TRL cannot hold.

    Returns:
        Rows written.

    Raises:
        DataError: ties with "error", nothing to write, meta names that collide with columns, not writable.
    """
    target = Path(path)
    rows: list[dict[str, Any]] = []
    tied = 0
    for record in records:
        made = list(_trl_rows(record, target))
        tied += not made
        rows.extend(made)
    if tied and ties == "error":
        raise DataError(
            f"{tied} preferences order no pair (tie, both bad, or soft one half); TRL has no column for that",
            where=str(target),
            fix='export with ties="drop", or keep them with write_records',
        )
    if not rows:
        raise DataError("no rows to write", where=str(target), fix="check what was selected")
    return _write_jsonl(rows, target)


def _write_jsonl(rows: Iterable[Mapping[str, Any]], target: Path) -> int:
    if suffix_of(target) not in (".jsonl", ".ndjson"):
        raise DataError(f"cannot write '{target.name}'", where=str(target), fix="use .jsonl, .jsonl.gz or .parquet")
    count = 0
    with atomic_file(target) as raw:
        zipped = target.name.lower().endswith(".gz")
        # No name and no time inside, so that the same records make the same bytes.
        stream: IO[bytes] = gzip.GzipFile("", "wb", fileobj=raw, mtime=0) if zipped else raw  # type: ignore[assignment]
        for row in rows:
            stream.write(json.dumps(row, ensure_ascii=False).encode("utf-8") + b"\n")
            count += 1
        if zipped:
            stream.close()
    return count


def ordered_pairs(preference: Preference) -> list[tuple[int, int]]:
    """Return (better, worse) candidate indices for every pair the verdict orders."""
    indices = range(len(preference.candidates))
    if preference.choice is not None:
        return [(preference.choice, other) for other in indices if other != preference.choice]
    if preference.ranking is not None:
        groups = preference.ranking
        return [
            (a, b) for level, best in enumerate(groups) for worse in groups[level + 1 :] for a in best for b in worse
        ]
    if preference.soft is None or preference.soft == 0.5 or preference.tie or preference.both_bad:
        return []
    return [(0, 1)] if preference.soft > 0.5 else [(1, 0)]


def _turns(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [message.model_dump() for message in messages]


def _reply(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def _trl_rows(record: Record, target: Path) -> Iterator[dict[str, Any]]:
    if isinstance(record, Preference):
        pairs = ordered_pairs(record)
        for better, worse in pairs:
            row_id = record.id if len(pairs) == 1 else f"{record.id}/{better}-{worse}"
            yield _with_meta(_preference_row(record, row_id, better, worse), record, target)
    elif isinstance(record, Document):
        yield _with_meta({"id": record.id, "text": record.text}, record, target)
    elif isinstance(record, Demonstration):
        yield _with_meta({"id": record.id, "messages": _turns(record.messages)}, record, target)
    elif isinstance(record, Prompt):
        yield _with_meta({"id": record.id, "prompt": _turns(record.messages)}, record, target)
    elif isinstance(record, Unpaired):
        row = {"completion": _reply(record.completion), "label": record.label}
        yield _with_meta({"id": record.id, "prompt": _turns(record.prompt.messages), **row}, record, target)
    elif isinstance(record, Stepwise):
        messages = record.prompt.messages
        plain = len(messages) == 1 and messages[0].role == "user"
        prompt = messages[0].content if plain else _turns(messages)
        row = {"completions": list(record.completions), "labels": list(record.labels)}
        yield _with_meta({"id": record.id, "prompt": prompt, **row}, record, target)
    else:
        raise DataError(
            f"{type(record).__name__} has no TRL form",
            where=str(target),
            fix="export data records, not run results",
        )


def _preference_row(record: Preference, row_id: str, better: int, worse: int) -> dict[str, Any]:
    good, bad = record.candidates[better], record.candidates[worse]
    soft = None if record.soft is None else record.soft if better == 0 else 1 - record.soft
    optional = {
        "margin": record.strength,
        "soft": soft,
        "chosen_model": good.model or None,
        "rejected_model": bad.model or None,
        "chosen_score": good.meta.get("score"),
        "rejected_score": bad.meta.get("score"),
        "annotator": record.annotator or None,
        "group": record.group or None,
    }
    return {
        "id": row_id,
        "prompt": _turns(record.prompt.messages),
        "chosen": _reply(good.text),
        "rejected": _reply(bad.text),
        **{name: value for name, value in optional.items() if value is not None},
    }


def _with_meta(
    row: dict[str, Any],
    record: Preference | Document | Demonstration | Prompt | Unpaired | Stepwise,
    target: Path,
) -> dict[str, Any]:
    clash = sorted(row.keys() & record.meta.keys())
    if clash:
        raise DataError(
            f"record {record.id}: meta and columns share the name {', '.join(clash)}",
            where=str(target),
            fix="rename it in meta, or use write_records",
        )
    return {**row, **record.meta}
