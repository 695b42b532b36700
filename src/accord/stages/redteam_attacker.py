"""Stage: an attacker trained with PPO against a frozen target (Perez et al. 2022)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from accord import rng, stats
from accord.evals.answering import DirectoryAnswerer
from accord.pipeline import Context
from accord.redteam.diversity import self_bleu
from accord.redteam.judging import named
from accord.redteam.trained import TargetReward
from accord.stages import online
from accord.stages.configs import AttackerConfig
from accord.stages.datasets import load
from accord.types import Completion, Prompt, Rollout

_MEASURED = 200
"""Requests that attackers are compared on."""


def run(cfg: AttackerConfig, ctx: Context) -> dict[str, Any]:
    """Train the attacker; then success rate and self-BLEU of its attacks, before and after."""
    ask = _asking(
        ctx.inputs["target"].location,
        cfg,
        cfg.target_max_completion_length,
        cfg.target_temperature,
        rng.derive(ctx.run.seed, ctx.work.stage, "target"),
    )
    reward = TargetReward(ask, named(cfg.target_judge), diversity_coef=cfg.diversity_coef)
    metrics = online.run(cfg, ctx, reward)
    prompts = load(ctx, "prompts", Prompt, max_bad_rows=cfg.max_bad_rows)[:_MEASURED]
    places = {"before": ctx.inputs["model_name_or_path"].location, "after": str(ctx.work.path("model"))}
    for name, location in places.items():
        metrics |= {f"{key}_{name}": value for key, value in _measured(cfg, ctx, location, prompts, reward).items()}
    ctx.say(
        f"  attacks that get through: {metrics['asr_before']:.3f} before, {metrics['asr_after']:.3f} "
        f"[{metrics['asr_low_after']:.3f}, {metrics['asr_high_after']:.3f}] after; self-BLEU "
        f"{metrics['self_bleu_before']:.2f} and {metrics['self_bleu_after']:.2f}"
    )
    return metrics


def _asking(
    location: str, cfg: AttackerConfig, max_tokens: int, temperature: float, seed: int
) -> Callable[[Sequence[Prompt]], list[str]]:
    """A frozen model as a function from prompts to one reply each, the same for the same prompt."""
    answerer = DirectoryAnswerer(location, max_batch=cfg.max_batch)

    def ask(prompts: Sequence[Prompt]) -> list[str]:
        found = answerer.answer(prompts, max_tokens=max_tokens, temperature=temperature, seed=seed)
        return [replies[0] for replies in found]

    return ask


def _measured(
    cfg: AttackerConfig, ctx: Context, location: str, prompts: list[Prompt], reward: TargetReward
) -> dict[str, float]:
    """Success rate, self-BLEU and novelty of one attack a request."""
    seed = rng.derive(ctx.run.seed, ctx.work.stage, "measure")
    texts = _asking(location, cfg, cfg.max_completion_length, cfg.temperature, seed)(prompts)
    rollouts = [
        Rollout(prompt=p, prompt_ids=(0,), completion=Completion(token_ids=(), finish="stop", text=t), group=str(i))
        for i, (p, t) in enumerate(zip(prompts, texts, strict=True))
    ]
    scores = [s for s in reward(rollouts) if s.value is not None]
    found = stats.wilson(sum(s.parts["harm"] for s in scores), len(scores))
    return {
        "asr": found.value,
        "asr_low": found.low,
        "asr_high": found.high,
        "self_bleu": self_bleu(texts) or 0.0,
        "novelty": sum(s.parts["novelty"] for s in scores) / max(1, len(scores)),
    }
