"""Stage: an ensemble of reward models from preferences, and the single reward model that stands for it elsewhere."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from accord import rng
from accord.errors import DataError
from accord.models.build import set_score_stats
from accord.models.checkpoint import save_model
from accord.models.members import Form, MemberIndex, Members, save_members
from accord.models.pair import device
from accord.models.policy import ScoreModel
from accord.models.score_heads import HeadScores, with_adapters, with_heads, with_models
from accord.pipeline import Context
from accord.rewards.ensemble import MembersReward
from accord.stages.cards import model_card
from accord.stages.configs import EnsembleConfig
from accord.stages.datasets import check_usable, load, write_dropped
from accord.stages.inputs import save_features
from accord.stages.score_models import moments, pair_report, rows_of, start
from accord.stages.training import hold_out, prompt_key, steps_for, train
from accord.train.examples import Example, from_preferences
from accord.train.objectives import EnsembleBradleyTerry
from accord.train.rated import with_bootstrap, with_groups
from accord.train.sources import Offline
from accord.types import Preference


def run(cfg: EnsembleConfig, ctx: Context) -> dict[str, Any]:
    """Train all members at once, measure each and their mean on held-out prompts, save members and scalar model."""
    records = load(ctx, "dataset", Preference, max_bad_rows=cfg.max_bad_rows)
    groups = _groups(records, f"{ctx.work.stage}.by_group") if cfg.by_group else ()
    if groups:
        cfg = cfg.model_copy(update={"num_members": len(groups), "bootstrap": False})
    kept, held_out = hold_out(records, prompt_key, cfg.eval_fraction, ctx.run.seed)
    model, tokenizer = start(cfg, ctx)
    encoded, test = (
        from_preferences(part, tokenizer, max_length=cfg.max_length, overlong=cfg.overlong, use_margin=cfg.use_margin)
        for part in (kept, held_out)
    )
    ctx.say(f"  {encoded.describe()}; {len(held_out)} preferences held out")
    write_dropped(ctx.work.path("dropped.tsv"), encoded.dropped)
    check_usable(encoded, cfg.max_length)
    examples = encoded.examples
    if groups:
        examples = with_groups(examples, groups)
    elif cfg.bootstrap:
        examples = with_bootstrap(examples, cfg.num_members, rng.derive(ctx.run.seed, ctx.work.stage, "members"))
    members = build(cfg, model, rng.derive(ctx.run.seed, ctx.work.stage, "heads")).to(device())
    metrics = train(
        ctx,
        cfg,
        module=members,
        forward=members,
        source=Offline(
            examples,
            batch_size=cfg.train_batch_size,
            pad_id=tokenizer.pad_token_id,
            seed=rng.derive(ctx.run.seed, ctx.work.stage, "data"),
        ),
        objective=EnsembleBradleyTerry(center=cfg.center_rewards_coefficient),
        steps=steps_for(cfg, len(examples)),
        show=("loss", "accuracy"),
    )
    members.requires_grad_(False)
    names = groups or tuple(f"member_{k}" for k in range(cfg.num_members))
    form: Form = cfg.form
    unit = MemberIndex(form, "ensemble", names, (0.0,) * len(names), (1.0,) * len(names))
    raw = MembersReward(members, unit, pad_id=tokenizer.pad_token_id)
    mean, std = moments(raw.outputs(rows_of(examples)))
    index = MemberIndex(form, "ensemble", names, mean, std)
    raw_BK = raw.outputs([row.ids for e in test.examples for row in e.rows])
    each = [
        _report(column_B, test.examples, group, ctx)
        for column_B, group in zip(raw_BK.T, groups or [None] * len(names), strict=True)
    ]
    joint = pair_report(joint_logit(raw_BK, mean, std), test.examples, ctx)
    best = min(range(len(names)), key=lambda k: (each[k] or {"nll": 0.0})["nll"])
    result = {"mean": joint, **dict(zip(names, each, strict=True))}
    ctx.work.path("eval.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
    metrics |= {"pairs": len(examples), "left_out": len(encoded.dropped), "form": cfg.form}
    if joint is not None:
        metrics["accuracy"] = joint["accuracy"]["value"]
        metrics |= {
            f"accuracy_{name}": part["accuracy"]["value"] for name, part in zip(names, each, strict=True) if part
        }
    else:
        ctx.say("  no preference is held out: accuracy is not measured")
    scalar = stand_in(members, mean, std, best)
    metrics["scalar_is"] = "mean of the heads" if isinstance(members, HeadScores) else names[best]
    card = model_card("reward model", ctx, method="ensemble of Bradley-Terry models (2310.02743)", metrics=metrics)
    save_model(scalar, tokenizer, ctx.work.path("model"), card)
    save_members(members, index, tokenizer, ctx.work.path("model"))
    save_features(raw, examples, ctx.work.path("model"), ctx.say)
    return metrics


def _groups(records: Sequence[Preference], where: str) -> tuple[str, ...]:
    """Groups of annotators in order of name; each is a member.

    Raises:
        DataError: a judgement without a group, fewer than two groups, or a name that cannot name a directory.
    """
    found = tuple(sorted({r.group for r in records}))
    if "" in found:
        without = sum(not r.group for r in records)
        raise DataError(
            f"{without} of {len(records)} judgements have no group of annotators",
            where=where,
            fix="use single judgements, which say who made them (dataset: collect:judgements), or switch by_group off",
        )
    if len(found) < 2:
        raise DataError(
            f"all judgements are of one group of annotators, {''.join(found)}", where=where, fix="switch by_group off"
        )
    return found


def _report(score_B: Tensor, examples: Sequence[Example], group: str | None, ctx: Context) -> dict[str, Any] | None:
    """`pair_report` of a member, on the judgements of its group where it has one."""
    if group is None:
        return pair_report(score_B, examples, ctx)
    own = [i for i, e in enumerate(examples) if e.origin is not None and e.origin[0].group == group]
    rows = [row for i in own for row in (2 * i, 2 * i + 1)]
    return pair_report(score_B[rows], [examples[i] for i in own], ctx)


def build(cfg: EnsembleConfig, model: ScoreModel, seed: int) -> Members:
    """The members before training.

    Args:
        cfg: form and size.
        model: what they start from.
        seed: of heads and adapters.
    """
    if cfg.form == "heads":
        return with_heads(model, cfg.num_members, seed)
    if cfg.form == "models":
        return with_models(model, cfg.num_members, seed, same_head=cfg.same_head)
    return with_adapters(
        model, cfg.num_members, seed, r=cfg.lora_r, alpha=cfg.lora_alpha, targets=cfg.lora_target_modules
    )


def stand_in(members: Members, mean: tuple[float, ...], std: tuple[float, ...], best: int) -> ScoreModel:
    """The single reward model that is saved beside the members.

    The mean of the normalised heads is itself a linear head. Adapters and whole models have no such mean: the best
    member stands for them.

    Args:
        members: trained.
        mean: of each member's raw score on reference replies.
        std: the same, deviation.
        best: member to take where there is no mean.
    """
    if isinstance(members, HeadScores):
        scalar = members.scalar([1 / (len(std) * s) for s in std])
        set_score_stats(scalar, sum(m / s for m, s in zip(mean, std, strict=True)) / len(std), 1.0)
        return scalar
    scalar = members.member(best)
    set_score_stats(scalar, mean[best], std[best])
    return scalar


def joint_logit(raw_BK: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """The mean of the normalised members, brought back to the scale of raw scores.

    Only there are differences log-odds, so that the loss of the mean can be held against that of each member.

    Args:
        raw_BK: raw scores of the members.
        mean: of each member's raw score on reference replies.
        std: the same, deviation.

    Returns:
        One score a row, in the order of the mean of the normalised scores.
    """
    mean_K, std_K = (torch.tensor(x, dtype=raw_BK.dtype) for x in (mean, std))
    return ((raw_BK - mean_K) / std_K).mean(dim=1) * std_K.mean()
