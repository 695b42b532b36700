"""The configuration of every stage: what `accord init` writes, `--help` prints and the docs list.

Names and defaults are those users of transformers and TRL know; each description gives unit or range and, where it is
not obvious, where the default comes from.
"""

from accord.stages.configs.base import Adapters, Fitted, Overlong, Probe, Sampling, Training
from accord.stages.configs.data import CollectConfig, SampleConfig, SplitConfig
from accord.stages.configs.evaluation import EvaluateConfig, ReportConfig
from accord.stages.configs.language import PretrainConfig, SFTConfig
from accord.stages.configs.offline import DPOConfig
from accord.stages.configs.online import PPOConfig
from accord.stages.configs.reward import RewardConfig

__all__ = [
    "Adapters",
    "CollectConfig",
    "DPOConfig",
    "EvaluateConfig",
    "Fitted",
    "Overlong",
    "PPOConfig",
    "PretrainConfig",
    "Probe",
    "ReportConfig",
    "RewardConfig",
    "SFTConfig",
    "SampleConfig",
    "Sampling",
    "SplitConfig",
    "Training",
]
