"""The on-policy source: the policy writes its own training data.

prompts --engine--> rollouts --reward--> scores --learner, ref--> old_logp, value, ref_logp --credit--> advantages
        \\______________________ one round ______________________/            |
                                                 num_epochs x fresh permutation -> minibatches
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from accord import rng
from accord.batch import Batch, Forward, collate
from accord.engines.base import Engine, Sampling
from accord.errors import DataError, EngineError, RewardError, TrainingError
from accord.functional import kl
from accord.functional.advantages import missing_eos
from accord.functional.kl import adaptive_kl_step
from accord.functional.masks import masked_mean, masked_sum
from accord.rewards.base import RewardFn
from accord.train.credit import Credit
from accord.types import Prompt, Rollout


@dataclass(frozen=True)
class EncodedPrompt:
    """A prompt with its token ids."""

    prompt: Prompt
    ids: tuple[int, ...]


@dataclass(frozen=True)
class RolloutSettings:
    """How one round is made and cut into optimiser steps."""

    sampling: Sampling
    num_prompts: int
    """Prompts a round; times sampling.n = rollouts a round."""
    num_epochs: int
    """Passes over the round's rollouts."""
    num_minibatches: int
    """Optimiser steps an epoch."""
    kl_coef: float
    """beta of the KL penalty in the reward; the start value when it is adaptive."""
    kl_target: float | None = None
    """Adaptive controller's target for the KL summed over a sequence, nats; None = fixed beta."""
    kl_horizon: int = 10_000
    """Adaptive controller's horizon, episodes."""
    missing_eos_penalty: float | None = None
    """For replies cut at max_new_tokens; see missing_eos_mode."""
    missing_eos_mode: Literal["replace", "subtract"] = "subtract"
    """Replace the score by minus the penalty (lm-human-preferences) or subtract the penalty (TRL)."""
    score_clip: float | None = None
    """Raw scores are clipped to +- this."""
    max_reward_errors: float = 0.01
    """Largest tolerated fraction of rollouts without a score."""
    token_budget: int = 8192


