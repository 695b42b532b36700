"""Demonstrations or plain text among the rollouts of an optimiser step: PPO-ptx and SFT mixing.

    policy loss sum / its denominator + coef x (NLL sum / its tokens)

An objective gives one sum and one denominator, and a batch may be cut anywhere. So the rows of the second loss carry
their weight as data: coef x policy denominator / NLL tokens, both of the whole batch, set before it is cut. The common
denominator is that of the policy loss, and the two means come out as they should for any split.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from accord.batch import Batch, Forward, Mean, Terms, concat
from accord.functional.masks import masked_sum
from accord.train.loop import Objective, Source, prepared
from accord.train.objectives.denominators import need


@dataclass(frozen=True)
class WithNLL:
    """An objective on rollouts plus `coef` x mean negative log-likelihood of the rows with `nll_B` above 0.

    InstructGPT's PPO-ptx (Ouyang et al. 2022, 2203.02155, eq. 2, gamma 27.8 on pretraining text) and its SFT variant.
    """

    objective: Objective
    coef: float
    """gamma: weight of the mean over NLL tokens beside the policy loss's own mean."""

    def prepare(self, batch: Batch, forward: Callable[[Batch], Forward], token_budget: int) -> Batch:
        """Set `nll_B` to the weight that makes the common denominator right; see the module."""
        nll_rows_B = need(batch.nll_B, "nll_B") > 0
        inner = prepared(self.objective, batch, forward, token_budget)
        tokens = batch.response_mask_BT[nll_rows_B].sum().double()
        weight = self.coef * self.denominator(batch) / tokens.clamp(min=1)
        return inner.replace(nll_B=torch.where(nll_rows_B, weight, 0.0))

    def denominator(self, batch: Batch) -> Tensor:
        """That of the policy loss, over the rollouts."""
        return self.objective.denominator(_only(batch, need(batch.nll_B, "nll_B") <= 0))

    def __call__(self, out: Forward, batch: Batch) -> Terms:
        """Policy loss of the rollouts plus weighted NLL of the other rows, summed."""
        weight_B = need(batch.nll_B, "nll_B")
        terms = self.objective(out, _only(batch, weight_B <= 0))
        mask_BT = _only(batch, weight_B > 0).response_mask_BT
        nll_B = -masked_sum(need(out.logp_BT, "logp_BT"), mask_BT, dim=1)
        metrics = {"loss/ptx_avg": Mean(nll_B.detach().sum(), mask_BT.sum())}
        return Terms(terms.loss + (weight_B.to(nll_B.dtype) * nll_B).sum(), terms.metrics | metrics)


class Mixed:
    """The batches of an on-policy source, each with a batch of an offline source behind it."""

    def __init__(self, rollouts: Source, examples: Source) -> None:
        """Join them; both advance by one batch a step.

        Args:
            rollouts: gives the policy's batches and says where a checkpoint may be taken.
            examples: an `Offline` source of single rows, not packed.
        """
        self.rollouts = rollouts
        self.examples = examples

    def __iter__(self) -> Iterator[Batch]:
        """Yield joined batches."""
        for batch, extra in zip(self.rollouts, self.examples, strict=False):
            yield join_nll(batch, extra)

    @property
    def at_boundary(self) -> bool:
        """Where the rollouts have one."""
        return self.rollouts.at_boundary and self.examples.at_boundary

    def report(self) -> dict[str, float]:
        """Metrics of both."""
        return self.rollouts.report() | self.examples.report()

    def state(self) -> dict[str, Any]:
        """Both states."""
        return {"rollouts": self.rollouts.state(), "examples": self.examples.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue both."""
        self.rollouts.restore(state["rollouts"])
        self.examples.restore(state["examples"])


def join_nll(rollouts: Batch, examples: Batch) -> Batch:
    """Put rows to imitate behind rollouts.

    Args:
        rollouts: any fields.
        examples: rows whose response tokens are imitated; of their other fields none is kept.

    Returns:
        One batch with `nll_B` 0 for rollouts and 1 for the rest; fields only rollouts have are 0 in the rest.
    """
    rollouts = rollouts.replace(nll_B=torch.zeros(rollouts.num_rows, dtype=torch.float64))
    own = {"ids_BT", "lengths_B", "response_mask_BT", "nll_B"}
    made: dict[str, Tensor] = {}
    for field in fields(Batch):
        value = getattr(rollouts, field.name)
        if value is not None and field.name not in own:
            shape = examples.ids_BT.shape if field.name.endswith("_BT") else (examples.num_rows, *value.shape[1:])
            made[field.name] = torch.zeros(shape, dtype=value.dtype)
    if "group_B" in made:
        made["group_B"] = torch.arange(examples.num_rows)
    extra = Batch(
        ids_BT=examples.ids_BT,
        lengths_B=examples.lengths_B,
        response_mask_BT=examples.response_mask_BT,
        nll_B=torch.ones(examples.num_rows, dtype=torch.float64),
        **made,
    )
    return concat([rollouts, extra])


def _only(batch: Batch, rows_B: Tensor) -> Batch:
    """The batch with nothing to train in the other rows."""
    return batch.replace(response_mask_BT=batch.response_mask_BT & rows_B[:, None])
