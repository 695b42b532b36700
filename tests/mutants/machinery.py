"""Faults in batches, the loop, credit, sources, rollouts, the policy's objectives and sampling."""

from __future__ import annotations

from mutants.mutant import mutants

_CREDIT = "unit/test_guards_credit.py"
_ROLLOUTS = "unit/test_train_rollouts.py"
_STEP = "unit/test_engine_step.py"

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
    *mutants(
        "engines/sampling.py",
        "unit/test_engine_sampling.py",
        [
            (
                "temperature is ignored",
                "(z_BV - z_BV.amax(-1, keepdim=True)) / sampling.temperature",
                "(z_BV - z_BV.amax(-1, keepdim=True))",
            ),
            ("the nucleus is one token short", "mass_BK[:, :-1] >= top_p", "mass_BK[:, 1:] >= top_p"),
            ("top-p before top-k", "mass_BK = best_BK.softmax(-1)", "mass_BK = z_BV.softmax(-1).gather(1, index_BK)"),
            (
                "a token of mass zero can be drawn",
                "searchsorted(cdf_BK, target_B1, right=True)",
                "searchsorted(cdf_BK, target_B1)",
            ),
            ("the largest uniform passes the end of a block", "* (1 - 2**-53)", "* 1.1"),
            (
                "log-probabilities of the untempered logits",
                "logps.append(mass.gather(",
                "logps.append(logits.softmax(-1).gather(",
            ),
            ("the block is forgotten", "(block_B1 * _BLOCK + token_B1)", "(block_B1 + token_B1)"),
            ("the mass before the block counts twice", "(target_B1 - before_B1)", "target_B1"),
            ("all samples of a prompt are alike", 'derive(seed, "sample", sample)', 'derive(seed, "sample")'),
            ("greedy is sampled", "mass.argmax(-1, keepdim=True) if sampling.temperature == 0 else ", ""),
        ],
    ),
    *mutants(
        "engines/step.py",
        _STEP,
        [
            (
                "rotation turns the wrong way",
                "(-sin_1PR[..., :half], sin_1PR[..., half:])",
                "(sin_1PR[..., :half], -sin_1PR[..., half:])",
            ),
            ("every embedding has a table", 'if scaling not in {"dynamic", "longrope"}:', "if True:"),
            ("heads keep their norms to themselves", "if layer.query_norm is not None and", "if False and"),
            ("MLPs beside attention follow it", "before_BH if self._parallel else hidden_BH", "hidden_BH"),
            ("a bfloat16 trunk steps in float32", "if runs_in_bfloat16(anatomy.trunk) else None", "if False else None"),
            ("adapters are skipped", "if not type(module).__module__.startswith(_PLAIN):", "if False:"),
            ("hooks are skipped", "if module is not embeddings and (module._forward_hooks or", "if (False and"),
        ],
    ),
    *mutants(
        "engines/anatomy.py",
        _STEP,
        [
            ("Gemma's norms lack their one", "weight_H=weight.detach() + shift", "weight_H=weight.detach()"),
            ("norms forget their epsilon", "torch.addcmul(eps, length,", "torch.addcmul(0 * eps, length,"),
            ("a mean is a sum", "share=1 / len(weight)", "share=1.0"),
            (
                "a head's three parts are taken for heads",
                "(heads, 3, -1)).transpose(0, 1)",
                "(heads, 3, -1))",
            ),
            ("every GELU is the same", 'return Activation(F.gelu, "none")', 'return Activation(F.gelu, "tanh")'),
        ],
    ),
    *mutants(
        "engines/llama.py",
        _STEP,
        [
            (
                "Llama obeys a window it ignores",
                ' if type(model).__name__ in {"MistralForCausalLM", "Phi3ForCausalLM"} else None',
                "",
            ),
            ("layers without rotation turn", 'if not getattr(attention, "use_rope", True):', "if False:"),
            (
                "both kinds of Gemma's layers turn alike",
                'kind if kind in angles else "rotary"',
                '"full_attention" if kind in angles else "rotary"',
            ),
            ("norms behind attention stand before it", "return as_is, as_is, ends", "return ends[0], ends[1], ends"),
            ("norms of all heads are of each", "found(x_BND.flatten(1)).view_as(x_BND)", "x_BND"),
            ("what is added is not scaled", "None if times == 1 else partial(torch.mul, other=times)", "None"),
            ("logits are not scaled", "Matrix(head.weight_OI / scaled, head.bias_O)", "head"),
            ("embeddings are not scaled", " if embedded == 1 else trunk.embed_tokens(token_B) * embedded", ""),
            ("clipped queries are read", 'if getattr(model.config, "clip_qkv", None) is not None:', "if False:"),
        ],
    ),
    *mutants("engines/gpt2.py", _STEP, [("positions are left out", " + trunk.wpe(position_B)", "")]),
    *mutants(
        "engines/bloom.py",
        _STEP,
        [
            ("values are taken for keys", "x_GNDI[:, -2:-1], x_GNDI[:, -1:]", "x_GNDI[:, -1:], x_GNDI[:, -2:-1]"),
            (
                "biases on positions are left out",
                "slopes_N=trunk.build_alibi_tensor(",
                "slopes_N=0 * trunk.build_alibi_tensor(",
            ),
            ("embeddings are not normed", "first(trunk.word_embeddings(token_B))", "trunk.word_embeddings(token_B)"),
            ("Falcon's biases are read over", "if config.alibi:", "if False:"),
        ],
    ),
    *mutants(
        "engines/own.py",
        "unit/test_engine_own.py",
        [
            ("what is kept is forgotten", "fresh[:, :rows, :, :kept] = old[:, :rows, :, first:end]", "pass"),
            ("new columns are not cleared", "fresh[:, :, :, kept:] = 0", "pass"),
            ("new rows are not cleared", "fresh[:, rows:, :, :kept] = 0", "pass"),
            (
                "layers share their memory",
                "self._memory[index], self._spare = self._spare, self._memory[index]",
                "pass",
            ),
        ],
    ),
    *mutants(
        "engines/weights.py",
        _STEP,
        [
            ("biases are left out", "torch.cat(biases).to(self.dtype) if biases else None", "None"),
            ("what goes past is lost", "return onto_BO + self(x_BI)", "return self(x_BI)"),
            (
                "what goes past is rounded",
                "or onto_BO.dtype != self.dtype or",
                "or (onto_BO := onto_BO.to(self.dtype)).dtype != self.dtype or",
            ),
            ("small matrices of 16 bits are left to torch", "_WORTH_PACKING_16_BITS if", "_WORTH_PACKING if"),
        ],
    ),
    *mutants(
        "engines/grouped.py",
        _STEP,
        [
            ("the window is one short", "max(0, end - window)", "max(0, end - window + 1)"),
            (
                "the window on the prompt is one long",
                "seats.place_SC[:, None] >= window",
                "seats.place_SC[:, None] > window",
            ),
            ("columns of earlier rows are seen", "_added(place_BW < 0,", "_added(place_BW < -99,"),
            ("columns left of a prompt are seen", "_added(place_SC < 0,", "_added(place_SC < -99,"),
            ("columns without tokens are seen", ".fill_(-torch.inf)", ""),
            ("replies stand where prompts do", "seats.length_B1 + place_BW", "place_BW"),
            ("heads that are kept twice are read twice", "tensor.shape[1] // cache.shape[1])", "1)"),
            ("prompts are fetched when they are near", "store.itemsize > _CACHE", "store.itemsize > 0"),
            ("prompts are not fetched when they are far", "        if self.far:", "        if False:"),
            (
                "a prompt that moves leaves its keys",
                "self._prompt_cache[:, :, new] = self._prompt_cache[:, :, old]",
                "pass",
            ),
            (
                "a row that moves leaves its keys",
                "cache[:, to, :, : self._column] = cache[:, row, :, : self._column]",
                "pass",
            ),
            (
                "samples answer for the first",
                "* size + place_B[:, None]).flatten()",
                "* size).expand(-1, heads).flatten()",
            ),
            ("rows move left and keep their columns", "self._start = [start - first for start in self._start]", "pass"),
            ("a prompt is stored for every admission", "            if ids in place:\n                continue\n", ""),
        ],
    ),
    *mutants(
        "engines/stops.py",
        "unit/test_engine_stops.py unit/test_guards_stops.py",
        [
            ("the stop token is not part of the reply", 'return end + 1, text, "stop"', 'return end, text, "stop"'),
            ("only the first stop id stops", "if token in stop_ids)", "if token in stop_ids[:1])"),
            ("the stop string stays in the text", 'return kept, text[:found], "stop"', 'return kept, text, "stop"'),
            (
                "a stop by string counts as cut",
                'return kept, text[:found], "stop"',
                'return kept, text[:found], "length"',
            ),
            ("the last stop string counts", "return min((at for s", "return max((at for s"),
        ],
    ),
]
