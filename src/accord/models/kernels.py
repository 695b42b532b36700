"""Kernels that others wrote: the attention implementations of transformers, and Liger's fused layers."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from accord.errors import ModelError


def use_kernels(module: nn.Module, attention: str | None, *, liger: bool = False) -> None:
    """Let the transformers models inside `module` use these kernels.

    Args:
        module: changed in place.
        attention: name of an implementation; None leaves what is there.
        liger: patch norms, rotary embedding and gated MLP (Hsu et al. 2024, 2410.10989). The fused loss is left out:
            log-probabilities are computed here, in chunks.

    Raises:
        ModelError: a kernel is not installed, or does not know the architecture.
    """
    models = [part for part in module.modules() if isinstance(part, PreTrainedModel)]
    for model in models if attention is not None else []:
        try:
            model.set_attn_implementation(attention or "")
        except (ImportError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise ModelError(
                f"{type(model).__name__} cannot use {attention}: {reason}", fix="leave attn_implementation: null"
            ) from error
    if liger and models:
        _patch(models[0])


def _patch(model: PreTrainedModel) -> None:
    """Replace the layers of a model (and of the models inside it) by Liger's."""
    if find_spec("liger_kernel") is None:
        raise ModelError("use_liger_kernel needs a package", fix="pip install liger-kernel, or use_liger_kernel: false")
    if not torch.cuda.is_available():
        raise ModelError("Liger's kernels run on CUDA devices, and there is none", fix="set use_liger_kernel: false")
    patches: Any = import_module("liger_kernel.transformers.monkey_patch")
    kind = model.config.model_type
    if kind not in patches.MODEL_TYPE_TO_APPLY_LIGER_FN:
        raise ModelError(f"Liger has no kernels for {kind}", fix="set use_liger_kernel: false")
    patches._apply_liger_kernel_to_instance(model=model, fused_linear_cross_entropy=False, cross_entropy=False)
