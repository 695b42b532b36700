"""`accord collect ...`: the labelling site and its database from the command line.

The name is older than the site: `accord collect --config run.yaml` runs the stage of that name, and so does
`accord collect run.yaml`. Nothing heavy is imported before a command runs.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from accord.errors import ConfigError, DataError

if TYPE_CHECKING:
    from accord.collect.database import Store
    from accord.collect.records import User

STAGE = "stage"
"""Hidden command that runs the stage; the command line adds it, since stages lie above this package."""


class StageOrCommand(TyperGroup):
    """Takes what is not a command's name for the arguments of the stage."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the hidden command's name in front where it was left out."""
        first = args[0] if args else ""
        if first.endswith((".yaml", ".yml")):
            args = [STAGE, "--config", *args]
        elif (first.startswith("-") and first not in ("-h", "--help")) or "=" in first:
            args = [STAGE, *args]
        return super().parse_args(ctx, args)


def _group(summary: str, **options: Any) -> typer.Typer:
    return typer.Typer(
        help=summary,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        **options,
    )


app = _group(
    "Collect preferences from people: the labelling site, its database, import and export.\n\n"
    "Start with `accord collect serve --db labels.db --tasks samples.jsonl`. "
    "`accord collect run.yaml` (or --config run.yaml) runs the stage `collect` of a run.",
    cls=StageOrCommand,
)
users = _group("People and programs with access.")
keys = _group("API keys.")
app.add_typer(users, name="user")
app.add_typer(keys, name="key")

Database = Annotated[str, typer.Option("--db", help="a file, or a URL such as postgresql+psycopg://user@host/database")]
ProjectOption = Annotated[str, typer.Option("--project", help="name of the project")]
Role = Annotated[str, typer.Option(help="admin, adjudicator, annotator or service")]
Groups = Annotated[list[str] | None, typer.Option("--group", help="group of annotators; may be repeated")]
Kind = Annotated[str, typer.Option(help="pair, rank, rate, edit; auto goes by the number of replies")]
Format = Annotated[str, typer.Option(help="format of the file; auto looks at it")]
Overlap = Annotated[int | None, typer.Option(min=1, help="labels a task; default: the project's rule")]

SYSTEM = "system"
"""Who acts in the audit trail when the command line does."""
Host = Annotated[str, typer.Option("--host", help="address to listen at; 0.0.0.0 = from other machines too")]
Port = Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one")]
Tasks = Annotated[list[Path] | None, typer.Option("--tasks", help="file of tasks to import first; may be repeated")]
PublicUrl = Annotated[
    str | None, typer.Option("--base-url", help="the site's address, e.g. https://labels.example.org")
]
Proxy = Annotated[
    str | None, typer.Option("--proxy", help="address of the reverse proxy whose X-Forwarded headers are believed")
]
SiteUrl = Annotated[str, typer.Option("--base-url", help="address people reach the site at")]
GuidelinesFile = Annotated[Path | None, typer.Option("--guidelines", help="Markdown file")]
NextGuidelines = Annotated[Path | None, typer.Argument(help="Markdown file of the next version; none prints the last")]
FromStdin = Annotated[bool, typer.Option("--password-stdin", help="read the password from standard input")]
LOCAL = "http://127.0.0.1:8765"


def _open(url: str, *, create: bool = False) -> Store:
    """Open a database; only `serve` and `init` make new ones, so that a misspelt name is an error."""
    from accord.collect.database import open_store, parse_url

    parsed = parse_url(url)
    if not create and parsed.get_backend_name() == "sqlite" and not Path(parsed.database or "").exists():
        raise ConfigError("there is no such database", where=url, fix="make it with `accord collect init --db ...`")
    store = open_store(url)
    for warning in store.warnings:
        typer.echo(f"warning: {warning}", err=True)
    return store


def _role(role: str) -> Any:
    roles = ("admin", "adjudicator", "annotator", "service")
    if role not in roles:
        raise ConfigError(f"there is no role '{role}'", where="--role", fix=f"choose one of {', '.join(roles)}")
    return role


def _user(store: Store, handle: str) -> User:
    from accord.collect.people import get_user

    return get_user(store, handle)


def _fill(store: Store, project: str, paths: list[Path], format: str, kind: str, overlap: int | None) -> None:
    """Import files and say what became of every row."""
    from accord.collect.importing import import_file

    for path in paths:
        done = import_file(store, project, path, format=format, kind=kind, overlap=overlap)
        for line in done.describe():
            typer.echo(line)


@app.command()
def serve(  # noqa: PLR0913  (options, all with defaults)
    db: Database = "labels.db",
    host: Host = "127.0.0.1",
    port: Port = 8765,
    tasks: Tasks = None,
    project: ProjectOption = "default",
    format: Format = "auto",
    kind: Kind = "auto",
    overlap: Overlap = None,
    base_url: PublicUrl = None,
    proxy: Proxy = None,
    no_rate_limit: Annotated[bool, typer.Option("--no-rate-limit", help="for measurements only")] = False,
    reload_pages: Annotated[bool, typer.Option("--reload-pages", hidden=True)] = False,
) -> None:
    """Run the labelling site. The first start makes the database and prints a link for the first admin."""
    from accord.collect.app import serve as server
    from accord.collect.app.settings import AppSettings, unlimited

    with _open(db, create=True) as store:
        settings = AppSettings(project=project, base_url=base_url, reload_pages=reload_pages)
        settings = unlimited(settings) if no_rate_limit else settings
        taken = server.listen(host, port)
        address = (base_url or server.address_of(taken)).rstrip("/")
        link = server.first_link(store, address, settings)
        _fill(store, project, tasks or [], format, kind, overlap)
        if link:
            typer.echo(f"first admin (this link works once): {link}")
        typer.echo(f"labelling site: {address}  (stop with Ctrl-C)")
        sys.stdout.flush()
        server.run(store, taken, settings, trusted_proxies=proxy)


@app.command()
def init(
    db: Database = "labels.db",
    project: ProjectOption = "default",
    settings: Annotated[Path | None, typer.Option(help="YAML file with the project's rules")] = None,
    guidelines_file: GuidelinesFile = None,
    base_url: SiteUrl = LOCAL,
) -> None:
    """Make the database and a project in it, and print a link for the first admin."""
    from accord.collect import people, projects
    from accord.collect.records import ProjectSettings
    from accord.yamlfile import load_yaml

    rules = ProjectSettings.model_validate(load_yaml(settings)) if settings else ProjectSettings()
    with _open(db, create=True) as store:
        projects.ensure_project(store, project, rules)
        if guidelines_file:
            projects.set_guidelines(store, project, _read(guidelines_file))
        link = people.admin_link(store)
        typer.echo(f"database: {store.describe()}, project: {project}")
        if link:
            typer.echo(f"first admin (this link works once): {base_url.rstrip('/')}/join/{link}")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read: {error}", where=str(path), fix="give a text file in UTF-8") from error


@app.command("import")
def import_files(
    files: Annotated[list[Path], typer.Argument(help="files of prompts with candidates, in any format Accord reads")],
    db: Database = "labels.db",
    project: ProjectOption = "default",
    format: Format = "auto",
    kind: Kind = "auto",
    overlap: Overlap = None,
) -> None:
    """Add tasks; importing the same again changes nothing, and rows that cannot be used are named."""
    with _open(db) as store:
        _fill(store, project, files, format, kind, overlap)


@app.command()
def export(
    out: Annotated[Path, typer.Argument(help="file or directory to write")],
    db: Database = "labels.db",
    project: ProjectOption = "default",
    what: Annotated[str, typer.Option(help="preferences, demonstrations, unpaired or annotations")] = "preferences",
    format: Annotated[str, typer.Option(help="jsonl, parquet or hf")] = "jsonl",
) -> None:
    """Write the labels out, with a data card and the hashes of all files."""
    from accord.collect.exporting import export_to

    with _open(db) as store:
        typer.echo(export_to(store, project, what, format, out))


@app.command()
def invite(
    db: Database = "labels.db",
    role: Role = "annotator",
    group: Groups = None,
    hours: Annotated[float, typer.Option(min=0.01, help="hours the link is good for")] = 168.0,
    count: Annotated[int, typer.Option(min=1, max=1000, help="how many links")] = 1,
    base_url: SiteUrl = LOCAL,
) -> None:
    """Print links that make one account each."""
    from datetime import timedelta

    from accord.collect import people

    with _open(db) as store:
        for _ in range(count):
            token = people.invite(store, _role(role), groups=group or (), expires=timedelta(hours=hours))
            typer.echo(f"{base_url.rstrip('/')}/join/{token}")


@app.command()
def guidelines(
    file: Annotated[
        Path | None, typer.Argument(help="Markdown file with the next version; none prints the last")
    ] = None,
    db: Database = "labels.db",
    project: ProjectOption = "default",
) -> None:
    """Print the guidelines, or put the next version into force."""
    from accord.collect import projects

    with _open(db) as store:
        if file is not None:
            typer.echo(f"version {projects.set_guidelines(store, project, _read(file)).version}")
            return
        found = projects.guidelines(store, project)
        if found is None:
            raise DataError("there are no guidelines yet", where=project, fix="give a Markdown file")
        typer.echo(found.markdown)


@app.command()
def status(db: Database = "labels.db", project: ProjectOption = "default") -> None:
    """Say how far a project is."""
    from accord.collect import reading

    with _open(db) as store:
        typer.echo(reading.progress(store, project).model_dump_json(indent=2))


@app.command()
def verify(db: Database = "labels.db") -> None:
    """Check that nobody has changed the audit trail: every event holds the hash of the one before."""
    from accord.collect import events

    with _open(db) as store:
        found = events.verify_events(store)
    if found.broken:
        raise DataError(
            f"the database was changed from outside: {'; '.join(found.broken[:5])}",
            where=db,
            fix="restore a backup, and find out who can write to the database",
        )
    typer.echo(f"{found.num_events} events, the chain is whole; its last hash is {found.head}")


@users.command("add")
def add_user(
    handle: str,
    db: Database = "labels.db",
    role: Role = "annotator",
    group: Groups = None,
    password_stdin: FromStdin = False,
) -> None:
    """Add a person or a program; without a password it can use keys only."""
    from accord.collect import people

    password = sys.stdin.readline().rstrip("\n") if password_stdin else None
    with _open(db) as store:
        user = people.create_user(store, handle, _role(role), password=password, groups=group or ())
        typer.echo(f"{user.handle}: {user.role}")


@users.command("list")
def list_users(db: Database = "labels.db") -> None:
    """Print everybody with access."""
    from accord.collect import people

    with _open(db) as store:
        for user in people.list_users(store):
            typer.echo(f"{user.handle}\t{user.role}\t{','.join(user.groups)}\t{'disabled' if user.disabled else ''}")


@users.command("disable")
def disable_user(
    handle: str,
    db: Database = "labels.db",
    undo: Annotated[bool, typer.Option("--undo", help="let the person in again")] = False,
) -> None:
    """Keep a person out; sessions and keys stop working at once, labels stay."""
    from accord.collect import people

    with _open(db) as store:
        people.update_user(store, _user(store, handle).id, actor=SYSTEM, disabled=not undo)


@users.command("password")
def set_password(handle: str, db: Database = "labels.db") -> None:
    """Set a password, read from standard input; the person's sessions end."""
    from accord.collect import people

    password = sys.stdin.readline().rstrip("\n")
    with _open(db) as store:
        people.set_password(store, _user(store, handle).id, password, actor=SYSTEM)


