"""Every stage of Accord, by name. The code of a stage is imported only when it runs."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from accord.pipeline import Context, Stage
from accord.stages import configs


def _code(module: str) -> Callable[[], Callable[[Any, Context], dict[str, Any]]]:
    def load() -> Callable[[Any, Context], dict[str, Any]]:
        code = import_module(f"accord.stages.{module}")

        def run(config: Any, context: Context) -> dict[str, Any]:
            if module not in ("report", "split"):
                import_module("accord.stages.runtime").prepare(context.run)
            return code.run(config, context)

        return run

    return load


STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage("split", 1, configs.SplitConfig, "records", {"data": "train.jsonl"}, _code("split")),
        Stage("pretrain", 1, configs.PretrainConfig, "policy", {"model": "model"}, _code("pretrain")),
        Stage("sft", 1, configs.SFTConfig, "policy", {"model": "model"}, _code("sft")),
        Stage("sample", 1, configs.SampleConfig, "samples", {"data": "samples.jsonl"}, _code("sample")),
        Stage(
            "collect",
            1,
            configs.CollectConfig,
            "preferences",
            {"data": "preferences.jsonl"},
            _code("collect"),
        ),
        Stage("reward", 1, configs.RewardConfig, "reward_model", {"model": "model"}, _code("reward")),
        Stage("ppo", 1, configs.PPOConfig, "policy", {"model": "model"}, _code("ppo")),
        Stage("dpo", 1, configs.DPOConfig, "policy", {"model": "model"}, _code("dpo")),
        Stage("evaluate", 1, configs.EvaluateConfig, "results", {"data": "answers.jsonl"}, _code("evaluate")),
        Stage("report", 1, configs.ReportConfig, "report", {}, _code("report"), whole_run=True),
    )
}
"""In the order of a standard run."""
