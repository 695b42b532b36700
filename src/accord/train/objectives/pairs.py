"""Losses of policies on preference pairs: one objective for every entry of `PAIR_LOSSES` and mixtures of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from accord.batch import Batch, Forward, Mean, Terms
from accord.errors import ConfigError, TrainingError
from accord.functional.divergences import DIVERGENCES
from accord.functional.masks import masked_sum
from accord.functional.pair_logps import PairLogps, expected, ld_weights, with_noise
from accord.functional.preference_losses import PAIR_LOSSES, PairLoss
from accord.functional.transport_losses import aot_anchors
from accord.train.objectives.denominators import need, pair_accuracy, pair_targets, pair_weights, sequence_logp
from accord.train.reference import whole_logp


@dataclass(frozen=True)
class Pairwise:
    """A weighted sum of losses on pairs; by default DPO (Rafailov et al. 2023, 2305.18290 eq. 7).

    A soft target in the batch is P(first row is better): the loss is its expectation over both labels, and label
    smoothing is applied on top. Options that no chosen loss has are not read; the stages' configs refuse them.
    """

    beta: float = 0.1
    label_smoothing: float = 0.0
    """Probability that a label is wrong. `robust` and `exo_pair` have their own use of it."""
    rpo_alpha: float = 0.0
    """Weight of the negative log-likelihood of the chosen reply, a mean over its tokens (2404.19733 eq. 2). Deviation:
    with a soft target p it is scaled by 2p - 1, because a reply that is barely preferred is not to be imitated."""
    loss_type: tuple[str, ...] = ("sigmoid",)
    loss_weights: tuple[float, ...] | None = None
    """One a loss; None = 1 each."""
    reference_free: bool = False
    """Compare with a uniform reference."""
    f_divergence_type: str = "reverse_kl"
    f_alpha_divergence_coef: float = 0.5
    ld_alpha: float | None = None
    """LD-DPO: weight of the tokens past the length of the shorter reply; None = off."""
    simpo_gamma: float = 1.0
    cpo_alpha: float = 1.0
    slic_delta: float = 1.0
    slic_lambda: float = 0.5
    discopop_tau: float = 0.05
    dpop_lambda: float = 50.0
    rdpo_alpha: float = 0.02

    def __post_init__(self) -> None:
        unknown = [name for name in self.loss_type if name not in PAIR_LOSSES]
        if unknown or not self.loss_type:
            raise ConfigError(f"there is no loss '{', '.join(unknown)}'", fix=f"choose among {', '.join(PAIR_LOSSES)}")
        if self.loss_weights is not None and len(self.loss_weights) != len(self.loss_type):
            raise ConfigError(f"{len(self.loss_type)} losses and {len(self.loss_weights)} loss_weights")
        if len({how.anchors for how in self._losses} - {None}) > 1:
            raise ConfigError("aot and aot_unpaired compare with different things", fix="choose one of them")

    @property
    def _losses(self) -> list[PairLoss]:
        return [PAIR_LOSSES[name] for name in self.loss_type]

    @property
    def _weighted(self) -> list[tuple[PairLoss, float]]:
        return list(zip(self._losses, self.loss_weights or (1.0,) * len(self.loss_type), strict=True))

    @property
    def needs_reference(self) -> bool:
        """Whether any of the losses reads log-probabilities of a reference."""
        return not self.reference_free and any(how.reference for how in self._losses)

    @property
    def nll_weight(self) -> float:
        """Weight of the negative log-likelihood of the chosen replies, a mean over all their tokens of a step."""
        return sum(w * (getattr(self, how.nll) if isinstance(how.nll, str) else how.nll) for how, w in self._weighted)

    def prepare(self, batch: Batch, forward: Callable[[Batch], Forward], token_budget: int) -> Batch:
        """Add what depends on the whole step: token counts for CPO and ORPO, ranks for AOT."""
        changes: dict[str, Tensor] = {}
        if self.nll_weight:
            weight_P, length_P = pair_weights(batch).double(), _lengths(batch)[0::2]
            scale_P = weight_P * weight_P.sum() / (weight_P * length_P).sum().clamp(min=1e-12)
            changes["nll_B"] = scale_P.repeat_interleave(2)
        paired = next((how.anchors for how in self._losses if how.anchors is not None), None)
        if paired is not None:
            weight_P = pair_weights(batch)
            if not paired and (batch.target_B is not None or bool((weight_P != weight_P[0]).any())):
                raise TrainingError(
                    "aot_unpaired matches replies of different pairs: it cannot weigh pairs or take soft labels",
                    fix="use aot, or data without rankings, ties and soft labels",
                )
            anchors = aot_anchors(self._pairs(whole_logp(batch, forward, token_budget), batch), paired=paired)
            changes["anchor_B"] = torch.stack(anchors, dim=1).flatten()
        return batch.replace(**changes)

    def denominator(self, batch: Batch) -> Tensor:
        """Sum of pair weights."""
        return pair_weights(batch).sum().double()

    def __call__(self, out: Forward, batch: Batch) -> Terms:
        """Weighted sum over pairs."""
        logp_BT = need(out.logp_BT, "logp_BT")
        pairs = self._pairs(logp_BT, batch)
        chosen_P, rejected_P = sequence_logp(logp_BT, batch)[0::2], sequence_logp(logp_BT, batch)[1::2]
        target_P, weight_P = pair_targets(batch), pair_weights(batch)
        certainty_P = torch.ones_like(chosen_P) if target_P is None else 2 * target_P - 1
        loss_P = torch.zeros_like(chosen_P)
        for how, weight in self._weighted:
            if how.function is not None:
                loss_P = loss_P + weight * self._one(how, pairs, target_P)
        if self.rpo_alpha:
            loss_P = loss_P - self.rpo_alpha * certainty_P * chosen_P / pairs.chosen_length_P
        loss = (loss_P * weight_P).sum()
        if self.nll_weight:
            token_weight_P = need(batch.nll_B, "nll_B")[0::2]
            loss = loss - self.nll_weight * (token_weight_P * certainty_P * chosen_P).sum()
        count = loss_P.numel()
        shown = self._compared(self._losses[0], pairs)
        reward_w, reward_l = self.beta * shown.u_P.detach(), self.beta * shown.v_P.detach()
        return Terms(
            loss,
            {
                "rewards/chosen": Mean(reward_w.sum(), count),
                "rewards/rejected": Mean(reward_l.sum(), count),
                "rewards/accuracies": pair_accuracy(reward_w - reward_l, target_P),
                "rewards/margins": Mean((reward_w - reward_l).sum(), count),
                "logps/chosen": Mean(chosen_P.detach().sum(), count),
                "logps/rejected": Mean(rejected_P.detach().sum(), count),
            }
            | ({"nll_loss": Mean(-chosen_P.detach().sum(), pairs.chosen_length_P.sum())} if self.nll_weight else {}),
        )

    def _pairs(self, logp_BT: Tensor, batch: Batch) -> PairLogps:
        """Sums over the replies of policy and reference."""
        length_B = _lengths(batch)
        mask_BT = batch.response_mask_BT
        sums = partial(masked_sum, mask=mask_BT, dim=1)
        ref_BT = need(batch.ref_logp_BT, "ref_logp_BT") if self.needs_reference else torch.zeros_like(logp_BT)
        if self.ld_alpha is None:
            logp_B, ref_B = sums(logp_BT), sums(ref_BT)
        else:
            shared_B = torch.minimum(length_B[0::2], length_B[1::2]).repeat_interleave(2)
            weight_BT = ld_weights(mask_BT, shared_B, self.ld_alpha, logp_BT.dtype)
            logp_B, ref_B = sums(logp_BT * weight_BT), sums(ref_BT * weight_BT)
        length_B = length_B.clamp(min=1).to(logp_B.dtype)
        anchor_B = batch.anchor_B
        return PairLogps(
            chosen_P=logp_B[0::2],
            rejected_P=logp_B[1::2],
            ref_chosen_P=ref_B[0::2],
            ref_rejected_P=ref_B[1::2],
            chosen_length_P=length_B[0::2],
            rejected_length_P=length_B[1::2],
            chosen_anchor_P=None if anchor_B is None else anchor_B[0::2],
            rejected_anchor_P=None if anchor_B is None else anchor_B[1::2],
        )

    def _compared(self, how: PairLoss, pairs: PairLogps) -> PairLogps:
        """What the loss compares: sums or means, log-ratios or f'(ratios), with or without reference."""
        if not how.reference:
            pairs = pairs.without_reference()
        if how.per_token:
            pairs = pairs.per_token()
        if self.f_divergence_type != "reverse_kl" and how.differences:
            alpha = {"coefficient": self.f_alpha_divergence_coef}
            options = alpha if self.f_divergence_type == "alpha_divergence" else {}
            pairs = pairs.under(partial(DIVERGENCES[self.f_divergence_type], **options))
        return pairs

    def _one(self, how: PairLoss, pairs: PairLogps, target_P: Tensor | None) -> Tensor:
        """One loss a pair, with label noise where the loss does not see to it itself."""
        assert how.function is not None
        options = {name: getattr(self, name) for name in how.options}
        noisy_P = target_P if "label_smoothing" in options else with_noise(target_P, self.label_smoothing)
        return expected(partial(how.function, **options), self._compared(how, pairs), noisy_P)


DPO = Pairwise
"""The default is DPO."""


def _lengths(batch: Batch) -> Tensor:
    """Reply tokens of each row [B]."""
    return batch.response_mask_BT.sum(dim=1)
