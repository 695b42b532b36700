"""Peak memory of real stages, phase by phase, beside what `accord plan` predicts.

Every configuration runs in a process of its own. A phase is what the process does between two points of the code; at
each of them the peak resident memory since the last one is read (VmHWM of /proc/self/status) and reset. The baseline
is the resident memory of the same process after the same stage has run on a model of 20 thousand weights, so that every
library is loaded and has its buffers. glibc is told to give large blocks back at once (MALLOC_MMAP_THRESHOLD_,
MALLOC_TRIM_THRESHOLD_): freed blocks that it keeps would count as used. Linux only. Example:
`python benchmarks/memory.py --write`.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import gc
import importlib.metadata
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "results" / "memory.md"
LIMIT = 0.15
BEGIN, END = "<!-- generated: begin -->", "<!-- generated: end -->"
MIB = 2**20
Results = dict[str, tuple[dict[str, int], dict[str, int]]]
"""Case -> (predicted, measured), bytes by phase."""
SIZES = {
    "tiny": {"hidden_size": 16, "num_layers": 8, "num_heads": 2, "intermediate_size": 32},
    "30M": {"hidden_size": 512, "num_layers": 8, "num_heads": 8, "intermediate_size": 1376},
    "63M": {"hidden_size": 768, "num_layers": 8, "num_heads": 12, "intermediate_size": 2048},
}
VOCAB = 8192
COMMON = "learning_rate: 1.0e-5, save_steps: 1"
FIT = f"{COMMON}, eval_fraction: 0, max_steps: 2, overlong: truncate"
LORA = "use_peft: true, lora_r: 16"
ROLL = (
    f"{COMMON}, prompts: prompts.jsonl, num_rounds: 2, num_ppo_epochs: 1, max_length: 128, max_completion_length: 64, "
    "token_budget: 256, train_batch_size: 4, max_batch: 4"
)
CASES: dict[str, tuple[str, str, str]] = {
    "sft": ("30M", "sft", f"{FIT}, max_length: 256, token_budget: 1024, train_batch_size: 4"),
    "sft, accumulation": ("63M", "sft", f"{FIT}, max_length: 128, token_budget: 512, train_batch_size: 8"),
    "sft, bf16": ("30M", "sft", f"{FIT}, bf16: true, max_length: 256, token_budget: 1024, train_batch_size: 4"),
    "sft, LoRA": ("63M", "sft", f"{FIT}, {LORA}, max_length: 256, token_budget: 1024, train_batch_size: 8"),
    "sft, checkpointing": (
        "30M",
        "sft",
        f"{FIT}, gradient_checkpointing: true, max_length: 256, token_budget: 2048, train_batch_size: 8",
    ),
    "reward": ("30M", "reward", f"{FIT}, max_length: 128, token_budget: 1024, train_batch_size: 8"),
    "reward, LoRA": ("63M", "reward", f"{FIT}, {LORA}, max_length: 128, token_budget: 1024, train_batch_size: 4"),
    "dpo": ("30M", "dpo", f"{FIT}, max_length: 128, token_budget: 1024, train_batch_size: 8"),
    "dpo, bf16": ("30M", "dpo", f"{FIT}, bf16: true, max_length: 128, token_budget: 1024, train_batch_size: 8"),
    "dpo, LoRA": ("63M", "dpo", f"{FIT}, {LORA}, max_length: 128, token_budget: 1024, train_batch_size: 4"),
    "ppo": ("30M", "ppo", ROLL),
    "ppo, LoRA": ("30M", "ppo", f"{ROLL}, {LORA}"),
    "ppo, shared base": ("63M", "ppo", f"{ROLL}, {LORA}, arrangement: shared_base"),
    "ppo, shared base, checkpointing": (
        "63M",
        "ppo",
        f"{ROLL}, {LORA}, arrangement: shared_base, gradient_checkpointing: true",
    ),
    "sample": (
        "30M",
        "sample",
        "prompts: long.jsonl, num_prompts: 24, num_generations: 2, max_completion_length: 96, max_batch: 48",
    ),
}
"""Name -> (model, stage, section of the config)."""


def make_inputs(size: str, directory: Path) -> None:
    """Write a model, reward models of both kinds and data; random weights are as heavy as trained ones."""
    import torch

    from accord.models.adapters import save_adapter
    from accord.models.build import new_causal, reward_from_causal
    from accord.models.checkpoint import model_card, save_model
    from accord.models.lora import add_lora
    from accord.models.policy import CausalModel, ScoreModel
    from accord.models.tokenizer import train_tokenizer

    rand = random.Random(0)
    words = ["".join(rand.choices("abcdefghijklmnoprstuvw", k=rand.randint(3, 9))) for _ in range(9000)]
    tokenizer = train_tokenizer([" ".join(rand.choices(words, k=200)) for _ in range(1000)], VOCAB)
    torch.manual_seed(0)
    model: Any = new_causal(tokenizer, max_positions=512, **SIZES[size])
    card = model_card(title="m", body="m")
    save_model(CausalModel(model), tokenizer, directory / "base", card)
    reward = reward_from_causal(model, 0)
    save_model(reward, tokenizer, directory / "reward", card)
    adapted = ScoreModel(add_lora(reward.inner, targets=None))
    save_adapter(adapted, directory / "reward" / "adapter", base="base")

    def text(length: int) -> str:
        return " ".join(rand.choices(words, k=length))

    def turn(role: str, length: int) -> dict[str, str]:
        return {"role": role, "content": text(length)}

    rows = [{"messages": [turn("user", 4), turn("assistant", 300)]} for _ in range(64)]
    _write(directory / "sft.jsonl", rows)
    _write(directory / "pairs.jsonl", [{"prompt": text(4), "chosen": text(200), "rejected": text(200)} for _ in rows])
    for name, wanted in (("prompts", 64), ("long", 256)):
        _write(directory / f"{name}.jsonl", [{"prompt": _text_of(tokenizer, wanted, text)} for _ in range(32)])


def _text_of(tokenizer: Any, wanted: int, text: Callable[[int], str]) -> str:
    """A prompt of at most, and nearly, `wanted` tokens with the chat template around it."""
    from accord.models.chat import encode_prompt
    from accord.types import Message

    words = text(wanted).split()
    while len(encode_prompt(tokenizer, [Message(role="user", content=" ".join(words))])) > wanted:
        words.pop()
    return " ".join(words)


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def config_of(name: str, directory: Path) -> Any:
    """The run of one case over the inputs in `directory`."""
    from accord.cli import load

    _, stage, section = CASES[name]
    data = {
        "sft": "model_name_or_path: ./base, dataset: sft.jsonl, ",
        "ppo": "model_name_or_path: ./base, reward_model: ./reward, ",
        "sample": "models: {m: ./base}, ",
    }.get(stage, "model_name_or_path: ./base, dataset: pairs.jsonl, ")
    path = directory / "run.yaml"
    path.write_text(f"run: {{name: r, dir: {directory / 'runs'}}}\n{stage}: {{{data}{section}}}\n")
    return load(path, [])


def resident() -> int:
    """Bytes resident now."""
    return _status("VmRSS")


def _status(field: str) -> int:
    text = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith(field + ":"))


class Meter:
    """Peak resident bytes of each phase."""

    def __init__(self) -> None:
        self.peaks: dict[str, int] = {}
        self.phases = ["load"]

    def read(self) -> None:
        """Credit the peak since the last reading to the phase, and start again."""
        phase = self.phases[-1]
        self.peaks[phase] = max(self.peaks.get(phase, 0), _status("VmHWM"))
        Path("/proc/self/clear_refs").write_text("5")

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Run the block as a phase."""
        self.read()
        self.phases.append(name)
        try:
            yield
        finally:
            self.read()
            self.phases.pop()
            if self.phases == ["load"] and name != "save":
                self.phases = ["between"]

    def watch(self, owner: Any, attribute: str, phase: str) -> None:
        """Make a function of the library a phase."""
        function: Callable[..., Any] = getattr(owner, attribute)

        @functools.wraps(function)
        def watched(*args: Any, **kwargs: Any) -> Any:
            with self.phase(phase):
                return function(*args, **kwargs)

        setattr(owner, attribute, watched)


