"""Tokens per second of the native engine beside `model.generate`, on the same model and prompts.

Random weights, no early stop, temperature 1. The two take turns and the order alternates, so that a busy machine
slows both; medians are printed. Example: `python benchmarks/decode.py --threads 2`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from accord.engines.base import Sampling
from accord.engines.native import NativeEngine


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--hidden", type=int, default=128, help="hidden size")
    parser.add_argument("--layers", type=int, default=4, help="decoder layers")
    parser.add_argument("--heads", type=int, default=4, help="attention heads")
    parser.add_argument("--vocab", type=int, default=1024, help="vocabulary size")
    parser.add_argument("--batch", type=int, default=64, help="sequences at once")
    parser.add_argument("--prompt", type=int, default=20, help="tokens per prompt")
    parser.add_argument("--new", type=int, default=40, help="new tokens per sequence")
    parser.add_argument("--rounds", type=int, default=7, help="measured rounds, after one to warm up")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    return parser.parse_args()


def seconds(run: Callable[[], object], device: str) -> float:
    start = time.perf_counter()
    run()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    args = arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=args.vocab,
        hidden_size=args.hidden,
        intermediate_size=args.hidden * 8 // 3,
        num_hidden_layers=args.layers,
        num_attention_heads=args.heads,
        max_position_embeddings=args.prompt + args.new,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    model = LlamaForCausalLM(config).to(args.device, getattr(torch, args.dtype)).eval()
    ids = torch.randint(0, args.vocab, (args.batch, args.prompt), device=args.device)
    engine = NativeEngine(model, stop_ids=(), pad_id=0, decode=lambda _: "", max_batch=args.batch)
    prompts, sampling = ids.tolist(), Sampling(args.new)

    def ours() -> None:
        engine.generate(prompts, sampling)

    def generate(**extra: object) -> None:
        mask = torch.ones_like(ids)
        model.generate(
            ids, attention_mask=mask, max_new_tokens=args.new, do_sample=True, top_k=0, pad_token_id=0, **extra
        )

    runs: dict[str, Callable[[], object]] = {
        "native engine (with log-probs)": ours,
        "generate": generate,
        "generate, static cache, uncompiled": lambda: generate(cache_implementation="static", disable_compile=True),
    }
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(args.rounds + 1):
        names = list(runs) if number % 2 == 0 else list(runs)[::-1]
        for name in names:
            spent = seconds(runs[name], args.device)
            if number:
                times[name].append(spent)

    tokens = args.batch * args.new
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{parameters / 1e6:.2f}M parameters, batch {args.batch}, {args.prompt} + {args.new} tokens,")
    print(f"{args.dtype} on {args.device}, {args.threads} threads, medians (best) of {args.rounds} rounds")
    for name, spent in times.items():
        print(f"{name:36s} {tokens / statistics.median(spent):9.0f} ({tokens / min(spent):.0f}) tokens/s")


if __name__ == "__main__":
    main()
