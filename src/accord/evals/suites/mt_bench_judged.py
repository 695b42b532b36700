"""MT-Bench judgements that exist already: FastChat's `<judge>_single.jsonl` and `<judge>_pair.jsonl`."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from accord.data.rows import Row, RowError
from accord.evals.measured import Measured
from accord.evals.suites.base import Loaded, Report
from accord.evals.suites.outcomes import comparison_report, rating_report
from accord.evals.suites.rows import field, load, number, text, whole
from accord.evals.suites.verdicts import mt_bench_pair, mt_bench_rating
from accord.judges.base import Comparison


@dataclass(frozen=True)
class SingleRow:
    """One rating."""

    question: int
    model: str
    judge: str
    turn: int
    rating: float | None
    """1 to 10; None = unreadable."""


@dataclass(frozen=True)
class PairRow:
    """One comparison in both orders."""

    question: int
    model_1: str
    model_2: str
    judge: str
    turn: int
    comparison: Comparison
    """Of model_1 (a) and model_2 (b)."""


def _judge(row: Row) -> str:
    judge = field(row, "judge")
    if isinstance(judge, list) and judge and isinstance(judge[0], str):
        return judge[0]  # FastChat writes [model, name of the prompt]
    return judge if isinstance(judge, str) else "judge of the file"


def read_single(path: Path) -> Loaded[SingleRow]:
    """Read ratings; the text of a judgement counts before its stored score (-1 = unreadable).

    Raises:
        DataError: the file cannot be read or has no usable row.
    """

    def one(row: Row, where: str) -> SingleRow:
        del where
        if isinstance(row.get("judgment"), str):
            rating = mt_bench_rating(str(row["judgment"]))
        else:
            stored = number(row, "score")
            rating = None if stored == -1 else stored
        turn = whole(row, "turn") if "turn" in row else 1
        return SingleRow(whole(row, "question_id"), text(row, "model"), _judge(row), turn, rating)

    return load(path, one, needs="question_id, model, judge, turn, judgment (or score)")


def read_pairs(path: Path) -> Loaded[PairRow]:
    """Read comparisons; the texts of the judgements count before the stored winners.

    Raises:
        DataError: the file cannot be read or has no usable row.
    """

    def one(row: Row, where: str) -> PairRow:
        del where
        first, second = _order(row, 1), _order(row, 2)
        both = [p for p in (first, second) if p is not None]
        comparison = Comparison(
            p=sum(both) / len(both) if both else None,
            by_order=(first, second),
            error="" if len(both) == 2 else "a verdict cannot be read",
        )
        turn = whole(row, "turn") if "turn" in row else 1
        names = text(row, "model_1"), text(row, "model_2")
        return PairRow(whole(row, "question_id"), *names, _judge(row), turn, comparison)

    return load(path, one, needs="question_id, model_1, model_2, judge, g1_judgment and g2_judgment (or g1_winner ...)")


def _order(row: Row, game: int) -> float | None:
    """P(model_1 wins) in game 1 (model_1 shown first) or 2 (model_2 shown first)."""
    judgement = row.get(f"g{game}_judgment")
    if isinstance(judgement, str):
        verdict = mt_bench_pair(judgement)
        if verdict is None or verdict == "tie":
            return None if verdict is None else 0.5
        return float((verdict == "A") == (game == 1))
    winner = text(row, f"g{game}_winner")
    known = {"model_1": 1.0, "model_2": 0.0, "tie": 0.5, "error": None}
    if winner not in known:
        raise RowError(f"column 'g{game}_winner' is '{winner}'; expected {', '.join(known)}")
    return known[winner]


def single_report(path: Path, *, judge_accuracy: dict[str, Any] | None = None) -> Report:
    """Score every model of a file of ratings.

    Raises:
        DataError: the file cannot be read or has no usable row.
    """
    loaded = read_single(path)
    groups: defaultdict[tuple[str, str], list[SingleRow]] = defaultdict(list)
    for row in loaded.items:
        groups[row.model, row.judge].append(row)
    reports = [
        rating_report(
            "",
            [(r.rating, "", r.turn) for r in rows],
            [str(r.question) for r in rows],
            judge=judge,
            prompt_hash=loaded.data_hash,
            model=model,
        )
        for (model, judge), rows in groups.items()
    ]
    return _joined(f"MT-Bench ratings, {path.name}", reports, loaded.bad, judge_accuracy)


def pair_report(path: Path, *, judge_accuracy: dict[str, Any] | None = None) -> Report:
    """Score every pair of models of a file of comparisons, and every model against all others it met.

    Raises:
        DataError: the file cannot be read or has no usable row.
    """
    loaded = read_pairs(path)
    groups: defaultdict[tuple[str, str, str], list[tuple[PairRow, Comparison]]] = defaultdict(list)
    for row in loaded.items:
        groups[row.model_1, f"against {row.model_2}", row.judge].append((row, row.comparison))
    models = {name for row in loaded.items for name in (row.model_1, row.model_2)}
    if len(models) > 2:
        for row in loaded.items:
            groups[row.model_1, "against all it met", row.judge].append((row, row.comparison))
            groups[row.model_2, "against all it met", row.judge].append((row, turned(row.comparison)))
    reports = [
        comparison_report(
            "",
            [comparison for _, comparison in rows],
            ["" for _ in rows],
            [str(row.question) for row, _ in rows],
            judge=judge,
            prompt_hash=loaded.data_hash,
            model=f"{model} {against}",
        )
        for (model, against, judge), rows in groups.items()
    ]
    return _joined(f"MT-Bench comparisons, {path.name}", reports, loaded.bad, judge_accuracy)


def turned(comparison: Comparison) -> Comparison:
    """Return the comparison of b and a: by_order[0] is again the order with the first of them in front."""
    first, second = (None if p is None else 1 - p for p in comparison.by_order)
    return Comparison(None if comparison.p is None else 1 - comparison.p, (second, first), comparison.error)


def _joined(title: str, reports: list[Report], bad: Any, judge_accuracy: dict[str, Any] | None) -> Report:
    rows: list[Measured] = [replace(row, judge_accuracy=judge_accuracy) for r in reports for row in r.rows]
    details = {r.rows[0].name: dict(r.details) for r in reports if r.details}
    return Report(title, tuple(rows), tuple(note for r in reports for note in r.notes), bad, details)
