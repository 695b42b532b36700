"""AlpacaEval 2 from judged pairs: win rate, discrete win rate, length control; the published leaderboard's columns.

Dubois et al. 2024. A preference is a number in [1, 2], 2 = the model's reply (output_2) wins, 1 + probability in
between; 0 is an old way to write a draw. Rows are AlpacaEval's annotations (texts), or lengths only.

The leaderboard takes the difficulty of instruction g from row number g of its table, also where a model's rows were
dropped and the row numbers of its annotations no longer are those of the instructions. `by_row=True` does the same, to
compare with published values; otherwise the instruction's own number counts.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from accord import stats
from accord.data.rows import Row, RowError
from accord.errors import DataError
from accord.evals.constant_answers import most_repeated
from accord.evals.measured import Measured
from accord.evals.suites.base import Loaded, Report
from accord.evals.suites.rows import field, load, number, text, whole
from accord.stats.length_glm import (
    Z95,
    LengthGlm,
    controlled_win_rate,
    fitted_win_rate,
    is_extreme_change,
    length_feature,
    mean_with_se,
    standard_error,
)

_COLUMNS = "model or generator_2, preference, and output_1 and output_2 (or len_baseline and len_model)"
_LENGTH, _DIFFICULTY, _MODEL = "np.tanh(std_delta_len)", "instruction_difficulty", "not_gamed_baseline.astype(float)"


@dataclass(frozen=True)
class JudgedRow:
    """One judged pair: the baseline's reply against the model's."""

    model: str
    """Who wrote output_2."""
    index: int | None
    """Number of the instruction; None = the file has none."""
    len_baseline: int
    """Characters."""
    len_model: int
    """Characters."""
    preference: float | None
    """In [1, 2]; None = the judge's verdict could not be read."""
    reply: str | None
    """The model's, where the file has texts."""
    judge: str
    """Name of the annotator, where the file has it."""
    baseline: str = "baseline"
    """Who wrote output_1, where the file says so."""


def read_judged(path: Path) -> Loaded[JudgedRow]:
    """Read annotations of one or several models.

    Raises:
        DataError: the file cannot be read or has no usable row.
    """
    return load(path, _row, needs=_COLUMNS)


def _row(row: Row, where: str) -> JudgedRow:
    del where
    has_text = "output_1" in row and "output_2" in row
    if has_text:
        baseline, reply = text(row, "output_1", empty=True), text(row, "output_2", empty=True)
        lengths = len(baseline), len(reply)
    else:
        reply, lengths = None, (whole(row, "len_baseline"), whole(row, "len_model"))
    judge, baseline = row.get("annotator"), row.get("generator_1")
    return JudgedRow(
        model=text(row, "generator_2", "model"),
        index=whole(row, "index") if row.get("index") not in (None, "") else None,
        len_baseline=lengths[0],
        len_model=lengths[1],
        preference=_preference(field(row, "preference")),
        reply=reply,
        judge=judge if isinstance(judge, str) else "",
        baseline=baseline if isinstance(baseline, str) and baseline else "baseline",
    )


def _preference(value: object) -> float | None:
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, str) and value.strip().lower() in ("nan", "none", "null"):
        return None
    found = number({"preference": value}, "preference")
    if found == 0:
        return 1.5
    if not 1 <= found <= 2:
        raise RowError(f"column 'preference' is {found:g}; expected 1 to 2 (2 = output_2 wins), or 0 for a draw")
    return found


def read_weights(path: Path) -> dict[str, LengthGlm]:
    """Read a table of GLM weights by model, as AlpacaEval ships them (first column without a name).

    Raises:
        DataError: the file cannot be read or lacks the columns.
    """

    def one(row: Row, where: str) -> tuple[str, LengthGlm]:
        del where
        weights = LengthGlm(number(row, _LENGTH), number(row, _DIFFICULTY), number(row, _MODEL))
        return text(row, "", "model"), weights

    return dict(_whole_table(path, load(path, one, needs=f"a model and {_LENGTH}, {_DIFFICULTY}, {_MODEL}")))


def read_difficulty(path: Path) -> dict[int, float]:
    """Read the difficulty of each instruction.

    Raises:
        DataError: the file cannot be read or lacks the columns.
    """

    def one(row: Row, where: str) -> tuple[int, float]:
        del where
        return whole(row, "index", ""), number(row, _DIFFICULTY)

    return dict(_whole_table(path, load(path, one, needs=f"index and {_DIFFICULTY}")))


