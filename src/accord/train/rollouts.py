"""The on-policy source: the policy writes its own training data.

prompts --engine--> rollouts --reward--> scores --learner, ref--> old_logp, value, ref_logp --credit--> advantages
        \\______________________ one round ______________________/            |
                                                 num_epochs x fresh permutation -> minibatches
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from accord import rng
from accord.batch import Batch, Forward
from accord.engines.base import Engine, Sampling
from accord.errors import DataError, EngineError, RewardError, TrainingError
from accord.functional import kl
from accord.functional.kl import adaptive_kl_step
from accord.functional.masks import masked_mean, masked_sum
from accord.rewards.base import RewardFn
from accord.train.credit import Credit
from accord.train.rounds import (
    EncodedPrompt,
    RolloutSettings,
    group_rows,
    group_statistics,
    rollout_batch,
    shaped_scores,
)
from accord.types import Completion, Rollout, Score


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
        visit: Callable[[], AbstractContextManager[None]] = nullcontext,
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
            visit: held open while the reference scores a round: offloaded models move once and not a micro-batch.

        Raises:
            DataError: there are no prompts.
            TrainingError: a round has fewer prompts than minibatches, or dynamic sampling has one reply a prompt.
        """
        if not prompts:
            raise DataError("there is nothing to generate from: no prompt is left")
        if settings.num_prompts < settings.num_minibatches:
            raise TrainingError(
                f"{settings.num_prompts} prompts a round cannot fill {settings.num_minibatches} minibatches",
                fix="raise train_batch_size or lower num_mini_batches",
            )
        if settings.resample and settings.sampling.n < 2:
            raise TrainingError("groups of one reply always have equal scores", fix="raise num_generations")
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
        self.visit = visit
        self.device = next(policy.parameters()).device
        self.round = 0
        self.kl_coef = settings.kl_coef
        self.rollouts: list[Rollout] = []
        """The last round, for hooks that look at samples."""
        self._scores: list[Score] = []
        """All scores of this round, those of replaced groups and of greedy replies too."""
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
            groups = [rows for rows in group_rows(batch) if bool(batch.response_mask_BT[rows].any())]
            if len(groups) < size:
                raise RewardError(
                    f"only {len(groups)} prompts have a rollout to train on, too few for {size} minibatches",
                    where=f"round {self.round}",
                    fix="mend the reward function, raise train_batch_size, or allow longer replies",
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

        With dynamic sampling, groups whose scores are all equal are replaced by groups of further prompts, at most
        `resample` times; those that are left over stay. Which prompts and seeds are tried next is a pure function of
        the round and the try.

        Returns:
            The rollouts that have a score, by group; the others are counted in the report as `rewards/errors`.

        Raises:
            RewardError: more than `max_reward_errors` of the rollouts have no score (those of replaced groups count),
                or all of them.
            EngineError: the engine returned another number of completions than asked for.
        """
        self._scores = []
        self.engine.update_weights(self.policy, self.round)
        chosen = self.draw_prompts()
        seeds = [rng.derive(self.seed, "sampling", self.round, i) for i in range(len(chosen))]
        groups = self._groups(chosen, seeds, "")
        replaced = 0
        for attempt in range(self.settings.resample):
            dead = [i for i, group in enumerate(groups) if self._says_nothing(group)]
            if not dead:
                break
            order = rng.permutation(len(self.prompts), self.seed, "resampled", self.round, attempt)
            others = [self.prompts[order[k % len(order)]] for k in range(len(dead))]
            seeds = [rng.derive(self.seed, "resampling", self.round, attempt, k) for k in range(len(dead))]
            for i, group in zip(dead, self._groups(others, seeds, f"{attempt}."), strict=True):
                groups[i] = group
            replaced += len(dead)
        if self.settings.resample:
            self._report["sampling/resampled_groups"] = float(replaced)
        flat = [rollout for group in groups for rollout in group]
        scores = [r.score for r in flat if r.score is not None]
        self._count_errors(left=sum(s.value is not None for s in scores))
        for name in sorted({part for s in scores for part in s.parts}):
            values = [s.parts[name] for s in scores if s.value is not None and name in s.parts]
            self._report[f"rewards/{name}/mean"] = sum(values) / max(1, len(values))
        return [r for r in flat if r.score is not None and r.score.value is not None]

    def _groups(self, chosen: Sequence[EncodedPrompt], seeds: Sequence[int], tag: str) -> list[list[Rollout]]:
        """Replies to each prompt, with their scores or errors."""
        n = self.settings.sampling.n
        completions = self._generate(chosen, self.settings.sampling, seeds)
        rollouts = [
            Rollout(
                prompt=chosen[i // n].prompt,
                prompt_ids=chosen[i // n].ids,
                completion=completion,
                group=f"{self.round}/{tag}{i // n}",
                policy_version=self.round,
            )
            for i, completion in enumerate(completions)
        ]
        scored = [r.model_copy(update={"score": s}) for r, s in zip(rollouts, self._score(rollouts), strict=True)]
        return [scored[i : i + n] for i in range(0, len(scored), n)]

    def _generate(self, chosen: Sequence[EncodedPrompt], sampling: Sampling, seeds: Sequence[int]) -> list[Completion]:
        completions = self.engine.generate([p.ids for p in chosen], sampling, seeds=seeds)
        if len(completions) != len(chosen) * sampling.n:
            raise EngineError(
                f"the engine returned {len(completions)} completions for {len(chosen)} x {sampling.n}",
                where=f"round {self.round}",
            )
        return completions

    def _score(self, rollouts: Sequence[Rollout]) -> list[Score]:
        scores = self.reward(rollouts)
        if len(scores) != len(rollouts):
            raise RewardError(f"the reward gave {len(scores)} scores for {len(rollouts)} rollouts")
        self._scores += scores
        return scores

    def _count_errors(self, left: int) -> None:
        """Report how many replies of this round have no score; too many, or none `left` that has one, end training."""
        failed = [s.error for s in self._scores if s.value is None]
        if len(failed) > self.settings.max_reward_errors * len(self._scores) or left == 0:
            raise RewardError(
                f"{len(failed)} of {len(self._scores)} rollouts have no score; the first reason: {failed[0]}",
                where=f"round {self.round}",
                fix="mend the reward function, or raise max_reward_errors",
            )
        self._report["rewards/errors"] = float(len(failed))

    def _says_nothing(self, group: Sequence[Rollout]) -> bool:
        """Whether all replies with a score have the same, after all that is done to scores."""
        scored = [r for r in group if r.score is not None and r.score.value is not None]
        return not scored or len(set(shaped_scores(scored, self.settings)[0].tolist())) == 1

    def _greedy_scores(self) -> Tensor:
        """Score of the greedy reply to each rollout's prompt; rollouts without one are left out of the round.

        Raises:
            RewardError: no greedy reply has a score, or too many replies of the round have none.
        """
        groups = list(dict.fromkeys(r.group for r in self.rollouts))
        first = {r.group: EncodedPrompt(r.prompt, r.prompt_ids) for r in reversed(self.rollouts)}
        sampling = replace(self.settings.sampling, n=1, temperature=0.0)
        completions = self._generate([first[g] for g in groups], sampling, [0] * len(groups))
        greedy = [
            Rollout(prompt=first[g].prompt, prompt_ids=first[g].ids, completion=c, group=g, policy_version=self.round)
            for g, c in zip(groups, completions, strict=True)
        ]
        scored = [r.model_copy(update={"score": s}) for r, s in zip(greedy, self._score(greedy), strict=True)]
        kept = [r for r in scored if r.score is not None and r.score.value is not None]
        self._count_errors(left=len(kept))
        of_group = dict(zip((r.group for r in kept), shaped_scores(kept, self.settings)[0].tolist(), strict=True))
        self.rollouts = [r for r in self.rollouts if r.group in of_group]
        return torch.tensor([of_group[r.group] for r in self.rollouts])

    @torch.no_grad()
    def prepare(self) -> Batch:
        """One round: rollouts, their scores, old and reference log-probs, values, advantages."""
        self.rollouts = self.collect()
        baseline_B = self._greedy_scores() if self.settings.greedy_baseline else None
        batch = rollout_batch(self.rollouts, self.pad_id)
        score_B, raw_B, stopped_B = shaped_scores(self.rollouts, self.settings)
        batch = batch.replace(score_B=score_B, baseline_B=baseline_B)
        with self.visit():
            batch, entropy_BT = self._measure(batch)
        batch = self.credit(batch, kl_coef=self.kl_coef)
        self._summarise(batch, raw_B, stopped_B, entropy_BT)
        if self.settings.mask_truncated:
            batch = batch.replace(response_mask_BT=batch.response_mask_BT & stopped_B[:, None])
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
        if self.settings.sampling.n > 1:
            assert batch.group_B is not None
            self._report |= group_statistics(batch.score_B, batch.group_B)
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
