"""Measuring a reward model after training: held-out pairs, single judgements, edited replies, the report card."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from accord import lab, rng
from accord.data import read
from accord.evals.biases import Scored, edit_shifts
from accord.evals.preferences import LabelledPair, accuracy, bag_of_words, labelled, longer_wins, report
from accord.evals.report_card import EDITS, human_ceiling, report_card
from accord.models import chat
from accord.pipeline import Context
from accord.rewards.learned import LearnedReward, LengthSlope
from accord.stages.training import prompt_key
from accord.train.examples import Example, Row, pairs_of
from accord.types import Candidate, Preference

_EDITED = 100
"""Replies that are edited, at most; each costs a forward pass an edit."""


@dataclass(frozen=True)
class Measured:
    """What is measured with: the model, how text becomes tokens, and the longest row it can take."""

    raw: LearnedReward
    """Scores without normalisation."""
    std: float
    """Deviation of these scores on reference replies."""
    tokenizer: Any
    max_length: int
    pairs: Callable[[Sequence[Preference]], Sequence[Example]]
    """Records as pairs of rows."""
    group: str | None = None
    """Of annotators, when the model learnt from one group only: it is held against that group's judgements."""
    known: dict[tuple[int, ...], float] = field(default_factory=dict[tuple[int, ...], float])
    """Scores by token ids of rows that have been read: none is read twice. Grows."""
    truth: dict[tuple[str, str, str], float] = field(default_factory=dict[tuple[str, str, str], float])
    """True utilities in the lab by prompt (id and text) and reply. Grows."""


def single_judgements(ctx: Context, records: Sequence[Preference]) -> list[Preference] | None:
    """The judgements behind the training data, one row a judgement; None when only aggregated labels are at hand.

    Args:
        ctx: the running stage; a collect stage keeps its judgements beside what it made of them.
        records: what `dataset` holds.
    """
    made_by = ctx.inputs["dataset"].artifact
    if made_by is not None and (Path(made_by.dir) / "judgements.jsonl").is_file():
        found = read(str(Path(made_by.dir) / "judgements.jsonl"), Preference).records
        return [r for r in found if isinstance(r, Preference)]
    if any("votes" in r.meta or not r.annotator for r in records):
        return None
    return list(records)


def fit_length(raw: LearnedReward, examples: Sequence[Example]) -> LengthSlope | None:
    """Slope of raw score over reply length among the replies of each prompt; None when lengths never differ.

    Within prompts, because some prompts want long replies and are scored higher. The slope also takes away what length
    truly earns; it is a choice for runs that must not grow longer.

    Args:
        raw: scores.
        examples: held-out pairs.
    """
    scores = _scores(raw, _distinct(examples), {})
    by_prompt: dict[str, list[tuple[float, float]]] = {}
    for example in examples:
        assert example.origin is not None
        for row in example.rows:
            by_prompt.setdefault(prompt_key(example.origin[0]), []).append((float(sum(row.mask)), scores[row.ids]))
    everything = [length for found in by_prompt.values() for length, _ in found]
    top = bottom = 0.0
    for found in by_prompt.values():
        x = sum(a for a, _ in found) / len(found)
        y = sum(b for _, b in found) / len(found)
        top += sum((a - x) * (b - y) for a, b in found)
        bottom += sum((a - x) ** 2 for a, _ in found)
    return LengthSlope(top / bottom, sum(everything) / len(everything)) if bottom > 0 else None


def measure(
    ctx: Context, by: Measured, train: Sequence[Preference], seen: Sequence[Example], held_out: Sequence[Preference]
) -> dict[str, Any]:
    """What eval.json holds: accuracy and calibration on held-out pairs beside two baselines, and the report card.

    Args:
        ctx: the running stage.
        by: what is measured with.
        train: judgements that were trained on.
        seen: the pairs of them.
        held_out: judgements that were not.
    """
    seed = rng.derive(ctx.run.seed, ctx.work.stage, "bootstrap")
    test = by.pairs(held_out)
    rows = scored(by, test)
    pairs, deltas = [s.pair for s in rows], [s.delta for s in rows]
    if test:
        result = report(deltas, pairs, seed=seed)
    else:  # eval_fraction 0, or so few prompts that none was drawn: said, not invented
        ctx.say("  no preference is held out: accuracy and calibration are not measured")
        unknown = dict.fromkeys(("ece", "brier", "nll"))
        result = {"accuracy": accuracy([], []), **unknown, "reliability": [], "slices": {}}
    learnt = seen[:1000]
    result["train_accuracy"] = accuracy(_deltas(by, learnt), [_labelled(e) for e in learnt], seed=seed)
    result["baselines"] = {
        "longer": accuracy(longer_wins(pairs), pairs, seed=seed),
        "bag_of_words": accuracy(bag_of_words([_labelled(e) for e in seen])(pairs), pairs, seed=seed),
    }
    result["gold_accuracy"] = None
    truth = [replace(s.pair, target=_order(s.gold)) for s in rows if s.gold is not None]
    if len(truth) == len(rows):
        result["gold_accuracy"] = accuracy(deltas, truth, seed=seed)
        result["label_gold_agreement"] = accuracy([p.target - 0.5 for p in pairs], truth, seed=seed)
        result["baselines"]["longer_gold"] = accuracy(longer_wins(pairs), truth, seed=seed)
    judged = single_judgements(ctx, [*train, *held_out])
    if judged is not None and by.group is not None:
        judged = [r for r in judged if r.group == by.group]
    singles = None if judged is None else _scored_again(by, judged, test)
    result["card"] = report_card(
        rows,
        judgements=singles,
        ceiling=human_ceiling(judged or (), seed),
        edits=_edits(by, test, seed),
        ece=result["ece"],
        seed=seed,
    )
    return result


