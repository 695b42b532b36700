"""Objectives: what they demand, what they report, and how they agree with the functions below them."""

from __future__ import annotations

import math

import pytest
import torch

from accord.batch import Batch, Forward
from accord.errors import TrainingError
from accord.functional.losses import aggregate, ppo_clip
from accord.train.credit import GAECredit
from accord.train.objectives import DPO, NLL, PPO, BradleyTerry
from accord.train.objectives.denominators import pair_weights, row_count
from train_models import actor_critic, causal, random_batch, scorer

BATCH = random_batch(5)


def scores(*values: float) -> Forward:
    return Forward(score_B=torch.tensor(values, dtype=torch.float64))


def pairs(num: int, **fields: list[float]) -> Batch:
    batch = random_batch(num).replace(target_B=None, margin_B=None, weight_B=None)
    return batch.replace(
        **{name: torch.tensor(v, dtype=torch.float64).repeat_interleave(2) for name, v in fields.items()}
    )


def test_what_is_missing_is_named() -> None:
    for objective, name in ((NLL(), "logp_BT"), (BradleyTerry(), "score_B"), (DPO(), "logp_BT"), (PPO(), "logp_BT")):
        with pytest.raises(TrainingError, match=name):
            objective(Forward(), BATCH)
    with torch.no_grad():
        out = actor_critic(torch.float64)(BATCH)
    with pytest.raises(TrainingError, match="entropy_BT"):
        PPO(entropy_coef=0.1)(out, BATCH)
    with pytest.raises(TrainingError, match="value_BT"):
        PPO()(Forward(out.logp_BT), BATCH)
    for field in ("old_logp_BT", "advantage_BT", "old_value_BT", "return_BT"):
        with pytest.raises(TrainingError, match=field):
            PPO()(out, BATCH.replace(**{field: None}))
    with pytest.raises(TrainingError, match="ref_logp_BT"):
        DPO()(out, BATCH.replace(ref_logp_BT=None))
    with pytest.raises(TrainingError, match="old_value_BT"):
        GAECredit()(BATCH.replace(score_B=torch.zeros(10), old_value_BT=None), kl_coef=0.1)


def test_equal_scores_cost_ln_2_a_pair_and_count_as_half_right() -> None:
    terms = BradleyTerry()(scores(1, 1, -2, -2), pairs(2))
    assert float(terms.loss) == pytest.approx(2 * math.log(2))
    assert terms.metrics["accuracy"].value == 0.5
    assert float(BradleyTerry().denominator(pairs(2))) == 2


def test_accuracy_counts_the_labelled_order_and_leaves_ties_out() -> None:
    out = scores(2, 1, 1, 2, 5, 0, 3, 1)
    assert BradleyTerry()(out, pairs(4)).metrics["accuracy"].value == 0.75
    labelled = BradleyTerry()(out, pairs(4, target_B=[0.9, 0.2, 0.5, 0.1])).metrics
    assert labelled["accuracy"].value == pytest.approx(2 / 3)
    assert labelled["margin"].value == pytest.approx((1 - 1 + 5 + 2) / 4)
    assert labelled["mean_reward"].value == pytest.approx(15 / 8)
    ties = BradleyTerry()(out, pairs(4, target_B=[0.5] * 4)).metrics
    assert math.isnan(ties["accuracy"].value)


def test_the_loss_of_pairs_uses_weight_margin_target_and_centre() -> None:
    def loss(center: float = 0.0, **fields: list[float]) -> float:
        return float(BradleyTerry(center)(scores(1.0, 0.4), pairs(1, **fields)).loss)

    def nls(x: float) -> float:
        return math.log1p(math.exp(-x))

    assert loss() == pytest.approx(nls(0.6))
    assert loss(weight_B=[3.0]) == pytest.approx(3 * nls(0.6))
    assert loss(margin_B=[0.2]) == pytest.approx(nls(0.4))
    assert loss(target_B=[0.7]) == pytest.approx(0.7 * nls(0.6) + 0.3 * nls(-0.6))
    assert loss(0.1) == pytest.approx(nls(0.6) + 0.1 * 1.4**2)
    assert pair_weights(pairs(2)).tolist() == [1, 1]


