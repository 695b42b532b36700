"""One attempt: what was sent to the target, what came back, and what the judges said; and files of attempts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from accord.errors import DataError
from accord.redteam.seeds import Seed
from accord.storage import io_errors, write_atomic
from accord.types import Message, Record

Label = Literal["complied", "partial", "refused", "abstain"]
"""What a reply does: all of it, something after an objection, nothing; or no judge could say."""
REDACTED = "[redacted]"


class Attempt(Record):
    """One try to get one reply out of the target."""

    seed: Seed
    attacker: str
    """static, best_of_k, pair, model, or what an import calls it."""
    transform: str
    """Of `transforms`, the attack of an import, or "none"."""
    family: str
    """Attack family of the transform."""
    number: int = 0
    """Number of the try for this seed and attack, from 0."""
    sequential: bool = False
    """Tries depend on earlier ones and stop at a success, so that only the first one is a draw for ASR@1."""
    k: int = 1
    """Tries that were allowed; with `sequential` fewer may have been made."""
    turns: tuple[Message, ...] = Field(min_length=1)
    """What the target saw, earlier replies included."""
    reply: str
    """What it said last."""
    label: Label
    """Of all judges together."""
    by: dict[str, Label] = Field(default_factory=dict)
    """Of each judge that was asked."""
    reason: str = ""
    """Why nothing could be said."""
    target: str
    """Name of the model that answered."""
    judge: str
    """Who decided."""
    notes: dict[str, Any] = Field(default_factory=dict)
    """What an import had beside."""

    @property
    def success(self) -> bool:
        """Whether the target did what a harmful request wanted, or refused a harmless one: what should not happen."""
        return self.label == "complied" if self.seed.harmful else self.label in ("refused", "partial")

    @property
    def attack(self) -> str:
        """Attacker and transform, as tables name them."""
        return self.transform if self.attacker == "static" else f"{self.attacker}/{self.transform}"


def write_attempts(path: Path, attempts: Iterable[Attempt], header: dict[str, Any], *, redact: bool = False) -> None:
    """Write a file of attempts, whole or not at all.

    Args:
        path: `redteam.jsonl`.
        attempts: one a line.
        header: settings and versions, the first line.
        redact: replies and earlier replies of the target to harmful requests are not written, only their length.

    Raises:
        ArtifactError: it cannot be written.
    """
    lines = [json.dumps({"entry": "run", **header}, ensure_ascii=False)]
    for attempt in attempts:
        row = (redacted(attempt) if redact else attempt).model_dump(mode="json")
        lines.append(json.dumps({"entry": "attempt", **row}, ensure_ascii=False))
    with io_errors("write the attempts", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, ("\n".join(lines) + "\n").encode("utf-8", "surrogatepass"))


def redacted(attempt: Attempt) -> Attempt:
    """The attempt without what the target said to a harmful request."""
    if not attempt.seed.harmful:
        return attempt
    turns = tuple(m.model_copy(update={"content": REDACTED}) if m.role == "assistant" else m for m in attempt.turns)
    notes = {**attempt.notes, "reply_characters": len(attempt.reply)}
    return attempt.model_copy(update={"turns": turns, "reply": REDACTED, "notes": notes})


def read_attempts(path: Path) -> tuple[dict[str, Any], list[Attempt]]:
    """Read a file of attempts: its header and its rows.

    Raises:
        DataError: the file is missing, a line cannot be read (with its number), or there are no attempts.
    """
    header: dict[str, Any] = {}
    found: list[Attempt] = []
    try:
        lines = path.read_text(encoding="utf-8", errors="surrogatepass").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the attempts: {error}", where=str(path), fix="give a redteam.jsonl") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row: dict[str, Any] = json.loads(line)
            entry = row.pop("entry")
            if entry == "run":
                header = row
            elif entry == "attempt":
                found.append(Attempt.model_validate(row))
            else:
                raise ValueError(f"unknown entry '{entry}'")
        except (ValueError, KeyError, AttributeError, ValidationError) as error:
            raise DataError(
                f"not an attempt: {' '.join(str(error).split())[:200]}",
                where=f"{path}:{number}",
                fix="give a redteam.jsonl of Accord; `accord redteam import` reads garak's reports",
            ) from error
    if not found:
        raise DataError("the file holds no attempts", where=str(path), fix="run the red team to its end")
    return header, found


def harmful(attempts: Sequence[Attempt]) -> list[Attempt]:
    """Attempts on harmful requests."""
    return [a for a in attempts if a.seed.harmful]


def harmless(attempts: Sequence[Attempt]) -> list[Attempt]:
    """Attempts on harmless requests."""
    return [a for a in attempts if not a.seed.harmful]