def scored(by: Measured, examples: Sequence[Example]) -> list[Scored]:
    """Pairs with their scores and everything the report card looks at."""
    scores = _scores(by.raw, _distinct(examples), by.known)
    found: list[Scored] = []
    for example in examples:
        assert example.origin is not None
        pair = scores[example.rows[0].ids], scores[example.rows[1].ids]
        found.append(_scored(by, *example.origin, example.target, pair))
    return found


def _deltas(by: Measured, examples: Sequence[Example]) -> list[float]:
    """Score of the first row of each pair minus that of the second."""
    scores = _scores(by.raw, _distinct(examples), by.known)
    return [scores[e.rows[0].ids] - scores[e.rows[1].ids] for e in examples]


def _scored_again(by: Measured, judged: Sequence[Preference], test: Sequence[Example]) -> list[Scored]:
    """Single judgements of replies that have been scored; judgements of other replies are left out."""
    known: dict[tuple[str, str], float] = {}
    for example in test:
        assert example.origin is not None
        record, better, worse = example.origin
        key = prompt_key(record)
        for row, index in zip(example.rows, (better, worse), strict=True):
            known[key, record.candidates[index].text] = by.known[row.ids]
    found: list[Scored] = []
    for record in judged:
        key = prompt_key(record)
        if len(record.candidates) != 2 or any((key, c.text) not in known for c in record.candidates):
            continue
        for better, worse, target, _ in pairs_of(record):
            first, second = (known[key, record.candidates[i].text] for i in (better, worse))
            found.append(_scored(by, record, better, worse, target, (first, second)))
    return found


def _scored(
    by: Measured, record: Preference, better: int, worse: int, target: float | None, scores: tuple[float, float]
) -> Scored:
    meta = record.prompt.meta
    given = [meta[k] for k in ("family", "subset", "tag", "dataset") if isinstance(meta.get(k), str) and meta[k]]
    listed = meta.get("tags")
    tags = [*given, *(t for t in listed if isinstance(t, str))] if isinstance(listed, list) else given
    shown = record.order_shown
    first, second = (record.candidates[i] for i in (better, worse))
    return Scored(
        pair=labelled(record, better, worse, target),
        scores=scores,
        tie=record.tie or (record.soft is None and target == 0.5),
        strength=None if target == 0.5 else record.strength,
        models=(first.model, second.model),
        tags=tuple(dict.fromkeys(tags)),
        annotator=record.annotator,
        group=record.group,
        first_shown=None if shown is None else shown.index(better) < shown.index(worse),
        gold=_gold(by, record, (first, second)),
    )


def _labelled(example: Example) -> LabelledPair:
    assert example.origin is not None
    return labelled(*example.origin, example.target)


def _gold(by: Measured, record: Preference, replies: tuple[Candidate, Candidate]) -> tuple[float, float] | None:
    """True utilities in the lab, None elsewhere."""
    if not lab.is_lab(record.prompt):
        return None
    prompt = (record.prompt.id, prompt_key(record))
    for reply in replies:
        if (*prompt, reply.text) not in by.truth:
            by.truth[*prompt, reply.text] = lab.score(record.prompt, reply.text).utility
    first, second = (by.truth[*prompt, reply.text] for reply in replies)
    return first, second


def _order(gold: tuple[float, float]) -> float:
    return 0.5 if gold[0] == gold[1] else float(gold[0] > gold[1])


def _distinct(examples: Iterable[Example]) -> list[Row]:
    return list({row.ids: row for e in examples for row in e.rows}.values())


def _scores(
    raw: LearnedReward, rows: Sequence[Row], known: dict[tuple[int, ...], float]
) -> dict[tuple[int, ...], float]:
    """`known`, with the scores of the rows that it did not have."""
    new = [row for row in rows if row.ids not in known]
    found = raw.score_ids([row.ids for row in new], [sum(row.mask) for row in new])
    known.update(zip((row.ids for row in new), found, strict=True))
    return known


def _edits(by: Measured, test: Sequence[Example], seed: int) -> dict[str, dict[str, Any]]:
    """What edits that add nothing do to the scores of held-out replies; edited replies that do not fit are left out."""
    replies: dict[tuple[str, str], Preference] = {}
    for example in test:
        assert example.origin is not None
        record, better, worse = example.origin
        for index in (better, worse):
            replies.setdefault((prompt_key(record), record.candidates[index].text), record)
    chosen: list[tuple[str, str, list[int], Row]] = []
    for (prompt, text), record in list(replies.items())[:_EDITED]:
        opening = chat.encode_prompt(by.tokenizer, record.prompt.messages)
        chosen.append((prompt, text, opening, _row(opening, chat.encode_completion(by.tokenizer, text))))
    result: dict[str, dict[str, Any]] = {}
    for name, edit in EDITS.items():
        before: list[Row] = []
        after: list[Row] = []
        prompts: list[str] = []
        for prompt, text, opening, row in chosen:
            edited = _row(opening, chat.encode_completion(by.tokenizer, edit(text)))
            if max(len(row.ids), len(edited.ids)) > by.max_length or row.ids == edited.ids:
                continue
            before.append(row)
            after.append(edited)
            prompts.append(prompt)
        scores = _scores(by.raw, [*before, *after], by.known)
        was, now = ([scores[row.ids] for row in side] for side in (before, after))
        result[name] = edit_shifts(was, now, by.std, prompts, seed=seed)
    return result


def _row(prompt: Sequence[int], reply: Sequence[int]) -> Row:
    return Row((*prompt, *reply), (False,) * len(prompt) + (True,) * len(reply))
