"""What must hold before the first optimiser step, on real models with the real engine."""

from __future__ import annotations

import math

import pytest
import torch

from accord.batch import Batch, Mean
from accord.functional import kl
from accord.functional.masks import masked_sum
from accord.models.build import copy_frozen
from accord.models.lora import adapters_off, add_lora
from accord.models.policy import CausalModel
from accord.models.trunk import write_out
from accord.train.examples import Example, Row
from accord.train.loop import update
from accord.train.objectives import DPO, PPO, PolicyGradient, SamplerCorrection
from accord.train.sources import batch_of, with_reference
from train_models import (
    BOS,
    PAD,
    STOP,
    VOCAB,
    actor_critic,
    causal,
    count_reward,
    make_learner,
    on_policy,
    random_batch,
    same_weights,
    weights,
    widen,
)

TEMPERATURES = [0.7, 1.0, 1.6]
MODULE = actor_critic()
ROUNDS = {t: on_policy(MODULE, temperature=t, max_new_tokens=12).prepare() for t in TEMPERATURES}


CORRECTION = SamplerCorrection("token_truncate", 3.0)
CRITIC_FREE = [
    PolicyGradient(beta=0.1, correction=CORRECTION),
    PolicyGradient(importance_sampling_level="sequence", epsilon=3e-4, beta=0.1, correction=CORRECTION),
    PolicyGradient(importance_sampling_level="sequence_sum", beta=0.1, correction=CORRECTION),
    PolicyGradient("reinforce", beta=0.1, correction=CORRECTION),
    PolicyGradient("cispo", epsilon_high=5.0, beta=0.1, correction=CORRECTION),
    PolicyGradient("sapo", beta=0.1, correction=CORRECTION),
]


def metrics_of(batch: Batch, temperature: float, budget: int) -> dict[str, Mean]:
    sums: dict[str, Mean] = {}
    with torch.no_grad():
        for part in batch.split(budget):
            terms = PPO()(MODULE(part, temperature=temperature, entropy=True), part)
            for name, mean in terms.metrics.items():
                sums[name] = sums[name] + mean if name in sums else mean
    return sums


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("budget", [1, 30, 64, 10**9])
def test_the_ratio_is_one_and_nothing_is_clipped_for_any_split(temperature: float, budget: int) -> None:
    batch = ROUNDS[temperature]
    got = metrics_of(batch, temperature, budget)
    assert abs(got["val/ratio"].value - 1) < 1e-5
    assert abs(got["policy/approxkl_avg"].value) < 1e-5
    assert got["policy/clipfrac_avg"].value == 0
    assert got["val/clipfrac_avg"].value == 0
    # Not only on average: every token's ratio.
    for part in batch.split(budget):
        with torch.no_grad():
            logp_BT = MODULE(part, temperature=temperature).logp_BT
        assert (torch.exp(logp_BT - part.old_logp_BT) - 1).abs().max() < 1e-5


@pytest.mark.parametrize("extra", [1, 9])
@pytest.mark.parametrize("fill", [PAD, STOP, 11])
def test_the_ratio_is_one_for_any_padding(extra: int, fill: int) -> None:
    wide = widen(ROUNDS[1.0], extra, fill)
    with torch.no_grad():
        out = MODULE(wide, entropy=True)
        terms = PPO()(out, wide)
    assert abs(terms.metrics["val/ratio"].value - 1) < 1e-5
    assert abs(terms.metrics["policy/approxkl_avg"].value) < 1e-5
    assert terms.metrics["policy/clipfrac_avg"].value == 0
    mask_BT = wide.response_mask_BT
    assert (torch.exp(out.logp_BT - wide.old_logp_BT)[mask_BT] - 1).abs().max() < 1e-5


