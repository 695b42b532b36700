"""LLaMA-Factory's dataset_info.json: file name, formatting, columns and tags, honoured as declared."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

from accord.data.rows import Row, RowError
from accord.errors import DataError

Prepare = Callable[[Row], tuple[Row, Row]]
"""Row as the file has it -> (columns for the converter, columns only for meta); raises RowError."""

# What LLaMA-Factory assumes when `columns` does not say otherwise: its name -> ours and the file's default.
_ALPACA = {
    "prompt": "instruction",
    "query": "input",
    "response": "output",
    "history": "history",
    "system": "system",
    "chosen": "chosen",
    "rejected": "rejected",
    "kto_tag": "kto_tag",
}
_ALPACA_DEFAULTS = {"prompt": "instruction", "query": "input", "response": "output"}
_SHAREGPT = {
    "messages": "conversations",
    "system": "system",
    "chosen": "chosen",
    "rejected": "rejected",
    "kto_tag": "kto_tag",
}
_SHAREGPT_DEFAULTS = {"messages": "conversations"}
_TAGS = {
    "user_tag": "user",
    "assistant_tag": "assistant",
    "observation_tag": "tool",
    "function_tag": "assistant",
    "system_tag": "system",
}
_TAG_DEFAULTS = {
    "role_tag": "from",
    "content_tag": "value",
    "user_tag": "human",
    "assistant_tag": "gpt",
    "observation_tag": "observation",
    "function_tag": "function_call",
    "system_tag": "system",
}


@dataclass(frozen=True)
class Entry:
    """One data set declared in a dataset_info.json."""

    name: str
    """Its key in the file."""
    source: str
    """File, directory or hub id it points to."""
    prepare: Prepare
    """Brings a row into the columns our formats know."""


def is_llama_factory(info: Any) -> bool:
    """Return whether a dataset_info.json has LLaMA-Factory's form and not that of `datasets`."""
    if not isinstance(info, dict) or not info:
        return False
    keys = {"file_name", "hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name"}
    return all(isinstance(entry, dict) and keys & entry.keys() for entry in cast(dict[str, Any], info).values())


def load_info(path: Path) -> Any:
    """Return the content of a dataset_info.json.

    Raises:
        DataError: unreadable or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise DataError(
            f"not valid JSON: {error.msg}", where=f"{path}:{error.lineno}", fix="repair dataset_info.json"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError("not UTF-8", where=f"{path}:1", fix="save dataset_info.json as UTF-8") from error
    except OSError as error:
        raise DataError(
            f"cannot read the file: {error.strerror}", where=str(path), fix="check its permissions"
        ) from error


def find_entry(path: Path, name: str) -> Entry:
    """Return the data set `name` of the dataset_info.json at `path`, or its only one when `name` is "".

    Raises:
        DataError: not LLaMA-Factory's form, no such entry, several and no name, or an unusable entry.
    """
    info = load_info(path)
    if not is_llama_factory(info):
        raise DataError(
            "not a LLaMA-Factory dataset_info.json (every entry needs file_name or hf_hub_url)",
            where=f"{path}:1",
            fix="point to the data file itself",
        )
    entries = cast(dict[str, dict[str, Any]], info)
    if not name and len(entries) == 1:
        name = next(iter(entries))
    if name not in entries:
        near = get_close_matches(name, entries, n=1) or list(entries)[:1]
        what = f"no data set '{name}' declared" if name else f"{len(entries)} data sets declared"
        raise DataError(
            f"{what}: {', '.join(list(entries)[:12])}",
            where=f"{path}:1",
            fix=f"write {path.parent}:{near[0]}",
        )
    entry = entries[name]
    where = f"{path}:1, entry '{name}'"
    if "file_name" in entry:
        source = str(path.parent / str(entry["file_name"]))
    elif "hf_hub_url" in entry:
        source = str(entry["hf_hub_url"])
    else:
        raise DataError(
            "the entry has neither file_name nor hf_hub_url", where=where, fix="download it and add file_name"
        )
    return Entry(name, source, _prepare(entry, where))


def _mapping(entry: dict[str, Any], key: str, where: str) -> dict[str, str]:
    value: Any = entry.get(key) or dict[str, str]()
    if not isinstance(value, dict):
        raise DataError(
            f"'{key}' is not an object", where=where, fix=f"write '{key}' as in LLaMA-Factory's data/README"
        )
    return {str(name): str(column) for name, column in cast(dict[str, Any], value).items() if column}


def _prepare(entry: dict[str, Any], where: str) -> Prepare:
    formatting = str(entry.get("formatting", "alpaca"))
    if formatting not in ("alpaca", "sharegpt", "openai"):
        raise DataError(f"unknown formatting '{formatting}'", where=where, fix="use alpaca, sharegpt or openai")
    given = _mapping(entry, "columns", where)
    ours, defaults = (_ALPACA, _ALPACA_DEFAULTS) if formatting == "alpaca" else (_SHAREGPT, _SHAREGPT_DEFAULTS)
    # The default names stand in only where the file may have them; `response` has no place beside chosen.
    columns = {ours[name]: column for name, column in {**defaults, **given}.items() if name in ours}
    if entry.get("ranking"):
        columns.pop("output", None)
        missing = [name for name in ("chosen", "rejected") if name not in columns]
        if missing:
            raise DataError(
                f"ranking is true but columns does not name {' and '.join(missing)}",
                where=where,
                fix='add "chosen" and "rejected" to its columns',
            )
    openai = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
    tags = {**_TAG_DEFAULTS, **(openai if formatting == "openai" else {}), **_mapping(entry, "tags", where)}

    def prepare(row: Row) -> tuple[Row, Row]:
        kept = {field: row[column] for field, column in columns.items() if column in row}
        taken = set(columns.values())
        rest = {name: value for name, value in row.items() if name not in taken}
        if formatting != "alpaca":
            for name in ("conversations", "chosen", "rejected"):
                if isinstance(kept.get(name), list | dict):
                    kept[name] = _retag(kept[name], tags, columns[name])
        return kept, rest

    return prepare


def _retag(value: Any, tags: dict[str, str], column: str) -> Any:
    """Return messages written with the declared tags as role and content."""
    if isinstance(value, list):
        return [_retag(item, tags, column) for item in cast(list[Any], value)]
    if not isinstance(value, dict):
        raise RowError(f"column '{column}' holds something other than objects")
    turn = cast(dict[str, Any], value)
    role_tag, content_tag = tags["role_tag"], tags["content_tag"]
    if role_tag not in turn or content_tag not in turn:
        raise RowError(f"column '{column}': a turn lacks '{role_tag}' or '{content_tag}'")
    roles = {tags[name]: role for name, role in _TAGS.items()}
    role = roles.get(str(turn[role_tag]))
    if role is None:
        raise RowError(f"column '{column}' has the undeclared role '{str(turn[role_tag])[:40]}'")
    return {"role": role, "content": turn[content_tag]}
