"""What is compared: the list of items with their contenders, plans, and seconds they take on two quiet cores."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.speed import curves, machine
from benchmarks.speed.contest import Contender, Log, Plan, contest
from benchmarks.speed.workload import GPU_BIG, GPU_HALF, LARGE, SMALL, TINY, Sizes, prepare

ACCORD = Contender("accord float32", "accord_side")
ACCORD_BF16 = Contender("accord bfloat16", "accord_side", "bfloat16")
TRL = Contender("trl float32", "trl_side")
TRL_BF16 = Contender("trl bfloat16", "trl_side", "bfloat16")
PLAIN = Contender("plain float32", "plain_side")
PLAIN_BF16 = Contender("plain bfloat16", "plain_side", "bfloat16")
MACHINE = Contender("machine", "machine")
ALL = (ACCORD, TRL, ACCORD_BF16, TRL_BF16)
ON_GPU = (ACCORD_BF16, TRL_BF16, MACHINE)


@dataclass(frozen=True)
class Run:
    """One run of the benchmark: where it works and what it was given."""

    work: Path
    data: Path | None
    threads: int
    device: str
    quick: bool
    peer_python: str | None
    log: Log


@dataclass(frozen=True)
class Item:
    """One comparison."""

    name: str
    title: str
    seconds: int
    """On two quiet cores; from the times of the issue: TRL 2.8 s a step of SFT, 8 of DPO, 21 of GRPO."""
    measure: Callable[[Run], dict[str, Any]]


def workload(run: Run, sizes: Sizes) -> tuple[dict[str, Any], dict[str, Any]]:
    """The job that contenders are given, and what it holds; written once a size."""
    if run.quick:
        sizes = replace(TINY, name=f"{sizes.name} (quick: tiny)")
    directory = run.work / sizes.name.replace(" ", "-")
    key = str(directory)
    if key not in _MADE:
        run.log(f"  writing model and data of {sizes.name}")
        _MADE[key] = prepare(directory, sizes, run.data, long=run.device == "cuda")
    made = _MADE[key]
    job = {
        "directory": key,
        "sizes": made["sizes"],
        "threads": run.threads,
        "device": run.device,
        "learning_rate": 1e-5,
        "stop_id": made["stop_id"],
        "vocab": made["vocab"],
    }
    return job, made


_MADE: dict[str, dict[str, Any]] = {}


def trained(algorithm: str, contenders: tuple[Contender, ...], plan: Plan, sizes: Sizes = SMALL) -> Any:
    """How an algorithm is measured."""

    def measure(run: Run) -> dict[str, Any]:
        job, made = workload(run, sizes)
        shape = {**made["sizes"], "intermediate": made["intermediate"]}
        # What goes through the trunk at once: a whole step on the CPU workload, a full micro-batch on a GPU.
        tokens = min(made["sizes"]["token_budget"], 1320 if run.device == "cpu" else 10**6)
        shapes = machine.shapes_of(shape, tokens, max(1, tokens // 4))
        job |= {"item": algorithm, "shapes": shapes}
        chosen, used = contenders, plan
        if run.quick:
            chosen = tuple(c for c in contenders if c in (ACCORD, TRL, ACCORD_BF16, MACHINE))
            used = replace(plan, rounds=2, check=2)
            job |= {"least": 0.01, "squares": [256], "memory_mib": 16}
        found = contest(chosen, job, used, run.log, pythons(run))
        return found | {"algorithm": algorithm, "workload": made, "shape": shape, "batches": batches(job, used)}

    return measure


def pythons(run: Run) -> dict[str, str]:
    """The interpreter of the peers, where they have an environment of their own."""
    return {} if run.peer_python is None else {"trl_side": run.peer_python, "plain_side": run.peer_python}


def batches(job: dict[str, Any], plan: Plan) -> list[dict[str, Any]]:
    """Lengths and scored tokens of the timed steps that were written for the peers."""
    path = Path(job["directory"]) / f"steps-{job['item']}.json"
    if not path.is_file():
        return []
    steps = json.loads(path.read_text(encoding="utf-8"))[plan.check + plan.warm :]
    found: list[dict[str, Any]] = []
    for step in steps:
        if "rows" in step:
            lengths = [len(row) for row in step["rows"]]
            scored = sum(n - start for n, start in zip(lengths, step["starts"], strict=True))
            found.append({"lengths": lengths, "tokens": sum(lengths), "scored": scored})
    return found


def decoded_large(run: Run) -> dict[str, Any]:
    """Accord's engine on the large model beside the machine's limit."""
    sizes = GPU_HALF if run.device == "cuda" else LARGE
    job, made = workload(run, replace(sizes, prompts=8) if run.device == "cuda" else sizes)
    shape = {**made["sizes"], "intermediate": made["intermediate"]}
    rows = made["sizes"]["prompts"] * made["sizes"]["group"]
    job |= {"item": "decode", "prompt_tokens": 128, "shapes": machine.shapes_of(shape, rows, rows)}
    if run.quick:
        job |= {"least": 0.01, "squares": [256], "memory_mib": 16}
    one = Contender("accord bfloat16", "decode_side", "bfloat16")
    two = () if run.device == "cuda" else (Contender("accord float32", "decode_side"),)
    found = contest((*two, one, MACHINE), job, Plan(rounds=2 if run.quick else 4, check=0, warm=1), run.log)
    shared = 128 * (rows - made["sizes"]["prompts"])
    columns = 128 + made["sizes"]["new_tokens"] // 2
    return found | {"workload": made, "shape": shape, "rows": rows, "columns": columns, "shared": shared}


def decoded(run: Run) -> dict[str, Any]:
    """Engine, `generate`, continuous batching and a bare loop: `benchmarks/decode.py` in a process of its own."""
    options: dict[str, Any] = {"sizes": ["llama-6M", "llama-13M", "gpt2-1M"], "repeats": 3, "threads": run.threads or 2}
    if run.quick:
        options |= {"sizes": ["llama-1M"], "repeats": 1, "rows": 8, "new": 8, "lengths": ["mixed"]}
    code = (
        "import json; from benchmarks.decode import measure; "
        f"print('\\nROWS ' + json.dumps(measure(**json.loads({json.dumps(options)!r}))))"
    )
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": root},
        cwd=root,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    rows = [line[5:] for line in done.stdout.splitlines() if line.startswith("ROWS ")]
    if done.returncode or not rows:
        lines = done.stderr.strip().splitlines()
        raise RuntimeError(lines[-1] if lines else "benchmarks/decode.py printed no rows")
    return {"rows": json.loads(rows[0])}


def curved(run: Run) -> dict[str, Any]:
    """Cost curves."""
    job, _ = workload(run, SMALL)
    return curves.run(job, run.log, quick=run.quick)


ITEMS = (
    Item("sft", "SFT", 150, trained("sft", (*ALL, PLAIN, PLAIN_BF16, MACHINE), Plan(rounds=6))),
    Item("reward", "reward model", 85, trained("reward", ALL, Plan(rounds=5))),
    Item("dpo", "DPO", 200, trained("dpo", (*ALL, PLAIN, PLAIN_BF16), Plan(rounds=4))),
    Item("kto", "KTO", 105, trained("kto", ALL, Plan(rounds=4))),
    Item("grpo", "GRPO", 270, trained("grpo", ALL, Plan(rounds=5, check=1, warm=1))),
    Item("rloo", "RLOO", 180, trained("rloo", (ACCORD, TRL, ACCORD_BF16), Plan(rounds=5, check=1, warm=1))),
    Item("decode", "generation", 110, decoded),
    Item(
        "sft-large",
        "SFT, 95 M",
        105,
        trained("sft", (ACCORD, ACCORD_BF16, MACHINE), Plan(rounds=4, check=1), LARGE),
    ),
    Item("decode-large", "generation, 95 M", 80, decoded_large),
    Item("curves", "cost curves", 160, curved),
)
"""`make bench`; about 24 minutes."""
GPU_ITEMS = tuple(
    Item(f"{name}-{sizes.name}", f"{name.upper()}, {sizes.name}", 120, trained(name, ON_GPU, plan, sizes))
    for sizes in (replace(GPU_HALF, new_tokens=256, prompts=8), replace(GPU_BIG, new_tokens=256, prompts=8))
    for name, plan in (
        ("sft", Plan(rounds=10, block=3)),
        ("dpo", Plan(rounds=8, block=2)),
        ("grpo", Plan(rounds=4, check=1, warm=1)),
    )
) + (Item("decode-large", "generation, 0.5 B", 90, decoded_large),)
"""`make bench-gpu`."""


def budget(items: tuple[Item, ...]) -> str:
    """The table of estimates."""
    lines = [f"{item.name:14} {item.seconds:5d} s  {item.title}" for item in items]
    return "\n".join([*lines, f"{'all':14} {sum(i.seconds for i in items):5d} s"])
