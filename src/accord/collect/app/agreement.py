"""Agreement for the admin page: on the random slice, over tasks of two or more labels; once per new label."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from sqlalchemy import func, select

from accord.collect import reading
from accord.collect.app.shapes_admin import Agreement, AgreementRow
from accord.collect.database import Store
from accord.collect.projects import require_project
from accord.collect.quality.agreement import panels, ranking_agreement
from accord.collect.quality.judged import Judged, judged
from accord.collect.schema import AnnotationRow
from accord.stats.intervals import Estimate
from accord.stats.panel import Bootstrap, Panel, alpha, fleiss, raw
from accord.types import Preference

_HOW = Bootstrap(num=500)


class AgreementCache:
    """The last answer of every project, and the label it was computed after."""

    def __init__(self) -> None:
        """Start empty."""
        self._lock = threading.Lock()
        self._known: dict[str, tuple[str, Agreement]] = {}

    def get(self, store: Store, project: str) -> Agreement:
        """Agreement of a project.

        Args:
            store: the database.
            project: name or id.

        Raises:
            NotFound: no such project.
        """
        with store.read() as session:
            row = require_project(session, project)
            newest = session.scalar(select(func.max(AnnotationRow.id)).where(AnnotationRow.project_id == row.id)) or ""
        # One at a time: several admins who look at once wait for one computation.
        with self._lock:
            known = self._known.get(row.id)
            if known is None or known[0] != newest:
                known = newest, agreement(reading.preferences(store, row.id, slice="random", planned=True))
                self._known[row.id] = known
            return known[1]


def agreement(preferences: Sequence[Preference]) -> Agreement:
    """Every measure that fits the labels, with intervals over prompts.

    Args:
        preferences: of the random slice.
    """
    data = judged(preferences)
    rows = [*_of_pairs(data), *_of_rankings(data.rankings)]
    note = None if rows else "Nothing to compare yet: no task of the random slice has labels of two people."
    return Agreement(slice="random", rows=tuple(rows), note=note)


def _of_pairs(data: Judged) -> list[AgreementRow]:
    sides, steps = panels(data)
    if not sides[0].units:
        return []
    measures: list[tuple[str, str, Callable[[Panel], Estimate], tuple[Panel, Panel]]] = [
        ("fleiss", "Fleiss' kappa", lambda p: fleiss(p, _HOW), sides),
        ("krippendorff_nominal", "Krippendorff's alpha, nominal", lambda p: alpha(p, "nominal", _HOW), sides),
        ("krippendorff_ordinal", "Krippendorff's alpha, ordinal", lambda p: alpha(p, "ordinal", _HOW), steps),
    ]
    rows = [_row("raw", "Raw agreement", raw(sides[0], _HOW))]
    for measure, label, compute, (given, symmetric) in measures:
        rows.append(_row(measure, label, compute(given)))
        rows.append(_row(measure, label, compute(symmetric), symmetric=True))
    return rows


def _of_rankings(rankings: Sequence[Preference]) -> list[AgreementRow]:
    names = {"tau_b": "Kendall's tau-b", "w": "Kendall's W"}
    return [
        _row(f"rankings_{name}", f"Rankings: {names[name]}", estimate)
        for name, estimate in ranking_agreement(rankings).items()
        if estimate.n
    ]


def _row(measure: str, label: str, estimate: Estimate, *, symmetric: bool = False) -> AgreementRow:
    return AgreementRow(
        measure=measure,
        label=label,
        value=estimate.value,
        low=estimate.low,
        high=estimate.high,
        units=estimate.n,
        swap_symmetrised=symmetric,
        reason=estimate.reason or None,
    )
