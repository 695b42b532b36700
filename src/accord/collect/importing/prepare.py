"""Rows of any data set as tasks: which replies are compared, blind, each once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any, cast

from pydantic import ValidationError

from accord.collect.importing.leaks import leaks, masked
from accord.collect.importing.options import ImportOptions, Refused
from accord.collect.records import NewTask
from accord.data import prompt_text
from accord.data.named_replies import reply_names
from accord.data.rows import RowError, content_id
from accord.data.samples import Sampled
from accord.types import Candidate, Demonstration, Preference, Prompt, Record, Stepwise, Unpaired

_LISTS = ("responses", "completions", "candidates", "outputs", "generations", "replies")
_TEXTS = ("text", "content", "completion", "response", "output")
_MODELS = ("model", "generator", "model_name", "model_id")
MOST = 9
"""Replies one task may have."""


@dataclass
class Prepared:
    """Tasks, and what was found on the way."""

    tasks: list[NewTask] = field(default_factory=list)
    repeated: int = 0
    leaking: int = 0
    masked: int = 0
    dropped: int = 0
    refused: list[Refused] = field(default_factory=list)


@dataclass(frozen=True)
class Item:
    """A prompt with its replies, as a file has them."""

    where: str
    prompt: Prompt
    candidates: tuple[Candidate, ...]
    verdict: Preference | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `NewTask` that go before the options: slice, policy, propensity."""


def line_of(where: str) -> int:
    """Return the line number at the end of "file:line", or 0."""
    tail = where.rpartition(":")[2]
    return int(tail) if tail.isdigit() else 0


def items_of(records: Iterable[Record], kind: str) -> tuple[list[Item], list[Refused]]:
    """Return the prompts and replies that records hold.

    Replies to the same prompt in rows of their own (outputs of several models) come together when `kind` compares
    replies, and stay apart when it judges them one by one.

    Args:
        records: of one kind.
        kind: `ImportOptions.kind`.
    """
    found: list[Item] = []
    refused: list[Refused] = []
    single: dict[str, list[Item]] = {}
    for number, record in enumerate(records, 1):
        try:
            item = _item(record, f"row {number}")
        except RowError as error:
            refused.append(Refused(number, str(error), f"row {number}"))
            continue
        if len(item.candidates) == 1:
            single.setdefault(prompt_text(item.prompt), []).append(item)
        else:
            found.append(item)
    return [*found, *_together(single.values(), kind)], refused


def items_of_samples(samples: Iterable[Sampled]) -> list[Item]:
    """Return rows of the sample stage as items."""
    return [Item(s.where, s.prompt, s.candidates, meta=s.meta) for s in samples]


def _together(groups: Iterable[Sequence[Item]], kind: str) -> list[Item]:
    found: list[Item] = []
    for group in groups:
        texts = {item.candidates[0].text for item in group}
        if kind in ("rate", "edit") or len(texts) < 2:
            found += group
            continue
        merged = tuple(item.candidates[0] for item in group)
        found.append(Item(group[0].where, group[0].prompt, merged, meta=group[0].meta))
    return found


def _item(record: Record, where: str) -> Item:
    if isinstance(record, Preference):
        return Item(where, record.prompt, record.candidates, record, record.meta)
    if isinstance(record, Unpaired):
        return Item(where, record.prompt, (_candidate(record.completion, record.meta),), meta=record.meta)
    if isinstance(record, Stepwise):
        return Item(where, record.prompt, (_candidate("\n".join(record.completions), record.meta),), meta=record.meta)
    if isinstance(record, Demonstration):
        asked = record.messages[:-1]
        if not asked or asked[-1].role == "assistant":
            raise RowError("the conversation has no turn before the last reply to serve as prompt")
        prompt = Prompt(id=content_id("prompt", asked), messages=asked)
        return Item(where, prompt, (_candidate(record.messages[-1].content, record.meta),), meta=record.meta)
    if isinstance(record, Prompt):
        return Item(where, record, _replies(record), meta=record.meta)
    raise RowError(f"a {type(record).__name__} has no reply to judge")


def _candidate(text: str, meta: Mapping[str, Any]) -> Candidate:
    model = next((meta[name] for name in _MODELS if isinstance(meta.get(name), str)), "")
    return Candidate(text=text, model=str(model))


def _replies(prompt: Prompt) -> tuple[Candidate, ...]:
    """Replies in the columns beside a prompt: a list, or columns such as response_1 and response_2."""
    name = next((name for name in _LISTS if isinstance(prompt.meta.get(name), list)), None)
    if name is not None:
        return tuple(_listed(item) for item in cast(list[Any], prompt.meta[name]))
    texts = {key: value for key, value in prompt.meta.items() if isinstance(value, str)}
    try:
        return tuple(Candidate(text=texts[key]) for key in reply_names(texts))
    except RowError:
        raise RowError(
            "a prompt without replies gives nothing to judge: sample some first, or give them as 'responses'"
        ) from None