def test_dpo_by_hand() -> None:
    batch = pairs(1)
    mask_BT = batch.response_mask_BT
    ones = Forward(logp_BT=torch.where(mask_BT, -1.0, 0.0).double())
    counts = mask_BT.sum(1).tolist()
    batch = batch.replace(ref_logp_BT=torch.where(mask_BT, -1.5, 0.0).double())
    terms = DPO(beta=0.2)(ones, batch)
    chosen, rejected = (0.2 * 0.5 * n for n in counts)
    assert float(terms.loss) == pytest.approx(math.log1p(math.exp(rejected - chosen)))
    got = {name: mean.value for name, mean in terms.metrics.items()}
    assert got["rewards/chosen"] == pytest.approx(chosen)
    assert got["rewards/rejected"] == pytest.approx(rejected)
    assert got["rewards/margins"] == pytest.approx(chosen - rejected)
    assert got["rewards/accuracies"] == (1.0 if chosen > rejected else 0.5 if chosen == rejected else 0.0)
    assert got["logps/chosen"] == -counts[0] and got["logps/rejected"] == -counts[1]
    soft = float(DPO(beta=0.2)(ones, batch.replace(target_B=torch.full((2,), 0.5, dtype=torch.float64))).loss)
    smooth = float(DPO(beta=0.2, label_smoothing=0.5)(ones, batch).loss)
    assert soft == pytest.approx(smooth) != float(terms.loss)


@pytest.mark.parametrize("objective", [NLL(), DPO(), PPO(entropy_coef=0.1)], ids=["nll", "dpo", "ppo"])
def test_what_stands_outside_the_mask_is_not_read(objective) -> None:
    mask_BT = BATCH.response_mask_BT
    rand = torch.Generator().manual_seed(0)
    losses, grads = [], []
    line_BT = -torch.rand(mask_BT.shape, generator=rand, dtype=torch.float64)
    for fill in (0.0, 3.0, math.nan):
        said_BT = torch.where(mask_BT, line_BT, fill).requires_grad_()
        terms = objective(Forward(said_BT, said_BT, said_BT), BATCH)
        losses.append(terms.loss.item())
        grads.append(torch.autograd.grad(terms.loss, said_BT)[0])
        assert all(math.isfinite(mean.value) for mean in terms.metrics.values())
    assert losses[0] == losses[1] == losses[2]
    assert torch.equal(grads[0], grads[1]) and torch.equal(grads[0], grads[2])
    assert not grads[0][~mask_BT].any()


@pytest.mark.parametrize("mode", ["token-mean", "seq-mean-token-mean", "seq-mean-token-sum"])
def test_the_aggregations_are_those_of_the_functional_core(mode: str) -> None:
    """Also with a row that has no response tokens, which is no row to average over."""
    mask_BT = BATCH.response_mask_BT.clone()
    mask_BT[3] = False
    batch = BATCH.replace(response_mask_BT=mask_BT)
    with torch.no_grad():
        out = actor_critic(torch.float64)(batch)
    objective = PPO(vf_coef=0.0, loss_aggregation=mode)
    loss_BT, _ = ppo_clip(out.logp_BT, batch.old_logp_BT, batch.advantage_BT, low=0.2, high=0.2)
    got = float(objective(out, batch).loss / objective.denominator(batch))
    assert got == pytest.approx(float(aggregate(loss_BT, mask_BT, mode)), rel=1e-12)
    assert float(row_count(batch)) == 9


