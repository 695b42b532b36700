"""Health for whatever watches the server: alive, and ready to work."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from accord.collect.app.answers import documented
from accord.collect.app.security import store_of
from accord.types import Record

BUSY = documented(429)
router = APIRouter(prefix="/health", tags=["health"])


class Health(Record):
    """State of the server."""

    status: Literal["ok", "closing", "no database"]


@router.get("/live", response_model=Health, responses=BUSY)
async def live() -> Health:
    """The process answers."""
    return Health(status="ok")


@router.get("/ready", response_model=Health, responses={**BUSY, 503: {"model": Health, "description": "not now"}})
def ready(request: Request) -> Health | JSONResponse:
    """The database answers and the server is not being stopped."""
    if request.app.state.closing:
        return JSONResponse(Health(status="closing").model_dump(), 503)
    try:
        with store_of(request).read() as session:
            session.execute(text("select 1"))
    except SQLAlchemyError:
        return JSONResponse(Health(status="no database").model_dump(), 503)
    return Health(status="ok")
