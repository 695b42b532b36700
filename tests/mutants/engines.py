"""Faults in generation: sampling, decoding steps, what models are read into, memory for keys and values, stops."""

from __future__ import annotations

from mutants.mutant import mutants

_STEP = "unit/test_engine_step.py"

ENGINES = [
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
        "engines/pairs.py",
        _STEP,
        [
            (
                "only queries are put in another order",
                "for x in (query, key)), value]",
                "for x in (query,)), key, value]",
            ),
            ("pairs are turned as halves", "return cos[..., order_D], sin[..., order_D]", "return cos, sin"),
            ("CodeGen's values are taken for keys", "query, value, key = (Matrix(", "query, key, value = (Matrix("),
            ("logits are not scaled", "weight_VH * model.logit_scale", "weight_VH"),
            ("layers that see all are turned", '"rotary" if turned else None', '"rotary"'),
            ("norms of heads keep the model's order", "module.weight.detach()[:, order_D]", "module.weight.detach()"),
            ("norms behind GLM-4's MLP are left out", ", mlp_end=norm(own.post_mlp_layernorm)", ""),
        ],
    ),
    *mutants(
        "engines/step.py",
        "unit/test_engine_reading.py",
        [("keys of the model's forward keep their order", "if self._key_order_D is not None:", "if False:")],
    ),
    *mutants(
        "engines/reading.py",
        "unit/test_engine_reading.py",
        [
            ("tokens see those that follow", "(back_mn < 0) | (back_mn", "(back_mn < -1) | (back_mn"),
            ("a window is one long", "(end if window is None else window)", "(end if window is None else window + 1)"),
            ("what a window hides is not left out", "max(0, first - window + 1)", "max(0, first - window + 2)"),
            ("biases on positions are left out", "if self._slopes_K is None:", "if True:"),
            (
                "places of other prompts go on",
                "torch.arange(len(ids), device=device) for",
                "torch.arange(len(ids), device=device) + 1 for",
            ),
            (
                "keys are stored at the left",
                "kept[0, index, :, self._longest - key_KTD.shape[1] :]",
                "kept[0, index, :, : key_KTD.shape[1]]",
            ),
            ("scores are not scaled", "query[span] * scaling", "query[span]"),
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
        "engines/weights.py",
        "unit/test_engine_weights.py",
        [
            ("prompts bring ever new sizes", "self._linear(filled(x_NI)", "self._linear(x_NI"),
            (
                "a sum brings ever new sizes",
                "is not None and _has_few_rows(x_BI)\n        if not",
                "is not None\n        if not",
            ),
            ("steps are filled up too", "<= _FEW_ROWS * x_BI.shape[-1]", "<= 0"),
            ("what was filled in stays", "out_NO[: len(x_NI)]", "out_NO"),
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
            (
                "heads that are kept twice are read twice",
                "tensor.shape[1] // cache.shape[1])",
                "1)",
                "unit/test_engine_reading.py",
            ),
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
