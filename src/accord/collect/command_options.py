"""What the `accord collect` commands share: options, opening a database, values checked against a record."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from accord.errors import ConfigError, DataError

if TYPE_CHECKING:
    from pydantic import BaseModel

    from accord.collect.database import Store

M = TypeVar("M", bound="BaseModel")
Database = Annotated[str, typer.Option("--db", help="a file, or a URL such as postgresql+psycopg://user@host/database")]
ProjectOption = Annotated[str, typer.Option("--project", help="name of the project")]
Role = Annotated[
    Literal["admin", "adjudicator", "annotator", "service"], typer.Option("--role", help="what the person may do")
]
Groups = Annotated[list[str] | None, typer.Option("--group", help="group of annotators; may be repeated")]
Kind = Annotated[
    Literal["auto", "pair", "rank", "rate", "edit"],
    typer.Option("--kind", help="of the tasks; auto goes by the number of replies"),
]
Format = Annotated[str, typer.Option(help="format of the file; auto looks at it")]
ExportKind = Annotated[
    Literal["preferences", "pairs", "rankings", "unpaired", "demonstrations", "annotations"],
    typer.Option("--kind", help="what the rows are"),
]
ExportFormat = Annotated[Literal["jsonl", "parquet", "dataset", "hh"], typer.Option("--format", help="hh: pairs only")]
Options = Annotated[
    list[str] | None,
    typer.Option("--option", "-o", help="key=value, e.g. combine.aggregate=majority; may be repeated"),
]
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
FromStdin = Annotated[bool, typer.Option("--password-stdin", help="read the password from standard input")]
LOCAL = "http://127.0.0.1:8765"


def open_database(url: str, *, create: bool = False) -> Store:
    """Open a database; only `serve` and `init` make new ones, so that a misspelt name is an error.

    Raises:
        DataError: there is no such file.
        ConfigError: the address is none, or the server cannot be reached.
    """
    from accord.collect.database import open_store, parse_url

    parsed = parse_url(url)
    if not create and parsed.get_backend_name() == "sqlite" and not Path(parsed.database or "").exists():
        raise DataError("there is no such database", where=url, fix="make it with `accord collect init --db ...`")
    store = open_store(url)
    for warning in store.warnings:
        typer.echo(f"warning: {warning}", err=True)
    return store


def group_of_commands(summary: str, **options: Any) -> typer.Typer:
    """A group with the settings all groups have."""
    return typer.Typer(
        help=summary,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        **options,
    )


def nested(given: list[str] | None) -> dict[str, Any]:
    """Dotted key=value arguments as nested dictionaries."""
    from accord.yamlfile import Source, parse_value

    found = Source({})
    for text in given or ():
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"'{text}' is not key=value", where="--option", fix="e.g. combine.aggregate=majority")
        found.set(tuple(key.split(".")), parse_value(value, f"--option {text}"), f"--option {text}")
    return found.data


def checked(model: type[M], values: Any, where: str) -> M:
    """Values as a record, or an error that names the field."""
    from pydantic import ValidationError

    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            top = len(first["loc"]) == 1
            fix = f"known keys: {', '.join(model.model_fields)}" if top else "see docs/collecting.md"
            raise ConfigError(f"there is no key {key}", where=where, fix=fix) from error
        said = first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{key}: {said}" if key else said, where=where, fix="correct the value") from error
