"""Credit by loops over tokens: what is whitened, what is in the reward, in which order."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from accord.batch import Batch, collate
from accord.train.credit import GAECredit, GRPOCredit, RLOOCredit

KL_COEF = 0.3


def scored() -> Batch:
    """Four replies to two prompts, of 1 to 4 tokens after prompts of 1 to 3."""
    random = torch.Generator().manual_seed(3)
    shapes = [(1, 4), (2, 2), (3, 1), (1, 3)]
    batch = collate(
        [[1] * (p + r) for p, r in shapes],
        [[False] * p + [True] * r for p, r in shapes],
        pad_id=0,
        group=[0, 0, 1, 1],
    )

    def noise() -> Tensor:
        return torch.randn(batch.ids_BT.shape, generator=random, dtype=torch.float64)

    return batch.replace(
        old_logp_BT=-noise().abs(),
        ref_logp_BT=-noise().abs(),
        old_value_BT=noise(),
        score_B=torch.tensor([1.5, -0.5, 2.0, 0.25], dtype=torch.float64),
    )


def token_rewards(batch: Batch) -> list[list[float]]:
    """Of the reply tokens of each row: minus beta k1, and the score at the last."""
    rows = []
    for b in range(batch.num_rows):
        mask_T = batch.response_mask_BT[b]
        row = (-KL_COEF * (batch.old_logp_BT[b] - batch.ref_logp_BT[b]))[mask_T].tolist()
        row[-1] += float(batch.score_B[b])
        rows.append(row)
    return rows


def advantages(batch: Batch, rewards: list[list[float]], gamma: float, lam: float) -> list[list[float]]:
    rows = []
    for b, row in enumerate(rewards):
        value = [*batch.old_value_BT[b][batch.response_mask_BT[b]].tolist(), 0.0]
        found, after = [], 0.0
        for t in reversed(range(len(row))):
            after = row[t] + gamma * value[t + 1] - value[t] + gamma * lam * after
            found.append(after)
        rows.append(found[::-1])
    return rows


def flat(rows: list[list[float]]) -> Tensor:
    return torch.tensor([x for row in rows for x in row], dtype=torch.float64)


def whitened(x: Tensor, *, keep_mean: bool = False) -> Tensor:
    scaled = (x - x.mean()) / (x.var(correction=0) + 1e-8).sqrt()
    return scaled + x.mean() if keep_mean else scaled


def same(found_BT: Tensor | None, batch: Batch, wanted: Tensor) -> None:
    assert found_BT is not None
    torch.testing.assert_close(found_BT[batch.response_mask_BT], wanted, rtol=0, atol=1e-12)
    assert float(found_BT[~batch.response_mask_BT].abs().sum()) == 0.0


@pytest.mark.parametrize("white", [False, True])
@pytest.mark.parametrize("white_rewards", [False, True])
def test_gae(white, white_rewards):
    batch = scored()
    made = GAECredit(0.9, 0.7, whiten_rewards=white_rewards, whiten_advantages=white)(batch, kl_coef=KL_COEF)
    rewards = token_rewards(batch)
    if white_rewards:
        every = whitened(flat(rewards), keep_mean=True).split([len(row) for row in rewards])
        rewards = [row.tolist() for row in every]
    same(made.token_reward_BT, batch, flat(rewards))
    found = flat(advantages(batch, rewards, 0.9, 0.7))
    # The critic learns the plain return, whatever is done to the advantages afterwards.
    same(made.return_BT, batch, found + batch.old_value_BT[batch.response_mask_BT])
    same(made.advantage_BT, batch, whitened(found) if white else found)


def spread(batch: Batch, advantage_B: Tensor) -> Tensor:
    return advantage_B.repeat_interleave(batch.response_mask_BT.sum(dim=1))


def test_the_kl_is_in_the_reward_before_the_baseline():
    batch = scored()
    reward_B = torch.tensor([sum(row) for row in token_rewards(batch)], dtype=torch.float64)
    other_B = reward_B[[1, 0, 3, 2]]
    same(RLOOCredit()(batch, kl_coef=KL_COEF).advantage_BT, batch, spread(batch, reward_B - other_B))
    mean_B = (reward_B + other_B) / 2
    deviation = {
        "none": torch.ones(4, dtype=torch.float64),
        "group": (reward_B - other_B).abs() / 2**0.5 + 1e-4,
        "batch": reward_B.std() + 1e-4,
    }
    for scale, by in deviation.items():
        made = GRPOCredit(scale)(batch, kl_coef=KL_COEF)
        same(made.advantage_BT, batch, spread(batch, (reward_B - mean_B) / by))
