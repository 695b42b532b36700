"""Measuring base abilities of the models of an evaluation: loss on texts and demonstrations, answers to questions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from accord.engines.base import Sampling
from accord.engines.native import engine_for
from accord.errors import DataError
from accord.evals.abilities import Ability, Outcomes, answer_of, is_right
from accord.models import chat
from accord.models.checkpoint import max_positions
from accord.models.pair import device
from accord.models.policy import CausalModel
from accord.pipeline import Context
from accord.stages.datasets import load
from accord.train.examples import Encoded, from_demonstrations, from_documents
from accord.train.sources import batch_of
from accord.types import Demonstration, Document, Prompt, Record

_ROWS = 64
_TOKEN_BUDGET = 16384


@dataclass(frozen=True)
class Set:
    """One data set of `abilities`."""

    name: str
    records: tuple[Any, ...]
    """Documents, demonstrations or prompts, all of one kind."""

    @property
    def asks(self) -> bool:
        """Whether it holds questions."""
        return isinstance(self.records[0], Prompt)


def read_sets(names: Sequence[str], ctx: Context) -> list[Set]:
    """Read the data sets, so that a wrong one costs no generation.

    Args:
        names: keys of the field `abilities`.
        ctx: the running stage.

    Raises:
        DataError: records of another kind, or questions without an answer.
    """
    found: list[Set] = []
    for name in names:
        where = f"{ctx.work.stage}.abilities.{name}"
        records = load(ctx, f"abilities.{name}", Record)
        kinds = {type(r) for r in records}
        if len(kinds) != 1 or not issubclass(next(iter(kinds)), Document | Demonstration | Prompt):
            given = ", ".join(sorted(k.__name__ for k in kinds)) or "nothing"
            raise DataError(
                f"abilities are measured on texts, demonstrations or questions; this is {given}",
                where=where,
                fix="give one kind of them",
            )
        without = [r.id for r in records if isinstance(r, Prompt) and answer_of(r) is None]
        if without:
            raise DataError(
                f"{len(without)} of {len(records)} questions have no answer, first: {without[0]}",
                where=where,
                fix="add a column 'answer'",
            )
        found.append(Set(name, tuple(records)))
    return found


def measure(
    sets: Sequence[Set], policy: CausalModel, tokenizer: Any, ctx: Context, *, reply: int, max_batch: int
) -> dict[str, Outcomes]:
    """What one model does on every data set.

    Args:
        sets: from `read_sets`.
        policy: the model.
        tokenizer: of the model.
        ctx: the running stage.
        reply: most tokens of an answer; answers are greedy.
        max_batch: sequences decoded at a time.

    Raises:
        DataError: nothing of a data set fits into the model.
    """
    longest = max_positions(policy.inner)
    found: dict[str, Outcomes] = {}
    for one in sets:
        if one.asks:
            found[one.name] = _answers(one, policy, tokenizer, longest, reply, max_batch)
        elif isinstance(one.records[0], Document):
            # Every window of a document counts with its document.
            found[one.name] = _losses(
                policy, tokenizer, one, lambda r: from_documents([r], tokenizer, max_length=longest)
            )
        else:
            found[one.name] = _losses(
                policy,
                tokenizer,
                one,
                lambda r: from_demonstrations(
                    [r], tokenizer, max_length=longest, overlong="truncate_prompt", train_on="last"
                ),
            )
        if not found[one.name].values:
            raise DataError(f"nothing of '{one.name}' fits into {longest} tokens", where=f"{ctx.work.stage}.abilities")
    return found


@torch.no_grad()
def _losses(policy: CausalModel, tokenizer: Any, one: Set, encode: Callable[[Any], Encoded]) -> Outcomes:
    """Loss of every token that counts, in nats."""
    examples = [(number, e) for number, record in enumerate(one.records) for e in encode(record).examples]
    values: list[float] = []
    clusters: list[str] = []
    for start in range(0, len(examples), _ROWS):
        part = examples[start : start + _ROWS]
        batch = batch_of([e for _, e in part], tokenizer.pad_token_id)
        batch = batch.replace(weight_B=torch.arange(len(part), dtype=torch.float64))
        for micro in batch.split(_TOKEN_BUDGET):
            on_device = micro.to(device())
            logp_BT = policy(on_device).logp_BT
            assert logp_BT is not None and micro.weight_B is not None
            for b, row in enumerate(micro.weight_B.long().tolist()):
                losses = (-logp_BT[b][on_device.response_mask_BT[b]]).double().tolist()
                values += losses
                clusters += [str(part[row][0])] * len(losses)
    return Outcomes(tuple(values), tuple(clusters))


def _answers(one: Set, policy: CausalModel, tokenizer: Any, longest: int, reply: int, max_batch: int) -> Outcomes:
    """1 or 0 a question; one that leaves no room for a reply is answered wrongly."""
    ids = [tuple(chat.encode_prompt(tokenizer, p.messages)) for p in one.records]
    fits = [i for i, row in enumerate(ids) if len(row) + reply <= longest]
    engine = engine_for(policy.hf, tokenizer, max_batch)
    made = engine.generate([ids[i] for i in fits], Sampling(reply, temperature=0.0)) if fits else []
    engine.close()
    right = {i: is_right(one.records[i], c.text) for i, c in zip(fits, made, strict=True)}
    values = tuple(float(right.get(i, False)) for i in range(len(ids)))
    return Outcomes(values, tuple(str(i) for i in range(len(ids))))


def abilities(
    sets: Sequence[Set], outcomes: dict[str, dict[str, Outcomes]], vocabularies: dict[str, dict[str, int]]
) -> list[Ability]:
    """What was measured, by data set.

    Args:
        sets: the data sets.
        outcomes: by model, then data set.
        vocabularies: by model: its tokens.
    """
    kinds: list[dict[str, int]] = []
    numbers: dict[str, int] = {}
    for model, vocabulary in vocabularies.items():
        if vocabulary not in kinds:
            kinds.append(vocabulary)
        numbers[model] = kinds.index(vocabulary)
    return [
        Ability(
            one.name, "accuracy" if one.asks else "perplexity", {m: o[one.name] for m, o in outcomes.items()}, numbers
        )
        for one in sets
    ]
