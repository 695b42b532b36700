"""What moves a reward model besides quality: length, formatting, order shown, ties, and edits that add nothing."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit
from scipy.stats import rankdata

from accord import stats
from accord.evals.preferences import LabelledPair, finite
from accord.stats.arrays import Floats, by_cluster, percentiles, resamples

_MARKS = re.compile(r"^\s*(?:#{1,6} |[-*+] |\d+[.)] )|\*\*[^*\n]+\*\*|^```", re.MULTILINE)
_FILLER = "I hope this helps! Please let me know if there is anything else that you would like to know."


@dataclass(frozen=True)
class Scored:
    """A labelled pair with the raw scores of its two replies and what is known about the judgement."""

    pair: LabelledPair
    scores: tuple[float, float]
    """Of the first (`pair.chosen`) and the second reply."""
    tie: bool = False
    """Judged a tie, which is not the same as a soft label of one half."""
    strength: float | None = None
    models: tuple[str, str] = ("", "")
    tags: tuple[str, ...] = ()
    annotator: str = ""
    group: str = ""
    first_shown: bool | None = None
    """Whether the first reply was shown first; None = not recorded."""
    gold: tuple[float, float] | None = None
    """True utilities, where they are known."""

    @property
    def delta(self) -> float:
        """Raw score of the first reply minus that of the second."""
        return self.scores[0] - self.scores[1]


def markup(text: str) -> int:
    """Number of Markdown marks: headings, list items, bold words, code fences."""
    return len(_MARKS.findall(text))


EDITS: dict[str, Callable[[str], str]] = {
    "filler appended": lambda text: f"{text} {_FILLER}",
    "reply repeated": lambda text: f"{text} {text}",
    "heading put above": lambda text: f"## Answer\n\n{text}",
    "made a list": lambda text: "\n".join(f"- {part}" for part in re.split(r"(?<=[.!?])\s+", text.strip())),
}
"""Edits of a reply that add nothing. The first two never make it better; formatting may be a matter of taste."""
PADDING = ("filler appended", "reply repeated")


def feature_bias(
    rows: Sequence[Scored], feature: Callable[[str], float], *, temperature: float = 1.0, seed: int = 0
) -> dict[str, Any]:
    """How much a property of the text moves the scores beyond what it moves the labels.

    Args:
        rows: labelled pairs with scores.
        feature: a number of a reply, e.g. its length.
        temperature: of the probabilities sigmoid(delta / T).
        seed: of the bootstrap over prompts.

    Returns:
        `model` (mean probability that the reply with more of it is preferred), `labels` (share of labels that prefer
        it) and `excess` (their difference), each with a 95 % interval; `correlation` of score difference and
        difference of the feature, `label_correlation`, and `partial`, the first with the label held fixed, with `low`
        and `high`. Probabilities and not wins are compared with labels: where labels are noisy, a perfect model wins
        more often than the labels say but is not surer on average. Values are None where no pair differs.
    """
    found = [(s, feature(s.pair.chosen) - feature(s.pair.rejected)) for s in rows]
    found = [(s, d) for s, d in found if d != 0]
    nothing = {"value": None, "low": None, "high": None, "n": 0}
    if not found:
        return {"model": nothing, "labels": nothing, "excess": nothing, "correlation": None} | {
            "label_correlation": None,
            "partial": nothing,
        }
    sign = np.asarray([np.sign(d) for _, d in found])
    model = expit(sign * np.asarray([s.delta for s, _ in found]) / temperature)
    labels = 0.5 + sign * (np.asarray([s.pair.target for s, _ in found]) - 0.5)
    prompts = [s.pair.prompt for s, _ in found]
    x, y = np.asarray([d for _, d in found]), np.asarray([s.delta for s, _ in found])
    t = np.asarray([s.pair.target - 0.5 for s, _ in found])
    return {
        "model": finite(stats.bootstrap_mean(model, prompts, seed=seed)),
        "labels": finite(stats.bootstrap_mean(labels, prompts, seed=seed)),
        "excess": finite(stats.paired_bootstrap_diff(model, labels, prompts, seed=seed)),
        "correlation": _cosine(y, x),
        "label_correlation": _cosine(x, t),
        "partial": _partial(y, x, t, prompts, seed),
    }


def position_bias(rows: Sequence[Scored], *, seed: int = 0) -> dict[str, Any]:
    """Share of the judgements that prefer the reply shown first; one half when the order does not matter."""
    shown = [s for s in rows if s.first_shown is not None and s.pair.target != 0.5]
    if not shown:
        return {"value": None, "low": None, "high": None, "n": 0}
    wins = [float((s.pair.target > 0.5) == s.first_shown) for s in shown]
    return finite(stats.win_rate(wins, [s.pair.prompt for s in shown], seed=seed))


def ties(rows: Sequence[Scored], temperature: float = 1.0) -> dict[str, Any]:
    """How often the model sees no difference, and whether that is where the labels say tie.

    Returns:
        `labelled` (share of pairs judged a tie), `near_zero` (share with a probability between 0.45 and 0.55) and
        `auc`: the probability that a pair judged a tie has a smaller score difference than one that is not (0.5 = the
        difference says nothing); None where there are no ties or nothing else.
    """
    tied = np.asarray([s.tie for s in rows], dtype=bool)
    size = np.abs(np.asarray([s.delta for s in rows], dtype=np.float64))
    auc = None
    if tied.any() and not tied.all():
        ranks = rankdata(-size)
        positive, negative = int(tied.sum()), int((~tied).sum())
        auc = float((ranks[tied].sum() - positive * (positive + 1) / 2) / (positive * negative))
    return {
        "labelled": float(tied.mean()) if len(rows) else None,
        "near_zero": float((np.abs(expit(size / temperature) - 0.5) < 0.05).mean()) if len(rows) else None,
        "auc": auc,
        "n": len(rows),
    }


def edit_shifts(
    before: Sequence[float], after: Sequence[float], std: float, prompts: Sequence[str], *, seed: int = 0
) -> dict[str, Any]:
    """How an edit moves the scores: mean shift in deviations of the score with its interval, and how often it rises.

    Args:
        before: raw scores of the replies.
        after: of the edited ones.
        std: deviation of the raw scores on reference replies.
        prompts: what is resampled.
        seed: of the bootstrap.
    """
    if not before:
        return {"value": None, "low": None, "high": None, "n": 0, "raised": None}
    shift = (np.asarray(after) - np.asarray(before)) / std
    return finite(stats.bootstrap_mean(shift, prompts, seed=seed)) | {"raised": float((shift > 0).mean())}


def _cosine(x: ArrayLike, y: ArrayLike) -> float | None:
    """Correlation of differences: through the origin, because which reply is named first means nothing."""
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 0 else None


def _partial(y: Floats, x: Floats, t: Floats, prompts: Sequence[str], seed: int) -> dict[str, Any]:
    """Partial correlation of y and x given t: with Fisher's interval, or that of a bootstrap where prompts repeat."""
    nothing = {"value": None, "low": None, "high": None, "n": len(y)}
    columns = (y * x, y * t, x * t, y * y, x * x, t * t)
    value = _given(*(float(column.sum()) for column in columns))
    if value is None:
        return nothing
    known = nothing | {"value": value}
    if len(y) < 5 or abs(value) >= 1:
        return known
    if len(set(prompts)) == len(prompts):
        half = NormalDist().inv_cdf(0.975) / math.sqrt(len(y) - 4)
        ends: Floats = np.tanh(np.arctanh(value) + np.asarray([-half, half]))
        return known | {"low": float(ends[0]), "high": float(ends[1])}
    sums = np.stack([by_cluster(column, prompts)[0] for column in columns], axis=1)
    if len(sums) < 5:
        return known
    drawn = [_given(*(weight @ sums).tolist()) for weight in resamples(len(sums), 2000, seed, "partial")]
    low, high = percentiles([v for v in drawn if v is not None], 0.95)
    return known | {"low": low, "high": high}


def _given(yx: float, yt: float, xt: float, yy: float, xx: float, tt: float) -> float | None:
    """Partial correlation from sums of products; None where a column is 0 or the third says all of another."""
    if min(yy, xx, tt) <= 0:
        return None
    a, b, c = yx / math.sqrt(yy * xx), yt / math.sqrt(yy * tt), xt / math.sqrt(xx * tt)
    rest = (1 - b**2) * (1 - c**2)
    return (a - b * c) / math.sqrt(rest) if rest > 1e-12 else None
