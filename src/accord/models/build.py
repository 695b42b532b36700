"""New models: from nothing, and one kind from another. No function here touches the global random state."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from peft import PeftModel
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from accord.errors import ModelError
from accord.models.policy import ScoreModel, ValueModel
from accord.rng import derive

M = TypeVar("M", bound=nn.Module)

_EMBEDDING_STD = 0.02
_MEAN, _STD = "accord_reward_mean", "accord_reward_std"


def new_causal(  # noqa: PLR0913  (the sizes of a model)
    tokenizer: PreTrainedTokenizerBase,
    *,
    hidden_size: int = 128,
    num_layers: int = 4,
    num_heads: int = 4,
    num_kv_heads: int | None = None,
    intermediate_size: int | None = None,
    max_positions: int = 512,
    rope_theta: float = 10_000.0,
    init_std: float = 0.02,
    seed: int = 0,
    tie: bool = True,
) -> LlamaForCausalLM:
    """Make an untrained model of the Llama architecture (Touvron et al. 2023).

    Args:
        tokenizer: its vocabulary and special tokens are the model's.
        hidden_size: width D; a multiple of `num_heads`.
        num_layers: number of blocks.
        num_heads: attention heads.
        num_kv_heads: key and value heads (grouped-query attention); None = `num_heads`.
        intermediate_size: width of the gated MLP; None = 8/3 D, rounded up to a multiple of 16.
        max_positions: longest sequence in tokens.
        rope_theta: base of the rotary embeddings; short contexts learn faster with a smaller one.
        init_std: standard deviation of the linear layers at the start; embeddings always get 0.02. Narrow models
            learn faster with about 1.4 / sqrt(hidden_size) than with the 0.02 made for wide ones.
        seed: of the weights; the same seed gives the same weights whatever was drawn before.
        tie: share the embedding matrix with the output head.

    Raises:
        ModelError: the sizes do not fit together.
    """
    kv_heads = num_kv_heads or num_heads
    if hidden_size % num_heads or (hidden_size // num_heads) % 2 or num_heads % kv_heads:
        raise ModelError(
            f"hidden_size {hidden_size}, {num_heads} heads and {kv_heads} key heads do not fit together",
            fix="hidden_size / num_heads must be an even number, and num_heads a multiple of num_kv_heads",
        )
    ids: Any = tokenizer
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=intermediate_size or 16 * math.ceil(hidden_size * 8 / 3 / 16),
        num_hidden_layers=num_layers,
        num_attention_heads=num_heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=max_positions,
        tie_word_embeddings=tie,
        attention_dropout=0.0,
        initializer_range=init_std,
        rope_parameters={"rope_type": "default", "rope_theta": rope_theta},
        bos_token_id=ids.bos_token_id,
        eos_token_id=ids.eos_token_id,
        pad_token_id=ids.pad_token_id,
    )
    with seeded(seed, "new-causal"):
        model = LlamaForCausalLM(config)
        embeddings: Any = model.get_input_embeddings()
        nn.init.normal_(embeddings.weight, std=_EMBEDDING_STD)
    return model


def reward_from_causal(hf: PreTrainedModel, seed: int) -> ScoreModel:
    """Make a reward model from a language model: a copy of its trunk under a new scalar head.

    The head is drawn from N(0, 1/sqrt(D + 1)) and has no bias (Ziegler et al. 2019; Huang et al. 2024,
    detail 14).

    Args:
        hf: a causal language model without adapters; it is copied, not changed.
        seed: of the head.

    Returns:
        A reward model in the `AutoModelForSequenceClassification` layout with a raw, unnormalised score.

    Raises:
        ModelError: the model has no padding token, adapters, or an architecture without a sequence
        classifier.
    """
    config = copy.deepcopy(_plain(hf).config)
    if config.pad_token_id is None:
        raise ModelError(
            "a reward model needs a padding token, or other libraries score the padding",
            fix="set model.config.pad_token_id to the tokenizer's pad_token_id",
        )
    config.num_labels = 1
    try:
        with seeded(seed, "reward-trunk"):
            made = AutoModelForSequenceClassification.from_config(config)
    except ValueError as error:
        raise ModelError(
            f"no reward model can be made of {type(hf).__name__}: {error}",
            fix="use an architecture transformers has a ...ForSequenceClassification of",
        ) from error
    made.base_model.load_state_dict(hf.base_model.state_dict())
    made = made.to(hf.dtype)
    no_dropout(made)
    model = ScoreModel(made.to(hf.device))
    with seeded(seed, "reward-head"), torch.no_grad():
        drawn = torch.empty(model.head.weight.shape).normal_(0.0, 1 / math.sqrt(model.head.in_features + 1))
        model.head.weight.copy_(drawn)
    return model


def critic_from_reward(reward: ScoreModel) -> ValueModel:
    """Make a critic that starts as a copy of the reward model (Ouyang et al. 2022, appendix C).

    Its head carries the normalisation of the scores, so the first values are on the scale of the rewards.

    Args:
        reward: copied, not changed.
    """
    mean, std = score_stats(reward.inner.config)
    copied = copy.deepcopy(reward.inner)
    head = nn.Linear(reward.head.in_features, 1, device=copied.device, dtype=copied.dtype)
    with torch.no_grad():
        head.weight.copy_(reward.head.weight / std)
        head.bias.fill_(-mean / std)
    return ValueModel(copied.base_model, head).requires_grad_(True)


def critic_from_causal(hf: PreTrainedModel) -> ValueModel:
    """Make a critic that starts as a copy of a language model under a zero head: all first values are 0.

    Args:
        hf: a causal language model without adapters; it is copied, not changed.
    """
    copied = copy.deepcopy(_plain(hf).base_model)
    return ValueModel(copied, zero_head(hf)).requires_grad_(True)


def zero_head(hf: PreTrainedModel) -> nn.Linear:
    """Return a value head that says 0 everywhere (Ziegler et al. 2019), fitting the model."""
    width = int(hf.config.get_text_config().hidden_size)
    head = nn.Linear(width, 1, device=hf.device, dtype=hf.dtype)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head


def set_score_stats(reward: ScoreModel, mean: float, std: float) -> None:
    """Remember the mean and standard deviation of the raw scores on reference replies, in the model's config.

    The head has no bias by convention, so the normalisation cannot live in the weights. Elsewhere the model
    loads with raw scores; Accord's learned reward subtracts the mean and divides by the deviation.

    Raises:
        ModelError: the deviation is not positive, or a number is not finite.
    """
    if not (math.isfinite(mean) and math.isfinite(std) and std > 0):
        raise ModelError(f"scores with mean {mean} and standard deviation {std} cannot be normalised")
    setattr(reward.inner.config, _MEAN, float(mean))
    setattr(reward.inner.config, _STD, float(std))


def score_stats(config: Any) -> tuple[float, float]:
    """Return mean and standard deviation of the raw scores, (0, 1) when none were stored.

    Args:
        config: the transformers config of a reward model.
    """
    return float(getattr(config, _MEAN, 0.0)), float(getattr(config, _STD, 1.0))


def copy_frozen(model: M) -> M:
    """Return a copy that takes no gradient, in evaluation mode: the reference of a policy."""
    return copy.deepcopy(model).requires_grad_(False).eval()


def no_dropout(model: nn.Module) -> None:
    """Set every dropout probability to 0, in the modules and in the config that is saved.

    Log-probabilities must not depend on whether the model is in training mode.
    """
    for module in model.modules():
        if isinstance(module, nn.Dropout | nn.Dropout1d | nn.Dropout2d | nn.Dropout3d | nn.AlphaDropout):
            module.p = 0.0
        # Attention modules keep a number of their own and pass it to the kernel.
        for name in ("attention_dropout", "dropout_p", "dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
        config = getattr(module, "config", None)
        if config is not None:
            _config_without_dropout(config)


@contextmanager
def seeded(seed: int, name: str) -> Iterator[None]:
    """Run the block with torch's generators seeded from a named stream, and put them back afterwards."""
    with torch.random.fork_rng(devices=list(range(torch.cuda.device_count()))):
        torch.manual_seed(derive(seed, "models", name))
        yield


def _config_without_dropout(config: Any) -> None:
    for name, value in vars(config).items():
        if ("drop" in name or name.endswith("pdrop")) and isinstance(value, float):
            setattr(config, name, 0.0)


def _plain(hf: nn.Module) -> PreTrainedModel:
    if isinstance(hf, PeftModel) or not isinstance(hf, PreTrainedModel):
        raise ModelError(
            f"{type(hf).__name__} is not a plain transformers model",
            fix="merge its adapters with merge_lora first",
        )
    return hf