def test_ppo_metrics_are_means_over_tokens() -> None:
    with torch.no_grad():
        out = actor_critic(torch.float64)(BATCH, entropy=True)
    mask_BT = BATCH.response_mask_BT
    got = {name: mean.value for name, mean in PPO(cliprange_high=0.5)(out, BATCH).metrics.items()}
    log_ratio = (out.logp_BT - BATCH.old_logp_BT)[mask_BT]
    advantage = BATCH.advantage_BT[mask_BT]
    assert got["val/ratio"] == pytest.approx(float(log_ratio.exp().mean()))
    assert got["policy/approxkl_avg"] == pytest.approx(float((log_ratio.exp() - 1 - log_ratio).mean()))
    clipped = torch.where(advantage > 0, log_ratio.exp() > 1.5, log_ratio.exp() < 0.8)
    assert got["policy/clipfrac_avg"] == pytest.approx(float(clipped.double().mean()))
    assert 0 < got["policy/clipfrac_avg"] < 1
    assert got["objective/entropy"] == pytest.approx(float(out.entropy_BT[mask_BT].mean()))
    value = out.value_BT[mask_BT]
    old, ret = BATCH.old_value_BT[mask_BT], BATCH.return_BT[mask_BT]
    bounded = old + (value - old).clamp(-0.2, 0.2)
    half = 0.5 * torch.maximum((value - ret) ** 2, (bounded - ret) ** 2)
    assert got["loss/value_avg"] == pytest.approx(float(half.mean()))
    assert 0 < got["val/clipfrac_avg"] < 1


def test_losses_are_sums_that_carry_gradients_and_metrics_are_not() -> None:
    for objective, module in (
        (NLL(), causal()),
        (BradleyTerry(), scorer()),
        (DPO(), causal()),
        (PPO(), actor_critic()),
    ):
        terms = objective(module(BATCH), BATCH)
        assert terms.loss.requires_grad and terms.loss.dim() == 0
        for name, mean in terms.metrics.items():
            assert not torch.as_tensor(mean.sum).requires_grad, name


def scored(score: float, old: list[float], ref: list[float], value: list[float]) -> Batch:
    """One row of a prompt token and three response tokens."""
    batch = random_batch(1, group_size=1)
    line = {"old_logp_BT": old, "ref_logp_BT": ref, "old_value_BT": value}
    return Batch(
        ids_BT=torch.tensor([[1, 5, 6, 2]]),
        lengths_B=torch.tensor([4]),
        response_mask_BT=torch.tensor([[False, True, True, True]]),
        score_B=torch.tensor([score], dtype=torch.float64),
        group_B=batch.group_B,
        **{name: torch.tensor([[9.0, *v]], dtype=torch.float64) for name, v in line.items()},
    )


def test_credit_by_hand() -> None:
    """kl_coef 0.1, gamma 0.9, lambda 0.5; the 9s at the prompt are never read."""
    batch = scored(2.0, [-1.0, -2.0, -3.0], [-2.0, -2.0, -1.0], [0.5, 1.0, -1.0])
    done = GAECredit(gamma=0.9, lam=0.5, whiten_advantages=False)(batch, kl_coef=0.1)
    assert done.token_reward_BT[0].tolist() == pytest.approx([0, -0.1, 0.0, 2.2])
    last = 2.2 + 1.0
    middle = 0.0 + 0.9 * -1.0 - 1.0 + 0.45 * last
    first = -0.1 + 0.9 * 1.0 - 0.5 + 0.45 * middle
    assert done.advantage_BT[0].tolist() == pytest.approx([0, first, middle, last])
    assert done.return_BT[0].tolist() == pytest.approx([0, first + 0.5, middle + 1.0, last - 1.0])


def test_whitening_is_over_the_response_tokens_and_returns_are_not_whitened() -> None:
    batch = scored(2.0, [-1.0, -2.0, -3.0], [-2.0, -2.0, -1.0], [0.5, 1.0, -1.0])
    plain = GAECredit(whiten_advantages=False)(batch, kl_coef=0.1)
    white = GAECredit()(batch, kl_coef=0.1)
    kept = white.advantage_BT[0, 1:]
    assert float(kept.mean()) == pytest.approx(0, abs=1e-9)
    assert float(kept.var(correction=0)) == pytest.approx(1, abs=1e-6)
    assert torch.equal(white.return_BT, plain.return_BT)
    rewards = GAECredit(whiten_rewards=True)(batch, kl_coef=0.1).token_reward_BT[0]
    raw = plain.token_reward_BT[0]
    assert float(rewards[1:].mean()) == pytest.approx(float(raw[1:].mean())), "the mean of the rewards stays"
    assert float(rewards[1:].var(correction=0)) == pytest.approx(1, abs=1e-6)
    assert rewards[0] == 0
