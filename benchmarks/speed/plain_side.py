"""A plain padded training loop on a transformers model, the way one writes it by hand: SFT and DPO.

python -m benchmarks.speed.plain_side '{"item": "sft", "precision": "bfloat16", "directory": ..., ...}'
"""

from __future__ import annotations

import json
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from benchmarks.speed.worker import Worker, job_of
from torch import Tensor
from torch.nn.functional import cross_entropy, logsigmoid
from transformers import AutoModelForCausalLM


def padded(rows: list[list[int]], starts: list[int], device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids, attention mask, and labels with -100 where nothing is scored."""
    width = max(map(len, rows))
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros_like(ids)
    labels = torch.full_like(ids, -100)
    for number, (row, start) in enumerate(zip(rows, starts, strict=True)):
        ids[number, : len(row)] = torch.tensor(row)
        mask[number, : len(row)] = 1
        labels[number, start : len(row)] = torch.tensor(row[start:])
    return ids.to(device), mask.to(device), labels.to(device)


def sequence_logp(model: Any, ids: Tensor, mask: Tensor, labels: Tensor) -> Tensor:
    """Log-probability of each row's reply."""
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1].float()
    logp = logits.log_softmax(-1).gather(-1, labels[:, 1:].clamp(min=0)[..., None])[..., 0]
    return (logp * (labels[:, 1:] != -100)).sum(1)


def loss_of(item: str, step: dict[str, Any], model: Any, ref: Any, device: str) -> Tensor:
    """The loss of one step."""
    ids, mask, labels = padded(step["rows"], step["starts"], device)
    if item == "sft":
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1].float()
        return cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)
    logp = sequence_logp(model, ids, mask, labels)
    with torch.no_grad():
        ref_logp = sequence_logp(ref, ids, mask, labels)
    ratio = logp - ref_logp
    return -logsigmoid(0.1 * (ratio[0::2] - ratio[1::2])).mean()


def main() -> None:
    """Serve as a contender."""
    worker = Worker(job_of(sys.argv))
    job = worker.job
    directory, device = Path(job["directory"]), job.get("device", "cpu")
    steps = json.loads((directory / f"steps-{job['item']}.json").read_text(encoding="utf-8"))
    model: Any = AutoModelForCausalLM.from_pretrained(directory / "model").to(device).train()
    ref: Any = None
    if job["item"] == "dpo":
        ref = AutoModelForCausalLM.from_pretrained(directory / "model").to(device).requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=job["learning_rate"], weight_decay=0.0, fused=True)
    worker.start()
    for step in steps:
        lower = job["precision"] == "bfloat16"
        context: AbstractContextManager[Any] = torch.autocast(device, torch.bfloat16) if lower else nullcontext()
        with worker.phase("forward"), context:
            loss = loss_of(job["item"], step, model, ref, device)
        with worker.phase("backward"):
            loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        with worker.phase("optimizer"):
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        worker.lap(loss=loss.item(), grad_norm=norm.item())


if __name__ == "__main__":
    torch.set_num_interop_threads(1)
    main()
