"""Tokens per second of the native engine beside transformers and a bare loop: same weights, same prompts, one run.

Prompts come in groups of 8 equal ones, of different lengths, left-padded where the peer pads. With mixed lengths a
stop token has probability 1/32, so that replies have between one and all new tokens; with full lengths nothing
stops. Only real tokens count: those up to the stop token. Everybody samples at temperature 1 with float32
weights. The runs take turns and the order alternates. Example: `python benchmarks/decode.py --threads 2`.

The bare loop is a Llama written out: fused projections, static cache, sampling from the softmax by one uniform per
row; no scheduling, no log-probabilities, and every row goes on until the last has stopped.
"""


# pyright: reportOptionalMemberAccess=false, reportAttributeAccessIssue=false

from __future__ import annotations

import argparse
import copy
import json
import logging
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    ContinuousBatchingConfig,
    FalconConfig,
    GenerationConfig,
    GPT2Config,
    GPTJConfig,
    GPTNeoXConfig,
    GraniteConfig,
    LlamaConfig,
    Olmo2Config,
    PreTrainedConfig,
    StableLmConfig,
)

from accord.engines.base import Sampling
from accord.engines.native import NativeEngine

GROUP = 8
STOP, PAD = 1, 0
STOP_ONE_IN = 32
"""One over the probability of the stop token when lengths are mixed."""

Reply = tuple[list[int], list[float] | None]
Run = Callable[[], list[Reply]]


def _llama(hidden: int, layers: int, heads: int, kv_heads: int, vocab: int, inner: int) -> PreTrainedConfig:
    return LlamaConfig(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        vocab_size=vocab,
        intermediate_size=inner,
        max_position_embeddings=512,
        tie_word_embeddings=False,
        **_TOKENS,
    )


_TOKENS: dict[str, Any] = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
_SMALL: dict[str, Any] = {
    "hidden_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "vocab_size": 800,
    "max_position_embeddings": 512,
    **_TOKENS,
}
SIZES: dict[str, Callable[[], PreTrainedConfig]] = {
    "llama-1M": lambda: _llama(128, 4, 4, 4, 800, 352),
    "llama-6M": lambda: _llama(256, 6, 8, 8, 4096, 688),
    "llama-13M": lambda: _llama(384, 6, 6, 6, 6000, 1024),
    "llama-95M": lambda: _llama(768, 10, 12, 4, 16000, 2048),
    "gpt2-1M": lambda: GPT2Config(n_embd=128, n_layer=4, n_head=4, vocab_size=800, n_positions=512, **_TOKENS),
    "gpt2-6M": lambda: GPT2Config(n_embd=256, n_layer=6, n_head=8, vocab_size=4096, n_positions=512, **_TOKENS),
    "neox-1M": lambda: GPTNeoXConfig(
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        vocab_size=800,
        intermediate_size=512,
        max_position_embeddings=512,
        **_TOKENS,
    ),
    "olmo2-1M": lambda: Olmo2Config(**_SMALL, intermediate_size=352),
    "granite-1M": lambda: GraniteConfig(**_SMALL, intermediate_size=352),
    "stablelm-1M": lambda: StableLmConfig(**_SMALL, num_key_value_heads=4, intermediate_size=352),
    "bloom-1M": lambda: BloomConfig(hidden_size=128, n_layer=4, n_head=4, vocab_size=800, **_TOKENS),
    "falcon-1M": lambda: FalconConfig(**_SMALL),
    "gptj-1M": lambda: GPTJConfig(
        n_embd=128, n_layer=4, n_head=4, vocab_size=800, n_positions=512, rotary_dim=16, **_TOKENS
    ),
    "olmo2-6M": lambda: Olmo2Config(
        hidden_size=256,
        num_hidden_layers=6,
        num_attention_heads=8,
        vocab_size=4096,
        intermediate_size=688,
        max_position_embeddings=512,
        **_TOKENS,
    ),
}
"""The engine has decoding steps of its own for all but GPT-J, which goes through its own forward."""
USUAL = ("llama-1M", "llama-6M", "llama-13M", "gpt2-1M", "neox-1M", "olmo2-6M")