@pytest.mark.parametrize("objective", CRITIC_FREE, ids=lambda o: f"{o.loss} {o.importance_sampling_level}")
@pytest.mark.parametrize("budget, extra", [(1, 0), (64, 0), (10**9, 0), (10**9, 7)])
def test_the_ratio_is_one_without_a_critic_too(objective: PolicyGradient, budget: int, extra: int) -> None:
    batch = widen(ROUNDS[0.7], extra, STOP)
    sums: dict[str, Mean] = {}
    with torch.no_grad():
        for part in [batch] if extra else batch.split(budget):
            for name, mean in objective(MODULE.policy(part, temperature=0.7), part).metrics.items():
                sums[name] = sums[name] + mean if name in sums else mean
    assert abs(sums["val/ratio"].value - 1) < 1e-5
    assert abs(sums["policy/approxkl_avg"].value) < 1e-5
    assert abs(sums["kl"].value) < 1e-5, "the reference is the policy as it is"
    assert abs(sums["sampler/weight"].value - 1) < 1e-4, "the engine has the same weights"
    assert all(mean.value == 0 for name, mean in sums.items() if "clip" in name)


def test_the_first_update_reports_the_invariants_too() -> None:
    module = actor_critic()
    source = on_policy(module)
    learner = make_learner(module, source.forward, token_budget=30)
    metrics = update(learner, next(iter(source)), PPO())
    assert abs(metrics["val/ratio"] - 1) < 1e-5
    assert metrics["policy/clipfrac_avg"] == 0
    assert abs(metrics["policy/approxkl_avg"]) < 1e-5
    again = update(learner, ROUNDS[1.0], PPO())
    assert abs(again["val/ratio"] - 1) > 1e-4, "these invariants can fail"


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_sampler_and_learner_agree_on_every_token(temperature: float) -> None:
    batch = ROUNDS[temperature]
    mask_BT = batch.response_mask_BT
    assert (batch.sampler_logp_BT - batch.old_logp_BT)[mask_BT].abs().max() < 1e-4
    assert batch.old_logp_BT[mask_BT].std() > 0.1
    assert not batch.sampler_logp_BT[~mask_BT].any()


def test_with_the_reference_equal_to_the_policy_the_kl_is_zero() -> None:
    batch = ROUNDS[1.0]
    k1_BT = kl.k1(batch.old_logp_BT, batch.ref_logp_BT)
    assert masked_sum(k1_BT, batch.response_mask_BT, dim=1).abs().max() < 1e-5
    source = on_policy(MODULE)
    source.prepare()
    report = source.report()
    assert abs(report["objective/kl"]) < 1e-5
    assert report["sampler/mean_abs_dlogp"] < 1e-5
    # With no KL, the whole reward of a reply is its score, at its last token.
    total_B = batch.token_reward_BT.sum(dim=1)
    assert (total_B - batch.score_B).abs().max() < 1e-5


def test_a_moved_policy_has_a_kl() -> None:
    module = actor_critic()
    source = on_policy(module)
    with torch.no_grad():
        for parameter in module.policy.parameters():
            parameter.add_(0.05 * torch.ones_like(parameter).cumsum(0).sin())
    source.prepare()
    assert source.report()["objective/kl"] > 0.01


def test_the_stop_token_is_in_the_mask_and_carries_score_and_gradient() -> None:
    module = actor_critic()
    source = on_policy(module, max_new_tokens=40, prompts=20, num_prompts=16)
    batch = source.prepare()
    stopped = [i for i, r in enumerate(source.rollouts) if r.completion.finish == "stop"]
    assert 0 < len(stopped) < batch.num_rows, "both kinds of replies are wanted here"
    last_B = batch.lengths_B - 1
    for row in stopped:
        assert batch.ids_BT[row, last_B[row]] == STOP
        assert batch.response_mask_BT[row, last_B[row]]
        assert abs(float(batch.token_reward_BT[row, last_B[row]] - batch.score_B[row])) < 1e-5
    assert not batch.response_mask_BT[~batch.token_mask_BT].any()
    assert not batch.response_mask_BT[:, 0].any()

    alone = torch.zeros_like(batch.advantage_BT)
    row = stopped[0]
    alone[row, last_B[row]] = 1.0
    module.zero_grad()
    out = source.forward(batch)
    PPO(vf_coef=0.0)(out, batch.replace(advantage_BT=alone)).loss.backward()
    grad = module.policy.inner.get_output_embeddings().weight.grad
    assert grad[STOP].norm() > 1e-3
    assert grad[STOP].norm() == max(grad.norm(dim=1)[i] for i in range(VOCAB))


