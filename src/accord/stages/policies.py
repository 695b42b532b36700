"""Loading what stages train: policies with an optional LoRA adapter, references, engines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from accord.batch import Batch, Forward
from accord.engines.native import NativeEngine, engine_for
from accord.errors import DataError, ModelError
from accord.models import chat
from accord.models.adapters import save_adapter
from accord.models.build import copy_frozen
from accord.models.checkpoint import load_tokenizer, max_positions, save_model
from accord.models.lora import adapters_off, add_lora
from accord.models.pair import load_pair
from accord.models.policy import CausalModel
from accord.pipeline import Context
from accord.stages.configs import OfflineConfig, OnPolicyConfig, Quantized, Selecting, SFTConfig
from accord.stages.training import DTYPES, check_length, set_speed
from accord.train.rollouts import EncodedPrompt
from accord.types import Prompt


@dataclass(frozen=True)
class Loaded:
    """A policy ready to be trained, with its tokenizer."""

    policy: CausalModel
    tokenizer: Any
    uses_lora: bool
    location: str = ""
    """Where the base came from."""

    @property
    def pad_id(self) -> int:
        """Padding id."""
        return self.tokenizer.pad_token_id

    def reference(self) -> CausalModel | None:
        """A frozen copy of the policy as it is now; None with LoRA, where the reference is the adapters off."""
        return None if self.uses_lora else copy_frozen(self.policy)

    def reference_forward(self, ref: CausalModel | None, temperature: float = 1.0) -> Callable[[Batch], Forward]:
        """The reference as a function of a batch, whichever form it has."""
        model = self.policy if ref is None else ref

        def forward(batch: Batch) -> Forward:
            with adapters_off(self.policy) if ref is None else nullcontext():
                return model(batch, temperature=temperature)

        return forward

    def save(self, directory: Path, card: str) -> None:
        """Write the policy as `save_model` does, and its adapter in peft's layout into `adapter`."""
        save_model(self.policy, self.tokenizer, directory, card)
        if self.uses_lora:
            save_adapter(self.policy, directory / "adapter", base=self.location)

    def engine(self, max_batch: int, *, fast: bool = True) -> NativeEngine:
        """An engine that samples from the policy's own weights."""
        return engine_for(self.policy.hf, self.tokenizer, max_batch, fast=fast)


def load_policy(
    location: str, cfg: SFTConfig | OnPolicyConfig | OfflineConfig | Selecting, pad_token: str | None, where: str
) -> Loaded:
    """Load a policy and its tokenizer as `cfg` wants them, and check that they fit together.

    Raises:
        ModelError: the model, tokenizer or chat template cannot be used.
        ConfigError: max_length is larger than the model's context.
    """
    four_bits = isinstance(cfg, Quantized) and cfg.load_in_4bit
    hf, tokenizer = load_pair(location, DTYPES[cfg.dtype], pad_token, load_in_4bit=four_bits)
    check_length(cfg.max_length, max_positions(hf), where)
    if cfg.use_peft:
        hf = add_lora(hf, r=cfg.lora_r, alpha=cfg.lora_alpha, targets=cfg.lora_target_modules)
    set_speed(hf, cfg)  # here, so that a reference copied from it does the same
    return Loaded(CausalModel(hf), tokenizer, cfg.use_peft, location)


def load_frozen(location: str) -> tuple[CausalModel, Any]:
    """Load a policy only to sample from or to score with."""
    hf, tokenizer = load_pair(location, torch.float32)
    return CausalModel(hf).requires_grad_(False), tokenizer


def with_room(
    prompts: Sequence[Prompt], tokenizer: Any, *, longest: int, reply: int, ctx: Context, field: str
) -> list[EncodedPrompt]:
    """Encode the prompts that leave room for a reply; how many do not is said.

    Args:
        prompts: of the input `field`.
        tokenizer: encodes them.
        longest: most tokens of prompt and reply together.
        reply: most tokens of a reply.
        ctx: the running stage.
        field: config field, for the message.

    Raises:
        DataError: none does.
    """
    encoded = [EncodedPrompt(p, tuple(chat.encode_prompt(tokenizer, p.messages))) for p in prompts]
    kept = [p for p in encoded if len(p.ids) + reply <= longest]
    if len(kept) < len(encoded):
        lost = len(encoded) - len(kept)
        ctx.say(f"  {lost} of {len(encoded)} prompts left out: with a reply they exceed {longest} tokens")
    if not kept:
        shortest = min((len(p.ids) for p in encoded), default=0)
        raise DataError(
            f"no prompt leaves room for a reply: the shortest has {shortest} tokens, a reply {reply}, "
            f"and {longest} is the limit",
            where=f"{ctx.work.stage}.{field}",
            fix="use shorter prompts, lower max_completion_length, or allow a longer context",
        )
    return kept


def check_reward_tokenizer(tokenizer: Any, location: str, pad_token: str | None, where: str) -> None:
    """Refuse a reward model whose tokenizer has another vocabulary than the policy's.

    Args:
        tokenizer: of the policy.
        location: of the reward model.
        pad_token: as the stage has it.
        where: config field, for the message.

    Raises:
        ModelError: token ids of one mean nothing to the other.
    """
    other: Any = load_tokenizer(location, pad_token=pad_token)
    if other.get_vocab() != tokenizer.get_vocab():
        raise ModelError(
            "policy and reward model have different tokenizers, so token ids of one mean nothing to the other",
            where=where,
            fix="train the reward model from a model with the policy's tokenizer",
        )
