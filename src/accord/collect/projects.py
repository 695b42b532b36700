"""Projects: their rules and the versions of their written guidelines."""

# pyright: strict, reportMissingTypeStubs=false
from __future__ import annotations

import hashlib
import secrets
from datetime import datetime

from sqlalchemy import Connection, bindparam, select, update
from sqlalchemy.orm import Session

from accord.collect import events
from accord.collect.columns import utcnow
from accord.collect.database import Store
from accord.collect.failures import Invalid, NotFound
from accord.collect.ids import new_id
from accord.collect.records import Guideline, ProjectSettings, storable
from accord.collect.schema import GuidelineRow, ProjectRow
from accord.types import Record

DEFAULT = "default"
LONGEST_GUIDELINES = 500_000


class Project(Record):
    """A set of tasks with its own rules."""

    id: str
    name: str
    created_at: datetime


def ensure_project(
    store: Store,
    name: str = DEFAULT,
    settings: ProjectSettings | None = None,
    *,
    seed: int | None = None,
    actor: str = events.SYSTEM,
) -> Project:
    """Return the project of that name, made with these settings if it is missing; an existing one keeps its own.

    Args:
        store: an open store.
        name: up to 100 characters.
        settings: None = the defaults.
        seed: of every random draw in it; None = random and secret, as it should be outside tests.
        actor: id of who does it.

    Raises:
        Invalid: the name cannot be used.
    """
    with store.read() as session:
        found = _find(session, name)
    return _record(found) if found is not None else store.transact(lambda s: _make(s, name, settings, seed, actor))


def _make(session: Session, name: str, settings: ProjectSettings | None, seed: int | None, actor: str) -> Project:
    if not name.strip() or len(name) > 100 or not name.isprintable():
        raise Invalid("a project's name has 1 to 100 printable characters", fix="choose another name")
    if session.get_bind().dialect.name == "postgresql":
        session.connection().exec_driver_sql("LOCK TABLE project IN SHARE ROW EXCLUSIVE MODE")
    found = _find(session, name)
    if found is not None:
        return _record(found)
    row = ProjectRow(
        id=new_id(),
        name=name,
        settings=(settings or ProjectSettings()).model_dump(mode="json"),
        seed=secrets.randbits(62) if seed is None else seed,
        created_at=utcnow(),
    )
    session.add(row)
    session.flush()
    events.record(session, actor, "create", ("project", row.id), project=row.id, after={"name": name})
    return _record(row)


def list_projects(store: Store) -> list[Project]:
    """Return all projects, oldest first."""
    with store.read() as session:
        return [_record(row) for row in session.scalars(select(ProjectRow).order_by(ProjectRow.id))]


def settings(store: Store, project: str) -> ProjectSettings:
    """Return a project's rules.

    Raises:
        NotFound: no such project.
    """
    with store.read() as session:
        return ProjectSettings.model_validate(require_project(session, project).settings)


def set_settings(store: Store, project: str, new: ProjectSettings, *, actor: str = events.SYSTEM) -> None:
    """Replace a project's rules. Tasks keep the overlap they were added with.

    Raises:
        NotFound: no such project.
    """

    def work(session: Session) -> None:
        row = require_project(session, project)
        after = new.model_dump(mode="json")
        changed = [name for name in after if after[name] != row.settings.get(name)]
        if not changed:
            return
        before = {name: row.settings.get(name) for name in changed}
        session.execute(update(ProjectRow).where(ProjectRow.id == row.id).values(settings=after))
        new_values = {name: after[name] for name in changed}
        target = ("project", row.id)
        events.record(session, actor, "set_settings", target, project=row.id, before=before, after=new_values)

    store.transact(work)


def set_guidelines(store: Store, project: str, markdown: str, *, actor: str = events.SYSTEM) -> Guideline:
    """Make the next version of the written rules; the same text again stays the same version.

    Raises:
        NotFound: no such project.
        Invalid: the text is too long, or no database can hold it.
    """
    try:
        storable(markdown)
    except ValueError as error:
        raise Invalid(f"these guidelines cannot be stored: {error}", fix="remove these characters") from error
    if len(markdown) > LONGEST_GUIDELINES:
        raise Invalid(f"guidelines have at most {LONGEST_GUIDELINES} characters", fix="shorten them")

    def work(session: Session) -> Guideline:
        row = require_project(session, project, lock=True)
        last = _newest(session, row.id)
        sha = hashlib.sha256(markdown.encode()).hexdigest()
        if last is not None and last.sha256 == sha:
            return _guideline(last)
        made = GuidelineRow(
            id=new_id(),
            project_id=row.id,
            version=1 if last is None else last.version + 1,
            markdown=markdown,
            sha256=sha,
            created_by=None if actor == events.SYSTEM else actor,
            created_at=utcnow(),
        )
        session.add(made)
        session.flush()
        after = {"version": made.version, "sha256": sha}
        events.record(session, actor, "set_guidelines", ("guideline", made.id), project=row.id, after=after)
        return _guideline(made)

    return store.transact(work)


def guidelines(store: Store, project: str) -> Guideline | None:
    """Return the written rules in force; None when there are none.

    Raises:
        NotFound: no such project.
    """
    with store.read() as session:
        row = _newest(session, require_project(session, project).id)
        return None if row is None else _guideline(row)


def guideline_versions(store: Store, project: str) -> list[Guideline]:
    """Return every version, newest first.

    Raises:
        NotFound: no such project.
    """
    with store.read() as session:
        found = require_project(session, project).id
        query = select(GuidelineRow).where(GuidelineRow.project_id == found).order_by(GuidelineRow.version.desc())
        return [_guideline(row) for row in session.scalars(query)]


def require_project(session: Session, project: str, *, lock: bool = False) -> ProjectRow:
    """Return the row of a project by name or id.

    Raises:
        NotFound: no such project.
    """
    row = _find(session, project, lock=lock)
    if row is None:
        raise NotFound(f"there is no project {project[:60]!r}", fix="make it: accord collect init --project NAME")
    return row


def project_id(store: Store, connection: Connection, project: str) -> str:
    """Return the id of a project by name or id, asked for once: projects are neither renamed nor removed.

    Raises:
        NotFound: no such project.
    """
    found = store.project_ids.get(project) or connection.scalar(_ID, {"project": project})
    if found is None:
        raise NotFound(f"there is no project {project[:60]!r}", fix="make it: accord collect init --project NAME")
    store.project_ids[project] = found
    return found


_ID = select(ProjectRow.id).where((ProjectRow.name == bindparam("project")) | (ProjectRow.id == bindparam("project")))


def _find(session: Session, project: str, *, lock: bool = False) -> ProjectRow | None:
    query = select(ProjectRow).where((ProjectRow.name == project) | (ProjectRow.id == project))
    return session.scalar(query.with_for_update() if lock else query)


def _newest(session: Session, project: str) -> GuidelineRow | None:
    query = select(GuidelineRow).where(GuidelineRow.project_id == project)
    return session.scalar(query.order_by(GuidelineRow.version.desc()).limit(1))


def _record(row: ProjectRow) -> Project:
    return Project(id=row.id, name=row.name, created_at=row.created_at)


def _guideline(row: GuidelineRow) -> Guideline:
    return Guideline(
        id=row.id,
        version=row.version,
        markdown=row.markdown,
        sha256=row.sha256,
        author=row.created_by,
        created_at=row.created_at,
    )
