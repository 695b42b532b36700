"""Stage: a base model from raw text."""

from __future__ import annotations

import math
from typing import Any

from accord import rng
from accord.models.build import new_causal
from accord.models.checkpoint import save_model
from accord.models.pair import device
from accord.models.policy import CausalModel
from accord.models.tokenizer import train_tokenizer
from accord.pipeline import Context
from accord.stages.cards import model_card
from accord.stages.configs import PretrainConfig
from accord.stages.datasets import load
from accord.stages.training import DTYPES, HELD_OUT_ROWS, hold_out, mean_terms, steps_for, train
from accord.train.examples import from_documents
from accord.train.objectives import NLL
from accord.train.sources import Offline, batch_of
from accord.types import Document


def run(cfg: PretrainConfig, ctx: Context) -> dict[str, Any]:
    """Train a tokenizer and a Llama-architecture model on `cfg.dataset`."""
    documents = load(ctx, "dataset", Document, max_bad_rows=cfg.max_bad_rows)
    kept, held_out = hold_out(documents, lambda d: d.text, cfg.eval_fraction, ctx.run.seed)
    tokenizer: Any = train_tokenizer((d.text for d in kept), cfg.vocab_size)
    encoded = from_documents(
        kept,
        tokenizer,
        max_length=cfg.max_length,
        packing=cfg.packing,
        seed=rng.derive(ctx.run.seed, ctx.work.stage, "packing"),
    )
    num_tokens = sum(len(e.rows[0].ids) for e in encoded.examples)
    ctx.say(f"  {encoded.describe()}, {num_tokens} tokens, vocabulary {len(tokenizer)}")
    hf: Any = new_causal(
        tokenizer,
        hidden_size=cfg.hidden_size,
        num_layers=cfg.num_hidden_layers,
        num_heads=cfg.num_attention_heads,
        num_kv_heads=cfg.num_key_value_heads or cfg.num_attention_heads,
        intermediate_size=cfg.intermediate_size or 8 * math.ceil(cfg.hidden_size / 3),
        max_positions=cfg.max_position_embeddings,
        rope_theta=cfg.rope_theta,
        init_std=cfg.initializer_range,
        seed=rng.derive(ctx.run.seed, "pretrain", "init"),
    )
    policy = CausalModel(hf.to(device(), DTYPES[cfg.dtype]))
    tested = from_documents(held_out, tokenizer, max_length=cfg.max_length).examples
    batches = [
        batch_of(tested[i : i + HELD_OUT_ROWS], tokenizer.pad_token_id) for i in range(0, len(tested), HELD_OUT_ROWS)
    ]

    def measure() -> dict[str, float]:
        found = mean_terms(NLL(), policy, batches, cfg.token_budget)
        return {"loss": found["loss"]} if batches else {}

    source = Offline(
        encoded.examples,
        batch_size=cfg.train_batch_size,
        pad_id=tokenizer.pad_token_id,
        seed=rng.derive(ctx.run.seed, "pretrain", "data"),
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
    if "eval_loss" in metrics:
        metrics["eval_perplexity"] = math.exp(metrics["eval_loss"])
    metrics |= {"documents": len(documents), "corpus_tokens": num_tokens, "vocab_size": len(tokenizer)}
    card = model_card("base model", ctx, method="next-token prediction", metrics=metrics)
    save_model(policy, tokenizer, ctx.work.path("model"), card)
    return metrics
