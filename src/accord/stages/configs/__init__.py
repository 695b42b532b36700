"""The configuration of every stage: what `accord init` writes, `--help` prints and the docs list.

Names and defaults are those users of transformers and TRL know; each description gives unit or range and, where it is
not obvious, where the default comes from.
"""

from accord.stages.configs.base import (
    Adapters,
    Arranged,
    Fitted,
    Overlong,
    Probe,
    Quantized,
    Sampling,
    Training,
)
from accord.stages.configs.data import CollectConfig, SampleConfig, SplitConfig
from accord.stages.configs.evaluation import EvaluateConfig, ReportConfig
from accord.stages.configs.language import PretrainConfig, SFTConfig
from accord.stages.configs.offline import (
    CPOConfig,
    DPOConfig,
    IPOConfig,
    KTOConfig,
    MovingReference,
    OfflineConfig,
    ORPOConfig,
    SimPOConfig,
)
from accord.stages.configs.online import (
    CISPOConfig,
    DAPOConfig,
    DrGRPOConfig,
    GRPOConfig,
    GSPOConfig,
    OnPolicyConfig,
    OPOConfig,
    PPOConfig,
    ReinforceConfig,
    ReinforcePPConfig,
    ReMaxConfig,
    RLOOConfig,
    SAPOConfig,
)
from accord.stages.configs.redteam import AttackerConfig, RedteamConfig
from accord.stages.configs.reward import RewardConfig
from accord.stages.configs.reward_variants import (
    AttributesConfig,
    EnsembleConfig,
    OdinConfig,
    ProcessConfig,
    WarmConfig,
)
from accord.stages.configs.selection import BestOfNConfig, ExpertConfig, OnlineDPOConfig, Selecting

__all__ = [
    "Adapters",
    "Arranged",
    "AttackerConfig",
    "AttributesConfig",
    "BestOfNConfig",
    "CISPOConfig",
    "CPOConfig",
    "CollectConfig",
    "DAPOConfig",
    "DPOConfig",
    "DrGRPOConfig",
    "EnsembleConfig",
    "EvaluateConfig",
    "ExpertConfig",
    "Fitted",
    "GRPOConfig",
    "GSPOConfig",
    "IPOConfig",
    "KTOConfig",
    "MovingReference",
    "OPOConfig",
    "ORPOConfig",
    "OdinConfig",
    "OfflineConfig",
    "OnPolicyConfig",
    "OnlineDPOConfig",
    "Overlong",
    "PPOConfig",
    "PretrainConfig",
    "Probe",
    "ProcessConfig",
    "Quantized",
    "RLOOConfig",
    "ReMaxConfig",
    "RedteamConfig",
    "ReinforceConfig",
    "ReinforcePPConfig",
    "ReportConfig",
    "RewardConfig",
    "SAPOConfig",
    "SFTConfig",
    "SampleConfig",
    "Sampling",
    "Selecting",
    "SimPOConfig",
    "SplitConfig",
    "Training",
    "WarmConfig",
]
