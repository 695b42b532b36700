"""What stands outside the mask, how rows are cut and padded, must not change values or gradients."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from accord.batch import collate
from accord.functional.advantages import gae, token_rewards, whiten
from accord.functional.kl import k1, k2, k3
from accord.functional.losses import aggregate, explained_variance, nll, ppo_clip, value_clip
from accord.functional.masks import (
    first_stop_lengths,
    lengths_to_mask,
    masked_mean,
    masked_sum,
    masked_var,
)

LIGHT = settings(max_examples=40, deadline=None)


def summed(result: Tensor | tuple[Tensor, ...]) -> Tensor:
    """A scalar that depends on every entry of the results, differently."""
    parts = [result] if isinstance(result, Tensor) else list(result)
    weights = [torch.arange(1, part.numel() + 1, dtype=torch.float64).reshape(part.shape) for part in parts]
    return torch.stack([(part * weight).sum() for part, weight in zip(parts, weights, strict=True)]).sum()


MASKED = {
    "sum": lambda x, m: masked_sum(x[0], m, dim=1),
    "mean": lambda x, m: masked_mean(x[0], m, dim=1),
    "mean of all": lambda x, m: masked_mean(x[0], m),
    "var": lambda x, m: masked_var(x[0], m),
    "var of rows": lambda x, m: masked_var(x[0], m, dim=1, unbiased=True),
    "k1": lambda x, m: k1(x[0], x[1], mask=m),
    "k2": lambda x, m: k2(x[0], x[1], mask=m),
    "k3": lambda x, m: k3(x[0], x[1], mask=m),
    "token_rewards": lambda x, m: token_rewards(x[2][:, 0] * 0 + 1, x[0], x[1], m, 0.3),
    "gae": lambda x, m: gae(x[0], x[1], m, 0.99, 0.9),
    "whiten": lambda x, m: whiten(x[0], m),
    "whiten, mean kept": lambda x, m: whiten(x[0], m, shift_mean=False, unbiased=True),
    "nll": lambda x, m: nll(x[0], mask=m),
    "ppo": lambda x, m: ppo_clip(x[0], x[1], x[2], low=0.2, high=0.3, mask=m),
    "ppo, dual": lambda x, m: ppo_clip(x[0], x[1], x[2], low=0.2, high=0.2, dual=3.0, mask=m),
    "value": lambda x, m: value_clip(x[0], x[1], x[2], clip=0.2, mask=m)[0],
    "explained variance": lambda x, m: explained_variance(x[0], x[1], m),
    "token-mean": lambda x, m: aggregate(x[0], m, "token-mean"),
    "seq-mean-token-mean": lambda x, m: aggregate(x[0], m, "seq-mean-token-mean"),
    "seq-mean-token-sum": lambda x, m: aggregate(x[0], m, "seq-mean-token-sum"),
    "constant": lambda x, m: aggregate(x[0], m, "constant", max_length=7),
}


def run(function, inputs: list[Tensor], mask: Tensor) -> tuple[Tensor, list[Tensor]]:
    leaves = [x.clone().requires_grad_() for x in inputs]
    value = summed(function(leaves, mask))
    grads = torch.autograd.grad(value, leaves, allow_unused=True)
    return value.detach(), [torch.zeros_like(x) if g is None else g for x, g in zip(leaves, grads, strict=True)]


@pytest.mark.parametrize("garbage", [math.nan, math.inf, -math.inf, 1e300])
@pytest.mark.parametrize("name", list(MASKED))
def test_garbage_under_the_mask_changes_nothing(name, garbage):
    random = torch.Generator().manual_seed(3)
    inputs = [torch.randn(3, 6, generator=random, dtype=torch.float64) for _ in range(3)]
    mask = torch.tensor([[0, 1, 1, 0, 1, 0], [0, 0, 1, 1, 1, 1], [0, 1, 1, 0, 0, 0]]).bool()
    if name == "token_rewards":
        inputs[2] = torch.zeros_like(inputs[2])
    value, grads = run(MASKED[name], inputs, mask)
    spoiled = [torch.where(mask, x, torch.full_like(x, garbage)) for x in inputs]
    if name == "token_rewards":
        spoiled[2] = inputs[2]  # a score belongs to a row, not to a token
    spoiled_value, spoiled_grads = run(MASKED[name], spoiled, mask)
    assert value.isfinite()
    assert spoiled_value.equal(value)
    for clean, dirty in zip(grads, spoiled_grads, strict=True):
        assert dirty.equal(clean)
        if name != "token_rewards":
            assert not clean[~mask].any()


@st.composite
def sequences(draw: st.DrawFn) -> tuple[list[list[int]], list[list[bool]]]:
    lengths = draw(st.lists(st.integers(2, 7), min_size=1, max_size=6))
    ids = [draw(st.lists(st.integers(0, 4), min_size=n, max_size=n)) for n in lengths]
    masks = [[False, *draw(st.lists(st.booleans(), min_size=n - 1, max_size=n - 1))] for n in lengths]
    return ids, masks


TABLE = torch.log_softmax(torch.linspace(-1.0, 1.5, 5, dtype=torch.float64), 0)
OLD = torch.log_softmax(torch.linspace(0.5, -0.2, 5, dtype=torch.float64), 0)


def loss_and_gradient(batch_parts, denominator: int) -> tuple[Tensor, Tensor]:
    """PPO loss of a table policy, each part backpropagated on its own as the training loop does."""
    table = TABLE.clone().requires_grad_()
    total = torch.zeros((), dtype=torch.float64)
    for part in batch_parts:
        mask = part.response_mask_BT
        loss, _ = ppo_clip(
            table[part.ids_BT],
            OLD[part.ids_BT],
            torch.sin(part.ids_BT + part.score_B[:, None]),
            low=0.2,
            high=0.2,
            mask=mask,
        )
        share = masked_sum(loss, mask) / denominator
        share.backward()
        total = total + share.detach()
    return total, table.grad


@LIGHT
@given(sequences(), st.integers(1, 30), st.randoms(use_true_random=False), st.integers(0, 4))
def test_micro_batches_padding_and_row_order_change_nothing(rows, budget, random, pad_id):
    ids, masks = rows
    marks = [float(i) for i in range(len(ids))]
    batch = collate(ids, masks, pad_id=0, score_B=marks)
    denominator = max(int(batch.response_mask_BT.sum()), 1)
    loss, grad = loss_and_gradient([batch], denominator)

    order = list(range(len(ids)))
    random.shuffle(order)
    wide = [i for i in order] + [len(ids)]
    filler = collate([*ids, [1] * 12], [*masks, [False] * 12], pad_id=pad_id, score_B=[*marks, 0.0]).select(
        wide
    )  # a row without response tokens that only widens the padding
    for parts in (batch.split(budget), [filler], [batch.select(order)], filler.split(budget)):
        other_loss, other_grad = loss_and_gradient(parts, denominator)
        torch.testing.assert_close(other_loss, loss, rtol=0, atol=1e-12)
        torch.testing.assert_close(other_grad, grad, rtol=0, atol=1e-12)


def test_nothing_under_the_mask_is_zero_not_nan():
    x, mask = torch.ones(2, 3), torch.tensor([[False] * 3, [True, True, False]])
    assert masked_mean(x, mask, dim=1).tolist() == [0.0, 1.0]
    assert masked_var(x, mask, dim=1, unbiased=True).tolist() == [0.0, 0.0]
    assert masked_mean(x, torch.zeros_like(mask)).item() == 0.0
    assert aggregate(x, mask, "seq-mean-token-mean").item() == 1.0  # the empty row is not a row


@LIGHT
@given(st.lists(st.floats(-5, 5), min_size=2, max_size=12), st.booleans())
def test_masked_variance_is_that_of_the_kept_entries(values, unbiased):
    kept = torch.tensor(values, dtype=torch.float64)
    x = torch.stack([kept, torch.full_like(kept, math.nan)], dim=1).reshape(-1)
    mask = torch.tensor([True, False]).repeat(len(values))
    result = masked_var(x, mask, unbiased=unbiased)
    torch.testing.assert_close(result, kept.var(correction=int(unbiased)), rtol=1e-9, atol=1e-12)


@LIGHT
@given(st.lists(st.lists(st.integers(0, 5), min_size=6, max_size=6), min_size=1, max_size=4), st.data())
def test_first_stop_lengths_include_the_stop_token(rows, data):
    lengths = data.draw(st.lists(st.integers(1, 6), min_size=len(rows), max_size=len(rows)))
    found = first_stop_lengths(torch.tensor(rows), (2, 5), torch.tensor(lengths))
    for row, length, result in zip(rows, lengths, found.tolist(), strict=True):
        ends = [i + 1 for i in range(length) if row[i] in (2, 5)]
        assert result == (ends[0] if ends else length)
    mask = lengths_to_mask(found, 6)
    assert mask.sum(1).equal(found)
    whole = first_stop_lengths(torch.tensor(rows), (2, 5))
    assert (whole >= found).all()
