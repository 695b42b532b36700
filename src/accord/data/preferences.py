"""Preference formats with a chosen and a rejected side: TRL, HH-RLHF, LLaMA-Factory, UltraFeedback, ..."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from accord.data.conversations import (
    Messages,
    alpaca_prompt,
    is_transcript,
    make_prompt,
    parse_messages,
    parse_prompt,
    parse_reply,
    refuse_printed_list,
    with_system,
)
from accord.data.rows import Columns, Format, Row, RowError, check_text, content_id, has, has_list
from accord.types import Candidate, Preference

_SCORES = (
    ("score_chosen", "score_rejected"),
    ("chosen_score", "rejected_score"),
    ("chosen-rating", "rejected-rating"),
    ("chosen_rating", "rejected_rating"),
)
_MODELS = (("chosen_model", "rejected_model"), ("chosen-model", "rejected-model"))


def make_preference(
    columns: Columns, messages: Messages, candidates: Sequence[Candidate], verdict: dict[str, Any]
) -> Preference:
    """Return the preference record, with what every format shares: annotator, group, id, meta.

    Args:
        columns: the row; what no field took becomes `meta`.
        messages: the prompt.
        candidates: the replies judged.
        verdict: fields of `Preference` that say what was judged.

    Raises:
        RowError: an empty reply, or replies that are the same although one is said to be better.
    """
    for number, candidate in enumerate(candidates, 1):
        check_text(candidate.text, f"reply {number}")
    texts = {candidate.text for candidate in candidates}
    if len(texts) == 1 and not verdict.get("tie") and not verdict.get("both_bad"):
        raise RowError("the replies are identical, although one is said to be better")
    given = columns.id()
    annotator = columns.optional_text("annotator", "annotator")
    group = columns.optional_text("group", "group")
    meta = columns.meta()
    prompt = make_prompt(messages)
    row_id = given or content_id("pref", prompt.id, list(candidates), verdict, annotator, group, meta)
    return Preference(
        id=row_id,
        prompt=prompt,
        candidates=tuple(candidates),
        annotator=annotator,
        group=group,
        source="import",
        meta=meta,
        **verdict,
    )


def _prompt_column(columns: Columns) -> Messages | None:
    name = columns.first("prompt", "instruction", "conversations", "messages", "question", "query", "input")
    if name is None:
        return None
    if name == "instruction":
        return alpaca_prompt(columns)
    if name in ("conversations", "messages"):
        return with_system(columns, parse_messages(columns.get(name, "prompt"), f"column '{name}'"))
    return with_system(columns, parse_prompt(columns.get(name, "prompt"), f"column '{name}'"))


def _split_text(chosen: str, rejected: str) -> tuple[Messages, str, str]:
    """Split two plain texts after their shared beginning (TRL's implicit prompt), at a word boundary."""
    for name, text in (("chosen", chosen), ("rejected", rejected)):
        refuse_printed_list(text, f"column '{name}'")
        check_text(text, f"column '{name}'")
    if chosen == rejected:
        raise RowError("chosen and rejected are identical")
    differs = (at for at, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b)
    shared = chosen[: next(differs, min(len(chosen), len(rejected)))]
    end = next((at + 1 for at in range(len(shared) - 1, -1, -1) if shared[at].isspace()), 0)
    if not shared[:end].strip():
        raise RowError("there is no prompt column, and chosen and rejected share no beginning to serve as prompt")
    return parse_prompt(shared[:end].rstrip(), "the shared beginning"), chosen[end:], rejected[end:]


def _split_turns(prompt: Messages | None, chosen: Messages, rejected: Messages) -> tuple[Messages, str, str]:
    """Return prompt and the two replies; what both sides share in front belongs to the prompt."""
    if chosen == rejected:
        raise RowError("chosen and rejected are identical")
    shared = 0
    while shared < min(len(chosen), len(rejected)) and chosen[shared] == rejected[shared]:
        shared += 1
    for name, side in (("chosen", chosen), ("rejected", rejected)):
        if len(side) - shared != 1 or side[-1].role != "assistant":
            raise RowError(
                f"chosen and rejected must be the same up to one last assistant turn; '{name}' has"
                f" {len(side)} turns, parts after turn {shared} and ends with {side[-1].role}"
            )
    for name, side in (("chosen", chosen), ("rejected", rejected)):
        check_text(side[-1].content, f"the reply in '{name}'")
    return _join(prompt, chosen[:shared]), chosen[-1].content, rejected[-1].content


def _join(prompt: Messages | None, opening: Messages) -> Messages:
    """Return the whole prompt from the prompt column and the turns that open both sides."""
    if prompt is None:
        if not opening:
            raise RowError("there is no prompt column, and chosen and rejected share no opening turns")
        return opening
    if not opening:
        return prompt
    a = [(m.role, m.content.strip()) for m in prompt]
    b = [(m.role, m.content.strip()) for m in opening]
    if b[: len(a)] == a or b[-len(a) :] == a:
        return opening
    if a[-len(b) :] == b:
        return prompt
    if opening[0].role == "assistant":
        return (*prompt, *opening)
    raise RowError("the prompt column is not how chosen and rejected begin")


def _verdict(columns: Columns) -> tuple[dict[str, Any], tuple[dict[str, Any], dict[str, Any]]]:
    """Return choice with strength or soft label, and what is known of each side."""
    metas: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    strength = columns.optional_number("margin", "strength")
    if strength is not None and strength < 0:
        raise RowError(f"column 'margin' is {strength}; a negative margin contradicts chosen and rejected")
    names = next((pair for pair in _SCORES if columns.has(*pair)), None)
    if names is not None:
        better = columns.number(names[0], "candidates[0].meta.score, strength")
        worse = columns.number(names[1], "candidates[1].meta.score, strength")
        if better < worse:
            raise RowError(f"{names[0]} {better:g} is below {names[1]} {worse:g}: chosen is not the better one")
        metas[0]["score"], metas[1]["score"] = better, worse
        strength = better - worse if strength is None else strength
    soft = columns.optional_number("soft", "soft")
    verdict = {"choice": 0, "strength": strength, "soft": soft}
    return {name: value for name, value in verdict.items() if value is not None}, metas


def _from_sides(columns: Columns, chosen_name: str = "chosen", rejected_name: str = "rejected") -> Preference:
    chosen = columns.get(chosen_name, "prompt, candidates[0]")
    rejected = columns.get(rejected_name, "prompt, candidates[1]")
    # In the HHH release the column "prompt" is the question put to a judge, not to the assistant.
    prompt = None if chosen_name == "text_correct" else _prompt_column(columns)
    if prompt is not None:
        columns.used.update({chosen_name: "candidates[0]", rejected_name: "candidates[1]"})
    plain_text = isinstance(chosen, str) and isinstance(rejected, str)
    if prompt is None and plain_text and not (is_transcript(chosen) or is_transcript(rejected)):
        messages, good, bad = _split_text(chosen, rejected)
    else:
        sides = (
            parse_reply(chosen, f"column '{chosen_name}'"),
            parse_reply(rejected, f"column '{rejected_name}'"),
        )
        messages, good, bad = _split_turns(prompt, *sides)
    verdict, metas = _verdict(columns)
    models = next((pair for pair in _MODELS if columns.first(*pair)), ("", ""))
    candidates = [
        Candidate(text=text, model=columns.optional_text(model, f"candidates[{index}].model"), meta=meta)
        for index, (text, model, meta) in enumerate(zip((good, bad), models, metas, strict=True))
    ]
    return make_preference(columns, messages, candidates, verdict)


def _from_hhh(columns: Columns) -> Preference:
    return _from_sides(columns, "text_correct", "text_incorrect")


def _is_pair(row: Row) -> bool:
    return has(row, "chosen", "rejected")


def _is_sharegpt_pair(row: Row) -> bool:
    return _is_pair(row) and "prompt" not in row and (has(row, "conversations") or has(row, "messages"))


FORMATS = (
    Format(
        "hhh",
        Preference,
        "text_correct and text_incorrect, HH-RLHF transcripts",
        lambda row: has(row, "text_correct", "text_incorrect"),
        _from_hhh,
    ),
    Format(
        "hh-rlhf",
        Preference,
        "chosen and rejected, transcripts with Human: and Assistant:",
        lambda row: _is_pair(row) and (is_transcript(row["chosen"]) or is_transcript(row["rejected"])),
        _from_sides,
    ),
    Format(
        "ultrafeedback-binarized",
        Preference,
        "chosen and rejected message lists, score_chosen, score_rejected",
        lambda row: has_list(row, "chosen") and has_list(row, "rejected") and any(has(row, *p) for p in _SCORES),
        _from_sides,
    ),
    Format(
        "sharegpt-ranking",
        Preference,
        "conversations, chosen and rejected as {from, value}",
        _is_sharegpt_pair,
        _from_sides,
    ),
    Format(
        "alpaca-ranking",
        Preference,
        "instruction, chosen, rejected (optional input, system, history)",
        lambda row: _is_pair(row) and has(row, "instruction") and "prompt" not in row,
        _from_sides,
    ),
    Format(
        "preference",
        Preference,
        "chosen, rejected (prompt unless they share their beginning; optional margin)",
        _is_pair,
        _from_sides,
    ),
)