def _listed(item: Any) -> Candidate:
    if isinstance(item, str):
        return Candidate(text=item)
    entry = cast(dict[str, Any], item) if isinstance(item, dict) else {}
    text = next((entry[name] for name in _TEXTS if isinstance(entry.get(name), str)), None)
    if text is None:
        raise RowError(f"a reply is no text and has none of {', '.join(_TEXTS)}")
    return _candidate(text, entry)


def prepare(items: Iterable[Item], options: ImportOptions, gold_of: Callable[[Item, str], dict[str, Any]]) -> Prepared:
    """Return the tasks of items; the same replies to the same prompt make one task.

    Args:
        items: prompts with replies.
        options: what to make of them.
        gold_of: (item, kind) -> the right answer in the form the store wants; RowError when the item has none.
    """
    made = Prepared()
    seen: set[str] = set()
    for item in items:
        try:
            for kind, part in _parts(_blind(item, options, made), options):
                task = _task(part, kind, options, gold_of)
                if task.key in seen:
                    made.repeated += 1
                    continue
                seen.add(task.key)
                made.tasks.append(task)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            made.refused.append(Refused(line_of(item.where), first["msg"].removeprefix("Value error, "), item.where))
        except RowError as error:
            made.refused.append(Refused(line_of(item.where), str(error), item.where))
    return made


def _blind(item: Item, options: ImportOptions, made: Prepared) -> Item:
    """Return the item with replies that give away their writer treated as `options.leaks` says."""
    asked = "\n".join(message.content for message in item.prompt.messages)
    kept: list[Candidate] = []
    for candidate in item.candidates:
        found = leaks(candidate.text, asked=asked, model=candidate.model)
        if not found:
            kept.append(candidate)
            continue
        made.leaking += 1
        if options.leaks == "drop":
            made.dropped += 1
            continue
        if options.leaks == "mask":
            made.masked += 1
            candidate = candidate.model_copy(update={"text": masked(candidate.text, found)})
        names = sorted({leak.text for leak in found})
        kept.append(candidate.model_copy(update={"meta": {**candidate.meta, "names": names}}))
    if len(kept) == len(item.candidates):
        return replace(item, candidates=tuple(kept))
    # What was said about replies that are not all there any more says nothing about the rest.
    return replace(item, candidates=tuple(kept), verdict=None)


def _parts(item: Item, options: ImportOptions) -> list[tuple[str, Item]]:
    """Return (kind, item) of the tasks one item makes."""
    unique = tuple({c.text.strip(): c for c in item.candidates}.values())
    if len(unique) < len(item.candidates):
        item = replace(item, candidates=unique, verdict=None)
    number = len(item.candidates)
    kind = options.kind if options.kind != "auto" else "rate" if number == 1 else "pair" if number == 2 else "rank"
    if number == 0 or (number == 1 and kind in ("pair", "rank")):
        raise RowError(f"{number} different replies are left to compare" if number else "no reply is left to judge")
    if kind in ("rate", "edit"):
        return [(kind, replace(item, candidates=(c,), verdict=None)) for c in item.candidates]
    if kind == "rank":
        if number > MOST:
            raise RowError(f"{number} replies; a ranking has at most {MOST}")
        return [("rank", item)]
    if number == 2:
        return [("pair", item)]
    return [("pair", replace(item, candidates=pair, verdict=None)) for pair in _pairs(item, options)]


def _pairs(item: Item, options: ImportOptions) -> list[tuple[Candidate, Candidate]]:
    replies = item.candidates
    if options.pairing == "all":
        return list(combinations(replies, 2))
    found = [(replies[i], replies[i + 1]) for i in range(0, len(replies) - 1, 2)]
    if len(replies) % 2:
        found.append((replies[-1], replies[0]))
    return found


def task_key(kind: str, prompt: Prompt, candidates: Sequence[Candidate], *, gold: bool = False) -> str:
    """Return the key of a task made from its content: the same whichever reply is named first, whoever wrote it.

    Args:
        kind: of the task, with its purpose in front where that is not labelling.
        prompt: its prompt.
        candidates: its replies.
        gold: a hidden test is another task than the ordinary one about the same replies.
    """
    texts = sorted(candidate.text.strip() for candidate in candidates)
    return content_id(f"gold-{kind}" if gold else kind, prompt_text(prompt), texts)


def _task(item: Item, kind: str, options: ImportOptions, gold_of: Callable[[Item, str], dict[str, Any]]) -> NewTask:
    gold = gold_of(item, kind) if options.gold else None
    named = kind if options.purpose == "label" else f"{options.purpose}-{kind}"
    return NewTask.model_validate(
        {
            "kind": kind,
            "prompt": item.prompt,
            "candidates": item.candidates,
            "key": task_key(named, item.prompt, item.candidates, gold=gold is not None),
            "overlap": options.overlap,
            "priority": options.priority,
            "slice": options.slice,
            "gold": gold,
            "purpose": options.purpose,
            "tags": options.tags,
            "meta": {"import": dict(item.meta)} if item.meta else {},
            **item.extra,
        }
    )
