"""Stage: online DPO."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from accord.errors import ConfigError
from accord.models.pair import device
from accord.pipeline import Context
from accord.stages.configs.selection import OnlineDPOConfig
from accord.stages.selecting import parts_of, train_on_chosen
from accord.train.examples import Example
from accord.train.objectives import DPO
from accord.train.selection import Selected, best_worst
from accord.train.sources import with_reference
from accord.types import Rollout


def run(cfg: OnlineDPOConfig, ctx: Context) -> dict[str, Any]:
    """Train on pairs of the policy's own replies; the model it starts from stays the reference."""
    parts = parts_of(cfg, ctx, loss_temperature=cfg.temperature)

    scale = parts.scorer.scale if cfg.soft_labels else None
    if cfg.soft_labels and scale is None:
        raise ConfigError(
            "soft_labels need a score that is a log-odds: not that of an ensemble or a sum of rewards",
            where=f"{ctx.work.stage}.soft_labels",
            fix="score with a single reward model, or leave soft_labels off",
        )

    def choose(rollouts: Sequence[Rollout]) -> Selected:
        return best_worst(rollouts, scale=scale, missing_eos_penalty=cfg.missing_eos_penalty)

    def finish(examples: Sequence[Example]) -> Sequence[Example]:
        return with_reference(
            examples, parts.ref, pad_id=parts.loaded.pad_id, token_budget=cfg.token_budget, device=device()
        )

    return train_on_chosen(
        cfg,
        ctx,
        parts,
        choose=choose,
        objective=DPO(beta=cfg.beta, loss_type=(cfg.loss_type,)),
        method="online DPO (2402.04792)",
        finish=finish,
        show=("objective/scores", "rewards/accuracies"),
        resample=cfg.dynamic_sampling,
    )
