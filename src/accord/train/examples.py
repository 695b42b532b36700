"""From records to token rows: the offline examples that `Offline` batches.

One rule for every stage: a reply is its own tokens plus the stop token, appended to the prompt's tokens
(`models.chat`), so what is trained offline is exactly what is sampled online.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from torch import Tensor

from accord import rng
from accord.errors import DataError
from accord.models import chat, text
from accord.types import Demonstration, Document, Preference

Overlong = Literal["error", "drop", "truncate_prompt", "truncate"]


@dataclass(frozen=True)
class Row:
    """One token sequence and which of its tokens count."""

    ids: tuple[int, ...]
    mask: tuple[bool, ...]
    ref_logp: Tensor | None = None
    """Reference log-probabilities [T] once computed."""
    columns: Mapping[str, tuple[float, ...]] = field(default_factory=dict[str, tuple[float, ...]])
    """Further fields of the batch by name: ``_BK`` K numbers, ``_BT`` one number a token."""


@dataclass(frozen=True)
class Example:
    """The unit that is shuffled and weighed: one row, the chosen and the rejected row of a pair, or a ranking."""

    id: str
    rows: tuple[Row, ...]
    target: float | None = None
    """P(first row is better); None = certain."""
    margin: float | None = None
    weight: float = 1.0
    origin: tuple[Preference, int, int] | None = None
    """Of a pair: the preference and the indices of the better and the worse reply."""
    rank: tuple[int, ...] | None = None
    """Place of each row, 0 = best, equal = a tie; None = rows are in order of preference."""


@dataclass(frozen=True)
class Encoded:
    """Examples together with what could not be used."""

    examples: tuple[Example, ...]
    dropped: tuple[tuple[str, str], ...] = ()
    """(record id, reason) of every record left out."""
    truncated: int = 0
    """Records that lost tokens."""

    def describe(self) -> str:
        """One line: how many examples, how many shortened, how many left out and why."""
        line = f"{len(self.examples)} examples"
        if self.truncated:
            line += f", {self.truncated} shortened to max_length"
        reasons: dict[str, int] = {}
        for _, reason in self.dropped:
            reasons[reason] = reasons.get(reason, 0) + 1
        return line + "".join(f", {count} left out ({reason})" for reason, count in sorted(reasons.items()))


def fit_row(
    ids: Sequence[int], mask: Sequence[bool], max_length: int, overlong: Overlong, where: str | None = None
) -> tuple[Row | None, bool]:
    """Bring one row within `max_length` tokens.

    Args:
        ids: token ids.
        mask: which of them are trained.
        max_length: largest allowed number of tokens.
        overlong: "drop" gives None; "truncate_prompt" removes tokens from the left as long as they are untrained;
            "truncate" cuts the end; "error" raises.
        where: what the row was made of, for the error.

    Returns:
        The row or None, and whether it was shortened.

    Raises:
        DataError: the row is too long and `overlong` is "error".
    """
    if len(ids) <= max_length:
        return Row(tuple(ids), tuple(mask)), False
    if overlong == "error":
        raise DataError(
            f"a row has {len(ids)} tokens and max_length is {max_length}",
            where=where,
            fix="raise max_length, or set overlong to drop, truncate_prompt or truncate",
        )
    if overlong == "drop":
        return None, False
    if overlong == "truncate":
        ids, mask = ids[:max_length], mask[:max_length]
    else:
        excess = len(ids) - max_length
        if any(mask[: excess + 1]):
            return None, False
        ids, mask = ids[excess:], mask[excess:]
    if not any(mask[1:]):
        return None, False
    return Row(tuple(ids), tuple(mask)), True


def from_documents(
    documents: Iterable[Document], tokenizer: Any, *, max_length: int, packing: bool = False, seed: int = 0
) -> Encoded:
    """Cut documents into windows of at most `max_length` tokens; nothing is lost.

    Consecutive windows overlap by one token, so that every token but the first of all is predicted exactly once.

    Args:
        documents: texts; each gets its begin and end token.
        tokenizer: with `eos_token_id`, and `bos_token_id` if the model wants one.
        max_length: tokens a window.
        packing: join the documents, in an order drawn from `seed`, into one stream before cutting, as GPT-2 was
            trained: windows are full, and a document may see the end of another one before it.
        seed: of that order.

    Raises:
        DataError: `max_length` is below 2, which leaves nothing to predict.
    """
    if max_length < 2:
        raise DataError(f"windows of max_length {max_length} hold nothing to predict", fix="use at least 2")
    bos = [tokenizer.bos_token_id] if tokenizer.bos_token_id is not None else []
    named = [(d.id, [*bos, *text.plain(tokenizer, d.text), tokenizer.eos_token_id]) for d in documents]
    if packing:
        order = rng.permutation(len(named), seed, "packing")
        named = [("packed", [token for i in order for token in named[i][1]])]
    examples: list[Example] = []
    dropped: list[tuple[str, str]] = []
    for name, ids in named:
        if len(ids) < 2:
            dropped.append((name, "no text"))
        for number, start in enumerate(range(0, max(1, len(ids) - 1), max_length - 1)):
            window = tuple(ids[start : start + max_length])
            if len(window) > 1:
                row = Row(window, (False,) + (True,) * (len(window) - 1))
                examples.append(Example(f"{name}/{number}", (row,)))
    return Encoded(tuple(examples), tuple(dropped))


def from_demonstrations(
    demonstrations: Iterable[Demonstration],
    tokenizer: Any,
    *,
    max_length: int,
    overlong: Overlong,
    train_on: Literal["all", "last"],
) -> Encoded:
    """Encode conversations with the loss on assistant tokens, stop token included."""
    examples: list[Example] = []
    dropped: list[tuple[str, str]] = []
    truncated = 0
    for record in demonstrations:
        ids, mask = chat.encode_conversation(tokenizer, record.messages, train_on=train_on)
        row, shortened = fit_row(ids, mask, max_length, overlong, f"demonstration {record.id}")
        if row is None:
            dropped.append((record.id, f"longer than max_length {max_length}"))
            continue
        truncated += shortened
        examples.append(Example(record.id, (row,)))
    return Encoded(tuple(examples), tuple(dropped), truncated)


def pairs_of(preference: Preference) -> list[tuple[int, int, float | None, float]]:
    """All (better, worse, target, weight) pairs that a preference implies.

    A ranking gives every pair of different rank, each weighing 1 / pairs so that a prompt counts once (InstructGPT);
    a tie of two is a pair with target 0.5; "both bad" orders nothing and gives none. A soft label decides over a
    choice that comes with it.
    """
    if preference.soft is not None:
        return [(0, 1, preference.soft, 1.0)] if preference.soft >= 0.5 else [(1, 0, 1 - preference.soft, 1.0)]
    if preference.both_bad:
        return []
    if preference.tie or (preference.ranking is not None and len(preference.ranking) == 1):
        return [(0, 1, 0.5, 1.0)] if len(preference.candidates) == 2 else []
    if preference.choice is not None:
        pairs = [(preference.choice, i) for i in range(len(preference.candidates)) if i != preference.choice]
    else:
        groups = preference.ranking or ()
        pairs = [(w, x) for g, better in enumerate(groups) for w in better for worse in groups[g + 1 :] for x in worse]
    return [(better, worse, None, 1 / len(pairs)) for better, worse in pairs]


def from_preferences(
    preferences: Iterable[Preference],
    tokenizer: Any,
    *,
    max_length: int,
    overlong: Overlong,
    use_margin: bool = False,
) -> Encoded:
    """Encode preferences as pairs of rows, the better one first; a pair is kept or left out as a whole.

    Args:
        preferences: judgements; see `pairs_of` for the pairs of each.
        tokenizer: with a chat template.
        max_length: largest allowed number of tokens a row.
        overlong: see `fit_row`; "truncate_prompt" cuts the same tokens off both sides.
        use_margin: the preference's strength is the margin of its pairs, except of ties.

    Raises:
        DataError: a row is too long and `overlong` is "error".
    """
    examples: list[Example] = []
    dropped: list[tuple[str, str]] = []
    truncated = 0
    for record in preferences:
        pairs = pairs_of(record)
        if not pairs:
            dropped.append((record.id, "both bad or a tie of more than two: no order"))
        prompt = chat.encode_prompt(tokenizer, record.prompt.messages)
        replies = [chat.encode_completion(tokenizer, c.text) for c in record.candidates]
        for number, (better, worse, target, weight) in enumerate(pairs):
            if replies[better] == replies[worse]:
                dropped.append((record.id, "both replies are the same"))
                continue
            where = f"preference {record.id}"
            rows, short = _fit_pair(prompt, (replies[better], replies[worse]), max_length, overlong, where)
            if len(rows) < 2:
                dropped.append((record.id, f"a side is longer than max_length {max_length}"))
                continue
            if rows[0].ids == rows[1].ids:
                dropped.append((record.id, f"both replies are the same within max_length {max_length}"))
                continue
            truncated += short
            margin = record.strength if use_margin and target != 0.5 else None
            origin = (record, better, worse)
            examples.append(Example(f"{record.id}/{number}", rows, target, margin, weight, origin))
    return Encoded(tuple(examples), tuple(dropped), truncated)


def from_rankings(
    preferences: Iterable[Preference],
    tokenizer: Any,
    *,
    max_length: int,
    overlong: Overlong,
    use_margin: bool = False,
    ties: Literal["pull", "tie", "drop"] = "pull",
) -> Encoded:
    """Encode judgements of two replies as pairs and those of more as one example of K rows, best first.

    Each reply is one row and is scored once, however many others it is compared with. A ranking is kept or left out as
    a whole. A reply that occurs twice is kept at its best place.

    Args:
        preferences: judgements; those of two replies are treated as by `from_preferences`.
        tokenizer: with a chat template.
        max_length: largest allowed number of tokens a row.
        overlong: see `fit_row`; "truncate_prompt" cuts the same tokens off all rows.
        use_margin: the preference's strength is the margin of its pairs, except of ties.
        ties: what a tie of two becomes: "pull" a pair with target 0.5, "tie" the same with equal ranks (a model of
            ties), "drop" nothing. With "tie" a choice of one of more than two is left out, because the others would
            pass for ties; with "drop" a soft label is refused.

    Raises:
        DataError: a row is too long and `overlong` is "error", or a soft label where none can be used.
    """
    examples: list[Example] = []
    dropped: list[tuple[str, str]] = []
    truncated = 0
    for record in preferences:
        if ties == "drop" and record.soft is not None:
            raise DataError(
                "a soft label is a probability, and this loss takes an order of replies",
                where=f"preference {record.id}",
                fix="use loss_type bradley_terry or all_pairs, or judgements that are not aggregated",
            )
        if len(record.candidates) == 2:
            pairs = from_preferences(
                [record], tokenizer, max_length=max_length, overlong=overlong, use_margin=use_margin
            )
            truncated += pairs.truncated
            dropped += pairs.dropped
            tied = record.soft is None and any(e.target == 0.5 for e in pairs.examples)
            if tied and ties == "drop":
                dropped.append((record.id, "a tie of two: no order"))
            elif tied and ties == "tie":
                examples += [replace(e, rank=(0, 0)) for e in pairs.examples]
            else:
                examples += pairs.examples
            continue
        places, reason = _places(record, choice_only_is_enough=ties != "tie")
        if reason:
            dropped.append((record.id, reason))
            continue
        prompt = chat.encode_prompt(tokenizer, record.prompt.messages)
        kept: dict[tuple[int, ...], int] = {}
        for index in sorted(range(len(places)), key=lambda i: (places[i], i)):
            kept.setdefault(tuple(chat.encode_completion(tokenizer, record.candidates[index].text)), places[index])
        where = f"preference {record.id}"
        rows, short = _fit_pair(prompt, tuple(kept), max_length, overlong, where)
        rank = tuple(kept.values())
        if len(rows) < len(kept):
            dropped.append((record.id, f"a reply is longer than max_length {max_length}"))
        elif len({row.ids for row in rows}) < len(rows):
            dropped.append((record.id, f"two replies are the same within max_length {max_length}"))
        elif len(set(rank)) < 2:
            dropped.append((record.id, "the replies that differ are not ordered"))
        else:
            truncated += short
            examples.append(Example(record.id, rows, None, record.strength if use_margin else None, rank=rank))
    return Encoded(tuple(examples), tuple(dropped), truncated)


def _places(record: Preference, *, choice_only_is_enough: bool) -> tuple[list[int], str]:
    """Place of each of more than two replies, 0 = best; or why they have none."""
    places = [1] * len(record.candidates)
    if record.choice is not None:
        if not choice_only_is_enough:
            return [], "a choice of one of more than two does not say which of the others tie"
        places[record.choice] = 0
        return places, ""
    if record.ranking is None or len(record.ranking) == 1:
        return [], "both bad or a tie of more than two: no order"
    for place, group in enumerate(record.ranking):
        for index in group:
            places[index] = place
    return places, ""


def _fit_pair(
    prompt: Sequence[int],
    replies: tuple[Sequence[int], ...],
    max_length: int,
    overlong: Overlong,
    where: str,
) -> tuple[tuple[Row, ...], bool]:
    """The rows of a pair or ranking that fit, and whether one was shortened."""
    excess = len(prompt) + max(map(len, replies)) - max_length
    shortened = False
    if overlong == "truncate_prompt" and 0 < excess < len(prompt):
        # Off both sides alike, or the pair would compare replies to two different prompts.
        prompt, shortened = prompt[excess:], True
    rows: list[Row] = []
    for reply in replies:
        mask = [False] * len(prompt) + [True] * len(reply)
        row, short = fit_row([*prompt, *reply], mask, max_length, overlong, where)
        shortened |= short
        if row is not None:
            rows.append(row)
    return tuple(rows), shortened


def with_ref_logp(examples: Sequence[Example], ref_logp: Sequence[Tensor]) -> tuple[Example, ...]:
    """Attach reference log-probabilities, one tensor [T] a row in order of examples and rows.

    Raises:
        ValueError: the tensors are not those of the rows.
    """
    if [x.numel() for x in ref_logp] != [len(row.ids) for e in examples for row in e.rows]:
        raise ValueError("ref_logp does not have one number for each token of each row")
    rows = iter(ref_logp)
    return tuple(replace(e, rows=tuple(replace(row, ref_logp=next(rows)) for row in e.rows)) for e in examples)
