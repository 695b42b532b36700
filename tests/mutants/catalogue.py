"""Every seeded fault."""

from __future__ import annotations

from mutants.arithmetic import ARITHMETIC
from mutants.machinery import MACHINERY
from mutants.mutant import Mutant
from mutants.preferences import PREFERENCES
from mutants.speed import SPEED

MUTANTS: list[Mutant] = [*ARITHMETIC, *PREFERENCES, *MACHINERY, *SPEED]
"""In order of the files."""
