"""Stage: supervised fine-tuning on demonstrations."""

from __future__ import annotations

from typing import Any

from accord import rng
from accord.models.packing import check_packing
from accord.pipeline import Context
from accord.stages.cards import model_card
from accord.stages.configs import SFTConfig
from accord.stages.datasets import check_usable, load, write_dropped
from accord.stages.policies import load_policy
from accord.stages.training import HELD_OUT_ROWS, hold_out, mean_terms, steps_for, train
from accord.train.examples import from_demonstrations
from accord.train.objectives import NLL
from accord.train.sources import Offline, batch_of
from accord.types import Demonstration


def _question(record: Demonstration) -> str:
    return "\x1e".join(f"{m.role}\x1f{m.content}" for m in record.messages[:-1])


def run(cfg: SFTConfig, ctx: Context) -> dict[str, Any]:
    """Fine-tune on conversations, with the loss on assistant tokens."""
    records = load(ctx, "dataset", Demonstration, max_bad_rows=cfg.max_bad_rows)
    location = ctx.inputs["model_name_or_path"].location
    loaded = load_policy(location, cfg, cfg.pad_token, "sft.max_length")
    policy, tokenizer = loaded.policy, loaded.tokenizer
    if cfg.packing:
        check_packing(policy)
    kept, held_out = hold_out(records, _question, cfg.eval_fraction, ctx.run.seed)
    encode = {"max_length": cfg.max_length, "overlong": cfg.overlong, "train_on": cfg.train_on}
    encoded = from_demonstrations(kept, tokenizer, **encode)
    ctx.say(f"  {encoded.describe()}")
    write_dropped(ctx.work.path("dropped.tsv"), encoded.dropped)
    check_usable(encoded, cfg.max_length)
    tested = from_demonstrations(held_out, tokenizer, **encode).examples
    batches = [batch_of(tested[i : i + HELD_OUT_ROWS], loaded.pad_id) for i in range(0, len(tested), HELD_OUT_ROWS)]

    def measure() -> dict[str, float]:
        found = mean_terms(NLL(), policy, batches, cfg.token_budget)
        return {"loss": found["loss"]} if batches else {}

    source = Offline(
        encoded.examples,
        batch_size=cfg.train_batch_size,
        pad_id=loaded.pad_id,
        seed=rng.derive(ctx.run.seed, ctx.work.stage, "data"),
        packing=cfg.max_length if cfg.packing else None,
    )
    steps = steps_for(cfg, len(encoded.examples))
    metrics = train(
        ctx,
        cfg,
        module=policy,
        forward=policy,
        source=source,
        objective=NLL(),
        steps=steps,
        measure=measure,
        eval_every=max(1, steps // 5),
    )
    metrics |= {"demonstrations": len(encoded.examples), "left_out": len(encoded.dropped)}
    card = model_card("fine-tuned model", ctx, method="supervised fine-tuning on demonstrations", metrics=metrics)
    loaded.save(ctx.work.path("model"), card)
    return metrics
