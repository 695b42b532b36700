"""Every number that Accord logs: what it is, its unit, and what it looks like when all is well.

docs/generate.py makes docs/metrics.md from `GLOSSARY` and `FINAL`, and `accord explain NAME` prints an entry.
tests/meta/test_docs.py holds the names to those that the code logs: a new metric is an entry in `offline` or `online`.
"""

from __future__ import annotations

import difflib
import re

from accord.metrics import diagnosis, offline, online
from accord.metrics.final import FINAL
from accord.metrics.records import Metric, Section

__all__ = ["FINAL", "GLOSSARY", "Metric", "Section", "entries", "nearest"]

GLOSSARY: tuple[Section, ...] = (*offline.SECTIONS, *online.SECTIONS, *diagnosis.SECTIONS)
"""In the order of a standard run."""


def entries(name: str) -> list[tuple[Section, Metric]]:
    """Everything the glossary says about a name; `<...>` in a known name stands for any word.

    Args:
        name: as in metrics.jsonl, e.g. `objective/kl`.

    Returns:
        Section and entry for each stage that logs it, empty when none does.
    """
    return [
        (section, metric)
        for section in GLOSSARY
        for known, metric in section.metrics.items()
        if re.fullmatch(re.sub("<[^>]*>", "[^/]+", known), name)
    ]


def nearest(name: str) -> list[str]:
    """The three known names that look most like a word."""
    known = {known for section in GLOSSARY for known in section.metrics}
    return difflib.get_close_matches(name, sorted(known), n=3, cutoff=0.0)
