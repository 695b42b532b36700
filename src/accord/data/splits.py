"""Splits that never put one prompt on two sides and do not move when rows are added."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from accord.data.convert import can_derive, derive
from accord.errors import DataError
from accord.types import Demonstration, Document, Preference, Prompt, Record, Rollout, Stepwise, Unpaired

R = TypeVar("R", bound=Record)


def prompt_text(record: Record) -> str:
    """Return what identifies the prompt of a record: roles and contents, white space normalised.

    For a document it is the text; for a conversation everything before the last reply.

    Raises:
        DataError: a record without a prompt.
    """
    if isinstance(record, Document):
        return " ".join(record.text.split())
    if isinstance(record, Preference | Unpaired | Stepwise | Rollout):
        messages = record.prompt.messages
    elif isinstance(record, Demonstration):
        messages = record.messages[:-1]
    elif isinstance(record, Prompt):
        messages = record.messages
    else:
        raise DataError(f"{type(record).__name__} has no prompt", fix="split records that hold one")
    return "\x1e".join(f"{message.role}\x1f{' '.join(message.content.split())}" for message in messages)


def split_by_hash(
    records: Sequence[R], key: Callable[[R], str], fractions: Mapping[str, float], seed: int
) -> dict[str, list[R]]:
    """Split records by a hash of `key`: equal keys stay together, a record's side depends on nothing else.

    Args:
        records: what to split; order is kept.
        key: text that decides the side.
        fractions: name -> share of the keys, summing to 1. Each side gets its share only on average.
        seed: changes which keys go where.

    Raises:
        DataError: fractions that are negative or do not sum to 1.
    """
    total = sum(fractions.values())
    if not fractions or any(share < 0 for share in fractions.values()) or abs(total - 1) > 1e-9:
        raise DataError(
            f"split fractions must be positive and sum to 1, not {dict(fractions)}",
            where="fractions",
            fix='for example {"train": 0.9, "test": 0.1}',
        )
    parts: dict[str, list[R]] = {name: [] for name in fractions}
    for record in records:
        digest = hashlib.sha256(f"{seed}\x1f{key(record)}".encode("utf-8", "surrogatepass")).digest()
        point = int.from_bytes(digest[:8], "big") / 2**64
        # Rounding may leave `point` at or above the last bound; the last non-empty share takes it.
        chosen = ""
        bound = 0.0
        for name, share in fractions.items():
            bound += share
            chosen = name if share > 0 else chosen
            if point < bound:
                break
        parts[chosen].append(record)
    return parts


def split_by_prompt(records: Sequence[R], fractions: Mapping[str, float], seed: int) -> dict[str, list[R]]:
    """Split records so that the same prompt never falls on two sides; see `split_by_hash`.

    Args:
        records: records that have a prompt.
        fractions: name -> share of the prompts, summing to 1.
        seed: changes which prompts go where.
    """
    return split_by_hash(records, prompt_text, fractions, seed)


def split_by(records: Iterable[R], key: Callable[[R], str]) -> dict[str, list[R]]:
    """Group records by `key` (a generator, an annotator, a tag), in order of first appearance."""
    parts: dict[str, list[R]] = {}
    for record in records:
        parts.setdefault(key(record), []).append(record)
    return parts


def unique_prompts(records: Iterable[Record]) -> list[Prompt]:
    """Return the prompts of `records`, each once, the first occurrence kept.

    Raises:
        DataError: records that hold no prompt.
    """
    found: dict[str, Prompt] = {}
    for record in records:
        if not can_derive(type(record), Prompt):
            raise DataError(
                f"{type(record).__name__} holds no prompt", fix="give preferences, demonstrations or prompts"
            )
        text = prompt_text(record)
        if text not in found:
            found[text] = derive(record, Prompt)
    return list(found.values())
