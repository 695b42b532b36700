"""The losses of the group family and the corrections for the sampler, against golden values."""

from __future__ import annotations

import re

import pytest
import torch
from golden_file import both_dtypes, check, differs, entry
from policy_fixture import Fixture, fixture, rollout_logp, sequence_advantage
from torch import Tensor

from accord.batch import Forward, collate
from accord.functional.kl import k3, weighted
from accord.functional.losses import aggregate, clip_surrogate, ppo_clip
from accord.functional.masks import keep, masked_mean, masked_sum
from accord.functional.mismatch import bounded_weight, sequence_weight, token_weight
from accord.functional.policy_losses import cispo, importance_ratio, reinforce, sapo
from accord.train.objectives import PolicyGradient, SamplerCorrection


def numbers(name: str) -> list[float]:
    """Numbers in the part of an entry's name behind the slash: eps3e-4_4e-4 gives 3e-4 and 4e-4."""
    return [float(x) for x in re.findall(r"\d+(?:\.\d+)?(?:e-\d+)?", name.split("/", 1)[1])]


def clipped(f: Fixture) -> Tensor:
    return ppo_clip(f.new, f.old, sequence_advantage(f), low=0.2, high=0.2, mask=f.mask)[0]


@both_dtypes
@pytest.mark.parametrize(
    "name, mode",
    [
        ("grpo/loss_grpo", "seq-mean-token-mean"),
        ("grpo/loss_bnpo", "token-mean"),
        ("grpo/loss_dr_grpo_C6", "constant"),
    ],
)
def test_aggregations(name, mode, dtype):
    f = fixture(dtype)
    limit = int(numbers(name)[0]) if mode == "constant" else None
    check(aggregate(clipped(f), f.mask, mode, max_length=limit), entry(name)["value"], dtype)


@both_dtypes
@pytest.mark.parametrize("name", ["grpo/loss_grpo_beta0.04_k3", "grpo/loss_grpo_beta0.04_k3_isweighted"])
def test_kl_in_the_loss(name, dtype):
    f = fixture(dtype)
    penalty = k3(f.new, f.ref, mask=f.mask)
    if "isweighted" in name:
        penalty = weighted(penalty, f.new, f.old, mask=f.mask)
    loss = clipped(f) + numbers(name)[0] * penalty
    check(aggregate(loss, f.mask, "seq-mean-token-mean"), entry(name)["value"], dtype)


@both_dtypes
def test_gspo(dtype):
    f = fixture(dtype)
    ratio = importance_ratio(f.new, f.old, f.mask, "sequence")
    check(ratio[:, 0], entry("grpo/gspo_seq_ratio")["value"], dtype)
    name = "grpo/loss_gspo_eps3e-4_4e-4"
    low, high = numbers(name)
    loss = clip_surrogate(ratio, keep(sequence_advantage(f), f.mask), low=low, high=high)
    check(aggregate(loss, f.mask, "seq-mean-token-mean"), entry(name)["value"], dtype)


@both_dtypes
def test_rloo_ratio_of_whole_replies(dtype):
    f = fixture(dtype)
    want = entry("rloo/seq_loss_clip0.2")
    ratio = importance_ratio(f.new, f.old, f.mask, "sequence_sum")
    check(ratio[:, 0], want["seq_ratio"], dtype)
    clip = numbers("rloo/seq_loss_clip0.2")[0]
    loss = clip_surrogate(ratio, keep(sequence_advantage(f), f.mask), low=clip, high=clip)
    check(aggregate(loss, f.mask, "seq-mean-token-mean"), want["value"], dtype)


@both_dtypes
def test_cispo(dtype):
    f = fixture(dtype)
    name = "grpo/loss_cispo_max5"
    f.new.requires_grad_()
    loss, ratio = cispo(f.new, f.old, sequence_advantage(f), largest=numbers(name)[0], mask=f.mask)
    check(masked_mean(loss, f.mask), entry(name)["value"], dtype)
    check(keep(ratio, f.mask), entry("ppo/ratio")["value"], dtype)
    # The gradient flows through log pi alone; the weight is a constant.
    grad = torch.autograd.grad(loss.sum(), f.new)[0]
    check(keep(grad, f.mask), keep(-sequence_advantage(f) * ratio.clamp(max=numbers(name)[0]), f.mask).detach(), dtype)


@both_dtypes
def test_sapo(dtype):
    f = fixture(dtype)
    loss, _ = sapo(f.new, f.old, sequence_advantage(f), mask=f.mask)
    check(aggregate(loss, f.mask, "seq-mean-token-mean"), entry("grpo/loss_sapo")["value"], dtype)


@both_dtypes
def test_two_sided_clip(dtype):
    f = fixture(dtype)
    name = "grpo/loss_two_sided_delta1.5"
    loss, _ = ppo_clip(f.new, f.old, sequence_advantage(f), low=0.2, high=0.2, delta=numbers(name)[0], mask=f.mask)
    check(aggregate(loss, f.mask, "seq-mean-token-mean"), entry(name)["value"], dtype)


