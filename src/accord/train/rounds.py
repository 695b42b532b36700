"""One round of rollouts: its settings, what is done to scores, its rows as a batch, statistics of its groups."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from accord import rng
from accord.batch import Batch, collate
from accord.engines.base import Sampling
from accord.errors import DataError, TrainingError
from accord.functional import kl
from accord.functional.advantages import equal_groups, missing_eos
from accord.functional.masks import masked_mean, masked_sum
from accord.functional.shaping import (
    length_penalty,
    loess_out,
    log_sigmoid_shaping,
    preference_as_reward,
    regress_out,
    soft_overlong,
)
from accord.types import Completion, Prompt, Rollout

References = Callable[[Rollout], Sequence[float]]
"""Raw scores of the reference model's replies to the prompt of a rollout, equally many to every prompt."""
OldLogpMode = Literal["auto", "recompute", "sampler"]
"""Whose log-probs of the replies are the old ones; see `old_logps.py`."""


@dataclass(frozen=True)
class EncodedPrompt:
    """A prompt with its token ids."""

    prompt: Prompt
    ids: tuple[int, ...]


@dataclass(frozen=True)
class RolloutSettings:
    """How one round is made and cut into optimiser steps."""

    sampling: Sampling
    num_prompts: int
    """Prompts a round; times sampling.n = rollouts a round."""
    num_epochs: int
    """Passes over the round's rollouts."""
    num_minibatches: int
    """Optimiser steps an epoch."""
    kl_coef: float
    """beta of the KL penalty in the reward; the start value when it is adaptive."""
    kl_target: float | None = None
    """Adaptive controller's target for the KL summed over a sequence, nats; None = fixed beta."""
    kl_horizon: int = 10_000
    """Adaptive controller's horizon, episodes."""
    missing_eos_penalty: float | None = None
    """For replies cut at max_new_tokens; see missing_eos_mode."""
    missing_eos_mode: Literal["replace", "subtract"] = "subtract"
    """Replace the score by minus the penalty (lm-human-preferences) or subtract the penalty (TRL)."""
    overlong_cache: int | None = None
    """Width in tokens of DAPO's penalty before max_new_tokens, added to the score; None = none."""
    mask_truncated: bool = False
    """Replies cut at max_new_tokens are not trained on: they count in no sum and no denominator. Their scores stay in
    the baselines of their groups."""
    resample: int = 0
    """Dynamic sampling (DAPO): times a round that groups of equal scores are replaced by groups of further prompts."""
    greedy_baseline: bool = False
    """Also score one greedy reply a prompt (ReMax)."""
    score_clip: float | None = None
    """Raw scores are clipped to +- this."""
    saturation: float | None = None
    """Scores become log sigmoid(score - this), flat where a reply is better than one of this score; None = as is."""
    length_calibration: Literal["none", "regression", "loess"] = "none"
    """Takes what the round's scores have to do with length out of them, before clip and shaping."""
    length_penalty: float = 0.0
    """Score a token beyond `length_free`, subtracted after clip and shaping."""
    length_free: int = 0
    """Tokens that cost nothing."""
    max_reward_errors: float = 0.01
    """Largest tolerated fraction of rollouts without a score."""
    token_budget: int = 8192
    old_logps: OldLogpMode = "recompute"
    old_logps_check_rounds: int = 10
    """Rounds between two comparisons of the sampler's with the learner's, when the sampler's are used."""
    corrected: bool = False
    """The loss weighs by pi_old / sampler, so old log-probs are always the learner's, under the weights that start the
    round."""
    async_steps: int = 0
    """1: replies of a round are written by the weights before the last round's updates; see `ahead.py`."""
    num_rounds: int | None = None
    """Rounds in all: none is written ahead that is not used; None = not known."""


def check_sizes(num_prompts: int, settings: RolloutSettings) -> None:
    """Refuse rounds that cannot be made.

    Raises:
        DataError: there are no prompts.
        TrainingError: a round has fewer prompts than minibatches, or dynamic sampling has one reply a prompt.
    """
    if not num_prompts:
        raise DataError("there is nothing to generate from: no prompt is left")
    if settings.num_prompts < settings.num_minibatches:
        raise TrainingError(
            f"{settings.num_prompts} prompts a round cannot fill {settings.num_minibatches} minibatches",
            fix="raise train_batch_size or lower num_mini_batches",
        )
    if settings.resample and settings.sampling.n < 2:
        raise TrainingError("groups of one reply always have equal scores", fix="raise num_generations")


def prompts_of(prompts: Sequence[EncodedPrompt], number: int, *, size: int, seed: int) -> list[EncodedPrompt]:
    """Prompts of a round: consecutive places in a permutation a pass.

    Args:
        prompts: all of them.
        number: the round.
        size: prompts a round.
        seed: of the permutations.
    """
    chosen: list[EncodedPrompt] = []
    order, current = list[int](), -1
    for position in range(number * size, (number + 1) * size):
        if position // len(prompts) != current:
            current = position // len(prompts)
            order = rng.permutation(len(prompts), seed, "prompts", current)
        chosen.append(prompts[order[position % len(prompts)]])
    return chosen


