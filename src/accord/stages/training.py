"""What every training stage does around `fit`: learner, progress, metrics file, checkpoints, resume."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import torch
from torch import nn

from accord import rng
from accord.batch import Batch, Forward, Mean
from accord.errors import ConfigError, DataError
from accord.models.kernels import use_kernels
from accord.models.pair import device
from accord.models.policy import CausalModel, ScoreModel, ValueModel
from accord.models.precision import cpu_has_bfloat16, mixed_precision
from accord.models.recompute import recompute_activations
from accord.models.trunk import lays_flat, share_prompts
from accord.pipeline import Context
from accord.progress import track
from accord.stages.configs import Fitted, Training
from accord.tracking import Tracker
from accord.train import hooks
from accord.train.loop import Hook, Learner, Objective, Source, StepInfo, fit, prepared
from accord.train.optim import adamw, schedule
from accord.types import Preference, Prompt

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}
HELD_OUT_ROWS = 512
"""Held-out rows from which micro-batches are cut together. Of fewer come more of them, and more padding: with 64 the
demo's base model is measured in 39 micro-batches instead of 15, in 1.17 of the time."""
T = TypeVar("T")


class Watcher(Protocol):
    """What looks on while a policy is trained; see `diagnosing.Monitor`."""

    rolled_back: bool
    """Whether the weights are those of an earlier step."""

    def begin(self, learner: Learner) -> None:
        """Start or continue, after the first measurement or the checkpoint."""
        ...

    def read(self, info: StepInfo) -> None:
        """Add metrics, before they are logged."""
        ...

    def act(self, info: StepInfo) -> bool:
        """Do what an alarm asks for; True ends training."""
        ...


def steps_for(cfg: Fitted, num_examples: int) -> int:
    """Optimiser steps: max_steps, or num_train_epochs over the examples."""
    if cfg.max_steps > 0:
        return cfg.max_steps
    return max(1, round(cfg.num_train_epochs * num_examples / cfg.train_batch_size))


def set_speed(module: nn.Module, cfg: Training) -> None:
    """Let the models inside `module` run as `cfg` says: kernels, mixed precision, shared prompts once or row by row.

    Raises:
        ModelError: a kernel is not installed or does not know the architecture.
        ConfigError: bf16 on a processor without bfloat16.
    """
    if cfg.bf16 and device().type == "cpu" and not cpu_has_bfloat16():
        raise ConfigError(
            "bf16 on a processor that has no bfloat16 instructions is slower than float32", fix="set bf16: false"
        )
    use_kernels(module, cfg.attn_implementation, liger=cfg.use_liger_kernel)
    mixed_precision(module, cfg.bf16)
    share_prompts(module, cfg.share_prompts)


