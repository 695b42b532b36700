"""TRL as a contender, with the settings that serve it best on the same work; imports nothing of Accord.

    python -m benchmarks.speed.trl_side '{"item": "dpo", "precision": "float32", "directory": ..., "steps": 8, ...}'

What is chosen for it: no gradient checkpointing (its default is on, and costs a third of a step), no logging,
evaluation, saving or progress bar, no dataloader workers, tokens that are ready before the clock starts, the fused
AdamW, and for on-policy training all rows of a round in one optimiser step, so that no second pass for the old
log-probabilities is needed (GRPO). The batches are Accord's, in order.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1", HF_DATASETS_DISABLE_PROGRESS_BARS="1")
os.environ.update(TQDM_DISABLE="1", TOKENIZERS_PARALLELISM="false")

import torch
from benchmarks.speed.rule import vowels
from benchmarks.speed.worker import Worker, job_of, scripted
from datasets import Dataset
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PrinterCallback,
    TrainerCallback,
)

SAME = {
    "lr_scheduler_type": "constant",
    "warmup_steps": 0,
    "weight_decay": 0.0,
    "adam_epsilon": 1e-8,
    "max_grad_norm": 1.0,
    "optim": "adamw_torch_fused",
}
"""What both sides train with; Accord's are in accord_side.py."""
BEST = {
    "gradient_checkpointing": False,
    "logging_strategy": "no",
    "save_strategy": "no",
    "eval_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
    "dataloader_num_workers": 0,
    "num_train_epochs": 1,
}
"""What serves TRL best here."""
ALGORITHM: dict[str, dict[str, Any]] = {
    "sft": {"max_length": None, "train_sampling_strategy": "sequential"},
    "reward": {"max_length": None, "train_sampling_strategy": "sequential"},
    "dpo": {"max_length": None, "train_sampling_strategy": "sequential", "beta": 0.1},
    "kto": {"max_length": None, "train_sampling_strategy": "sequential", "beta": 0.1},
    "grpo": {"beta": 0.04, "loss_type": "grpo", "scale_rewards": "group", "shuffle_dataset": False},
    "rloo": {"beta": 0.05, "shuffle_dataset": False},
}
"""What each algorithm is; the counterpart of `accord_side.STAGE`."""


def arguments_of(job: dict[str, Any]) -> dict[str, Any]:
    """The keyword arguments of TRL's config."""
    sizes, item = job["sizes"], job["item"]
    found: dict[str, Any] = {**SAME, **BEST, **ALGORITHM[item], "learning_rate": job["learning_rate"]}
    found |= {"output_dir": str(Path(job["directory"]) / f"trl-{item}"), "use_cpu": job.get("device") != "cuda"}
    found |= {"bf16": job["precision"] == "bfloat16", "fp16": False, "max_steps": job["steps"], "seed": 0}
    found["per_device_train_batch_size"] = sizes["batch"]
    if item in ("grpo", "rloo"):
        found["per_device_train_batch_size"] = sizes["prompts"] * sizes["group"]
        found |= {"num_generations": sizes["group"], "max_completion_length": sizes["new_tokens"]}
    return found | job.get("settings", {})


def dataset_of(item: str, steps: list[dict[str, Any]], tokenizer: Any) -> Dataset:
    """The rows of all steps, in the columns the trainer expects."""
    if item in ("grpo", "rloo"):
        ids = [prompt for step in steps for prompt in step["prompts"]]
        texts = [tokenizer.decode(prompt) for prompt in ids]
        for text, prompt in zip(texts, ids, strict=True):
            if tokenizer(text)["input_ids"] != prompt:
                raise SystemExit(f"the text of a prompt does not give its tokens again: {text[:80]!r}")
        return Dataset.from_dict({"prompt": texts})
    rows = [row for step in steps for row in step["rows"]]
    starts = [start for step in steps for start in step["starts"]]
    if item == "sft":
        labels = [[-100] * start + row[start:] for row, start in zip(rows, starts, strict=True)]
        return Dataset.from_dict({"input_ids": rows, "labels": labels})
    first, second = rows[0::2], rows[1::2]
    if item == "reward":
        return Dataset.from_dict({"chosen_ids": first, "rejected_ids": second})
    replies = [row[start:] for row, start in zip(rows, starts, strict=True)]
    columns: dict[str, Any] = {"prompt_ids": [r[:s] for r, s in zip(first, starts[0::2], strict=True)]}
    if item == "dpo":
        return Dataset.from_dict({**columns, "chosen_ids": replies[0::2], "rejected_ids": replies[1::2]})
    targets = [target > 0.5 for step in steps for target in step["targets"]][0::2]
    columns |= {"completion_ids": replies[0::2], "KL_completion_ids": replies[1::2], "label": targets}
    return Dataset.from_dict(columns)


