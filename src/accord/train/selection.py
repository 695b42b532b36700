"""Selection sources: rounds of rollouts turned into demonstrations (the best replies) or pairs (best against worst).

policy --collect--> scored replies --choose--> examples --finish--> num_epochs x fresh permutation -> minibatches
                                   best: one row a kept reply      (pairs: reference log-probs)
                                   best_worst: two rows a prompt

What is made of a round are the examples that the offline sources batch, so NLL and the losses on pairs are those of SFT
and DPO.
"""

# pyright: reportUnknownMemberType=false
from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from accord import rng
from accord.batch import Batch
from accord.errors import TrainingError
from accord.train.examples import Example, Row
from accord.train.loop import StepInfo
from accord.train.sources import batch_of
from accord.types import Rollout


class Rounds(Protocol):
    """What writes and scores the replies of a round: `OnPolicy`."""

    round: int

    def collect(self) -> list[Rollout]:
        """Rollouts of the current round that have a score, those of one prompt adjacent."""
        ...

    def report(self) -> dict[str, float]:
        """Statistics of collecting, once."""
        ...


@dataclass(frozen=True)
class Selected:
    """Training examples of one round and what was left out."""

    examples: tuple[Example, ...]
    kept: tuple[Rollout, ...]
    """Rollouts in them, for statistics."""
    ties: int = 0
    """Prompts at which the scores left the choice open."""
    incomplete: int = 0
    """Prompts with too few scored replies to compare."""


def utility(rollout: Rollout, missing_eos_penalty: float | None) -> float:
    """Score by which a reply is chosen: the raw score, less the penalty when it was cut at its longest length.

    Raises:
        TrainingError: the rollout has no score.
    """
    if rollout.score is None or rollout.score.value is None:
        raise TrainingError("a rollout without a score cannot be chosen", where=f"prompt {rollout.prompt.id}")
    cut = missing_eos_penalty is not None and rollout.completion.finish != "stop"
    return rollout.score.value - (missing_eos_penalty if cut and missing_eos_penalty else 0.0)


def best(
    rollouts: Sequence[Rollout],
    *,
    num_keep: int = 1,
    min_quantile: float = 0.0,
    min_score: float = -math.inf,
    missing_eos_penalty: float | None = None,
) -> Selected:
    """Keep the best replies to each prompt as demonstrations (RAFT, Dong et al. 2023, 2304.06767, algorithm 1).

    Of equal scores the reply that was drawn first is kept: draws are independent, so this favours none.

    Args:
        rollouts: scored replies of one round.
        num_keep: replies kept of each prompt.
        min_quantile: of these, only those whose score reaches this quantile of all scores of the round, in [0, 1].
        min_score: and this score.
        missing_eos_penalty: see `utility`.

    Returns:
        One row an example; `ties` counts prompts at which the last kept and the first left-out reply score the same.
    """
    value = {id(r): utility(r, missing_eos_penalty) for r in rollouts}
    floor = min_score
    if min_quantile > 0:
        # "lower" takes a score that occurs, so the best reply of a round always reaches it.
        floor = max(floor, float(np.quantile(list(value.values()), min_quantile, method="lower")))
    kept: list[Rollout] = []
    ties = 0
    for replies in groups(rollouts):
        ranked = sorted(replies, key=lambda r: -value[id(r)])  # stable: the first drawn comes first
        if len(ranked) > num_keep:
            ties += value[id(ranked[num_keep - 1])] == value[id(ranked[num_keep])]
        kept += [r for r in ranked[:num_keep] if value[id(r)] >= floor]
    examples = tuple(Example(f"{r.group}/{i}", (row_of(r),)) for i, r in enumerate(kept))
    return Selected(examples, tuple(kept), ties)


def best_worst(
    rollouts: Sequence[Rollout], *, scale: float | None = None, missing_eos_penalty: float | None = None
) -> Selected:
    """Pair the best reply to each prompt with the worst (online DPO, Guo et al. 2024, 2402.04792; 2405.07863).

    Args:
        rollouts: scored replies of one round.
        scale: None labels the better reply as certainly better. A number gives soft labels
            P(better) = sigmoid(scale x score difference), scale = raw units of the reward model in one unit of score:
            what Bradley-Terry says (with them the policy that is the optimum of reward minus KL is a fixed point).
        missing_eos_penalty: see `utility`.

    Returns:
        Two rows an example, the better first. Left out and counted: prompts whose best and worst reply score the same
        (`ties`), and prompts with fewer than two scored replies (`incomplete`).
    """
    examples: list[Example] = []
    kept: list[Rollout] = []
    ties = incomplete = 0
    for replies in groups(rollouts):
        values = [utility(r, missing_eos_penalty) for r in replies]
        if len(replies) < 2:
            incomplete += 1
            continue
        high, low = max(values), min(values)
        if high == low:
            ties += 1
            continue
        pair = (replies[values.index(high)], replies[values.index(low)])
        target = None if scale is None else 1 / (1 + math.exp(-min(scale * (high - low), 700.0)))
        examples.append(Example(pair[0].group, tuple(row_of(r) for r in pair), target=target))
        kept += pair
    return Selected(tuple(examples), tuple(kept), ties, incomplete)


def groups(rollouts: Sequence[Rollout]) -> list[list[Rollout]]:
    """Rollouts by group, in order of first appearance."""
    found: dict[str, list[Rollout]] = {}
    for rollout in rollouts:
        found.setdefault(rollout.group, []).append(rollout)
    return list(found.values())


