"""Files of prompts and replies as tasks, from every format `accord.data.read` knows and the sample stage's own."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from accord.collect import events
from accord.collect.database import Store
from accord.collect.importing.options import Imported, ImportOptions, Refused
from accord.collect.importing.prepare import Item, items_of, items_of_samples, line_of, prepare
from accord.collect.tasks import add_tasks
from accord.data import read
from accord.data.read import Dataset
from accord.data.rows import RowError
from accord.data.samples import BadSample, Sampled, is_sample, read_samples
from accord.data.sources import open_source
from accord.errors import DataError
from accord.types import Record

SAMPLES = "samples"
_PEEK = 20
_ANY = 10**9


def import_tasks(
    store: Store,
    project: str,
    source: str | Path,
    options: ImportOptions | None = None,
    *,
    format: str = "auto",
    actor: str = events.SYSTEM,
) -> Imported:
    """Add the prompts and replies of a file as tasks; importing it again changes nothing.

    Args:
        store: an open store.
        project: its name.
        source: as for `accord.data.read`; or `samples.jsonl` of a sample stage.
        options: how rows become tasks.
        format: auto, samples, or the name of a format of docs/data-formats.md that the file must have.
        actor: id of who does it.

    Raises:
        DataError: the file cannot be read, has another format, or more bad rows than `options.max_bad_rows`.
        NotFound: no such project.
    """
    chosen = options or ImportOptions()
    found, items, refused = _read(source, format, chosen)
    return _add(store, project, items, refused, chosen, (str(source), found, actor))


def import_records(
    store: Store,
    project: str,
    records: Iterable[Record],
    options: ImportOptions | None = None,
    *,
    source: str = "records",
    actor: str = events.SYSTEM,
) -> Imported:
    """Add prompts and replies that are in memory; see `import_tasks`.

    Args:
        store: an open store.
        project: its name.
        records: preferences, demonstrations, unpaired, ...; or prompts whose meta holds replies.
        options: how they become tasks.
        source: what to call them.
        actor: id of who does it.
    """
    chosen = options or ImportOptions()
    items, refused = items_of(records, chosen.kind)
    return _add(store, project, items, refused, chosen, (source, "records", actor))


def gold_of(item: Item, kind: str) -> dict[str, Any]:
    """Return the verdict of an item as a right answer.

    Raises:
        RowError: it has none that this kind of task can be graded by.
    """
    verdict = item.verdict
    if verdict is None or kind not in ("pair", "rank"):
        raise RowError("no verdict here can serve as the right answer of a hidden test")
    if kind == "rank":
        if verdict.ranking is None and verdict.choice is None:
            raise RowError("the verdict ranks nothing")
        return {"ranking": [list(group) for group in verdict.ranking or ((verdict.choice,),)]}
    if verdict.tie or verdict.both_bad:
        return {"tie": verdict.tie, "both_bad": verdict.both_bad}
    if verdict.ranking is not None:
        return {"tie": True} if len(verdict.ranking) == 1 else {"position": verdict.ranking[0][0]}
    if verdict.choice is None:
        raise RowError("a soft label is no right answer")
    return {"position": verdict.choice}


def _add(
    store: Store,
    project: str,
    items: list[Item],
    refused: list[Refused],
    options: ImportOptions,
    named: tuple[str, str, str],
) -> Imported:
    source, found, actor = named
    made = prepare(items, options, gold_of)
    bad = sorted([*refused, *made.refused], key=lambda one: (one.line, one.where))
    if options.max_bad_rows is not None and len(bad) > options.max_bad_rows:
        listing = "\n".join(f"  {one.where}: {one.why}" for one in bad[:10])
        raise DataError(
            f"{len(bad)} rows cannot be used ({options.max_bad_rows} allowed):\n{listing}",
            where=source,
            fix="repair them, or allow more with max_bad_rows; nothing was imported",
        )
    added = add_tasks(store, project, made.tasks, actor=actor) if made.tasks else None
    return Imported(
        source=source,
        format=found,
        added=added.added if added else 0,
        repeated=made.repeated + (added.known if added else 0),
        leaking=made.leaking,
        masked=made.masked,
        dropped=made.dropped,
        refused=tuple(bad),
    )


def _read(source: str | Path, format: str, options: ImportOptions) -> tuple[str, list[Item], list[Refused]]:
    if format == SAMPLES or (format == "auto" and not options.columns and _holds_samples(source)):
        rows = list(read_samples(source))
        bad = [Refused(line_of(row.where), row.reason, row.where) for row in rows if isinstance(row, BadSample)]
        return SAMPLES, items_of_samples(row for row in rows if isinstance(row, Sampled)), bad
    dataset, bad = read_all(source, options)
    if format not in ("auto", dataset.format):
        raise DataError(
            f"this is {dataset.format} data, not {format}", where=str(source), fix="leave out the format, or correct it"
        )
    items, refused = items_of(dataset.records, options.kind)
    return dataset.format, items, [*bad, *refused]


def read_all(source: str | Path, options: ImportOptions) -> tuple[Dataset[Any], list[Refused]]:
    """Read a data set whatever the number of bad rows, and return these by file and line.

    Raises:
        DataError: no row can be used.
    """
    with tempfile.TemporaryDirectory() as directory:
        rejects = Path(directory) / "rejects.jsonl"
        dataset = read(source, None, columns=options.columns, max_bad_rows=_ANY, rejects=rejects)
    return dataset, [Refused(line_of(row.where), row.reason, row.where) for row in dataset.bad]


def _holds_samples(source: str | Path) -> bool:
    rows = [raw.row for raw in itertools.islice(open_source(source).rows(), _PEEK) if raw.row is not None]
    return bool(rows) and sum(is_sample(row) for row in rows) * 2 > len(rows)
