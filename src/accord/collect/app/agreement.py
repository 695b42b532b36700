"""Agreement for the admin page: on the random slice, over tasks of two or more labels; once per new label."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import func, select

from accord.collect import reading
from accord.collect.app.shapes_admin import Agreement, AgreementRow
from accord.collect.database import Store
from accord.collect.projects import require_project
from accord.collect.schema import AnnotationRow
from accord.stats.agreement import Vote
from accord.stats.intervals import Estimate
from accord.stats.panel import Bootstrap, Panel, alpha, fleiss, panel, raw
from accord.stats.rank_agreement import rank_agreement
from accord.types import Preference

OUTCOMES = ("first", "second", "tie", "both bad")
SWAPPED: dict[Hashable, Hashable] = {"first": "second", "second": "first", "tie": "tie", "both bad": "both bad"}
STRENGTHS = tuple(range(-3, 4))
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
        preferences: of the random slice; `meta["task"]` says what was judged.
    """
    pairs = [p for p in preferences if len(p.candidates) == 2 and p.ranking is None]
    rankings = [p for p in preferences if p.ranking is not None]
    rows = [*_of_pairs(pairs), *_of_rankings(rankings)]
    note = None if rows else "Nothing to compare yet: no task of the random slice has labels of two people."
    return Agreement(slice="random", rows=tuple(rows), note=note)


def _of_pairs(preferences: Sequence[Preference]) -> list[AgreementRow]:
    prompts: dict[Hashable, Hashable] = {_task(p): p.prompt.id for p in preferences}
    outcomes = panel(_votes(preferences, _outcome), labels=OUTCOMES, clusters=prompts)
    if not outcomes.units:
        return []
    strengths = panel(_votes(preferences, _signed), labels=STRENGTHS, clusters=prompts)
    turned: dict[Hashable, Hashable] = {value: -value for value in STRENGTHS}
    given: list[tuple[str, str, Callable[[Panel], Estimate], Panel, Mapping[Hashable, Hashable]]] = [
        ("fleiss", "Fleiss' kappa", lambda p: fleiss(p, _HOW), outcomes, SWAPPED),
        (
            "krippendorff_nominal",
            "Krippendorff's alpha, nominal",
            lambda p: alpha(p, "nominal", _HOW),
            outcomes,
            SWAPPED,
        ),
        (
            "krippendorff_ordinal",
            "Krippendorff's alpha, ordinal",
            lambda p: alpha(p, "ordinal", _HOW),
            strengths,
            turned,
        ),
    ]
    rows = [_row("raw", "Raw agreement", raw(outcomes, _HOW), outcomes, False)]
    for measure, label, compute, over, swap in given:
        rows.append(_row(measure, label, compute(over), over, False))
        rows.append(_row(measure, label, compute(over.symmetric(swap)), over, True))
    return rows


def _of_rankings(preferences: Sequence[Preference]) -> list[AgreementRow]:
    ranks = [(_task(p), p.annotator, _places(p)) for p in preferences]
    prompts: dict[Hashable, Hashable] = {_task(p): p.prompt.id for p in preferences}
    found = rank_agreement(ranks, clusters=prompts, num=500)
    names = {"tau_b": "Kendall's tau-b", "w": "Kendall's W"}
    return [
        AgreementRow(
            measure=f"rankings_{name}",
            label=f"Rankings: {names.get(name, name)}",
            value=estimate.value,
            low=estimate.low,
            high=estimate.high,
            units=estimate.n,
            swap_symmetrised=False,
            reason=estimate.reason or None,
        )
        for name, estimate in found.items()
        if estimate.n
    ]


def _row(measure: str, label: str, estimate: Estimate, over: Panel, symmetric: bool) -> AgreementRow:
    return AgreementRow(
        measure=measure,
        label=label,
        value=estimate.value,
        low=estimate.low,
        high=estimate.high,
        units=over.units,
        swap_symmetrised=symmetric,
        reason=estimate.reason or None,
    )


def _votes(preferences: Iterable[Preference], label: Callable[[Preference], Any]) -> list[Vote]:
    return [(_task(p), p.annotator, label(p)) for p in preferences]


def _task(preference: Preference) -> str:
    return str(preference.meta["task"])


def _outcome(preference: Preference) -> str:
    if preference.choice is None:
        return "tie" if preference.tie else "both bad"
    return OUTCOMES[preference.choice]


def _signed(preference: Preference) -> int:
    """-3 to 3; a tie and both bad are the middle, since neither says which is better."""
    if preference.choice is None:
        return 0
    strength = int(preference.strength or 1)
    return strength if preference.choice else -strength


def _places(preference: Preference) -> list[float]:
    """Rank of every candidate, 1 = best; those in a group share one."""
    places = [0.0] * len(preference.candidates)
    for rank, group in enumerate(preference.ranking or (), 1):
        for candidate in group:
            places[candidate] = float(rank)
    return places