def measure(name: str, directory: Path) -> dict[str, int]:
    """Run a case in this process; peak bytes above the baseline by phase, and the baseline."""
    import torch

    torch.set_num_threads(1)
    from accord.engines.native import NativeEngine
    from accord.pipeline import run_pipeline
    from accord.stages import STAGES, offline, policies, reward
    from accord.train import hooks, loop, rollouts

    run_pipeline(config_of(name, directory.with_name("tiny")), STAGES, say=lambda _: None)
    gc.collect()
    meter = Meter()
    meter.watch(loop, "update", "update")
    meter.watch(NativeEngine, "generate", "rollout")
    meter.watch(rollouts.OnPolicy, "prepare", "scoring")
    meter.watch(offline, "with_reference", "scoring")
    meter.watch(reward.LearnedReward, "score_ids", "scoring")
    meter.watch(reward.LearnedReward, "scores_and_features", "scoring")
    meter.watch(hooks, "save_state", "save")
    meter.watch(policies, "save_model", "save")
    meter.watch(reward, "save_model", "save")
    base = resident()
    Path("/proc/self/clear_refs").write_text("5")
    run_pipeline(config_of(name, directory), STAGES, say=lambda _: None)
    meter.read()
    return {phase: peak - base for phase, peak in meter.peaks.items() if phase != "between"} | {"baseline": base}


