"""What losses on pairs of replies are computed from, and what may be done to it before.

P = pairs. Label noise and soft labels (`expected`), a missing reference, means per token and f-divergences are changes
of a `PairLogps`, so that no loss has to know of them. u = chosen - ref_chosen, v = rejected - ref_rejected, h = u - v.
"""

# ruff: noqa: N802, N815  (names carry shape suffixes)
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class PairLogps:
    """What the losses know of pairs; every field is [P]."""

    chosen_P: Tensor
    """log p(chosen reply | prompt) under the policy, summed over the reply's tokens (nats)."""
    rejected_P: Tensor
    """The same of the rejected reply."""
    ref_chosen_P: Tensor
    """The chosen reply under the reference; 0 where a loss has no reference."""
    ref_rejected_P: Tensor
    """The rejected reply under the reference."""
    chosen_length_P: Tensor
    """Tokens of the chosen reply, at least 1."""
    rejected_length_P: Tensor
    """Tokens of the rejected reply, at least 1."""
    chosen_anchor_P: Tensor | None = None
    """AOT: what the chosen side is compared with, from the whole batch (`aot_anchors`); None = sort these pairs."""
    rejected_anchor_P: Tensor | None = None
    """AOT: the same of the rejected side."""

    @property
    def u_P(self) -> Tensor:
        """Log-ratio of the chosen reply."""
        return self.chosen_P - self.ref_chosen_P

    @property
    def v_P(self) -> Tensor:
        """Log-ratio of the rejected reply."""
        return self.rejected_P - self.ref_rejected_P

    @property
    def h_P(self) -> Tensor:
        """Difference of the two log-ratios."""
        return (self.chosen_P - self.rejected_P) - (self.ref_chosen_P - self.ref_rejected_P)

    def swapped(self) -> PairLogps:
        """The same pairs with the opposite label."""
        return PairLogps(
            self.rejected_P,
            self.chosen_P,
            self.ref_rejected_P,
            self.ref_chosen_P,
            self.rejected_length_P,
            self.chosen_length_P,
            self.rejected_anchor_P,
            self.chosen_anchor_P,
        )

    def without_reference(self) -> PairLogps:
        """The same pairs under a uniform reference: the reference terms are 0."""
        return replace(
            self,
            ref_chosen_P=torch.zeros_like(self.ref_chosen_P),
            ref_rejected_P=torch.zeros_like(self.ref_rejected_P),
        )

    def per_token(self) -> PairLogps:
        """The same pairs with means per token in place of sums."""
        return replace(
            self,
            chosen_P=self.chosen_P / self.chosen_length_P,
            rejected_P=self.rejected_P / self.rejected_length_P,
            ref_chosen_P=self.ref_chosen_P / self.chosen_length_P,
            ref_rejected_P=self.ref_rejected_P / self.rejected_length_P,
        )

    def under(self, divergence: Callable[[Tensor], Tensor]) -> PairLogps:
        """The same pairs with f'(pi / pi_ref) in place of each log-ratio (f-DPO, see `functional.divergences`)."""
        made = replace(self, chosen_P=divergence(self.u_P), rejected_P=divergence(self.v_P))
        return made.without_reference()


def expected(loss: Callable[[PairLogps], Tensor], pairs: PairLogps, target_P: Tensor | float | None) -> Tensor:
    """Return the expectation of a loss over an uncertain label, p L(w, l) + (1 - p) L(l, w).

    For DPO this is conservative DPO (Mitchell 2023, "cDPO").

    Args:
        loss: `PairLogps` -> loss_P.
        pairs: the pairs as labelled.
        target_P: p = P(chosen is preferred), one number or one a pair; None = 1.

    Returns:
        loss_P.
    """
    if target_P is None:
        return loss(pairs)
    return target_P * loss(pairs) + (1.0 - target_P) * loss(pairs.swapped())


def with_noise(target_P: Tensor | None, label_smoothing: float) -> Tensor | float | None:
    """Return P(chosen is preferred) when labels are flipped with probability `label_smoothing` on top.

    Args:
        target_P: P(chosen is preferred) as labelled; None = 1.
        label_smoothing: probability of a flip, in [0, 0.5).

    Returns:
        One number, one a pair, or None where every label is certain.
    """
    if label_smoothing == 0.0:
        return target_P
    if target_P is None:
        return 1.0 - label_smoothing
    return target_P * (1.0 - label_smoothing) + (1.0 - target_P) * label_smoothing


def ld_weights(mask_BT: Tensor, shared_B: Tensor, alpha: float, dtype: torch.dtype) -> Tensor:
    """Return the weight of each reply token in LD-DPO (Liu et al. 2024): 1 up to the shared length, then alpha.

    Args:
        mask_BT: True at the tokens of the replies.
        shared_B: length of the shorter reply of each row's pair, tokens.
        alpha: weight of the tokens past it, in [0, 1]; 1 = DPO.
        dtype: of the result.

    Returns:
        weight_BT; its value outside the mask means nothing.
    """
    within_BT = mask_BT.cumsum(dim=1) <= shared_B[:, None]
    return torch.where(within_BT, 1.0, alpha).to(dtype)
