"""Every seeded fault."""

from __future__ import annotations

from mutants.arithmetic import ARITHMETIC
from mutants.machinery import MACHINERY
from mutants.mutant import Mutant
from mutants.preferences import PREFERENCES

MUTANTS: list[Mutant] = [*ARITHMETIC, *PREFERENCES, *MACHINERY]
"""In order of the files."""
