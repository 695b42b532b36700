"""Running code nobody trusts: what it may touch, and how its verdict is reached without believing it."""

from accord.sandbox.checking import Verdict, check
from accord.sandbox.levels import NAMES, SAFE, Level, Survey, probe, require, survey
from accord.sandbox.limits import Limits
from accord.sandbox.running import Outcome, run

__all__ = [
    "NAMES",
    "SAFE",
    "Level",
    "Limits",
    "Outcome",
    "Survey",
    "Verdict",
    "check",
    "probe",
    "require",
    "run",
    "survey",
]
