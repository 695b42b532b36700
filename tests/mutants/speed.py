"""Faults in what makes training fast: micro-batches, shared prompts, mixed precision."""

from __future__ import annotations

from mutants.mutant import mutants

_MICRO = "unit/test_microbatches.py"
_SHARING = "invariant/test_sharing.py"
_LIMITS = "invariant/test_sharing_limits.py"
_PRECISION = "unit/test_precision.py"
_PARTS = "unit/test_attention_parts.py"
_FANS = "unit/test_attention_fans.py"

SPEED = [
    *mutants(
        "microbatches.py",
        _MICRO,
        [
            ("a forward costs nothing by itself", "OVERHEAD_TOKENS + run", "run"),
            ("rows without padding pay for it", "run = tokens if unpadded else", "run ="),
            ("short rows have no padding", "unpadded = flat and width >= FLAT_FROM", "unpadded = flat"),
            ("the budget is ignored", "> token_budget and end > start + 1", "> token_budget and False"),
            (
                "the budget counts on sharing",
                "if unpadded else rows * longest)",
                "if unpadded else encoded_rows * width)",
            ),
            (
                "the budget counts padding that is not there",
                "(tokens if unpadded else rows * longest)",
                "rows * longest",
            ),
            ("micro-batches are always filled", "if found is None or forward + best[end][0] <= found[0]:", "if True:"),
            ("micro-batches are never filled", "forward = 1 if fill else ", "forward = "),
            ("the shortest come first", "(-groups[i].encoded, -groups[i].longest, i)", "groups[i].encoded"),
            (
                "a shared prompt is counted once a reply",
                "shared + sum(lengths) - shared * len(lengths)",
                "sum(lengths)",
            ),
        ],
    ),
    *mutants(
        "batch.py",
        _MICRO,
        [
            ("a prefix may swallow a whole row", ".sum(1), self.lengths_B - 1)", ".sum(1), self.lengths_B)"),
            ("tokens behind a difference are shared", "equal_BT.long().cumprod(1).sum(1)", "equal_BT.long().sum(1)"),
            ("a row alone shares with itself", "least_B[run_B].masked_fill(alone_B, 0)", "least_B[run_B]"),
            (
                "the prefix is that of the last row",
                '.scatter_reduce(0, run_B, common_B, "amin", include_self=False)',
                ".scatter(0, run_B, common_B)",
            ),
            (
                "packed rows share a prefix",
                "if self.group_B is None or self.segment_BT is not None:",
                "if self.group_B is None:",
            ),
        ],
    ),
    *mutants(
        "models/sharing.py",
        _SHARING,
        [
            (
                "joined tokens see what comes after them",
                "return earlier_ULL & (",
                "return (row_ULL != _PADDING) & (",
            ),
            (
                "the rows of a group see each other",
                "(row_ULL == self.row_UL[:, :, None]) |",
                "(row_ULL != _PADDING) |",
            ),
            ("a reply does not see its prompt", " | (row_ULL == _SHARED)", ""),
            ("positions count on", '"position": place_T.expand_as(batch.ids_BT)', '"position": column_BT'),
            ("a token's state is that of the one before", "[self.place_BT]", "[(self.place_BT - 1).clamp(min=0)]"),
            ("replies lie on one another", "before_B - before_B[first_B][unit_B]", "before_B * 0"),
            (
                "neighbouring groups are one",
                "first_B[1:] |= batch.group_B[1:] != batch.group_B[:-1]",
                "first_B[1:] |= False",
            ),
        ],
    ),
    *mutants(
        "models/trunk.py",
        _LIMITS,
        [
            ("a window shorter than the rows is forgotten", "or batch.ids_BT.shape[1] > _window(backbone)", ""),
            ("rows are joined where that is more work", "return joined if saves else None", "return joined"),
            (
                "a mask that is not there is paid for",
                "if in_parts and joined.ids_UL.shape[1]",
                "if False and joined.ids_UL.shape[1]",
            ),
            (
                "the probe believes everything",
                "return error if error > _TOLERANCE.get(wanted.dtype, 0.1) else None",
                "return None",
            ),
            (
                "a probe of NaN decides",
                "return error if error > _TOLERANCE.get(wanted.dtype, 0.1) else None",
                "return None if error <= _TOLERANCE.get(wanted.dtype, 0.1) else error",
            ),
            (
                "padding is never masked",
                "found = _difference(plain, wanted) is not None",
                "found = False",
            ),
            (
                "the switch is ignored",
                "None if getattr(backbone, _SWITCH, None) is False else batch.shared_prefix_B()",
                "batch.shared_prefix_B()",
            ),
            (
                "a trunk leaves its states in bfloat16",
                "return states_BTD.to(torch.promote_types(states_BTD.dtype, next(backbone.parameters()).dtype))",
                "return states_BTD",
                _PRECISION,
            ),
        ],
    ),
    *mutants(
        "models/attention.py",
        _PARTS,
        [
            ("replies do not see the prompt", "yield own, shared if unit.shared else None", "yield own, None"),
            ("queries see what comes later", ".triu_(1)", ".triu_(size)"),
            (
                "tokens that do not ask have noise for padding",
                "if asked == q.shape[0] * q.shape[1] else",
                "if True else",
            ),
            ("keys do not come before queries", "(own,) if before is None else (before, own)", "(own,)"),
            ("the last part's gradient counts alone", ".add_(change_HnD.narrow", ".copy_(change_HnD.narrow"),
            ("gradients of shared keys land at the reply", "        start += size\n", ""),
            ("the scale has no gradient", "dq.mul_(ctx.scale)", "dq"),
            ("every softmax is kept", "softmax if keys <= _KEPT_KEYS else None", "softmax"),
        ],
    ),
    *mutants(
        "models/attention.py",
        _FANS,
        [
            ("replies never ask together", "number >= _FAN", "False"),
            ("two ask together", "_FAN = 3", "_FAN = 2"),
            ("padding is asked for", "sum(unit.own) >= _FAN_SPARE * longest * number", "True"),
            ("a reply that does not ask is between the others", "together[-1][-1][0].stop == run.start and", ""),
            ("a fan is as large as its group", " and len(together[-1]) < most", ""),
            ("the first reply is left out", "        others.insert(0, first)\n", ""),
        ],
    ),
    *mutants(
        "models/fans.py",
        _FANS,
        [
            ("padding has a gradient", "    do.view(-1, q.shape[-1]).index_fill_(0, padding, 0.0)\n", ""),
            ("replies see what comes later", "if masked:", "if False:"),
            ("a stretch begins at its reply", "asking.start - own.start", "0"),
            ("shared keys learn of one fan only", "_shared(fan, onto).add_(", "_shared(fan, onto).copy_("),
            ("replies are mixed up", "torch.where(column < size_R1, column, 0)", "column * 0"),
        ],
    ),
    *mutants(
        "models/products.py",
        "unit/test_products.py",
        [
            ("other sizes are compiled too", "if len(x_RI) != piece:", "if False:"),
            ("one piece is packed for", "if rows < _FROM_PIECES * piece or", "if"),
            ("nothing is packed", "return known and hasattr(", "return False and hasattr("),
            ("rows are filled without end", "2 ** (number.bit_length() - 5)", "2 ** (number.bit_length() - 3)"),
            ("nothing is filled up", "return -(-number // step) * step", "return number"),
            ("types that cannot be packed are", "weight_OI.dtype == torch.float32", "True"),
        ],
    ),
    *mutants(
        "train/passes.py",
        "unit/test_passes.py",
        [("passes pay for padding", "split(token_budget, flat=flat)", "split(token_budget)")],
    ),
    *mutants(
        "models/attention.py",
        _SHARING,
        [
            (
                "heads that share keys take turns",
                "repeat_kv(key, groups), repeat_kv(value, groups)",
                "key.repeat(1, groups, 1, 1), value.repeat(1, groups, 1, 1)",
            ),
            ("attention in bfloat16", 'on_cpu and torch.is_autocast_enabled("cpu")', "False", _PRECISION),
            (
                "the reference has another attention",
                'on_cpu and torch.is_autocast_enabled("cpu")',
                'on_cpu and torch.is_grad_enabled() and torch.is_autocast_enabled("cpu")',
                _PRECISION,
            ),
            (
                "a decoding step sees what is hidden",
                "    if mask is not None:\n        score",
                "    if False:\n        score",
                "unit/test_engine_native.py",
            ),
        ],
    ),
    *mutants(
        "models/precision.py",
        _PRECISION,
        [
            ("nothing runs in bfloat16", "return bool(getattr(backbone, _SWITCH, False))", "return False"),
            ("bfloat16 cannot be switched off", "setattr(part, _SWITCH, on)", "setattr(part, _SWITCH, True)"),
        ],
    ),
    *mutants(
        "models/token_scores.py",
        "unit/test_token_scores.py",
        [
            (
                "the output head in bfloat16",
                "logits(hidden_ND[piece]), own_RV[:size]",
                "logits(hidden_ND[piece].bfloat16().to(hidden_ND.dtype)), own_RV[:size]",
            ),
            ("an entropy has no gradient", "entropy and entropy_gradient, keep", "False, keep"),
            ("entropies always have a gradient", "entropy and entropy_gradient, keep", "entropy, keep"),
            ("the target is a token like others", "    out_RV.scatter_add_(", "    out_RV.clone().scatter_add_("),
            ("the target is likely already", "(len(targets_R), 1), -1.0)", "(len(targets_R), 1), 0.0)"),
            (
                "all tokens count alike for states",
                "hidden_grad_ND[piece] *= -logp_grad_R[:, None]",
                "hidden_grad_ND[piece] *= -1",
            ),
            ("all tokens count alike for the head", "into = into * -logp_grad_R[:, None]", "into = -into"),
            ("large logits eat small differences", "- top_R + log_R", "- (top_R - log_R).bfloat16()"),
            ("products in 16 bits that nobody asked for", "low or weight_VD.dtype", "torch.bfloat16"),
            ("the temperature has no gradient", "hidden_grad_ND.mul_(how.scale)", "hidden_grad_ND.mul_(1.0)"),
        ],
    ),
    *mutants(
        "models/blocks.py",
        "invariant/test_llama_trunk.py",
        [
            ("the gradient of the rotary turns on", "sign = 1 if forward else -1", "sign = 1"),
            ("the norm's own gradient is left out", ".addcmul_(unit_ND, mean_N1, value=-1)", ""),
            ("the residual has no gradient", "return x_grad_ND.add_(grads[0]), norm", "return x_grad_ND, norm"),
            ("two gates", "torch.ops.aten.silu_backward(inner_NI * up_NI, gate_NI)", "inner_NI * up_NI * opened_NI"),
            (
                "biases learn nothing",
                "biases = [out.sum(0, dtype=x_ND.dtype)",
                "biases = [out.sum(0, dtype=x_ND.dtype) * 0",
            ),
        ],
    ),
    *mutants(
        "models/llama_trunk.py",
        "invariant/test_llama_trunk.py",
        [
            (
                "a stretch begins at its run",
                "slice(read[first], read[end - 1] + 1)",
                "slice(run.start, read[end - 1] + 1)",
            ),
            ("a stretch ends before its last token", "read[end - 1] + 1)", "read[end - 1])"),
            ("all stretches ask first", "at=size)", "at=0)"),
            (
                "every number of tokens is compiled",
                "_filled(joined.ids_UL.flatten(), low)",
                "joined.ids_UL.flatten()",
                "unit/test_products.py",
            ),
            (
                "what the last block asks is compiled anew",
                "_filled(about.chosen_M, low)",
                "about.chosen_M",
                "unit/test_products.py",
            ),
        ],
    ),
    *mutants(
        "models/policy.py",
        _PRECISION,
        [
            (
                "heads of scores and values in bfloat16",
                "    out = head(hidden_ND.to(head.weight.dtype)).squeeze(-1)\n",
                '    with torch.autocast("cpu", torch.bfloat16):\n        out = head(hidden_ND).squeeze(-1)\n',
            ),
        ],
    ),
    *mutants(
        "stages/training.py",
        _PRECISION,
        [
            ("bfloat16 stays on", "mixed_precision(module, on=False)", "mixed_precision(module, on=cfg.bf16)"),
            ("share_prompts is not read", "share_prompts(module, cfg.share_prompts)", "share_prompts(module, True)"),
        ],
    ),
]
