"""Red teams of a run, for its report: one line a red team, and where its own page is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from accord.report.formats import MISSING, Cell, Estimate, estimate, percent
from accord.report.runfiles import Run, Stage


@dataclass(frozen=True)
class Attacked:
    """What one red team found."""

    section: str
    target: str
    """Section that made the policy under test."""
    weaknesses: tuple[str, ...]
    """Attack families that get through more often than the plain question."""
    compared: int
    """Attack families that were compared with it."""
    cells: tuple[Cell, ...]
    """ASR@1 of the plain question, of all attacks, of the strongest, and over-refusal."""
    page: str
    """The red team's own page, from the run directory."""


def read_attacks(run: Run) -> list[Attacked]:
    """Read the red teams of a run, in order of making; files that cannot be read are noted by `run`."""
    found: list[Attacked] = []
    for stage in run.of_kind("redteam"):
        summary = run.json("redteam.json", stage)
        if summary is not None:
            found.append(_attacked(stage, summary))
    return found


def _attacked(stage: Stage, summary: Mapping[str, Any]) -> Attacked:
    findings = [_mapping(f) for f in _rows(summary.get("findings"))]
    families = {str(f.get("group")): f for f in map(_mapping, _rows(summary.get("families")))}
    attacks = [e for f in _rows(summary.get("attacks")) if (e := estimate(_mapping(f).get("asr1"))) is not None]
    whole = _mapping(summary.get("all"))
    rates = (
        estimate(_mapping(families.get("none")).get("asr1")),
        estimate(whole.get("asr1")),
        max(attacks, key=lambda e: e.value, default=None),
        estimate(whole.get("refused_harmless")),
    )
    return Attacked(
        section=stage.name,
        target=str(summary.get("target", "")),
        weaknesses=tuple(str(f.get("attack")) for f in findings if f.get("weakness") is True),
        compared=len(findings),
        cells=tuple(map(_cell, rates)),
        page=f"{stage.dir.name}/redteam.html",
    )


def _cell(rate: Estimate | None) -> Cell:
    if rate is None:
        return Cell(MISSING)
    low_high = rate.interval
    return Cell(percent(rate.value), "" if low_high is None else f"{percent(low_high[0])} to {percent(low_high[1])}")


def _rows(raw: Any) -> list[Any]:
    return cast(list[Any], raw) if isinstance(raw, list) else []


def _mapping(raw: Any) -> Mapping[str, Any]:
    return cast(Mapping[str, Any], raw) if isinstance(raw, Mapping) else {}
