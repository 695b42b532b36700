"""Arena-Hard: five-level verdicts in both orders against one baseline; scores and Bradley-Terry with a bootstrap.

Li et al. 2024, "From crowdsourced data to high-quality benchmarks". A clear win (>>) counts as three games, game 1
shows the baseline as A, game 2 the model. The score of a model is the weighted mean of its games (2.0,
`show_result.py`); Bradley-Terry strengths over models and the baseline are those of 0.1.

Deviations: intervals are 95 % and prompts are drawn whole (the original draws single games, 90 %); a row with an
unreadable verdict is left out of the score as there, but counted and reported.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from accord import stats
from accord.data.rows import Row, RowError
from accord.errors import ConfigError
from accord.evals.measured import Measured
from accord.evals.suites.base import Answers, Loaded, Report, one_turn
from accord.evals.suites.outcomes import comparison_report
from accord.evals.suites.pairs import judged_by
from accord.evals.suites.rating import ratings_report
from accord.evals.suites.rows import field, load, text
from accord.evals.suites.verdicts import LEVEL_SCORES, LEVEL_WEIGHTS, Level, arena_level, swapped_level
from accord.judges.base import Comparison, Judge
from accord.types import Message, Prompt

WEIGHTED = "bootstrap over prompts, >> counts 3"


@dataclass(frozen=True)
class JudgedRow:
    """Verdicts on one prompt."""

    prompt: str
    model: str
    judge: str
    levels: tuple[Level | None, Level | None]
    """A = the model in both: with the model shown first, and second; None = unreadable."""

    @property
    def comparison(self) -> Comparison:
        """As probabilities that the model is better."""
        p = tuple(None if level is None else LEVEL_SCORES[level] for level in self.levels)
        read = [x for x in p if x is not None]
        return Comparison(sum(read) / len(read) if read else None, (p[0], p[1]))


def read_judged(path: Path, *, version: Literal["2.0", "0.1"] = "2.0") -> Loaded[JudgedRow]:
    """Read `model_judgment/<judge>/<model>.jsonl`; the text of a judgement counts before its stored score.

    Raises:
        DataError: the file cannot be read or has no usable row.
    """

    def one(row: Row, where: str) -> JudgedRow:
        del where
        games = field(row, "games")
        if not isinstance(games, list) or len(games) != 2:
            raise RowError("column 'games' must be a list of two games")
        second, first = _level(games[0], version), _level(games[1], version)
        judge = row.get("judge")
        swapped = None if second is None else swapped_level(second)
        return JudgedRow(
            prompt=text(row, "uid", "question_id"),
            model=text(row, "model"),
            judge=judge if isinstance(judge, str) else "judge of the file",
            levels=(first, swapped),
        )

    return load(path, one, needs="question_id or uid, model, games")


def _level(game: object, version: Literal["2.0", "0.1"]) -> Level | None:
    if game is None:
        return None
    if not isinstance(game, dict):
        raise RowError("a game must be an object with 'judgment' or 'score'")
    judgement = game.get("judgment")
    if isinstance(judgement, dict):  # 2.0 keeps the answer of the judge as {"answer": text}
        judgement = judgement.get("answer")
    if isinstance(judgement, str):
        return arena_level(judgement, version=version)
    score = field(game, "score")
    if score is None:
        return None
    found = arena_level(f"[[{score}]]")
    if found is None:
        raise RowError(f"'score' is {score!r}; expected one of A>>B, A>B, A=B, B>A, B>>A")
    return found


def report(
    loaded: Loaded[JudgedRow],
    *,
    title: str,
    baseline: str = "baseline",
    judge_accuracy: dict[str, Any] | None = None,
    seed: int = 0,
) -> Report:
    """Score every model, and rate all of them with the baseline.

    Args:
        loaded: from `read_judged`.
        title: heading.
        baseline: its name.
        judge_accuracy: of the judge.
        seed: of the bootstraps.
    """
    by_model: defaultdict[tuple[str, str], list[JudgedRow]] = defaultdict(list)
    for row in loaded.items:
        by_model[row.model, row.judge].append(row)
    rows: list[Measured] = []
    notes: list[str] = []
    for (model, judge), chosen in by_model.items():
        read = [row for row in chosen if None not in row.levels]
        if len(read) < len(chosen):
            notes.append(f"{model}: {len(chosen) - len(read)} of {len(chosen)} rows lack a readable verdict.")
        row = _score(f"score against {baseline}, {model}", read, seed)
        rows.append(judged_by(replace(row, judge=judge, prompt_hash=loaded.data_hash), [r.comparison for r in chosen]))
    games: list[stats.Game] = []
    clusters: list[str] = []
    for row in loaded.items:
        if None in row.levels:
            continue
        for level in row.levels:
            if level is not None:
                games += [(row.model, baseline, LEVEL_SCORES[level])] * LEVEL_WEIGHTS[level]
                clusters += [row.prompt] * LEVEL_WEIGHTS[level]
    rated = ratings_report(games, clusters, judge=", ".join({j for _, j in by_model}), data_hash=loaded.data_hash)
    notes += rated.notes
    every = [replace(row, judge_accuracy=judge_accuracy) for row in (*rows, *rated.rows)]
    return Report(title, tuple(every), tuple(notes), loaded.bad, rated.details)


def _score(name: str, rows: Sequence[JudgedRow], seed: int) -> Measured:
    """Weighted mean of the games with a bootstrap over prompts: a ratio, so sums are drawn, not means."""
    if not rows:
        return Measured(name, None, None, None, 0, reason="no row with two readable verdicts")
    won, played = (np.zeros(len(rows)) for _ in range(2))
    for i, row in enumerate(rows):
        for level in row.levels:
            if level is not None:
                won[i] += LEVEL_WEIGHTS[level] * LEVEL_SCORES[level]
                played[i] += LEVEL_WEIGHTS[level]
    found = stats.bootstrap_ratio(won, played, [row.prompt for row in rows], seed=seed)
    if len({row.prompt for row in rows}) < 2:
        return Measured(name, found.value, None, None, len(rows), reason="a single prompt has no interval")
    return Measured(name, found.value, found.low, found.high, len(rows), method=WEIGHTED)


class ArenaHard:
    """The suite: models answer hard prompts, a judge compares them with the baseline's answers in both orders."""

    name = "arena-hard"
    about = "hard prompts of one turn, compared with a baseline in both orders"
    kind: Literal["answers"] = "answers"
    needs: Literal["comparison"] = "comparison"
    follow_up = one_turn

    def prompts(self, path: Path) -> Loaded[Prompt]:
        """Read `question.jsonl` of 0.1 (turns) or 2.0 (prompt)."""

        def one(row: Row, where: str) -> Prompt:
            asked = _question(row)
            meta = {"category": str(row.get("category", "")), "where": where}
            name = text(row, "uid", "question_id")
            return Prompt(id=f"arena-hard-{name}", messages=(Message(role="user", content=asked),), meta=meta)

        return load(path, one, needs="uid or question_id, and prompt or turns")

    def score(
        self,
        prompts: Sequence[Prompt],
        answers: Answers,
        *,
        judge: Judge | None = None,
        baseline: Answers | None = None,
    ) -> Report:
        """Compare with the baseline; a judge without levels gives wins, ties and losses."""
        if judge is None or baseline is None:
            raise ConfigError("Arena-Hard needs a judge and a baseline", fix="give --judge and --baseline")
        pairs = zip(prompts, answers.replies, baseline.replies, strict=True)
        said = judge.compare([(p, a[0], b[0]) for p, a, b in pairs])
        return comparison_report(
            f"Arena-Hard, {answers.name} against {baseline.name}",
            said,
            [p.meta["category"] for p in prompts],
            [p.id for p in prompts],
            judge=judge.name,
            prompt_hash=judge.prompt_hash,
            model=f"{answers.name} against {baseline.name}",
        )


def _question(row: Row) -> str:
    if "prompt" in row:
        return text(row, "prompt")
    turns = field(row, "turns")
    if not isinstance(turns, list) or len(turns) != 1:
        raise RowError("column 'turns' must be a list with one turn")
    turn = turns[0]
    return text(turn if isinstance(turn, dict) else {"content": turn}, "content")
