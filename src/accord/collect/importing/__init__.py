"""Data sets, samples and other tools' exports as tasks, and finished judgements as labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from accord.collect import events
from accord.collect.database import Store
from accord.collect.importing.files import import_records, import_tasks
from accord.collect.importing.judgements import RAW, holds_annotations, import_annotations, import_judgements
from accord.collect.importing.leaks import Leak, leaks, masked
from accord.collect.importing.options import Imported, ImportOptions, Refused

__all__ = [
    "ImportOptions",
    "Imported",
    "Leak",
    "Refused",
    "import_annotations",
    "import_file",
    "import_judgements",
    "import_records",
    "import_tasks",
    "leaks",
    "masked",
]


def import_file(
    store: Store,
    project: str,
    source: str | Path,
    *,
    format: str = "auto",
    options: ImportOptions | None = None,
    actor: str = events.SYSTEM,
    **changes: Any,
) -> Imported:
    """Add what a file holds: tasks, or finished judgements; importing it again changes nothing.

    Args:
        store: an open store.
        project: its name.
        source: as for `accord.data.read`; `samples.jsonl` of a sample stage; an export of raw annotations.
        format: auto, samples, annotations, or a format of docs/data-formats.md that the file must have.
        options: how rows are taken; `judgements` takes verdicts for finished ones.
        actor: id of who does it.
        changes: single options by name, e.g. `kind="rank"`; None counts as not given.

    Raises:
        DataError: the file cannot be read, has another format, or more bad rows than allowed.
        NotFound: no such project.
    """
    given = {name: value for name, value in changes.items() if value is not None}
    chosen = ImportOptions.model_validate({**(options or ImportOptions()).model_dump(), **given})
    if format == RAW or (format == "auto" and holds_annotations(source)):
        return import_annotations(store, project, source, max_bad_rows=chosen.max_bad_rows, actor=actor)
    if chosen.judgements:
        return import_judgements(store, project, source, options=chosen, actor=actor)
    return import_tasks(store, project, source, chosen, format=format, actor=actor)
