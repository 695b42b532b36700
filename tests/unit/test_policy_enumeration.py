"""The on-policy algorithms by exact enumeration: every reply of up to three tokens out of three, with its probability.

Credit and objective are those that training uses. The expectation of their gradient over what is sampled is compared
with the gradient of E[score] - beta KL, differentiated exactly; what is biased is biased by the amount stated.
"""

from __future__ import annotations

import pytest
import torch
from enumerated_world import BETA, LENGTH, UNCLIPPED, World, close
from torch import Tensor

from accord.batch import Batch
from accord.functional.advantages import returns_to_go
from accord.functional.kl import k1, k2, k3
from accord.functional.masks import masked_sum
from accord.train.credit import (
    GAECredit,
    GRPOCredit,
    OPOCredit,
    ReinforceCredit,
    ReMaxCredit,
    RLOOCredit,
)
from accord.train.objectives import PPO, PolicyGradient, SamplerCorrection

SUMS = {"loss_aggregation": "seq-mean-token-sum"}
CLIP = PolicyGradient(**SUMS)
PLAIN = PolicyGradient("reinforce", **SUMS)
WHOLE = PolicyGradient(importance_sampling_level="sequence_sum", loss_aggregation="seq-mean-token-mean")
"""The ratio of the whole reply on each of its tokens; the mean over them is one number a reply."""


@pytest.fixture(params=[False, True], ids=["three tokens", "with stop token"])
def world(request: pytest.FixtureRequest) -> World:
    return World(request.param)


def cosine(a: Tensor, b: Tensor) -> float:
    return float((a * b).sum() / a.norm() / b.norm())


@pytest.mark.parametrize("objective", [PLAIN, CLIP], ids=["reinforce", "clip"])
def test_reinforce_without_baseline(world, objective):
    batch = ReinforceCredit("none")(world.scored(world.table), kl_coef=BETA)
    assert close(world.expected(objective, batch, world.p(world.table)), world.truth(BETA))


def test_a_batch_mean_as_baseline_shrinks_the_gradient_by_one_over_n_and_does_not_turn_it(world):
    """Batches of two independent replies."""

    def credit(batch: Batch, *, kl_coef: float) -> Batch:
        parts = [
            ReinforceCredit("batch_mean")(batch.select([b, b + 1]), kl_coef=kl_coef)
            for b in range(0, batch.num_rows, 2)
        ]
        width = batch.ids_BT.shape[1]
        pads = [torch.nn.functional.pad(p.advantage_BT, (0, width - p.advantage_BT.shape[1])) for p in parts]
        return batch.replace(advantage_BT=torch.cat(pads))

    assert close(world.expected(PLAIN, *world.pairs(credit, BETA)), world.truth(BETA) / 2)


def test_ppo_with_gae_1_at_the_first_step(world):
    batch = GAECredit(1.0, 1.0, whiten_advantages=False)(world.scored(world.table), kl_coef=BETA)
    found = world.expected(PPO(vf_coef=0.0, **SUMS), batch, world.p(world.table))
    assert close(found, world.truth(BETA))
    short = GAECredit(1.0, 0.5, whiten_advantages=False)(world.scored(world.table), kl_coef=BETA)
    found = world.expected(PPO(vf_coef=0.0, **SUMS), short, world.p(world.table))
    assert not close(found, world.truth(BETA)), "lambda below 1 trusts the critic, which is wrong here"


@pytest.mark.parametrize("objective", [CLIP, WHOLE, PLAIN], ids=["token ratio", "reply ratio", "no ratio"])
def test_rloo_with_the_kl_before_the_baseline(world, objective):
    assert close(world.expected(objective, *world.pairs(RLOOCredit(), BETA)), world.truth(BETA))


def test_remax(world):
    batch = world.scored(world.table).replace(baseline_B=torch.full((world.n,), 0.7, dtype=torch.float64))
    batch = ReMaxCredit()(batch, kl_coef=BETA)
    assert close(world.expected(CLIP, batch, world.p(world.table)), world.truth(BETA))


def test_grpo_without_std_is_short_by_one_over_k(world):
    """The group's mean holds the reply itself: (k - 1) / k of the gradient, its direction right."""
    assert close(world.expected(CLIP, *world.pairs(GRPOCredit("none"), BETA)), world.truth(BETA) / 2)


