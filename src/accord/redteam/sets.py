"""Seeds from the files people have: AdvBench, HarmBench, JailbreakBench, XSTest, Do-Not-Answer, PyRIT, garak, JSONL.

The format is recognised by its columns or keys, not by the file's name. Nothing is downloaded.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import yaml

from accord.errors import DataError
from accord.redteam.seeds import Seed, check_seeds, own_seeds
from accord.redteam.taxonomy import categorise

Row = Mapping[str, Any]
MAX_BYTES = 64 * 1024 * 1024
"""Largest file of requests that is read."""
_TEXT = ("text", "prompt", "goal", "behavior", "question", "value", "instruction", "request", "query")
_CATEGORY = ("category", "semanticcategory", "harm_category", "specific_harms", "types_of_harm", "risk_area", "subset")


def read_seeds(source: str | Path) -> list[Seed]:
    """Read seeds from a file, or those of the package.

    Args:
        source: "accord" for the package's own; else a file: `.csv` or `.tsv` (AdvBench, HarmBench, JailbreakBench,
            XSTest, Do-Not-Answer), `.prompt` or `.yaml` (PyRIT), `.json` or `.jsonl` (garak's data, Do-Not-Answer, or
            rows with `text` and optionally `id`, `harmful`, `category`, `twin`), `.txt` (garak: one request a line);
            any of them with `.gz`.

    Raises:
        DataError: the file is missing, too large, in no known form, or says nothing; with file and line.
    """
    if str(source) == "accord":
        return list(own_seeds())
    path = Path(source)
    text, suffix = _text(path), (path.name.removesuffix(".gz").rpartition(".")[2]).lower()
    name = path.name.partition(".")[0]
    if suffix in ("csv", "tsv"):
        seeds = _table(text, "\t" if suffix == "tsv" else ",", name, str(path))
    elif suffix in ("prompt", "yaml", "yml"):
        seeds = _pyrit(text, name, str(path))
    elif suffix == "txt":
        lines = [(n, line.strip()) for n, line in enumerate(text.splitlines(), 1)]
        seeds = [
            Seed(id=f"{name}-{n}", text=line, harmful=True, category=categorise(name), source=name)
            for n, line in lines
            if line and not line.startswith("#")
        ]
    elif suffix in ("json", "jsonl"):
        seeds = _rows(_json_rows(text, suffix == "jsonl", str(path)), name, str(path))
    else:
        raise DataError(
            f"'.{suffix}' is no form of seeds", where=str(path), fix="use csv, tsv, prompt, yaml, txt, json or jsonl"
        )
    check_seeds(seeds, str(path))
    return seeds


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()
        if path.suffix == ".gz":
            with gzip.open(io.BytesIO(raw)) as file:
                raw = file.read(MAX_BYTES + 1)
        if len(raw) > MAX_BYTES:
            raise DataError(f"the file is larger than {MAX_BYTES // 2**20} MiB", where=str(path), fix="cut it")
        return raw.decode("utf-8-sig")
    except (OSError, EOFError) as error:
        raise DataError(f"cannot read the seeds: {error}", where=str(path), fix="check the path") from error
    except UnicodeDecodeError as error:
        raise DataError(f"the file is not UTF-8: {error}", where=str(path), fix="save it as UTF-8") from error


def _table(text: str, delimiter: str, name: str, where: str) -> list[Seed]:
    try:
        reader = csv.DictReader(io.StringIO(text), delimiter=delimiter, strict=True)
        rows = [(reader.line_num, {str(k).strip().lower(): v for k, v in row.items() if k}) for row in reader]
    except csv.Error as error:
        raise DataError(f"not a table: {error}", where=where, fix="check the quotes") from error
    columns = set(rows[0][1]) if rows else set[str]()
    if {"goal", "target"} <= columns and "index" in columns:
        return [_jailbreakbench(row, name, n, where) for n, row in rows]
    if "behavior" in columns and "semanticcategory" in columns:
        return [_harmbench(row, name, n, where) for n, row in rows]
    if {"prompt", "type"} <= columns and ({"label", "focus"} & columns):
        return _xstest(rows, where)
    return _rows(((n, row) for n, row in rows), name, where)


def _jailbreakbench(row: Row, name: str, line: int, where: str) -> Seed:
    """Harmful and benign behaviours have the same index in two files of the data set."""
    benign = "benign" in name.lower() or str(row.get("source", "")).lower() == "benign"
    index = str(row.get("index") or line)
    own, other = ("benign", "harmful") if benign else ("harmful", "benign")
    return Seed(
        id=f"jailbreakbench-{own}-{index}",
        text=_needed(row, "goal", line, where),
        harmful=not benign,
        category=categorise(str(row.get("category") or ""), str(row.get("behavior") or "")),
        twin=f"jailbreakbench-{other}-{index}",
        source="jailbreakbench",
    )


def _harmbench(row: Row, name: str, line: int, where: str) -> Seed:
    """A behaviour, after its context where it has one."""
    text, context = _needed(row, "behavior", line, where), str(row.get("contextstring") or "").strip()
    return Seed(
        id=f"harmbench-{row.get('behaviorid') or line}",
        text=f"{context}\n\n---\n\n{text}" if context else text,
        harmful=True,
        category=categorise(str(row.get("semanticcategory") or ""), name),
        source="harmbench",
    )


def _xstest(rows: Sequence[tuple[int, Row]], where: str) -> list[Seed]:
    """Safe prompts and their unsafe contrasts (Roettger et al. 2023); `type` starts with "contrast" for those."""
    found: dict[str, Seed] = {}
    for line, row in rows:
        kind = str(row.get("type") or "")
        harmful = str(row.get("label") or "").lower() == "unsafe" or kind.startswith("contrast")
        key = str(row.get("id") or line)
        found[key] = Seed(  # files of completions repeat a prompt; the last one stays
            id=f"xstest-{key}",
            text=_needed(row, "prompt", line, where),
            harmful=harmful,
            category=categorise(str(row.get("focus") or ""), kind),
            source="xstest",
            meta={"type": kind},
        )
    return list(found.values())


def _pyrit(text: str, name: str, where: str) -> list[Seed]:
    """PyRIT's seed data sets: `seeds` or `prompts`, of strings or of mappings with `value`; older ones too."""
    try:
        raw: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise DataError(f"not YAML: {' '.join(str(error).split())}", where=where, fix="check the file") from error
    if not isinstance(raw, dict):
        raise DataError("the file holds no mapping", where=where, fix="PyRIT's files have a list `seeds` or `prompts`")
    whole = cast(dict[str, Any], raw)
    items: Any = whole.get("seeds", whole.get("prompts"))
    if not isinstance(items, list):
        raise DataError("there is no list `seeds` or `prompts`", where=where, fix="check that it is a seed data set")
    blocked = bool(whole.get("should_be_blocked", True))
    seeds: list[Seed] = []
    for number, item in enumerate(cast(list[Any], items)):
        row: dict[str, Any] = {**whole, **cast(dict[str, Any], item)} if isinstance(item, dict) else {**whole}
        value = row.get("value") if isinstance(item, dict) else item
        if str(row.get("data_type", "text")) != "text":
            continue  # images and sound need a target that takes them
        harms: Any = row.get("harm_categories", row.get("harm_category", ""))
        named = [str(h) for h in cast(list[Any], harms)] if isinstance(harms, list) else [str(harms)]
        if not isinstance(value, str) or not value.strip():
            raise DataError(f"seed {number} has no text", where=where, fix="give `value` a text")
        seeds.append(
            Seed(id=f"{name}-{number}", text=value.strip(), harmful=blocked, category=categorise(*named), source=name)
        )
    return seeds