def test_old_values_are_those_of_the_critic() -> None:
    batch = ROUNDS[1.0]
    with torch.no_grad():
        for row in range(3):
            one = batch.select([row])
            value_BT = MODULE(one).value_BT
            assert (value_BT - one.old_value_BT).abs().max() < 1e-5
    assert batch.old_value_BT.std() > 0.05
    assert (batch.return_BT - batch.old_value_BT)[batch.response_mask_BT].std() > 0.05


def pairs(num: int = 5) -> list[Example]:
    batch = random_batch(num, seed=8)
    rows = [
        Row(tuple(batch.ids_BT[b, :n].tolist()), tuple(batch.response_mask_BT[b, :n].tolist()))
        for b, n in enumerate(batch.lengths_B.tolist())
    ]
    return [Example(f"e{i}", (rows[2 * i], rows[2 * i + 1])) for i in range(num)]


@pytest.mark.parametrize("budget", [1, 40, 10**9])
@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_the_first_loss_of_dpo_is_ln_2(budget: int, beta: float) -> None:
    policy = causal()
    examples = with_reference(pairs(), copy_frozen(policy), pad_id=PAD, token_budget=30, device=torch.device("cpu"))
    batch = batch_of(examples, PAD)
    learner = make_learner(policy, token_budget=budget)
    metrics = update(learner, batch, DPO(beta=beta))
    assert abs(metrics["loss"] - math.log(2)) < 1e-6
    assert abs(metrics["rewards/margins"]) < 1e-5
    assert abs(update(learner, batch, DPO(beta=beta))["loss"] - math.log(2)) > 1e-5, "one step moves it"


def test_the_reference_of_a_lora_policy_is_the_frozen_copy_whatever_is_learned() -> None:
    plain = causal()
    frozen = copy_frozen(plain)
    write_out(frozen, on=False)  # a model with adapters runs its own forward, so that is compared bit for bit
    policy = CausalModel(add_lora(plain.hf, r=2, targets=["q_proj", "down_proj"]))
    before = weights(frozen)

    def reference(batch: Batch):
        with adapters_off(policy):
            return policy(batch)

    cpu = torch.device("cpu")
    batch = batch_of(with_reference(pairs(), reference, pad_id=PAD, token_budget=30, device=cpu), PAD)
    learner = make_learner(policy, learning_rate=0.05)
    assert len(learner.trainable()) == 4
    first = update(learner, batch, DPO())["loss"]
    assert abs(first - math.log(2)) < 1e-6
    for _ in range(3):
        last = update(learner, batch, DPO())["loss"]
    assert last < first - 0.01
    with torch.no_grad():
        assert torch.equal(reference(batch).logp_BT, frozen(batch).logp_BT)
        assert not torch.equal(policy(batch).logp_BT, frozen(batch).logp_BT)
    assert same_weights(before, weights(frozen))


def test_prompts_begin_with_their_first_token_and_are_never_trained() -> None:
    batch = ROUNDS[1.0]
    assert (batch.ids_BT[:, 0] == BOS).all()
    source = on_policy(MODULE)
    batch = source.prepare()
    for b, rollout in enumerate(source.rollouts):
        start = len(rollout.prompt_ids)
        assert not batch.response_mask_BT[b, :start].any()
        assert int(batch.response_mask_BT[b].sum()) == len(rollout.completion.token_ids)
    assert [s.value for s in count_reward(source.rollouts)] == pytest.approx(batch.score_B.tolist(), abs=1e-6)