def test_grpo_with_std_climbs_the_rate_of_wins_and_not_the_score(world):
    """Two replies: (r - mean) / std is +-1/sqrt(2), however large the difference."""
    found = world.expected(CLIP, *world.pairs(GRPOCredit("group"), 0.0))
    p = world.p(world.table)
    gap = world.score[:, None] - world.score[None, :]
    share = gap / 2 / (gap.abs() / 2**0.5 + 1e-4)
    assert close(found, world.weighted_score(p * (share * p).sum(1)))
    assert cosine(found, world.truth()) < 0.99
    # The best reply twice as good: the true gradient moves, that of GRPO hardly does.
    better = world.score.clone()
    better[better.argmax()] += 2.0
    again = world.expected(CLIP, *world.pairs(GRPOCredit("group"), 0.0, better))
    assert (again - found).norm() < 1e-3 * (world.truth(score=better) - world.truth()).norm()


def test_a_mean_over_each_reply_weighs_short_replies_more(world):
    objective = PolicyGradient(loss_aggregation="seq-mean-token-mean")
    found = world.expected(objective, *world.pairs(RLOOCredit(), 0.0))
    lengths = world.mask.sum(1)
    p = world.p(world.table)
    baseline = (p * world.score).sum()
    assert close(found, world.weighted_score(p * (world.score - baseline) / lengths))
    assert close(found * LENGTH, world.truth()) == bool((lengths == LENGTH).all())


def test_the_length_weighted_baseline_of_opo_is_right_for_equal_lengths_only(world):
    found = world.expected(CLIP, *world.pairs(OPOCredit(), 0.0))
    lengths = world.mask.sum(1).double()
    p = world.p(world.table)
    # With two replies the advantage is l_j (r_i - r_j) / (l_i + l_j).
    gap = lengths[None, :] * (world.score[:, None] - world.score[None, :]) / (lengths[:, None] + lengths[None, :])
    assert close(found, world.weighted_score(p * (gap * p).sum(1)))
    assert close(found, world.truth() / 2) == bool((lengths == LENGTH).all())


# Off-policy: replies from an older policy, or from a sampler that is not the learner.


def test_the_ratio_of_the_reply_is_exact_wherever_the_policy_is(world):
    objective = PolicyGradient(
        importance_sampling_level="sequence_sum",
        epsilon=UNCLIPPED,
        epsilon_high=UNCLIPPED,
        loss_aggregation="seq-mean-token-mean",
    )
    found = world.expected(objective, *world.pairs(RLOOCredit(), 0.0, old=world.old_table))
    assert close(found, world.truth())


def test_the_ratio_of_tokens_leaves_out_how_the_other_tokens_changed(world):
    objective = PolicyGradient(epsilon=UNCLIPPED, epsilon_high=UNCLIPPED, **SUMS)
    batch = ReinforceCredit("none")(world.scored(world.old_table), kl_coef=0.0)
    found = world.expected(objective, batch, world.p(world.old_table))
    ratio = (world.logp(world.table) - batch.old_logp_BT).exp().detach()
    others = ratio.prod(1, keepdim=True) / ratio
    weight = world.p(world.old_table) * world.score
    with_all = world.gradient((weight[:, None] * ratio * others * world.logp(world.table)).sum())
    assert close(with_all, world.truth())
    missing = world.gradient((weight[:, None] * ratio * (others - 1) * world.logp(world.table)).sum())
    assert close(found, world.truth() - missing)
    assert not close(found, world.truth())


def test_the_clip_takes_the_gradient_of_exactly_the_clipped_tokens(world):
    batch = ReinforceCredit("none")(world.scored(world.old_table), kl_coef=0.0)
    p = world.p(world.old_table)
    open_ = PolicyGradient(epsilon=UNCLIPPED, epsilon_high=UNCLIPPED, **SUMS)
    ratio = (world.logp(world.table) - batch.old_logp_BT).exp().detach()
    advantage = batch.advantage_BT
    stopped = world.mask & (((ratio > 1.2) & (advantage > 0)) | ((ratio < 0.8) & (advantage < 0)))
    assert stopped.any() and not stopped[world.mask].all()
    lost = world.gradient((p[:, None] * ratio * advantage * stopped * world.logp(world.table)).sum())
    assert close(world.expected(CLIP, batch, p), world.expected(open_, batch, p) - lost)