def _whole_table(path: Path, loaded: Loaded[Any]) -> list[Any]:
    """A table of constants with a hole gives wrong numbers: refuse it."""
    if loaded.bad:
        first = loaded.bad[0]
        raise DataError(
            f"{len(loaded.bad)} rows cannot be used: {first.reason}", where=first.where, fix="mend the table"
        )
    if len({key for key, _ in loaded.items}) < len(loaded.items):
        raise DataError("a key occurs twice", where=str(path), fix="give every model or instruction one row")
    return list(loaded.items)


def by_model(rows: Sequence[JudgedRow]) -> dict[str, list[JudgedRow]]:
    """Group rows by model (and baseline, where a model has several), in order of first appearance."""
    baselines: defaultdict[str, set[str]] = defaultdict(set)
    for row in rows:
        baselines[row.model].add(row.baseline)
    found: defaultdict[str, list[JudgedRow]] = defaultdict(list)
    for row in rows:
        several = len(baselines[row.model]) > 1
        found[f"{row.model} against {row.baseline}" if several else row.model].append(row)
    return dict(found)


def leaderboard_row(rows: Sequence[JudgedRow]) -> dict[str, Any]:
    """Return the published columns of one model without length control, in percent.

    `win_rate`, `standard_error` (sample, n - 1), `n_wins`, `n_wins_base`, `n_draws`, `n_total`, `discrete_win_rate`
    (draws count half), `avg_length` (characters, cut to a whole number), and `unreadable`, the rows left out.
    """
    read = np.array([row.preference for row in rows if row.preference is not None], dtype=np.float64) - 1
    if read.size == 0:
        return {"win_rate": None, "n_total": 0, "unreadable": len(rows)}
    wins, losses = int((read > 0.5).sum()), int((read < 0.5).sum())
    draws = int(read.size) - wins - losses
    return {
        "win_rate": 100 * float(read.mean()),
        "standard_error": 100 * standard_error(read),
        "n_wins": wins,
        "n_wins_base": losses,
        "n_draws": draws,
        "n_total": int(read.size),
        "discrete_win_rate": 100 * (wins + draws / 2) / int(read.size),
        "avg_length": int(sum(row.len_model for row in rows) / len(rows)),
        "unreadable": len(rows) - int(read.size),
    }


def difficulties(
    rows: Sequence[JudgedRow], difficulty: Mapping[int, float], *, by_row: bool = False
) -> list[float] | None:
    """Return the difficulty of each row's instruction; None when one is not in the table.

    Args:
        rows: of one model.
        difficulty: number of the instruction -> difficulty.
        by_row: take the row's place in the file for the number of its instruction, as the leaderboard does.
    """
    numbers = [i if by_row or row.index is None else row.index for i, row in enumerate(rows)]
    return [difficulty[i] for i in numbers] if all(i in difficulty for i in numbers) else None


@dataclass(frozen=True)
class Controlled:
    """A length-controlled win rate, as a share."""

    interval: stats.Interval
    """Value with its 95 % interval."""
    weights: LengthGlm
    """Of the regression."""
    method: str
    """Where the weights are from and what the interval covers."""


def length_control(
    rows: Sequence[JudgedRow],
    *,
    weights: LengthGlm | None = None,
    difficulty: Mapping[int, float] | None = None,
    by_row: bool = False,
) -> Controlled:
    """Return the win rate at equal length of one model.

    Args:
        rows: of one model.
        weights: of the model; None = fit them on these rows (`length_controlled_noreg`).
        difficulty: of the instructions; None = leave that term out, as upstream advises for other instructions.
        by_row: see `difficulties`.

    Raises:
        ValueError: with a reason when there is no such number: a difficulty is missing, or the fit is impossible.
    """
    chosen = [row for row in rows if row.preference is not None]
    known = None if difficulty is None else difficulties(rows if weights else chosen, difficulty, by_row=by_row)
    if difficulty is not None and known is None:
        raise ValueError("some instructions are not in the table of difficulties")
    if weights is not None:
        if known is None:
            raise ValueError("given weights need the difficulties of the instructions (--difficulty)")
        found = controlled_win_rate(weights, known)
        return Controlled(found, weights, "GLM, given weights; spread of predictions over instructions")
    y = [row.preference - 1 for row in chosen if row.preference is not None]
    x = length_feature([row.len_baseline for row in chosen], [row.len_model for row in chosen])
    fitted, interval = fitted_win_rate(y, x, known)
    kind = "with" if known is not None else "without"
    return Controlled(interval, fitted, f"GLM fitted here, no gamed baselines, {kind} difficulty; influence function")


