"""The API for data: tasks come in as JSON or as a file in any format, labels go out as files."""

from __future__ import annotations

import re
import tempfile
from functools import partial
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import FileResponse
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool

from accord.collect import tasks
from accord.collect.app.answers import ApiError, documented, of_error
from accord.collect.app.routes_annotator import ALWAYS, project_of
from accord.collect.app.security import Caller, allow, store_of
from accord.collect.app.shapes import ExportFormat, ExportKind, Imported, ImportKind, NewTasks, ProjectName, Refused
from accord.collect.importing import import_file
from accord.errors import AccordError
from accord.storage import io_errors

router = APIRouter(prefix="/api/v1", tags=["data"])

Importer = Annotated[Caller, Depends(allow("admin", "service", scope="import"))]
Exporter = Annotated[Caller, Depends(allow("admin", "service", scope="export"))]
IMPORTS = {**ALWAYS, **documented(404, 409)}
_SUFFIX = re.compile(r"\.(?:jsonl|ndjson|json|csv|tsv|parquet|arrow)$")
"""Not .gz: a small body could become a full disk."""
MOST_REFUSED = 1000
"""Refused rows named in an answer; all are counted."""


@router.post("/admin/tasks", response_model=Imported, responses=IMPORTS)
def add_tasks(request: Request, body: NewTasks, caller: Importer, project: ProjectName = None) -> Imported:
    """Add tasks, all or none; those known already change nothing."""
    found = tasks.add_tasks(store_of(request), project_of(request, project), body.items, actor=caller.user.id)
    return Imported(added=found.added, repeated=found.known, refused_total=0)


@router.post(
    "/admin/tasks/upload",
    response_model=Imported,
    responses=IMPORTS,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def upload(
    request: Request,
    caller: Importer,
    name: Annotated[str, Query(max_length=300, description="the file's name; its ending tells the format")],
    project: ProjectName = None,
    format: Annotated[str, Query(max_length=50)] = "auto",
    kind: ImportKind = "auto",
    overlap: Annotated[int | None, Query(ge=1, le=100)] = None,
) -> Imported:
    """Import a file, which is the body itself; rows that cannot be used are named, the others are added."""
    ending = _SUFFIX.search(name.lower())
    if ending is None:
        raise ApiError(422, "files of this kind are not read", code="invalid", fix="send .jsonl, .json, .csv, .parquet")
    with tempfile.TemporaryDirectory(prefix="accord-") as folder:
        # Only the ending is taken from the client, so that no name leads anywhere.
        path = Path(folder) / f"upload{ending[0]}"
        with io_errors("store the upload", path), path.open("wb") as file:
            async for chunk in request.stream():
                file.write(chunk)
        read = partial(import_file, format=format, kind=kind, overlap=overlap, actor=caller.user.id)
        try:
            found = await run_in_threadpool(read, store_of(request), project_of(request, project), path)
        except AccordError as error:
            status, said, _ = of_error(error)
            fix = said.fix and said.fix.replace(str(path), name)
            # The file's name, not where it lay for a moment.
            raise ApiError(status, said.message.replace(str(path), name), code=said.code, fix=fix) from error
    return Imported(
        added=found.added,
        repeated=found.repeated,
        leaking=found.leaking,
        refused=tuple(Refused(line=row.line, why=row.why) for row in found.refused[:MOST_REFUSED]),
        refused_total=len(found.refused),
    )


@router.get(
    "/export",
    response_class=FileResponse,
    responses={
        **IMPORTS,
        200: {
            "description": "the labels, as a download",
            "content": {
                name: {"schema": {"type": "string", "format": "binary"}}
                for name in ("application/x-ndjson", "application/vnd.apache.parquet", "application/zip")
            },
        },
    },
)
def export(
    request: Request,
    caller: Exporter,
    project: ProjectName = None,
    kind: ExportKind = "preferences",
    format: ExportFormat = "jsonl",
) -> FileResponse:
    """Download labels: one file (jsonl, parquet), or a zip with data card and hashes (hf)."""
    from accord.collect.app.downloads import make_download

    folder = tempfile.TemporaryDirectory(prefix="accord-")
    try:
        made = make_download(
            store_of(request), project_of(request, project), kind, format, Path(folder.name), caller.user.id
        )
    except BaseException:
        folder.cleanup()
        raise
    cleanup = BackgroundTask(folder.cleanup)
    return FileResponse(made.path, media_type=made.media_type, filename=made.name, background=cleanup)
