"""How Accord's cost grows: over model size, length, rows, group size, and memory over the vocabulary.

    python -m benchmarks.speed.curves '{"directory": ..., "threads": 2, ...}'

Every point is a run of the real stage on rows of an exact length, all in one process; memory is measured in another
one, in which freed blocks go back to the kernel at once. Other points of a curve share everything but one number.
"""

from __future__ import annotations

import gc
import json
import shutil
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from benchmarks.speed.accord_side import run_stage
from benchmarks.speed.contest import Contender, FailedError, Log, Process
from benchmarks.speed.worker import MIB, Worker, job_of, status_bytes
from benchmarks.speed.workload import SMALL, Sizes

GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": "1048576", "MALLOC_TRIM_THRESHOLD_": "1048576", "MALLOC_ARENA_MAX": "1"}
"""glibc returns freed blocks of a MiB and more at once, so that they do not count as used."""
MODELS = ((96, 5, 2), (192, 6, 3), (320, 8, 5), (512, 10, 8), (768, 12, 12))
"""Hidden size, layers, heads: about 1, 4, 13, 36 and 95 million parameters."""


def points(*, quick: bool) -> list[dict[str, Any]]:
    """Every point: curve, x, item, sizes, tokens of a row."""
    base = replace(SMALL, token_budget=2048)
    if quick:
        base = replace(base, hidden=64, layers=2, heads=2, vocab=1024)
    every = slice(None, None, 2 if quick else 1)
    made: list[dict[str, Any]] = []

    def add(curve: str, x: float, sizes: Sizes, length: int, item: str = "sft", scored: float = 0.25) -> None:
        made.append({"curve": curve, "x": x, "item": item, "sizes": asdict(sizes), "length": length, "scored": scored})

    for hidden, layers, heads in MODELS[: 2 if quick else None]:
        add("model", 0, replace(base, hidden=hidden, layers=layers, heads=heads), 160)
    for length in (64, 128, 256, 512, 1024)[every]:
        add("length", length, replace(base, max_length=1024), length)
    for rows in (2, 4, 8, 16, 32)[every]:
        add("rows", rows, replace(base, batch=rows), 160)
    for group in (2, 4, 8, 16, 32)[every]:
        add("group", group, replace(base, prompts=2, group=group, new_tokens=32), 128, "grpo")
    for vocab in (1024, 4096) if quick else (1024, 4096, 16384, 65536):
        for length in (128, 512):
            add("vocabulary", vocab, replace(base, vocab=vocab, batch=8, max_length=1024), length, scored=0.9)
    return made


def write_point(point: dict[str, Any], source: Path, directory: Path) -> int:
    """Write a model and rows of exactly the wanted length; return the number of parameters."""
    from accord.models import chat
    from accord.models.build import new_causal
    from accord.models.checkpoint import load_tokenizer, model_card, save_model
    from accord.models.policy import CausalModel
    from accord.types import Message

    sizes = point["sizes"]
    shutil.rmtree(directory, ignore_errors=True)
    tokenizer: Any = load_tokenizer(source / "model")
    model: Any = new_causal(
        tokenizer, hidden_size=sizes["hidden"], num_layers=sizes["layers"], num_heads=sizes["heads"], max_positions=2048
    )
    if sizes["vocab"] > len(tokenizer):
        model.resize_token_embeddings(sizes["vocab"], mean_resizing=False)
    save_model(CausalModel(model), tokenizer, directory / "model", model_card(title="m", body="Random weights."))
    empty = len(chat.encode_prompt(tokenizer, [Message(role="user", content="")]))
    reply = max(2, int(point["length"] * point["scored"]))
    question = " the" * max(1, point["length"] - empty - (reply if point["item"] == "sft" else 0))
    turn = {"role": "user", "content": question}
    answer = {"role": "assistant", "content": " the" * (reply - 1)}
    rows = max(sizes["batch"], sizes["prompts"])
    (directory / "sft.jsonl").write_text((json.dumps({"messages": [turn, answer]}) + "\n") * rows, encoding="utf-8")
    prompts = [{"prompt": [{"role": "user", "content": f"{number}{question[4:]}"}]} for number in range(rows)]
    (directory / "prompts.jsonl").write_text("".join(json.dumps(p) + "\n" for p in prompts), encoding="utf-8")
    return sum(p.numel() for p in model.parameters())