def train(  # noqa: PLR0913
    ctx: Context,
    cfg: Training,
    *,
    module: nn.Module,
    forward: Callable[[Batch], Forward],
    source: Source,
    objective: Objective,
    steps: int,
    show: Sequence[str] = ("loss",),
    measure: Callable[[], Mapping[str, float]] | None = None,
    eval_every: int = 0,
    guards: Sequence[Hook] = (),
    learning_rates: Mapping[str, float] | None = None,
    carried: Mapping[str, torch.Tensor] | None = None,
    watcher: Watcher | None = None,
) -> dict[str, Any]:
    """Train to `steps`, resuming where a killed attempt was, and return the final numbers.

    Args:
        ctx: the running stage; metrics go to its `metrics.jsonl`, checkpoints to its checkpoint directory.
        cfg: optimiser and bookkeeping fields.
        module: what is trained and checkpointed.
        forward: `module` on a micro-batch.
        source: batches.
        objective: loss.
        steps: optimiser steps in all.
        show: metrics beside the progress bar.
        measure: evaluation, logged as `eval/<name>`.
        eval_every: steps between evaluations; 0 = only at the start and the end.
        guards: further hooks, run after logging and before the checkpoint.
        learning_rates: base rate by parameter-name prefix, where it differs from cfg.learning_rate.
        carried: further tensors of the checkpoint, which a guard changes in place (a reference that moves).
        watcher: reads every step between evaluation and logging, and acts before the other guards.
    """
    set_speed(module, cfg)
    if cfg.gradient_checkpointing:
        for part in module.modules():
            if isinstance(part, CausalModel | ScoreModel | ValueModel):
                recompute_activations(part.hf)
    optimizer = adamw(
        module,
        learning_rate=cfg.learning_rate,
        overrides=learning_rates,
        weight_decay=cfg.weight_decay,
        betas=(cfg.adam_beta1, cfg.adam_beta2),
        eps=cfg.adam_epsilon,
    )
    learner = Learner(
        module=module,
        forward=forward,
        optimizer=optimizer,
        schedule=schedule(cfg.lr_scheduler_type, steps=steps, warmup_steps=round(cfg.warmup_ratio * steps)),
        token_budget=cfg.token_budget,
        flat=lays_flat(module),
        max_grad_norm=cfg.max_grad_norm,
        carried=dict(carried or {}),
    )
    with Tracker(ctx.work.dir, tensorboard=True) as tracker:
        skipped: list[str] = []
        begun = hooks.resume(ctx.work.checkpoints, learner, source, tracker, skipped.append)
        for note in skipped:
            ctx.say(f"  {note}")
        if begun:
            ctx.say(f"  continuing from step {begun} of {steps}")
        elif skipped:
            ctx.say("  no checkpoint can be used: starting again from step 0")
        last: dict[str, float] = {}
        if not begun and measure is not None:
            tracker.log(0, {f"eval/{name}": value for name, value in measure().items()})
        if watcher is not None:
            watcher.begin(learner)
        started = time.monotonic()
        with track(ctx.work.stage, total=steps, done=begun) as bar:
            chain: list[Hook] = []
            if measure is not None:
                chain += [hooks.evaluate(measure, eval_every or steps), keep_last(last)]
            chain += [] if watcher is None else [watcher.read]
            chain += [hooks.log(tracker, cfg.logging_steps), hooks.show(bar, *show)]
            chain += [*([] if watcher is None else [watcher.act]), *guards]
            chain.append(hooks.checkpoint(ctx.work.checkpoints, cfg.save_steps))
            fit(learner, source, objective, steps=steps, hooks=chain)
        seconds = time.monotonic() - started
    moved = last.pop("step", -1) != learner.step  # stopped early, or resumed after the last step
    if measure is not None and (moved or (watcher is not None and watcher.rolled_back)):
        last = dict(measure())
    mixed_precision(module, on=False)  # what is measured and saved from here on runs as its users will run it
    return {
        **{f"eval_{name}": value for name, value in last.items()},
        "steps": learner.step,
        "train_seconds": round(seconds, 3),
        "parameters": sum(p.numel() for p in module.parameters()),
        "trainable_parameters": sum(p.numel() for p in learner.trainable().values()),
    }


def keep_last(found: dict[str, float]) -> Hook:
    """Remember the newest evaluation and its step in `found`."""

    def hook(info: StepInfo) -> None:
        new = {n.removeprefix("eval/"): v for n, v in info.metrics.items() if n.startswith("eval/")}
        if new:
            found.clear()
            found.update(new, step=info.step)

    return hook


def hold_out(records: Sequence[T], key: Callable[[T], str], fraction: float, seed: int) -> tuple[list[T], list[T]]:
    """Split records into (train, held out) by a hash of `key`, so that equal keys stay together.

    Raises:
        DataError: nothing is left to train on.
    """
    parts: tuple[list[T], list[T]] = ([], [])
    for record in records:
        parts[rng.derive(seed, "hold-out", key(record)) / 2**63 < fraction].append(record)
    if not parts[0]:
        raise DataError(
            f"all {len(records)} records are held out, none is left to train on",
            fix="lower eval_fraction, or give more data",
        )
    return parts


def prompt_key(record: Preference | Prompt) -> str:
    """Text of a prompt, what "the same prompt" means in splits."""
    prompt = record.prompt if isinstance(record, Preference) else record
    return "\x1e".join(f"{m.role}\x1f{m.content}" for m in prompt.messages)


@torch.no_grad()
def mean_terms(
    objective: Objective, forward: Callable[[Batch], Forward], batches: Sequence[Batch], token_budget: int
) -> dict[str, float]:
    """Loss and metrics of an objective over held-out batches; empty without batches.

    Args:
        objective: what training minimises.
        forward: the module on a micro-batch.
        batches: held-out rows; groups stay together.
        token_budget: largest rows x length a forward.
    """
    where = device()
    sums: dict[str, Mean] = {}
    for batch in batches:
        for micro in prepared(objective, batch.to(where), forward, token_budget).split(token_budget):
            on_device = micro.to(where)
            terms = objective(forward(on_device), on_device)
            found = {**terms.metrics, "loss": Mean(terms.loss, objective.denominator(on_device))}
            for name, mean in found.items():
                added = Mean(float(mean.sum), float(mean.count))
                sums[name] = sums[name] + added if name in sums else added
    return {name: mean.value for name, mean in sums.items()}


def check_length(max_length: int, longest: int, where: str) -> None:
    """Refuse a max_length that the model's positions cannot hold.

    Raises:
        ConfigError: max_length is larger than the model's context.
    """
    if max_length > longest:
        raise ConfigError(
            f"max_length is {max_length} and the model has {longest} positions",
            where=where,
            fix="lower max_length",
        )
