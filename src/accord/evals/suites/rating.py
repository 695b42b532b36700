"""Elo and Bradley-Terry over several models from games, with intervals over prompts."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accord import stats
from accord.data import read
from accord.errors import DataError
from accord.evals.measured import Measured
from accord.evals.suites.base import Report
from accord.evals.suites.rows import hash_of
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


def rate_file(path: Path, *, seed: int = 0, judge_accuracy: dict[str, Any] | None = None) -> Report:
    """Rate the models of any file of preferences that names who wrote each reply.

    Arena battles, Accord's own preferences, AlpacaFarm pairs, rankings (each pair of them is a game): whatever
    `accord.data.read` makes preferences of. Ties count half, "both bad" is a tie.

    Raises:
        DataError: the file has no preferences, or they name no models.
    """
    with tempfile.TemporaryDirectory() as scratch:  # the report names refused rows; the reader wants a file for them
        data = read(path, Preference, max_bad_rows=_ANY, rejects=Path(scratch) / "rejects.jsonl")
    games: list[stats.Game] = []
    clusters: list[str] = []
    unnamed = 0
    judges: set[str] = set()
    for preference in data.records:
        found = games_of(preference)
        unnamed += not found
        games += found
        key = "\x1e".join(m.content for m in preference.prompt.messages)
        clusters += [key] * len(found)
        judges.add(preference.annotator or preference.source)
    if not games:
        raise DataError(
            "no preference names the models that wrote the replies",
            where=str(path),
            fix="give each candidate a model (model_a/model_b, generator_1/generator_2, candidates[].model)",
        )
    who = next(iter(judges)) if len(judges) == 1 else f"{len(judges)} annotators"
    made = ratings_report(
        games,
        clusters,
        judge=who,
        data_hash=hash_of(path),
        title=f"Ratings, {path.name}",
        seed=seed,
        judge_accuracy=judge_accuracy,
    )
    notes = list(made.notes)
    if unnamed:
        notes.append(f"{unnamed} preferences compare replies of one or no named model and make no game.")
    return Report(made.title, made.rows, tuple(notes), tuple(data.bad), made.details)


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
