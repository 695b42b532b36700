"""The command `accord sandbox`: how well this machine can shut strange code in."""

from __future__ import annotations

import platform
from typing import Annotated

import typer

from accord.errors import SandboxError


def sandbox(
    require: Annotated[
        int | None,
        typer.Option(min=0, max=3, help="exit with code 9 if this machine has no such level", metavar="LEVEL"),
    ] = None,
) -> None:
    """Say how well this machine can shut in code that a model wrote, found out by trying to get out."""
    from accord.sandbox import NAMES, SAFE, Level, survey

    found = survey()
    safe = "safe" if found.level >= SAFE else "not safe: code is run only with --allow-unsafe-code"
    typer.echo(f"level {int(found.level)}: {NAMES[found.level]} ({safe})")
    for level in sorted(Level, reverse=True):
        mark = "x" if level <= found.level else " "
        least = "  <- the least that is safe" if level == SAFE else ""
        typer.echo(f"  [{mark}] {int(level)} {NAMES[level]}{least}")
    abi = f"ABI {found.landlock_abi}" if found.landlock_abi else "none"
    calls = "yes" if found.walls.seccomp else "no"
    typer.echo(f"kernel {platform.release()} on {platform.machine()}; Landlock {abi}; filter of system calls: {calls}")
    for reason in found.reasons:
        typer.echo(f"why no better: {reason}")
    if require is not None and found.level < require:
        raise SandboxError(
            f"this machine has a sandbox of level {int(found.level)}, not {require}",
            where="; ".join(found.reasons) or None,
            fix="allow user namespaces, or run on another machine; docs/sandbox.md says how",
        )
