"""Where rows come from: a file, a directory of shards, a `datasets` directory, a declared entry, a hub id."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

from accord.data.files import is_data_file, read_file, suffix_of
from accord.data.hub import read_hub
from accord.data.llama_factory import Prepare, find_entry, is_llama_factory, load_info
from accord.data.rows import RawRow
from accord.errors import DataError

_INFO = "dataset_info.json"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_SHARD = re.compile(r"(.+?)-\d{5}-of-\d{5}$")
_SPLITS = ("train", "test", "validation", "valid", "val", "dev", "eval", "default")


@dataclass(frozen=True)
class Source:
    """An opened source of raw rows."""

    name: str
    """What is printed."""
    rows: Callable[[], Iterator[RawRow]]
    """Starts reading from the first row."""
    prepare: Prepare | None = None
    """Renames declared columns before a format is looked for (dataset_info.json)."""


def open_source(source: str | Path) -> Source:
    """Find what `source` names.

    Args:
        source: a data file, a directory, ``PATH:NAME`` (an entry of dataset_info.json or a directory's split),

            or a hub id ``owner/name`` with an optional ``:split``.

    Raises:
        DataError: nothing there, or several things and no name that says which.
    """
    try:
        return _open(source)
    except OSError as error:
        raise DataError(
            f"cannot look at the path: {error.strerror or error}",
            where=str(source),
            fix="check the path and its permissions",
        ) from error


def _open(source: str | Path) -> Source:
    text = str(source)
    path, name = Path(source), ""
    if not path.exists() and ":" in text:
        head, _, name = text.rpartition(":")
        path = Path(head)
    if path.is_dir():
        return _open_directory(path, name)
    if path.is_file():
        if path.name == _INFO:
            return _open_declared(path, name)
        if name:
            raise DataError(
                f"'{name}' names a part of a directory, but this is a file", where=text, fix=f"write {path}"
            )
        return Source(text, lambda: read_file(path))
    if path.exists():
        raise DataError("neither a file nor a directory", where=text, fix="give a data file or a directory")
    hub_id = str(path)
    if _HUB_ID.fullmatch(hub_id) and not is_data_file(path) and not path.parent.exists():
        return Source(text, lambda: read_hub(hub_id, name))
    raise DataError("no such file or directory", where=text, fix=_suggest(path))


def _suggest(path: Path) -> str:
    if path.parent.is_dir():
        near = get_close_matches(path.name, [entry.name for entry in path.parent.iterdir()], n=1)
        if near:
            return f"did you mean {path.parent / near[0]}?"
        return f"{path.parent} has no file of that name; check the path"
    return f"{path.parent} does not exist; check the path"


def _open_declared(info: Path, name: str) -> Source:
    entry = find_entry(info, name)
    inner = open_source(entry.source)
    return Source(f"{entry.source} ({_INFO} entry '{entry.name}')", inner.rows, entry.prepare)


def _open_directory(path: Path, name: str) -> Source:
    info = path / _INFO
    if info.is_file() and is_llama_factory(load_info(info)):
        return _open_declared(info, name)
    splits = _splits(path)
    if not splits:
        raise DataError(
            "the directory holds no data files",
            where=str(path),
            fix="give a data file, or a directory with .jsonl, .parquet or .arrow shards",
        )
    if not name and len(splits) == 1:
        name = next(iter(splits))
    if name not in splits:
        what = f"no split '{name}'" if name else f"{len(splits)} splits"
        raise DataError(
            f"{what} in the directory: {', '.join(sorted(splits))}",
            where=str(path),
            fix=f"write {path}:{'train' if 'train' in splits else min(splits)}",
        )
    files = splits[name]
    kinds = {suffix_of(file) for file in files}
    if len(kinds) > 1:
        raise DataError(
            f"files of several kinds in one directory: {', '.join(sorted(kinds))}",
            where=str(path),
            fix="name one file",
        )

    def rows() -> Iterator[RawRow]:
        for file in files:
            yield from read_file(file)

    shown = f"{path}:{name}" if name and name != "default" else str(path)
    return Source(shown, rows)


def _splits(path: Path) -> dict[str, list[Path]]:
    """Return the data files of a directory by split; "default" when the names tell of none."""
    state = path / "state.json"
    if state.is_file():
        return {"default": _saved_files(state)}
    names = path / "dataset_dict.json"
    if names.is_file():
        parts = cast(list[Any], _load_object(names).get("splits") or [])
        return {str(part): _saved_files(path / str(part) / "state.json") for part in parts}
    found: defaultdict[str, list[Path]] = defaultdict(list)
    for file in sorted(path.iterdir()):
        if file.is_file() and is_data_file(file) and not file.name.startswith(".") and file.name != _INFO:
            stem = file.name.split(".")[0]
            shard = _SHARD.match(stem)
            split = shard.group(1) if shard else stem if stem in _SPLITS else "default"
            found[split].append(file)
    if not found and (path / "data").is_dir():
        return _splits(path / "data")
    return dict(found)


def _load_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"cannot read {path.name}: {error}", where=f"{path}:1", fix="save the data set again"
        ) from error
    if not isinstance(value, dict):
        raise DataError(f"{path.name} is not a JSON object", where=f"{path}:1", fix="save the data set again")
    return cast(dict[str, Any], value)


def _saved_files(state: Path) -> list[Path]:
    """Return the Arrow files of a `datasets` directory in order, checked to be there and inside it."""
    entries = cast(list[Any], _load_object(state).get("_data_files") or [])
    files = [state.parent / Path(str(cast(dict[str, Any], entry).get("filename", ""))).name for entry in entries]
    missing = [file.name for file in files if not file.is_file()]
    if not files or missing:
        raise DataError(
            f"the saved data set is incomplete: {', '.join(missing) or 'no data files'}",
            where=f"{state}:1",
            fix="save or copy the data set again",
        )
    return files
