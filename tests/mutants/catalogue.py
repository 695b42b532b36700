"""Every seeded fault."""

from __future__ import annotations

from mutants.arithmetic import ARITHMETIC
from mutants.diagnosis import DIAGNOSIS
from mutants.engines import ENGINES
from mutants.evaluation import EVALUATION
from mutants.judges import JUDGES
from mutants.machinery import MACHINERY
from mutants.mutant import Mutant
from mutants.preferences import PREFERENCES
from mutants.quality import QUALITY
from mutants.serving import SERVING
from mutants.speed import SPEED
from mutants.values import VALUES

MUTANTS: list[Mutant] = [
    *ARITHMETIC,
    *PREFERENCES,
    *MACHINERY,
    *ENGINES,
    *SERVING,
    *SPEED,
    *VALUES,
    *QUALITY,
    *EVALUATION,
    *JUDGES,
    *DIAGNOSIS,
]
"""In order of the files."""
