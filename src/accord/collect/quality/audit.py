"""What sways annotators besides quality: the side, length, Markdown, hedging, apology, refusal, agreement, haste.

A logistic regression of "what was shown first is preferred" on a constant and on differences of properties. Because the
sides are drawn at random the constant is the lean to a side, whatever the replies are. The other coefficients say what
goes with being preferred; where better replies are also longer, length has an effect without anybody being biased.

Everything that can raise an alarm has a p-value and they share one bound on false findings (Benjamini and Hochberg), so
that a pool without any bias raises one in at most 5 % of all reports. A finding is an alarm only if it is also large
enough to matter.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np

from accord.collect.quality.features import FEATURES
from accord.collect.quality.judged import Judged, Judgement
from accord.stats.arrays import Floats
from accord.stats.mixed_logit import Coefficients, mixed_logit, one_effect, partial_pooling
from accord.stats.multiple import benjamini_hochberg

POSITION, HASTE, FATIGUE = "position", "position when hasty", "position late in a sitting"
RATE = 0.05
"""Bound on the share of false alarms."""
MATERIAL = 0.1
"""Log odds below which an effect does not matter: 50 % become 52.5 %."""
MIN_ROWS = 30
"""Judgements in which a property differs, overall; half of that for one annotator or group."""
_Z = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class Finding:
    """One effect, in log odds unless `unit` says otherwise."""

    scope: str
    """"all", "annotator", "group"."""
    who: str
    what: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    p_value: float | None
    q_value: float | None = None
    """Share of false findings if this one and all stronger ones are believed."""
    alarm: bool = False
    pooled: float | None = None
    """One annotator's: drawn towards the others as far as it is uncertain; the better guess."""
    unit: str = "log odds"
    reason: str = ""
    """Why it was not measured."""
    matters: bool = True
    """Whether it is large enough to be an alarm."""


@dataclass(frozen=True)
class Design:
    """Rows of the regression."""

    rows: tuple[Judgement, ...]
    y: Floats
    x: Floats
    names: tuple[str, ...]
    skipped: dict[str, str]


def audit(data: Judged) -> list[Finding]:
    """Return the effects over all annotators, of each annotator and of each group; not yet corrected for their number.

    Args:
        data: the judgements.
    """
    design = regression(data.judgements)
    missing = [Finding("all", "", name, None, None, None, 0, None, reason=why) for name, why in design.skipped.items()]
    if not design.names:
        return missing
    found = mixed_logit(
        design.y,
        design.x,
        units=[j.pair for j in design.rows],
        signs=np.array([-1.0 if j.turned else 1.0 for j in design.rows]),
        clusters=[j.prompt for j in design.rows],
    )
    overall = [
        _finding("all", "", name, float(found.value[k]), float(found.error[k]), found.n, float(found.p_value[k]))
        for k, name in enumerate(design.names)
    ]
    parts = [*overall, *_each("annotator", design, found)]
    if len({j.group for j in design.rows}) > 1:
        parts += _each("group", design, found)
    return parts + missing


def regression(judgements: Sequence[Judgement]) -> Design:
    """Return what can be regressed: judgements with a preference, and properties that differ often enough.

    Args:
        judgements: in the order they were given; repeats are left out.
    """
    rows = [j for j in judgements if j.upper is not None and not j.repeat]
    ordered = [j for j in rows if j.ordered]
    skipped: dict[str, str] = {}
    if len(ordered) < max(MIN_ROWS, len(rows) / 2):
        few = "the order shown was not recorded"
        if ordered:
            few = (
                f"the order shown is known for {len(ordered)} of {len(rows)} judgements, {MIN_ROWS} and half are needed"
            )
        skipped |= dict.fromkeys((POSITION, HASTE, FATIGUE), few)
    else:
        rows = ordered
    columns: dict[str, Floats] = {} if POSITION in skipped else _lean(rows)
    for name, feature in FEATURES.items():
        columns[name] = np.array([feature(j.texts[0]) - feature(j.texts[1]) for j in rows], dtype=np.float64)
    kept: dict[str, Floats] = {}
    for name, column in columns.items():
        if name in skipped:
            continue
        differing = int((np.abs(column) > 1e-9).sum())
        if differing < MIN_ROWS:
            skipped[name] = f"differs in {differing} judgements, {MIN_ROWS} are needed"
        else:
            kept[name] = column
    y = np.array([float(bool(j.upper)) for j in rows])
    x = np.stack(list(kept.values()), axis=1) if kept else np.zeros((len(rows), 0))
    return Design(tuple(rows), y, x, tuple(kept), skipped)


def _lean(rows: Sequence[Judgement]) -> dict[str, Floats]:
    """The constant, and how it changes with haste (log of usual over own seconds) and within a sitting (hundreds)."""
    by_person: defaultdict[str, list[int]] = defaultdict(list)
    for k, j in enumerate(rows):
        by_person[j.annotator].append(k)
    haste, late = np.zeros(len(rows)), np.zeros(len(rows))
    for places in by_person.values():
        timed = [k for k in places if rows[k].seconds]
        logs = np.log([max(rows[k].seconds or 0.0, 0.1) for k in timed])
        haste[timed] = np.clip(np.median(logs) - logs, -3, 3) if timed else 0.0
        late[places] = (np.arange(len(places)) - (len(places) - 1) / 2) / 100
    return {POSITION: np.ones(len(rows)), HASTE: haste, FATIGUE: late}


def _each(scope: str, design: Design, overall: Coefficients) -> list[Finding]:
    """Each property for each annotator or group, all other properties having their overall effect."""
    names = [j.annotator if scope == "annotator" else j.group for j in design.rows]
    members: defaultdict[str, list[int]] = defaultdict(list)
    for k, name in enumerate(names):
        members[name].append(k)
    if len(members) < 2:
        return []
    prompts = [j.prompt for j in design.rows]
    found: list[Finding] = []
    for column, what in enumerate(design.names):
        if what in (HASTE, FATIGUE):
            continue
        offset = design.x @ overall.value - design.x[:, column] * overall.value[column]
        of_each: list[Finding] = []
        errors: list[float] = []
        for name, places in members.items():
            if int((np.abs(design.x[places, column]) > 1e-9).sum()) < MIN_ROWS // 2:
                continue
            own = one_effect(
                design.y[places],
                design.x[places, column],
                offset[places],
                spread=overall.spread,
                clusters=[prompts[k] for k in places],
            )
            of_each.append(_finding(scope, name, what, own.value, own.error, own.n, own.p_value))
            errors.append(own.error)
        if len(of_each) > 1:
            drawn = partial_pooling(np.array([f.value or 0.0 for f in of_each]), np.array(errors))
            of_each = [replace(f, pooled=float(v)) for f, v in zip(of_each, drawn.value, strict=True)]
        found += of_each
    return found


def _finding(scope: str, who: str, what: str, value: float, error: float, n: int, p: float) -> Finding:
    return Finding(
        scope, who, what, value, value - _Z * error, value + _Z * error, n, p, matters=abs(value) >= MATERIAL
    )


def with_alarms(findings: Sequence[Finding], rate: float = RATE) -> list[Finding]:
    """Return the findings with q-values and alarms, over all of them at once.

    Args:
        findings: everything that could raise an alarm.
        rate: bound on the share of false ones.
    """
    tested = [k for k, f in enumerate(findings) if f.p_value is not None]
    q = benjamini_hochberg([findings[k].p_value or 0.0 for k in tested])
    found = list(findings)
    for k, value in zip(tested, q, strict=True):
        found[k] = replace(found[k], q_value=float(value), alarm=bool(value <= rate and found[k].matters))
    return found
