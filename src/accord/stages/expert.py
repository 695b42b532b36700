"""Stage: rejection sampling, RAFT and expert iteration."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from accord.pipeline import Context
from accord.stages.configs.selection import ExpertConfig
from accord.stages.selecting import parts_of, train_on_chosen
from accord.train.objectives import NLL
from accord.train.selection import Selected, best, forget_moments, initial_weights
from accord.types import Rollout

METHODS = {
    "current": "RAFT (2304.06767): likelihood of the best of its own replies",
    "initial": "expert iteration (1705.08439): likelihood of the best replies of the round before, from the start",
}


def run(cfg: ExpertConfig, ctx: Context) -> dict[str, Any]:
    """Train on the best of the policy's own replies, round after round."""
    parts = parts_of(cfg, ctx, loss_temperature=1.0)

    def choose(rollouts: Sequence[Rollout]) -> Selected:
        return best(
            rollouts,
            num_keep=cfg.num_keep,
            min_quantile=cfg.min_quantile,
            min_score=-math.inf if cfg.min_score is None else cfg.min_score,
            missing_eos_penalty=cfg.missing_eos_penalty,
        )

    anew = cfg.start_from == "initial"
    return train_on_chosen(
        cfg,
        ctx,
        parts,
        choose=choose,
        objective=NLL(),
        method=METHODS[cfg.start_from],
        restart=initial_weights(parts.loaded.policy) if anew else None,
        guards=(forget_moments,) if anew else (),
        show=("objective/scores", "selection/scores"),
    )
