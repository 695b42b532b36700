"""Examples for reward models with several outputs: weights by draw or group, rated replies, replies in steps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from accord import rng
from accord.models import chat
from accord.models.steps import step_ends
from accord.train.examples import Encoded, Example, Overlong, Row, fit_row, from_preferences
from accord.types import Demonstration, Preference, Stepwise


def with_bootstrap(examples: Sequence[Example], members: int, seed: int) -> tuple[Example, ...]:
    """Give each example a weight for each ensemble member, drawn from Poisson(1), the limit of the bootstrap.

    A weight is a function of the seed, the member and the id of the example alone. An example that every member would
    leave out has weight 1 for all.

    Args:
        examples: pairs.
        members: K.
        seed: of the draws.
    """
    found: list[Example] = []
    for example in examples:
        drawn = rng.generator(seed, "bootstrap", example.id).poisson(1.0, size=members)
        weights = tuple(float(w) for w in drawn) if drawn.any() else (1.0,) * members
        found.append(_with_column(example, "weight_BK", [weights] * len(example.rows)))
    return tuple(found)


def with_groups(examples: Sequence[Example], groups: Sequence[str]) -> tuple[Example, ...]:
    """Give each example weight 1 for the member of its annotator's group and 0 for the others.

    Args:
        examples: pairs that know the judgement they come from.
        groups: of each member, in order.
    """
    found: list[Example] = []
    for example in examples:
        assert example.origin is not None
        weights = tuple(float(example.origin[0].group == group) for group in groups)
        found.append(_with_column(example, "weight_BK", [weights] * len(example.rows)))
    return tuple(found)


def from_ratings(
    records: Iterable[Demonstration | Preference],
    tokenizer: Any,
    attributes: Sequence[str],
    *,
    max_length: int,
    overlong: Overlong,
) -> Encoded:
    """Encode rated replies, one row each; ratings are read from `meta` of the conversation or of the candidate.

    Args:
        records: conversations that end with the reply, or judgements whose candidates are rated.
        tokenizer: with a chat template.
        attributes: names of the ratings; one that is missing, null or NaN is unknown, which is not 0.
        max_length: largest allowed number of tokens a row.
        overlong: see `fit_row`.
    """
    examples: list[Example] = []
    dropped: list[tuple[str, str]] = []
    truncated = 0
    for record in records:
        prompt = record.prompt.messages if isinstance(record, Preference) else record.messages[:-1]
        replies = (
            [(c.text, c.meta) for c in record.candidates]
            if isinstance(record, Preference)
            else [(record.messages[-1].content, record.meta)]
        )
        for number, (reply, meta) in enumerate(replies):
            name = f"{record.id}/{number}"
            ratings = tuple(_rating(meta, attribute) for attribute in attributes)
            if all(math.isnan(r) for r in ratings):
                dropped.append((name, "not rated"))
                continue
            before, ids = chat.encode_prompt(tokenizer, prompt), chat.encode_completion(tokenizer, reply)
            mask = [False] * len(before) + [True] * len(ids)
            row, short = fit_row([*before, *ids], mask, max_length, overlong, f"reply {name}")
            if row is None:
                dropped.append((name, f"longer than max_length {max_length}"))
                continue
            truncated += short
            examples.append(Example(name, (replace(row, columns={"target_BK": ratings}),)))
    return Encoded(tuple(examples), tuple(dropped), truncated)


def from_rated_pairs(
    records: Iterable[Preference],
    tokenizer: Any,
    attributes: Sequence[str],
    *,
    max_length: int,
    overlong: Overlong,
) -> Encoded:
    """Encode pairs with an order in each attribute: 1 the first is rated higher, 0.5 equal, 0 lower, NaN not known.

    Args:
        records: judgements whose candidates carry ratings in `meta`.
        tokenizer: with a chat template.
        attributes: names of the ratings.
        max_length: largest allowed number of tokens a row.
        overlong: see `fit_row`.
    """
    encoded = from_preferences(records, tokenizer, max_length=max_length, overlong=overlong)
    kept: list[Example] = []
    dropped = list(encoded.dropped)
    for example in encoded.examples:
        assert example.origin is not None
        record, better, worse = example.origin
        first, second = record.candidates[better].meta, record.candidates[worse].meta
        order = tuple(_order(_rating(first, name), _rating(second, name)) for name in attributes)
        if all(math.isnan(o) for o in order):
            dropped.append((example.id, "no attribute is rated on both replies"))
            continue
        kept.append(_with_column(example, "target_BK", [order] * 2))
    return Encoded(tuple(kept), tuple(dropped), encoded.truncated)


def from_steps(
    records: Iterable[Stepwise], tokenizer: Any, *, separator: str, max_length: int, overlong: Overlong
) -> Encoded:
    """Encode replies in steps; the last token of each step counts and has the step's label.

    The reply is encoded as a whole, as a policy writes it, and its steps are found again in the tokens, as they will be
    when it is scored. A record where that gives another number of steps is left out.

    Args:
        records: steps and labels.
        tokenizer: with a chat template.
        separator: put between steps.
        max_length: largest allowed number of tokens a row.
        overlong: see `fit_row`.
    """
    examples: list[Example] = []
    dropped: list[tuple[str, str]] = []
    truncated = 0
    for record in records:
        prompt = chat.encode_prompt(tokenizer, record.prompt.messages)
        text = separator.join(step.removesuffix(separator) for step in record.completions)
        reply = chat.encode_completion(tokenizer, text)
        ends = step_ends(tokenizer, reply, separator)
        if len(ends) != len(record.labels):
            dropped.append((record.id, "the separator is part of a step, or a step is empty"))
            continue
        labels = dict(zip((len(prompt) + end for end in ends), record.labels, strict=True))
        ids = [*prompt, *reply]
        # The whole reply counts here, or a prompt that is cut would take the start of the first step with it.
        counts = [False] * len(prompt) + [True] * len(reply)
        row, short = fit_row(ids, counts, max_length, overlong, f"steps {record.id}")
        start = 0 if row is None or overlong == "truncate" else len(ids) - len(row.ids)
        places = range(start, start + (0 if row is None else len(row.ids)))
        if row is None or not any(position in labels for position in places):
            dropped.append((record.id, f"longer than max_length {max_length}"))
            continue
        truncated += short
        mask = tuple(position in labels for position in places)
        targets = tuple(float(labels.get(position, False)) for position in places)
        examples.append(Example(record.id, (replace(row, mask=mask, columns={"target_BT": targets}),)))
    return Encoded(tuple(examples), tuple(dropped), truncated)


def _with_column(example: Example, name: str, values: Sequence[tuple[float, ...]]) -> Example:
    rows: list[Row] = []
    for row, value in zip(example.rows, values, strict=True):
        rows.append(replace(row, columns={**row.columns, name: value}))
    return replace(example, rows=tuple(rows))


def _rating(meta: Mapping[str, Any], name: str) -> float:
    value = meta.get(name)
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else math.nan


def _order(first: float, second: float) -> float:
    return math.nan if math.isnan(first + second) else 0.5 + 0.5 * ((first > second) - (first < second))
