"""Every reply of up to three tokens out of three, with its probability: expectations without sampling."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from accord.batch import Batch, Forward, collate
from accord.functional.losses import token_logp

V, STOP, LENGTH = 3, 0, 3
BETA = 0.3
UNCLIPPED = 1e9


class World:
    """Table policies over all prefixes; each reply is a row [prompt, reply]."""

    def __init__(self, stops: bool) -> None:
        random = torch.Generator().manual_seed(11)
        replies = [
            ids
            for size in (range(1, LENGTH + 1) if stops else [LENGTH])
            for ids in itertools.product(range(V), repeat=size)
            if not stops or (STOP not in ids[:-1] and (ids[-1] == STOP or size == LENGTH))
        ]
        prefixes = sorted({ids[:t] for ids in replies for t in range(len(ids))})
        place = {prefix: i for i, prefix in enumerate(prefixes)}
        self.batch = collate([[V, *r] for r in replies], [[False] + [True] * len(r) for r in replies], pad_id=0)
        self.state = torch.zeros_like(self.batch.ids_BT)
        for b, ids in enumerate(replies):
            for t in range(len(ids)):
                self.state[b, t + 1] = place[ids[:t]]
        self.n, self.mask = len(replies), self.batch.response_mask_BT
        shape = (len(prefixes), V)
        self.table, self.old_table, self.ref_table, self.sampler_table = (
            torch.randn(shape, generator=random, dtype=torch.float64) for _ in range(4)
        )
        self.old_table = self.table + 0.4 * self.old_table
        self.sampler_table = self.table + 0.2 * self.sampler_table
        self.table.requires_grad_()
        self.score = torch.randn(self.n, generator=random, dtype=torch.float64)
        self.value = torch.where(self.mask, torch.randn(len(prefixes), generator=random).double()[self.state], 0.0)

    def logp(self, table: Tensor) -> Tensor:
        return torch.where(self.mask, token_logp(table[self.state], self.batch.ids_BT.clamp(max=V - 1)), 0.0)

    def p(self, table: Tensor) -> Tensor:
        return self.logp(table).sum(1).exp().detach()

    def gradient(self, scalar: Tensor) -> Tensor:
        return torch.autograd.grad(scalar, self.table)[0]

    def truth(self, beta: float = 0.0, score: Tensor | None = None) -> Tensor:
        """Gradient of E[score] - beta KL(policy || reference) over whole replies."""
        logp = self.logp(self.table)
        kl = (logp - self.logp(self.ref_table)).sum(1)
        return self.gradient((logp.sum(1).exp() * ((self.score if score is None else score) - beta * kl)).sum())

    def weighted_score(self, weight: Tensor) -> Tensor:
        """Sum over replies of weight x gradient of the reply's log-probability."""
        return self.gradient((weight[:, None] * self.logp(self.table)).sum())

    def scored(self, old: Tensor, score: Tensor | None = None) -> Batch:
        return self.batch.replace(
            score_B=self.score if score is None else score,
            old_logp_BT=self.logp(old).detach(),
            ref_logp_BT=self.logp(self.ref_table),
            sampler_logp_BT=self.logp(self.sampler_table),
            old_value_BT=self.value,
        )

    def expected(self, objective, credited: Batch, probability: Tensor) -> Tensor:
        """Minus the gradient of the expected loss of one row, for rows drawn with `probability`."""
        logp, value = self.logp(self.table), self.value
        index = {tuple(row): i for i, row in enumerate(self.batch.ids_BT.tolist())}
        total = torch.zeros((), dtype=torch.float64)
        for b, ids in enumerate(credited.ids_BT.tolist()):
            i = index[tuple(ids)]
            row = Batch(
                **{
                    name: getattr(credited, name)[b : b + 1]
                    for name in credited.__dataclass_fields__
                    if getattr(credited, name) is not None
                }
            )
            total = total + probability[b] * objective(Forward(logp[i : i + 1], None, value[i : i + 1]), row).loss
        return -self.gradient(total)

    def pairs(
        self, credit, beta: float, score: Tensor | None = None, old: Tensor | None = None
    ) -> tuple[Batch, Tensor]:
        """All ordered pairs of replies as groups of two, credited one group at a time, and each row's probability."""
        old = self.table.detach() if old is None else old
        single, p = self.scored(old, score), self.p(old)
        i, j = torch.cartesian_prod(torch.arange(self.n), torch.arange(self.n)).T
        rows = torch.stack([i, j], dim=1)
        groups = torch.arange(self.n**2).repeat_interleave(2)
        batch = single.select(rows.reshape(-1)).replace(group_B=groups)
        batch = batch.replace(ids_BT=self.batch.ids_BT[rows.reshape(-1)])
        # Half: the loss is a mean over the two rows of a pair.
        return credit(batch, kl_coef=beta), 0.5 * (p[i] * p[j]).repeat_interleave(2)


def close(a: Tensor, b: Tensor) -> bool:
    """Equal at 1e-8, and not both nothing."""
    assert b.abs().max() > 1e-3
    return bool((a - b).abs().max() < 1e-8)
