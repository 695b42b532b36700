"""Every algorithm: a source of batches, a credit function and an objective. Reading the dict is the documentation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from accord.train import objectives
from accord.train.credit import (
    GAECredit,
    GRPOCredit,
    OPOCredit,
    ReinforceCredit,
    ReinforcePlusPlusCredit,
    ReMaxCredit,
    RLOOCredit,
)
from accord.train.objectives import PolicyGradient


@dataclass(frozen=True)
class Algorithm:
    """What has to be joined by `fit`."""

    source: Literal[
        "documents", "demonstrations", "pairs", "replies", "rated replies", "steps", "rollouts", "chosen rollouts"
    ]
    """Where batches come from: files of text, conversations, pairs, labelled replies, or the policy itself:
    all of its replies, or those chosen by their scores."""
    credit: Callable[..., Any] | None
    """On-policy only: turns scores into advantages."""
    objective: Callable[..., Any]
    """Loss and denominator."""
    needs: tuple[str, ...]
    """Models beside the policy; "reward" may be a function, "greedy" is one more reply a prompt."""


ALGORITHMS: dict[str, Algorithm] = {
    "pretrain": Algorithm("documents", None, objectives.NLL, ()),
    "sft": Algorithm("demonstrations", None, objectives.NLL, ()),
    "reward": Algorithm("pairs", None, objectives.BradleyTerry, ()),
    "ensemble": Algorithm("pairs", None, objectives.EnsembleBradleyTerry, ()),
    "odin": Algorithm("pairs", None, objectives.Odin, ()),
    "attributes": Algorithm("rated replies", None, objectives.AttributeRegression, ()),
    "process": Algorithm("steps", None, objectives.StepNLL, ()),
    "dpo": Algorithm("pairs", None, objectives.Pairwise, ("ref",)),
    "ipo": Algorithm("pairs", None, objectives.Pairwise, ("ref",)),
    "simpo": Algorithm("pairs", None, objectives.Pairwise, ()),
    "cpo": Algorithm("pairs", None, objectives.Pairwise, ()),
    "orpo": Algorithm("pairs", None, objectives.Pairwise, ()),
    "kto": Algorithm("replies", None, objectives.Rowwise, ("ref",)),
    "expert": Algorithm("chosen rollouts", None, objectives.NLL, ("reward_model",)),
    "online_dpo": Algorithm("chosen rollouts", None, objectives.Pairwise, ("ref", "reward_model")),
    "ppo": Algorithm("rollouts", GAECredit, objectives.PPO, ("ref", "reward", "critic")),
    "reinforce": Algorithm("rollouts", ReinforceCredit, partial(PolicyGradient, loss="reinforce"), ("ref", "reward")),
    "reinforce_pp": Algorithm("rollouts", ReinforcePlusPlusCredit, PolicyGradient, ("ref", "reward")),
    "remax": Algorithm("rollouts", ReMaxCredit, PolicyGradient, ("ref", "reward", "greedy")),
    "rloo": Algorithm(
        "rollouts", RLOOCredit, partial(PolicyGradient, importance_sampling_level="sequence_sum"), ("ref", "reward")
    ),
    "opo": Algorithm("rollouts", OPOCredit, PolicyGradient, ("ref", "reward")),
    "grpo": Algorithm("rollouts", GRPOCredit, PolicyGradient, ("ref", "reward")),
    "dr_grpo": Algorithm("rollouts", partial(GRPOCredit, scale_rewards="none"), PolicyGradient, ("ref", "reward")),
    "dapo": Algorithm("rollouts", GRPOCredit, PolicyGradient, ("ref", "reward")),
    "gspo": Algorithm(
        "rollouts", GRPOCredit, partial(PolicyGradient, importance_sampling_level="sequence"), ("ref", "reward")
    ),
    "cispo": Algorithm("rollouts", GRPOCredit, partial(PolicyGradient, loss="cispo"), ("ref", "reward")),
    "sapo": Algorithm("rollouts", GRPOCredit, partial(PolicyGradient, loss="sapo"), ("ref", "reward")),
}
