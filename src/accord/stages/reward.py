"""Stage: a reward model from preferences, and what it is worth on prompts it has not seen."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from accord import rng
from accord.batch import Batch, Forward
from accord.errors import DataError
from accord.evals.report_card import summary
from accord.functional.ranking_losses import log_tie_parameter
from accord.memory import no_collection
from accord.models.adapters import save_adapter
from accord.models.build import reward_from_causal, set_score_stats
from accord.models.calibration import Calibration, set_calibration
from accord.models.checkpoint import max_positions, save_model
from accord.models.lora import add_lora
from accord.models.pair import device, load_pair
from accord.models.policy import ScoreModel
from accord.models.ties import TiedScores
from accord.pipeline import Context
from accord.rewards.learned import LearnedReward
from accord.stages.cards import model_card
from accord.stages.configs import RewardConfig
from accord.stages.datasets import check_usable, load, of_group, write_dropped
from accord.stages.inputs import MOST_FEATURES, save_features
from accord.stages.reward_measure import Measured, fit_length, measure
from accord.stages.training import DTYPES, check_length, hold_out, prompt_key, steps_for, train
from accord.train.examples import Encoded, Example, from_preferences, from_rankings
from accord.train.loop import Objective
from accord.train.objectives import BradleyTerry, Ranking, Ties
from accord.train.sources import Offline
from accord.types import Preference

_READ = 2000
"""Training examples that are read once more when training is done, for the scale of scores. With two rows or more each
they hold the replies whose features are kept, so that these are not read a third time."""
METHODS = {
    "bradley_terry": "Bradley-Terry on preference pairs (2009.01325)",
    "rao_kupper": "Rao-Kupper on preference pairs with ties (10.1080/01621459.1967.10482901)",
    "davidson": "Davidson on preference pairs with ties (10.1080/01621459.1970.10481082)",
    "plackett_luce": "Plackett-Luce on rankings",
    "all_pairs": "Bradley-Terry on all pairs of each ranking (2203.02155)",
    "best_of_k": "softmax over the replies of a prompt (1909.08593)",
}


@dataclass(frozen=True)
class Built:
    """What is trained: the reward model, and what goes around it for its loss."""

    model: ScoreModel
    """Gives the score that is saved, normalised and measured."""
    module: nn.Module
    """Everything that is trained and checkpointed."""
    forward: Callable[[Batch], Forward]
    objective: Objective
    learning_rates: Mapping[str, float] = field(default_factory=dict[str, float])
    """By prefix of the parameter's name, where it differs from cfg.learning_rate."""