def test_gspo_at_the_first_step_and_later(world):
    objective = PolicyGradient(importance_sampling_level="sequence", epsilon=UNCLIPPED, epsilon_high=UNCLIPPED)
    plain = PolicyGradient(loss_aggregation="seq-mean-token-mean")
    # On-policy it is the group loss with a mean over each reply, biased by the lengths like that one.
    assert close(
        world.expected(objective, *world.pairs(RLOOCredit(), 0.0)),
        world.expected(plain, *world.pairs(RLOOCredit(), 0.0)),
    )
    # Off-policy the geometric mean of the ratios stands where their product would be right.
    batch = ReinforceCredit("none")(world.scored(world.old_table), kl_coef=0.0)
    p, lengths = world.p(world.old_table), world.mask.sum(1)
    product = (world.logp(world.table) - batch.old_logp_BT).sum(1).exp().detach()
    found = world.expected(objective, batch, p)
    assert close(found, world.weighted_score(p * product ** (1 / lengths) * world.score / lengths))
    assert not close(found, world.weighted_score(p * product * world.score / lengths))


def test_cispo_and_sapo_start_as_reinforce(world):
    for objective in (
        PolicyGradient("cispo", epsilon_high=5.0, **SUMS),
        PolicyGradient("sapo", **SUMS),
    ):
        assert close(world.expected(objective, *world.pairs(RLOOCredit(), BETA)), world.truth(BETA))


def test_a_sampler_of_other_probabilities_is_corrected_by_the_weight_of_the_reply(world):
    batch = ReinforceCredit("none")(world.scored(world.table), kl_coef=BETA)
    drawn = world.p(world.sampler_table)
    correct = PolicyGradient("reinforce", correction=SamplerCorrection("sequence_truncate", UNCLIPPED), **SUMS)
    assert close(world.expected(correct, batch, drawn), world.truth(BETA))
    assert not close(world.expected(PLAIN, batch, drawn), world.truth(BETA))


def test_a_cap_on_the_weights_costs_what_is_cut_off(world):
    batch = ReinforceCredit("none")(world.scored(world.table), kl_coef=0.0)
    drawn, wanted = world.p(world.sampler_table), world.p(world.table)
    weight = wanted / drawn
    cap = float(weight.quantile(0.7))
    over = weight > cap
    for mode, kept in (("sequence_truncate", cap), ("sequence_mask", 0.0)):
        found = world.expected(
            PolicyGradient("reinforce", correction=SamplerCorrection(mode, cap), **SUMS), batch, drawn
        )
        lost = world.weighted_score(torch.where(over, drawn * (weight - kept) * world.score, 0.0))
        assert close(found, world.truth() - lost), mode


# The KL in the loss.


def own_token_kl(world: World, *, forward: bool = False) -> Tensor:
    """Gradient of the KL of each state's next token, states as often as the policy visits them (a constant)."""
    p_state = torch.zeros(len(world.table), dtype=torch.float64)
    visits = world.p(world.table)[:, None] * world.mask
    p_state.index_add_(0, world.state[world.mask], visits[world.mask])
    policy, ref = world.table.log_softmax(-1), world.ref_table.log_softmax(-1)
    each = (ref.exp() * (ref - policy) if forward else policy.exp() * (policy - ref)).sum(-1)
    return world.gradient((p_state * each).sum())


@pytest.mark.parametrize("estimator, corrected", [("k1", True), ("k2", False), ("k3", True)])
def test_kl_in_the_loss_has_the_reverse_gradient_of_each_token_and_misses_later_states(world, estimator, corrected):
    objective = PolicyGradient(beta=1.0, kl_estimator=estimator, use_bias_correction_kl=corrected, **SUMS)
    nothing = world.scored(world.table).replace(advantage_BT=torch.zeros_like(world.value))
    found = -world.expected(objective, nothing, world.p(world.table))
    assert close(found, own_token_kl(world))
    # What is missing is the effect of a token on the divergence behind it.
    k1_BT = k1(world.logp(world.table), world.logp(world.ref_table)).detach()
    later_BT = torch.where(world.mask, k1_BT.flip(1).cumsum(1).flip(1) - k1_BT, 0.0)
    missing = world.gradient((world.p(world.table)[:, None] * later_BT * world.logp(world.table)).sum())
    whole = -world.truth(1.0, torch.zeros_like(world.score))
    assert close(found + missing, whole)
    assert not close(found, whole)