def report(
    loaded: Loaded[JudgedRow],
    *,
    title: str,
    judge: str = "",
    judge_accuracy: dict[str, Any] | None = None,
    weights: Mapping[str, LengthGlm] | None = None,
    difficulty: Mapping[int, float] | None = None,
) -> Report:
    """Score every model of a file of annotations.

    Args:
        loaded: from `read_judged`.
        title: heading.
        judge: who judged; "" = as the file says.
        judge_accuracy: that judge's measured agreement with labels.
        weights: by model; a model that is not in it is fitted.
        difficulty: of the instructions.
    """
    rows: list[Measured] = []
    notes: list[str] = []
    table: dict[str, Any] = {}
    for model, chosen in by_model(loaded.items).items():
        line = leaderboard_row(chosen)
        table[model] = line
        named = judge or next((row.judge for row in chosen if row.judge), "") or "annotator of the file"
        common: dict[str, Any] = {
            "n": line["n_total"],
            "judge": named,
            "judge_accuracy": judge_accuracy,
            "prompt_hash": loaded.data_hash,
            "parse_failures": line["unreadable"] / len(chosen),
        }
        read = [row.preference - 1 for row in chosen if row.preference is not None]
        if not read:
            rows.append(Measured(f"win rate, {model}", None, None, None, reason="no readable verdict", **common))
            continue
        raw = mean_with_se(read) if len(read) > 1 else stats.wilson(read[0], 1)
        rows.append(Measured(f"win rate, {model}", raw.value, raw.low, raw.high, method="standard error", **common))
        discrete = stats.wilson(line["discrete_win_rate"] / 100 * len(read), len(read))
        rows.append(Measured(f"discrete win rate, {model}", discrete.value, discrete.low, discrete.high, **common))
        given = (weights or {}).get(chosen[0].model)
        rows.append(_controlled(model, chosen, given, difficulty, common, line, notes))
        repeated = _repeated(model, chosen)
        rows.append(repeated.share)
        line["constant_answer"] = repeated.flagged
        if repeated.flagged:
            notes.append(
                f"ALARM {model}: {repeated.share.value:.0%} of its answers to different instructions are one "
                f"{'text' if repeated.example else 'length'}. Its win rate is not one of answers."
            )
    notes.append(
        "One order a pair, drawn at random by the annotator: position bias cancels on average and cannot be measured."
    )
    return Report(title, tuple(rows), tuple(notes), loaded.bad, {"leaderboard": table})


def _controlled(
    model: str,
    chosen: Sequence[JudgedRow],
    given: LengthGlm | None,
    difficulty: Mapping[int, float] | None,
    common: Mapping[str, Any],
    line: dict[str, Any],
    notes: list[str],
) -> Measured:
    name = f"length-controlled win rate, {model}"
    try:
        found = length_control(chosen, weights=given, difficulty=difficulty)
    except ValueError as error:
        line["length_controlled_winrate"] = None
        return Measured(name, None, None, None, **{**common, "reason": str(error)})
    value = found.interval
    line["length_controlled_winrate"] = 100 * value.value
    if found.weights is given:
        line["lc_standard_error"] = 100 * (value.high - value.value) / Z95
    dropped = len(difficulty or ()) - len(chosen)
    if given is not None and difficulty is not None and dropped > 0:
        published = length_control(chosen, weights=given, difficulty=difficulty, by_row=True).interval
        line["length_controlled_winrate_by_row"] = 100 * published.value
        notes.append(
            f"{model}: {len(chosen)} of {len(difficulty)} instructions were judged. With the difficulty of those that "
            f"were: {100 * value.value:.4f} %. The leaderboard numbers the rows that are left anew and so takes "
            f"difficulties of others: {100 * published.value:.4f} %."
        )
    if is_extreme_change(line["win_rate"], 100 * value.value):
        notes.append(
            f"{model}: length control moves the win rate from {line['win_rate']:.1f} to {100 * value.value:.1f} %, "
            "more than 10 points and a quarter of the room: the regression may have failed."
        )
    return Measured(name, value.value, value.low, value.high, method=found.method, **common)


def _repeated(model: str, chosen: Sequence[JudgedRow]) -> Any:
    instructions = [i if row.index is None else row.index for i, row in enumerate(chosen)]
    texts = [row.reply for row in chosen if row.reply is not None]
    if len(texts) == len(chosen):
        return most_repeated(texts, instructions, model=model)
    return most_repeated([row.len_model for row in chosen], instructions, model=model)
