"""Stage: a reward model whose quality head has been kept apart from length (ODIN)."""

from __future__ import annotations

import json
from typing import Any

import torch

from accord import rng
from accord.functional.disentangle import pearson
from accord.models.build import set_score_stats
from accord.models.checkpoint import save_model
from accord.models.members import MemberIndex
from accord.models.pair import device
from accord.models.score_heads import with_heads
from accord.pipeline import Context
from accord.rewards.ensemble import MembersReward
from accord.stages.cards import model_card
from accord.stages.configs import OdinConfig
from accord.stages.datasets import check_usable, load, write_dropped
from accord.stages.score_models import SCALE_ROWS, moments, pair_report, rows_of, start
from accord.stages.training import hold_out, prompt_key, steps_for, train
from accord.train.examples import Example, from_preferences
from accord.train.objectives import Odin
from accord.train.sources import Offline
from accord.types import Preference


def run(cfg: OdinConfig, ctx: Context) -> dict[str, Any]:
    """Train both heads, measure them on held-out prompts, keep the quality head."""
    records = load(ctx, "dataset", Preference, max_bad_rows=cfg.max_bad_rows)
    kept, held_out = hold_out(records, prompt_key, cfg.eval_fraction, ctx.run.seed)
    model, tokenizer = start(cfg, ctx)
    encoded, test = (
        from_preferences(part, tokenizer, max_length=cfg.max_length, overlong=cfg.overlong, use_margin=cfg.use_margin)
        for part in (kept, held_out)
    )
    ctx.say(f"  {encoded.describe()}; {len(held_out)} preferences held out")
    write_dropped(ctx.work.path("dropped.tsv"), encoded.dropped)
    check_usable(encoded, cfg.max_length)
    seed = rng.derive(ctx.run.seed, ctx.work.stage, "heads")
    heads = with_heads(model, 2, seed, with_overlap=True).to(device())
    metrics = train(
        ctx,
        cfg,
        module=heads,
        forward=heads,
        source=Offline(
            encoded.examples,
            batch_size=cfg.train_batch_size,
            pad_id=tokenizer.pad_token_id,
            seed=rng.derive(ctx.run.seed, ctx.work.stage, "data"),
        ),
        objective=Odin(
            center=cfg.center_rewards_coefficient,
            length_weight=cfg.length_weight,
            overlap_weight=cfg.overlap_weight,
        ),
        steps=steps_for(cfg, len(encoded.examples)),
        show=("loss", "accuracy", "length_correlation"),
    )
    heads.requires_grad_(False)
    unit = MemberIndex("heads", "ensemble", ("quality", "length"), (0.0, 0.0), (1.0, 1.0))
    raw = MembersReward(heads, unit, pad_id=tokenizer.pad_token_id)
    reference_BK = raw.outputs(rows_of(encoded.examples))
    result: dict[str, Any] = {"train": {"length_correlation": _correlations(reference_BK, encoded.examples)}}
    if test.examples:
        test_BK = raw.outputs(rows_of(test.examples, 10**9))
        result["held_out"] = {
            "quality": pair_report(test_BK[:, 0], test.examples, ctx),
            "both": pair_report(test_BK.sum(dim=1), test.examples, ctx),
            "length_correlation": _correlations(test_BK, test.examples, 10**9),
        }
        metrics["accuracy"] = result["held_out"]["quality"]["accuracy"]["value"]
        metrics["length_correlation"] = result["held_out"]["length_correlation"]["quality"]
    else:
        ctx.say("  no preference is held out: accuracy and correlation with length are not measured")
    ctx.work.path("eval.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
    scalar = heads.scalar([1.0, 0.0])
    mean, std = moments(reference_BK)
    set_score_stats(scalar, mean[0], std[0])
    metrics |= {"pairs": len(encoded.examples), "left_out": len(encoded.dropped)}
    card = model_card("reward model", ctx, method="ODIN, quality head (2402.07319)", metrics=metrics)
    save_model(scalar, tokenizer, ctx.work.path("model"), card)
    return metrics


def _correlations(scores_BK: torch.Tensor, examples: tuple[Example, ...], limit: int = SCALE_ROWS) -> dict[str, float]:
    """Correlation of each head with the length of the reply, over all rows."""
    lengths = [sum(row.mask) for e in examples[:limit] for row in e.rows][:limit]
    tokens_B = torch.tensor(lengths, dtype=torch.float64)
    return {
        name: float(pearson(column_B, tokens_B))
        for name, column_B in zip(("quality", "length"), scores_BK.T, strict=True)
    }
