"""Accord as a contender: the real stage, run the way `accord run` runs it, timed by a hook after every step.

    python -m benchmarks.speed.accord_side '{"item": "dpo", "precision": "float32", "directory": ..., "steps": 8, ...}'

Nothing of the hot path is replaced: the hook goes in front of the stage's own, and what is timed is wrapped. Settings
that a version of Accord does not have yet (`bf16`, `padding_free`, `share_prompts`, `diagnosis`) are set where they
exist.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from benchmarks.speed.worker import Worker, job_of, scripted

SAME = {
    "lr_scheduler_type": "constant",
    "warmup_ratio": 0.0,
    "weight_decay": 0.0,
    "adam_epsilon": 1e-8,
    "max_grad_norm": 1.0,
    "logging_steps": 10**6,
    "save_steps": 10**6,
}
"""What both sides train with; TRL's are in trl_side.py."""
FITTED = {"eval_fraction": 0.0, "overlong": "error"}
ON_POLICY = {"reward_model": None, "reward_funcs": ["benchmarks.speed.rule:vowels"], "missing_eos_penalty": None}
STAGE: dict[str, dict[str, Any]] = {
    "sft": {**FITTED, "dataset": "sft.jsonl", "train_on": "last"},
    "reward": {**FITTED, "dataset": "pairs.jsonl", "center_rewards_coefficient": 0.0},
    "dpo": {**FITTED, "dataset": "pairs.jsonl", "beta": 0.1},
    "kto": {**FITTED, "dataset": "pairs.jsonl", "beta": 0.1},
    "grpo": {**ON_POLICY, "prompts": "prompts.jsonl", "beta": 0.04, "kl_coef": 0.0},
    "rloo": {**ON_POLICY, "prompts": "prompts.jsonl", "beta": 0.0, "kl_coef": 0.05},
}
"""What each algorithm is; the counterpart of `trl_side.ALGORITHM`."""


class UnavailableError(Exception):
    """This version of Accord lacks what the contender needs."""


def section(job: dict[str, Any]) -> dict[str, Any]:
    """The stage's section of the run config.

    Raises:
        UnavailableError: bf16 is asked for and the stage has no such setting.
    """
    from accord.stages import STAGES

    item, sizes = job["item"], job["sizes"]
    directory = Path(job["directory"])
    known = STAGES[item].config.model_fields
    found: dict[str, Any] = {"model_name_or_path": str(directory / "model"), **SAME, **STAGE[item]}
    for name in ("dataset", "prompts"):
        if name in found:
            found[name] = str(directory / found[name])
    found |= {"learning_rate": job["learning_rate"], "max_length": sizes["max_length"]}
    found |= {"token_budget": sizes["token_budget"], "train_batch_size": sizes["batch"]}
    if item in ("grpo", "rloo"):
        found |= {"train_batch_size": sizes["prompts"], "num_generations": sizes["group"], "num_rounds": job["steps"]}
        found |= {"max_completion_length": sizes["new_tokens"]}
    else:
        found["max_steps"] = job["steps"]
    if job["precision"] == "bfloat16":
        if "bf16" not in known:
            raise UnavailableError("this version of Accord has no setting bf16")
        found["bf16"] = True
        if item in ("grpo", "rloo"):
            found["old_logps"] = "sampler"  # as TRL, which has no second pass either
    if "diagnosis" in known:
        # Peers watch for no reward hacking. What it costs is measured by benchmarks/diagnosis_cost.py.
        found["diagnosis"] = {"enabled": False}
    for name, value in job.get("settings", {}).items():
        if name in known:
            found[name] = value
    return found


def run_stage(job: dict[str, Any], replaced: Callable[..., None]) -> None:
    """Run one stage; `replaced` is called where the stage calls `fit`, with the same arguments."""
    from accord.cli import load
    from accord.pipeline import run_pipeline
    from accord.stages import STAGES, training

    work = Path(job["directory"]) / f"run-{job['item']}-{job['precision']}{job.get('tag', '')}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    config = {"run": {"name": "r", "dir": str(work), "seed": 0, "threads": job["threads"] or None}}
    (work / "run.yaml").write_text(json.dumps({**config, job["item"]: section(job)}, indent=1), encoding="utf-8")
    training.fit = replaced  # type: ignore[assignment]
    run_pipeline(load(work / "run.yaml", []), STAGES, say=lambda line: print(line, file=sys.stderr))


class Timed:
    """A source whose batches are timed; everything else is the source's own."""

    def __init__(self, source: Any, worker: Worker) -> None:
        """Wrap."""
        self.source, self.worker = source, worker

    def __getattr__(self, name: str) -> Any:
        return getattr(self.source, name)

    def __iter__(self) -> Iterator[Any]:
        batches = iter(self.source)
        while True:
            with self.worker.phase("data"):
                batch = next(batches)
            yield batch


