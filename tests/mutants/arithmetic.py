"""Faults in masks, KL estimators, token losses and advantages."""

from __future__ import annotations

from mutants.mutant import mutants

_PPO = "golden/test_golden_ppo.py unit/test_guards_losses.py property/test_functional_losses.py"
_GRPO = "golden/test_golden_grpo.py"
_ADVANTAGES = "golden/test_golden_ppo.py golden/test_golden_group.py property/test_functional_advantages.py"

ARITHMETIC = [
    *mutants(
        "functional/masks.py",
        "property/test_functional_masks.py unit/test_guards_losses.py",
        [
            (
                "a mask multiplies, so that NaN under it survives",
                "torch.where(mask, x, torch.zeros((), dtype=x.dtype, device=x.device))",
                "x * mask.to(x.dtype)",
            ),
            (
                "padding counts in means",
                "masked_sum(x, mask, dim) / count.clamp(min=1)",
                "masked_sum(x, mask, dim) / (mask.numel() if dim is None else mask.shape[dim])",
            ),
            ("a mean over nothing is NaN", "masked_sum(x, mask, dim) / count.clamp(min=1)", "keep(x, mask).mean()"),
            ("variances are always unbiased", "(count - int(unbiased)).clamp(min=1)", "(count - 1).clamp(min=1)"),
            ("masks are one token too long", "[None, :] < lengths_B[:, None]", "[None, :] <= lengths_B[:, None]"),
            ("the stop token is masked out", "positions[None, :] + 1, limit_B", "positions[None, :], limit_B"),
            ("a reply ends at its last stop token", "return ends_BT.amin(dim=1)", "return ends_BT.amax(dim=1)"),
            ("only one stop id stops", "torch.isin(ids_BT, stops) &", "(ids_BT == stops[0]) &"),
            (
                "stop ids are looked for in the padding",
                " & (positions[None, :] < limit_B[:, None])",
                "",
            ),
        ],
    ),
    *mutants(
        "functional/kl.py",
        "golden/test_golden_kl.py golden/test_golden_grpo.py property/test_functional_losses.py",
        [
            (
                "k1 has the wrong sign",
                "keep(logp, mask) - keep(ref_logp, mask)",
                "keep(ref_logp, mask) - keep(logp, mask)",
            ),
            ("k2 without the half", "return 0.5 * k1(", "return k1("),
            ("k3 of the wrong direction", "log_ratio = -k1(", "log_ratio = k1("),
            ("k3 is not zero at equality", "torch.expm1(log_ratio)", "torch.exp(log_ratio)"),
            (
                "the ratio of a weighted estimate is detached",
                "return estimate * token_ratio(logp, old_logp, mask=mask)",
                "return estimate * token_ratio(logp, old_logp, mask=mask).detach()",
                "unit/test_policy_enumeration.py::test_the_weighted_kl_stays_right_off_policy_for_the_state_it_is_in",
            ),
            (
                "the controller's error is not clipped",
                "error = min(max(kl_seq / target - 1.0, -0.2), 0.2)",
                "error = kl_seq / target - 1.0",
            ),
            ("the controller forgets the batch size", "error * n / horizon", "error / horizon"),
            ("the controller lowers beta when the KL is high", "(1.0 + error", "(1.0 - error"),
        ],
    ),
    *mutants(
        "functional/losses.py",
        _PPO,
        [
            (
                "log-probabilities without temperature",
                "scaled = logits if temperature == 1.0 else logits / temperature",
                "scaled = logits",
                "golden/test_golden_kl.py",
            ),
            (
                "entropy without temperature",
                "scaled = logits / temperature\n",
                "scaled = logits\n",
                "golden/test_golden_kl.py property/test_functional_losses.py unit/test_functional_by_hand.py",
            ),
            (
                "entropy is NaN where a token cannot be sampled",
                "torch.where(torch.isinf(scaled), torch.zeros_like(scaled), scaled)",
                "scaled",
            ),
            ("the optimistic side of the clip", "torch.maximum(-adv * bounded", "torch.minimum(-adv * bounded"),
            (
                "clip-higher is ignored",
                "torch.maximum(-adv * bounded, -adv * ratio.clamp(1.0 - low, 1.0 + high))",
                "torch.maximum(-adv * bounded, -adv * ratio.clamp(1.0 - low, 1.0 + low))",
            ),
            (
                "dual clip for positive advantages too",
                "torch.where(adv < 0, torch.minimum(loss, -dual * adv), loss)",
                "torch.minimum(loss, -dual * adv)",
            ),
            ("the two-sided clip is ignored", "ratio if delta is None else ratio.clamp(max=delta)", "ratio", _GRPO),
            (
                "the ratio is upside down",
                "log_ratio = keep(logp, mask) - keep(old_logp, mask)",
                "log_ratio = keep(old_logp, mask) - keep(logp, mask)",
            ),
            ("ratios overflow", "log_ratio.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()", "log_ratio.exp()"),
            ("NaN advantages on padding", "clip_surrogate(ratio, keep(adv, mask),", "clip_surrogate(ratio, adv,"),
            (
                "every token counts as clipped",
                "ratio.clamp(1.0 - low, 1.0 + high) > -adv * ratio",
                "ratio.clamp(1.0 - low, 1.0 + high) >= -adv * ratio",
            ),
            (
                "values are clipped around the return",
                "torch.minimum(torch.maximum(value, old_value - clip), old_value + clip)",
                "torch.minimum(torch.maximum(value, ret - clip), ret + clip)",
            ),
            ("clipped value loss without the half", "return 0.5 * torch.maximum(error", "return torch.maximum(error"),
            ("the smaller value error counts", "0.5 * torch.maximum(error", "0.5 * torch.minimum(error"),
            ("value loss without the half", "return 0.5 * error, ", "return error, "),
            (
                "empty rows count as rows",
                "return masked_mean(masked_mean(loss_BT, mask_BT, dim=1), row_mask_B)",
                "return masked_mean(loss_BT, mask_BT, dim=1).mean()",
            ),
            (
                "a row's mean is over the padded width",
                "loss_BT = loss_BT / mask_BT.sum(dim=1, keepdim=True).clamp(min=1)",
                "loss_BT = loss_BT / mask_BT.shape[1]",
            ),
            (
                "empty rows are in the denominator",
                "rows = mask_BT.any(dim=1).sum().double()",
                "rows = torch.tensor(float(len(mask_BT)), dtype=torch.float64)",
            ),
            ("the constant of Dr.GRPO is forgotten", "return rows * max_length", "return rows"),
        ],
    ),
    *mutants(
        "functional/advantages.py",
        _ADVANTAGES,
        [
            (
                "the score is one token after the end",
                "return positions[None, :] == last_B[:, None]",
                "return positions[None, :] == last_B[:, None] + 1",
            ),
            (
                "a row without a reply gets its score on the prompt",
                "torch.where(mask_BT, positions[None, :], -1)",
                "torch.where(mask_BT, positions[None, :], 0)",
            ),
            ("the KL is rewarded", "penalty_BT = -kl_coef * k1(", "penalty_BT = kl_coef * k1("),
            (
                "k3 in the reward",
                "from accord.functional.kl import k1",
                "from accord.functional.kl import k3 as k1",
            ),
            (
                "replies without end are rewarded",
                "torch.full_like(score_B, -penalty)",
                "torch.full_like(score_B, penalty)",
            ),
            ("the penalty is added", "else score_B - penalty", "else score_B + penalty"),
            (
                "complete replies are punished",
                "torch.where(has_eos_B, score_B, cut_B)",
                "torch.where(has_eos_B, cut_B, score_B)",
            ),
            ("values of padding leak into GAE", "    value_BT = keep(value_BT, mask_BT)\n", ""),
            ("GAE forgets gamma", "gamma * lam * next_advantage_B", "lam * next_advantage_B"),
            ("GAE forgets lambda", "gamma * lam * next_advantage_B", "gamma * next_advantage_B"),
            ("the value after next", "gamma * next_value_B - value_BT[:, t]", "next_value_B - value_BT[:, t]"),
            (
                "a gap in the mask ends the reply",
                "next_value_B = torch.where(mask_B, value_BT[:, t], next_value_B)",
                "next_value_B = keep(value_BT[:, t], mask_B)",
            ),
            (
                "lambda decays over a gap",
                "next_advantage_B = torch.where(mask_B, advantage_B, next_advantage_B)",
                "next_advantage_B = advantage_B",
            ),
            (
                "returns without the value",
                "return advantage_BT, advantage_BT + value_BT",
                "return advantage_BT, advantage_BT",
            ),
            ("advantages back to front", "torch.stack(advantages[::-1], dim=1)", "torch.stack(advantages, dim=1)"),
            ("the mean is over padding too", "mean = masked_mean(x, mask)", "mean = keep(x, mask).mean()"),
            (
                "the variance is over padding too",
                "torch.rsqrt(masked_var(x, mask, unbiased=unbiased) + eps)",
                "torch.rsqrt(keep(x, mask).var(correction=int(unbiased)) + eps)",
            ),
            (
                "whitening is never unbiased",
                "torch.rsqrt(masked_var(x, mask, unbiased=unbiased) + eps)",
                "torch.rsqrt(masked_var(x, mask) + eps)",
            ),
            ("whitened rewards lose their mean", "scaled if shift_mean else scaled + mean", "scaled"),
            (
                "RLOO with the row's own score in the baseline",
                "return centred_B * (count_G / (count_G - 1).clamp(min=1))[index_B]",
                "return centred_B",
            ),
            (
                "group deviation with eps 1e-9",
                "def grpo(score_B: Tensor, group_B: Tensor, *, unbiased: bool = True, eps: float = 1e-4)",
                "def grpo(score_B: Tensor, group_B: Tensor, *, unbiased: bool = True, eps: float = 1e-9)",
                "unit/test_guards_advantages.py",
            ),
            (
                "no test for equal scores",
                "centred_B = keep(score_B - mean_G[index_B], (high_G > low_G)[index_B])",
                "centred_B = score_B - mean_G[index_B]",
            ),
            ("the group deviation is biased", "(count_G - int(unbiased)).clamp(min=1)).sqrt()", "count_G).sqrt()"),
            ("one deviation for all groups", "std_G[index_B] + eps", "std_G.mean() + eps"),
            (
                "batch deviation of centred scores",
                "masked_var(score_B, everything_B, unbiased=unbiased)",
                "masked_var(centred_B, everything_B, unbiased=unbiased)",
            ),
            ("ReMax rewards the greedy reply", "return score_B - greedy_score_B", "return greedy_score_B - score_B"),
            ("OPO without lengths", "index_add(0, index_B, length_B * centred_B)", "index_add(0, index_B, centred_B)"),
            (
                "groups with a small spread are left out",
                "return (high_G == low_G)[index_B]",
                "return (high_G - low_G < 1.0)[index_B]",
                "unit/test_guards_advantages.py",
            ),
        ],
    ),
    *mutants(
        "functional/policy_losses.py",
        f"{_GRPO} unit/test_guards_policy.py",
        [
            (
                "the sequence ratio is of the sum",
                'if level == "sequence" else masked_sum',
                'if level == "" else masked_sum',
            ),
            (
                "the gradient flows through CISPO's weight",
                "clamp(smallest, largest).detach()",
                "clamp(smallest, largest)",
            ),
            ("CISPO's weight is not limited", "ratio.clamp(smallest, largest).detach()", "ratio.detach()"),
            ("SAPO without its temperature", "4.0 / tau * torch.sigmoid", "4.0 * torch.sigmoid"),
            ("SAPO's temperatures are swapped", "adv > 0, gate[0], gate[1]", "adv > 0, gate[1], gate[0]"),
        ],
    ),
    *mutants(
        "functional/mismatch.py",
        _GRPO,
        [
            ("sampler weights are not bounded", "return weight.clamp(max=largest)", "return weight"),
            ("masked weights are truncated", "weight, torch.zeros_like(weight))", "weight, torch.ones_like(weight))"),
            (
                "geometric mean and product are swapped",
                "masked_mean if geometric_mean else",
                "masked_sum if geometric_mean else",
            ),
        ],
    ),
    *mutants(
        "functional/shaping.py",
        "unit/test_guards_advantages.py",
        [
            ("the overlong penalty has no floor", ".clamp(-1.0, 0.0)", ".clamp(max=0.0)"),
            ("the overlong penalty starts at the limit", "(max_length - cache - length_B", "(max_length - length_B"),
        ],
    ),
    *mutants(
        "train/objectives/correction.py",
        "golden/test_golden_grpo.py unit/test_guards_policy.py",
        [
            ("the sampler's weights are not applied", "torch.where(batch.response_mask_BT, weight, 1.0)", "1.0"),
            ("masking truncates", '"mask" if bound == "mask" else "truncate"', '"truncate"'),
            ("weights of replies are those of tokens", 'if level == "token":', "if level:"),
        ],
    ),
]
