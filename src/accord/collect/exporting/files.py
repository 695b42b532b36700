# pyright: basic
# (pyarrow has no type stubs)
"""Export folders: data files a split, a card, checksums; the same labels always make the same bytes.

| format | data files | read with |
|---|---|---|
| jsonl, hh | `data/train.jsonl` | anything, `datasets.load_dataset(folder)` |
| parquet | `data/train-00000-of-00001.parquet` | pandas, DuckDB, `datasets.load_dataset(folder)` |
| dataset | the same, and `train/data-00000-of-00001.arrow` with `datasets`' own notes | `load_from_disk` as well |

`README.md` says in its front matter where the data files are, which is how `load_dataset` finds them. `SHA256SUMS` is
checked with `sha256sum -c SHA256SUMS`. A folder appears under its name only when it is complete.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from accord.collect.exporting.options import FileFormat, Kind
from accord.collect.exporting.rows import Table
from accord.data.tables import record_types, typed
from accord.data.write import atomic_file
from accord.errors import DataError
from accord.types import Preference

SUMS = "SHA256SUMS"
CARD = "README.md"
_TEXT = pa.string()
_TURNS = pa.list_(pa.struct({"role": _TEXT, "content": _TEXT}))
_TYPES: dict[str, Any] = {
    **dict.fromkeys(("prompt", "chosen", "rejected", "completion", "messages"), _TURNS),
    **dict.fromkeys(("margin", "soft", "weight"), pa.float64()),
    **dict.fromkeys(("responses", "models"), pa.list_(_TEXT)),
    "ranks": pa.list_(pa.int64()),
    "label": pa.bool_(),
}
"""Arrow types of the columns in `rows.py`; what is not listed is text."""


@dataclass(frozen=True)
class Written:
    """What was written."""

    path: Path
    files: tuple[str, ...]
    """Relative to `path`, sorted; the card and the checksums included."""
    sha256: str
    """Of the checksums of the data files: the content of the export, whatever it is called."""
    rows: dict[str, int]
    """Split -> rows."""


def suffix(form: FileFormat) -> str:
    """Return how a data file of a format ends."""
    return ".parquet" if form in ("parquet", "dataset") else ".jsonl"


def data_file(split: str, form: FileFormat) -> str:
    """Return the name of the data file of a split, relative to the folder."""
    return f"data/{split}-00000-of-00001.parquet" if suffix(form) == ".parquet" else f"data/{split}.jsonl"


def write_folder(
    folder: Path,
    kind: Kind,
    form: FileFormat,
    splits: Mapping[str, Table],
    card: str,
    *,
    extra: Mapping[str, str] | None = None,
) -> Written:
    """Write an export folder.

    Args:
        folder: must not exist, or be empty, or hold an earlier export, which is replaced.
        kind: what the rows are.
        form: how to write them.
        splits: name -> rows.
        card: text of README.md.
        extra: further text files by name.

    Raises:
        DataError: the folder holds something else, or cannot be written.
    """
    _check_free(folder)
    temporary = folder.parent / f".{folder.name}.{secrets.token_hex(4)}.tmp"
    try:
        for split, rows in splits.items():
            _write_file(temporary / data_file(split, form), kind, rows)
            if form == "dataset":
                _write_saved(temporary / split, kind, split, rows)
        if form == "dataset":
            _json(temporary / "dataset_dict.json", {"splits": list(splits)})
        for name, text in (extra or {}).items():
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            _text(temporary / name, text)
        sums = _sums(temporary)
        content = hashlib.sha256("".join(f"{name}\0{value}\n" for name, value in sums.items()).encode()).hexdigest()
        _text(temporary / CARD, card)
        sums[CARD] = hashlib.sha256(card.encode()).hexdigest()
        _text(temporary / SUMS, "".join(f"{value}  {name}\n" for name, value in sorted(sums.items())))
        _replace(temporary, folder)
    except OSError as error:
        raise _cannot(folder, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    counts = {split: len(rows.rows) for split, rows in splits.items()}
    return Written(folder, tuple(sorted([*sums, SUMS])), content, counts)


def write_one(path: Path, kind: Kind, rows: Table, card: str) -> Written:
    """Write one data file and its card beside it (`labels.jsonl` and `labels.README.md`).

    Raises:
        DataError: an unknown suffix, or the file cannot be written.
    """
    if path.suffix not in (".jsonl", ".parquet"):
        raise DataError(f"cannot write '{path.name}'", where=str(path), fix="use .jsonl or .parquet, or name a folder")
    beside = path.with_name(f"{path.stem}.{CARD}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_file(path, kind, rows)
        _text(beside, card)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise _cannot(path, error) from error
    return Written(path.parent, tuple(sorted([path.name, beside.name])), digest, {"train": len(rows.rows)})


def _check_free(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists() and not (folder / SUMS).is_file():
        raise DataError(
            "there is something that is no earlier export",
            where=str(folder),
            fix="name a new folder, or one that an export made",
        )


def _replace(temporary: Path, folder: Path) -> None:
    old = None
    if folder.exists():
        old = folder.parent / f".{folder.name}.{secrets.token_hex(4)}.old"
        folder.rename(old)
    temporary.rename(folder)
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)


def _cannot(path: Path, error: OSError) -> DataError:
    return DataError(
        f"cannot write the export: {error.strerror or error}",
        where=str(path),
        fix="check the directory's permissions and the space left on the disk",
    )


def _write_file(path: Path, kind: Kind, rows: Table) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as stream:
        if path.suffix == ".parquet":
            pq.write_table(_arrow(kind, rows), stream)
            return
        for row in rows.rows:
            stream.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")


def _arrow(kind: Kind, rows: Table) -> Any:
    if kind == "preferences":  # `meta` is text already, at every level
        return typed(rows.rows, record_types(Preference.model_fields))
    types = {name: _TYPES.get(name, _TEXT) for name in rows.columns}
    if kind == "annotations":
        types = annotation_types(rows.columns)
    return typed(rows.flat(), types)


def annotation_types(columns: tuple[str, ...]) -> dict[str, Any]:
    """Return the Arrow types of raw annotations; what is nested is JSON text."""
    numbers = dict.fromkeys(("dwell_ms", "seen_ms", "number", "guideline_version"), pa.int64())
    flags = dict.fromkeys(("extra", "is_gold"), pa.bool_())
    known = {**numbers, **flags, "shown_order": pa.list_(pa.int64()), "propensity": pa.float64()}
    return {name: known.get(name, _TEXT) for name in columns}


def _write_saved(folder: Path, kind: Kind, split: str, rows: Table) -> None:
    """Write what `Dataset.save_to_disk` writes, without `datasets`: an Arrow stream and two small notes."""
    folder.mkdir(parents=True)
    name = "data-00000-of-00001.arrow"
    arrow = _arrow(kind, rows)
    with pa.OSFile(str(folder / name), "wb") as sink, pa.ipc.new_stream(sink, arrow.schema) as writer:
        writer.write_table(arrow)
    digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    state = {
        "_data_files": [{"filename": name}],
        "_fingerprint": digest[:16],
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": split,
    }
    _json(folder / "state.json", state)
    _json(folder / "dataset_info.json", {"citation": "", "description": "", "homepage": "", "license": ""})


def _sums(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _json(path: Path, value: Any) -> None:
    _text(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


def _text(path: Path, text: str) -> None:
    with path.open("wb") as stream:
        stream.write(text.encode())
        stream.flush()
        os.fsync(stream.fileno())
