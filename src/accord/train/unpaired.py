"""From replies with a thumbs up or down to examples, and the mismatched replies of KTO's KL term."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from accord import rng
from accord.errors import DataError
from accord.models import chat
from accord.train.examples import Encoded, Example, Overlong, Row, fit_row, pairs_of
from accord.types import Candidate, Preference, Unpaired


@dataclass(frozen=True)
class Balance:
    """How much of either label there is, counted in weights."""

    desirable: float
    undesirable: float

    def ratio(self, desirable_weight: float, undesirable_weight: float) -> float:
        """Return lambda_D n_D / (lambda_U n_U), which the KTO paper wants in [1, 4/3]."""
        return desirable_weight * self.desirable / (undesirable_weight * self.undesirable)

    def describe(self, desirable_weight: float, undesirable_weight: float) -> str:
        """One line: the balance, and what would bring it to [1, 4/3] where it is not there."""
        ratio = self.ratio(desirable_weight, undesirable_weight)
        line = f"{self.desirable:g} desirable, {self.undesirable:g} undesirable; weighted ratio {ratio:.3g}"
        if 0.999 <= ratio <= 4 / 3 + 1e-3:
            return line
        low = undesirable_weight * self.undesirable / self.desirable
        return f"{line}: desirable_weight between {low:.3g} and {low * 4 / 3:.3g} puts it into [1, 4/3] (2402.01306)"


def balance(examples: Sequence[Example]) -> Balance:
    """Count labels by weight.

    Args:
        examples: of `from_unpaired`.

    Raises:
        DataError: every reply has the same label, from which nothing can be learned.
    """
    good = sum(e.weight * (1.0 if e.target is None else e.target) for e in examples)
    bad = sum(e.weight for e in examples) - good
    if good <= 0 or bad <= 0:
        raise DataError(
            f"all {len(examples)} replies are labelled {'desirable' if bad <= 0 else 'undesirable'}: nothing can be "
            "learned from one label",
            fix="check how the labels were exported; KTO needs replies of both kinds",
        )
    return Balance(good, bad)


def thumbs_of(preference: Preference) -> list[tuple[int, float, float]]:
    """All (reply, P(desirable), weight) that a preference implies.

    Each pair of `pairs_of` gives its better reply as desirable and its worse one as undesirable, a soft label p as p
    and 1 - p; "both bad" gives undesirable replies. A tie says nothing about either reply and gives none.
    """
    if preference.both_bad and preference.soft is None:
        return [(i, 0.0, 1.0) for i in range(len(preference.candidates))]
    thumbs: list[tuple[int, float, float]] = []
    for better, worse, target, weight in pairs_of(preference):
        sure = 1.0 if target is None else target
        if sure != 0.5:
            thumbs += [(better, sure, weight), (worse, 1.0 - sure, weight)]
    return thumbs


def from_unpaired(
    records: Iterable[Unpaired | Preference], tokenizer: Any, *, max_length: int, overlong: Overlong
) -> Encoded:
    """Encode single replies, one row an example; its target is P(desirable).

    Args:
        records: replies with a label, or preferences, which are split by `thumbs_of`.
        tokenizer: with a chat template.
        max_length: largest allowed number of tokens a row.
        overlong: see `fit_row`.

    Raises:
        DataError: a row is too long and `overlong` is "error".
    """
    examples: list[Example] = []
    dropped: list[tuple[str, str]] = []
    truncated = 0
    for record in records:
        if isinstance(record, Unpaired):
            candidates, thumbs = (Candidate(text=record.completion),), [(0, float(record.label), 1.0)]
        else:
            candidates, thumbs = record.candidates, thumbs_of(record)
            if not thumbs:
                dropped.append((record.id, "a tie: neither reply is desirable or undesirable"))
        prompt = chat.encode_prompt(tokenizer, record.prompt.messages)
        for number, (reply, target, weight) in enumerate(thumbs):
            ids = chat.encode_completion(tokenizer, candidates[reply].text)
            mask = [False] * len(prompt) + [True] * len(ids)
            row, shortened = fit_row([*prompt, *ids], mask, max_length, overlong, f"reply {record.id}")
            if row is None:
                dropped.append((record.id, f"longer than max_length {max_length}"))
                continue
            truncated += shortened
            examples.append(Example(f"{record.id}/{number}", (row,), target, weight=weight))
    return Encoded(tuple(examples), tuple(dropped), truncated)


def with_mismatches(examples: Sequence[Example], *, max_length: int, seed: int) -> tuple[Example, ...]:
    """Give every example a second row: its prompt with a reply written for another prompt.

    In an order drawn from `seed`, each example takes the reply of the next one that has another prompt and another
    reply, going round at the end; so the number of examples may be odd, every reply is lent about equally often, and
    none meets its own prompt, not even through the other reply of the same preference. Where all prompts are the same,
    a different reply is enough. A pair that is too long loses the end of the reply.

    Args:
        examples: of `from_unpaired`, one row each.
        max_length: largest allowed number of tokens a row.
        seed: of the order.

    Raises:
        DataError: an example has no other reply to meet.
    """
    order = rng.permutation(len(examples), seed, "mismatches")
    parts = [_parts(examples[i].rows[0]) for i in order]
    other_prompt = _next_other([prompt for prompt, _ in parts])
    made: list[Example | None] = [None] * len(examples)
    other_reply = _next_other([reply for _, reply in parts])
    for place, index in enumerate(order):
        found = _partner(parts, place, other_prompt, other_reply)
        if found is None:
            raise DataError(
                "KTO's KL term needs a reply to another prompt, and all replies are the same",
                where=f"example {examples[index].id}",
                fix="give more data",
            )
        prompt, reply = parts[place][0], parts[found][1]
        ids = (*prompt, *reply)[:max_length]
        row = Row(ids, tuple(t >= len(prompt) for t in range(len(ids))))
        made[index] = replace(examples[index], rows=(examples[index].rows[0], row))
    return tuple(example for example in made if example is not None)


def _parts(row: Row) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Tokens of the prompt and of the reply."""
    start = row.mask.index(True)
    return row.ids[:start], row.ids[start:]


def _next_other(keys: Sequence[tuple[int, ...]]) -> list[int | None]:
    """For each place the next place, going round, that has another key; None when there is only one key."""
    n = len(keys)
    found: list[int | None] = [None] * n
    if len(set(keys)) < 2:
        return found
    after = next(i for i in range(n) if keys[i] != keys[n - 1])
    for i in reversed(range(n)):
        if keys[i] != keys[(i + 1) % n]:
            after = (i + 1) % n
        found[i] = after
    return found


def _partner(
    parts: Sequence[tuple[tuple[int, ...], tuple[int, ...]]],
    place: int,
    other_prompt: Sequence[int | None],
    other_reply: Sequence[int | None],
) -> int | None:
    """The place whose reply meets the prompt at `place`: another prompt and reply, else another reply."""
    at = other_prompt[place]
    for _ in range(len(parts)):
        if at is None:
            break
        if parts[at][0] != parts[place][0] and parts[at][1] != parts[place][1]:
            return at
        at = (at + 1) % len(parts)
    return other_reply[place]
