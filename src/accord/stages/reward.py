"""Stage: a reward model from preferences, and what it is worth on prompts it has not seen."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from accord import lab, rng
from accord.errors import DataError
from accord.evals.preferences import LabelledPair, accuracy, bag_of_words, labelled, longer_wins, report
from accord.models.build import reward_from_causal, set_score_stats
from accord.models.checkpoint import max_positions, save_model
from accord.models.lora import add_lora
from accord.models.policy import ScoreModel
from accord.pipeline import Context
from accord.rewards.learned import LearnedReward
from accord.stages.cards import model_card
from accord.stages.configs import RewardConfig
from accord.stages.datasets import check_usable, load, write_dropped
from accord.stages.policies import load_pair
from accord.stages.training import DTYPES, check_length, device, hold_out, prompt_key, steps_for, train
from accord.train.examples import Encoded, Example, from_preferences
from accord.train.objectives import BradleyTerry
from accord.train.sources import Offline
from accord.types import Preference


def run(cfg: RewardConfig, ctx: Context) -> dict[str, Any]:
    """Train on pairs, measure on held-out prompts, and store the scale of the scores."""
    records = load(ctx, "dataset", Preference, max_bad_rows=cfg.max_bad_rows)
    if cfg.eval_dataset is not None:
        kept, held_out = records, load(ctx, "eval_dataset", Preference, max_bad_rows=cfg.max_bad_rows)
    else:
        kept, held_out = hold_out(records, prompt_key, cfg.eval_fraction, ctx.run.seed)
    location = ctx.inputs["model_name_or_path"].location
    hf, tokenizer = load_pair(location, DTYPES[cfg.dtype], cfg.pad_token)
    check_length(cfg.max_length, max_positions(hf), f"{ctx.work.stage}.max_length")
    model = reward_from_causal(hf, seed=rng.derive(ctx.run.seed, ctx.work.stage, "init"))
    del hf  # the reward model is a copy
    _freeze(model, cfg.freeze_layers)
    if cfg.use_peft:
        model = ScoreModel(add_lora(model.inner, r=cfg.lora_r, alpha=cfg.lora_alpha, targets=cfg.lora_target_modules))
        model.head.requires_grad_(True)  # drawn at random: it has to be learnt, and it is as small as one row
    model.to(device())

    def encode(records: Sequence[Preference]) -> Encoded:
        return from_preferences(
            records, tokenizer, max_length=cfg.max_length, overlong=cfg.overlong, use_margin=cfg.use_margin
        )

    encoded = encode(kept)
    ctx.say(f"  {encoded.describe()}; {len(held_out)} preferences held out")
    write_dropped(ctx.work.path("dropped.tsv"), encoded.dropped)
    check_usable(encoded, cfg.max_length)
    source = Offline(
        encoded.examples,
        batch_size=cfg.train_batch_size,
        pad_id=tokenizer.pad_token_id,
        seed=rng.derive(ctx.run.seed, ctx.work.stage, "data"),
    )
    metrics = train(
        ctx,
        cfg,
        module=model,
        forward=model,
        source=source,
        objective=BradleyTerry(center=cfg.center_rewards_coefficient),
        steps=steps_for(cfg, len(encoded.examples)),
        show=("loss", "accuracy"),
    )
    model.requires_grad_(False)
    raw = LearnedReward(model, pad_id=tokenizer.pad_token_id)
    reference = raw.score_ids([row.ids for e in encoded.examples[:2000] for row in e.rows])
    mean, std = float(torch.tensor(reference).mean()), float(torch.tensor(reference).std(unbiased=False))
    if std == 0:
        raise DataError(
            "the reward model gives every reply the same score: it has learnt nothing from these labels",
            fix="train longer or with a higher learning_rate, and check that the replies differ",
        )
    result = _measure(encoded.examples, encode(held_out).examples, raw, ctx)
    ctx.work.path("eval.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
    set_score_stats(model, mean, std)
    metrics |= {
        "pairs": len(encoded.examples),
        "left_out": len(encoded.dropped),
        "score_mean": mean,
        "score_std": std,
    }
    metrics |= {name: result[name]["value"] for name in ("accuracy", "gold_accuracy") if result.get(name)}
    card = model_card("reward model", ctx, method="Bradley-Terry on preference pairs (2009.01325)", metrics=metrics)
    save_model(model, tokenizer, ctx.work.path("model"), card)
    return metrics


def _freeze(model: ScoreModel, layers: int) -> None:
    """Keep the embeddings and the lowest `layers` blocks as they are."""
    if layers == 0:
        return
    trunk: Any = model.inner.base_model
    trunk.get_input_embeddings().requires_grad_(False)
    for block in trunk.layers[:layers]:
        block.requires_grad_(False)


def _measure(train: Sequence[Example], test: Sequence[Example], raw: LearnedReward, ctx: Context) -> dict[str, Any]:
    """Report card on held-out pairs, beside two baselines and, in the lab, the true order."""
    seed = rng.derive(ctx.run.seed, ctx.work.stage, "bootstrap")
    pairs = [_labelled(e) for e in test]
    deltas = _deltas(raw, test)
    if test:
        result = report(deltas, pairs, seed=seed)
    else:  # eval_fraction 0, or so few prompts that none was drawn: said, not invented
        ctx.say("  no preference is held out: accuracy and calibration are not measured")
        unknown = dict.fromkeys(("ece", "brier", "nll"))
        result = {"accuracy": accuracy([], []), **unknown, "reliability": [], "slices": {}}
    result["train_accuracy"] = accuracy(_deltas(raw, train[:1000]), [_labelled(e) for e in train[:1000]], seed=seed)
    result["baselines"] = {
        "longer": accuracy(longer_wins(pairs), pairs, seed=seed),
        "bag_of_words": accuracy(bag_of_words([_labelled(e) for e in train])(pairs), pairs, seed=seed),
    }
    gold = [_true_order(e) for e in test]
    result["gold_accuracy"] = None
    if all(g is not None for g in gold):
        truth = [replace(p, target=g) for p, g in zip(pairs, gold, strict=True) if g is not None]
        result["gold_accuracy"] = accuracy(deltas, truth, seed=seed)
        result["label_gold_agreement"] = accuracy([p.target - 0.5 for p in pairs], truth, seed=seed)
        result["baselines"]["longer_gold"] = accuracy(longer_wins(pairs), truth, seed=seed)
    return result


def _labelled(example: Example) -> LabelledPair:
    assert example.origin is not None
    return labelled(*example.origin, example.target)


def _deltas(raw: LearnedReward, examples: Sequence[Example]) -> list[float]:
    scores = raw.score_ids([row.ids for e in examples for row in e.rows])
    return [scores[2 * i] - scores[2 * i + 1] for i in range(len(examples))]


def _true_order(example: Example) -> float | None:
    """1 when the first reply is truly better, 0 when worse, 0.5 for a true tie, None outside the lab."""
    assert example.origin is not None
    preference, better, worse = example.origin
    if not lab.is_lab(preference.prompt):
        return None
    first, second = (lab.score(preference.prompt, preference.candidates[i].text).utility for i in (better, worse))
    return 0.5 if first == second else float(first > second)
