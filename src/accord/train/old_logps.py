"""Whose log-probabilities are the old ones of a round: the learner's, or the sampler's where they are proven the same.

An engine that samples exactly has computed log pi_old of every token already, so a forward pass of the policy over the
whole round computes nothing new: of generate, score and update it is about a tenth of the time, more with long prompts.
The proof is a comparison, not a promise: in the first round both are computed on every row, later on a sample of rows
every few rounds. Where they differ by more than rounding, the learner's are used from there on, and that is said.

    first round     the learner's on all rows -> gap within tolerance?    yes: trusted    no: refused for good
    other rounds    trusted: the sampler's; in a round to check the learner's on some groups -> gap?    no: refused
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from accord import rng
from accord.batch import Batch
from accord.engines.base import Caps, Sampling
from accord.errors import TrainingError
from accord.functional.masks import keep, masked_mean
from accord.train.rounds import OldLogpMode, RolloutSettings, group_rows

Verdict = Literal["unknown", "trusted", "refused"]
_SAMPLE_ROWS = 32


@dataclass(frozen=True)
class Tolerance:
    """Largest |log p of the learner - log p of the sampler|, nats a token."""

    mean: float
    largest: float


_EXACT = {torch.float64: Tolerance(1e-9, 1e-7)}
_ROUNDING = Tolerance(1e-4, 1e-2)
"""Of float32, whose gap is about 1e-6 on average; a ratio then errs by less than a hundredth of the clip range."""
_SIXTEEN_BITS = Tolerance(2e-2, 1.0)
"""Where engine or learner computes in 16 bits (about 8e-3 on average): the ratio then corrects for the engine's
rounding, which recomputing would hide."""


def measured_gap(learner_BT: Tensor, batch: Batch) -> dict[str, float]:
    """Mean and largest |log p of the learner - log p of the sampler| over the response tokens, as metrics.

    Args:
        learner_BT: by the learner's forward pass, nats.
        batch: the rows, with `sampler_logp_BT`.
    """
    assert batch.sampler_logp_BT is not None
    mask_BT = batch.response_mask_BT
    gap_BT = (keep(learner_BT, mask_BT) - keep(batch.sampler_logp_BT, mask_BT)).abs()
    metrics = {
        "sampler/mean_abs_dlogp": float(masked_mean(gap_BT, mask_BT)),
        "sampler/max_abs_dlogp": float(gap_BT.max()),
    }
    return metrics


def possible_mode(mode: OldLogpMode, caps: Caps, sampling: Sampling) -> OldLogpMode:
    """`mode`, or "recompute" where the engine's log-probs cannot be those of the policy's own distribution.

    Args:
        mode: what is asked for.
        caps: of the engine.
        sampling: top_p and top_k renormalise what is left, so log-probs are then those of another distribution.

    Raises:
        TrainingError: "sampler" is asked for and cannot be had.
    """
    if caps.logps and sampling.top_p == 1 and sampling.top_k == 0 and sampling.temperature > 0:
        return mode
    if mode == "sampler":
        raise TrainingError(
            "old_logps: sampler needs an engine that reports log-probs, and sampling without top_p and top_k",
            fix="set old_logps: auto",
        )
    return "recompute"


class OldLogps:
    """Decides, round by round, whether the sampler's log-probabilities are used; what it decided is its state."""

    def __init__(
        self,
        settings: RolloutSettings,
        caps: Caps,
        *,
        dtype: torch.dtype,
        seed: int,
        say: Callable[[str], object],
    ) -> None:
        """Start undecided.

        Args:
            settings: `old_logps` "recompute" never uses the sampler's; "auto" where they are the learner's up to
                rounding of float32 (float64 for a float64 model); "sampler" also where they are so up to rounding of 16
                bits. With `corrected` they are never used.
            caps: of the engine.
            dtype: of the policy's weights.
            seed: of the rows that are compared.
            say: told when the sampler's are given up.

        Raises:
            TrainingError: "sampler" is asked for and cannot be had.
        """
        mode = possible_mode(settings.old_logps, caps, settings.sampling)
        self.mode: OldLogpMode = "recompute" if settings.corrected else mode
        self.tolerance = _SIXTEEN_BITS if mode == "sampler" else _EXACT.get(dtype, _ROUNDING)
        self.check_rounds = settings.old_logps_check_rounds
        self.seed = seed
        self.say = say
        self.verdict: Verdict = "refused" if self.mode == "recompute" else "unknown"

    @property
    def trusted(self) -> bool:
        """Whether the sampler's log-probabilities can stand for the learner's."""
        return self.verdict == "trusted"

    def due(self, number: int) -> bool:
        """Whether round `number` is one to check although the sampler is trusted."""
        return self.trusted and number % self.check_rounds == 0

    def judge(self, learner_BT: Tensor, batch: Batch, number: int) -> dict[str, float]:
        """Compare, trust or refuse the sampler (for good), and return the gap as metrics.

        Args:
            learner_BT: log-probs by the learner, under the weights that wrote the rows.
            batch: the rows, with `sampler_logp_BT`.
            number: the round they are for.
        """
        found = measured_gap(learner_BT, batch)
        if self.verdict != "refused":
            agree = found["sampler/mean_abs_dlogp"] <= self.tolerance.mean
            agree = agree and found["sampler/max_abs_dlogp"] <= self.tolerance.largest
            self.verdict = "trusted" if agree else "refused"
            if not agree:
                self.say(
                    f"round {number}: log-probs of sampler and learner differ by {found['sampler/mean_abs_dlogp']:.2g} "
                    f"on average and {found['sampler/max_abs_dlogp']:.2g} at most (allowed: {self.tolerance.mean:g}, "
                    f"{self.tolerance.largest:g}): old log-probs are recomputed from here on"
                )
        return found

    def check(self, batch: Batch, logps: Callable[[Batch], Tensor], number: int) -> dict[str, float]:
        """Judge by some groups, drawn anew each round; returns the gap as metrics.

        Args:
            batch: rows of round `number`, with `sampler_logp_BT` and `group_B`.
            logps: log-probs of rows by the learner, under the weights that wrote them.
            number: the round.
        """
        groups, rows = group_rows(batch), list[int]()
        for g in rng.permutation(len(groups), self.seed, "parity", number):
            if len(rows) >= _SAMPLE_ROWS:
                break
            rows += groups[g]
        part = batch.select(rows)
        return self.judge(logps(part), part, number)

    def state(self) -> dict[str, Any]:
        """What was decided."""
        return {"verdict": self.verdict}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue with what was decided."""
        self.verdict = state["verdict"]
