"""One kind of record out of another: the prompts of preferences, their chosen side as demonstrations, ..."""

from __future__ import annotations

from typing import TypeVar, cast

from accord.data.conversations import make_prompt
from accord.data.rows import RowError
from accord.types import Demonstration, Document, Message, Preference, Prompt, Record, Stepwise, Unpaired

R = TypeVar("R", bound=Record)

_SOURCES: dict[type[Record], tuple[type[Record], ...]] = {
    Prompt: (Preference, Demonstration, Unpaired, Stepwise),
    Demonstration: (Preference,),
    Document: (Demonstration, Preference, Prompt),
}


def can_derive(found: type[Record], want: type[Record]) -> bool:
    """Return whether records of `found` can serve as `want`."""
    return found is want or found in _SOURCES.get(want, ())


def derive(record: Record, want: type[R]) -> R:
    """Return `record` as a `want`.

    A prompt takes along the meta of what it came from; out of a demonstration the reply is kept as
    ``meta["answer"]``, unless there is one. A document is the text of all turns, blank lines between them.

    Args:
        record: any record `can_derive` allows.
        want: the kind to make.

    Raises:
        RowError: this record has no such side (a tie has no chosen reply, a greeting no prompt).
        TypeError: `can_derive` is false.
    """
    if isinstance(record, want):
        return record
    made: Record | None = None
    if want is Prompt:
        made = _prompt(record)
    elif want is Demonstration and isinstance(record, Preference):
        made = _demonstration(record)
    elif want is Document:
        made = _document(record)
    if not isinstance(made, want):
        raise TypeError(f"{type(record).__name__} cannot serve as {want.__name__}")
    return cast(R, made)


def _prompt(record: Record) -> Prompt | None:
    if isinstance(record, Preference | Unpaired | Stepwise):
        return record.prompt.model_copy(update={"meta": {**record.prompt.meta, **record.meta}})
    if isinstance(record, Demonstration):
        asked = record.messages[:-1]
        if not asked or asked[-1].role == "assistant":
            raise RowError("the conversation has no turn before the last reply to serve as prompt")
        meta = {"answer": record.messages[-1].content, **record.meta}
        return make_prompt(asked).model_copy(update={"meta": meta})
    return None


def preferred(preference: Preference) -> int:
    """Return the index of the one candidate judged best.

    Raises:
        RowError: a tie, both bad, or a soft label of one half.
    """
    if preference.choice is not None:
        return preference.choice
    if preference.ranking is not None and len(preference.ranking[0]) == 1:
        return preference.ranking[0][0]
    if preference.soft is not None and preference.soft != 0.5 and not (preference.tie or preference.both_bad):
        return int(preference.soft < 0.5)
    raise RowError("no single reply was preferred (tie or both bad)")


def _demonstration(record: Preference) -> Demonstration:
    reply = Message(role="assistant", content=record.candidates[preferred(record)].text)
    meta = {**record.prompt.meta, **record.meta}
    return Demonstration(id=record.id, messages=(*record.prompt.messages, reply), meta=meta)


def _document(record: Record) -> Document | None:
    if isinstance(record, Preference):
        record = _demonstration(record)
    if isinstance(record, Demonstration | Prompt):
        text = "\n\n".join(message.content for message in record.messages)
        return Document(id=record.id, text=text, meta=record.meta)
    return None
