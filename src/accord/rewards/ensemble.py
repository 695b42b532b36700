"""Reward models with several outputs as reward functions: ensembles, attributes, steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from accord.batch import collate
from accord.functional.attributes import weighted_attributes
from accord.functional.ensembles import Combination, combine, disagreement
from accord.functional.steps import Aggregate, aggregate_steps
from accord.models.members import MemberIndex, Members
from accord.models.score_heads import StepScores
from accord.models.steps import step_ends
from accord.rewards.rows import numbered_micros
from accord.rewards.seen import Distances, Measure, See, gathered
from accord.types import Rollout, Score


class MembersReward:
    """Scores with K outputs and combines them; every output is a part of the score."""

    def __init__(
        self,
        model: Members,
        index: MemberIndex,
        *,
        pad_id: int,
        how: Combination = "mean",
        penalty: float = 0.0,
        token_budget: int = 16384,
    ) -> None:
        """Wrap a model.

        Args:
            model: `Batch -> Forward` with `scores_BK`.
            index: names and normalisation of the outputs; attributes are summed with its weights.
            pad_id: any valid token id.
            how: combines the members of an ensemble, see `functional.ensembles.combine`.
            penalty: of "uncertainty" and "lower", in units of normalised scores.
            token_budget: largest rows x length a forward.
        """
        self.model = model
        self.index = index
        self.pad_id = pad_id
        self.how: Combination = how
        self.penalty = penalty
        self.token_budget = token_budget
        self.device = next(model.parameters()).device
        self.distances: Measure | None = None
        """How far features are from those of training replies; when set, scores have a part `distance`."""

    def outputs(self, sequences: Sequence[Sequence[int]], lengths: Sequence[int] | None = None) -> Tensor:
        """Normalised outputs of whole token sequences (prompt and reply), float64 [B, K].

        Args:
            sequences: token ids.
            lengths: tokens of each reply; with them neighbours that answer the same prompt are scored together.
        """
        return self._read(sequences, lengths)

    def features(self, sequences: Sequence[Sequence[int]], lengths: Sequence[int]) -> np.ndarray:
        """What the heads read of whole token sequences, float64 [N, D].

        The last hidden states; those of members that share no trunk stand beside each other, so D is K times as large.

        Args:
            sequences: token ids, at least one.
            lengths: tokens of each reply.
        """
        return gathered(lambda see: self._read(sequences, lengths, see))

    @torch.no_grad()
    def _read(
        self,
        sequences: Sequence[Sequence[int]],
        lengths: Sequence[int] | None,
        see: See | None = None,
    ) -> Tensor:
        """Normalised outputs, in the order of `sequences`."""
        scores_BK = torch.zeros(len(sequences), len(self.index.names), dtype=torch.float64)
        options = {"pad_id": self.pad_id, "token_budget": self.token_budget, "device": self.device}
        for rows, micro in numbered_micros(sequences, lengths, **options):
            states = self.model.states(micro)
            scores_BK[rows] = self.model.scored(states).double().cpu()
            if see is not None:
                see(rows, torch.cat(states, dim=1).double().cpu().numpy())
        mean_K, std_K = (torch.tensor(x, dtype=torch.float64) for x in (self.index.mean, self.index.std))
        return (scores_BK - mean_K) / std_K

    def combined(self, scores_BK: Tensor) -> Tensor:
        """One score a row from normalised outputs."""
        if self.index.kind == "attributes":
            assert self.index.weights is not None
            return weighted_attributes(scores_BK, torch.tensor(self.index.weights))
        return combine(scores_BK, self.how, self.penalty)

    def score_ids(self, sequences: Sequence[Sequence[int]], lengths: Sequence[int] | None = None) -> list[float]:
        """Combined scores of whole token sequences; see `outputs`."""
        return self.combined(self.outputs(sequences, lengths)).tolist()

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """Score rollouts by their exact token ids; a number that is not finite is a Score with an error.

        Parts of an ensemble: each member by name, `mean`, and `variance` over members; of attributes: each rating.
        With `distances` every score has a part `distance`.
        """
        sequences = [[*r.prompt_ids, *r.completion.token_ids] for r in rollouts]
        lengths = [len(r.completion.token_ids) for r in rollouts]
        away = None if self.distances is None else Distances(self.distances, len(rollouts))
        scores_BK = self._read(sequences, lengths, away)
        columns = dict(zip(self.index.names, scores_BK.T.tolist(), strict=True))
        if self.index.kind == "ensemble":
            columns |= {"mean": combine(scores_BK).tolist(), "variance": disagreement(scores_BK).tolist()}
        if away is not None:
            columns |= {"distance": away.values}
        values = self.combined(scores_BK).tolist()
        return [_score(v, {name: column[i] for name, column in columns.items()}) for i, v in enumerate(values)]


class StepReward:
    """Scores with a process reward model: P(right) of the steps of a reply, as one number."""

    def __init__(
        self,
        model: StepScores,
        *,
        tokenizer: Any,
        separator: str,
        aggregate: Aggregate = "min",
        mean: float = 0.0,
        std: float = 1.0,
        token_budget: int = 16384,
    ) -> None:
        """Wrap a model.

        Args:
            model: `Batch -> Forward` with `score_BT`.
            tokenizer: finds the ends of steps; its padding id fills rows.
            separator: text between steps.
            aggregate: see `functional.steps.aggregate_steps`.
            mean: of the aggregate on reference replies; scores come out as (aggregate - mean) / std.
            std: of the aggregate on reference replies, positive.
            token_budget: largest rows x length a forward.
        """
        self.model = model
        self.tokenizer = tokenizer
        self.separator = separator
        self.aggregate: Aggregate = aggregate
        self.mean = mean
        self.std = std
        self.token_budget = token_budget
        self.device = next(model.parameters()).device

    def score_steps(self, prompts: Sequence[Sequence[int]], replies: Sequence[Sequence[int]]) -> list[Score]:
        """Score replies given as token ids; see `score_rows`.

        Args:
            prompts: token ids of each prompt.
            replies: token ids of each reply.
        """
        masks: list[list[bool]] = []
        for prompt, reply in zip(prompts, replies, strict=True):
            ends = {len(prompt) + end for end in step_ends(self.tokenizer, reply, self.separator)}
            masks.append([position in ends for position in range(len(prompt) + len(reply))])
        return self.score_rows([[*p, *r] for p, r in zip(prompts, replies, strict=True)], masks)

    @torch.no_grad()
    def score_rows(self, sequences: Sequence[Sequence[int]], masks: Sequence[Sequence[bool]]) -> list[Score]:
        """Score whole token sequences.

        Args:
            sequences: token ids of prompt and reply.
            masks: True at the last token of each step.

        Returns:
            The normalised aggregate, with parts `steps` (how many), `min`, `product` and `last` (not normalised). A
            reply without steps is an error.
        """
        scores = [Score(value=None, error="the reply has no step")] * len(sequences)
        rows = [i for i, mask in enumerate(masks) if any(mask)]
        if not rows:
            return scores
        pad_id = self.tokenizer.pad_token_id
        batch = collate([sequences[i] for i in rows], [masks[i] for i in rows], pad_id=pad_id)
        batch = batch.replace(weight_B=torch.tensor(rows, dtype=torch.float64))
        for micro in batch.split(self.token_budget):
            on_device = micro.to(self.device)
            score_BT = self.model(on_device).score_BT
            assert score_BT is not None and micro.weight_B is not None
            mask_BT = on_device.response_mask_BT
            ways: tuple[Aggregate, ...] = ("min", "product", "last")
            found = {how: aggregate_steps(score_BT.double(), mask_BT, how).tolist() for how in ways}
            for b, i in enumerate(micro.weight_B.long().tolist()):
                parts = {"steps": float(sum(masks[i]))} | {how: values[b] for how, values in found.items()}
                scores[i] = _score((found[self.aggregate][b] - self.mean) / self.std, parts)
        return scores

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """Score rollouts by their exact token ids."""
        return self.score_steps([r.prompt_ids for r in rollouts], [r.completion.token_ids for r in rollouts])


def _score(value: float, parts: dict[str, float]) -> Score:
    if not math.isfinite(value):
        return Score(value=None, parts=parts, error=f"the reward model gave {value}")
    return Score(value=value, parts=parts)