@dataclass(frozen=True)
class Work:
    """What everybody generates."""

    model: Any
    prompts: list[list[int]]
    """One per row; rows of a group are equal and stand together."""
    new: int
    stops: bool


def build(size: str, *, rows: int, new: int, stops: bool) -> Work:
    """Random weights and prompts; the head gets a bias that makes the stop token as likely as it shall be."""
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(SIZES[size]()).eval().requires_grad_(False)
    head = model.get_output_embeddings()
    vocab = head.weight.shape[0]
    head.bias = torch.nn.Parameter(torch.zeros(vocab), requires_grad=False)
    head.bias[STOP] = math.log((vocab - 1) / (STOP_ONE_IN - 1)) if stops else -torch.inf
    draw = torch.Generator().manual_seed(1)
    prompts: list[list[int]] = []
    while len(prompts) < rows:
        length = int(torch.randint(8, 33, (1,), generator=draw))
        prompts += [torch.randint(2, vocab, (length,), generator=draw).tolist()] * GROUP
    return Work(model, prompts[:rows], new, stops)


# -- who generates -----------------------------------------------------------------------------------------------------


def native(work: Work, *, fast: bool, max_batch: int = 1024) -> Run:
    """The engine, with log-probabilities."""
    groups = work.prompts[::GROUP]
    # A copy: the engine gives a model an attention kernel that continuous batching of transformers does not know.
    model = copy.deepcopy(work.model)
    engine = NativeEngine(model, stop_ids=(STOP,), pad_id=PAD, decode=lambda _: "", max_batch=max_batch, fast=fast)
    seed = iter(range(10**9))

    def run() -> list[Reply]:
        out = engine.generate(groups, Sampling(work.new, n=GROUP, seed=next(seed)))[: len(work.prompts)]
        return [(list(c.token_ids), list(c.logps or ())) for c in out]

    return run


def generate(work: Work, **options: Any) -> Run:
    """`model.generate`, every row with its copy of the prompt."""
    ids_BT, mask_BT = _left_padded(work.prompts)

    def run() -> list[Reply]:
        out = work.model.generate(
            ids_BT,
            attention_mask=mask_BT,
            max_new_tokens=work.new,
            do_sample=True,
            top_k=0,
            pad_token_id=PAD,
            eos_token_id=STOP if work.stops else None,
            **options,
        )
        return [(_until_stop(row), None) for row in out[:, ids_BT.shape[1] :].tolist()]

    return run


def continuous_batching(work: Work) -> Run:
    """`generate_batch` of transformers; left to itself it would fill nine tenths of the memory with cache each time."""
    logging.getLogger("ContinuousBatchingLogger").setLevel(logging.ERROR)
    config = GenerationConfig(
        max_new_tokens=work.new,
        do_sample=True,
        top_k=0,
        pad_token_id=PAD,
        eos_token_id=STOP if work.stops else -1,
    )
    batching = ContinuousBatchingConfig(num_blocks=2 * len(work.prompts), max_batch_tokens=1024)

    def run() -> list[Reply]:
        implementation = work.model.config._attn_implementation
        try:
            out = work.model.generate_batch(
                work.prompts, generation_config=config, continuous_batching_config=batching, progress_bar=False
            )
        finally:
            work.model.set_attn_implementation(implementation)  # it leaves its own behind
        assert len(out) == len(work.prompts)
        return [(list(result.generated_tokens), None) for result in out.values()]

    return run


