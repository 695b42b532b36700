"""Preference formats with numbered replies and verdict: AlpacaFarm, Auto-J, arena, NeMo, raw UltraFeedback."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from accord.data.conversations import Messages, alpaca_prompt, parse_messages, parse_prompt, with_system
from accord.data.preferences import make_preference
from accord.data.rows import Columns, Format, RowError, check_number, check_text, has, has_list
from accord.types import Candidate, Preference


def _candidates(columns: Columns, texts: Sequence[str], models: Sequence[str]) -> list[Candidate]:
    return [
        Candidate(
            text=columns.text(text, f"candidates[{index}]"),
            model=columns.optional_text(model, f"candidates[{index}].model"),
        )
        for index, (text, model) in enumerate(zip(texts, models, strict=True))
    ]


def ranked(scores: Sequence[float]) -> dict[str, Any]:
    """Return the verdict of `scores`, higher is better; equal scores tie.

    Args:
        scores: one number a candidate.

    Returns:
        `choice` or `tie` for a pair, `ranking` for more.
    """
    if len(scores) == 2:
        return {"tie": True} if scores[0] == scores[1] else {"choice": int(scores[1] > scores[0])}
    levels = sorted(set(scores), reverse=True)
    return {"ranking": tuple(tuple(i for i, s in enumerate(scores) if s == level) for level in levels)}


def _from_alpaca_farm(columns: Columns) -> Preference:
    """AlpacaFarm and AlpacaEval: preference 1 or 2, between them 1 + P(output_2 is better); 0 and 1.5 tie."""
    name = columns.first("instruction", "prompt", "input", "question")
    if name == "instruction":
        messages = alpaca_prompt(columns)
    else:
        column = name or "instruction"
        messages = with_system(columns, parse_prompt(columns.get(column, "prompt"), f"column '{column}'"))
    candidates = _candidates(columns, ("output_1", "output_2"), ("generator_1", "generator_2"))
    verdict_name = columns.first("preference", "label") or "preference"
    value = columns.number(verdict_name, "choice, soft, tie")
    # 0 ties in AlpacaFarm only; a column called label may just as well count the replies from 0.
    if not 1 <= value <= 2 and not (value == 0 and verdict_name == "preference"):
        raise RowError(f"column '{verdict_name}' is {value:g}; expected 1 to 2 (or 0 for a tie in 'preference')")
    if value in (0, 1.5):
        verdict: dict[str, Any] = {"tie": True}
    else:
        verdict = {"choice": int(value > 1.5)}
        if value not in (1, 2):
            verdict["soft"] = 2 - value
    return make_preference(columns, messages, candidates, verdict)


def _from_auto_j(columns: Columns) -> Preference:
    """Auto-J (Li et al. 2023, arXiv:2310.05470), test set: label 0 = first, 1 = second, 2 = tie."""
    messages = parse_prompt(columns.get("prompt", "prompt"), "column 'prompt'")
    candidates = _candidates(columns, ("response 1", "response 2"), ("model 1", "model 2"))
    label = columns.number("label", "choice, tie")
    if label not in (0, 1, 2):
        raise RowError(f"column 'label' is {label:g}; expected 0 (response 1), 1 (response 2) or 2 (tie)")
    return make_preference(columns, messages, candidates, {"tie": True} if label == 2 else {"choice": int(label)})


_WINNERS: dict[str, dict[str, Any]] = {
    "model_a": {"choice": 0},
    "model_b": {"choice": 1},
    "tie": {"tie": True},
    "tie (bothbad)": {"both_bad": True},
}


def _from_arena(columns: Columns) -> Preference:
    """Chatbot Arena and MT-bench human judgments: two conversations that differ in the assistant's turns.

    Only the last reply is judged against the last reply, so rows whose earlier replies differ are refused.
    """
    a = parse_messages(columns.get("conversation_a", "prompt, candidates[0]"), "column 'conversation_a'")
    b = parse_messages(columns.get("conversation_b", "prompt, candidates[1]"), "column 'conversation_b'")
    if a[-1].role != "assistant" or b[-1].role != "assistant":
        raise RowError("conversation_a and conversation_b must end with an assistant turn")
    if a[:-1] != b[:-1]:
        raise RowError("conversation_a and conversation_b differ before the last reply, so there is no shared prompt")
    candidates = [
        Candidate(text=side[-1].content, model=columns.optional_text(name, f"candidates[{index}].model"))
        for index, (side, name) in enumerate(((a, "model_a"), (b, "model_b")))
    ]
    winner = columns.text("winner", "choice, tie, both_bad")
    if winner not in _WINNERS:
        raise RowError(f"column 'winner' is '{winner[:40]}'; expected one of {', '.join(_WINNERS)}")
    return make_preference(columns, a[:-1], candidates, _WINNERS[winner])


def _last_reply(value: Any, what: str) -> str:
    if isinstance(value, str):
        return check_text(value, what)
    messages = parse_messages(value, what)
    if len(messages) != 1 or messages[0].role != "assistant":
        raise RowError(f"{what} must be one assistant turn")
    return check_text(messages[0].content, what)


def _from_nemo(columns: Columns) -> Preference:
    """NeMo-RL: context and completions with rank, 0 the best; equal ranks tie."""
    context = columns.get("context", "prompt")
    messages: Messages = with_system(columns, parse_prompt(context, "column 'context'"))
    candidates: list[Candidate] = []
    scores: list[float] = []
    for number, item in enumerate(columns.list("completions", "candidates, ranking"), 1):
        entry = cast(dict[str, Any], item) if isinstance(item, dict) else {}
        what = f"completion {number}"
        if "rank" not in entry or "completion" not in entry:
            raise RowError(f"{what} needs 'rank' and 'completion'")
        scores.append(-check_number(entry["rank"], f"the rank of {what}"))
        meta = {key: value for key, value in entry.items() if key not in ("rank", "completion", "model")}
        model = str(entry.get("model") or "")
        candidates.append(Candidate(text=_last_reply(entry["completion"], what), model=model, meta=meta))
    if len(candidates) < 2:
        raise RowError("column 'completions' needs at least two completions to compare")
    return make_preference(columns, messages, candidates, ranked(scores))


def _from_ranks(columns: Columns) -> Preference:
    """Replies with a rank each, 0 the best; equal ranks tie. What `accord collect export --kind rankings` writes."""
    messages = with_system(columns, parse_prompt(columns.get("prompt", "prompt"), "column 'prompt'"))
    texts = columns.list("responses", "candidates")
    places = columns.list("ranks", "choice, ranking, tie")
    models = columns.list("models", "candidates.model") if columns.has("models") else [""] * len(texts)
    if not len(texts) == len(places) == len(models):
        raise RowError(f"{len(texts)} responses, {len(places)} ranks and {len(models)} models")
    if len(texts) < 2:
        raise RowError("column 'responses' needs at least two replies to compare")
    scores = [-check_number(place, f"rank {number}") for number, place in enumerate(places, 1)]
    candidates = [
        Candidate(text=check_text(text, f"reply {number}"), model=str(model or ""))
        for number, (text, model) in enumerate(zip(texts, models, strict=True), 1)
    ]
    return make_preference(columns, messages, candidates, ranked(scores))


def _from_ultrafeedback(columns: Columns) -> Preference:
    """Raw UltraFeedback (Cui et al. 2023, arXiv:2310.01377): completions rated one by one.

    `fine-grained_score`, the mean over four aspects, goes before `overall_score`, because the release has
    completions with a poor critique and an overall score of 10.
    """
    messages = alpaca_prompt(columns)
    candidates: list[Candidate] = []
    scores: list[float] = []
    for number, item in enumerate(columns.list("completions", "candidates, ranking"), 1):
        entry = cast(dict[str, Any], item) if isinstance(item, dict) else {}
        what = f"completion {number}"
        names = [name for name in ("fine-grained_score", "overall_score") if entry.get(name) is not None]
        if not names:
            raise RowError(f"{what} has neither 'fine-grained_score' nor 'overall_score'")
        scores.append(check_number(entry[names[0]], f"{names[0]} of {what}"))
        meta: dict[str, Any] = {"score": scores[-1]}
        if "overall_score" in names:
            meta["overall_score"] = check_number(entry["overall_score"], f"overall_score of {what}")
        text = check_text(entry.get("response"), f"the response of {what}")
        candidates.append(Candidate(text=text, model=str(entry.get("model") or ""), meta=meta))
    if len(candidates) < 2:
        raise RowError("column 'completions' needs at least two completions to compare")
    return make_preference(columns, messages, candidates, ranked(scores))


FORMATS = (
    Format(
        "ultrafeedback",
        Preference,
        "instruction, completions of {response, fine-grained_score or overall_score, model}",
        lambda row: has(row, "instruction") and has_list(row, "completions", "response"),
        _from_ultrafeedback,
    ),
    Format(
        "nemo-ranks",
        Preference,
        "context, completions of {rank, completion}",
        lambda row: has(row, "context") and has_list(row, "completions", "completion"),
        _from_nemo,
    ),
    Format(
        "ranks",
        Preference,
        "prompt, responses, ranks (0 the best, equal = tie; optional models)",
        lambda row: has(row, "prompt") and has_list(row, "responses") and has_list(row, "ranks"),
        _from_ranks,
    ),
    Format(
        "alpaca-farm",
        Preference,
        "instruction, output_1, output_2, preference (1 to 2; 0 = tie) or label",
        lambda row: has(row, "output_1", "output_2") and (has(row, "preference") or has(row, "label")),
        _from_alpaca_farm,
    ),
    Format(
        "auto-j",
        Preference,
        "prompt, response 1, response 2, label (0, 1, 2 = tie)",
        lambda row: has(row, "prompt", "response 1", "response 2", "label"),
        _from_auto_j,
    ),
    Format(
        "arena",
        Preference,
        "conversation_a, conversation_b, winner (model_a, model_b, tie, tie (bothbad))",
        lambda row: has(row, "conversation_a", "conversation_b", "winner"),
        _from_arena,
    ),
)
