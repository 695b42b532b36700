"""Stage: a process reward model from replies with a label a step."""

from __future__ import annotations

import json
from typing import Any

import torch

from accord import rng
from accord.models.build import set_score_stats
from accord.models.checkpoint import save_model
from accord.models.pair import device
from accord.models.score_heads import StepScores
from accord.pipeline import Context
from accord.rewards.learned import LearnedReward
from accord.rewards.load import STEP_AGGREGATE, STEP_MEAN, STEP_SEPARATOR, STEP_STD, step_reward
from accord.stages.cards import model_card
from accord.stages.configs import ProcessConfig
from accord.stages.datasets import check_usable, load, write_dropped
from accord.stages.score_models import SCALE_ROWS, moments, rows_of, start
from accord.stages.training import hold_out, mean_terms, prompt_key, steps_for, train
from accord.train.objectives import StepNLL
from accord.train.rated import from_steps
from accord.train.sources import Offline, batch_of
from accord.types import Stepwise


def run(cfg: ProcessConfig, ctx: Context) -> dict[str, Any]:
    """Train on the labels of steps, measure on held-out prompts, store separator, aggregation and scale."""
    records = load(ctx, "dataset", Stepwise, max_bad_rows=cfg.max_bad_rows)
    kept, held_out = hold_out(records, lambda r: prompt_key(r.prompt), cfg.eval_fraction, ctx.run.seed)
    model, tokenizer = start(cfg, ctx)
    encoded, test = (
        from_steps(part, tokenizer, separator=cfg.step_separator, max_length=cfg.max_length, overlong=cfg.overlong)
        for part in (kept, held_out)
    )
    ctx.say(f"  {encoded.describe()}; {len(held_out)} replies held out")
    write_dropped(ctx.work.path("dropped.tsv"), encoded.dropped)
    check_usable(encoded, cfg.max_length)
    pad_id = tokenizer.pad_token_id
    steps = StepScores(model).to(device())
    metrics = train(
        ctx,
        cfg,
        module=steps,
        forward=steps,
        source=Offline(
            encoded.examples,
            batch_size=cfg.train_batch_size,
            pad_id=pad_id,
            seed=rng.derive(ctx.run.seed, ctx.work.stage, "data"),
        ),
        objective=StepNLL(),
        steps=steps_for(cfg, len(encoded.examples)),
        show=("loss", "step_accuracy"),
    )
    steps.requires_grad_(False)
    batches = [batch_of(test.examples[i : i + 64], pad_id) for i in range(0, len(test.examples), 64)]
    found = mean_terms(StepNLL(), steps, batches, cfg.token_budget)
    if not found:
        ctx.say("  no reply is held out: the accuracy of steps is not measured")
    ctx.work.path("eval.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    metrics |= {f"eval_{name}": value for name, value in found.items()}
    metrics |= {"replies": len(encoded.examples), "left_out": len(encoded.dropped)}

    raw = LearnedReward(model, pad_id=pad_id)
    last_B = torch.tensor(raw.score_ids(rows_of(encoded.examples)), dtype=torch.float64)
    (mean,), (std,) = moments(last_B[:, None])
    set_score_stats(model, mean, std)
    config: Any = model.inner.config
    setattr(config, STEP_SEPARATOR, cfg.step_separator)
    setattr(config, STEP_AGGREGATE, cfg.step_aggregate)
    rows = [row for e in encoded.examples[:SCALE_ROWS] for row in e.rows]
    scored = step_reward(model, tokenizer).score_rows([row.ids for row in rows], [row.mask for row in rows])
    value_B = torch.tensor([s.value for s in scored if s.value is not None], dtype=torch.float64)
    (mean,), (std,) = moments(value_B[:, None])
    setattr(config, STEP_MEAN, mean)
    setattr(config, STEP_STD, std)
    card = model_card("process reward model", ctx, method="NLL of each step (2305.20050)", metrics=metrics)
    save_model(model, tokenizer, ctx.work.path("model"), card)
    return metrics
