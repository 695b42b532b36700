"""Stage: a reward model with one output an attribute from rated replies, and their weighted sum as a reward model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from accord import rng
from accord.errors import DataError
from accord.models.build import set_score_stats
from accord.models.checkpoint import save_model
from accord.models.members import MemberIndex, save_members
from accord.models.pair import device
from accord.models.score_heads import with_heads
from accord.pipeline import Context
from accord.rewards.ensemble import MembersReward
from accord.stages.cards import model_card
from accord.stages.configs import AttributesConfig
from accord.stages.datasets import check_usable, load, write_dropped
from accord.stages.score_models import moments, rows_of, start
from accord.stages.training import hold_out, prompt_key, steps_for, train
from accord.train.examples import Encoded, Example
from accord.train.objectives import AttributeBradleyTerry, AttributeRegression
from accord.train.rated import from_rated_pairs, from_ratings
from accord.train.sources import Offline
from accord.types import Demonstration, Preference, Prompt, Record


def run(cfg: AttributesConfig, ctx: Context) -> dict[str, Any]:
    """Train one head an attribute, measure each on held-out prompts, save them and their weighted sum."""
    regression = cfg.loss_type == "regression"
    records = _records(cfg, ctx)
    kept, held_out = hold_out(records, _key, cfg.eval_fraction, ctx.run.seed)
    model, tokenizer = start(cfg, ctx)
    names = tuple(cfg.attributes)

    def encode(part: Sequence[Demonstration | Preference]) -> Encoded:
        if regression:
            return from_ratings(part, tokenizer, names, max_length=cfg.max_length, overlong=cfg.overlong)
        pairs = [r for r in part if isinstance(r, Preference)]
        return from_rated_pairs(pairs, tokenizer, names, max_length=cfg.max_length, overlong=cfg.overlong)

    encoded, test = encode(kept), encode(held_out)
    ctx.say(f"  {encoded.describe()}; {len(held_out)} records held out")
    write_dropped(ctx.work.path("dropped.tsv"), encoded.dropped)
    check_usable(encoded, cfg.max_length)
    # Heads have no bias and start at the scale of deviations, so ratings are fitted in deviations from their mean.
    centre, spread = _scales(encoded.examples, names) if regression else ((0.0,) * len(names), (1.0,) * len(names))
    heads = with_heads(model, len(names), rng.derive(ctx.run.seed, ctx.work.stage, "heads")).to(device())
    metrics = train(
        ctx,
        cfg,
        module=heads,
        forward=heads,
        source=Offline(
            standardised(encoded.examples, centre, spread),
            batch_size=cfg.train_batch_size,
            pad_id=tokenizer.pad_token_id,
            seed=rng.derive(ctx.run.seed, ctx.work.stage, "data"),
        ),
        objective=AttributeRegression() if regression else AttributeBradleyTerry(),
        steps=steps_for(cfg, len(encoded.examples)),
        show=("loss",),
    )
    heads.requires_grad_(False)
    weights = tuple(cfg.attributes.values())
    unit = MemberIndex("heads", "attributes", names, (0.0,) * len(names), (1.0,) * len(names), weights)
    raw = MembersReward(heads, unit, pad_id=tokenizer.pad_token_id)
    raw_BK = raw.outputs(rows_of(encoded.examples))
    if regression:  # rating = centre + spread * output
        mean, std = tuple(-c / s for c, s in zip(centre, spread, strict=True)), tuple(1 / s for s in spread)
    else:
        mean, std = moments(raw_BK)
    index = replace(unit, mean=mean, std=std)
    scalar = heads.scalar([w / s for w, s in zip(weights, std, strict=True)])
    shift = sum(w * m / s for w, m, s in zip(weights, mean, std, strict=True))
    value_B = MembersReward(heads, index, pad_id=tokenizer.pad_token_id).combined(_apply(raw_BK, mean, std))
    (value_mean,), (value_std,) = moments(value_B[:, None])
    set_score_stats(scalar, value_mean + shift, value_std)
    # Sum of weighted ratings, brought to mean 0 and deviation 1 on reference replies like every reward model.
    result = _measure(_apply(raw.outputs(rows_of(test.examples, 10**9)), mean, std), test.examples, names, regression)
    ctx.work.path("eval.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
    metrics |= {"examples": len(encoded.examples), "left_out": len(encoded.dropped), "loss_type": cfg.loss_type}
    metrics |= {f"{name}_{kind}": value for name, found in result.items() for kind, value in found.items()}
    card = model_card("reward model", ctx, method="one head an attribute (2311.09528)", metrics=metrics)
    save_model(scalar, tokenizer, ctx.work.path("model"), card)
    save_members(heads, index, tokenizer, ctx.work.path("model"))
    return metrics


def standardised(examples: Sequence[Example], centre: Sequence[float], spread: Sequence[float]) -> tuple[Example, ...]:
    """Examples whose targets are (target - centre) / spread; NaN stays NaN."""

    def scaled(values: Sequence[float]) -> tuple[float, ...]:
        return tuple((v - c) / s for v, c, s in zip(values, centre, spread, strict=True))

    return tuple(
        replace(
            e,
            rows=tuple(replace(r, columns={**r.columns, "target_BK": scaled(r.columns["target_BK"])}) for r in e.rows),
        )
        for e in examples
    )


def _records(cfg: AttributesConfig, ctx: Context) -> list[Demonstration | Preference]:
    if cfg.loss_type == "bradley_terry":
        return list(load(ctx, "dataset", Preference, max_bad_rows=cfg.max_bad_rows))
    found = load(ctx, "dataset", Record, max_bad_rows=cfg.max_bad_rows)
    records = [r for r in found if isinstance(r, Demonstration | Preference)]
    if len(records) < len(found):
        raise DataError(
            f"{len(found) - len(records)} records are neither conversations nor judgements, and have no ratings",
            where=f"{ctx.work.stage}.dataset",
            fix="give conversations that end with the rated reply, or judgements with rated candidates",
        )
    return records


def _key(record: Demonstration | Preference) -> str:
    if isinstance(record, Preference):
        return prompt_key(record)
    return prompt_key(Prompt(id=record.id, messages=record.messages[:-1]))


def _scales(examples: Sequence[Example], names: Sequence[str]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of the known ratings of each attribute."""
    target_BK = torch.tensor([row.columns["target_BK"] for e in examples for row in e.rows], dtype=torch.float64)
    centre: list[float] = []
    spread: list[float] = []
    for name, column_B in zip(names, target_BK.T, strict=True):
        known_B = column_B[~column_B.isnan()]
        if known_B.numel() == 0 or float(known_B.std(correction=0)) == 0:
            raise DataError(
                f"attribute '{name}' has {known_B.numel()} ratings that differ nowhere: nothing can be learned",
                fix="check its name against `meta` of the records, or remove it",
            )
        centre.append(float(known_B.mean()))
        spread.append(float(known_B.std(correction=0)))
    return tuple(centre), tuple(spread)


