"""An export as one file that a browser can save."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

from accord.collect.app.shapes import ExportFormat, ExportKind
from accord.collect.database import Store
from accord.collect.exporting import export


@dataclass(frozen=True, slots=True)
class Download:
    """A file to send."""

    path: Path
    name: str
    media_type: str


MEDIA = {"jsonl": "application/x-ndjson", "parquet": "application/vnd.apache.parquet"}


def make_download(
    store: Store, project: str, kind: ExportKind, format: ExportFormat, folder: Path, actor: str
) -> Download:
    """Write an export and return the one file to send.

    Args:
        store: the database.
        project: its name.
        kind: which labels.
        format: jsonl and parquet send the data file itself; hf sends the whole folder as a zip, with the data card
            and the hashes of all files, which Hugging Face's `load_dataset` reads once it is unpacked.
        folder: an empty directory.
        actor: who asked.

    Raises:
        DataError: there is nothing to export.
    """
    if format != "hf":
        data = folder / f"{kind}.{format}"
        export(store, project, data, kind=kind, format=format, actor=actor)
        return Download(data, data.name, MEDIA[format])
    target = folder / kind
    written = export(store, project, target, kind=kind, format="parquet", actor=actor)
    packed = folder / f"{kind}.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in written.files:
            archive.write(target / name, f"{kind}/{name}")
    return Download(packed, packed.name, "application/zip")
