"""What the stages of reward models with several outputs share: where they start, and what they measure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from accord import rng
from accord.errors import DataError
from accord.evals.preferences import accuracy, labelled
from accord.models.build import reward_from_causal
from accord.models.checkpoint import max_positions
from accord.models.pair import load_pair
from accord.models.policy import ScoreModel
from accord.pipeline import Context
from accord.stages.configs import AttributesConfig, EnsembleConfig, OdinConfig, ProcessConfig
from accord.stages.training import DTYPES, check_length
from accord.train.examples import Example

SCALE_ROWS = 4000
"""Replies at most whose scores set mean and deviation."""


def start(cfg: EnsembleConfig | AttributesConfig | OdinConfig | ProcessConfig, ctx: Context) -> tuple[ScoreModel, Any]:
    """A reward model with a new scalar head on the model a stage starts from, and its tokenizer.

    Raises:
        ModelError: the model or tokenizer cannot be used.
        ConfigError: max_length is larger than the model's context.
    """
    location = ctx.inputs["model_name_or_path"].location
    hf, tokenizer = load_pair(location, DTYPES[cfg.dtype], cfg.pad_token)
    check_length(cfg.max_length, max_positions(hf), f"{ctx.work.stage}.max_length")
    return reward_from_causal(hf, seed=rng.derive(ctx.run.seed, ctx.work.stage, "init")), tokenizer


def rows_of(examples: Sequence[Example], limit: int = SCALE_ROWS) -> list[tuple[int, ...]]:
    """Token ids of the rows of the first examples, at most `limit` rows."""
    return [row.ids for e in examples[:limit] for row in e.rows][:limit]


def moments(scores_BK: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and population deviation of each column.

    Raises:
        DataError: a column is constant.
    """
    std_K = scores_BK.std(dim=0, correction=0)
    if not bool((std_K > 0).all()):
        raise DataError(
            "the reward model gives every reply the same score: it has learnt nothing from these labels",
            fix="train longer or with a higher learning_rate, and check that the replies differ",
        )
    return tuple(scores_BK.mean(dim=0).tolist()), tuple(std_K.tolist())


def pair_report(score_B: Tensor, examples: Sequence[Example], ctx: Context) -> dict[str, Any] | None:
    """Accuracy with interval, and negative log-likelihood, of scores of pairs (rows 2i and 2i + 1); None without pairs.

    Args:
        score_B: raw scores.
        examples: the pairs.
        ctx: gives the seed of the bootstrap.
    """
    if not examples:
        return None
    delta_P = score_B[0::2] - score_B[1::2]
    pairs = [labelled(*e.origin, e.target) for e in examples if e.origin is not None]
    target_P = torch.tensor([p.target for p in pairs], dtype=delta_P.dtype)
    nll = -(target_P * logsigmoid(delta_P) + (1 - target_P) * logsigmoid(-delta_P)).mean()
    seed = rng.derive(ctx.run.seed, ctx.work.stage, "bootstrap")
    return {"accuracy": accuracy(delta_P.tolist(), pairs, seed=seed), "nll": float(nll)}
