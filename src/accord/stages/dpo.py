"""Stage: direct preference optimisation."""

from __future__ import annotations

from typing import Any

from accord import rng
from accord.engines.base import Sampling
from accord.models.build import score_stats
from accord.models.checkpoint import load_reward, save_model
from accord.pipeline import Context
from accord.progress import track
from accord.rewards.learned import LearnedReward
from accord.stages.cards import model_card
from accord.stages.configs import DPOConfig
from accord.stages.datasets import check_usable, load, write_dropped
from accord.stages.policies import load_policy
from accord.stages.probe import make_probe
from accord.stages.training import device, hold_out, mean_terms, prompt_key, steps_for, train
from accord.train.examples import from_preferences
from accord.train.objectives import DPO
from accord.train.sources import Offline, batch_of, with_reference
from accord.types import Preference


def run(cfg: DPOConfig, ctx: Context) -> dict[str, Any]:
    """Optimise the policy on pairs; the reference's log-probabilities are computed once."""
    records = load(ctx, "dataset", Preference, max_bad_rows=cfg.max_bad_rows)
    kept, held_out = hold_out(records, prompt_key, cfg.eval_fraction, ctx.run.seed)
    loaded = load_policy(ctx.inputs["model_name_or_path"].location, cfg, cfg.pad_token, f"{ctx.work.stage}.max_length")
    policy, tokenizer = loaded.policy, loaded.tokenizer
    encoded = from_preferences(kept, tokenizer, max_length=cfg.max_length, overlong=cfg.overlong)
    ctx.say(f"  {encoded.describe()}")
    write_dropped(ctx.work.path("dropped.tsv"), encoded.dropped)
    check_usable(encoded, cfg.max_length)
    frozen = loaded.reference()
    ref = loaded.reference_forward(frozen)
    tested = from_preferences(held_out, tokenizer, max_length=cfg.max_length, overlong=cfg.overlong).examples
    steps = steps_for(cfg, len(encoded.examples))
    seed = rng.derive(ctx.run.seed, ctx.work.stage, "data")
    used = Offline.drawn(len(encoded.examples), steps * cfg.train_batch_size, seed)
    both = (*(encoded.examples[i] for i in used), *tested)
    with track("reference log-probs", total=2 * len(both)) as bar:
        scored = with_reference(
            both,
            ref,
            pad_id=loaded.pad_id,
            token_budget=cfg.token_budget,
            device=device(),
            cache=ctx.work.checkpoints / "ref_logp.safetensors",
            on_progress=bar.update,
        )
    tested = scored[len(used) :]
    examples = list(encoded.examples)  # those that are never drawn keep no reference log-probs
    for i, example in zip(used, scored, strict=False):
        examples[i] = example
    batches = [batch_of(tested[i : i + 32], loaded.pad_id) for i in range(0, len(tested), 32)]
    source = Offline(
        examples,
        batch_size=cfg.train_batch_size,
        pad_id=loaded.pad_id,
        seed=seed,
    )
    reward = None
    if "reward_model" in ctx.inputs:
        model = load_reward(ctx.inputs["reward_model"].location).to(device()).requires_grad_(False)
        mean, std = score_stats(model.inner.config)
        reward = LearnedReward(model, pad_id=loaded.pad_id, mean=mean, std=std)
    probe = make_probe(
        ctx,
        cfg,
        engine=loaded.engine(128),
        tokenizer=tokenizer,
        policy=policy,
        forward=policy,
        ref=ref,
        reward=reward,
        sampling=Sampling(max_new_tokens=cfg.max_completion_length),
        token_budget=cfg.token_budget,
    )
    objective = DPO(beta=cfg.beta, label_smoothing=cfg.label_smoothing, rpo_alpha=cfg.rpo_alpha)

    def measure() -> dict[str, float]:
        """Held-out pairs, and the probe on held-out prompts where there is one."""
        held = mean_terms(objective, policy, batches, cfg.token_budget)
        pairs = {n: held[k] for n, k in (("loss", "loss"), ("accuracy", "rewards/accuracies")) if k in held}
        return {**pairs, **(probe() if probe is not None else {})}

    metrics = train(
        ctx,
        cfg,
        module=policy,
        forward=policy,
        source=source,
        objective=objective,
        steps=steps,
        show=("loss", "rewards/accuracies"),
        measure=measure,
        eval_every=cfg.eval_steps,
    )
    metrics |= {"pairs": len(examples), "left_out": len(encoded.dropped)}
    card = model_card("policy", ctx, method="direct preference optimisation (2305.18290)", metrics=metrics)
    save_model(policy, tokenizer, ctx.work.path("model"), card)
    return metrics