def shaped_scores(
    rollouts: Sequence[Rollout],
    settings: RolloutSettings,
    references: References | None = None,
    *,
    whole_round: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Scores after shaping and penalties, raw scores, and which replies ended with a stop token; one a rollout.

    Args:
        rollouts: all with a score.
        settings: calibration, clip, shaping and penalties.
        references: scores of the reference's replies: PAR; None = no such shaping.
        whole_round: whether these are all rollouts of a round. A length calibration is fitted to these only: the
            few replies to one prompt would leave nothing of their scores.
    """
    raw_B = torch.tensor([r.score.value for r in rollouts if r.score], dtype=torch.float32)
    lengths_B = torch.tensor([len(r.completion.token_ids) for r in rollouts])
    score_B = raw_B
    if whole_round and settings.length_calibration != "none":
        score_B = (regress_out if settings.length_calibration == "regression" else loess_out)(score_B, lengths_B)
    if settings.score_clip is not None:
        score_B = score_B.clamp(-settings.score_clip, settings.score_clip)
    if references is not None:
        score_B = preference_as_reward(score_B, torch.tensor([tuple(references(r)) for r in rollouts]))
    if settings.saturation is not None:
        score_B = log_sigmoid_shaping(score_B, settings.saturation)
    if settings.length_penalty:
        score_B = score_B + length_penalty(lengths_B, coef=settings.length_penalty, free=settings.length_free)
    stopped_B = torch.tensor([r.completion.finish == "stop" for r in rollouts])
    if settings.missing_eos_penalty is not None:
        penalty = settings.missing_eos_penalty
        score_B = missing_eos(score_B, stopped_B, mode=settings.missing_eos_mode, penalty=penalty)
    if settings.overlong_cache is not None:
        limit = settings.sampling.max_new_tokens
        score_B = score_B + soft_overlong(lengths_B, max_length=limit, cache=settings.overlong_cache)
    return score_B, raw_B, stopped_B


def rollout_batch(rollouts: Sequence[Rollout], pad_id: int, *, dtype: torch.dtype = torch.float32) -> Batch:
    """Collate rollouts: prompt tokens untrained, reply tokens (stop token included) in the mask.

    Args:
        rollouts: those of one group adjacent.
        pad_id: any valid token id.
        dtype: of the sampler's log-probs.
    """
    groups: dict[str, int] = {}
    ids = [[*r.prompt_ids, *r.completion.token_ids] for r in rollouts]
    batch = collate(
        ids,
        [[False] * len(r.prompt_ids) + [True] * len(r.completion.token_ids) for r in rollouts],
        pad_id=pad_id,
        group=[groups.setdefault(r.group, len(groups)) for r in rollouts],
    )
    if any(r.completion.logps is None for r in rollouts):
        return batch
    sampler_BT = torch.zeros(batch.ids_BT.shape, dtype=dtype)
    for b, r in enumerate(rollouts):
        start = len(r.prompt_ids)
        sampler_BT[b, start : start + len(r.completion.token_ids)] = torch.tensor(r.completion.logps, dtype=dtype)
    return batch.replace(sampler_logp_BT=sampler_BT)


def unscored(
    chosen: Sequence[EncodedPrompt], completions: Sequence[Completion], groups: Sequence[str], *, version: int
) -> list[Rollout]:
    """Rollouts without scores: as many completions of each prompt, those of prompt 0 first.

    Args:
        chosen: the prompts.
        completions: replies, the same number to each prompt.
        groups: name of each prompt's group.
        version: of the weights that wrote the replies.
    """
    n = len(completions) // len(chosen)
    return [
        Rollout(
            prompt=chosen[i // n].prompt,
            prompt_ids=chosen[i // n].ids,
            completion=completion,
            group=groups[i // n],
            policy_version=version,
        )
        for i, completion in enumerate(completions)
    ]


def round_statistics(batch: Batch, raw_B: Tensor, stopped_B: Tensor, entropy_BT: Tensor | None) -> dict[str, float]:
    """Statistics of a round's scores, lengths, entropy and KL; KL where there is a reference.

    Args:
        batch: with `old_logp_BT` and `score_B`.
        raw_B: scores before clip and penalties.
        stopped_B: replies that ended with a stop token.
        entropy_BT: of the distributions the tokens were drawn from; None = estimated by -log p of what was drawn, whose
            expectation it is.
    """
    assert batch.old_logp_BT is not None
    mask_BT = batch.response_mask_BT
    surprise_BT = -batch.old_logp_BT if entropy_BT is None else entropy_BT
    metrics = {
        "objective/scores": float(raw_B.mean()),
        "objective/scores_std": float(raw_B.std(unbiased=False)),
        "objective/rollout_entropy": float(masked_mean(surprise_BT, mask_BT)),
        "completions/mean_length": float(mask_BT.sum(dim=1).float().mean()),
        "completions/clipped_ratio": float((~stopped_B).float().mean()),
    }
    if batch.ref_logp_BT is not None:
        k1_BT = kl.k1(batch.old_logp_BT, batch.ref_logp_BT)
        metrics["objective/kl"] = float(masked_sum(k1_BT, mask_BT, dim=1).mean())
    return metrics


def group_statistics(score_B: Tensor, group_B: Tensor) -> dict[str, float]:
    """How the scores of one prompt's replies differ, after clip and penalties."""
    metrics: dict[str, float] = {}
    deviations = [float(score_B[group_B == g].std()) for g in group_B.unique() if int((group_B == g).sum()) > 1]
    metrics["reward_std"] = sum(deviations) / max(1, len(deviations))
    _, first = group_B.unique_consecutive(return_counts=True)
    starts = first.cumsum(0) - first
    metrics["frac_reward_zero_std"] = float(equal_groups(score_B, group_B)[starts].float().mean())
    return metrics


def group_rows(batch: Batch) -> list[list[int]]:
    """Row indices by group, in order of first appearance."""
    assert batch.group_B is not None
    rows: dict[int, list[int]] = {}
    for row, group in enumerate(batch.group_B.tolist()):
        rows.setdefault(group, []).append(row)
    return list(rows.values())
