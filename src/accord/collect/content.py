"""Prompts, replies and where replies come from, each stored once however often it is added."""

# pyright: strict, reportMissingTypeStubs=false
from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import insert, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from accord.collect.columns import utcnow
from accord.collect.events import canonical, digest
from accord.collect.failures import Invalid
from accord.collect.ids import new_id
from accord.collect.records import storable
from accord.collect.schema import ModelVersionRow, ProfileRow, PromptRow, ResponseRow, UserRow
from accord.types import Candidate, Prompt

HUMAN = "human:"
"""Prefix of `Candidate.model` where a person wrote the reply; the pseudonym follows."""
CHUNK = 400
T = TypeVar("T")


@dataclass(frozen=True)
class Origin:
    """Where a reply comes from: exactly one of the two."""

    model: str | None
    user: str | None


@dataclass(frozen=True)
class Content:
    """The stored ids of a prompt with its replies."""

    prompt: str
    responses: tuple[str, ...]
    authors: frozenset[str]
    """User ids of those who wrote a reply."""
    sha256: str
    """Of prompt and replies: the same content, the same hash, in every database."""


def chunks(items: Sequence[T], size: int = CHUNK) -> Iterator[Sequence[T]]:
    """Yield `items` in pieces of at most `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def prompt_sha(prompt: Prompt) -> str:
    """Return the hash of the whole record."""
    return digest(prompt.model_dump(mode="json"))


def content_sha(prompt: Prompt, candidates: Iterable[Candidate]) -> str:
    """Return the hash of a prompt with its candidates, in their order."""
    return digest([prompt.model_dump(mode="json"), [c.model_dump(mode="json") for c in candidates]])


def check_storable(prompt: Prompt, candidates: Iterable[Candidate]) -> None:
    """Refuse what no database can hold: NUL, halves of surrogate pairs, numbers that are not finite.

    Raises:
        Invalid: with the reason.
    """
    try:
        for text in (prompt.id, *(m.content for m in prompt.messages), *(c.text for c in candidates)):
            storable(text)
        metas = [prompt.meta, *(c.meta for c in candidates)]
        for text in (canonical(metas), *(c.model for c in candidates)):
            storable(text)
            if "\\u0000" in text:
                raise ValueError("text must not contain NUL characters")
    except (TypeError, ValueError) as error:
        raise Invalid(f"this cannot be stored: {error}", fix="remove it from the texts or the meta fields") from error


def add_content(session: Session, project: str, items: Sequence[tuple[Prompt, Sequence[Candidate]]]) -> list[Content]:
    """Store what is missing of some prompts with candidates, and return the ids.

    Args:
        session: in a write transaction that holds the project's lock.
        project: id.
        items: a prompt and its candidates each.
    """
    prompts = _prompts(session, project, [prompt for prompt, _ in items])
    origins = origins_of(session, {c.model for _, candidates in items for c in candidates})
    wanted: dict[tuple[str, str], dict[str, Any]] = {}
    keys: list[list[tuple[str, str]]] = []
    for prompt, candidates in items:
        owner = prompts[prompt_sha(prompt)]
        keys.append([])
        for candidate in candidates:
            row = response_values(owner, candidate, origins[candidate.model])
            wanted[owner, row["sha256"]] = row
            keys[-1].append((owner, row["sha256"]))
    ids = _insert_missing_responses(session, wanted)
    found: list[Content] = []
    for (prompt, candidates), mine in zip(items, keys, strict=True):
        authors = frozenset(user for c in candidates if (user := origins[c.model].user) is not None)
        responses = tuple(ids[key] for key in mine)
        found.append(Content(prompts[prompt_sha(prompt)], responses, authors, content_sha(prompt, candidates)))
    return found


def response_values(prompt: str, candidate: Candidate, origin: Origin) -> dict[str, Any]:
    """Return the columns of a reply."""
    return {
        "id": new_id(),
        "prompt_id": prompt,
        "model_version_id": origin.model,
        "author_user_id": origin.user,
        "text": candidate.text,
        "meta": candidate.meta,
        "sha256": digest([origin.model, origin.user, candidate.text, candidate.meta]),
        "created_at": utcnow(),
    }


def origins_of(session: Session, models: Iterable[str]) -> Mapping[str, Origin]:
    """Return the origin of each model name, making what is missing; "human:<pseudonym>" is that person if known."""
    names = sorted(set(models))
    pseudonyms = [name.removeprefix(HUMAN) for name in names if name.startswith(HUMAN)]
    users: dict[str, str] = {}
    for some in chunks(pseudonyms):
        query = select(ProfileRow.pseudonym, ProfileRow.user_id).where(ProfileRow.pseudonym.in_(some))
        users.update({row.pseudonym: row.user_id for row in session.execute(query)})
    found = {
        name: Origin(None, users[name.removeprefix(HUMAN)])
        for name in names
        if name.startswith(HUMAN) and name.removeprefix(HUMAN) in users
    }
    left = [name for name in names if name not in found]
    if any(len(name) > 300 for name in left):
        raise Invalid("a model's name has at most 300 characters", fix="shorten it, put the rest into meta")
    models = _model_versions(session, left)
    missing = [name for name in left if name not in models]
    if missing:
        # Other projects may be adding the same name at this moment.
        rows = [{"id": new_id(), "name": name, "version": "", "created_at": utcnow()} for name in missing]
        make = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
        session.execute(make(ModelVersionRow.metadata.tables["model_version"]).on_conflict_do_nothing(), rows)
        models.update(_model_versions(session, missing))
    return {**found, **{name: Origin(models[name], None) for name in left}}


def _model_versions(session: Session, names: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for some in chunks(names):
        query = select(ModelVersionRow.name, ModelVersionRow.id)
        query = query.where(ModelVersionRow.name.in_(some), ModelVersionRow.version == "")
        found.update({row.name: row.id for row in session.execute(query)})
    return found


def users_named(session: Session, names: Iterable[str]) -> dict[str, str]:
    """Return the user ids of handles or pseudonyms.

    Raises:
        Invalid: nobody has that name.
    """
    found: dict[str, str] = {}
    wanted = sorted(set(names))
    for some in chunks(wanted):
        lower = [name.lower() for name in some]
        query = select(UserRow.id, UserRow.handle, ProfileRow.pseudonym)
        query = query.join(ProfileRow, ProfileRow.user_id == UserRow.id)
        query = query.where(UserRow.handle.in_(lower) | ProfileRow.pseudonym.in_(some))
        for row in session.execute(query):
            found.update({name: row.id for name in some if name.lower() == row.handle or name == row.pseudonym})
    missing = [name for name in wanted if name not in found]
    if missing:
        raise Invalid(f"there is no user {missing[0][:60]}", fix="name authors by handle or pseudonym")
    return found


def _prompts(session: Session, project: str, prompts: Sequence[Prompt]) -> dict[str, str]:
    wanted = {prompt_sha(prompt): prompt for prompt in prompts}
    ids: dict[str, str] = {}
    for some in chunks(list(wanted)):
        query = select(PromptRow.sha256, PromptRow.id)
        query = query.where(PromptRow.project_id == project, PromptRow.sha256.in_(some))
        ids.update({row.sha256: row.id for row in session.execute(query)})
    new: list[dict[str, Any]] = [
        {
            "id": new_id(),
            "project_id": project,
            "external_id": prompt.id,
            "messages": [message.model_dump(mode="json") for message in prompt.messages],
            "meta": prompt.meta,
            "sha256": sha,
            "created_at": utcnow(),
        }
        for sha, prompt in wanted.items()
        if sha not in ids
    ]
    if new:
        session.execute(insert(PromptRow.metadata.tables["prompt"]), new)
        ids.update({row["sha256"]: row["id"] for row in new})
    return ids


def _insert_missing_responses(
    session: Session, wanted: Mapping[tuple[str, str], dict[str, Any]]
) -> dict[tuple[str, str], str]:
    ids: dict[tuple[str, str], str] = {}
    owners = sorted({owner for owner, _ in wanted})
    for some in chunks(owners):
        query = select(ResponseRow.prompt_id, ResponseRow.sha256, ResponseRow.id).where(ResponseRow.prompt_id.in_(some))
        ids.update({(row.prompt_id, row.sha256): row.id for row in session.execute(query)})
    new = [row for key, row in wanted.items() if key not in ids]
    if new:
        session.execute(insert(ResponseRow.metadata.tables["response"]), new)
        ids.update({(row["prompt_id"], row["sha256"]): row["id"] for row in new})
    return ids
