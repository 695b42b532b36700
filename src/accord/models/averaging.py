"""One reward model out of several, by averaging their weights (WARM, Rame et al. 2024, 2401.12187)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from accord.errors import ModelError
from accord.models.policy import ScoreModel

_FIX = "average models that were all trained from one model, with one tokenizer and one head"


def average_models(models: Mapping[str, ScoreModel]) -> ScoreModel:
    """Return a reward model whose every weight is the mean of theirs; a copy (WARM, eq. 3).

    Args:
        models: at least two by name, of one architecture.

    Raises:
        ModelError: there are fewer than two, or a config, parameter name, shape or type differs.
    """
    if len(models) < 2:
        raise ModelError("averaging needs at least two reward models", fix="name more of them")
    names = list(models)
    first = models[names[0]].inner
    for name in names[1:]:
        _same_architecture(first, models[name].inner, names[0], name)
    sums: dict[str, Tensor] = {}
    for model in models.values():
        for key, weights in model.inner.state_dict().items():
            added = weights.detach().double()
            sums[key] = added if key not in sums else sums[key] + added
    made = copy.deepcopy(first)
    for key in [k for k in vars(made.config) if k.startswith("accord_")]:
        delattr(made.config, key)  # scale and calibration of the first model, not of the mean
    with torch.no_grad():
        for key, weights in made.state_dict().items():
            weights.copy_(sums[key] / len(models))
    return ScoreModel(made)


def head_alignment(models: Mapping[str, ScoreModel]) -> float:
    """Return the smallest cosine between the heads of two models.

    Near 1 for models that started from one head, near 0 for heads drawn one by one: these read different features, and
    the mean of the weights is no model.
    """
    rows = torch.stack([model.head.weight.detach().double().flatten().cpu() for model in models.values()])
    unit = rows / rows.square().sum(dim=1, keepdim=True).sqrt()
    return float((unit @ unit.T).min())


def _same_architecture(one: Any, other: Any, name: str, other_name: str) -> None:
    where = f"'{name}' and '{other_name}'"
    mine, theirs = (_architecture(model.config) for model in (one, other))
    odd = sorted(key for key in set(mine) | set(theirs) if mine.get(key) != theirs.get(key))
    if odd:
        raise ModelError(f"the reward models have different architectures: {', '.join(odd[:5])}", where=where, fix=_FIX)
    weights, others = one.state_dict(), other.state_dict()
    unlike = [
        key
        for key in sorted(set(weights) | set(others))
        if key not in weights
        or key not in others
        or (weights[key].shape, weights[key].dtype) != (others[key].shape, others[key].dtype)
    ]
    if unlike:
        raise ModelError(f"the reward models have different weights: {', '.join(unlike[:5])}", where=where, fix=_FIX)


def _architecture(config: Any) -> dict[str, Any]:
    """The config without where the model came from and what was measured on it."""
    left_out = ("_name_or_path", "transformers_version", "architectures", "torch_dtype", "dtype")
    return {k: v for k, v in config.to_dict().items() if k not in left_out and not k.startswith("accord_")}
