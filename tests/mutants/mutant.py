"""A seeded fault: one text of one source file replaced by another, and the tests that must notice."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src"
"""Where the package lies."""


@dataclass(frozen=True)
class Mutant:
    """One fault."""

    file: str
    """File under src/accord."""
    fault: str
    """What is wrong now, in words."""
    original: str
    """Text of the file; it must be there exactly once."""
    replacement: str
    """What stands there instead."""
    tests: tuple[str, ...]
    """Tests expected to fail, as given to pytest, under tests/."""


class StaleError(Exception):
    """The catalogue no longer fits the code."""


def mutants(file: str, tests: str, faults: Iterable[tuple[str, ...]]) -> list[Mutant]:
    """The faults of one file: (fault, original, replacement) or, with tests of its own, one more.

    Args:
        file: under src/accord.
        tests: names of tests, under tests/, separated by spaces.
        faults: of this file.
    """
    return [
        Mutant(file, fault, original, replacement, tuple((own[0] if own else tests).split()))
        for fault, original, replacement, *own in faults
    ]


def mutated(mutant: Mutant, source: Path = SOURCE) -> str:
    """The text of the file with the fault.

    Raises:
        StaleError: the file is missing, or the original text is not in it exactly once.
    """
    path = source / "accord" / mutant.file
    if not path.is_file():
        raise StaleError(f"{mutant.file} is not there any more ({mutant.fault})")
    text = path.read_text(encoding="utf-8")
    if text.count(mutant.original) != 1:
        raise StaleError(f"{mutant.file} has {text.count(mutant.original)} times, not once: {mutant.original!r}")
    if mutant.original == mutant.replacement:
        raise StaleError(f"{mutant.file}: nothing is changed ({mutant.fault})")
    return text.replace(mutant.original, mutant.replacement)
