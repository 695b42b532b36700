"""Log-probabilities of a whole batch, and a reference that moves during training (TR-DPO).

OnlineReference(source, ref) -> Batch with ref_logp_BT under the reference as it is when the batch is drawn
"""

# pyright: reportUnknownMemberType=false
from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from accord.batch import Batch, Forward
from accord.train.loop import Hook, Source, StepInfo


@torch.no_grad()
def whole_logp(batch: Batch, forward: Callable[[Batch], Forward], token_budget: int) -> Tensor:
    """Score every row of a batch without gradients, in micro-batches.

    Args:
        batch: on the device of the model.
        forward: the model on a micro-batch.
        token_budget: largest rows x length of a forward.

    Returns:
        logp_BT in the order of the batch, 0 outside the response mask.
    """
    numbered = batch.replace(anchor_B=torch.arange(batch.num_rows, dtype=torch.float64, device=batch.ids_BT.device))
    found: Tensor | None = None
    for micro in numbered.split(token_budget):
        logp_BT = forward(micro).logp_BT
        assert logp_BT is not None and micro.anchor_B is not None
        if found is None:
            found = torch.zeros(batch.ids_BT.shape, dtype=logp_BT.dtype, device=logp_BT.device)
        found[micro.anchor_B.long(), : logp_BT.shape[1]] = logp_BT
    assert found is not None
    return found


class OnlineReference:
    """The batches of another source with log-probabilities of a reference that may change between them."""

    def __init__(
        self, source: Source, ref: Callable[[Batch], Forward], *, token_budget: int, device: torch.device
    ) -> None:
        """Wrap a source.

        Args:
            source: makes the batches and is the only thing with a position.
            ref: the reference on a micro-batch.
            token_budget: largest rows x length of a forward.
            device: where `ref` lives.
        """
        self.source, self.ref, self.token_budget, self.device = source, ref, token_budget, device

    def __iter__(self) -> Iterator[Batch]:
        """Yield batches with `ref_logp_BT`."""
        for batch in self.source:
            yield self.scored(batch)

    def scored(self, batch: Batch) -> Batch:
        """The batch with `ref_logp_BT` under the reference as it is now."""
        there = batch.to(self.device)
        return there.replace(ref_logp_BT=whole_logp(there, self.ref, self.token_budget))

    @property
    def at_boundary(self) -> bool:
        """As the source says."""
        return self.source.at_boundary

    def report(self) -> dict[str, float]:
        """What the source reports."""
        return dict(self.source.report())

    def state(self) -> dict[str, Any]:
        """Position of the source; the reference's weights are in `Learner.carried`."""
        return self.source.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Go to a position."""
        self.source.restore(state)


@torch.no_grad()
def mix_in(ref: nn.Module, policy: nn.Module, alpha: float) -> None:
    """Move a reference towards the policy: alpha policy + (1 - alpha) reference (Gorbatovski et al. 2024, eq. 6).

    Args:
        ref: changed in place; the same architecture as `policy`.
        policy: where to.
        alpha: share of the policy, in (0, 1]; 1 = a hard update.
    """
    towards = dict(policy.named_parameters())
    for name, parameter in ref.named_parameters():
        if alpha == 1.0:
            parameter.copy_(towards[name])
        else:
            parameter.lerp_(towards[name].to(parameter.dtype), alpha)


def sync(ref: nn.Module, policy: nn.Module, *, alpha: float, every: int) -> Hook:
    """Mix the policy into the reference after every `every` optimiser steps (TR-DPO)."""

    def hook(info: StepInfo) -> None:
        if info.step % every == 0:
            mix_in(ref, policy, alpha)

    return hook