def predict(name: str, directory: Path) -> dict[str, int]:
    """What `accord plan` says of a case; bytes by phase."""
    from accord.forecast import memory

    found = memory(config_of(name, directory))[CASES[name][1]]
    assert found is not None
    return dict(found.phases)


def child(*arguments: str) -> str:
    env = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "MALLOC_MMAP_THRESHOLD_": "65536",
        "MALLOC_TRIM_THRESHOLD_": "65536",
        "MALLOC_ARENA_MAX": "1",
    }
    command = [sys.executable, __file__, "--child", *arguments]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    return done.stdout.splitlines()[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=list(CASES), help="names of cases")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    parser.add_argument("--json", type=Path, help="keep the numbers there; cases that are in it are not run again")
    parser.add_argument("--child", nargs=3, metavar=("WHAT", "NAME", "DIR"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        what, name, directory = arguments.child
        work: dict[str, Callable[[str, Path], Any]] = {"inputs": make_inputs, "measure": measure, "predict": predict}
        print("\n" + json.dumps(work[what](name, Path(directory))))
        return
    results: Results = json.loads(arguments.json.read_text()) if arguments.json and arguments.json.exists() else {}
    with tempfile.TemporaryDirectory() as temporary:
        for name in (name for name in arguments.only if name not in results):
            for size in ("tiny", CASES[name][0]):
                inputs = Path(temporary) / size
                if not inputs.exists():
                    inputs.mkdir()
                    child("inputs", size, str(inputs))
            predicted = json.loads(child("predict", name, str(inputs)))
            measured = json.loads(child("measure", name, str(inputs)))
            for size in ("tiny", CASES[name][0]):
                shutil.rmtree(Path(temporary) / size / "runs")
            results[name] = (predicted, measured)
            for phase, known in predicted.items():
                value = measured.get(phase, 0)
                ratio = known / value if value else float("nan")
                print(f"{name:32} {phase:8} {known / MIB:8.0f} {value / MIB:8.0f} {ratio:6.2f}", flush=True)
            if arguments.json:
                arguments.json.write_text(json.dumps(results))
    if arguments.write:
        write_page(results)


def write_page(results: Results) -> None:
    """Put the table into the page of results."""
    lines = [
        f"Measured {datetime.date.today():%d %B %Y} on Linux, processor only, 1 thread: "
        + ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "transformers", "peft"))
        + ". Command: `python benchmarks/memory.py --write`.",
        "",
        "| case | model | phase | predicted, MiB | measured, MiB | ratio |",
        "|---|---|---|---|---|---|",
    ]
    missed = []
    for name, (predicted, measured) in ((name, results[name]) for name in CASES if name in results):
        top = max((phase for phase in measured if phase != "baseline"), key=lambda phase: measured[phase])
        total = (max(predicted.values()), measured[top])
        rows = [(phase, predicted[phase], measured[phase]) for phase in predicted if phase in measured]
        for phase, known, value in [*rows, ("**peak**", *total)]:
            lines.append(
                f"| {name} | {CASES[name][0]} | {phase} | {known / MIB:.0f} | {value / MIB:.0f} | {known / value:.2f} |"
            )
            if abs(known / value - 1) > LIMIT:
                missed.append(f"{name}, {phase.strip('*')} ({known / value:.2f})")
    if left := [name for name in CASES if name not in results]:
        lines += ["", f"{len(results)} of {len(CASES)} cases are measured; missing: {'; '.join(left)}."]
    lines += ["", f"Off by more than {LIMIT:.0%}: {'; '.join(missed)}." if missed else f"All within {LIMIT:.0%}."]
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n" + "\n".join(lines) + f"\n{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