@both_dtypes
def test_plain_policy_gradient(dtype):
    f = fixture(dtype)
    loss = reinforce(f.new, sequence_advantage(f), mask=f.mask)
    name = "rloo/policy_gradient_logp_loss"
    check(aggregate(loss, f.mask, "seq-mean-token-sum"), entry(name)["value"], dtype)


@both_dtypes
def test_truncated_importance_sampling(dtype):
    f = fixture(dtype)
    name = "grpo/tis_token_truncate_C2"
    weight = bounded_weight(token_weight(f.old, rollout_logp(f), f.mask), "truncate", largest=numbers(name)[0])
    check(keep(weight, f.mask), entry(name)["value"], dtype)
    loss = aggregate(weight * clipped(f), f.mask, "seq-mean-token-mean")
    check(loss, entry("grpo/loss_grpo_tis_token_C2")["value"], dtype)
    # Weights and the ratio of the update are different things.
    assert differs(loss, entry("grpo/loss_grpo")["value"])


@both_dtypes
def test_icepop(dtype):
    f = fixture(dtype)
    name = "grpo/loss_grpo_icepop_0.5_2"
    smallest, largest = numbers(name)
    weight = token_weight(f.old, rollout_logp(f), f.mask)
    weight = bounded_weight(weight, "mask", largest=largest, smallest=smallest)
    check(aggregate(weight * clipped(f), f.mask, "seq-mean-token-mean"), entry(name)["value"], dtype)


@both_dtypes
def test_weights_of_whole_replies(dtype):
    f = fixture(dtype)
    want = entry("grpo/seq_is_weight")
    check(sequence_weight(f.old, rollout_logp(f), f.mask), want["value"], dtype)
    found = sequence_weight(f.old, rollout_logp(f), f.mask, geometric_mean=True)
    check(found, want["geometric_mean"], dtype)


def in_batch(f: Fixture):
    """The fixture as the batch and the forward pass that an objective gets: a prompt token, then the reply."""
    lengths = f.mask.sum(1).tolist()
    batch = collate([[1] * (n + 1) for n in lengths], [[False] + [True] * n for n in lengths], pad_id=0)

    def place(x: Tensor) -> Tensor:
        return torch.nn.functional.pad(keep(x, f.mask), (1, 0))

    batch = batch.replace(
        old_logp_BT=place(f.old),
        ref_logp_BT=place(f.ref),
        sampler_logp_BT=place(rollout_logp(f)),
        advantage_BT=place(sequence_advantage(f)),
    )
    return Forward(logp_BT=place(f.new)), batch


OBJECTIVES = {
    "grpo/loss_grpo": {},
    "grpo/loss_bnpo": {"loss_aggregation": "token-mean"},
    "grpo/loss_dr_grpo_C6": {"loss_aggregation": "constant", "max_completion_length": 6},
    "grpo/loss_grpo_beta0.04_k3": {"beta": 0.04, "kl_estimator": "k3", "use_bias_correction_kl": False},
    "grpo/loss_grpo_beta0.04_k3_isweighted": {"beta": 0.04, "kl_estimator": "k3"},
    "grpo/loss_gspo_eps3e-4_4e-4": {"epsilon": 3e-4, "epsilon_high": 4e-4, "importance_sampling_level": "sequence"},
    "grpo/loss_cispo_max5": {"loss": "cispo", "epsilon_high": 5.0, "loss_aggregation": "token-mean"},
    "grpo/loss_sapo": {"loss": "sapo"},
    "grpo/loss_two_sided_delta1.5": {"delta": 1.5},
    "grpo/loss_grpo_tis_token_C2": {"correction": SamplerCorrection("token_truncate", 2.0)},
    "grpo/loss_grpo_icepop_0.5_2": {"correction": SamplerCorrection("token_mask", 2.0, 0.5)},
    "rloo/seq_loss_clip0.2": {"importance_sampling_level": "sequence_sum"},
    "rloo/policy_gradient_logp_loss": {"loss": "reinforce", "loss_aggregation": "seq-mean-token-sum"},
}


@both_dtypes
@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_objective_from_batch_to_mean_loss(name, dtype):
    out, batch = in_batch(fixture(dtype))
    objective = PolicyGradient(**({"loss_aggregation": "seq-mean-token-mean"} | OBJECTIVES[name]))
    parts = [
        objective(Forward(logp_BT=out.logp_BT[i : i + 1, : int(n)]), batch.select([i]))
        for i, n in enumerate(batch.lengths_B)
    ]
    total = objective.denominator(batch).to(dtype)
    check(objective(out, batch).loss / total, entry(name)["value"], dtype)
    check(sum(part.loss for part in parts) / total, entry(name)["value"], dtype)


def test_every_loss_of_the_file_is_checked():
    from golden_file import ENTRIES

    losses = {name for name in ENTRIES if name.startswith(("grpo/loss_", "rloo/"))}
    assert losses == set(OBJECTIVES)


def test_a_sum_over_a_reply_is_a_sum_over_its_tokens():
    f = fixture(torch.float64)
    product = token_weight(f.old, rollout_logp(f), f.mask).log()
    check(masked_sum(product, f.mask, dim=1).exp(), sequence_weight(f.old, rollout_logp(f), f.mask))
