"""The objectives of policies by loops over tokens: signs, coefficients and what metrics average over."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from accord.batch import Batch, Forward, collate
from accord.functional.policy_losses import cispo
from accord.train.objectives import PPO, PolicyGradient
from accord.train.objectives.correction import SamplerCorrection


def sampled() -> tuple[Forward, Batch]:
    """Two replies after prompts, with ratios on both sides of every clip and noise in the padding."""
    random = torch.Generator().manual_seed(8)
    masks = [[False, True, True, True, True], [False, False, True]]
    batch = collate([[1] * len(mask) for mask in masks], masks, pad_id=0)

    def noise(scale: float = 1.0) -> Tensor:
        return scale * torch.randn(batch.ids_BT.shape, generator=random, dtype=torch.float64)

    old_BT = -noise().abs()
    out = Forward(logp_BT=old_BT + noise(0.5), entropy_BT=noise().abs(), value_BT=noise())
    fields = {"old_logp_BT": old_BT, "ref_logp_BT": -noise().abs(), "advantage_BT": noise()}
    return out, batch.replace(**fields, return_BT=noise(), old_value_BT=noise())


def tokens(out: Forward, batch: Batch) -> list[dict[str, float]]:
    fields = {"logp": out.logp_BT, "entropy": out.entropy_BT, "value": out.value_BT, "old": batch.old_logp_BT}
    fields |= {
        "ref": batch.ref_logp_BT,
        "adv": batch.advantage_BT,
        "ret": batch.return_BT,
        "old_value": batch.old_value_BT,
    }
    kept = batch.response_mask_BT.nonzero().tolist()
    return [{name: float(x[b, t]) for name, x in fields.items()} for b, t in kept]


def surrogate(k: dict[str, float], low: float, high: float) -> float:
    ratio = math.exp(k["logp"] - k["old"])
    return max(-k["adv"] * ratio, -k["adv"] * min(max(ratio, 1 - low), 1 + high))


@pytest.mark.parametrize("high", [None, 0.6])
@pytest.mark.parametrize("vf_coef, entropy_coef", [(0.1, 0.0), (0.7, 0.03)])
def test_ppo(high, vf_coef, entropy_coef):
    out, batch = sampled()
    objective = PPO(cliprange_high=high, vf_coef=vf_coef, entropy_coef=entropy_coef, cliprange_value=0.3)
    terms = objective(out, batch)
    rows = tokens(out, batch)
    policy = [surrogate(k, 0.2, 0.2 if high is None else high) for k in rows]
    value = []
    for k in rows:
        near = min(max(k["value"], k["old_value"] - 0.3), k["old_value"] + 0.3)
        value.append(0.5 * max((k["value"] - k["ret"]) ** 2, (near - k["ret"]) ** 2))
    entropy = sum(k["entropy"] for k in rows)
    assert float(terms.loss) == pytest.approx(sum(policy) + vf_coef * sum(value) - entropy_coef * entropy, abs=1e-12)
    assert float(objective.denominator(batch)) == len(rows)
    # The sampled KL(old || new): tokens were drawn from the old policy.
    kl = [math.expm1(k["logp"] - k["old"]) - (k["logp"] - k["old"]) for k in rows]
    wanted = {
        "loss/policy_avg": sum(policy),
        "loss/value_avg": sum(value),
        "objective/entropy": entropy,
        "policy/approxkl_avg": sum(kl),
        "val/ratio": sum(math.exp(k["logp"] - k["old"]) for k in rows),
    }
    for name, total in wanted.items():
        assert terms.metrics[name].value == pytest.approx(total / len(rows), abs=1e-12), name


@pytest.mark.parametrize("weighted", [True, False])
def test_policy_gradient_with_kl_and_entropy(weighted):
    out, batch = sampled()
    objective = PolicyGradient(
        epsilon_high=0.4, beta=0.2, entropy_coef=0.05, use_bias_correction_kl=weighted, loss_aggregation="token-mean"
    )
    terms = objective(out, batch)
    total, kl_sum = 0.0, 0.0
    rows = tokens(out, batch)
    for k in rows:
        log_ratio = k["ref"] - k["logp"]
        kl = (math.expm1(log_ratio) - log_ratio) * (math.exp(k["logp"] - k["old"]) if weighted else 1.0)
        kl_sum += kl
        total += surrogate(k, 0.2, 0.4) + 0.2 * kl - 0.05 * k["entropy"]
    assert float(terms.loss) == pytest.approx(total, abs=1e-12)
    assert terms.metrics["kl"].value == pytest.approx(kl_sum / len(rows), abs=1e-12)
    assert terms.metrics["objective/entropy"].value == pytest.approx(sum(k["entropy"] for k in rows) / len(rows))


def test_the_weight_of_cispo_is_a_constant_and_limited():
    logp = torch.tensor([[0.0, -1.0, -2.0]], dtype=torch.float64, requires_grad=True)
    old = logp.detach() - torch.tensor([[2.0, 0.1, -3.0]], dtype=torch.float64)
    adv = torch.tensor([[1.0, -2.0, 3.0]], dtype=torch.float64)
    loss, ratio = cispo(logp, old, adv, largest=5.0)
    (grad,) = torch.autograd.grad(loss.sum(), logp)
    weight = [5.0, math.exp(0.1), math.exp(-3.0)]
    assert grad[0].tolist() == pytest.approx([-w * float(a) for w, a in zip(weight, adv[0], strict=True)])
    assert float(ratio.detach()[0, 0]) == pytest.approx(math.exp(2.0))


@pytest.mark.parametrize("mode", ["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"])
def test_the_correction_for_the_sampler(mode):
    out, batch = sampled()
    assert batch.old_logp_BT is not None
    shift_BT = torch.zeros_like(batch.old_logp_BT)
    # Three tokens of the first reply and the only one of the second, whose weight is above the cap.
    shift_BT[0, 1:4] = torch.tensor([0.6, -0.2, 0.5], dtype=torch.float64)
    shift_BT[1, 2] = 2.0
    given = batch.replace(sampler_logp_BT=batch.old_logp_BT - shift_BT)
    found = PolicyGradient(correction=SamplerCorrection(mode, cap=2.5), loss_aggregation="token-mean")(out, given)
    total = 0.0
    weights = [0.6, -0.2, 0.5, 0.0, 2.0] if mode.startswith("token") else [0.9] * 4 + [2.0]
    for k, log_weight in zip(tokens(out, batch), weights, strict=True):
        weight = math.exp(log_weight)
        if weight > 2.5:
            weight = 2.5 if mode.endswith("truncate") else 0.0
        total += weight * surrogate(k, 0.2, 0.2)
    assert float(found.loss) == pytest.approx(total, abs=1e-12)