def _json_rows(text: str, lines: bool, where: str) -> Iterator[tuple[int, Any]]:
    if lines:
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                yield number, _parse(line, f"{where}:{number}")
        return
    whole = _parse(text, where)
    if isinstance(whole, dict):
        inner = cast(dict[str, Any], whole)
        lists = [v for v in inner.values() if isinstance(v, list)]
        whole = lists[0] if len(lists) == 1 else [inner]
    yield from enumerate(cast(list[Any], whole) if isinstance(whole, list) else [whole], 1)


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"not JSON: {error}", where=where, fix="check the file") from error


def _rows(rows: Iterator[tuple[int, Any]], name: str, where: str) -> list[Seed]:
    """Rows of no known set: the first column that looks like a request is one, harmful unless it is said."""
    seeds: list[Seed] = []
    for line, raw in rows:
        row: Row = {"text": raw} if isinstance(raw, str) else raw
        if not isinstance(row, Mapping):
            raise DataError(
                "the row is neither a text nor an object", where=f"{where}:{line}", fix="give {'text': ...}"
            )
        lower = {str(k).lower(): v for k, v in row.items()}
        key = next((k for k in _TEXT if isinstance(lower.get(k), str)), None)
        if key is None:
            raise DataError(
                f"no request among {', '.join(sorted(lower))[:200]}", where=f"{where}:{line}", fix=f"name it {_TEXT[0]}"
            )
        named = [str(lower[k]) for k in _CATEGORY if lower.get(k)]
        harmful = lower.get("harmful", str(lower.get("label", "unsafe")).lower() not in ("safe", "benign"))
        given = lower.get("id", lower.get("uid"))
        seeds.append(
            Seed(
                id=str(given) if given not in (None, "") else f"{name}-{line}",
                text=_needed(lower, key, line, where),
                harmful=harmful if isinstance(harmful, bool) else str(harmful).lower() in ("true", "1", "yes"),
                category=categorise(*named, name),
                twin=str(lower.get("twin") or ""),
                source=str(lower.get("source") or name),
                group=str(lower.get("group") or ""),
                meta=dict(cast(dict[str, Any], lower["meta"])) if isinstance(lower.get("meta"), dict) else {},
            )
        )
    return seeds


def _needed(row: Row, key: str, line: int, where: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"'{key}' is empty", where=f"{where}:{line}", fix="give it a text, or remove the row")
    return value.strip()
