"""The commands `accord agree` and `accord power`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from accord.errors import ConfigError


def agree(
    source: Annotated[str, typer.Argument(help="preference file in any format, or a labels database (file or URL)")],
    project: Annotated[str, typer.Option(help="of a database")] = "default",
    slice: Annotated[
        str, typer.Option(help="of a database: random, active or all; auto = random where there is one")
    ] = "auto",
    json_out: Annotated[Path | None, typer.Option("--json", help="write everything as JSON")] = None,
    html_out: Annotated[Path | None, typer.Option("--html", help="write a page that needs nothing else")] = None,
    seed: Annotated[int, typer.Option(help="of the bootstraps")] = 0,
    num: Annotated[int, typer.Option(min=100, help="resamples of the bootstraps")] = 1000,
) -> None:
    """Say how far annotators agree, what each is worth, what sways them, and what the labels can show."""
    from accord.collect.quality.load import load
    from accord.collect.quality.report import quality_report
    from accord.collect.quality.text import as_html, as_text
    from accord.stats.panel import Bootstrap
    from accord.storage import io_errors, write_atomic

    loaded = load(source, project, slice)
    report = quality_report(
        loaded.preferences, loaded.agreement, name=loaded.name, note=loaded.note, how=Bootstrap(seed, num)
    )
    typer.echo(as_text(report))
    for path, content in ((json_out, report.to_json), (html_out, lambda: as_html(report))):
        if path is not None:
            with io_errors("write the report", path):
                write_atomic(path, content().encode())
            typer.echo(f"written: {path}")


def power(
    win_rate: Annotated[float | None, typer.Option(help="true win rate to be found, e.g. 0.55")] = None,
    labels: Annotated[int | None, typer.Option(min=1, help="labels there are or will be")] = None,
    labels_per_prompt: Annotated[float, typer.Option(min=1, help="mean labels on a prompt")] = 1.0,
    icc: Annotated[
        float, typer.Option(min=0, max=1, help="correlation of labels on one prompt; `accord agree` estimates it")
    ] = 0.3,
    ties: Annotated[float, typer.Option(min=0, max=0.99, help="share of ties")] = 0.0,
    level: Annotated[float, typer.Option(min=0.0001, max=0.5, help="of the two-sided test")] = 0.05,
    chance: Annotated[
        float, typer.Option("--power", min=0.05, max=0.999, help="how often a real difference is found")
    ] = 0.8,
) -> None:
    """Say how many comparisons are needed, or what a number of them can show."""
    from accord.collect.quality.sizes import size_table
    from accord.stats.power import Design

    if win_rate is not None and (win_rate == 0.5 or not 0 < win_rate < 1):
        raise ConfigError(
            f"a win rate of {win_rate} cannot be found", where="--win-rate", fix="give one between 0 and 1, not 0.5"
        )
    design = Design(labels_per_prompt, icc if labels_per_prompt > 1 else 0.0, ties, level, chance)
    typer.echo(size_table(design, win_rate, labels))
