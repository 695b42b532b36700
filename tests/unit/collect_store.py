"""A store with a project for tests of import and export."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from accord.collect.database import Store, open_store
from accord.collect.projects import ensure_project
from accord.collect.settings import ProjectSettings

PROJECT = "p"


@contextmanager
def fresh_store(directory: Path, name: str = "labels", **settings: object) -> Iterator[Store]:
    """An empty database with the project "p"."""
    with open_store(directory / f"{name}.db") as store:
        ensure_project(store, PROJECT, ProjectSettings.model_validate(settings), seed=1)
        yield store
