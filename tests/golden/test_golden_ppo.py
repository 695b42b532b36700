"""PPO: token rewards, advantages, whitening and losses against golden values."""

from __future__ import annotations

import pytest
import torch
from golden_file import both_dtypes, check, differs, entry, number_after
from policy_fixture import fixture, rewards, whitened

from accord.functional.advantages import gae, missing_eos, whiten
from accord.functional.kl import k1, k2, k3
from accord.functional.losses import (
    aggregate,
    aggregation_denominator,
    aggregation_sum,
    explained_variance,
    ppo_clip,
    ppo_clipped,
    value_clip,
)
from accord.functional.masks import masked_mean, masked_sum


@both_dtypes
@pytest.mark.parametrize("estimator", [k1, k2, k3], ids=["k1", "k2", "k3"])
def test_kl_estimators(estimator, dtype):
    f = fixture(dtype)
    want = entry(f"ppo/{estimator.__name__}_tokens")
    tokens = estimator(f.old, f.ref, mask=f.mask)
    check(tokens, want["value"], dtype)
    check(masked_sum(tokens, f.mask, dim=1), want["seq_sum"], dtype)


@both_dtypes
@pytest.mark.parametrize("mode", ["replace", "subtract"])
def test_score_of_a_reply_without_eos(mode, dtype):
    f = fixture(dtype)
    scores = missing_eos(f.scores, f.has_eos, mode=mode, penalty=1.0)
    check(scores, entry(f"ppo/score_missing_eos_{mode}")["value"], dtype)


@both_dtypes
def test_token_rewards(dtype):
    f = fixture(dtype)
    check(rewards(f), entry("ppo/token_rewards")["value"], dtype)


@both_dtypes
@pytest.mark.parametrize("setting", ["g1.0_l0.95", "g0.99_l0.9", "g1.0_l1.0"])
def test_gae(setting, dtype):
    f = fixture(dtype)
    gamma, lam = (float(part[1:]) for part in setting.split("_"))
    advantages, returns = gae(rewards(f), f.values, f.mask, gamma, lam)
    check(advantages, entry(f"ppo/gae_{setting}")["value"], dtype)
    check(returns, entry(f"ppo/returns_{setting}")["value"], dtype)


def test_gae_is_not_one_of_the_known_mistakes():
    f = fixture(torch.float64)
    advantages, _ = gae(rewards(f), f.values, f.mask, 1.0, 0.95)
    assert differs(advantages, entry("ppo/BUG_gae_values_not_masked")["value"])
    variant = entry("ppo/VARIANT_nplus_trl_gae_score_at_eos_plus1")
    assert differs(rewards(f), variant["token_rewards"])
    assert differs(advantages, variant["value"])
    # The score one place late: what the variant does is known exactly, and it is not what we do.
    late = torch.tensor(variant["token_rewards"], dtype=torch.float64)
    check(late.sum(dim=1), rewards(f).sum(dim=1))
    assert not late[f.mask].equal(rewards(f)[f.mask])


def test_lambda_one_is_return_minus_value():
    f = fixture(torch.float64)
    advantages, returns = gae(rewards(f), f.values, f.mask, 1.0, 1.0)
    to_go = rewards(f).flip(1).cumsum(1).flip(1)
    error = masked_sum((advantages - (to_go - f.values)).abs(), f.mask)
    check(error, entry("ppo/gae_l1_equals_return_minus_value")["value"])
    check(torch.where(f.mask, returns, 0), torch.where(f.mask, to_go, 0))


@both_dtypes
@pytest.mark.parametrize("name, unbiased", [("biased", False), ("unbiased", True)])
def test_whitened_advantages(name, unbiased, dtype):
    check(whitened(fixture(dtype), unbiased), entry(f"ppo/adv_whitened_{name}")["value"], dtype)


