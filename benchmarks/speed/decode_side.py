"""Accord's engine alone: time of one decoding step, prefill and start taken off.

python -m benchmarks.speed.decode_side '{"directory": ..., "sizes": ..., "precision": "float32", ...}'
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import torch
from benchmarks.speed.worker import Worker, job_of

SHORT = 8


def main() -> None:
    """Serve as a contender."""
    worker = Worker(job_of(sys.argv))
    job, sizes = worker.job, worker.job["sizes"]
    from accord.engines.base import Sampling
    from accord.engines.native import NativeEngine
    from accord.models.checkpoint import load_causal

    dtype = torch.bfloat16 if job["precision"] == "bfloat16" else torch.float32
    model: Any = load_causal(str(Path(job["directory"]) / "model"), dtype=dtype)
    model.to(job.get("device", "cpu"))
    rows = sizes["prompts"] * sizes["group"]
    engine = NativeEngine(model, stop_ids=(), pad_id=0, decode=lambda _: "", max_batch=rows)
    drawn = torch.Generator().manual_seed(0)
    ids = torch.randint(16, job["vocab"], (sizes["prompts"], job["prompt_tokens"]), generator=drawn).tolist()

    def seconds(new: int) -> float:
        begun = time.perf_counter()
        engine.generate(ids, Sampling(max_new_tokens=new, n=sizes["group"]))
        return time.perf_counter() - begun

    worker.start()
    while True:
        short, whole = seconds(SHORT), seconds(sizes["new_tokens"])
        step = (whole - short) / (sizes["new_tokens"] - SHORT)
        worker.lap(parts={"step": step, "whole": whole}, generated=rows * sizes["new_tokens"])


if __name__ == "__main__":
    torch.set_num_interop_threads(1)
    main()
