"""Objectives: what one forward pass and one batch have to say about the loss.

Each returns a loss SUM and names its denominator; nothing here averages. The formulas are in `functional/`.
"""

from accord.train.objectives.language import NLL
from accord.train.objectives.pairs import DPO
from accord.train.objectives.policy import PPO
from accord.train.objectives.rewards import BradleyTerry

__all__ = ["DPO", "NLL", "PPO", "BradleyTerry"]
