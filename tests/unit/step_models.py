"""Tiny models of every family that has a decoding step of its own, and some that have none."""

from __future__ import annotations

from typing import Any

import torch
from engine_models import PAD, POSITIONS, STOPS, VOCAB
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    CodeGenConfig,
    Cohere2Config,
    CohereConfig,
    FalconConfig,
    Gemma3TextConfig,
    GemmaConfig,
    Glm4Config,
    GlmConfig,
    GPT2Config,
    GPTBigCodeConfig,
    GPTJConfig,
    GPTNeoXConfig,
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
    Olmo2Config,
    Olmo3Config,
    OlmoConfig,
    OPTConfig,
    Phi3Config,
    PhiConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
    SmolLM3Config,
    StableLmConfig,
    Starcoder2Config,
)

YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 16}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "short_factor": [1.0, 1.0, 1.5, 2.0],
    "long_factor": [1.0, 2.0, 4.0, 8.0],
    "original_max_position_embeddings": 24,
}
GEMMA3 = {"sliding_window": 5, "layer_types": ["sliding_attention", "full_attention"]}
GRANITE = {
    "embedding_multiplier": 3.0,
    "attention_multiplier": 0.2,
    "residual_multiplier": 0.7,
    "logits_scaling": 1.3,
}
GPTJ = {"n_embd": 48, "n_head": 4, "n_layer": 2, "n_positions": POSITIONS, "rotary_dim": 8}
GLM = {"num_key_value_heads": 2, "head_dim": 12, "attention_bias": True}
CASES: dict[str, tuple[type[PreTrainedConfig], dict[str, Any]]] = {
    "llama": (LlamaConfig, {}),
    "a large epsilon": (LlamaConfig, {"rms_norm_eps": 0.1}),
    "tied": (LlamaConfig, {"tie_word_embeddings": True}),
    "grouped heads": (LlamaConfig, {"num_key_value_heads": 2}),
    "one key head, wide heads": (LlamaConfig, {"num_key_value_heads": 1, "head_dim": 16}),
    "biases everywhere": (LlamaConfig, {"attention_bias": True, "mlp_bias": True}),
    "a window that Llama ignores": (LlamaConfig, {"sliding_window": 3}),
    "llama3 rope": (LlamaConfig, {"rope_parameters": LLAMA3}),
    "yarn rope": (LlamaConfig, {"rope_parameters": YARN}),
    "qwen2": (Qwen2Config, {"num_key_value_heads": 2}),
    "qwen2 with windows": (
        Qwen2Config,
        {"num_key_value_heads": 2, "use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1},
    ),
    "qwen3": (Qwen3Config, {"num_key_value_heads": 2, "head_dim": 16, "tie_word_embeddings": True}),
    "mistral": (MistralConfig, {"num_key_value_heads": 2, "sliding_window": None}),
    "mistral with a window": (MistralConfig, {"num_key_value_heads": 2, "sliding_window": 5}),
    "a rope that depends on the length": (LlamaConfig, {"rope_parameters": LONGROPE}),
    "smollm3": (SmolLM3Config, {"num_key_value_heads": 2, "no_rope_layer_interval": 2}),
    "phi3": (Phi3Config, {"num_key_value_heads": 2, "sliding_window": None}),
    "phi3 with a window": (Phi3Config, {"num_key_value_heads": 2, "sliding_window": 5}),
    "gemma": (GemmaConfig, {"num_key_value_heads": 2, "head_dim": 16}),
    "gemma3": (Gemma3TextConfig, {"num_key_value_heads": 2, "head_dim": 16} | GEMMA3),
    "gpt2": (GPT2Config, {}),
    "gpt2, layers scaled": (GPT2Config, {"scale_attn_by_inverse_layer_idx": True, "activation_function": "gelu"}),
    "gpt2, unscaled, relu": (GPT2Config, {"scale_attn_weights": False, "activation_function": "relu", "n_inner": 40}),
    "opt": (OPTConfig, {"ffn_dim": 48, "word_embed_proj_dim": 32}),
    "neox": (GPTNeoXConfig, {}),
    "neox in sequence": (GPTNeoXConfig, {"use_parallel_residual": False, "attention_bias": False}),
    "phi": (PhiConfig, {"num_key_value_heads": 2, "qk_layernorm": True}),
    "olmo": (OlmoConfig, {"num_key_value_heads": 2}),
    "olmo2": (Olmo2Config, {"num_key_value_heads": 2}),
    "olmo3": (Olmo3Config, {"num_key_value_heads": 2} | GEMMA3),
    "granite": (GraniteConfig, {"num_key_value_heads": 2} | GRANITE),
    "stablelm": (StableLmConfig, {"num_key_value_heads": 2, "use_qkv_bias": True}),
    "stablelm beside": (StableLmConfig, {"use_parallel_residual": True}),
    "bloom": (BloomConfig, {"n_head": 4}),
    "bloom, heads not a power of two": (BloomConfig, {"n_head": 3, "hidden_size": 24}),
    "falcon": (FalconConfig, {"bias": True, "multi_query": False}),
    "falcon, one key head": (FalconConfig, {}),
    "falcon in sequence": (FalconConfig, {"parallel_attn": False}),
    "falcon, new": (FalconConfig, {"new_decoder_architecture": True, "num_kv_heads": 2}),
    "falcon, new, one norm": (
        FalconConfig,
        {"new_decoder_architecture": True, "num_kv_heads": 2, "num_ln_in_parallel_attn": 1},
    ),
    "gpt-j": (GPTJConfig, GPTJ),
    "codegen": (CodeGenConfig, GPTJ | {"n_head": 8, "rotary_dim": 4}),
    "cohere": (CohereConfig, {"num_key_value_heads": 2, "logit_scale": 1.7}),
    "cohere, normed, biases": (
        CohereConfig,
        {"num_key_value_heads": 2, "use_qk_norm": True, "attention_bias": True, "logit_scale": 1.7},
    ),
    "cohere2": (
        Cohere2Config,
        {"num_key_value_heads": 2, "logit_scale": 1.7} | GEMMA3,
    ),
    "glm": (GlmConfig, GLM),
    "glm4": (Glm4Config, GLM),
    "starcoder2": (Starcoder2Config, {"num_key_value_heads": 2, "sliding_window": 5}),
}
UNREAD_CASES: dict[str, tuple[type[PreTrainedConfig], dict[str, Any]]] = {
    "bloom, normed": (BloomConfig, {"n_head": 4, "apply_residual_connection_post_layernorm": True}),
    "falcon, biased": (FalconConfig, {"alibi": True}),
    "olmo, clipped": (OlmoConfig, {"clip_qkv": 1.0}),
    "stablelm, heads normed": (StableLmConfig, {"qk_layernorm": True}),
    "gpt-bigcode": (GPTBigCodeConfig, {"n_embd": 32, "n_head": 4, "n_layer": 2, "n_positions": POSITIONS}),
    "gemma3, soft-capped": (Gemma3TextConfig, {"head_dim": 16, "final_logit_softcapping": 30.0} | GEMMA3),
    "gpt2, cross-attention": (GPT2Config, {"add_cross_attention": True}),
    "opt, norms behind": (OPTConfig, {"do_layer_norm_before": False, "ffn_dim": 48, "word_embed_proj_dim": 32}),
    "opt, projected": (OPTConfig, {"ffn_dim": 48, "word_embed_proj_dim": 16}),
}
UNREAD = {
    "bloom, normed": "normed",
    "falcon, biased": "bias by position",
    "olmo, clipped": "clipped",
    "stablelm, heads normed": "a norm of its own",
    "gpt-bigcode": "GPTBigCodeForCausalLM is not one of",
    "gemma3, soft-capped": "soft-capped",
    "gpt2, cross-attention": "cross-attention",
    "opt, norms behind": "follow attention",
    "opt, projected": "projected",
}
"""Why a model has no step of its own."""


def build(case: str, dtype: torch.dtype) -> PreTrainedModel:
    torch.manual_seed(3)
    kind, options = (CASES | UNREAD_CASES)[case]
    shape = {
        "vocab_size": VOCAB,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": POSITIONS,
        "initializer_range": 0.2,
        "bos_token_id": 2,
        "eos_token_id": list(STOPS),
        "pad_token_id": PAD,
    }
    model = AutoModelForCausalLM.from_config(kind(**(shape | options)))
    generator = torch.Generator().manual_seed(5)
    for name, parameter in model.named_parameters():
        # Biases start as zeros and norms as ones: either would hide that it is not read.
        if parameter.ndim == 1 or "norm" in name:  # Cohere's norms of heads have a weight for each
            parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
        assert torch.isfinite(parameter).all(), name
    return model.to(dtype).eval()
