"""Argilla: records with the answers of several people, of version 2 (nested and flat) and of version 1.

| written by | answers |
|---|---|
| 2, `records.to_list()`, `to_json()` | `responses: {question: [{"value", "user_id"}]}`, texts under `fields` |
| 2, `to_list(flatten=True)`, `to_datasets()` | columns `question.responses`, `.responses.users`, `.responses.status` |
| 1, `FeedbackDataset` | `responses: [{"user_id", "status", "values": {question: {"value"}}}]` |

Of every person's answers the first that chooses or ranks replies is the verdict; the others (ratings, texts) are kept
in the meta of the record under the question's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from accord.data.conversations import parse_prompt
from accord.data.named_replies import prompt_name, ranked_options, reply_names, single_choice
from accord.data.preferences import make_preference
from accord.data.rows import Columns, Format, Row, RowError, check_text, plain
from accord.types import Candidate, Preference

_ANSWERS = "answers of one person"
_FLAT = ".responses"


def _is_nested(row: Row) -> bool:
    return isinstance(row.get("fields"), dict) and isinstance(row.get("responses"), dict | list)


def _is_flat(row: Row) -> bool:
    return any(name.endswith(_FLAT) and f"{name}.users" in row for name in row)


def _of_version_2(responses: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    people: dict[str, dict[str, Any]] = {}
    for question, answers in responses.items():
        for answer in cast(list[dict[str, Any]], answers or []):
            people.setdefault(str(answer.get("user_id") or ""), {})[question] = answer.get("value")
    return people


def _of_version_1(responses: list[Any]) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    people: dict[str, dict[str, Any]] = {}
    states: dict[str, str] = {}
    for number, response in enumerate(cast(list[dict[str, Any]], responses), 1):
        user = str(response.get("user_id") or f"person {number}")
        values = cast(dict[str, dict[str, Any]], response.get("values") or {})
        people[user] = {question: answer.get("value") for question, answer in values.items()}
        states[user] = str(response.get("status") or "submitted")
    return people, states


def _of_columns(row: Row) -> tuple[dict[str, dict[str, Any]], dict[str, str], Row]:
    people: dict[str, dict[str, Any]] = {}
    states: dict[str, str] = {}
    taken: set[str] = set()
    for name in [name for name in row if name.endswith(_FLAT)]:
        values = cast(list[Any], row[name] or [])
        users = cast(list[Any], row.get(f"{name}.users") or [])
        status = cast(list[Any], row.get(f"{name}.status") or ["submitted"] * len(values))
        taken |= {name, f"{name}.users", f"{name}.status"}
        if not len(values) == len(users) == len(status):
            raise RowError(f"column '{name}' and its users and status differ in length")
        for value, user, state in zip(values, users, status, strict=True):
            people.setdefault(str(user), {})[name.removesuffix(_FLAT)] = value
            states[str(user)] = str(state or "submitted")
    return people, states, {name: value for name, value in row.items() if name not in taken}


def _unpack(row: Row) -> list[Row]:
    """One row a person; a person who discarded the record, or has not finished, stays in and is refused later."""
    states: dict[str, str] = {}
    rest = {name: value for name, value in row.items() if name != "responses"}
    if not _is_nested(row):
        people, states, rest = _of_columns(row)
    elif isinstance(row["responses"], dict):
        people = _of_version_2(cast(dict[str, Any], row["responses"]))
    else:
        people, states = _of_version_1(cast(list[Any], row["responses"]))
    if not people:
        raise RowError("nobody has answered this record")
    several = len(people) > 1
    parts: list[Row] = []
    for user, values in people.items():
        part = {**rest, _ANSWERS: values, "annotator": user, "status": states.get(user, "submitted")}
        if several and isinstance(row.get("id"), str):
            part["id"] = f"{row['id']}/{user}"
        parts.append(part)
    return parts


def _verdict(answers: Mapping[str, Any], names: list[str]) -> tuple[str, dict[str, Any]]:
    for question, value in answers.items():
        found = ranked_options(value, names) or single_choice(value, names)
        if found is not None:
            return question, found
    shown = "; ".join(f"{question}: {str(value)[:40]}" for question, value in answers.items()) or "nothing"
    raise RowError(f"no answer names one of the replies {', '.join(names)} ({shown})")


def _convert(columns: Columns) -> Preference:
    if _ANSWERS not in columns.row:
        raise RowError("this record holds several people's answers")
    status = columns.optional_text("status", "(only submitted answers count)")
    if status != "submitted":
        raise RowError(f"the answer was not submitted but is '{status[:40]}'")
    nested = isinstance(columns.row.get("fields"), dict)
    fields = cast(dict[str, Any], columns.get("fields", "prompt, candidates") if nested else columns.row)
    asked, names = prompt_name(fields), reply_names(fields)
    answers = cast(dict[str, Any], columns.get(_ANSWERS, "choice, ranking, tie, both_bad"))
    question, verdict = _verdict(answers, names)
    messages = parse_prompt(fields[asked], f"field '{asked}'")
    candidates = [Candidate(text=check_text(fields[name], f"field '{name}'")) for name in names]
    if not nested:
        columns.used.update({asked: "prompt", **{name: f"candidates[{i}]" for i, name in enumerate(names)}})
    for name, value in (("metadata", columns.row.get("metadata")), ("answers", answers)):
        rest = {key: plain(item) for key, item in cast(dict[str, Any], value or {}).items() if key != question}
        if name in columns.row:
            columns.used[name] = "meta"
        columns.extra = {**rest, **columns.extra}
    return make_preference(columns, messages, candidates, verdict)


FORMATS = (
    Format(
        "argilla",
        Preference,
        "fields (prompt, response-1, response-2, ...) and responses; or columns question.responses, .responses.users",
        lambda row: _is_nested(row) or _is_flat(row),
        _convert,
        _unpack,
    ),
)