@both_dtypes
@pytest.mark.parametrize("suffix, unbiased", [("", False), ("_unbiased", True)])
def test_whitened_rewards_keep_their_mean(suffix, unbiased, dtype):
    f = fixture(dtype)
    result = whiten(rewards(f), f.mask, shift_mean=False, unbiased=unbiased)
    check(result, entry(f"ppo/rewards_whitened_noshift{suffix}")["value"], dtype)


@both_dtypes
def test_ratio(dtype):
    f = fixture(dtype)
    _, ratio = ppo_clip(f.new, f.old, whitened(f), low=0.2, high=0.2, mask=f.mask)
    check(torch.where(f.mask, ratio, 0), entry("ppo/ratio")["value"], dtype)


@both_dtypes
@pytest.mark.parametrize(
    "key, mode",
    [
        ("token-mean", "token-mean"),
        ("seq-mean-token-mean", "seq-mean-token-mean"),
        ("seq-mean-token-sum", "seq-mean-token-sum"),
        ("const_C6", "constant"),
    ],
)
def test_policy_loss_aggregations(key, mode, dtype):
    f = fixture(dtype)
    loss, _ = ppo_clip(f.new, f.old, whitened(f), low=0.2, high=0.2, mask=f.mask)
    limit = int(number_after(key, "const_C")) if mode == "constant" else None
    want = entry(f"ppo/policy_loss_{key}")["value"]
    check(aggregate(loss, f.mask, mode, max_length=limit), want, dtype)
    # The same as a sum of parts and a denominator known beforehand: what objectives use.
    parts = [aggregation_sum(loss[i : i + 1], f.mask[i : i + 1], mode) for i in range(len(loss))]
    check(sum(parts) / aggregation_denominator(f.mask, mode, max_length=limit).to(dtype), want, dtype)


@both_dtypes
@pytest.mark.parametrize("key, high, dual", [("clip_higher_0.2_0.28", 0.28, None), ("dual_clip_c3", 0.2, 3.0)])
def test_policy_loss_variants(key, high, dual, dtype):
    f = fixture(dtype)
    loss, _ = ppo_clip(f.new, f.old, whitened(f), low=0.2, high=high, dual=dual, mask=f.mask)
    check(masked_mean(loss, f.mask), entry(f"ppo/policy_loss_{key}")["value"], dtype)


@both_dtypes
def test_clip_fraction_and_approximate_kl(dtype):
    f = fixture(dtype)
    advantages = whitened(f)
    _, ratio = ppo_clip(f.new, f.old, advantages, low=0.2, high=0.2, mask=f.mask)
    clipped = ppo_clipped(ratio, advantages, low=0.2, high=0.2)
    check(masked_mean(clipped.to(dtype), f.mask), entry("ppo/policy_clipfrac")["value"], dtype)
    want = entry("ppo/approx_kl")
    for estimator in (k1, k2, k3):
        # The tokens were drawn from the old policy, so this is KL(old || new).
        result = masked_mean(estimator(f.old, f.new, mask=f.mask), f.mask)
        check(result, want[estimator.__name__], dtype)


@both_dtypes
def test_value_loss(dtype):
    f = fixture(dtype)
    _, returns = gae(rewards(f), f.values, f.mask, 1.0, 0.95)
    loss, clipped = value_clip(f.new_values, f.values, returns, clip=0.2, mask=f.mask)
    want = entry("ppo/value_loss_clipped_0.2")
    check(masked_mean(loss, f.mask), want["value"], dtype)
    check(masked_mean(clipped.to(dtype), f.mask), want["clipfrac"], dtype)
    plain, _ = value_clip(f.new_values, f.values, returns, clip=None, mask=f.mask)
    check(masked_mean(plain, f.mask), entry("ppo/value_loss_unclipped")["value"], dtype)


@both_dtypes
def test_explained_variance(dtype):
    f = fixture(dtype)
    _, returns = gae(rewards(f), f.values, f.mask, 1.0, 0.95)
    check(explained_variance(f.values, returns, f.mask), entry("ppo/explained_variance")["value"], dtype)
