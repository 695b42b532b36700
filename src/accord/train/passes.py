"""Forward passes over the rows of a round: every model reads the same micro-batches, results come back by row."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from accord.batch import Batch
from accord.models.trunk import lays_flat


@torch.no_grad()
def over_rows(
    batch: Batch,
    look: Callable[[Batch], Mapping[str, Tensor | None]],
    policy: nn.Module,
    *,
    token_budget: int,
) -> dict[str, Tensor]:
    """Return what `look` sees of every row, on the processor; groups stay together.

    Results wait on the device until the last micro-batch is done, so that nothing waits for a copy in between.

    Args:
        batch: rows to look at.
        look: a micro-batch on the device to tensors [B, T] by name; None leaves a name out.
        policy: one of the models that look, and like the others: where they work, and whether they pay for padding.
        token_budget: largest rows x length of a micro-batch.
    """
    seen: dict[str, Tensor] = {}
    device, flat = next(policy.parameters()).device, lays_flat(policy)
    numbered = batch.replace(weight_B=torch.arange(batch.num_rows, dtype=torch.float64)).to(device)
    for micro in numbered.split(token_budget, flat=flat):
        assert micro.weight_B is not None
        rows, width = micro.weight_B.long(), micro.ids_BT.shape[1]
        for name, value in look(micro).items():
            if value is not None:
                if name not in seen:
                    seen[name] = torch.zeros(batch.ids_BT.shape, dtype=value.dtype, device=value.device)
                seen[name][rows, :width] = value
    return {name: value.cpu() for name, value in seen.items()}
