"""Labels out of a project: files for training and analysis, with a data card, checksums and a row that says so."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accord.collect import events
from accord.collect.columns import utcnow
from accord.collect.database import Store
from accord.collect.exporting.build import Built, build, rows
from accord.collect.exporting.card import Facts, card
from accord.collect.exporting.files import Written, write_folder, write_one
from accord.collect.exporting.gather import Collected, gather
from accord.collect.exporting.options import Combine, ExportOptions, FileFormat, Kind
from accord.collect.exporting.rows import Row, Table, table, used
from accord.collect.ids import new_id
from accord.collect.tables import DatasetSnapshotRow
from accord.data import prompt_text, split_by_hash
from accord.errors import ConfigError, DataError
from accord.types import Record

__all__ = ["Combine", "ExportOptions", "Exported", "export"]

_FORMATS: dict[str, Kind] = {"hh": "pairs"}


@dataclass(frozen=True)
class Exported:
    """What an export wrote."""

    path: Path
    """The folder, or the folder of the one file."""
    files: tuple[str, ...]
    """Relative to `path`."""
    sha256: str
    """Of the content of the data files: equal labels and options, equal hash."""
    rows: Mapping[str, int]
    """Split -> rows."""
    snapshot: str
    """Id of the row in the table dataset_snapshot."""
    left_out: Mapping[str, int]
    """Reason -> how many answers or labels."""
    notes: tuple[str, ...]

    def describe(self) -> list[str]:
        """Return the lines a user reads."""
        counts = ", ".join(f"{name} {count}" for name, count in self.rows.items())
        alone = [name for name in self.files if name.endswith((".jsonl", ".parquet"))]
        # One file has its name on its own; a folder has its data files below it.
        named = self.path / alone[0] if len(alone) == 1 and "/" not in alone[0] else self.path
        lines = [f"{named}: {counts} rows, sha256 {self.sha256[:16]}"]
        lines += [f"  left out: {count} ({reason})" for reason, count in self.left_out.items() if count]
        return [*lines, *(f"  note: {note}" for note in self.notes)]


def export(
    store: Store,
    project: str,
    path: str | Path,
    *,
    kind: Kind = "preferences",
    format: FileFormat = "jsonl",
    options: ExportOptions | None = None,
    actor: str = events.SYSTEM,
) -> Exported:
    """Write the labels of a project; the same labels and options always make the same bytes.

    Args:
        store: an open store.
        project: name or id.
        path: a folder (new, empty or of an earlier export), or a .jsonl or .parquet file for the rows alone.
        kind: what the rows are; see docs/collecting.md.
        format: jsonl, parquet, dataset (a folder both `load_dataset` and `load_from_disk` read), or hh (pairs only).
        options: which labels, how they are combined, splits, licence.
        actor: id of who does it.

    Raises:
        NotFound: no such project.
        ConfigError: a format that cannot hold this kind, or splits of a single file.
        DataError: there is nothing to export, or the files cannot be written.
    """
    chosen, target = options or ExportOptions(), Path(path)
    _check(kind, format, chosen, target)
    collected = gather(store, project)
    built = build(collected, kind, chosen)
    if not built.records:
        said = "; ".join(f"{count} left out: {why}" for why, count in built.left_out.items() if count)
        raise DataError(
            f"there are no {kind} to export" + (f" ({said})" if said else ""),
            where=f"project {collected.project}",
            fix="collect some first, or choose another kind, slice or purpose",
        )
    tables = _tables(kind, format, chosen, built.records)
    text = card(kind, format, chosen, _facts(collected, built, kind, tables))
    if target.suffix in (".jsonl", ".parquet"):
        written = write_one(target, kind, next(iter(tables.values())), text)
    else:
        written = write_folder(target, kind, format, tables, text, extra=_extra(collected, kind))
    snapshot = _snapshot(store, collected, (kind, format, chosen), written, actor)
    return Exported(
        written.path, written.files, written.sha256, written.rows, snapshot, built.left_out, tuple(built.notes)
    )


def _check(kind: Kind, form: FileFormat, options: ExportOptions, target: Path) -> None:
    if form == "hh" and kind != "pairs":
        raise ConfigError(
            f"HH transcripts hold pairs, not {kind}", where="format: hh", fix="set kind to pairs, or another format"
        )
    if target.suffix in (".csv", ".tsv", ".json", ".gz", ".txt", ".arrow"):
        raise ConfigError(
            f"labels are not written as {target.suffix}",
            where=str(target),
            fix="use .jsonl or .parquet, or name a folder",
        )
    if target.suffix in (".jsonl", ".parquet"):
        if len(options.splits) > 1:
            raise ConfigError(
                f"{len(options.splits)} splits do not fit into one file", where=str(target), fix="name a folder"
            )
        if (target.suffix == ".parquet") != (form in ("parquet", "dataset")):
            raise ConfigError(
                f"the file is called {target.suffix} and the format is {form}",
                where=str(target),
                fix="make them agree, or name a folder",
            )


def _tables(kind: Kind, form: FileFormat, options: ExportOptions, records: Sequence[Any]) -> dict[str, Table]:
    if len(options.splits) == 1:
        parts: Mapping[str, Sequence[Any]] = {next(iter(options.splits)): records}
    else:
        parts = split_by_hash(records, _prompt_of, options.splits, options.seed)
    empty = [name for name, part in parts.items() if not part]
    if empty:
        raise DataError(
            f"no prompt fell into the split {', '.join(empty)}",
            where="splits",
            fix="give it a larger share, another seed, or collect more prompts",
        )
    # Margins stand in the whole file or nowhere, so they are filled before it is cut.
    every: list[Row] = rows(kind, form, records, options)
    place = {id(record): row for record, row in zip(records, every, strict=True)}
    keep = used(every)
    columns = table(every, keep=keep).columns
    made = {name: table([place[id(record)] for record in part], keep=keep) for name, part in parts.items()}
    return {name: dataclasses.replace(one, columns=columns) for name, one in made.items()}


def _prompt_of(record: Record) -> str:
    prompt: Any = getattr(record, "prompt", None)
    return prompt_text(record if prompt is None else prompt)


def _facts(collected: Collected, built: Built, kind: Kind, tables: Mapping[str, Table]) -> Facts:
    return Facts(
        project=collected.project,
        rows={name: len(one.rows) for name, one in tables.items()},
        prompts=len({_prompt_of(record) for record in built.records}),
        judgements=built.judgements,
        measured=[p for p in built.judgements if p.id in collected.planned],
        guidelines=collected.guideline_counts(built.answers),
        settings=collected.rules(),
        left_out={} if kind == "annotations" else built.left_out,
        notes=built.notes,
        imported=Counter(str(a.client["imported"]) for a in built.answers if "imported" in a.client),
    )


def _extra(collected: Collected, kind: Kind) -> dict[str, str]:
    """Further files: raw annotations come with the guidelines they were made under."""
    if kind != "annotations":
        return {}
    return {f"guidelines/{g.version}.md": g.markdown for g in collected.guidelines}


def _snapshot(
    store: Store, collected: Collected, what: tuple[Kind, FileFormat, ExportOptions], written: Written, actor: str
) -> str:
    kind, form, options = what
    row = DatasetSnapshotRow(
        id=new_id(),
        project_id=collected.project_id,
        kind=kind,
        query={"format": form, "options": options.model_dump(mode="json")},
        sha256=written.sha256,
        n_rows=sum(written.rows.values()),
        path=str(written.path),
        created_by=None if actor == events.SYSTEM else actor,
        created_at=utcnow(),
    )

    def work(session: Any) -> str:
        session.add(row)
        session.flush()
        after = {"kind": kind, "format": form, "sha256": written.sha256, "rows": row.n_rows}
        events.record(session, actor, "export", ("dataset_snapshot", row.id), project=row.project_id, after=after)
        return row.id

    add: Callable[[Any], str] = work
    return store.transact(add)
