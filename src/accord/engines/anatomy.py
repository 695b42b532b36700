"""What a decoding step must know of a model: its matrices, norms and numbers, and how they are joined.

The families (`llama`, `gpt2`, `neox`, `bloom`, `pairs` beside this file) read their models into it;
`accord.engines.step` runs what they read. A layer is attention and an MLP, each added to what goes past it, one after
the other or both from the same input.

Legend: B rows, H hidden size, I inputs, O outputs, N heads (queries, keys and values), R turned numbers of a head.
"""

# ruff: noqa: N815 - fields carry shape suffixes
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.activations import GELUActivation, GELUTanh, NewGELUActivation

Function = Callable[[Tensor], Tensor]


class Matrix(NamedTuple):
    """x -> x W^T + b."""

    weight_OI: Tensor
    bias_O: Tensor | None


class Activation(NamedTuple):
    """The function between the products of an MLP."""

    function: Function
    gelu: str | None = None
    """Which GELU it is, "none" or "tanh" as torch names approximations; None = something else."""


@dataclass(frozen=True)
class Layer:
    """Attention and MLP."""

    attention_norm: Function
    qkv: Sequence[Matrix]
    """Queries, keys and values of all heads, in this order."""
    attention_out: Matrix
    mlp_norm: Function | None
    """None = the MLP reads what attention reads."""
    mlp_in: Sequence[Matrix]
    activation: Activation
    mlp_out: Matrix
    scaling: float
    """Of attention scores."""
    gated: bool = False
    """Whether the first half of what `mlp_in` gives is a gate for the second."""
    window: int | None = None
    """Tokens that a query sees, its own included; None = all."""
    rotary: str | None = "rotary"
    """Which of the model's rotary embeddings turns queries and keys; None = none does."""
    query_norm: Function | None = None
    """Of [B, heads, D]."""
    key_norm: Function | None = None
    attention_end: Function | None = None
    """A norm of what attention adds."""
    mlp_end: Function | None = None
    """A norm of what the MLP adds."""


@dataclass(frozen=True)
class Anatomy:
    """A causal language model in parts."""

    trunk: nn.Module
    embed: Callable[[Tensor, Tensor], Tensor]
    """(tokens [B], positions [B]) -> [B, H]."""
    layers: Sequence[Layer]
    norm: Function
    head: Matrix
    heads: int
    """Of queries."""
    key_heads: int
    head_size: int
    slopes_N: Tensor | None = None
    """What a head adds to a score for every place that a key is further to the right (ALiBi, Press et al. 2021,
    2108.12409); only where every head of queries has keys of its own."""
    parallel: bool = False
    """Whether a layer's MLP reads what its attention reads, not what attention made of it."""
    rotary: Mapping[str, tuple[Callable[..., Any], str]] = field(default_factory=dict)
    """Rotary embeddings by name: (states, positions [1, T]) -> cosines and sines [1, T, R], and the type of scaling."""
    key_order_D: Tensor | None = None
    """Which number of the model's own keys stands where in the step's, in every layer; None = in its own place."""


def matrix(module: Any) -> Matrix:
    """Read a linear layer, or transformers' `Conv1D`, which keeps its weight the other way round."""
    weight = module.weight.detach()
    bias = None if module.bias is None else module.bias.detach()
    return Matrix(weight if isinstance(module, nn.Linear) else weight.t(), bias)


def norm(module: Any, shift: float = 0.0) -> Function:
    """Return a norm without the calls around it.

    Args:
        module: `nn.LayerNorm`, or the RMS norm of a transformers model, or its LayerNorm without weights.
        shift: added to the weight (1 in Gemma's norms).
    """
    if isinstance(module, nn.LayerNorm):
        return partial(
            F.layer_norm,
            normalized_shape=module.normalized_shape,
            weight=module.weight,
            bias=module.bias,
            eps=module.eps,
        )
    weight = getattr(module, "weight", None)
    # transformers takes the norm in float32 whatever the weights are.
    if weight is None or weight.dtype != torch.float32:
        return module
    eps = module.variance_epsilon if hasattr(module, "variance_epsilon") else module.eps
    return partial(_rms_norm, weight_H=weight.detach() + shift, eps=weight.new_tensor(eps), share=1 / len(weight))


def _rms_norm(x: Tensor, weight_H: Tensor, eps: Tensor, share: float) -> Tensor:
    """x / sqrt(mean of x^2 + eps) * weight; torch makes twice as many calls of it on a processor."""
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return torch.addcmul(eps, length, length, value=share).rsqrt_().mul(x).mul_(weight_H)


def as_is(x: Tensor) -> Tensor:
    """Stand where others have a norm."""
    return x


def by_kind(joined: Matrix, heads: int) -> Matrix:
    """Queries of all heads, then keys, then values, where a model keeps the three of a head together."""

    def sort(x: Tensor) -> Tensor:
        return x.unflatten(0, (heads, 3, -1)).transpose(0, 1).flatten(0, 2)

    return Matrix(sort(joined.weight_OI), None if joined.bias_O is None else sort(joined.bias_O))


def activation(module: Any) -> Activation:
    """Recognise transformers' GELUs, which are a kernel of torch each; others are called as they are."""
    if isinstance(module, NewGELUActivation | GELUTanh):
        return Activation(partial(F.gelu, approximate="tanh"), "tanh")
    if isinstance(module, GELUActivation):
        return Activation(F.gelu, "none")
    return Activation(module)
