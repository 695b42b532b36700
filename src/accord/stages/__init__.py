"""Every stage of Accord, by name. The code of a stage is imported only when it runs."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

from accord.memory import no_collection
from accord.pipeline import Context, Stage
from accord.stages import configs


def _code(module: str) -> Callable[[], Callable[[Any, Context], dict[str, Any]]]:
    def load() -> Callable[[Any, Context], dict[str, Any]]:
        # torch and transformers are 800,000 objects that stay. The collector is kept from walking through them while
        # they are made and ever after, half a second each time; that is for the first stage only, before there is data.
        first = "torch" not in sys.modules
        with no_collection():
            code = import_module(f"accord.stages.{module}")
            if first and "torch" in sys.modules:
                gc.freeze()

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
        Stage("ensemble", 1, configs.EnsembleConfig, "reward_model", {"model": "model"}, _code("ensemble")),
        Stage("attributes", 1, configs.AttributesConfig, "reward_model", {"model": "model"}, _code("attributes")),
        Stage("odin", 1, configs.OdinConfig, "reward_model", {"model": "model"}, _code("odin")),
        Stage("warm", 1, configs.WarmConfig, "reward_model", {"model": "model"}, _code("warm")),
        Stage("process", 1, configs.ProcessConfig, "reward_model", {"model": "model"}, _code("process")),
        Stage("ppo", 1, configs.PPOConfig, "policy", {"model": "model"}, _code("online")),
        Stage("reinforce", 1, configs.ReinforceConfig, "policy", {"model": "model"}, _code("online")),
        Stage("reinforce_pp", 1, configs.ReinforcePPConfig, "policy", {"model": "model"}, _code("online")),
        Stage("remax", 1, configs.ReMaxConfig, "policy", {"model": "model"}, _code("online")),
        Stage("rloo", 1, configs.RLOOConfig, "policy", {"model": "model"}, _code("online")),
        Stage("opo", 1, configs.OPOConfig, "policy", {"model": "model"}, _code("online")),
        Stage("grpo", 1, configs.GRPOConfig, "policy", {"model": "model"}, _code("online")),
        Stage("dr_grpo", 1, configs.DrGRPOConfig, "policy", {"model": "model"}, _code("online")),
        Stage("dapo", 1, configs.DAPOConfig, "policy", {"model": "model"}, _code("online")),
        Stage("gspo", 1, configs.GSPOConfig, "policy", {"model": "model"}, _code("online")),
        Stage("cispo", 1, configs.CISPOConfig, "policy", {"model": "model"}, _code("online")),
        Stage("sapo", 1, configs.SAPOConfig, "policy", {"model": "model"}, _code("online")),
        Stage("dpo", 1, configs.DPOConfig, "policy", {"model": "model"}, _code("offline")),
        Stage("ipo", 1, configs.IPOConfig, "policy", {"model": "model"}, _code("offline")),
        Stage("simpo", 1, configs.SimPOConfig, "policy", {"model": "model"}, _code("offline")),
        Stage("cpo", 1, configs.CPOConfig, "policy", {"model": "model"}, _code("offline")),
        Stage("orpo", 1, configs.ORPOConfig, "policy", {"model": "model"}, _code("offline")),
        Stage("kto", 1, configs.KTOConfig, "policy", {"model": "model"}, _code("offline")),
        Stage("best_of_n", 1, configs.BestOfNConfig, "samples", {"data": "best.jsonl"}, _code("best_of_n")),
        Stage("expert", 1, configs.ExpertConfig, "policy", {"model": "model"}, _code("expert")),
        Stage("online_dpo", 1, configs.OnlineDPOConfig, "policy", {"model": "model"}, _code("online_dpo")),
        Stage("attacker", 1, configs.AttackerConfig, "attacker", {"model": "model"}, _code("redteam_attacker")),
        Stage("redteam", 1, configs.RedteamConfig, "redteam", {"data": "pairs.jsonl"}, _code("redteam")),
        Stage("evaluate", 1, configs.EvaluateConfig, "results", {"data": "answers.jsonl"}, _code("evaluate")),
        Stage("report", 1, configs.ReportConfig, "report", {}, _code("report"), whole_run=True),
    )
}
"""In the order of a standard run."""
