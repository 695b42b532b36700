"""Stage: the mean of the weights of several reward models (WARM)."""

from __future__ import annotations

import json
from typing import Any

import torch

from accord.errors import ModelError
from accord.models.averaging import average_models, head_alignment
from accord.models.build import set_score_stats
from accord.models.checkpoint import load_reward, load_tokenizer, max_positions, save_model
from accord.models.members import has_members, load_members, members_apart
from accord.models.pair import device
from accord.models.policy import ScoreModel
from accord.pipeline import Context
from accord.rewards.learned import LearnedReward
from accord.stages.cards import model_card
from accord.stages.configs import WarmConfig
from accord.stages.datasets import check_usable, load, write_dropped
from accord.stages.score_models import moments, pair_report, rows_of
from accord.stages.training import check_length
from accord.train.examples import from_preferences
from accord.types import Preference


def run(cfg: WarmConfig, ctx: Context) -> dict[str, Any]:
    """Average the weights, measure the result beside the models it is made of, normalise its scores anew."""
    models, tokenizer = _models(cfg, ctx)
    merged = average_models(models).to(device())
    check_length(cfg.max_length, max_positions(merged.inner), f"{ctx.work.stage}.max_length")
    records = load(ctx, "dataset", Preference, max_bad_rows=cfg.max_bad_rows)
    encoded = from_preferences(records, tokenizer, max_length=cfg.max_length, overlong="drop")
    ctx.say(f"  {len(models)} models; {encoded.describe()}")
    write_dropped(ctx.work.path("dropped.tsv"), encoded.dropped)
    check_usable(encoded, cfg.max_length)
    alignment = head_alignment(models)
    if alignment < 0.5:
        ctx.say(f"  the heads point apart (cosine {alignment:.2f}): the models did not start from one head")
    rows = rows_of(encoded.examples, 10**9)
    result: dict[str, Any] = {}
    scores_B = torch.empty(0)
    for name, model in {**models, "warm": merged}.items():
        raw = LearnedReward(model.to(device()).requires_grad_(False), pad_id=tokenizer.pad_token_id, length=None)
        scores_B = torch.tensor(raw.score_ids(rows), dtype=torch.float64)
        result[name] = pair_report(scores_B, encoded.examples, ctx)
    ctx.work.path("eval.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
    (mean,), (std,) = moments(scores_B[:, None])
    set_score_stats(merged, mean, std)
    metrics = {
        "models": len(models),
        "pairs": len(encoded.examples),
        "head_cosine_min": alignment,
        "accuracy": result["warm"]["accuracy"]["value"],
        "score_mean": mean,
        "score_std": std,
    }
    card = model_card("reward model", ctx, method="mean of weights, WARM (2401.12187)", metrics=metrics)
    save_model(merged, tokenizer, ctx.work.path("model"), card)
    return metrics


def _models(cfg: WarmConfig, ctx: Context) -> tuple[dict[str, ScoreModel], Any]:
    """The reward models by name, members of ensembles as `name/member`, and their tokenizer."""
    models: dict[str, ScoreModel] = {}
    kept: tuple[str, Any] | None = None
    for name, source in ctx.many("models").items():
        tokenizer = load_tokenizer(source.location, pad_token=cfg.pad_token)
        if kept is None:
            kept = (name, tokenizer)
        elif _written(tokenizer) != _written(kept[1]):
            raise ModelError(
                "the reward models have different tokenizers or chat templates",
                where=f"{ctx.work.stage}.models: '{kept[0]}' and '{name}'",
                fix="average models that were all trained from one model",
            )
        if has_members(source.location):
            members, index = load_members(source.location)
            if index.kind != "ensemble":
                raise ModelError(
                    f"'{name}' holds ratings of different attributes, which have no mean",
                    where=f"{ctx.work.stage}.models",
                    fix="name plain reward models or ensembles",
                )
            apart = zip(index.names, members_apart(members), strict=True)
            models |= {f"{name}/{member}": model for member, model in apart}
        else:
            models[name] = load_reward(source.location)
    assert kept is not None
    return models, kept[1]


def _written(tokenizer: Any) -> tuple[Any, ...]:
    return tokenizer.get_vocab(), tokenizer.chat_template, tokenizer.pad_token_id
