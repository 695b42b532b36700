"""Graded GSM8K solutions: is our checker the one that graded them?

Reads OpenAI's `example_model_solutions.jsonl`: question, ground_truth, and for each model {solution, is_correct}.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from accord.data.rows import Row, RowError
from accord.evals.measured import Measured
from accord.evals.suites.base import Report, accuracy_of
from accord.evals.suites.gsm8k import strict_answer
from accord.evals.suites.pairs import share
from accord.evals.suites.rows import load, text

Graded = dict[str, tuple[str | None, str, bool]]
"""Model -> (its answer, the right one, the label)."""
_CHECKER = "GSM8K checker, strict"


def _row(row: Row, where: str) -> Graded:
    del where
    gold = strict_answer(text(row, "ground_truth", "answer"))
    if gold is None:
        raise RowError("column 'ground_truth' has no final answer")
    found: Graded = {}
    for name, value in row.items():
        if isinstance(value, dict) and "solution" in value:
            label = value.get("is_correct")
            if not isinstance(label, bool):
                raise RowError(f"'{name}' has no is_correct that is true or false")
            found[str(name)] = (strict_answer(text(value, "solution", empty=True)), gold, label)
    if not found:
        raise RowError("no column holds a solution with is_correct")
    return found


def graded_report(path: Path) -> Report:
    """Return each model's accuracy by our checker, and how often the checker agrees with the labels.

    Raises:
        DataError: the file cannot be read or has no usable row.
    """
    loaded = load(path, _row, needs="question, ground_truth, and a model's {solution, is_correct}")
    by_model: defaultdict[str, list[tuple[str | None, str, bool]]] = defaultdict(list)
    for graded in loaded.items:
        for model, one in graded.items():
            by_model[model].append(one)
    everything = [one for rows in by_model.values() for one in rows]
    same = share(
        "checker agrees with the labels",
        [float((answer == gold) == label) for answer, gold, label in everything],
        unit="solutions",
        judge=_CHECKER,
        prompt_hash=loaded.data_hash,
    )
    known = accuracy_of(same, "labels of this file")
    rows: list[Measured] = [same]
    for model, chosen in by_model.items():
        row = share(f"accuracy, {model}", [float(answer == gold) for answer, gold, _ in chosen], judge=_CHECKER)
        unread = sum(answer is None for answer, _, _ in chosen) / len(chosen)
        rows.append(replace(row, parse_failures=unread, prompt_hash=loaded.data_hash))
    every = tuple(replace(row, judge_accuracy=known) for row in rows)
    labelled = {model: sum(label for _, _, label in chosen) / len(chosen) for model, chosen in by_model.items()}
    return Report(f"GSM8K, graded solutions, {path.name}", every, (), loaded.bad, {"accuracy_by_labels": labelled})