def main() -> None:
    """Serve as a contender."""
    worker = Worker(job_of(sys.argv))
    job = worker.job
    from accord.stages import offline, training

    real_fit, real_reference = training.fit, offline.with_reference

    def reference(examples: Any, *args: Any, **kwargs: Any) -> Any:
        """The reference pass, as often as the orchestrator asks for it."""
        heard = worker.wait("reference", rows=sum(len(e.rows) for e in examples))
        found: Any = None
        while "go" in heard:
            with worker.phase("reference"):
                found = real_reference(examples, *args, **(kwargs | {"cache": None, "on_progress": None}))
            worker.say(steps=[{"seconds": worker.phases.pop("reference")}])
            heard = worker.hear()
        return found

    def fit(learner: Any, source: Any, objective: Any, *, steps: int, hooks: Any = ()) -> None:
        """Accord's own `fit` with the clock in front of the stage's hooks."""
        on_policy = hasattr(source, "draw_prompts")
        if job.get("write_steps"):
            write_steps(Path(job["directory"]), job, learner, source)
        learner.forward = worker.watched("forward", learner.forward)
        learner.optimizer.step = worker.watched("optimizer", learner.optimizer.step)
        if on_policy:
            watch_rollouts(worker, source)

        def lap(info: Any) -> None:
            numbers = {"loss": info.metrics["loss"], "grad_norm": info.metrics["grad_norm"]}
            if on_policy:
                done = source.rollouts
                numbers["generated"] = sum(len(r.completion.token_ids) for r in done)
                numbers["tokens"] = numbers["generated"] + sum(len(r.prompt_ids) for r in done)
            worker.lap(**numbers)

        timed: Any = Timed(source, worker)
        worker.start(settings=settings_of(job))
        real_fit(learner, timed, objective, steps=steps, hooks=[lap, *hooks])

    offline.with_reference = reference  # type: ignore[assignment]
    try:
        run_stage(job, fit)
    except UnavailableError as missing:
        worker.say(error=str(missing))


def settings_of(job: dict[str, Any]) -> dict[str, Any]:
    """What the stage was told, for the report."""
    found = section(job)
    return {name: found[name] for name in found if name not in ("model_name_or_path", "dataset", "prompts")}


def watch_rollouts(worker: Worker, source: Any) -> None:
    """Time the parts of a round; the first steps of the checks have scripted replies instead of sampled ones."""
    source.engine = Scripted(source.engine, worker)
    source.reward = worker.watched("reward", source.reward)
    if hasattr(source, "_measure"):
        source._measure = worker.watched("score", source._measure)


class Scripted:
    """The engine, with replies that every contender knows in the first `job["scripted"]` rounds."""

    def __init__(self, engine: Any, worker: Worker) -> None:
        """Wrap."""
        self.engine, self.worker, self.rounds = engine, worker, 0
        self.tokenizer: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def generate(self, prompts: Any, sampling: Any, **kwargs: Any) -> Any:
        """Replies, sampled or scripted."""
        self.rounds += 1
        if self.rounds > self.worker.job.get("scripted", 0):
            with self.worker.phase("generate"):
                return self.engine.generate(prompts, sampling, **kwargs)
        return self._scripted(prompts, sampling)

    def _scripted(self, prompts: Any, sampling: Any) -> list[Any]:
        from accord.models import chat
        from accord.models.checkpoint import load_tokenizer
        from accord.types import Completion

        self.tokenizer = self.tokenizer or load_tokenizer(Path(self.worker.job["directory"]) / "model")
        stop, vocab = self.worker.job["stop_id"], self.worker.job["vocab"]
        made: list[Any] = []
        for ids in prompts:
            for number in range(sampling.n):
                reply = scripted(list(ids), number, sampling.max_new_tokens, vocab, stop)
                ended = reply[-1] == stop
                made.append(
                    Completion(
                        token_ids=tuple(reply),
                        finish="stop" if ended else "length",
                        text=chat.decode(self.tokenizer, reply),
                    )
                )
        return made


def write_steps(directory: Path, job: dict[str, Any], learner: Any, source: Any) -> None:
    """Write what the peers train on: the batches or prompts of each step, and the reward model before training."""
    steps: list[dict[str, Any]] = []
    if hasattr(source, "draw_prompts"):
        for number in range(job["steps"]):
            source.round = number
            steps.append({"prompts": [list(p.ids) for p in source.draw_prompts()]})
        source.round = 0
    else:
        place, batches = source.state(), iter(source)
        for _ in range(job["steps"]):
            batch = next(batches)
            lengths = batch.lengths_B.tolist()
            rows = [ids[:n] for ids, n in zip(batch.ids_BT.tolist(), lengths, strict=True)]
            masks = [mask[:n] for mask, n in zip(batch.response_mask_BT.int().tolist(), lengths, strict=True)]
            step: dict[str, Any] = {"rows": rows, "starts": [mask.index(1) for mask in masks]}
            if batch.target_B is not None:
                step["targets"] = batch.target_B.tolist()
            steps.append(step)
        source.restore(place)
    (directory / f"steps-{job['item']}.json").write_text(json.dumps(steps), encoding="utf-8")
    if job["item"] == "reward":
        learner.module.inner.save_pretrained(directory / "reward-model")


if __name__ == "__main__":
    torch.set_num_interop_threads(1)
    main()
