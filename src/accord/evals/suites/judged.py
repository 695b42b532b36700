"""Files of judgements that exist already, in the formats of the programs that wrote them: `accord eval judged`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from accord.errors import ConfigError, DataError
from accord.evals.suites import alpaca_eval, arena_hard, gsm8k_graded, llmbar, mt_bench_judged, rating
from accord.evals.suites.base import Report
from accord.evals.suites.rows import columns_of


@dataclass(frozen=True)
class Options:
    """What a user can say about a file of judgements; a format uses what it can."""

    judge: str = ""
    """Name of the judge; "" = as the file says."""
    judge_accuracy: Mapping[str, Any] | None = None
    """Measured agreement of that judge with labels."""
    weights: Path | None = None
    """AlpacaEval: table of GLM weights by model."""
    difficulty: Path | None = None
    """AlpacaEval: table of the difficulty of instructions."""
    baseline: str = "baseline"
    """Arena-Hard: name of the model that all are compared with."""
    arena_version: Literal["2.0", "0.1"] = "2.0"
    """Arena-Hard: whose way of reading verdicts."""
    seed: int = 0
    """Of the bootstraps."""


def _alpaca(path: Path, options: Options) -> Report:
    return alpaca_eval.report(
        alpaca_eval.read_judged(path),
        title=f"AlpacaEval, {path.name}",
        judge=options.judge,
        judge_accuracy=_accuracy(options),
        weights=alpaca_eval.read_weights(options.weights) if options.weights else None,
        difficulty=alpaca_eval.read_difficulty(options.difficulty) if options.difficulty else None,
    )


def _llmbar(path: Path, options: Options) -> Report:
    judge = options.judge or path.name.split(".result")[0]
    return llmbar.judged_report(llmbar.read_judged(path), title=f"LLMBar, {path.name}", judge=judge)


def _arena(path: Path, options: Options) -> Report:
    return arena_hard.report(
        arena_hard.read_judged(path, version=options.arena_version),
        title=f"Arena-Hard, {path.name}",
        baseline=options.baseline,
        judge_accuracy=_accuracy(options),
        seed=options.seed,
    )


def _mt_bench(path: Path, options: Options) -> Report:
    pairs = "model_1" in columns_of(path)
    scorer = mt_bench_judged.pair_report if pairs else mt_bench_judged.single_report
    return scorer(path, judge_accuracy=_accuracy(options))


def _ratings(path: Path, options: Options) -> Report:
    return rating.rate_file(path, seed=options.seed, judge_accuracy=_accuracy(options))


def _gsm8k(path: Path, options: Options) -> Report:
    del options
    return gsm8k_graded.graded_report(path)


def _accuracy(options: Options) -> dict[str, Any] | None:
    return None if options.judge_accuracy is None else dict(options.judge_accuracy)


FORMATS: dict[str, tuple[Callable[[Path, Options], Report], str]] = {
    "alpaca": (_alpaca, "AlpacaEval annotations, or model, index, len_baseline, len_model, preference"),
    "llmbar": (_llmbar, "LLMBar result.json: labelled pairs with the verdicts of an evaluator in both orders"),
    "arena": (_arena, "Arena-Hard model_judgment: two games with five-level verdicts"),
    "mtbench": (_mt_bench, "FastChat judgements of MT-Bench, ratings or pairs"),
    "gsm8k": (_gsm8k, "GSM8K solutions with labels (ground_truth, and each model's solution and is_correct)"),
    "ratings": (_ratings, "anything that says which model beat which: Elo and Bradley-Terry with intervals"),
}
"""Name -> (scorer, what the file holds)."""


def detect(path: Path) -> str:
    """Return the format that the columns of the first usable row speak for; "ratings" when none does.

    Raises:
        DataError: the file cannot be read or has no row.
    """
    names = columns_of(path)
    if "games" in names:
        return "arena"
    if "results" in names and "label" in names:
        return "llmbar"
    if names & {"g1_winner", "g1_judgment"} or {"question_id", "judge"} <= names:
        return "mtbench"
    if {"question", "ground_truth"} <= names:
        return "gsm8k"
    if "preference" in names and names & {"generator_2", "len_model"}:
        return "alpaca"
    return "ratings"


def score_file(path: Path, format: str = "auto", options: Options | None = None) -> Report:
    """Score a file of judgements.

    Args:
        path: the file.
        format: a name in `FORMATS`, or "auto".
        options: see `Options`.

    Raises:
        ConfigError: there is no such format.
        DataError: the file cannot be used.
    """
    name = detect(path) if format == "auto" else format
    if name not in FORMATS:
        raise ConfigError(f"there is no format '{name}'", fix=f"choose one of auto, {', '.join(FORMATS)}")
    return FORMATS[name][0](path, options or Options())


def read_accuracy(path: Path) -> dict[str, Any]:
    """Read a judge's measured agreement from the JSON that `accord eval ... --out` wrote: its row "accuracy".

    Raises:
        DataError: the file cannot be read or has no such row.
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        rows = report["rows"]
        row = next(row for row in rows if row["name"] in ("accuracy", "detector: accuracy, refusal or not"))
        known = {**{key: row[key] for key in ("value", "low", "high", "n")}, "on": str(report["title"])}
    except OSError as error:
        raise DataError(f"cannot read the file: {error.strerror}", where=str(path), fix="check the path") from error
    except (ValueError, KeyError, TypeError, StopIteration) as error:
        raise DataError(
            "the file has no measured accuracy of a judge",
            where=str(path),
            fix="make one: accord eval judged RESULT --format llmbar --out accuracy.json",
        ) from error
    return known