def row_of(rollout: Rollout) -> Row:
    """The exact tokens that were sampled; those of the reply, stop token included, count."""
    reply = rollout.completion.token_ids
    return Row((*rollout.prompt_ids, *reply), (False,) * len(rollout.prompt_ids) + (True,) * len(reply))


class Selection:
    """Endless minibatches of what is chosen from the policy's own replies.

    Its state is the round; with the same weights a round is made again bit for bit.
    """

    def __init__(
        self,
        rounds: Rounds,
        choose: Callable[[Sequence[Rollout]], Selected],
        *,
        num_epochs: int,
        num_minibatches: int,
        pad_id: int,
        seed: int,
        finish: Callable[[Sequence[Example]], Sequence[Example]] | None = None,
        restart: Callable[[], None] | None = None,
    ) -> None:
        """Join the parts.

        Args:
            rounds: writes and scores replies with the current weights.
            choose: `best` or `best_worst` with its settings.
            num_epochs: passes over the examples of a round.
            num_minibatches: optimiser steps a pass.
            pad_id: any valid token id.
            seed: of the permutations.
            finish: adds to the examples what the objective needs, e.g. reference log-probabilities.
            restart: called when the replies of a round are written and before it is trained on; expert iteration puts
                the initial weights back here.
        """
        self.rounds = rounds
        self.choose = choose
        self.num_epochs = num_epochs
        self.num_minibatches = num_minibatches
        self.pad_id = pad_id
        self.seed = seed
        self.finish = finish
        self.restart = restart
        self._report: dict[str, float] = {}
        self._at_boundary = True

    @property
    def round(self) -> int:
        """Rounds done."""
        return self.rounds.round

    def __iter__(self) -> Iterator[Batch]:
        """Yield minibatches; a round is prepared when its first one is asked for.

        Raises:
            TrainingError: a round leaves fewer examples than minibatches.
            RewardError: too few rollouts have a score.
            EngineError: the engine did not do what was asked.
        """
        size = self.num_minibatches
        while True:
            examples = self.prepare()
            self._at_boundary = False
            for epoch in range(self.num_epochs):
                order = rng.permutation(len(examples), self.seed, "minibatch", self.round, epoch)
                for part in range(size):
                    if epoch == self.num_epochs - 1 and part == size - 1:
                        self.rounds.round += 1
                        self._at_boundary = True
                    yield batch_of([examples[i] for i in order[part::size]], self.pad_id)

    def prepare(self) -> Sequence[Example]:
        """One round: replies, their scores, the examples made of them."""
        rollouts = self.rounds.collect()
        chosen = self.choose(rollouts)
        self._summarise(rollouts, chosen)
        if len(chosen.examples) < self.num_minibatches:
            raise TrainingError(
                f"of {len(rollouts)} replies to {len(groups(rollouts))} prompts only {len(chosen.examples)} examples "
                f"are left for {self.num_minibatches} minibatches ({chosen.ties} ties)",
                where=f"round {self.round}",
                fix="draw more prompts or replies a round, lower the thresholds or num_mini_batches; if nearly all "
                "replies score the same, the policy has collapsed or the reward cannot tell them apart",
            )
        if self.restart is not None:
            self.restart()
        return chosen.examples if self.finish is None else self.finish(chosen.examples)

    def _summarise(self, rollouts: Sequence[Rollout], chosen: Selected) -> None:
        """Raw scores of all replies and of those that are trained on, and what the choice left out."""
        scores = np.array([r.score.value for r in rollouts if r.score], dtype=np.float64)
        prompts = groups(rollouts)
        self._report = self.rounds.report()
        self._report |= {
            "objective/scores": float(scores.mean()),
            "objective/scores_std": float(scores.std()),
            "completions/mean_length": float(np.mean([len(r.completion.token_ids) for r in rollouts])),
            "completions/clipped_ratio": float(np.mean([r.completion.finish != "stop" for r in rollouts])),
            "selection/kept": len(chosen.kept) / len(rollouts),
            "selection/ties": chosen.ties / len(prompts),
            "selection/incomplete": chosen.incomplete / len(prompts),
            "round": float(self.round),
        }
        first = [r for i, r in enumerate(chosen.kept) if i % len(chosen.examples[0].rows) == 0] if chosen.kept else []
        if first:
            values = [r.score.value for r in first if r.score and r.score.value is not None]
            lengths = [len(r.completion.token_ids) for r in first]
            self._report["selection/scores"] = float(np.mean(values))
            self._report["selection/mean_length"] = float(np.mean(lengths))

    @property
    def at_boundary(self) -> bool:
        """True after the last minibatch of a round."""
        return self._at_boundary

    def report(self) -> dict[str, float]:
        """Statistics of the last round, once."""
        report, self._report = self._report, {}
        return report

    def state(self) -> dict[str, Any]:
        """The round."""
        return {"round": self.round}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue with a round; batches are asked for with a new iterator."""
        self.rounds.round = int(state["round"])
        self._report, self._at_boundary = {}, True


def forget_moments(info: StepInfo) -> None:
    """Hook of expert iteration: after a round the optimiser forgets its moments, as the weights are set back."""
    if info.source.at_boundary:
        info.learner.optimizer.state.clear()


def initial_weights(module: nn.Module) -> Callable[[], None]:
    """Return a function that puts the trained weights of `module` back to what they are now."""
    kept = {name: p.detach().clone() for name, p in module.named_parameters() if p.requires_grad}

    @torch.no_grad()
    def restart() -> None:
        for name, parameter in module.named_parameters():
            if name in kept:
                parameter.copy_(kept[name])

    return restart