def trainer_of(job: dict[str, Any], callback: TrainerCallback) -> Any:
    """The trainer, with its models and data."""
    import trl

    item, directory = job["item"], Path(job["directory"])
    name = {"sft": "SFT", "reward": "Reward", "dpo": "DPO", "kto": "KTO", "grpo": "GRPO", "rloo": "RLOO"}[item]
    tokenizer = AutoTokenizer.from_pretrained(directory / "model")
    steps = json.loads((directory / f"steps-{item}.json").read_text(encoding="utf-8"))
    kind: Any = getattr(trl, f"{name}Trainer")
    if item in ("dpo", "kto"):

        class Ready(kind):
            """The trainer on tokens: both sides must see the same ones, and tokenising is not what is compared."""

            def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
                return dataset

        kind = Ready
    more: dict[str, Any] = {}
    if item == "reward":
        model: Any = AutoModelForSequenceClassification.from_pretrained(directory / "reward-model")
    else:
        model = AutoModelForCausalLM.from_pretrained(directory / "model")
    if item in ("dpo", "kto"):
        more["ref_model"] = AutoModelForCausalLM.from_pretrained(directory / "model")
    if item in ("grpo", "rloo"):
        more["reward_funcs"] = vowels
        # A model without a name cannot be loaded a second time as the reference.
        model.config._name_or_path = str(directory / "model")
    return kind(
        model=model,
        args=getattr(trl, f"{name}Config")(**arguments_of(job)),
        train_dataset=dataset_of(item, steps, tokenizer),
        processing_class=tokenizer,
        callbacks=[callback],
        **more,
    )


class Clock(TrainerCallback):
    """Hands the turn over after every step."""

    def __init__(self, worker: Worker) -> None:
        """Wait for the trainer."""
        self.worker = worker
        self.loss: Any = None
        self.norm: Any = None
        self.rollouts: dict[str, int] = {}
        self.settings: dict[str, Any] = {}

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Everything is loaded."""
        self.worker.start(settings=self.settings)

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """A step is done."""
        norm = None if self.norm is None else float(self.norm)
        self.worker.lap(loss=float(self.loss), grad_norm=norm, **self.rollouts)


def watch(trainer: Any, clock: Clock, worker: Worker) -> None:
    """Time the parts of a step and keep its loss and gradient norm."""
    training_step, clip = trainer.training_step, trainer.accelerator.clip_grad_norm_

    def step(*args: Any, **kwargs: Any) -> Any:
        clock.loss = training_step(*args, **kwargs)
        return clock.loss

    def clipped(*args: Any, **kwargs: Any) -> Any:
        clock.norm = clip(*args, **kwargs)
        return clock.norm

    trainer.training_step = step
    trainer.accelerator.clip_grad_norm_ = clipped
    trainer.compute_loss = worker.watched("forward", trainer.compute_loss)
    create = trainer.create_optimizer

    def create_optimizer(*args: Any, **kwargs: Any) -> Any:
        made = create(*args, **kwargs)
        made.step = worker.watched("optimizer", made.step)
        return made

    trainer.create_optimizer = create_optimizer
    if worker.job["item"] in ("grpo", "rloo"):
        watch_rollouts(trainer, clock, worker)


def watch_rollouts(trainer: Any, clock: Clock, worker: Worker) -> None:
    """Time generation, scoring and reward; scripted replies in the first steps of the checks."""
    sample = worker.watched("generate", trainer._generate_single_turn)
    group, job = job_group(worker.job), worker.job

    def generate(prompt_ids: Any, *args: Any, **kwargs: Any) -> Any:
        ids = [list(map(int, prompt)) for prompt in prompt_ids]
        if trainer.state.global_step >= job.get("scripted", 0):
            found = sample(prompt_ids, *args, **kwargs)
        else:
            made = [
                scripted(prompt, number % group, job["sizes"]["new_tokens"], job["vocab"], job["stop_id"])
                for number, prompt in enumerate(ids)
            ]
            found = (made, None) if job["item"] == "grpo" else made
        replies = found[0] if isinstance(found, tuple) else found
        generated = sum(map(len, replies))
        clock.rollouts = {"generated": generated, "tokens": generated + sum(map(len, ids))}
        return found

    scores = trainer._get_per_token_logps_and_entropies
    scored = worker.watched("score", scores)

    def logps(*args: Any, **kwargs: Any) -> Any:
        # Without gradients these are the old and the reference log-probabilities; with them, the forward pass.
        return (scores if torch.is_grad_enabled() else scored)(*args, **kwargs)

    trainer._get_per_token_logps_and_entropies = logps
    trainer._generate_single_turn = generate
    trainer._calculate_rewards = worker.watched("reward", trainer._calculate_rewards)


def job_group(job: dict[str, Any]) -> int:
    """Replies a prompt."""
    return int(job["sizes"]["group"])


def main() -> None:
    """Serve as a contender."""
    worker = Worker(job_of(sys.argv))
    clock = Clock(worker)
    trainer = trainer_of(worker.job, clock)
    trainer.remove_callback(PrinterCallback)
    watch(trainer, clock, worker)
    left_out = ("output_dir", "max_steps")
    clock.settings = {k: v for k, v in arguments_of(worker.job).items() if k not in left_out}
    trainer.train()


if __name__ == "__main__":
    torch.set_num_interop_threads(1)
    main()
