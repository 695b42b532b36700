"""Label Studio's JSON export: tasks with `data` and `annotations`, judged with Pairwise, Ranker or Choices.

A Pairwise result names the elements compared in `to_name`; they are looked up in `data` by name, and when the labelling
config calls them otherwise, the columns that look like replies (answer1, answer2, ...) are taken in order. A Ranker
without buckets lists the ids of the items, best first; items left in "_" come last and tie. Several buckets sort into
kinds and order nothing, so they are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from accord.data.conversations import parse_prompt
from accord.data.named_replies import bare, ordered, prompt_name, reply_names, single_choice
from accord.data.preferences import make_preference
from accord.data.rows import Columns, Format, Row, RowError, check_list, check_number, check_text, has_list, plain
from accord.types import Candidate, Preference

_ONE = "annotation"
_TEXTS = ("body", "text", "content", "html", "title")
_UNRANKED = "_"


def _matches(row: Row) -> bool:
    return isinstance(row.get("data"), dict) and (has_list(row, "annotations", "result") or _ONE in row)


def _unpack(row: Row) -> list[Row]:
    rest = {name: value for name, value in row.items() if name != "annotations"}
    parts: list[Row] = []
    for number, item in enumerate(check_list(row.get("annotations"), "column 'annotations'"), 1):
        one = cast(dict[str, Any], item)
        given = f"{row.get('id', 'task')}/{one.get('id', number)}"
        parts.append({**rest, "id": given, _ONE: one})
    return parts


def _results(annotation: Mapping[str, Any]) -> list[dict[str, Any]]:
    if annotation.get("was_cancelled"):
        raise RowError("the task was skipped (was_cancelled)")
    return [cast(dict[str, Any], item) for item in check_list(annotation.get("result"), "the result")]


def _pair_names(data: Mapping[str, Any], to_name: Any) -> list[str]:
    wanted = to_name.split(",") if isinstance(to_name, str) else cast(list[Any], to_name or [])
    by_bare = {bare(name): name for name in data}
    found = [by_bare[bare(str(name))] for name in wanted if bare(str(name)) in by_bare]
    return found if len(found) == 2 else reply_names(data)


def _of_pair(data: Mapping[str, Any], result: Mapping[str, Any]) -> tuple[list[str], list[str], dict[str, Any]]:
    names = _pair_names(data, result.get("to_name"))
    if len(names) != 2:
        raise RowError(f"a pairwise answer about {len(names)} replies: {', '.join(names)}")
    value = cast(dict[str, Any], result.get("value") or {})
    selected = value.get("selected", value.get("choices"))
    if isinstance(selected, list):
        chosen = cast(list[Any], selected)
        selected = chosen[0] if len(chosen) == 1 else chosen
    verdict = single_choice(selected, names)
    if verdict is None:
        raise RowError(f"the answer is '{str(selected)[:40]}'; expected left, right, tie or one of {', '.join(names)}")
    return names, [check_text(data[name], f"data.{name}") for name in names], verdict


def _of_ranker(data: Mapping[str, Any], result: Mapping[str, Any]) -> tuple[list[str], list[str], dict[str, Any]]:
    lists = {name: cast(list[Any], value) for name, value in data.items() if isinstance(value, list)}
    name = str(result.get("to_name"))
    lists = {key: value for key, value in lists.items() if all(isinstance(v, dict) and "id" in v for v in value)}
    if name not in lists:
        if len(lists) != 1:
            raise RowError(f"data has {len(lists)} lists of items with ids; the ranker's list cannot be told")
        name = next(iter(lists))
    items = [cast(dict[str, Any], item) for item in lists[name]]
    ids = [str(item["id"]) for item in items]
    texts: list[str] = []
    for item in items:
        column = next((key for key in _TEXTS if item.get(key)), None)
        texts.append(check_text(item[column] if column else None, f"item '{item['id']}' of data.{name}"))
    value = cast(dict[str, Any], result.get("value") or {}).get("ranker")
    if not isinstance(value, dict):
        raise RowError("the ranker's value is not an object")
    buckets = {str(key): cast(list[Any], members) for key, members in cast(dict[str, Any], value).items()}
    last = buckets.pop(_UNRANKED, [])
    if len(buckets) != 1:
        raise RowError(f"{len(buckets)} buckets ({', '.join(buckets)}) sort into kinds and order nothing")
    best = [str(item) for item in next(iter(buckets.values()))]
    groups = [[item] for item in best] + ([[str(item) for item in last]] if last else [])
    if sorted(item for group in groups for item in group) != sorted(ids):
        raise RowError("the ranker does not name every item exactly once")
    return [name], texts, ordered([[ids.index(item) for item in group] for group in groups])


def _convert(columns: Columns) -> Preference:
    data = cast(dict[str, Any], columns.get("data", "prompt, candidates"))
    if _ONE not in columns.row:
        raise RowError("this task holds several annotations")
    annotation = cast(dict[str, Any], columns.get(_ONE, "choice, ranking, tie, both_bad, annotator, seconds"))
    results = _results(annotation)
    makers = {"pairwise": _of_pair, "ranker": _of_ranker, "choices": _of_pair}
    judged = next((r for kind in makers for r in results if r.get("type") == kind), None)
    if judged is None:
        found = ", ".join(sorted({str(r.get("type")) for r in results}))
        raise RowError(f"no pairwise, ranker or choices answer (found: {found})")
    names, texts, verdict = makers[str(judged["type"])](data, judged)
    asked = prompt_name({name: value for name, value in data.items() if name not in names})
    messages = parse_prompt(data[asked], f"data.{asked}")
    person = annotation.get("completed_by")
    if isinstance(person, dict):
        person = cast(dict[str, Any], person).get("id")  # never the address
    if person is not None:
        columns.row["annotator"] = str(person)
    if annotation.get("lead_time") is not None:
        verdict["seconds"] = check_number(annotation["lead_time"], "lead_time")
    others = {str(r.get("from_name")): plain(r.get("value")) for r in results if r is not judged}
    rest = {key: plain(value) for key, value in data.items() if key not in (asked, *names)}
    columns.extra = {**rest, **others, **columns.extra}
    columns.used.update({name: "meta" for name in ("predictions", "drafts") if not columns.row.get(name)})
    return make_preference(columns, messages, [Candidate(text=text) for text in texts], verdict)


FORMATS = (
    Format(
        "label-studio",
        Preference,
        "data (prompt and replies) and annotations with pairwise, ranker or choices results",
        _matches,
        _convert,
        _unpack,
    ),
)
