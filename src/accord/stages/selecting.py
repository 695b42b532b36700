"""What the stages share that train a policy on chosen replies of its own: models, source, probe, training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from accord import rng
from accord.batch import Batch, Forward
from accord.engines.base import Engine, Sampling
from accord.pipeline import Context
from accord.stages.cards import model_card
from accord.stages.configs.selection import Selecting
from accord.stages.datasets import load
from accord.stages.monitors import monitor_for
from accord.stages.policies import Loaded, load_policy, with_room
from accord.stages.probe import held_out, make_probe
from accord.stages.scorers import Scorer, load_scorer
from accord.stages.training import train
from accord.train.examples import Example
from accord.train.loop import Hook, Objective
from accord.train.rollouts import EncodedPrompt, OnPolicy, RolloutSettings
from accord.train.selection import Selected, Selection
from accord.types import Prompt, Rollout


@dataclass(frozen=True)
class Parts:
    """The models and prompts of a running stage."""

    loaded: Loaded
    ref: Callable[[Batch], Forward]
    """The start, frozen, at `loss_temperature`."""
    scorer: Scorer
    engine: Engine
    prompts: list[EncodedPrompt]
    forward: Callable[[Batch], Forward]
    """The policy at `loss_temperature`."""
    loss_temperature: float
    """Of the log-probabilities in the loss, and of the policy that the probe measures."""


def parts_of(cfg: Selecting, ctx: Context, *, loss_temperature: float) -> Parts:
    """Load what a stage with chosen replies works with."""
    loaded = load_policy(ctx.inputs["model_name_or_path"].location, cfg, cfg.pad_token, f"{ctx.work.stage}.max_length")
    policy = loaded.policy
    prompts = with_room(
        load(ctx, "prompts", Prompt, max_bad_rows=cfg.max_bad_rows),
        loaded.tokenizer,
        longest=cfg.max_length,
        reply=cfg.max_completion_length,
        ctx=ctx,
        field="prompts",
    )
    scorer = load_scorer(cfg, ctx, loaded.tokenizer, [p.prompt for p in prompts])

    def forward(batch: Batch) -> Forward:
        return policy(batch, temperature=loss_temperature)

    ref = loaded.reference_forward(loaded.reference(), loss_temperature)
    engine = loaded.engine(cfg.max_batch, fast=cfg.fast_decode)
    return Parts(loaded, ref, scorer, engine, prompts, forward, loss_temperature)


def train_on_chosen(  # noqa: PLR0913
    cfg: Selecting,
    ctx: Context,
    parts: Parts,
    *,
    choose: Callable[[Sequence[Rollout]], Selected],
    objective: Objective,
    method: str,
    finish: Callable[[Sequence[Example]], Sequence[Example]] | None = None,
    restart: Callable[[], None] | None = None,
    guards: Sequence[Hook] = (),
    show: Sequence[str] = ("objective/scores",),
    resample: int = 0,
) -> dict[str, Any]:
    """Train to the last round, save the policy and return the final numbers.

    Args:
        cfg: sizes and optimiser.
        ctx: the running stage.
        parts: models and prompts.
        choose: scored replies of a round to examples.
        objective: loss on them.
        method: for the model card.
        finish: see `Selection`.
        restart: see `Selection`.
        guards: hooks before the checkpoint.
        show: metrics beside the progress bar.
        resample: times a round that prompts whose replies score the same are replaced.
    """
    loaded = parts.loaded
    seed = rng.derive(ctx.run.seed, ctx.work.stage, "rollouts")
    replies = OnPolicy(
        policy=loaded.policy,
        forward=parts.forward,
        ref=parts.ref,
        engine=parts.engine,
        reward=parts.scorer.reward,
        prompts=parts.prompts,
        credit=_no_credit,
        settings=RolloutSettings(
            sampling=Sampling(cfg.max_completion_length, temperature=cfg.temperature, n=cfg.num_generations),
            num_prompts=cfg.train_batch_size,
            num_epochs=cfg.num_epochs,
            num_minibatches=cfg.num_mini_batches,
            kl_coef=0.0,
            missing_eos_penalty=cfg.missing_eos_penalty,
            resample=resample,
            max_reward_errors=cfg.max_reward_errors,
            token_budget=cfg.token_budget,
        ),
        pad_id=loaded.pad_id,
        seed=seed,
    )
    source = Selection(
        replies,
        choose,
        num_epochs=cfg.num_epochs,
        num_minibatches=cfg.num_mini_batches,
        pad_id=loaded.pad_id,
        seed=seed,
        finish=finish,
        restart=restart,
    )
    one = Sampling(cfg.max_completion_length, temperature=parts.loss_temperature)
    held = held_out(ctx, cfg, loaded.tokenizer, parts.engine, one)
    monitor = monitor_for(
        ctx,
        cfg,
        cfg.diagnosis,
        replies=replies,
        tokenizer=loaded.tokenizer,
        module=loaded.policy,
        sampling=one,
        prompts=held,
        learned=None,
        reward_location=None,
    )
    measure = make_probe(
        ctx,
        cfg,
        engine=parts.engine,
        tokenizer=loaded.tokenizer,
        policy=loaded.policy,
        forward=parts.forward,
        ref=parts.ref,
        reward=parts.scorer.reward,
        sampling=one,
        token_budget=cfg.token_budget,
        prompts=held,
        watch=monitor,
    )
    metrics = train(
        ctx,
        cfg,
        module=loaded.policy,
        forward=parts.forward,
        source=source,
        objective=objective,
        steps=cfg.num_rounds * cfg.num_epochs * cfg.num_mini_batches,
        show=show,
        measure=measure,
        eval_every=cfg.eval_steps,
        guards=guards,
        carried=None if monitor is None else monitor.carried,
        watcher=monitor,
    )
    metrics |= {"rounds": source.round} | ({} if monitor is None else monitor.summary())
    loaded.save(ctx.work.path("model"), model_card("policy", ctx, method=method, metrics=metrics))
    return metrics


def _no_credit(batch: Batch, *, kl_coef: float) -> Batch:
    """Chosen replies are trained on with a likelihood or a pair loss: there are no advantages."""
    del kl_coef
    return batch
