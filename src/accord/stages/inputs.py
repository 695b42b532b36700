"""What a reward model was trained on, left beside it for who wants to know which replies are unlike that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from accord.diagnose.features import FILE, LEAST_ROWS, fit_space
from accord.rewards.ensemble import MembersReward
from accord.rewards.learned import LearnedReward
from accord.train.examples import Example

MOST_FEATURES = 2048
"""Replies whose features are looked at."""
Watchable = LearnedReward | MembersReward
"""Rewards that say what they read of a reply, and can measure how far that is from their training."""


def save_features(
    raw: Watchable,
    examples: Sequence[Example],
    directory: Path,
    say: Callable[[str], None],
    features: np.ndarray | None = None,
) -> None:
    """Write where the replies of training lie in what the heads of a reward model read.

    Args:
        raw: the trained reward model.
        examples: what it was trained on.
        directory: of the model.
        say: prints one line for the user, when there are too few replies and nothing is written.
        features: of the first `MOST_FEATURES` rows of the examples, or of all of fewer, when they are known.
    """
    rows = [row for e in examples[:MOST_FEATURES] for row in e.rows][:MOST_FEATURES]
    if len(rows) < LEAST_ROWS:
        say(f"  {len(rows)} replies are too few to say which others are unlike them")
        return
    if features is None:
        features = raw.features([row.ids for row in rows], [sum(row.mask) for row in rows])
    fit_space(features).save(directory / FILE)