@keys.command("make")
def make_key(
    handle: str,
    scope: Annotated[list[str], typer.Option("--scope", help="label, read, export, import or admin; may be repeated")],
    db: Database = "labels.db",
    name: Annotated[str, typer.Option(help="what it is for")] = "key",
    days: Annotated[float, typer.Option(min=0.01, help="days it is good for")] = 365.0,
) -> None:
    """Make a key for a user and print its secret, once."""
    from datetime import timedelta

    from accord.collect import people
    from accord.collect.columns import utcnow

    with _open(db) as store:
        expires = utcnow() + timedelta(days=days)
        _, secret = people.make_api_key(store, _user(store, handle).id, scope, name=name, expires_at=expires)
        typer.echo(secret)


@keys.command("list")
def list_keys(db: Database = "labels.db") -> None:
    """Print keys without their secrets."""
    from accord.collect import people

    with _open(db) as store:
        for key in people.list_keys(store):
            state = "revoked" if key.revoked_at else f"until {key.expires_at:%Y-%m-%d}" if key.expires_at else ""
            typer.echo(f"{key.id}\t{key.prefix}\t{','.join(key.scopes)}\t{state}")


@keys.command("revoke")
def revoke_key(key: str, db: Database = "labels.db") -> None:
    """End a key at once; named by its id or prefix."""
    from accord.collect import people

    with _open(db) as store:
        found = next((known.id for known in people.list_keys(store) if key in (known.id, known.prefix)), key)
        people.revoke_key(store, found, actor=SYSTEM)
