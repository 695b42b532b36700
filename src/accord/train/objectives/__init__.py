"""Objectives: what one forward pass and one batch have to say about the loss.

Each returns a loss SUM and names its denominator; nothing here averages. The formulas are in `functional/`.
"""

from accord.train.objectives.correction import SamplerCorrection
from accord.train.objectives.language import NLL
from accord.train.objectives.multi_reward import (
    AttributeBradleyTerry,
    AttributeRegression,
    EnsembleBradleyTerry,
    Odin,
    StepNLL,
)
from accord.train.objectives.pairs import DPO, Pairwise
from accord.train.objectives.policy import PPO, PolicyGradient
from accord.train.objectives.rewards import BradleyTerry, Ranking, Ties
from accord.train.objectives.unpaired import Rowwise

__all__ = [
    "DPO",
    "NLL",
    "PPO",
    "AttributeBradleyTerry",
    "AttributeRegression",
    "BradleyTerry",
    "EnsembleBradleyTerry",
    "Odin",
    "Pairwise",
    "PolicyGradient",
    "Ranking",
    "Rowwise",
    "SamplerCorrection",
    "StepNLL",
    "Ties",
]