class OnPolicy:
    """Endless minibatches from rounds of generate, score, credit.

    State is two numbers (round, KL coefficient): prompts, sampling seeds and permutations are pure functions of the
    seed and the round.
    """

    def __init__(  # noqa: PLR0913  (the parts that are joined)
        self,
        *,
        policy: torch.nn.Module,
        forward: Callable[[Batch], Forward],
        ref: Callable[[Batch], Forward],
        engine: Engine,
        reward: RewardFn,
        prompts: Sequence[EncodedPrompt],
        credit: Credit,
        settings: RolloutSettings,
        pad_id: int,
        seed: int,
    ) -> None:
        """Join the parts.

        Args:
            policy: the module whose weights the engine samples from.
            forward: policy and critic on a batch: logp_BT, entropy_BT, value_BT.
            ref: frozen reference on a batch: logp_BT.
            engine: generates.
            reward: scores rollouts.
            prompts: at least one.
            credit: scores to advantages.
            settings: sizes and coefficients.
            pad_id: any valid token id.
            seed: of prompts, sampling and permutations.

        Raises:
            DataError: there are no prompts.
            TrainingError: a round has fewer prompts than minibatches.
        """
        if not prompts:
            raise DataError("there is nothing to generate from: no prompt is left")
        if settings.num_prompts < settings.num_minibatches:
            raise TrainingError(
                f"{settings.num_prompts} prompts a round cannot fill {settings.num_minibatches} minibatches",
                fix="raise train_batch_size or lower num_mini_batches",
            )
        self.policy = policy
        self.forward = forward
        self.ref = ref
        self.engine = engine
        self.reward = reward
        self.prompts = prompts
        self.credit = credit
        self.settings = settings
        self.pad_id = pad_id
        self.seed = seed
        self.device = next(policy.parameters()).device
        self.round = 0
        self.kl_coef = settings.kl_coef
        self.rollouts: list[Rollout] = []
        """The last round, for hooks that look at samples."""
        self._report: dict[str, float] = {}
        self._at_boundary = True

    def __iter__(self) -> Iterator[Batch]:
        """Yield minibatches; a round is prepared when its first one is asked for.

        All replies to a prompt stay in one minibatch.

        Raises:
            RewardError: too few rollouts have a score; see `collect`.
            EngineError: the engine did not do what was asked.
        """
        size = self.settings.num_minibatches
        while True:
            batch = self.prepare()
            self._at_boundary = False
            groups = _group_rows(batch)
            if len(groups) < size:
                raise RewardError(
                    f"only {len(groups)} prompts have a rollout with a score, too few for {size} minibatches",
                    where=f"round {self.round}",
                    fix="mend the reward function, or raise train_batch_size",
                )
            for epoch in range(self.settings.num_epochs):
                order = rng.permutation(len(groups), self.seed, "minibatch", self.round, epoch)
                for part in range(size):
                    rows = [row for g in order[part::size] for row in groups[g]]
                    if epoch == self.settings.num_epochs - 1 and part == size - 1:
                        self.round += 1
                        self._at_boundary = True
                    yield batch.select(rows)

    def draw_prompts(self) -> list[EncodedPrompt]:
        """Prompts of the current round: consecutive places in a permutation a pass."""
        chosen: list[EncodedPrompt] = []
        count, size = len(self.prompts), self.settings.num_prompts
        order, current = list[int](), -1
        for position in range(self.round * size, (self.round + 1) * size):
            if position // count != current:
                current = position // count
                order = rng.permutation(count, self.seed, "prompts", current)
            chosen.append(self.prompts[order[position % count]])
        return chosen

    def collect(self) -> list[Rollout]:
        """Generate and score one round.

        Returns:
            The rollouts that have a score; the others are counted in the report as `rewards/errors`.

        Raises:
            RewardError: more than `max_reward_errors` of the rollouts have no score, or all of them.
            EngineError: the engine returned another number of completions than asked for.
        """
        self.engine.update_weights(self.policy, self.round)
        chosen = self.draw_prompts()
        sampling = self.settings.sampling
        seeds = [rng.derive(self.seed, "sampling", self.round, i) for i in range(len(chosen))]
        completions = self.engine.generate([p.ids for p in chosen], sampling, seeds=seeds)
        if len(completions) != len(chosen) * sampling.n:
            raise EngineError(
                f"the engine returned {len(completions)} completions for {len(chosen)} x {sampling.n}",
                where=f"round {self.round}",
            )
        rollouts = [
            Rollout(
                prompt=chosen[i // sampling.n].prompt,
                prompt_ids=chosen[i // sampling.n].ids,
                completion=completion,
                group=f"{self.round}/{i // sampling.n}",
                policy_version=self.round,
            )
            for i, completion in enumerate(completions)
        ]
        scores = self.reward(rollouts)
        if len(scores) != len(rollouts):
            raise RewardError(f"the reward gave {len(scores)} scores for {len(rollouts)} rollouts")
        failed = [s.error for s in scores if s.value is None]
        if len(failed) > self.settings.max_reward_errors * len(scores) or len(failed) == len(scores):
            raise RewardError(
                f"{len(failed)} of {len(scores)} rollouts have no score; the first reason: {failed[0]}",
                where=f"round {self.round}",
                fix="mend the reward function, or raise max_reward_errors",
            )
        self._report["rewards/errors"] = float(len(failed))
        return [r.model_copy(update={"score": s}) for r, s in zip(rollouts, scores, strict=True) if s.value is not None]

    @torch.no_grad()
    def prepare(self) -> Batch:
        """One round: rollouts, their scores, old and reference log-probs, values, advantages."""
        settings = self.settings
        self.rollouts = self.collect()
        batch = rollout_batch(self.rollouts, self.pad_id)
        raw_B = torch.tensor([r.score.value for r in self.rollouts if r.score], dtype=torch.float32)
        score_B = raw_B if settings.score_clip is None else raw_B.clamp(-settings.score_clip, settings.score_clip)
        stopped_B = torch.tensor([r.completion.finish == "stop" for r in self.rollouts])
        if settings.missing_eos_penalty is not None:
            penalty = settings.missing_eos_penalty
            score_B = missing_eos(score_B, stopped_B, mode=settings.missing_eos_mode, penalty=penalty)
        batch = batch.replace(score_B=score_B)
        batch, entropy_BT = self._measure(batch)
        batch = self.credit(batch, kl_coef=self.kl_coef)
        self._summarise(batch, raw_B, stopped_B, entropy_BT)
        return batch

    def _measure(self, batch: Batch) -> tuple[Batch, Tensor | None]:
        """Old log-probs, values and reference log-probs of every row, micro-batch by micro-batch."""
        measured: dict[str, Tensor] = {}
        numbered = batch.replace(weight_B=torch.arange(batch.num_rows, dtype=torch.float64))
        for micro in numbered.split(self.settings.token_budget):
            on_device = micro.to(self.device)
            out, ref = self.forward(on_device), self.ref(on_device)
            assert micro.weight_B is not None
            rows, width = micro.weight_B.long(), micro.ids_BT.shape[1]
            for name, value in (
                ("old", out.logp_BT),
                ("ref", ref.logp_BT),
                ("value", out.value_BT),
                ("entropy", out.entropy_BT),
            ):
                if value is not None:
                    whole = measured.setdefault(name, torch.zeros(batch.ids_BT.shape, dtype=value.dtype))
                    whole[rows, :width] = value.cpu()
        batch = batch.replace(
            old_logp_BT=measured["old"], ref_logp_BT=measured["ref"], old_value_BT=measured.get("value")
        )
        return batch, measured.get("entropy")

    def _summarise(self, batch: Batch, raw_B: Tensor, stopped_B: Tensor, entropy_BT: Tensor | None) -> None:
        """Statistics of the round; `objective/scores` is raw, `objective/rlhf_reward` what is optimised."""
        assert batch.score_B is not None and batch.old_logp_BT is not None and batch.ref_logp_BT is not None
        mask_BT = batch.response_mask_BT
        k1_BT = kl.k1(batch.old_logp_BT, batch.ref_logp_BT)
        sequence_kl = float(masked_sum(k1_BT, mask_BT, dim=1).mean())
        lengths_B = mask_BT.sum(dim=1).float()
        self._report |= {
            "objective/kl": sequence_kl,
            "objective/scores": float(raw_B.mean()),
            "objective/scores_std": float(raw_B.std(unbiased=False)),
            "objective/rlhf_reward": float(batch.score_B.mean()) - self.kl_coef * sequence_kl,
            "objective/kl_coef": self.kl_coef,
            "completions/mean_length": float(lengths_B.mean()),
            "completions/clipped_ratio": float((~stopped_B).float().mean()),
            "round": float(self.round),
        }
        if entropy_BT is not None:
            self._report["objective/rollout_entropy"] = float(masked_mean(entropy_BT, mask_BT))
        if batch.sampler_logp_BT is not None:
            drift_BT = (batch.old_logp_BT - batch.sampler_logp_BT).abs()
            self._report["sampler/mean_abs_dlogp"] = float(masked_mean(drift_BT, mask_BT))
        if self.settings.kl_target is not None:
            self.kl_coef = adaptive_kl_step(
                self.kl_coef, sequence_kl, self.settings.kl_target, self.settings.kl_horizon, batch.num_rows
            )

    @property
    def at_boundary(self) -> bool:
        """True after the last minibatch of a round."""
        return self._at_boundary

    def report(self) -> dict[str, float]:
        """Statistics of the last round, once."""
        report, self._report = self._report, {}
        return report

    def state(self) -> dict[str, Any]:
        """Round and KL coefficient."""
        return {"round": self.round, "kl_coef": self.kl_coef}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue with a round; batches are asked for with a new iterator."""
        self.round = int(state["round"])
        self.kl_coef = float(state["kl_coef"])
        self._report, self._at_boundary = {}, True


def rollout_batch(rollouts: Sequence[Rollout], pad_id: int) -> Batch:
    """Collate rollouts: prompt tokens untrained, reply tokens (stop token included) in the mask."""
    groups: dict[str, int] = {}
    ids = [[*r.prompt_ids, *r.completion.token_ids] for r in rollouts]
    batch = collate(
        ids,
        [[False] * len(r.prompt_ids) + [True] * len(r.completion.token_ids) for r in rollouts],
        pad_id=pad_id,
        group=[groups.setdefault(r.group, len(groups)) for r in rollouts],
    )
    if any(r.completion.logps is None for r in rollouts):
        return batch
    sampler_BT = torch.zeros(batch.ids_BT.shape)
    for b, r in enumerate(rollouts):
        start = len(r.prompt_ids)
        sampler_BT[b, start : start + len(r.completion.token_ids)] = torch.tensor(r.completion.logps)
    return batch.replace(sampler_logp_BT=sampler_BT)


def _group_rows(batch: Batch) -> list[list[int]]:
    """Row indices by group, in order of first appearance."""
    assert batch.group_B is not None
    rows: dict[int, list[int]] = {}
    for row, group in enumerate(batch.group_B.tolist()):
        rows.setdefault(group, []).append(row)
    return list(rows.values())
