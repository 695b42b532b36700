"""Every algorithm: a source of batches, a credit function and an objective. Reading the dict is the documentation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from accord.train import objectives
from accord.train.credit import GAECredit


@dataclass(frozen=True)
class Algorithm:
    """What has to be joined by `fit`."""

    source: Literal["documents", "demonstrations", "pairs", "rollouts"]
    """Where batches come from: files of text, conversations, preference pairs, or the policy itself."""
    credit: Callable[..., Any] | None
    """On-policy only: turns scores into advantages."""
    objective: type
    """Loss and denominator."""
    needs: tuple[str, ...]
    """Models beside the one that is trained."""


ALGORITHMS: dict[str, Algorithm] = {
    "pretrain": Algorithm("documents", None, objectives.NLL, ()),
    "sft": Algorithm("demonstrations", None, objectives.NLL, ()),
    "reward": Algorithm("pairs", None, objectives.BradleyTerry, ()),
    "dpo": Algorithm("pairs", None, objectives.DPO, ("ref",)),
    "ppo": Algorithm("rollouts", GAECredit, objectives.PPO, ("ref", "reward_model", "critic")),
}