def _apply(raw_BK: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    return (raw_BK - torch.tensor(mean, dtype=raw_BK.dtype)) / torch.tensor(std, dtype=raw_BK.dtype)


def _measure(
    scores_BK: Tensor, examples: Sequence[Example], names: Sequence[str], regression: bool
) -> dict[str, dict[str, float]]:
    """Held-out error of each attribute: root mean square in rating units, or accuracy over ordered pairs."""
    if not examples:
        return {}
    target_BK = torch.tensor([row.columns["target_BK"] for e in examples for row in e.rows], dtype=torch.float64)
    found: dict[str, dict[str, float]] = {}
    for k, name in enumerate(names):
        if regression:
            error_B = (scores_BK[:, k] - target_BK[:, k])[~target_BK[:, k].isnan()]
            values = {"rmse": float(error_B.square().mean().sqrt())} if error_B.numel() else {}
        else:
            delta_P, target_P = scores_BK[0::2, k] - scores_BK[1::2, k], target_BK[0::2, k]
            ordered_P = (target_P == 0) | (target_P == 1)
            signed_P = torch.where(target_P == 1, delta_P, -delta_P)[ordered_P]
            right_P = (signed_P > 0).double() + 0.5 * (signed_P == 0).double()
            values = {"accuracy": float(right_P.mean())} if right_P.numel() else {}
        found[name] = values
    return found
