"""Reward models with several outputs: heads on one trunk, LoRA adapters on one base, whole models, scores of steps.

Legend: B rows, T positions, K outputs, D hidden size. Every output is read at the last real token of the row, like the
score of a `ScoreModel`; the scores of steps are read at every token of the response mask.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from accord.batch import Batch, Forward
from accord.errors import ModelError
from accord.functional.disentangle import overlap
from accord.models.build import seeded
from accord.models.lora import adapter_on, add_lora, merge_lora, unwrap
from accord.models.policy import ScoreModel
from accord.models.trunk import last_state, states_at


class HeadScores(nn.Module):
    """K linear heads on one trunk: an ensemble, or one head an attribute."""

    def __init__(self, hf: nn.Module, *, with_overlap: bool = False) -> None:
        """Wrap a transformers sequence classifier whose head `score` has K outputs and no bias.

        Args:
            hf: the classifier.
            with_overlap: also return the |cosine| of the two heads (ODIN).

        Raises:
            ModelError: there is no such head.
        """
        super().__init__()
        head = getattr(unwrap(hf), "score", None)
        if not isinstance(head, nn.Linear) or head.bias is not None or (with_overlap and head.out_features != 2):
            raise ModelError(
                f"{type(unwrap(hf)).__name__} has no linear head `score` without bias", fix="use with_heads"
            )
        self.hf = hf
        self.with_overlap = with_overlap

    @property
    def inner(self) -> PreTrainedModel:
        """The transformers model."""
        return unwrap(self.hf)

    @property
    def head(self) -> nn.Linear:
        """The heads, one a row of the weight."""
        head = self.inner.score
        assert isinstance(head, nn.Linear)
        return head

    @property
    def outputs(self) -> int:
        """K."""
        return self.head.out_features

    def states(self, batch: Batch) -> tuple[Tensor, ...]:
        """What the heads read: one state_BD for all of them."""
        return (_last_state(self.inner, batch),)

    def scored(self, states: Sequence[Tensor]) -> Tensor:
        """`scores_BK`, raw, of what `states` gave."""
        return _apply(self.head, states[0])

    def forward(self, batch: Batch) -> Forward:
        """Return `scores_BK`, raw, in at least float32."""
        scores_BK = self.scored(self.states(batch))
        return Forward(scores_BK=scores_BK, overlap=overlap(self.head.weight) if self.with_overlap else None)

    def scalar(self, weight_K: Sequence[float] | Tensor) -> ScoreModel:
        """Return the reward model whose score is the weighted sum of the heads; a copy, exact because heads are linear.

        Args:
            weight_K: weight of each head.
        """
        weight_1K = torch.as_tensor(weight_K, dtype=torch.float64).reshape(1, -1)
        combined = weight_1K.to(self.head.weight.device) @ self.head.weight.detach().double()
        return ScoreModel(_with_head(self.inner, combined))


class AdapterScores(nn.Module):
    """K LoRA adapters, each with a head of its own, on one frozen base."""

    def __init__(self, hf: PeftModel, names: Sequence[str], head: nn.Linear) -> None:
        """Wrap a peft model.

        Args:
            hf: a sequence classifier with the adapters; its own head is not used.
            names: adapters in the order of the members.
            head: one row of the weight a member, no bias.
        """
        super().__init__()
        self.hf = hf
        self.names = tuple(names)
        self.head = head

    @property
    def outputs(self) -> int:
        """K."""
        return len(self.names)

    def states(self, batch: Batch) -> tuple[Tensor, ...]:
        """What the heads read: one state_BD a member; the trunk runs once a member."""
        found: list[Tensor] = []
        for name in self.names:
            with adapter_on(self.hf, name):
                found.append(_last_state(unwrap(self.hf), batch))
        return tuple(found)

    def scored(self, states: Sequence[Tensor]) -> Tensor:
        """`scores_BK`, raw, of what `states` gave."""
        columns = [_product(state_BD, self.head.weight[k : k + 1]) for k, state_BD in enumerate(states)]
        return torch.cat(columns, dim=1)

    def forward(self, batch: Batch) -> Forward:
        """Return `scores_BK`, raw, in at least float32."""
        return Forward(scores_BK=self.scored(self.states(batch)))

    def member(self, index: int) -> ScoreModel:
        """Return one member as a plain reward model: a copy with the adapter merged into the weights."""
        merged = merge_lora(copy.deepcopy(self.hf), self.names[index])
        return ScoreModel(_with_head(merged, self.head.weight.detach()[index : index + 1]))


class ModelScores(nn.Module):
    """K whole reward models."""

    def __init__(self, models: Sequence[ScoreModel]) -> None:
        """Join them; they share nothing."""
        super().__init__()
        self.models = nn.ModuleList(models)

    @property
    def outputs(self) -> int:
        """K."""
        return len(self.models)

    def states(self, batch: Batch) -> tuple[Tensor, ...]:
        """What the heads read: one state_BD a member."""
        return tuple(_last_state(self.member(k).inner, batch) for k in range(self.outputs))

    def scored(self, states: Sequence[Tensor]) -> Tensor:
        """`scores_BK`, raw, of what `states` gave."""
        columns = [_apply(self.member(k).head, state_BD) for k, state_BD in enumerate(states)]
        return torch.cat(columns, dim=1)

    def forward(self, batch: Batch) -> Forward:
        """Return `scores_BK`, raw, in at least float32."""
        return Forward(scores_BK=self.scored(self.states(batch)))

    def member(self, index: int) -> ScoreModel:
        """Return one of the models."""
        model = self.models[index]
        assert isinstance(model, ScoreModel)
        return model


class StepScores(nn.Module):
    """A process reward model: the score of the prefix that ends with each token of the response mask."""

    def __init__(self, model: ScoreModel) -> None:
        """Wrap a reward model; its head is read at every step instead of at the end only."""
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> Forward:
        """Return `score_BT`, the log-odds that the step ending there is right; zero outside the response mask."""
        state_ND = states_at(self.model.inner.base_model, batch, batch.response_mask_BT)
        score_N = _apply(self.model.head, state_ND).squeeze(-1)
        score_BT = score_N.new_zeros(batch.ids_BT.shape).masked_scatter(batch.response_mask_BT, score_N)
        return Forward(score_BT=score_BT)


def with_heads(model: ScoreModel, outputs: int, seed: int, *, with_overlap: bool = False) -> HeadScores:
    """Make a model with K heads from a reward model: a copy of its trunk under newly drawn heads.

    Args:
        model: gives trunk and scale; copied, not changed.
        outputs: K.
        seed: of the heads; each is drawn from N(0, 1/sqrt(D + 1)) by itself.
        with_overlap: see `HeadScores`.
    """
    return HeadScores(_with_head(model.inner, drawn_heads(model, outputs, seed)), with_overlap=with_overlap)


def with_adapters(
    model: ScoreModel, outputs: int, seed: int, *, r: int, alpha: float, targets: Sequence[str] | None
) -> AdapterScores:
    """Make K adapters and heads on a frozen copy of a reward model.

    Args:
        model: the base; copied, not changed.
        outputs: K.
        seed: of adapters and heads, different for each member.
        r: rank of the updates.
        alpha: scale of the updates.
        targets: linear layers to adapt; None = all.
    """
    names = [f"member_{index}" for index in range(outputs)]
    hf: Any = copy.deepcopy(model.inner)
    for name in names:
        hf = add_lora(hf, r=r, alpha=alpha, targets=targets, name=name, seed=seed)
    head = _linear(drawn_heads(model, outputs, seed), model.inner)
    hf.base_model.model.score.requires_grad_(False)
    return AdapterScores(hf, names, head)


def with_models(model: ScoreModel, outputs: int, seed: int, *, same_head: bool = False) -> ModelScores:
    """Make K copies of a reward model that differ in their heads.

    Args:
        model: copied, not changed.
        outputs: K.
        seed: of the heads.
        same_head: all start from the head of `model`, as weight averaging needs (WARM, 2401.12187 section 3.2).
    """
    heads = drawn_heads(model, outputs, seed)
    copies = [copy.deepcopy(model) for _ in range(outputs)]
    if not same_head:
        with torch.no_grad():
            for index, member in enumerate(copies):
                member.head.weight.copy_(heads[index : index + 1])
    return ModelScores(copies)


def drawn_heads(model: ScoreModel, outputs: int, seed: int) -> Tensor:
    """Return K new heads [K, D], each a function of the seed and its own index."""
    width = model.head.in_features
    rows: list[Tensor] = []
    for index in range(outputs):
        with seeded(seed, f"head-{index}"):
            rows.append(torch.empty(width).normal_(0.0, 1 / math.sqrt(width + 1)))
    return torch.stack(rows)


def _with_head(hf: PreTrainedModel, weight_KD: Tensor) -> PreTrainedModel:
    """A copy of a sequence classifier under other heads."""
    made: Any = copy.deepcopy(hf)
    made.config.num_labels = made.num_labels = int(weight_KD.shape[0])
    made.score = _linear(weight_KD, hf)
    return made


def _linear(weight_KD: Tensor, like: PreTrainedModel) -> nn.Linear:
    head = nn.Linear(weight_KD.shape[1], weight_KD.shape[0], bias=False, device=like.device, dtype=like.dtype)
    with torch.no_grad():
        head.weight.copy_(weight_KD)
    return head


def _last_state(hf: PreTrainedModel, batch: Batch) -> Tensor:
    return last_state(hf.base_model, batch)


def _apply(head: nn.Linear, state_ND: Tensor) -> Tensor:
    out = head(state_ND.to(head.weight.dtype))
    return out.to(torch.promote_types(out.dtype, torch.float32))


def _product(state_ND: Tensor, weight_KD: Tensor) -> Tensor:
    out = state_ND.to(weight_KD.dtype) @ weight_KD.T
    return out.to(torch.promote_types(out.dtype, torch.float32))
