"""QLoRA (Dettmers et al. 2023): a frozen base in 4-bit NormalFloat under adapters, through bitsandbytes."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

import copy
import importlib.util
from typing import Any, cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor, nn
from transformers import BitsAndBytesConfig, PreTrainedModel

from accord.errors import ModelError
from accord.models.lora import add_lora, merge_lora, unwrap


def four_bits(dtype: torch.dtype) -> BitsAndBytesConfig:
    """How transformers is to load a base in 4 bits: NormalFloat, the quantisation constants quantised again.

    Args:
        dtype: of the arithmetic, and of everything that is not a linear layer.

    Raises:
        ModelError: bitsandbytes is not installed.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError(
            "load_in_4bit needs bitsandbytes, which is not installed",
            fix="pip install bitsandbytes, or set load_in_4bit: false",
        )
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def is_quantized(hf: nn.Module) -> bool:
    """Whether the base of a model is held in 4 bits."""
    return bool(getattr(unwrap(hf), "is_loaded_in_4bit", False))


def merged_from_4bit(hf: PeftModel, name: str) -> PreTrainedModel:
    """Return a plain model: the base as it was while the adapter was trained, in full numbers, plus the adapter.

    Merging into 4 bits would round the adapter away.

    Args:
        hf: adapters on a base in 4 bits; not changed.
        name: adapter to merge.
    """
    inner: Any = unwrap(hf)
    config = copy.deepcopy(inner.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    plain = type(inner)(config).to(inner.dtype)
    plain.load_state_dict(_full_numbers(inner), strict=False)
    known = cast(LoraConfig, hf.peft_config[name])
    targets = sorted(cast(Any, known.target_modules))
    again = add_lora(plain, r=known.r, alpha=known.lora_alpha, targets=targets, name=name)
    state = cast(dict[str, Tensor], get_peft_model_state_dict(hf, adapter_name=name, save_embedding_layers=False))
    set_peft_model_state_dict(again, {key: value.cpu() for key, value in state.items()}, adapter_name=name)
    return merge_lora(again, name)


def _full_numbers(inner: nn.Module) -> dict[str, Tensor]:
    """Weights by the names of a model without adapters, 4-bit ones written out."""
    from bitsandbytes import functional  # type: ignore[import-not-found]  # optional

    found: dict[str, Tensor] = {}
    for name, weights in inner.named_parameters(remove_duplicate=False):
        if "lora_" in name:
            continue
        state = getattr(weights, "quant_state", None)
        value = weights.data
        if state is not None:
            if getattr(state, "packing_format_for_cpu", False):  # after a forward without gradients, on some processors
                value, state = functional._convert_weight_packed_for_cpu_inverse(value, copy.copy(state))
            value = functional.dequantize_4bit(value, state)
        found[name.replace(".base_layer", "")] = value.detach().cpu()
    return found