def run(cfg: RewardConfig, ctx: Context) -> dict[str, Any]:
    """Train on judgements, measure on held-out prompts, and store the scale of the scores."""
    kept, held_out = _records(cfg, ctx)
    location = ctx.inputs["model_name_or_path"].location
    hf, tokenizer = load_pair(location, DTYPES[cfg.dtype], cfg.pad_token)
    positions = max_positions(hf)
    check_length(cfg.max_length, positions, f"{ctx.work.stage}.max_length")
    encoded = _encode(cfg, kept, tokenizer)
    ctx.say(f"  {encoded.describe()}; {len(held_out)} preferences held out")
    write_dropped(ctx.work.path("dropped.tsv"), encoded.dropped)
    check_usable(encoded, cfg.max_length)
    built = build(cfg, ctx, hf, encoded.examples)
    del hf  # the reward model is a copy
    metrics = train(
        ctx,
        cfg,
        module=built.module,
        forward=built.forward,
        source=Offline(
            encoded.examples,
            batch_size=cfg.train_batch_size,
            pad_id=tokenizer.pad_token_id,
            seed=rng.derive(ctx.run.seed, ctx.work.stage, "data"),
        ),
        objective=built.objective,
        steps=steps_for(cfg, len(encoded.examples)),
        show=("loss", "accuracy"),
        learning_rates=built.learning_rates,
    )
    built.module.requires_grad_(False)

    def pairs(records: Sequence[Preference]) -> tuple[Example, ...]:
        return from_preferences(records, tokenizer, max_length=cfg.max_length, overlong=cfg.overlong).examples

    raw = LearnedReward(built.model, pad_id=tokenizer.pad_token_id, length=None)
    if cfg.length_calibration:
        raw.length = fit_length(raw, pairs(held_out))
        if raw.length is None:
            raise DataError(
                "length_calibration finds no two held-out replies of different lengths to one prompt",
                fix="hold out more (eval_fraction, eval_dataset), or switch length_calibration off",
            )
    rows = [row for e in encoded.examples[:_READ] for row in e.rows]
    scores, features = raw.scores_and_features(
        [row.ids for row in rows], [sum(row.mask) for row in rows], most=MOST_FEATURES
    )
    mean, std = _scale(scores)
    set_score_stats(built.model, mean, std)
    seen = [e for e in encoded.examples if e.origin is not None]
    seen += pairs([p for p in kept if len(p.candidates) > 2])  # rankings, trained on as a whole
    by = Measured(
        raw, std, tokenizer, positions, pairs, cfg.group, dict(zip((row.ids for row in rows), scores, strict=True))
    )
    with no_collection():
        result = measure(ctx, by, kept, seen, held_out)
    ctx.work.path("eval.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
    for line in summary(result["card"]):
        ctx.say(f"  {line}")
    found = Calibration(
        temperature=result["card"]["temperature"],
        length_slope=None if raw.length is None else raw.length.slope,
        length_mean=None if raw.length is None else raw.length.mean,
        tie_model=cfg.loss_type if isinstance(built.module, TiedScores) else None,
        tie_parameter=float(built.module.log_tie.detach().exp()) if isinstance(built.module, TiedScores) else None,
    )
    set_calibration(built.model, found)
    metrics |= {
        "pairs": len(encoded.examples),
        "left_out": len(encoded.dropped),
        "score_mean": mean,
        "score_std": std,
        "fit_to_optimise": result["card"]["verdict"],
    }
    metrics |= {name: result[name]["value"] for name in ("accuracy", "gold_accuracy") if result.get(name)}
    if found.tie_parameter is not None:
        metrics["tie_parameter"] = found.tie_parameter
    card = model_card("reward model", ctx, method=METHODS[cfg.loss_type], metrics=metrics)
    save_model(built.model, tokenizer, ctx.work.path("model"), card)
    save_features(raw, encoded.examples, ctx.work.path("model"), ctx.say, features)
    if cfg.use_peft:
        save_adapter(built.model, ctx.work.path("model") / "adapter", base=location)
    return metrics


def build(cfg: RewardConfig, ctx: Context, hf: Any, examples: Sequence[Example]) -> Built:
    """Make the model from a language model, and choose the loss.

    Args:
        cfg: the stage's section.
        ctx: the running stage.
        hf: causal language model; it is copied.
        examples: training data, for the start of a tie parameter.
    """
    model = reward_from_causal(hf, seed=rng.derive(ctx.run.seed, ctx.work.stage, "init"))
    _freeze(model, cfg.freeze_layers)
    if cfg.use_peft:
        model = ScoreModel(add_lora(model.inner, r=cfg.lora_r, alpha=cfg.lora_alpha, targets=cfg.lora_target_modules))
        model.head.requires_grad_(True)  # drawn at random: it has to be learnt, and it is as small as one row
    center = cfg.center_rewards_coefficient
    if cfg.loss_type in ("rao_kupper", "davidson"):
        log_tie = _first_log_tie(cfg, examples)
        tied = TiedScores(model, cfg.loss_type, log_tie, learnt=cfg.tie_parameter is None).to(device())
        rates = {} if cfg.tie_parameter is not None else {"tie": cfg.tie_learning_rate}
        return Built(model, tied, tied, Ties(cfg.loss_type, center=center), rates)
    model.to(device())
    if cfg.loss_type in ("plackett_luce", "best_of_k"):
        return Built(model, model, model, Ranking(cfg.loss_type, center=center))
    pairs = BradleyTerry(center=center, label_smoothing=cfg.label_smoothing, mean=cfg.all_pairs_mean)
    return Built(model, model, model, pairs)


def _records(cfg: RewardConfig, ctx: Context) -> tuple[list[Preference], list[Preference]]:
    """(to train on, held out)."""
    records = load(ctx, "dataset", Preference, max_bad_rows=cfg.max_bad_rows)
    if cfg.group is not None:
        records = of_group(records, cfg.group, f"{ctx.work.stage}.group")
    if cfg.eval_dataset is not None:
        return records, load(ctx, "eval_dataset", Preference, max_bad_rows=cfg.max_bad_rows)
    return hold_out(records, prompt_key, cfg.eval_fraction, ctx.run.seed)


def _encode(cfg: RewardConfig, records: Sequence[Preference], tokenizer: Any) -> Encoded:
    """Pairs and rankings as the loss takes them."""
    ties = "tie" if cfg.loss_type in ("rao_kupper", "davidson") else "pull"
    return from_rankings(
        records,
        tokenizer,
        max_length=cfg.max_length,
        overlong=cfg.overlong,
        use_margin=cfg.use_margin,
        ties="drop" if cfg.loss_type in ("plackett_luce", "best_of_k") else ties,
    )


def _first_log_tie(cfg: RewardConfig, examples: Sequence[Example]) -> float:
    """Log of the fixed parameter, or of that at which equal replies tie as often as pairs do in the data."""
    if cfg.tie_parameter is not None:
        return math.log(cfg.tie_parameter)
    tied = pairs = 0
    for rank in (e.rank or tuple(range(len(e.rows))) for e in examples):
        pairs += math.comb(len(rank), 2)
        tied += sum(math.comb(rank.count(place), 2) for place in set(rank))
    if tied == 0:
        raise DataError(
            f"no pair of the data is a tie, so the tie parameter of {cfg.loss_type} cannot be learnt",
            fix="use loss_type: bradley_terry, or give tie_parameter",
        )
    return log_tie_parameter(cfg.loss_type, min(tied / pairs, 0.9))


def _scale(values: Sequence[float]) -> tuple[float, float]:
    """Mean and population deviation of the scores of training replies."""
    scores = torch.tensor(values)
    mean, std = float(scores.mean()), float(scores.std(unbiased=False))
    if std == 0:
        raise DataError(
            "the reward model gives every reply the same score: it has learnt nothing from these labels",
            fix="train longer or with a higher learning_rate, and check that the replies differ",
        )
    return mean, std


def _freeze(model: ScoreModel, layers: int) -> None:
    """Keep the embeddings and the lowest `layers` blocks as they are."""
    if layers == 0:
        return
    trunk: Any = model.inner.base_model
    trunk.get_input_embeddings().requires_grad_(False)
    for block in trunk.layers[:layers]:
        block.requires_grad_(False)