def measure(point: dict[str, Any], job: dict[str, Any], steps: int) -> dict[str, Any]:
    """Median seconds, tokens and peak memory of the steps of a point."""
    from accord.stages import training

    directory = Path(job["directory"]) / "curve"
    parameters = write_point(point, Path(job["directory"]), directory)
    found: dict[str, Any] = {key: point[key] for key in ("curve", "x", "length")} | {"parameters": parameters}
    real_fit = job["real_fit"]

    def fit(learner: Any, source: Any, objective: Any, **_: Any) -> None:
        times: list[float] = []
        tokens: list[int] = []
        begun = 0.0

        def lap(info: Any) -> None:
            nonlocal begun
            times.append(time.perf_counter() - begun)
            if point["item"] == "grpo":
                tokens.append(sum(len(r.completion.token_ids) + len(r.prompt_ids) for r in info.source.rollouts))
            begun = time.perf_counter()

        gc.collect()
        base = status_bytes("VmRSS")
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        begun = time.perf_counter()
        real_fit(learner, source, objective, steps=1 + steps, hooks=[lap])
        found["peak_mib"] = (status_bytes("VmHWM") - base) / MIB
        found["seconds"] = statistics.median(times[1:])
        found["low"], found["high"] = min(times[1:]), max(times[1:])
        found["tokens"] = statistics.median(tokens[1:]) if tokens else point["sizes"]["batch"] * point["length"]

    own = {**job, "item": point["item"], "sizes": point["sizes"], "directory": str(directory), "steps": 1 + steps}
    own.pop("real_fit")
    training.fit = real_fit
    run_stage(own, fit)
    return found


def run(job: dict[str, Any], log: Log, *, quick: bool) -> dict[str, Any]:
    """All curves, from the outside: one process for times, one for memory."""
    found: dict[str, Any] = {"points": [], "errors": []}
    everything = points(quick=quick)
    for name, wanted, environment in (
        ("times", [p for p in everything if p["curve"] != "vocabulary"], {}),
        ("memory", [p for p in everything if p["curve"] == "vocabulary"], GIVE_BACK),
    ):
        one = Contender(name, "curves", environment=environment)
        process = Process(one, {**job, "item": "curves", "points": wanted}, sys.executable)
        try:
            process.expect(300)
            for point in wanted:
                measured = process.ask(point_steps=1 if name == "memory" else 3)["point"]
                found["points"].append(measured)
                log(f"  {point['curve']} {measured['x'] or measured['parameters']}: {describe(measured)}")
        except FailedError as error:
            found["errors"].append(f"{name}: {error}")
            log(f"  {name}: {error}")
        finally:
            process.end()
    return found


def describe(point: dict[str, Any]) -> str:
    """One line of progress."""
    return f"{point['seconds']:.3f} s, {point['tokens']:.0f} tokens, peak {point['peak_mib']:.0f} MiB"


def of_curve(found: Sequence[dict[str, Any]], curve: str) -> list[dict[str, Any]]:
    """The points of one curve in order."""
    return [point for point in found if point["curve"] == curve]


def main() -> None:
    """Measure the points as they are asked for."""
    worker = Worker(job_of(sys.argv))
    job = worker.job
    from accord.stages import training

    job["real_fit"] = training.fit
    heard = worker.wait("ready")
    for point in job["points"]:
        worker.say(point=measure(point, job, heard["point_steps"]))
        heard = worker.hear()


if __name__ == "__main__":
    torch.set_num_interop_threads(1)
    main()
