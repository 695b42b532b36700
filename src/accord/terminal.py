"""What commands print: tables and headings, readable in a terminal, in a pipe and in a log file."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

_PIPE_WIDTH = 140
"""Columns when there is no terminal that has any."""


def console() -> Console:
    """A console on the present standard output, without mark-up, highlighting or emoji."""
    made = Console(markup=False, highlight=False, emoji=False)
    return made if made.is_terminal else Console(markup=False, highlight=False, emoji=False, width=_PIPE_WIDTH)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> Table:
    """A table without outer borders.

    Args:
        columns: headings.
        rows: cells, as many as headings each.
        right: indices of the columns that hold numbers.
    """
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for index, name in enumerate(columns):
        number = index in right
        made.add_column(name, justify="right" if number else "left", no_wrap=number, overflow="fold")
    for row in rows:
        made.add_row(*(Text(cell) for cell in row))
    return made


def size_text(num_bytes: float) -> str:
    """`512 MiB`, `1.5 GiB`; `-` for nothing."""
    if num_bytes <= 0:
        return "-"
    mib = num_bytes / 2**20
    return f"{mib:.1f} MiB" if mib < 100 else f"{mib:.0f} MiB" if mib < 1024 else f"{mib / 1024:.1f} GiB"


def seconds_text(seconds: float) -> str:
    """`8.2 s`, `3 min 05 s`, `2 h 10 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
