"""Mixed precision: matrix products in bfloat16; weights, sums between layers, heads and the optimiser in float32.

Autocast (Micikevicius et al. 2018, with bfloat16 no loss scale is needed) holds for the trunk only: log-probabilities
from a 16-bit head are off by 0.03. On CPUs attention stays in float32: the backward pass of torch's bfloat16 kernel
takes two to five times as long as the float32 one (docs/results/speed.md). That holds without gradients too, or the
reference and the old policy would say something else than the policy they are copies of.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

_SWITCH = "accord_bf16"
"""Attribute of a transformers model: does its trunk run in bfloat16."""
_ATTENTION = "accord_sdpa"


def mixed_precision(module: nn.Module, on: bool) -> None:
    """Let the trunks of the transformers models inside `module` run in bfloat16, or as their weights are.

    Copies made afterwards do the same.
    """
    for part in module.modules():
        if isinstance(part, PreTrainedModel):
            setattr(part, _SWITCH, on)
            if on and part.config._attn_implementation == "sdpa":
                part.set_attn_implementation(_ATTENTION)


def trunk_precision(backbone: nn.Module, device: torch.device) -> AbstractContextManager[Any]:
    """The context in which to run `backbone`."""
    return torch.autocast(device.type, torch.bfloat16, enabled=getattr(backbone, _SWITCH, False))


def cpu_has_bfloat16() -> bool:
    """Whether this processor multiplies in bfloat16; others emulate it, slower than float32."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def _attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """transformers' sdpa attention, in float32 where bfloat16 would be slower."""
    if query.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    with torch.autocast("cpu", enabled=False):
        return sdpa_attention_forward(module, query.float(), key.float(), value.float(), attention_mask, **kwargs)


AttentionInterface.register(_ATTENTION, _attention)
AttentionMaskInterface.register(_ATTENTION, sdpa_mask)
