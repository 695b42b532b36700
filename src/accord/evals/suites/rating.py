"""Elo and Bradley-Terry over several models from games, with intervals over prompts."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accord import stats
from accord.data import BadRow, read
from accord.data.rows import Row, RowError
from accord.errors import DataError
from accord.evals.measured import Measured
from accord.evals.suites import alpaca_eval, mt_bench_judged
from accord.evals.suites.base import Report
from accord.evals.suites.rows import columns_of, hash_of, load, text
from accord.types import Preference

_ANY = 1 << 31


def ratings_report(
    games: Sequence[stats.Game],
    clusters: Sequence[str],
    *,
    judge: str,
    data_hash: str,
    title: str = "Ratings",
    seed: int = 0,
    judge_accuracy: dict[str, Any] | None = None,
) -> Report:
    """Return strengths in Elo points around 1000, best first, with percentile intervals of a bootstrap over prompts.

    Args:
        games: (first, second, result for the first).
        clusters: prompt of each game.
        judge: who judged.
        data_hash: of the file.
        title: heading.
        seed: of the bootstrap.
        judge_accuracy: of the judge.

    Returns:
        Bradley-Terry strengths, or where they do not exist (a model that always won or never met the others) the
        reason as a note. `details["elo"]` has the sequential Elo ratings: they depend on the order of the games and
        serve for comparison only.
    """
    if not games:
        return Report(title, (), ("There are no games to rate.",))
    played: dict[Any, int] = {}
    for first, second, _ in games:
        for name in (first, second):
            played[name] = played.get(name, 0) + 1
    details = {"elo": {str(k): v for k, v in stats.elo(games).items()}, "games": {str(k): n for k, n in played.items()}}
    try:
        strengths = stats.bradley_terry_intervals(games, clusters, seed=seed)
    except ValueError as error:
        return Report(title, (), (f"No Bradley-Terry ratings: {error}.",), details=details)
    factor = float(stats.elo_scale([1.0])[0])
    rows = [
        Measured(
            name=f"rating, {name}",
            value=1000 + factor * s.value,
            low=1000 + factor * s.low,
            high=1000 + factor * s.high,
            n=s.n,
            unit="games",
            method="Bradley-Terry in Elo points (mean 1000), bootstrap over prompts",
            judge=judge,
            judge_accuracy=judge_accuracy,
            prompt_hash=data_hash,
        )
        for name, s in sorted(strengths.items(), key=lambda item: -item[1].value)
    ]
    return Report(title, tuple(rows), details=details)


@dataclass(frozen=True)
class Games:
    """What a file says about who beat whom."""

    games: tuple[stats.Game, ...]
    """(first, second, result for the first)."""
    clusters: tuple[str, ...]
    """Prompt of each game."""
    judge: str
    """Who judged."""
    bad: tuple[BadRow, ...]
    """Rows that were refused."""
    notes: tuple[str, ...] = ()
    """What makes no game."""


def rate_file(path: Path, *, seed: int = 0, judge_accuracy: dict[str, Any] | None = None) -> Report:
    """Rate the models of any file of judgements that names who wrote each reply; see `read_games`.

    Raises:
        DataError: the file has no judgements, or they name no models.
    """
    found = read_games(path)
    made = ratings_report(
        found.games,
        found.clusters,
        judge=found.judge,
        data_hash=hash_of(path),
        title=f"Ratings, {path.name}",
        seed=seed,
        judge_accuracy=judge_accuracy,
    )
    return Report(made.title, made.rows, (*found.notes, *made.notes), found.bad, made.details)


def read_games(path: Path) -> Games:
    """Read who beat whom: battles, MT-Bench pairs, AlpacaEval annotations, or any preferences.

    Battles are rows of model_a, model_b, winner (model_a, model_b, a tie, "both bad" as a tie), with or without texts.
    Both orders of an MT-Bench pair are a game each. AlpacaEval's preferences are games against its baseline. Else
    preferences are whatever `accord.data.read` makes them of; each pair of a ranking is a game.

    Raises:
        DataError: the file has no judgements, or they name no models.
    """
    names = columns_of(path)
    if {"model_a", "model_b", "winner"} <= names:
        battles = load(path, _battle, needs="model_a, model_b, winner")
        judges = {judge for _, _, judge in battles.items}
        keys = tuple(key for _, key, _ in battles.items)
        return Games(tuple(game for game, _, _ in battles.items), keys, _one(judges), battles.bad)
    if "model_1" in names and names & {"g1_winner", "g1_judgment"}:
        pairs = mt_bench_judged.read_pairs(path)
        both = [
            ((r.model_1, r.model_2, p), f"{r.question}", r.judge)
            for r in pairs.items
            for p in r.comparison.by_order
            if p is not None
        ]
        judges = {judge for _, _, judge in both}
        return Games(tuple(g for g, _, _ in both), tuple(key for _, key, _ in both), _one(judges), pairs.bad)
    if "preference" in names and names & {"generator_2", "len_model"}:
        judged = alpaca_eval.read_judged(path)
        read_ = [(i, r, r.preference) for i, r in enumerate(judged.items) if r.preference is not None]
        games: list[stats.Game] = [(r.model, r.baseline, p - 1) for _, r, p in read_]
        keys = tuple(str(i if r.index is None else r.index) for i, r, _ in read_)
        return Games(tuple(games), keys, _one({r.judge for r in judged.items}), judged.bad)
    return _preferences(path)


def _battle(row: Row, where: str) -> tuple[stats.Game, str, str]:
    a, b = text(row, "model_a"), text(row, "model_b")
    if a == b:
        raise RowError(f"model_a and model_b are both '{a}'")
    winner = text(row, "winner")
    result = {"model_a": 1.0, "a": 1.0, "model_b": 0.0, "b": 0.0}.get(winner.lower())
    if result is None and not winner.lower().startswith(("tie", "both")):
        raise RowError(f"column 'winner' is '{winner}'; expected model_a, model_b, tie or tie (bothbad)")
    key = next((str(row[name]) for name in ("question_id", "prompt", "question") if row.get(name)), where)
    judge = row.get("judge")
    return (a, b, 0.5 if result is None else result), key, judge if isinstance(judge, str) else ""


def _one(judges: set[str]) -> str:
    return (next(iter(judges)) or "judge of the file") if len(judges) == 1 else f"{len(judges)} annotators"


def _preferences(path: Path) -> Games:
    with tempfile.TemporaryDirectory() as scratch:  # the report names refused rows; the reader wants a file for them
        data = read(path, Preference, max_bad_rows=_ANY, rejects=Path(scratch) / "rejects.jsonl")
    games: list[stats.Game] = []
    clusters: list[str] = []
    unnamed = 0
    for preference in data.records:
        found = games_of(preference)
        unnamed += not found
        games += found
        clusters += ["\x1e".join(m.content for m in preference.prompt.messages)] * len(found)
    if not games:
        raise DataError(
            "no preference names the models that wrote the replies",
            where=str(path),
            fix="give each candidate a model (model_a/model_b, generator_1/generator_2, candidates[].model)",
        )
    notes = (f"{unnamed} preferences compare replies of one or no named model and make no game.",) if unnamed else ()
    judges = {preference.annotator or preference.source for preference in data.records}
    return Games(tuple(games), tuple(clusters), _one(judges), tuple(data.bad), notes)


def games_of(preference: Preference) -> list[stats.Game]:
    """Return the games a preference is: one a pair of replies of different named models."""
    names = [candidate.model for candidate in preference.candidates]
    size = len(names)
    games: list[stats.Game] = []
    for i in range(size):
        for j in range(i + 1, size):
            if names[i] and names[j] and names[i] != names[j]:
                result = _result(preference, i, j)
                if result is not None:
                    games.append((names[i], names[j], result))
    return games


def _result(preference: Preference, i: int, j: int) -> float | None:
    if preference.tie or preference.both_bad:
        return 0.5
    if preference.soft is not None:
        return preference.soft
    if preference.ranking is not None:
        place = {index: p for p, group in enumerate(preference.ranking) for index in group}
        return 0.5 if place[i] == place[j] else float(place[i] < place[j])
    if preference.choice in (i, j):
        return float(preference.choice == i)
    return None  # neither is the best: nothing is known about these two
