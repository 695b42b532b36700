"""Open-Assistant message trees (Koepf et al. 2023, arXiv:2304.07327): every ranked set of sibling replies.

A tree is `message_tree_id` and `prompt`, a message with `replies`, each again with `replies`. Replies of the assistant
carry `rank` (0 the best), the rank all volunteers agreed on by ranked pairs. Where an export has the single rankings
(`events.ranking` of the message ranked under), each becomes a judgement of its own and the agreed one is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from accord.data.conversations import Messages, parse_messages
from accord.data.named_replies import ordered
from accord.data.preferences import make_preference
from accord.data.rows import Columns, Format, Row, RowError, check_number, check_text
from accord.types import Candidate, Preference

_NODE = "ranked replies"


def _matches(row: Row) -> bool:
    return _NODE in row or (
        "message_tree_id" in row and isinstance(row.get("prompt"), dict) and "text" in row["prompt"]
    )


def _children(node: dict[str, Any]) -> list[dict[str, Any]]:
    replies = [cast(dict[str, Any], reply) for reply in cast(list[Any], node.get("replies") or [])]
    return [reply for reply in replies if not reply.get("deleted")]


def _walk(node: dict[str, Any], before: list[dict[str, Any]]) -> Iterator[tuple[list[dict[str, Any]], dict[str, Any]]]:
    """Yield (path, node) of every message in depth-first order; the path ends with the node."""
    stack = [(node, [*before, node])]
    while stack:
        current, path = stack.pop()
        yield path, current
        stack.extend((child, [*path, child]) for child in reversed(_children(current)))


def _rankings(node: dict[str, Any]) -> list[dict[str, Any]]:
    events: Any = cast(dict[str, Any], node.get("events") or {}).get("ranking")
    return [cast(dict[str, Any], event) for event in cast(list[Any], events or [])]


def _unpack(row: Row) -> list[Row]:
    rest = {name: value for name, value in row.items() if name != "prompt"}
    parts: list[Row] = []
    for path, node in _walk(cast(dict[str, Any], row["prompt"]), []):
        replies = [reply for reply in _children(node) if reply.get("role") == "assistant"]
        turns = [{"role": str(one.get("role")), "content": one.get("text")} for one in path]
        shared = {**rest, _NODE: replies, "path": turns, "lang": node.get("lang")}
        name = str(node.get("message_id", len(parts)))
        if len(replies) < 2:
            continue
        single = [event for event in _rankings(node) if not event.get("not_rankable")]
        refused = [event for event in _rankings(node) if event.get("not_rankable")]
        for number, event in enumerate([*single, *refused]):
            parts.append({**shared, "id": f"{name}/{number}", "event": event, "annotator": event.get("user_id")})
        ranked = [reply for reply in replies if reply.get("rank") is not None]
        if len(ranked) >= 2 and not (single or refused):
            parts.append({**shared, _NODE: ranked, "id": name})
    if not parts:
        raise RowError("no message of the tree has two ranked replies")
    return parts


def _order(columns: Columns, replies: list[dict[str, Any]]) -> tuple[list[int], dict[str, Any]]:
    """Which replies were judged, and the verdict about them."""
    if columns.has("event"):
        event = cast(dict[str, Any], columns.get("event", "ranking, both_bad"))
        position = {str(reply.get("message_id")): index for index, reply in enumerate(replies)}
        named = [str(name) for name in cast(list[Any], event.get("ranked_message_ids") or [])]
        judged = [position[name] for name in named if name in position]
        if len(judged) < 2 or len(set(judged)) < len(judged):
            raise RowError("the ranking names fewer than two of the replies that are in the tree")
        if event.get("not_rankable"):
            return judged, {"both_bad": True}
        return judged, ordered([[place] for place in range(len(judged))])
    ranks = [check_number(reply.get("rank"), "a rank") for reply in replies]
    levels = sorted(set(ranks))
    groups = [[index for index, rank in enumerate(ranks) if rank == level] for level in levels]
    return list(range(len(replies))), ordered(groups)


def _convert(columns: Columns) -> Preference:
    if _NODE not in columns.row:
        raise RowError("this tree holds several sets of ranked replies")
    replies = cast(list[dict[str, Any]], columns.get(_NODE, "candidates, ranking"))
    messages: Messages = parse_messages(columns.get("path", "prompt"), "the path in the tree")
    judged, verdict = _order(columns, replies)
    candidates = [
        Candidate(
            text=check_text(replies[index].get("text"), f"reply {index + 1}"),
            model=str(replies[index].get("model_name") or ""),
            meta={"message_id": str(replies[index].get("message_id"))},
        )
        for index in judged
    ]
    return make_preference(columns, messages, candidates, verdict)


FORMATS = (
    Format(
        "oasst-tree",
        Preference,
        "message_tree_id, prompt with text, role and replies; replies with rank",
        _matches,
        _convert,
        _unpack,
    ),
)
