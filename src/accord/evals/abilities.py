"""Base abilities before and after: what a model could do that nobody asked training to keep (the alignment tax).

Ouyang et al. 2022 (InstructGPT), sections 3.4 and 4.2: optimising for preferences costs performance elsewhere, and
mixing in pretraining gradients gives some of it back.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from accord import lab, stats
from accord.types import Prompt

_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


@dataclass(frozen=True)
class Outcomes:
    """What one model did on one data set, unit by unit."""

    values: tuple[float, ...]
    """Perplexity: loss of each token in nats; accuracy: 1 or 0 a question."""
    clusters: tuple[str, ...]
    """Document or question of each."""


@dataclass(frozen=True)
class Ability:
    """One data set and what every model did on it."""

    name: str
    kind: Literal["perplexity", "accuracy"]
    outcomes: Mapping[str, Outcomes]
    """By model."""
    tokenizers: Mapping[str, int]
    """By model: equal numbers, equal vocabularies; perplexities over other tokens are not comparable."""


def answer_of(prompt: Prompt) -> str | None:
    """The right answer in a question's `meta["answer"]` (after `####`, if it holds that); None = it has none."""
    answer = prompt.meta.get("answer")
    if isinstance(answer, int | float) and not isinstance(answer, bool):
        return str(answer)
    return answer.rpartition("####")[2].strip() or None if isinstance(answer, str) else None


def is_right(prompt: Prompt, reply: str) -> bool:
    """Whether a reply gives the right answer.

    Lab prompts are judged by the lab. A number must be the last number of the reply; any other answer must occur in it
    as a whole word or phrase, whatever its case.

    Args:
        prompt: a question with an answer.
        reply: to be judged.
    """
    if lab.is_lab(prompt):
        return lab.score(prompt, reply).labels["correct"]
    answer = answer_of(prompt)
    if answer is None:
        return False
    if _NUMBER.fullmatch(answer):
        found = _NUMBER.findall(reply)
        return bool(found) and float(found[-1].replace(",", "")) == float(answer.replace(",", ""))
    return re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", reply, re.IGNORECASE) is not None


def table(abilities: Sequence[Ability], baseline: str, *, seed: int) -> list[dict[str, Any]]:
    """One row a data set: every model's number with its interval, and its change from the baseline.

    Intervals are 95 %: Wilson for accuracies, bootstraps over documents and of paired changes. The change of a
    perplexity is a ratio (1 = none).

    Args:
        abilities: what was measured.
        baseline: the model before.
        seed: of the bootstraps.

    Returns:
        name, kind, better ("lower" or "higher"), models: {value, low, high, n, change: {value, low, high} or None,
        worse: whether the interval of the change lies on the bad side, reason}.
    """
    rows: list[dict[str, Any]] = []
    for ability in abilities:
        models = {name: _row(ability, name, baseline, seed) for name in ability.outcomes}
        better = "lower" if ability.kind == "perplexity" else "higher"
        rows.append({"name": ability.name, "kind": ability.kind, "better": better, "models": models})
    return rows


def _row(ability: Ability, name: str, baseline: str, seed: int) -> dict[str, Any]:
    own, before = ability.outcomes[name], ability.outcomes[baseline]
    if ability.kind == "accuracy":  # one value a question; a bootstrap of nothing but hits would know no doubt
        found = _shown(ability.kind, stats.wilson(sum(own.values), len(own.values)))
    else:
        found = _shown(ability.kind, stats.bootstrap_mean(own.values, own.clusters, seed=seed))
    units = len(set(own.clusters))
    row: dict[str, Any] = {**found, "n": units, "change": None, "worse": False, "reason": ""}
    if name == baseline:
        return row
    if ability.kind == "perplexity" and ability.tokenizers[name] != ability.tokenizers[baseline]:
        return {**row, "reason": "another vocabulary than the baseline's: perplexities are not comparable"}
    change = stats.paired_bootstrap_diff(own.values, before.values, own.clusters, seed=seed)
    row["change"] = _shown(ability.kind, change)
    low, high = change.low, change.high
    row["worse"] = bool(
        math.isfinite(low) and math.isfinite(high) and (low > 0 if ability.kind == "perplexity" else high < 0)
    )
    return row


def _shown(kind: str, interval: stats.Interval) -> dict[str, float | None]:
    """Value and ends; of losses in nats as perplexities (or their ratio)."""
    ends = {key: float(value) for key, value in asdict(interval).items() if key != "n"}
    if kind == "perplexity":
        ends = {key: math.exp(min(value, 700.0)) if math.isfinite(value) else value for key, value in ends.items()}
    return {key: value if math.isfinite(value) else None for key, value in ends.items()}


def markdown(rows: Sequence[Mapping[str, Any]], baseline: str) -> str:
    """The table for people.

    Args:
        rows: from `table`.
        baseline: the model before.
    """
    names = list(dict.fromkeys(name for row in rows for name in row["models"]))
    lines = [f"| ability | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    for row in rows:
        cells = [_cell(row, row["models"].get(name)) for name in names]
        lines.append(f"| {row['name']}, {row['kind']} ({row['better']} is better) | {' | '.join(cells)} |")
    note = f"Change from {baseline}, paired, with its 95 % interval; of perplexities the ratio. **worse**: all of it."
    return "\n".join([*lines, "", note]) + "\n"


def _cell(row: Mapping[str, Any], found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "-"
    digits = 2 if row["kind"] == "perplexity" else 3
    text = f"{found['value']:.{digits}f}"
    if found["low"] is not None:
        text += f" [{found['low']:.{digits}f}, {found['high']:.{digits}f}]"
    change = found["change"]
    if change is not None:
        sign = "x " if row["kind"] == "perplexity" else ""
        between = "" if change["low"] is None else f" [{change['low']:.3f}, {change['high']:.3f}]"
        text += f"; {sign}{change['value']:{'' if sign else '+'}.3f}{between}"
    return text + (" **worse**" if found["worse"] else "") + (f" ({found['reason']})" if found["reason"] else "")
