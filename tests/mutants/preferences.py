"""Faults in losses on preferences: pairs, single replies, reward models, ensembles."""

from __future__ import annotations

from mutants.mutant import mutants

_PAIRS = "golden/test_golden_preference.py golden/test_golden_objectives.py unit/test_guards_preferences.py"
_REWARD = "golden/test_golden_reward.py property/test_functional_losses.py"
_UNPAIRED = "golden/test_golden_unpaired.py"
_RANKING = "golden/test_golden_ranking.py"

PREFERENCES = [
    *mutants(
        "functional/preference_losses.py",
        "property/test_preference_losses.py::test_the_truncated_quadratic_stops_pushing_where_the_hinge_does",
        [("the truncated quadratic is linear", "hinge(pairs, beta=beta).square()", "hinge(pairs, beta=beta)")],
    ),
    *mutants(
        "functional/preference_losses.py",
        _PAIRS,
        [
            (
                "DPO prefers the rejected reply",
                "return -logsigmoid(beta * pairs.h_P)\n",
                "return -logsigmoid(-beta * pairs.h_P)\n",
            ),
            ("robust DPO averages instead of correcting", "+ label_smoothing * wrong_P", "- label_smoothing * wrong_P"),
            ("robust DPO is not rescaled", " / (1.0 - 2.0 * label_smoothing)", ""),
            ("IPO's target is twice as far", "pairs.h_P - 1.0 / (2.0 * beta)", "pairs.h_P - 1.0 / beta"),
            ("the hinge is a line", "torch.relu(1.0 - beta * pairs.h_P)", "(1.0 - beta * pairs.h_P)"),
            ("NCA counts the chosen reply once", " - 0.5 * logsigmoid(-u_P)", ""),
            ("SPPO's targets are swapped", "(pairs.u_P - 0.5 / beta)", "(pairs.u_P + 0.5 / beta)"),
            (
                "APO-zero pulls the chosen reply down",
                "torch.sigmoid(-beta * pairs.u_P) +",
                "torch.sigmoid(beta * pairs.u_P) +",
            ),
            ("DPOP punishes gains", "torch.relu(-pairs.u_P)", "torch.relu(pairs.u_P)"),
            (
                "R-DPO favours the longer reply",
                "(pairs.chosen_length_P - pairs.rejected_length_P)",
                "(pairs.rejected_length_P - pairs.chosen_length_P)",
            ),
            ("IPO sums where TRL averages", '"ipo": PairLoss(ipo, per_token=True)', '"ipo": PairLoss(ipo)'),
            (
                "IPO averages where the paper sums",
                '"ipo_sum": PairLoss(ipo)',
                '"ipo_sum": PairLoss(ipo, per_token=True)',
            ),
        ],
    ),
    *mutants(
        "functional/pair_logps.py",
        _PAIRS,
        [
            (
                "the reference has the wrong sign",
                "- (self.ref_chosen_P - self.ref_rejected_P)",
                "+ (self.ref_chosen_P - self.ref_rejected_P)",
            ),
            (
                "both labels give the same loss",
                "(1.0 - target_P) * loss(pairs.swapped())",
                "(1.0 - target_P) * loss(pairs)",
            ),
            (
                "a soft label is not smoothed",
                "return target_P * (1.0 - label_smoothing) + (1.0 - target_P) * label_smoothing",
                "return target_P",
                "unit/test_train_objectives.py unit/test_guards_preferences.py",
            ),
            ("LD-DPO is one token short", "<= shared_B[:, None]", "< shared_B[:, None]"),
            (
                "the mean is over the other reply's length",
                "rejected_P=self.rejected_P / self.rejected_length_P",
                "rejected_P=self.rejected_P / self.chosen_length_P",
            ),
        ],
    ),
    *mutants(
        "functional/likelihood_losses.py",
        _PAIRS,
        [
            ("SimPO's margin helps", "- simpo_gamma)", "+ simpo_gamma)"),
            ("ORPO compares probabilities, not odds", "return below - complement", "return below"),
            ("SLiC without its regulariser", " - slic_lambda * pairs.chosen_P", ""),
        ],
    ),
    *mutants(
        "functional/transport_losses.py",
        _PAIRS,
        [("AOT does not sort", "order = own_P.argsort(stable=True)", "order = torch.arange(len(own_P))")],
    ),
    *mutants(
        "functional/divergences.py",
        _PAIRS,
        [
            ("the forward KL has the wrong sign", "return -_exp(-log_ratio)", "return _exp(-log_ratio)"),
            ("the alpha-divergence runs backwards", "power = 1.0 - coefficient", "power = coefficient"),
            ("the alpha-divergence is not scaled", "_exp(-power * log_ratio)) / power", "_exp(-power * log_ratio))"),
        ],
    ),
    *mutants(
        "functional/unpaired_losses.py",
        _UNPAIRED,
        [
            (
                "KTO's z0 is not clamped at 0",
                ".clamp(min=0.0).detach()",
                ".detach()",
                f"{_UNPAIRED} unit/test_guards_preferences.py",
            ),
            (
                "KTO's z0 ignores weights",
                "((log_ratio_B * weight_B).sum() / weight_B.sum())",
                "log_ratio_B.mean()",
                "unit/test_guards_preferences.py",
            ),
            (
                "KTO's sides are swapped",
                "lambda x: torch.sigmoid(-x)",
                "lambda x: torch.sigmoid(x)",
            ),
            (
                "BCO's shift is a sum",
                "(means * there).sum() / there.sum()",
                "(means * there).sum()",
                "unit/test_guards_preferences.py",
            ),
        ],
    ),
    *mutants(
        "functional/reward_losses.py",
        _REWARD,
        [
            ("the margin is given away", "else delta_P - margin)", "else delta_P + margin)"),
            ("the margin of the other outcome is given away", "else -delta_P - margin)", "else -delta_P + margin)"),
            (
                "centring pulls the two scores together",
                "(chosen_P + rejected_P).square()",
                "(chosen_P - rejected_P).square()",
            ),
            ("a tie counts as wrong", " + 0.5 * (delta_P == 0).to(delta_P.dtype)", ""),
            ("the gain uses the sample deviation", "score_B.std(correction=0)", "score_B.std(correction=1)"),
            ("the bias forgets the gain", "mean - gain * score_B.mean()", "mean - score_B.mean()"),
        ],
    ),
    *mutants(
        "functional/ranking_losses.py",
        _RANKING,
        [
            ("Rao-Kupper's threshold helps the loser", "logsigmoid(-x_P - log_theta)", "logsigmoid(-x_P + log_theta)"),
            ("Davidson's tie is worth the sum", "(first_P + second_P) / 2 + log_nu", "(first_P + second_P) + log_nu"),
            (
                "Plackett-Luce reads rankings upwards",
                "below_BB = rank_B[None, :] > rank_B[:, None]",
                "below_BB = rank_B[None, :] < rank_B[:, None]",
            ),
            (
                "pairs across prompts",
                "same_BB = (group_B[:, None] == group_B[None, :]).triu(",
                "same_BB = (group_B[:, None] >= 0).triu(",
            ),
        ],
    ),
    *mutants(
        "functional/ensembles.py",
        "unit/test_guards_preferences.py",
        [
            ("the sample variance", "scores_BK.var(dim=-1, correction=0)", "scores_BK.var(dim=-1, correction=1)"),
            ("the best case counts", "return scores_BK.amin(dim=-1)", "return scores_BK.amax(dim=-1)"),
            ("disagreement is rewarded", "- penalty * disagreement(scores_BK)", "+ penalty * disagreement(scores_BK)"),
        ],
    ),
    *mutants(
        "train/objectives/pairs.py",
        "golden/test_golden_objectives.py unit/test_guards_preferences.py",
        [
            ("chosen and rejected are the same reply", "chosen_P=logp_B[0::2]", "chosen_P=logp_B[1::2]"),
            ("the reference is the current policy", "ref_chosen_P=ref_B[0::2]", "ref_chosen_P=logp_B[0::2].detach()"),
            ("a tie is imitated", "else 2 * target_P - 1", "else target_P"),
            (
                "the likelihood term is not per token",
                "self.rpo_alpha * certainty_P * chosen_P / pairs.chosen_length_P",
                "self.rpo_alpha * certainty_P * chosen_P",
            ),
            ("pairs are not weighed", "loss = (loss_P * weight_P).sum()", "loss = loss_P.sum()"),
            (
                "labels are smoothed twice",
                'noisy_P = target_P if "label_smoothing" in options else with_noise(target_P, self.label_smoothing)',
                "noisy_P = with_noise(target_P, self.label_smoothing)",
                "golden/test_golden_preference.py unit/test_guards_preferences.py",
            ),
        ],
    ),
    *mutants(
        "train/objectives/unpaired.py",
        "golden/test_golden_unpaired.py unit/test_guards_preferences.py",
        [
            (
                "KTO's z0 is that of the replies themselves",
                "kl_estimate(self._log_ratio(others,",
                "kl_estimate(self._log_ratio(rows,",
            ),
            ("replies are not weighed", "(loss_B * _weights(batch)).sum()", "loss_B.sum()"),
        ],
    ),
    *mutants(
        "train/objectives/rewards.py",
        "golden/test_golden_ranking.py unit/test_train_objectives.py",
        [
            ("prompts count by their number of pairs", 'if mean == "prompt":', 'if mean == "pair":'),
            (
                "the pairs are not weighed",
                "(loss_P * pairs.weight_P.to(loss_P.dtype)).sum(), _pair",
                "loss_P.sum(), _pair",
            ),
            ("labels are ignored", "target=pairs.target_P.to(score_B.dtype)", "target=None"),
        ],
    ),
    *mutants(
        "train/objectives/denominators.py",
        "unit/test_guards_preferences.py unit/test_train_objectives.py",
        [
            (
                "the denominator counts prompts and padding",
                "return batch.response_mask_BT.sum().double()",
                "return batch.lengths_B.sum().double()",
            ),
            ("pair weights are ignored", "return batch.weight_B[0::2]", "return torch.ones_like(batch.weight_B[0::2])"),
            (
                "log-probabilities of the prompt count",
                "return masked_sum(logp_BT, batch.response_mask_BT, dim=1)",
                "return logp_BT.sum(dim=1)",
                "unit/test_train_objectives.py unit/test_guards_preferences.py",
            ),
            ("equal scores are wrong", " + 0.5 * (delta_P == 0).double()", ""),
        ],
    ),
]
