"""Token losses and masks at the edges: rows without tokens, NaN under the mask, nothing generated."""

from __future__ import annotations

import pytest
import torch

from accord.batch import Forward, collate
from accord.functional.losses import aggregate, aggregation_denominator, aggregation_sum, ppo_clip
from accord.functional.masks import first_stop_lengths
from accord.train.objectives import NLL

MASK = torch.tensor([[True, True, True], [False, True, False], [False, False, False]])
LOSS = torch.tensor([[1.0, 2.0, 6.0], [torch.nan, 5.0, torch.nan], [torch.nan] * 3], dtype=torch.float64)


@pytest.mark.parametrize(
    "mode, wanted",
    [
        ("token-mean", 14 / 4),
        ("seq-mean-token-mean", (9 / 3 + 5) / 2),
        ("seq-mean-token-sum", (9 + 5) / 2),
        ("constant", (9 + 5) / (2 * 7)),
    ],
)
def test_rows_without_tokens_are_no_rows(mode, wanted):
    length = 7 if mode == "constant" else None
    assert float(aggregate(LOSS, MASK, mode, max_length=length)) == pytest.approx(wanted)
    whole = aggregation_denominator(MASK, mode, max_length=length)
    parts = sum(aggregation_sum(LOSS[rows], MASK[rows], mode) for rows in ([0], [1, 2]))
    assert float(parts / whole) == pytest.approx(wanted)


def test_nothing_outside_the_mask_reaches_the_clipped_loss():
    logp = torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss, ratio = ppo_clip(logp, logp.detach() * 1.1, LOSS, low=0.2, high=0.3, dual=3.0, mask=MASK)
    assert bool((loss[~MASK] == 0).all())
    assert bool((ratio[~MASK] == 1).all())
    loss.sum().backward()
    assert logp.grad is not None
    assert bool((logp.grad[~MASK] == 0).all())
    assert bool(torch.isfinite(logp.grad).all())


def test_a_row_without_tokens_has_no_stop_token_in_its_padding():
    ids = torch.full((2, 3), 9)
    assert first_stop_lengths(ids, (9,), torch.tensor([0, 2])).tolist() == [0, 1]


def test_likely_tokens_cost_little():
    batch = collate([[1, 2, 3]], [[False, True, True]], pad_id=0)
    assert float(NLL()(Forward(logp_BT=torch.tensor([[0.0, -0.5, -2.0]])), batch).loss) == 2.5
