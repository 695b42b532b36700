"""Mixed precision: matrix products in bfloat16; weights, sums between layers, heads and the optimiser in float32.

Autocast (Micikevicius et al. 2018, with bfloat16 no loss scale is needed) holds for the trunk only: log-probabilities
from a 16-bit head are off by 0.03. On CPUs attention stays in float32 too (`accord.models.attention`).
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from accord.models.attention import use_attention

_SWITCH = "accord_bf16"
"""Attribute of a transformers model: does its trunk run in bfloat16."""


def mixed_precision(module: nn.Module, on: bool) -> None:
    """Let the trunks of the transformers models inside `module` run in bfloat16, or as their weights are.

    Copies made afterwards do the same.
    """
    for part in module.modules():
        if isinstance(part, PreTrainedModel):
            setattr(part, _SWITCH, on)
            if on:
                use_attention(part, next(part.parameters()).device)


def runs_in_bfloat16(backbone: nn.Module) -> bool:
    """Whether the trunk `backbone` does its matrix products in bfloat16 while its weights are float32."""
    return bool(getattr(backbone, _SWITCH, False))


def trunk_precision(backbone: nn.Module, device: torch.device) -> AbstractContextManager[Any]:
    """The context in which to run `backbone`."""
    return torch.autocast(device.type, torch.bfloat16, enabled=runs_in_bfloat16(backbone))


def cpu_has_bfloat16() -> bool:
    """Whether this processor multiplies in bfloat16; others emulate it, slower than float32."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
