"""The on-policy source: the policy writes its own training data.

prompts --engine--> rollouts --reward--> scores --learner, ref--> old_logp, value, ref_logp --credit--> advantages
        \\______________________ one round ______________________/            |
                                                 num_epochs x fresh permutation -> minibatches

Whose log-probabilities the old ones are is decided in `old_logps.py`; replies written a round ahead are in `ahead.py`.
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
from accord.errors import EngineError, RewardError
from accord.functional.kl import adaptive_kl_step
from accord.rewards.base import RewardFn
from accord.train.ahead import Written, ahead_of
from accord.train.credit import Credit
from accord.train.old_logps import OldLogps, measured_gap
from accord.train.passes import over_rows
from accord.train.rounds import (
    EncodedPrompt,
    References,
    RolloutSettings,
    check_sizes,
    group_rows,
    group_statistics,
    prompts_of,
    rollout_batch,
    round_statistics,
    shaped_scores,
    unscored,
)
from accord.types import Completion, Rollout, Score


class OnPolicy:
    """Endless minibatches from rounds of generate, score, credit.

    State: round, KL coefficient, trust in the sampler, replies written ahead. All else follows from seed and round.
    """

    def __init__(  # noqa: PLR0913  (the parts that are joined)
        self,
        *,
        policy: torch.nn.Module,
        forward: Callable[[Batch], Forward],
        ref: Callable[[Batch], Forward] | None,
        engine: Engine,
        reward: RewardFn,
        prompts: Sequence[EncodedPrompt],
        credit: Credit,
        settings: RolloutSettings,
        pad_id: int,
        seed: int,
        visit: Callable[[], AbstractContextManager[None]] = nullcontext,
        policy_forward: Callable[[Batch], Forward] | None = None,
        critic_forward: Callable[[Batch], Forward] | None = None,
        say: Callable[[str], object] = lambda _: None,
    ) -> None:
        """Join the parts.

        Args:
            policy: the module whose weights the engine samples from.
            forward: policy and critic on a batch: logp_BT, entropy_BT, value_BT.
            ref: frozen reference on a batch: logp_BT; None = no KL to it is penalised or reported.
            engine: generates.
            reward: scores rollouts.
            prompts: at least one.
            credit: scores to advantages.
            settings: sizes and coefficients.
            pad_id: any valid token id.
            seed: of prompts, sampling and permutations.
            visit: held open while the reference scores a round: offloaded models move once and not a micro-batch.
            policy_forward: `forward` without critic and entropies, where only logp_BT is wanted; None = `forward`.
            critic_forward: `forward` without the policy, for rounds of the sampler's log-probs; None = no critic.
            say: told when old log-probs can no longer be the sampler's.

        Raises:
            DataError: there are no prompts.
            TrainingError: a round has fewer prompts than minibatches, dynamic sampling has one reply a prompt, or the
                settings ask for what this engine or sampling cannot do.
        """
        check_sizes(len(prompts), settings)
        adaptive = settings.resample > 0 or settings.greedy_baseline
        self.ahead = ahead_of(engine, settings.async_steps, adaptive=adaptive)
        self.policy = policy
        self.forward = forward
        self.policy_forward = policy_forward or forward
        self.critic_forward = critic_forward
        self.ref = ref
        self.engine: Engine = self.ahead or engine
        """For others too: while replies are written ahead it makes them wait."""
        self.reward = reward
        self.prompts = prompts
        self.credit, self.settings = credit, settings
        self.references: References | None = None
        """Scores of the reference's replies, for PAR; to be set before the first round."""
        self.pad_id, self.seed = pad_id, seed
        self.visit = visit
        weight = next(policy.parameters())
        self.logp_dtype = torch.promote_types(weight.dtype, torch.float32)
        self.old_logps = OldLogps(settings, engine.caps, dtype=weight.dtype, seed=seed, say=say)
        self.round = 0
        self.version = 0
        """Of the weights that wrote the last round: its number, or one less when it was written ahead."""
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

    def draw_prompts(self, number: int | None = None) -> list[EncodedPrompt]:
        """Prompts of a round, the current one by default: consecutive places in a permutation a pass."""
        number = self.round if number is None else number
        return prompts_of(self.prompts, number, size=self.settings.num_prompts, seed=self.seed)

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
        chosen = self.draw_prompts()
        groups = self._groups(chosen, self._first_draw(chosen), "")
        replaced = 0
        for attempt in range(self.settings.resample):
            dead = [i for i, group in enumerate(groups) if self._says_nothing(group)]
            if not dead:
                break
            order = rng.permutation(len(self.prompts), self.seed, "resampled", self.round, attempt)
            others = [self.prompts[order[k % len(order)]] for k in range(len(dead))]
            seeds = [rng.derive(self.seed, "resampling", self.round, attempt, k) for k in range(len(dead))]
            completions = self._generate(others, self.settings.sampling, seeds)
            for i, group in zip(dead, self._groups(others, completions, f"{attempt}."), strict=True):
                groups[i] = group
            replaced += len(dead)
        if self.settings.resample:
            self._report["sampling/resampled_groups"] = float(replaced)
        flat = [r for group in groups for r in group]
        scores = [r.score for r in flat if r.score is not None]
        self._count_errors(left=sum(s.value is not None for s in scores))
        for name in sorted({part for s in scores for part in s.parts}):
            values = [s.parts[name] for s in scores if s.value is not None and name in s.parts]
            self._report[f"rewards/{name}/mean"] = sum(values) / max(1, len(values))
        return [r for r in flat if r.score is not None and r.score.value is not None]

    def _first_draw(self, chosen: Sequence[EncodedPrompt]) -> list[Completion]:
        """Replies to the prompts of this round, just written or waiting; those of the next round are asked for."""
        held = None if self.ahead is None else self.ahead.take(self.round)
        if held is None:
            self.engine.update_weights(self.policy, self.round)
            held = Written(
                self.round, self.round, self._generate(chosen, self.settings.sampling, self._seeds(self.round))
            )
        self.version = held.version
        if self.ahead is not None:
            self._report["sampler/staleness"] = float(self.round - self.version)
            later = self.round + 1
            if later != self.settings.num_rounds:
                ids = [p.ids for p in self.draw_prompts(later)]
                request = (ids, self.settings.sampling, self._seeds(later))
                self.ahead.ask(self.policy, *request, version=self.round, number=later)
        return self._complete(held.completions, chosen, self.settings.sampling.n)

    def _seeds(self, number: int) -> list[int]:
        return [rng.derive(self.seed, "sampling", number, i) for i in range(self.settings.num_prompts)]

    def _groups(
        self, chosen: Sequence[EncodedPrompt], completions: Sequence[Completion], tag: str
    ) -> list[list[Rollout]]:
        """Replies to each prompt, with their scores or errors."""
        n = self.settings.sampling.n
        names = [f"{self.round}/{tag}{i}" for i in range(len(chosen))]
        rollouts = unscored(chosen, completions, names, version=self.version)
        scored = [r.model_copy(update={"score": s}) for r, s in zip(rollouts, self._score(rollouts), strict=True)]
        return [scored[i : i + n] for i in range(0, len(scored), n)]

    def _generate(self, chosen: Sequence[EncodedPrompt], sampling: Sampling, seeds: Sequence[int]) -> list[Completion]:
        completions = self.engine.generate([p.ids for p in chosen], sampling, seeds=seeds)
        return self._complete(completions, chosen, sampling.n)

    def _complete(self, completions: list[Completion], chosen: Sequence[EncodedPrompt], n: int) -> list[Completion]:
        """The completions, when there are as many as asked for."""
        if len(completions) != len(chosen) * n:
            what = f"the engine returned {len(completions)} completions for {len(chosen)} x {n}"
            raise EngineError(what, where=f"round {self.round}")
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
        return not scored or len(set(self.shaped(scored)[0].tolist())) == 1

    def shaped(self, rollouts: Sequence[Rollout], *, whole_round: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Scores as they are optimised; see `shaped_scores`."""
        return shaped_scores(rollouts, self.settings, self.references, whole_round=whole_round)

    def _greedy_scores(self) -> Tensor:
        """Score of the greedy reply to each rollout's prompt; rollouts without one are left out of the round.

        Raises:
            RewardError: no greedy reply has a score, or too many replies of the round have none.
        """
        groups = list(dict.fromkeys(r.group for r in self.rollouts))
        first = {r.group: EncodedPrompt(r.prompt, r.prompt_ids) for r in reversed(self.rollouts)}
        sampling = replace(self.settings.sampling, n=1, temperature=0.0)
        completions = self._generate([first[g] for g in groups], sampling, [0] * len(groups))
        greedy = unscored([first[g] for g in groups], completions, groups, version=self.round)
        scored = [r.model_copy(update={"score": s}) for r, s in zip(greedy, self._score(greedy), strict=True)]
        kept = [r for r in scored if r.score is not None and r.score.value is not None]
        self._count_errors(left=len(kept))
        of_group = dict(zip((r.group for r in kept), self.shaped(kept)[0].tolist(), strict=True))
        self.rollouts = [r for r in self.rollouts if r.group in of_group]
        return torch.tensor([of_group[r.group] for r in self.rollouts])

    @torch.no_grad()
    def prepare(self) -> Batch:
        """One round: rollouts, their scores, old and reference log-probs, values, advantages."""
        self.rollouts = self.collect()
        baseline_B = self._greedy_scores() if self.settings.greedy_baseline else None
        batch = rollout_batch(self.rollouts, self.pad_id, dtype=self.logp_dtype)
        score_B, raw_B, stopped_B = self.shaped(self.rollouts, whole_round=True)
        batch = batch.replace(score_B=score_B, baseline_B=baseline_B)
        with self.visit():
            batch, entropy_BT = self._measure(batch)
        self._settle()
        batch = self.credit(batch, kl_coef=self.kl_coef)
        self._summarise(batch, raw_B, stopped_B, entropy_BT)
        if self.settings.mask_truncated:
            batch = batch.replace(response_mask_BT=batch.response_mask_BT & stopped_B[:, None])
        return batch

    def _measure(self, batch: Batch) -> tuple[Batch, Tensor | None]:
        """Old log-probs, values and reference log-probs of every row; entropies when the policy has to run for it."""
        written_now, sampler_BT = self.version == self.round, batch.sampler_logp_BT
        if written_now and sampler_BT is not None and self.old_logps.due(self.round):
            self._report |= self.old_logps.check(batch, self._logps, self.round)
        # Of replies written ahead the sampler's log-probs are those of the policy that wrote them; see _settle.
        recompute = sampler_BT is None or self.settings.corrected or (written_now and not self.old_logps.trusted)

        def look(micro: Batch) -> dict[str, Tensor | None]:
            found: dict[str, Tensor | None] = {}
            if recompute:
                out = self.forward(micro)
                found = {"old": out.logp_BT, "value": out.value_BT, "entropy": out.entropy_BT}
            elif self.critic_forward is not None:
                found = {"value": self.critic_forward(micro).value_BT}
            return found if self.ref is None else found | {"ref": self.ref(micro).logp_BT}

        seen = over_rows(batch, look, self.policy, token_budget=self.settings.token_budget)
        if recompute and sampler_BT is not None:
            judge = self.old_logps.judge(seen["old"], batch, self.round) if written_now else None
            self._report |= judge or measured_gap(seen["old"], batch)
        if self.old_logps.mode != "recompute":
            self._report["sampler/reused"] = float(not recompute)
        batch = batch.replace(
            old_logp_BT=seen["old"] if recompute else sampler_BT,
            ref_logp_BT=seen.get("ref"),
            old_value_BT=seen.get("value"),
        )
        return batch, seen.get("entropy")

    def _logps(self, batch: Batch) -> Tensor:
        """Log-probs of rows by the learner as it is now."""

        def look(micro: Batch) -> dict[str, Tensor | None]:
            return {"logp": self.policy_forward(micro).logp_BT}

        return over_rows(batch, look, self.policy, token_budget=self.settings.token_budget)["logp"]

    def _settle(self) -> None:
        """Let replies written ahead carry log-probs that can be the old ones, while the weights that wrote them last.

        The sampler's when it is trusted, and then nothing is waited for but in the rounds that are checked; else the
        learner's. With a correction for the sampler the old ones are computed when the round comes.
        """
        number, judge = self.round + 1, self.old_logps
        if self.ahead is None or self.settings.corrected or (judge.trusted and not judge.due(number)):
            return
        if (held := self.ahead.wait()) is None:
            return
        chosen = self.draw_prompts(number)
        completions = self._complete(held.completions, chosen, self.settings.sampling.n)
        rollouts = unscored(chosen, completions, [str(i) for i in range(len(chosen))], version=held.version)
        batch = rollout_batch(rollouts, self.pad_id, dtype=self.logp_dtype)
        if judge.trusted and batch.sampler_logp_BT is not None:
            self._report |= judge.check(batch, self._logps, number)
            if judge.trusted:
                return
        self.ahead.put(held.with_logps(self._logps(batch), batch.response_mask_BT))

    def _summarise(self, batch: Batch, raw_B: Tensor, stopped_B: Tensor, entropy_BT: Tensor | None) -> None:
        """Statistics of the round; `objective/rlhf_reward` is what is optimised."""
        assert batch.score_B is not None and batch.group_B is not None
        found = round_statistics(batch, raw_B, stopped_B, entropy_BT)
        sequence_kl = found.get("objective/kl", 0.0)
        self._report |= found | {
            "objective/rlhf_reward": float(batch.score_B.mean()) - self.kl_coef * sequence_kl,
            "objective/kl_coef": self.kl_coef,
            "round": float(self.round),
        }
        if self.settings.sampling.n > 1:
            self._report |= group_statistics(batch.score_B, batch.group_B)
        if (target := self.settings.kl_target) is not None:
            horizon = self.settings.kl_horizon
            self.kl_coef = adaptive_kl_step(self.kl_coef, sequence_kl, target, horizon, batch.num_rows)

    @property
    def at_boundary(self) -> bool:
        """True after the last minibatch of a round."""
        return self._at_boundary

    def report(self) -> dict[str, float]:
        """Statistics of the last round, once."""
        report, self._report = self._report, {}
        return report

    def state(self) -> dict[str, Any]:
        """Round, KL coefficient, what is known of the sampler, and replies written ahead (it waits for them)."""
        state = {"round": self.round, "kl_coef": self.kl_coef, "old_logps": self.old_logps.state()}
        return state if self.ahead is None else state | {"ahead": self.ahead.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue with a round; batches are asked for with a new iterator."""
        self.round = int(state["round"])
        self.kl_coef = float(state["kl_coef"])
        self.old_logps.restore(state["old_logps"])
        if self.ahead is not None:
            self.ahead.restore(state["ahead"])
        self._report, self._at_boundary = {}, True
