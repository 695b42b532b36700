"""Faults in batches, the loop, credit, sources, rollouts and the policy's objectives."""

from __future__ import annotations

from mutants.mutant import mutants

_CREDIT = "unit/test_guards_credit.py"
_ROLLOUTS = "unit/test_train_rollouts.py"

MACHINERY = [
    *mutants(
        "batch.py",
        "property/test_batch.py",
        [
            (
                "rows lose their last token",
                "max(int(self.lengths_B[index].max()), 1)",
                "max(int(self.lengths_B[index].max()) - 1, 1)",
            ),
            (
                "groups are torn apart",
                "_runs(list(range(self.num_rows)) if self.group_B is None else self.group_B.tolist())",
                "_runs(list(range(self.num_rows)))",
            ),
            (
                "groups of two batches become one",
                'torch.cat(_distinct(parts) if name == "group_B" else parts)',
                "torch.cat(parts)",
            ),
            (
                "means of means",
                "Mean(self.sum + other.sum, self.count + other.count)",
                "Mean(self.sum + other.sum, self.count)",
            ),
            ("the first token may be trained", "        if mask[0]:\n", "        if not mask:\n"),
            (
                "padding is a token",
                "positions[None, :] < self.lengths_B[:, None]",
                "positions[None, :] <= self.lengths_B[:, None]",
            ),
        ],
    ),
    *mutants(
        "train/loop.py",
        "unit/test_train_loop.py",
        [
            (
                "each micro-batch has its own denominator",
                "(terms.loss / total).backward()",
                "(terms.loss / objective.denominator(on_device)).backward()",
            ),
            ("gradients are never cleared", "learner.optimizer.zero_grad(set_to_none=True)", "None"),
            (
                "the schedule compounds",
                'group["lr"] = group["initial_lr"] * scale',
                'group["lr"] = group["lr"] * scale',
            ),
            ("metrics are sums", "name: float(s / c)", "name: float(s)", "property/test_update.py"),
            ("gradients are not clipped", 'learner.max_grad_norm or float("inf")', 'float("inf")'),
            (
                "gradients that are not finite are applied",
                "if not torch.isfinite(norm) or not torch.isfinite(loss_sum):",
                "if False:",
            ),
            ("an empty batch is stepped on", "if not bool(total > 0):", "if False:"),
        ],
    ),
    *mutants(
        "train/credit.py",
        _CREDIT,
        [
            (
                "returns are made of whitened advantages",
                "advantage_BT = whiten(advantage_BT, mask_BT)\n",
                "advantage_BT = whiten(advantage_BT, mask_BT)\n            return_BT = advantage_BT + value_BT\n",
            ),
            (
                "whitened rewards lose their mean",
                "whiten(reward_BT, mask_BT, shift_mean=False)",
                "whiten(reward_BT, mask_BT)",
            ),
            ("advantages are not whitened", "        if self.whiten_advantages:", "        if False:"),
            ("gamma and lambda are swapped", "mask_BT, self.gamma, self.lam)", "mask_BT, self.lam, self.gamma)"),
            (
                "the reference is the policy itself",
                '_need(batch.ref_logp_BT, "ref_logp_BT"),',
                '_need(batch.old_logp_BT, "ref_logp_BT"),',
            ),
            (
                "the KL is not in the sequence reward",
                "masked_sum(_token_rewards(batch, kl_coef), batch.response_mask_BT, dim=1)",
                "masked_sum(_token_rewards(batch, 0.0), batch.response_mask_BT, dim=1)",
            ),
            ("the batch deviation is that of the group", '"batch": grpo_batch', '"batch": grpo'),
        ],
    ),
    *mutants(
        "train/rollouts.py",
        _ROLLOUTS,
        [
            (
                "the reference is the current policy",
                'found | {"ref": self.ref(micro).logp_BT}',
                'found | {"ref": self.policy_forward(micro).logp_BT}',
            ),
            ("every epoch has the same minibatches", '"minibatch", self.round, epoch)', '"minibatch", self.round)'),
            ("every round samples alike", '"sampling", number, i)', '"sampling", i)'),
            ("the reported reward adds the KL", "- self.kl_coef * sequence_kl", "+ self.kl_coef * sequence_kl"),
            (
                "a checkpoint within a round",
                "if epoch == self.settings.num_epochs - 1 and part == size - 1:",
                "if part == size - 1:",
            ),
        ],
    ),
    *mutants(
        "train/passes.py",
        _ROLLOUTS,
        [
            (
                "log-probabilities of other rows",
                "rows, width = micro.weight_B.long(),",
                "rows, width = torch.arange(micro.num_rows),",
            ),
        ],
    ),
    *mutants(
        "train/rounds.py",
        _ROLLOUTS,
        [
            (
                "the controller sees the KL of a token",
                "float(masked_sum(k1_BT, mask_BT, dim=1).mean())",
                "float(masked_mean(k1_BT, mask_BT))",
            ),
            (
                "replies go with other prompts",
                "prompt_ids=chosen[i // n].ids",
                "prompt_ids=chosen[i % len(chosen)].ids",
            ),
            ("groups of other prompts", "group=groups[i // n]", "group=groups[i % len(chosen)]"),
            (
                "the stop token is not trained",
                "[True] * len(r.completion.token_ids) for r",
                "[True] * (len(r.completion.token_ids) - 1) + [False] for r",
            ),
            (
                "the sampler's log-probabilities are one off",
                "start = len(r.prompt_ids)\n",
                "start = len(r.prompt_ids) - 1\n",
            ),
            (
                "scores are clipped from above only",
                "score_B.clamp(-settings.score_clip, settings.score_clip)",
                "score_B.clamp(max=settings.score_clip)",
            ),
        ],
    ),
    *mutants(
        "train/sources.py",
        "unit/test_train_sources.py",
        [
            ("every epoch has the same order", '"offline", epoch)', '"offline", 0)'),
            (
                "the reference is one token off",
                "ref_logp_BT[b, : len(row.ids)] = row.ref_logp",
                "ref_logp_BT[b, 1 : len(row.ids)] = row.ref_logp[:-1]",
            ),
            ("examples are not weighed", "torch.tensor([e.weight for e in per_row])", "torch.ones(len(per_row))"),
            (
                "the reference of other rows",
                "                logps[index] = logp_BT",
                "                logps[start + b] = logp_BT",
            ),
            ("batches repeat", "self.cursor += self.batch_size", "self.cursor += 1"),
        ],
    ),
    *mutants(
        "train/objectives/policy.py",
        "unit/test_guards_policy.py golden/test_golden_grpo.py",
        [
            ("vf_coef is ignored", "weighed_BT + self.vf_coef * value_BT", "weighed_BT + value_BT"),
            (
                "PPO's entropy is minimised",
                "self.vf_coef * value_BT\n        if self.entropy_coef:\n            loss_BT = loss_BT - ",
                "self.vf_coef * value_BT\n        if self.entropy_coef:\n            loss_BT = loss_BT + ",
            ),
            (
                "the entropy is minimised",
                "self.correction, batch)\n        if self.entropy_coef:\n            loss_BT = loss_BT - ",
                "self.correction, batch)\n        if self.entropy_coef:\n            loss_BT = loss_BT + ",
            ),
            ("the KL is maximised", "loss_BT = loss_BT + self.beta * kl_BT", "loss_BT = loss_BT - self.beta * kl_BT"),
            (
                "clip-higher is ignored",
                "high = self.cliprange if self.cliprange_high is None else self.cliprange_high",
                "high = self.cliprange",
            ),
            (
                "the KL term is never corrected",
                "if not self.use_bias_correction_kl:\n            return kl_BT",
                "if True:\n            return kl_BT",
            ),
            (
                "metrics count padding",
                "Mean(masked_sum(x_BT.detach(), mask_BT), tokens)",
                "Mean(x_BT.detach().sum(), tokens)",
            ),
            (
                "the metric KL has the wrong direction",
                'mean(value_BT),\n            "policy/approxkl_avg": mean(kl.k3(old_logp_BT, logp_BT.detach()))',
                'mean(value_BT),\n            "policy/approxkl_avg": mean(kl.k3(logp_BT.detach(), old_logp_BT))',
            ),
        ],
    ),
    *mutants(
        "train/objectives/language.py",
        "unit/test_guards_losses.py",
        [("the likelihood is minimised", "loss = nll(", "loss = -nll(")],
    ),
]
