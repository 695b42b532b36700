"""What an import makes of a file, and what it says about it afterwards."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from accord.collect.fields import Purpose, Slice
from accord.types import Record

TaskKind = Literal["auto", "pair", "rank", "rate", "edit"]


class ImportOptions(Record):
    """How rows become tasks."""

    kind: TaskKind = "auto"
    """auto: pair for two replies, rank for more, rate for one."""
    pairing: Literal["consecutive", "all"] = "consecutive"
    """pair, from three or more replies: (1, 2), (3, 4), ..., an odd one out with the first; or every two."""
    leaks: Literal["flag", "mask", "drop"] = "flag"
    """Replies that name their model: keep and count them, put [name] in place of the name, or leave them out."""
    judgements: bool = False
    """The file's verdicts are finished judgements of people: they become labels, not only tasks."""
    gold: bool = False
    """The file's verdicts are right answers: its tasks become hidden tests. Otherwise verdicts are not used."""
    purpose: Purpose = "label"
    overlap: int | None = Field(default=None, ge=1, le=100)
    """Labels a task; None = the project's rule."""
    priority: int = 0
    slice: Slice | None = None
    tags: tuple[str, ...] = ()
    columns: dict[str, str] = Field(default_factory=dict)
    """Our column name -> the file's, as for `accord.data.read`."""
    max_bad_rows: int | None = Field(default=None, ge=0)
    """Rows that may be refused; None = any number. Refused rows are always named."""


@dataclass(frozen=True)
class Refused:
    """One row that was not taken."""

    line: int
    """Line of a text file, row of a table, counted from 1; 0 where it is not known."""
    why: str
    where: str = ""
    """"file:line"."""


@dataclass(frozen=True)
class Imported:
    """What became of a file."""

    source: str
    format: str
    """Name of the format it was read as."""
    added: int = 0
    """Tasks, or finished judgements, that are new."""
    repeated: int = 0
    """Known already: in the project, or earlier in the file."""
    leaking: int = 0
    """Replies that name a model or its maker."""
    masked: int = 0
    """Of these, replies whose names were replaced."""
    dropped: int = 0
    """Of these, replies left out."""
    refused: tuple[Refused, ...] = ()

    def describe(self) -> list[str]:
        """Return the lines a user reads."""
        lines = [
            f"{self.source}: {self.format}",
            f"  {self.added} added, {self.repeated} known already, {len(self.refused)} refused",
        ]
        if self.leaking:
            done = f"{self.masked} masked, {self.dropped} left out"
            lines.append(f"  {self.leaking} replies name a model or its maker, so that people are not blind ({done})")
        for why, count in Counter(item.why for item in self.refused).most_common(5):
            first = next(item for item in self.refused if item.why == why)
            lines.append(f"  refused {count}: {why} (first: {first.where or f'line {first.line}'})")
        return lines
