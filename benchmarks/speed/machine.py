"""The machine's own limit, measured in the same run: rates of matrix products and of memory.

    python -m benchmarks.speed.machine '{"shapes": [[tokens, in, out, times], ...], "directory": ..., ...}'

A contender like the others: each of its "steps" is one pass over everything, and takes its turn between theirs.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from benchmarks.speed.worker import Worker, job_of

SQUARES = {"cpu": (2048,), "cuda": (8192,)}
MEMORY_MIB = {"cpu": 256, "cuda": 4096}


def shapes_of(sizes: dict[str, Any], tokens: int, scored: int) -> list[list[int]]:
    """The products of a Llama's forward pass, as [rows, in, out, times].

    Args:
        sizes: hidden, layers, intermediate, vocab.
        tokens: rows of the trunk's products.
        scored: rows of the head's product.
    """
    hidden, layers = sizes["hidden"], sizes["layers"]
    return [
        [tokens, hidden, hidden, 4 * layers],
        [tokens, hidden, sizes["intermediate"], 2 * layers],
        [tokens, sizes["intermediate"], hidden, layers],
        [scored, hidden, sizes["vocab"], 1],
    ]


def timed(function: Callable[[], Any], device: str, least: float) -> float:
    """Median seconds of a call, over at least `least` seconds and three calls, after one that warms up."""

    def once() -> float:
        if device == "cuda":
            torch.cuda.synchronize()
        begun = time.perf_counter()
        function()
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - begun

    once()
    spent: list[float] = []
    while len(spent) < 3 or sum(spent) < least:
        spent.append(once())
    return statistics.median(spent)


def model_rate(shapes: list[list[int]], dtype: torch.dtype, device: str, least: float) -> float:
    """FLOP/s over the products of forward and backward: x W, g W^T and x^T g of every layer."""
    flops = seconds = 0.0
    for rows, inner, outer, times in shapes:
        x = torch.randn(rows, inner, device=device).to(dtype)
        w = torch.randn(outer, inner, device=device).to(dtype)
        g = torch.randn(rows, outer, device=device).to(dtype)

        def products(x: torch.Tensor = x, w: torch.Tensor = w, g: torch.Tensor = g) -> None:
            torch.mm(x, w.t())
            torch.mm(g, w)
            torch.mm(g.t(), x)

        seconds += times * timed(products, device, least)
        flops += times * 6.0 * rows * inner * outer
    return flops / seconds


def square_rate(size: int, dtype: torch.dtype, device: str, least: float) -> float:
    """FLOP/s of one square product."""
    a = torch.randn(size, size, device=device).to(dtype)
    return 2.0 * size**3 / timed(lambda: torch.mm(a, a), device, least)


def bandwidth(device: str, least: float, mib: int) -> dict[str, float]:
    """Bytes a second that are read, copied (read + write) and combined (two reads + write)."""
    count = mib * 2**20 // 4
    a, b, c = (torch.ones(count, device=device) for _ in range(3))
    return {
        "read": 4.0 * count / timed(a.sum, device, least),
        "copy": 8.0 * count / timed(lambda: a.copy_(b), device, least),
        "triad": 12.0 * count / timed(lambda: torch.add(b, c, alpha=2.0, out=a), device, least),
    }


def main() -> None:
    """Serve as a contender."""
    worker = Worker(job_of(sys.argv))
    job = worker.job
    device, least = job.get("device", "cpu"), job.get("least", 0.1)
    worker.start()
    while True:
        rates: dict[str, Any] = {"bandwidth": bandwidth(device, least, job.get("memory_mib") or MEMORY_MIB[device])}
        for name in ("float32", "bfloat16"):
            dtype = getattr(torch, name)
            squares = {str(n): square_rate(n, dtype, device, least) for n in job.get("squares") or SQUARES[device]}
            rates[name] = {"model": model_rate(job["shapes"], dtype, device, least), **squares}
        worker.lap(rates=rates)


if __name__ == "__main__":
    torch.set_num_interop_threads(1)
    main()
