"""What a model says about a batch: log-probabilities, entropies, values and scores, without [B, T, V] logits.

Legend: B rows, T positions, N scored tokens of the whole batch, D hidden size, V vocabulary.

The token at position t is scored from the hidden state at t - 1; the value at t is read from that same
state, the state *before* the token. Only those N states go through the output head, in chunks that are
recomputed in the backward pass, so memory for logits is chunk * V and not B * T * V.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from accord.batch import Batch, Forward
from accord.errors import ModelError
from accord.functional.losses import entropy_from_logits, token_logp
from accord.models.lora import adapter_on, unwrap
from accord.models.precision import runs_in_bfloat16
from accord.models.token_scores import plain_head, token_scores
from accord.models.trunk import last_state, states_before

_CHUNK_ELEMENTS = 2**24
"""Default size of one chunk of logits (64 MiB in float32)."""


class _Entropy(NamedTuple):
    """Are entropies wanted, and do gradients flow through them."""

    wanted: bool
    gradient: bool


class CausalModel(nn.Module):
    """A causal language model that scores the response tokens of a batch."""

    def __init__(
        self,
        hf: nn.Module,
        *,
        value_head: nn.Linear | None = None,
        logit_chunk: int | None = None,
        adapter: str | None = None,
        piecewise: bool = True,
    ) -> None:
        """Wrap a model.

        Args:
            hf: a transformers causal language model, with or without LoRA adapters.
            value_head: maps a hidden state to a value; shares the trunk with the policy (Ziegler et al.
                2019).
            logit_chunk: how many tokens go through the output head at once; None chooses by vocabulary size.
            adapter: LoRA adapter to use; None uses whatever is active.
            piecewise: on a processor, run a plain output head by `accord.models.token_scores`.

        Raises:
            ModelError: the model has no output embeddings.
        """
        super().__init__()
        inner = unwrap(hf)
        head = inner.get_output_embeddings()
        if head is None:
            raise ModelError(f"{type(inner).__name__} has no output head", fix="use a causal language model")
        if logit_chunk is not None and logit_chunk < 1:
            raise ValueError(f"logit_chunk must be at least 1, not {logit_chunk}")
        self.hf = hf
        self.value_head = value_head
        self.adapter = adapter
        self.piecewise = piecewise
        self.logit_chunk = logit_chunk or max(64, _CHUNK_ELEMENTS // int(inner.config.get_text_config().vocab_size))

    @property
    def inner(self) -> PreTrainedModel:
        """The transformers model without its LoRA wrapper."""
        return unwrap(self.hf)

    def forward(
        self,
        batch: Batch,
        *,
        temperature: float = 1.0,
        entropy: bool = False,
        values: bool = False,
        entropy_gradient: bool = True,
    ) -> Forward:
        """Score the response tokens.

        Args:
            batch: rows to score.
            temperature: logits are divided by it before the softmax; entropies are taken at the same
                temperature.
            entropy: also return the entropy of each distribution (nats).
            values: also return the value head's output.
            entropy_gradient: whether entropies are part of a loss; without, less of the logits is kept.

        Returns:
            `logp_BT` and what was asked for, in at least float32; zero outside the response mask.

        Raises:
            ModelError: values were asked for and there is no value head.
        """
        if temperature <= 0:
            raise ValueError(f"temperature must be positive, not {temperature}")
        with adapter_on(self.hf, self.adapter):
            hidden_ND = states_before(self.inner.base_model, batch)
        targets_N = batch.ids_BT[batch.response_mask_BT]
        how = _Entropy(entropy, entropy_gradient)
        logp_N, entropy_N = self._score(hidden_ND, targets_N, temperature, how)
        value_N = None
        if values:
            if self.value_head is None:
                raise ModelError("values were asked for, but the model has no value head")
            value_N = _head(self.value_head, hidden_ND)
        return Forward(
            logp_BT=_scatter(logp_N, batch),
            entropy_BT=_scatter(entropy_N, batch) if entropy else None,
            value_BT=None if value_N is None else _scatter(value_N, batch),
        )

    def _score(
        self, hidden_ND: Tensor, targets_N: Tensor, temperature: float, entropy: _Entropy
    ) -> tuple[Tensor, Tensor]:
        """Log-probabilities and, where wanted, entropies."""
        recompute, scale = len(targets_N) > self.logit_chunk, logit_scale(self.inner)
        head: Any = self.inner.get_output_embeddings()
        if self.piecewise and scale is not None and hidden_ND.device.type == "cpu" and plain_head(head, hidden_ND):
            logp_N, entropy_N = token_scores(
                hidden_ND,
                head.weight,
                targets_N,
                scale=scale / temperature,
                entropy=entropy.wanted,
                keep=not recompute,
                low=torch.bfloat16 if runs_in_bfloat16(self.inner.base_model) else None,
                entropy_gradient=entropy.gradient,
            )
            return logp_N, entropy_N if entropy.gradient else entropy_N.detach()
        parts = [
            self._chunk(hidden, targets, temperature, entropy, recompute=recompute)
            for hidden, targets in zip(
                hidden_ND.split(self.logit_chunk), targets_N.split(self.logit_chunk), strict=True
            )
        ]
        entropy_N = [part for _, part in parts]
        return torch.cat([logp for logp, _ in parts]), torch.cat(entropy_N) if entropy.wanted else entropy_N[0]

    def _chunk(
        self, hidden: Tensor, targets: Tensor, temperature: float, entropy: _Entropy, *, recompute: bool
    ) -> tuple[Tensor, Tensor]:
        if torch.is_grad_enabled() and recompute:
            result: Any = checkpoint(
                _score_chunk, self.inner, hidden, targets, temperature, entropy, use_reentrant=False
            )
            return result
        return _score_chunk(self.inner, hidden, targets, temperature, entropy)


class ScoreModel(nn.Module):
    """A reward model: one raw score a row, read at its last real token (Stiennon et al. 2020)."""

    def __init__(self, hf: nn.Module) -> None:
        """Wrap a transformers sequence classifier with a single output called `score`.

        Raises:
            ModelError: there is no such head.
        """
        super().__init__()
        inner = unwrap(hf)
        head = getattr(inner, "score", None)
        if not isinstance(head, nn.Linear) or head.out_features != 1:
            raise ModelError(
                f"{type(inner).__name__} has no linear head `score` with one output",
                fix="make a reward model with reward_from_causal, or load one saved with num_labels=1",
            )
        self.hf = hf

    @property
    def inner(self) -> PreTrainedModel:
        """The transformers model without its LoRA wrapper."""
        return unwrap(self.hf)

    @property
    def head(self) -> nn.Linear:
        """The scalar head."""
        head = self.inner.score
        assert isinstance(head, nn.Linear)
        return head

    def forward(self, batch: Batch) -> Forward:
        """Return `score_B`, the raw score of each row, in at least float32; the response mask is not read."""
        return Forward(score_B=_head(self.head, last_state(self.inner.base_model, batch)))


class ValueModel(nn.Module):
    """A critic of its own: the value of the state before each response token."""

    def __init__(self, hf: nn.Module, head: nn.Linear, *, adapter: str | None = None) -> None:
        """Wrap a trunk and a head.

        Args:
            hf: a transformers model, with or without an output head of its own (which is not used).
            head: maps a hidden state to a value.
            adapter: LoRA adapter to use, when the trunk is shared with the policy; None uses whatever is
                active.
        """
        super().__init__()
        self.hf = hf
        self.head = head
        self.adapter = adapter

    def forward(self, batch: Batch) -> Forward:
        """Return `value_BT`, in at least float32; zero outside the response mask."""
        with adapter_on(self.hf, self.adapter):
            hidden_ND = states_before(unwrap(self.hf).base_model, batch)
        return Forward(value_BT=_scatter(_head(self.head, hidden_ND), batch))


class ActorCritic(nn.Module):
    """Policy and critic as one module, so that one optimiser step trains both."""

    def __init__(self, policy: CausalModel, critic: ValueModel | None = None) -> None:
        """Join them.

        Args:
            policy: the policy; it must have a value head when there is no critic.
            critic: a critic of its own, or None to use the policy's value head.

        Raises:
            ModelError: neither a critic nor a value head.
        """
        super().__init__()
        if critic is None and policy.value_head is None:
            raise ModelError("an actor-critic needs a critic or a value head", fix="use critic_from_reward")
        self.policy = policy
        self.critic = critic

    def forward(
        self,
        batch: Batch,
        *,
        temperature: float = 1.0,
        entropy: bool = False,
        values: bool = True,
        entropy_gradient: bool = True,
    ) -> Forward:
        """Return log-probabilities, values, and entropies when asked for; see `CausalModel.forward`."""
        own_head = values and self.critic is None
        result = self.policy(
            batch, temperature=temperature, entropy=entropy, values=own_head, entropy_gradient=entropy_gradient
        )
        if not values or self.critic is None:
            return result
        return Forward(result.logp_BT, result.entropy_BT, self.critic(batch).value_BT)


def logit_scale(hf: nn.Module) -> float | None:
    """What a model multiplies the product of states and output head by; None where it does something else."""
    config = unwrap(hf).config.get_text_config()
    if getattr(config, "final_logit_softcapping", None) is not None:
        return None
    scale, divisor = getattr(config, "logit_scale", None), getattr(config, "logits_scaling", None)
    return (1.0 if scale is None else float(scale)) / (1.0 if divisor is None else float(divisor))


def head_logits(hf: nn.Module, hidden: Tensor) -> Tensor:
    """Apply the output head of a model the way the model itself does.

    Args:
        hf: a transformers causal language model, with or without adapters.
        hidden: hidden states, [..., D].

    Returns:
        Logits, [..., V], in float32 (float64 for a float64 model): 16-bit logits make log-probabilities
        off by 0.03.
    """
    inner = unwrap(hf)
    head = inner.get_output_embeddings()
    assert head is not None
    logits = head(hidden)
    config = inner.config.get_text_config()
    scale = getattr(config, "logit_scale", None)  # Cohere
    if scale is not None:
        logits = logits * scale
    divisor = getattr(config, "logits_scaling", None)  # Granite
    if divisor is not None:
        logits = logits / divisor
    cap = getattr(config, "final_logit_softcapping", None)  # Gemma 2
    if cap is not None:
        logits = cap * torch.tanh(logits / cap)
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _score_chunk(
    inner: nn.Module, hidden_ND: Tensor, targets_N: Tensor, temperature: float, entropy: _Entropy
) -> tuple[Tensor, Tensor]:
    logits_NV = head_logits(inner, hidden_ND)
    logp_N = token_logp(logits_NV, targets_N, temperature)
    if not entropy.wanted:
        return logp_N, logp_N.new_zeros(())
    return logp_N, entropy_from_logits(logits_NV if entropy.gradient else logits_NV.detach(), temperature)


def _head(head: nn.Linear, hidden_ND: Tensor) -> Tensor:
    out = head(hidden_ND.to(head.weight.dtype)).squeeze(-1)
    return out.to(torch.promote_types(out.dtype, torch.float32))


def _scatter(values_N: Tensor, batch: Batch) -> Tensor:
    return values_N.new_zeros(batch.ids_BT.shape).masked_scatter(batch.response_mask_BT, values_N)
