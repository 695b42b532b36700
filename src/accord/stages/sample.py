"""Stage: candidate replies for people, judges or simulated annotators to compare."""

from __future__ import annotations

import json
from typing import Any

from accord import rng
from accord.engines.base import Sampling
from accord.engines.native import engine_for
from accord.errors import DataError
from accord.models import chat
from accord.pipeline import Context
from accord.progress import track
from accord.stages.configs import SampleConfig
from accord.stages.datasets import load
from accord.stages.policies import load_frozen
from accord.types import Completion, Prompt


def run(cfg: SampleConfig, ctx: Context) -> dict[str, Any]:
    """Draw `num_generations` replies a prompt, over the models in turn."""
    prompts = _chosen(load(ctx, "prompts", Prompt), cfg, ctx)
    replies: list[list[Completion]] = [[] for _ in prompts]
    models = ctx.many("models")
    shares = _shares(cfg.num_generations, list(models))
    with track(ctx.work.stage, total=len(prompts) * cfg.num_generations) as bar:
        for name, source in models.items():
            if not shares[name]:
                continue
            policy, tokenizer = load_frozen(source.location)
            engine = engine_for(policy.hf, tokenizer, cfg.max_batch, fast=cfg.fast_decode)
            sampling = Sampling(
                max_new_tokens=cfg.max_completion_length,
                temperature=cfg.temperature,
                top_p=cfg.top_p,
                top_k=cfg.top_k,
                n=shares[name],
            )
            for start in range(0, len(prompts), cfg.max_batch):
                part = prompts[start : start + cfg.max_batch]
                ids = [chat.encode_prompt(tokenizer, p.messages) for p in part]
                seeds = [rng.derive(ctx.run.seed, ctx.work.stage, name, start + i) for i in range(len(part))]
                made = engine.generate(ids, sampling, seeds=seeds)
                for i, completion in enumerate(made):
                    named = completion.model_copy(update={"model": name})
                    replies[start + i // sampling.n].append(named)
                bar.update(len(made))
            engine.close()
    return _write(cfg, ctx, prompts, replies)


def _chosen(prompts: list[Prompt], cfg: SampleConfig, ctx: Context) -> list[Prompt]:
    """`num_prompts` prompts after the first `skip_prompts`."""
    left = prompts[cfg.skip_prompts :]
    if not left:
        raise DataError(
            f"{cfg.skip_prompts} prompts are skipped and there are {len(prompts)}",
            where=f"{ctx.work.stage}.skip_prompts",
            fix="give more prompts, lower num_prompts, or use the same prompts every round (rounds.prompts: same)",
        )
    return left if cfg.num_prompts < 0 else left[: cfg.num_prompts]


def _shares(num: int, names: list[str]) -> dict[str, int]:
    """How many of `num` replies each model gives: equal, the rest to the first ones."""
    return {name: num // len(names) + (i < num % len(names)) for i, name in enumerate(names)}


def _write(cfg: SampleConfig, ctx: Context, prompts: list[Prompt], replies: list[list[Completion]]) -> dict[str, Any]:
    written, same = 0, 0
    with ctx.work.path("samples.jsonl").open("w", encoding="utf-8") as file:
        for prompt, candidates in zip(prompts, replies, strict=True):
            unique = {c.text.strip(): c for c in candidates} if cfg.distinct else dict(enumerate(candidates))
            chosen = [c for text, c in unique.items() if text != ""]
            if len(chosen) < 2:
                same += 1
                continue
            row = {
                "prompt": prompt.model_dump(mode="json"),
                "candidates": [c.model_dump(mode="json") for c in chosen],
            }
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            written += 1
    if not written:
        raise DataError(
            "no prompt got two different replies",
            where=ctx.work.stage,
            fix="raise temperature or num_generations, or set distinct to false",
        )
    lengths = [len(c.token_ids) for group in replies for c in group]
    return {
        "prompts": written,
        "prompts_without_two_different_replies": same,
        "replies": len(lengths),
        "mean_length": sum(lengths) / len(lengths),
        "cut_fraction": sum(c.finish == "length" for g in replies for c in g) / len(lengths),
    }
