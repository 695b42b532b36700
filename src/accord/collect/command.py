"""`accord collect ...`: the labelling site and its database from the command line.

The name is older than the site: `accord collect --config run.yaml` runs the stage of that name, and so does
`accord collect run.yaml`. Nothing heavy is imported before a command runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    pass

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


app = typer.Typer(
    cls=StageOrCommand,
    help="Collect preferences from people: the labelling site, its database, import and export.\n\n"
    "Start with `accord collect serve --db labels.db --tasks samples.jsonl`. "
    "`accord collect run.yaml` (or --config run.yaml) runs the stage `collect` of a run.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def serve() -> None:
    """Serve."""
