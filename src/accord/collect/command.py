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

from accord.collect.command_options import (
    LOCAL,
    Database,
    ExportFormat,
    ExportKind,
    Format,
    Groups,
    GuidelinesFile,
    Host,
    Kind,
    Options,
    Overlap,
    Port,
    ProjectOption,
    Proxy,
    PublicUrl,
    Role,
    SiteUrl,
    Tasks,
    checked,
    group_of_commands,
    nested,
    open_database,
)
from accord.collect.command_people import invitations, keys, users
from accord.errors import DataError

if TYPE_CHECKING:
    from accord.collect.database import Store

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


app = group_of_commands(
    "Collect preferences from people: the labelling site, its database, import and export.\n\n"
    "Start with `accord collect serve --db labels.db --tasks samples.jsonl`. "
    "`accord collect run.yaml` (or --config run.yaml) runs the stage `collect` of a run.",
    cls=StageOrCommand,
)
app.add_typer(users, name="user")
app.add_typer(keys, name="key")
app.add_typer(invitations, name="invitation")


def _fill(store: Store, project: str, paths: list[Path], format: str, changes: dict[str, Any]) -> None:
    """Import files and say what became of every row."""
    from accord.collect.importing import import_file
    from accord.collect.importing.options import ImportOptions

    options = checked(ImportOptions, changes, "--option")
    for path in paths:
        done = import_file(store, project, path, format=format, options=options)
        for line in done.describe():
            typer.echo(line)
        if done.refused and not done.added + done.repeated:
            raise DataError("no row could be used", where=str(path), fix=f"see above; {done.refused[0].why}")


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
    from accord.collect import projects
    from accord.collect.app import serve as server
    from accord.collect.app.settings import AppSettings, unlimited
    from accord.collect.records import ProjectSettings
    from accord.listening import address_of, listen

    with listen(host, port) as taken, open_database(db, create=True) as store, server.only_server(store):
        settings = AppSettings(project=project, base_url=base_url, reload_pages=reload_pages)
        settings = unlimited(settings) if no_rate_limit else settings
        address = (base_url or address_of(taken)).rstrip("/")
        others = [one.name for one in projects.list_projects(store)]
        if others and project not in others:
            typer.echo(f"note: project {project} is new and empty; the database has {', '.join(others)}", err=True)
        projects.ensure_project(store, project, ProjectSettings())
        _fill(store, project, tasks or [], format, {"kind": kind, "overlap": overlap})
        link = server.first_link(store, address, settings)  # last: it replaces the link of an earlier start
        if link:
            typer.echo(f"first admin (this link works once): {link}")
        note = server.shared_note(store)
        if note:
            typer.echo(note)
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

    values = load_yaml(settings).data if settings else {}
    rules = checked(ProjectSettings, values, str(settings))
    text = _read(guidelines_file) if guidelines_file else None
    with open_database(db, create=True) as store:
        projects.ensure_project(store, project, rules)
        if text is not None:
            projects.set_guidelines(store, project, text)
        link = people.admin_link(store)
        typer.echo(f"database: {store.describe()}, project: {project}")
        if link:
            typer.echo(f"first admin (this link works once): {base_url.rstrip('/')}/join/{link}")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise DataError("no such file", where=str(path), fix="name a text file in UTF-8") from error
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
    option: Options = None,
) -> None:
    """Add tasks, or with `-o judgements=true` finished judgements; rows that cannot be used are named.

    Importing the same again changes nothing.
    """
    with open_database(db) as store:
        _fill(store, project, files, format, {"kind": kind, "overlap": overlap, **nested(option)})


@app.command()
def export(
    out: Annotated[Path, typer.Argument(help="file or directory to write")],
    db: Database = "labels.db",
    project: ProjectOption = "default",
    kind: ExportKind = "preferences",
    format: ExportFormat = "jsonl",
    option: Options = None,
) -> None:
    """Write the labels out, with a data card and the hashes of all files."""
    from accord.collect.exporting import export as write
    from accord.collect.exporting.options import ExportOptions

    options = checked(ExportOptions, nested(option), "--option")
    with open_database(db) as store:
        for line in write(store, project, out, kind=kind, format=format, options=options).describe():
            typer.echo(line)


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

    with open_database(db) as store:
        for _ in range(count):
            token = people.invite(store, role, groups=group or (), expires=timedelta(hours=hours))
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

    with open_database(db) as store:
        if file is not None:
            typer.echo(f"version {projects.set_guidelines(store, project, _read(file)).version}")
            return
        found = projects.guidelines(store, project)
        if found is None:
            raise DataError("there are no guidelines yet", where=project, fix="give a Markdown file")
        typer.echo(found.markdown)


@app.command()
def quiz(
    file: Annotated[Path, typer.Argument(help="preference file; a column explanation is shown after the attempt")],
    db: Database = "labels.db",
    project: ProjectOption = "default",
    replace: Annotated[bool, typer.Option("--replace", help="retire the questions there were")] = False,
) -> None:
    """Add questions to the quiz that annotators pass before their first task; the first ones turn it on."""
    from accord.collect.importing.questions import import_quiz

    with open_database(db) as store:
        count, rule = import_quiz(store, project, file, replace=replace)
        right = f"{rule.share:.0%} right" if rule.rule == "share" else f"surely {rule.share:.0%} right"
        typer.echo(f"{count} questions added; an attempt has {rule.items}, {right} passes, {rule.attempts} attempts")


@app.command()
def status(
    db: Database = "labels.db",
    project: ProjectOption = "default",
    as_json: Annotated[bool, typer.Option("--json", help="print everything as JSON")] = False,
) -> None:
    """Say how far a project is."""
    from accord.collect import reading
    from accord.collect.status import as_text

    with open_database(db) as store:
        found = reading.progress(store, project)
    typer.echo(found.model_dump_json(indent=2) if as_json else as_text(found))


@app.command()
def verify(db: Database = "labels.db") -> None:
    """Check that nobody has changed the audit trail: every event holds the hash of the one before."""
    from accord.collect import events

    with open_database(db) as store:
        found = events.verify_events(store)
    if found.broken:
        raise DataError(
            f"the database was changed from outside: {'; '.join(found.broken[:5])}",
            where=db,
            fix="restore a backup, and find out who can write to the database",
        )
    typer.echo(f"{found.num_events} events, the chain is whole; its last hash is {found.head}")