def test_k3_in_the_loss_without_the_ratio_has_the_gradient_of_the_forward_kl(world):
    objective = PolicyGradient(beta=1.0, kl_estimator="k3", use_bias_correction_kl=False, **SUMS)
    nothing = world.scored(world.table).replace(advantage_BT=torch.zeros_like(world.value))
    found = -world.expected(objective, nothing, world.p(world.table))
    assert close(found, own_token_kl(world, forward=True))
    assert not close(found, own_token_kl(world))


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_the_weighted_kl_stays_right_off_policy_for_the_state_it_is_in(world, estimator):
    objective = PolicyGradient(beta=1.0, kl_estimator=estimator, **SUMS)
    nothing = world.scored(world.old_table).replace(advantage_BT=torch.zeros_like(world.value))
    found = -world.expected(objective, nothing, world.p(world.old_table))
    visits = world.p(world.old_table)[:, None] * world.mask
    p_state = torch.zeros(len(world.table), dtype=torch.float64).index_add_(
        0, world.state[world.mask], visits[world.mask]
    )
    policy, ref = world.table.log_softmax(-1), world.ref_table.log_softmax(-1)
    assert close(found, world.gradient((p_state * (policy.exp() * (policy - ref)).sum(-1)).sum()))


@pytest.mark.parametrize("estimator", [k2, k3])
def test_k2_and_k3_in_the_reward_miss_the_gradient_of_the_estimator_itself(world, estimator):
    """A reward is a constant. Of k1 that costs nothing; of k2 the reverse, of k3 the forward KL of each token."""
    logp, ref = world.logp(world.table), world.logp(world.ref_table)
    reward = torch.where(world.mask, -estimator(logp, ref).detach(), 0.0)
    to_go = returns_to_go(reward, world.mask)
    batch = world.scored(world.table).replace(advantage_BT=to_go)
    found = -world.expected(CLIP, batch, world.p(world.table))
    whole = world.gradient(
        (world.logp(world.table).sum(1).exp() * estimator(world.logp(world.table), ref).sum(1)).sum()
    )
    assert close(found, whole - own_token_kl(world, forward=estimator is k3))
    assert not close(found, -world.truth(1.0, torch.zeros_like(world.score)))
    if estimator is k3:  # its expectation is the KL itself
        assert close(whole, -world.truth(1.0, torch.zeros_like(world.score)))


def test_estimators_whose_gradient_means_nothing_are_refused():
    with pytest.raises(ValueError, match="k1 in the loss"):
        PolicyGradient(beta=0.1, kl_estimator="k1", use_bias_correction_kl=False)
    with pytest.raises(ValueError, match="k2 times the ratio"):
        PolicyGradient(beta=0.1, kl_estimator="k2")


def test_the_variance_of_rloo_falls_with_k():
    """The gradient's variance for the same number of replies, k = 2 and k = 3, in the world without stops."""
    world = World(True)
    p = world.p(world.table)
    grads = torch.stack([world.gradient(world.logp(world.table)[i].sum()).flatten() for i in range(world.n)])
    spread = {}
    for k in (2, 3):
        rows = torch.cartesian_prod(*[torch.arange(world.n)] * k)
        weight = p[rows].prod(1)
        score = world.score[rows]
        advantage = k / (k - 1) * (score - score.mean(1, keepdim=True))
        gradient = (advantage[:, :, None] * grads[rows]).mean(1)
        mean = (weight[:, None] * gradient).sum(0)
        assert (mean - world.truth().flatten()).abs().max() < 1e-8
        spread[k] = k * float((weight[:, None] * (gradient - mean).square()).sum())
    assert spread[3] < spread[2]


def test_the_enumeration_is_complete(world):
    for table in (world.table, world.old_table, world.sampler_table, world.ref_table):
        assert world.p(table).sum().item() == pytest.approx(1.0, abs=1e-12)
    assert masked_sum(world.logp(world.table), world.mask, dim=1).max() < 0
