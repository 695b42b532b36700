"""The table of formats, most specific first, and the choice among them by the columns a file has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from accord.data import argilla, canonical, demonstrations, label_studio, labels, oasst, preferences, verdicts
from accord.data.rows import Format, Row
from accord.types import Record

FORMATS: tuple[Format, ...] = (
    *canonical.FORMATS,
    *argilla.FORMATS,
    *label_studio.FORMATS,
    *oasst.FORMATS,
    *verdicts.FORMATS,
    *preferences.FORMATS,
    *labels.FORMATS,
    *demonstrations.DEMONSTRATION_FORMATS,
    *demonstrations.PROMPT_FORMATS,
    *demonstrations.TEXT_FORMATS,
)


def detect(rows: Iterable[Row]) -> Format | None:
    """Return the format most rows have; each row votes for the first format it matches.

    The majority decides, so that a first row with a missing column does not change how the file is read.

    Args:
        rows: the first rows of a file.
    """
    votes: Counter[str] = Counter()
    for row in rows:
        name = next((fmt.name for fmt in FORMATS if fmt.match(row)), None)
        if name is not None:
            votes[name] += 1
    if not votes:
        return None
    return max(FORMATS, key=lambda fmt: votes[fmt.name])


def columns_for(kind: type[Record] | None) -> str:
    """Return the plain columns that make records of `kind`, or of any kind, for messages."""
    plain = ("preference", "unpaired", "stepwise", "chat", "prompt-completion", "prompt", "text")
    found = [fmt.needs for fmt in FORMATS if fmt.name in plain and (kind is None or fmt.kind is kind)]
    return "; or ".join(found)