@torch.inference_mode()
def bare_loop(work: Work) -> Run:
    """A Llama written out over a static cache."""
    model, config = work.model, work.model.config
    ids_BT, mask_BT = _left_padded(work.prompts)
    rows, width = ids_BT.shape
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    dim, half = config.hidden_size // heads, config.hidden_size // heads // 2
    layers = [
        (
            layer.input_layernorm.weight,
            torch.cat([getattr(layer.self_attn, f"{x}_proj").weight for x in "qkv"]),
            layer.self_attn.o_proj.weight,
            layer.post_attention_layernorm.weight,
            torch.cat([layer.mlp.gate_proj.weight, layer.mlp.up_proj.weight]),
            layer.mlp.down_proj.weight,
        )
        for layer in model.model.layers
    ]
    caches = [torch.zeros(2, rows, kv_heads, width + work.new, dim) for _ in layers]
    hidden_left = torch.zeros(rows, 1, 1, width + work.new)
    hidden_left[..., :width].masked_fill_(mask_BT[:, None, None] == 0, -torch.inf)
    causal_TT = torch.full((width, width), -torch.inf).triu(1)
    # A padded query sees itself, so that its softmax has something to weigh.
    prefill_mask = (hidden_left[..., :width] + causal_TT).masked_fill(torch.eye(width) == 1, 0.0)
    shift_B = width - mask_BT.sum(-1)

    def norm(x: Tensor, weight: Tensor) -> Tensor:
        return F.rms_norm(x, (config.hidden_size,), weight, config.rms_norm_eps)

    def forward(ids_BT: Tensor, start: int, mask: Tensor) -> Tensor:
        length = ids_BT.shape[1]
        x = F.embedding(ids_BT, model.model.embed_tokens.weight)
        position_BT = (torch.arange(start, start + length) - shift_B[:, None]).clamp_(min=0)
        cos, sin = (t[:, None] for t in model.model.rotary_emb(x, position_BT))
        for (norm1, qkv, out, norm2, gate_up, down), cache in zip(layers, caches, strict=True):
            h = F.linear(norm(x, norm1), qkv).view(rows, length, -1, dim).transpose(1, 2)
            qk, value = h.split([heads + kv_heads, kv_heads], 1)
            qk = qk * cos + torch.cat((-qk[..., half:], qk[..., :half]), -1) * sin
            query, cache[0, :, :, start : start + length] = qk[:, :heads], qk[:, heads:]
            cache[1, :, :, start : start + length] = value
            keys, values = cache[:, :, :, : start + length]
            mixed = F.scaled_dot_product_attention(query, keys, values, attn_mask=mask, enable_gqa=heads != kv_heads)
            x = x + F.linear(mixed.transpose(1, 2).reshape(rows, length, -1), out)
            gate, up = F.linear(norm(x, norm2), gate_up).chunk(2, -1)
            x = x + F.linear(F.silu(gate) * up, down)
        return model.lm_head(norm(x[:, -1], model.model.norm.weight))

    @torch.inference_mode()
    def run() -> list[Reply]:
        token_BN = torch.zeros(rows, work.new, dtype=torch.long)
        stopped_B = torch.zeros(rows, dtype=torch.bool)
        logits_BV = forward(ids_BT, 0, prefill_mask)
        for step in range(work.new):
            cdf_BV = logits_BV.softmax(-1).cumsum(-1)
            token_B1 = torch.searchsorted(cdf_BV, torch.rand(rows, 1) * cdf_BV[:, -1:])
            token_BN[:, step] = token_B1[:, 0]
            stopped_B |= token_B1[:, 0] == STOP
            if step + 1 == work.new or bool(stopped_B.all()):
                break
            column = width + step
            logits_BV = forward(token_B1, column, hidden_left[..., : column + 1])
        return [(_until_stop(row), None) for row in token_BN.tolist()]

    return run


