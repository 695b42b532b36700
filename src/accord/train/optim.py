"""Optimisers and learning-rate schedules."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import nn

from accord.errors import TrainingError

Schedule = Literal["constant", "linear", "cosine"]


def schedule(kind: Schedule, *, steps: int, warmup_steps: int = 0, final: float = 0.0) -> Callable[[int], float]:
    """Return the learning-rate multiplier as a function of the optimiser step.

    `linear` is lr * (1 - step / steps) as in lm-human-preferences; with warm-up the decay starts after it.

    Args:
        kind: shape of the decay.
        steps: optimiser steps of the whole run.
        warmup_steps: steps over which the multiplier rises linearly to 1; step 0 already moves.
        final: multiplier the decay ends at.
    """

    def multiplier(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        progress = min(1.0, (step - warmup_steps) / max(1, steps - warmup_steps))
        if kind == "constant":
            return 1.0
        if kind == "linear":
            return final + (1 - final) * (1 - progress)
        return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress))

    return multiplier


def adamw(
    module: nn.Module,
    *,
    learning_rate: float,
    overrides: Mapping[str, float] | None = None,
    weight_decay: float = 0.0,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
) -> torch.optim.AdamW:
    """Build AdamW (Loshchilov & Hutter 2017) over the trainable parameters of `module`.

    Weight decay applies to matrices only, not to biases and norms.

    Args:
        module: what is trained.
        learning_rate: base rate.
        overrides: base rate of the parameters whose name starts with a prefix, e.g. {"critic.": 1e-4}.
        weight_decay: decoupled decay.
        betas: decay of the gradient mean and of its square.
        eps: added to the root of the mean square.

    Raises:
        TrainingError: no parameter of `module` is trainable, or an override names none.
    """
    names = [name for name, parameter in module.named_parameters() if parameter.requires_grad]
    for prefix in overrides or {}:
        if not any(name.startswith(prefix) for name in names):
            raise TrainingError(f"no trained parameter is called '{prefix}...', but it has its own learning rate")
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            rate = next((r for p, r in (overrides or {}).items() if name.startswith(p)), learning_rate)
            groups.setdefault((rate, weight_decay if parameter.dim() >= 2 else 0.0), []).append(parameter)
    if not groups:
        raise TrainingError("nothing to train: every parameter is frozen", fix="check the LoRA settings")
    params = [
        {"params": members, "weight_decay": decay, "lr": rate, "initial_lr": rate}
        for (rate, decay), members in groups.items()
    ]
    return torch.optim.AdamW(params, lr=learning_rate, betas=betas, eps=eps, fused=True)
