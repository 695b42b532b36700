"""Replies without a verdict: the sample stage's `samples.jsonl`, and the tasks a collect stage wrote.

A row is `{"prompt": Prompt, "candidates": [...]}`, the candidates with `text` and, if known, `model`; token ids and
log-probabilities of completions are not kept, since people compare texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from accord.data.conversations import make_prompt, parse_prompt
from accord.data.rows import RawRow, Row, RowError, check_list, check_text, plain
from accord.data.sources import open_source
from accord.types import Candidate, Prompt

_VERDICTS = ("choice", "ranking", "tie", "both_bad", "soft", "winner", "preference", "ranks")
FIX = 'a row is {"prompt": Prompt, "candidates": [{"text": ..., "model": ...}, ...]}'


@dataclass(frozen=True)
class Sampled:
    """A prompt with replies nobody has judged."""

    where: str
    """"file:line"."""
    prompt: Prompt
    candidates: tuple[Candidate, ...]
    meta: Mapping[str, Any]


@dataclass(frozen=True)
class BadSample:
    """A row that is none, and why."""

    where: str
    reason: str
    row: Any


def is_sample(row: Row) -> bool:
    """Return whether a row has candidates and says nothing about which is better."""
    candidates = row.get("candidates")
    return (
        "prompt" in row
        and isinstance(candidates, list)
        and all(isinstance(item, dict) and "text" in item for item in cast(list[Any], candidates))
        and not any(row.get(name) for name in _VERDICTS)
        and row.get("choice") is None
        and row.get("soft") is None
    )


def read_samples(source: str | Path) -> Iterator[Sampled | BadSample]:
    """Yield the rows of a file of samples, or why one is unusable.

    Args:
        source: as for `accord.data.read`.

    Raises:
        DataError: the file cannot be read.
    """
    for raw in open_source(source).rows():
        yield _sample(raw)


def _sample(raw: RawRow) -> Sampled | BadSample:
    if raw.row is None:
        return BadSample(raw.where, raw.problem, raw.text)
    try:
        return _converted(raw.where, raw.row)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        reason = f"{'.'.join(map(str, first['loc'])) or 'row'}: {first['msg'].removeprefix('Value error, ')}"
    except RowError as error:
        reason = str(error)
    return BadSample(raw.where, reason, plain(raw.row))


def _converted(where: str, row: Row) -> Sampled:
    given = row.get("prompt")
    if given is None:
        raise RowError("no 'prompt'")
    if isinstance(given, dict) and "messages" in given:
        prompt = Prompt.model_validate(given)
    else:
        prompt = make_prompt(parse_prompt(given, "column 'prompt'"))
    candidates: list[Candidate] = []
    for number, item in enumerate(check_list(row.get("candidates"), "column 'candidates'"), 1):
        entry = cast(dict[str, Any], item) if isinstance(item, dict) else {"text": item}
        text = check_text(entry.get("text"), f"candidate {number}")
        meta = entry.get("meta")
        kept = cast(dict[str, Any], meta) if isinstance(meta, dict) else {}
        candidates.append(Candidate(text=text, model=str(entry.get("model") or ""), meta=kept))
    meta = row.get("meta")
    rest = {name: plain(value) for name, value in row.items() if name not in ("prompt", "candidates", "meta")}
    own = cast(dict[str, Any], meta) if isinstance(meta, dict) else {}
    return Sampled(where, prompt, tuple(candidates), {**own, **rest})