def _left_padded(prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    width = max(map(len, prompts))
    ids_BT = torch.tensor([[PAD] * (width - len(p)) + list(p) for p in prompts])
    mask_BT = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    return ids_BT, mask_BT


def _until_stop(ids: list[int]) -> list[int]:
    return ids[: ids.index(STOP) + 1] if STOP in ids else ids


# -- measuring ---------------------------------------------------------------------------------------------------------


@torch.no_grad()
def parity(work: Work, replies: list[Reply]) -> float:
    """Return the largest distance between the engine's log-probabilities and those of plain forwards, in nats."""
    worst = 0.0
    for prompt, (ids, logps) in list(zip(work.prompts, replies, strict=True))[::5]:
        logits_TV = work.model(input_ids=torch.tensor([[*prompt, *ids]]), use_cache=False).logits[0]
        logp_N = logits_TV[len(prompt) - 1 : -1].log_softmax(-1)[range(len(ids)), ids]
        worst = max(worst, float((logp_N - torch.tensor(logps)).abs().max()))
    return worst


def measure(
    *,
    sizes: Sequence[str] = USUAL,
    threads: int = 2,
    repeats: int = 5,
    rows: int = 32,
    new: int = 64,
    lengths: Sequence[str] = ("mixed", "full"),
    batching: bool = True,
) -> list[dict[str, Any]]:
    """Time every way to generate, on every size.

    Args:
        sizes: keys of `SIZES`.
        threads: CPU threads.
        repeats: measured rounds, after one to warm up.
        rows: completions in all, a multiple of 8.
        new: most new tokens of a completion.
        lengths: "mixed", "full" or both.
        batching: include `generate_batch`, by far the slowest.

    Returns:
        One JSON-able row per size, kind of length and way, with tokens/s over real tokens: median, lowest, highest.
    """
    torch.set_num_threads(threads)
    table: list[dict[str, Any]] = []
    for size in sizes:
        for kind in lengths:
            work = build(size, rows=rows, new=new, stops=kind == "mixed")
            label = {"size": size, "lengths": kind, "rows": rows, "new": new}
            table += _measure(work, repeats, batching=batching, label=label)
    return table


def _measure(work: Work, repeats: int, *, batching: bool, label: dict[str, Any]) -> list[dict[str, Any]]:
    is_llama = work.model.config.model_type == "llama"
    runs: dict[str, Run] = {"native": native(work, fast=True), "native, fast path off": native(work, fast=False)}
    if is_llama:
        runs["bare loop"] = bare_loop(work)
    runs["generate"] = generate(work)
    if is_llama:
        runs["generate, static cache"] = generate(work, cache_implementation="static", disable_compile=True)
    if batching:
        runs["generate_batch"] = continuous_batching(work)
    rates: dict[str, list[float]] = {name: [] for name in runs}
    worst = 0.0
    for number in range(repeats + 1):
        for name in list(runs) if number % 2 == 0 else list(runs)[::-1]:
            start = time.perf_counter()
            replies = runs[name]()
            spent = time.perf_counter() - start
            if number:
                rates[name].append(sum(len(ids) for ids, _ in replies) / spent)
            elif name.startswith("native"):
                worst = max(worst, parity(work, replies))
    parameters = sum(p.numel() for p in work.model.parameters())
    return [
        label
        | {"parameters": parameters, "threads": torch.get_num_threads(), "repeats": repeats, "way": name}
        | {"tokens_per_s": statistics.median(rate), "lowest": min(rate), "highest": max(rate)}
        | {"logp_difference": worst if name.startswith("native") else None}
        for name, rate in rates.items()
    ]


def show(table: list[dict[str, Any]]) -> None:
    """Print the rows, with the native engine's lead over each."""
    base = 0.0
    for row in table:
        if row["way"] == "native":  # the first of every comparison
            base = row["tokens_per_s"]
            print(
                f"\n{row['size']} ({row['parameters'] / 1e6:.1f} M), {row['lengths']} lengths, {row['rows']} rows, "
                f"{row['new']} new tokens, {row['threads']} threads, log-probs within {row['logp_difference']:.1e}"
            )
        print(
            f"  {row['way']:24s} {row['tokens_per_s']:9.0f} tokens/s ({row['lowest']:.0f} to {row['highest']:.0f})"
            f"   native is {base / row['tokens_per_s']:5.2f}x"
        )


def main() -> None:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=USUAL, choices=SIZES)
    parser.add_argument("--lengths", nargs="+", default=["mixed", "full"], choices=["mixed", "full"])
    parser.add_argument("--rows", type=int, default=32, help="completions in all, a multiple of 8")
    parser.add_argument("--new", type=int, default=64, help="most new tokens of a completion")
    parser.add_argument("--repeats", type=int, default=5, help="measured rounds, after one to warm up")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--no-batching", action="store_true", help="leave generate_batch out")
    parser.add_argument("--json", metavar="FILE", help="also write the rows there")
    args = parser.parse_args()
    table = measure(
        sizes=args.sizes,
        threads=args.threads,
        repeats=args.repeats,
        rows=args.rows,
        new=args.new,
        lengths=args.lengths,
        batching=not args.no_batching,
    )
    show(table)
    if args.json:
        Path(args.json).write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
