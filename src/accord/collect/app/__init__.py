"""The labelling site: `create_app(store)` gives an ASGI application with pages, a JSON API and its OpenAPI page."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio.to_thread
from fastapi import FastAPI

from accord import __version__
from accord.collect.app import (
    answers,
    assets,
    pages,
    routes_adjudication,
    routes_admin,
    routes_annotator,
    routes_data,
    routes_health,
    routes_people,
)
from accord.collect.app.agreement import AgreementCache
from accord.collect.app.guard import Guard
from accord.collect.app.limits import TokenBuckets
from accord.collect.app.security import Gate
from accord.collect.app.settings import AppSettings
from accord.collect.database import Store

__all__ = ["AppSettings", "create_app"]

PARTS = (
    *(routes_health, routes_annotator, routes_admin, routes_people),
    *(routes_adjudication, routes_data, assets, pages),
)
"""Modules with routes; the order matters only where paths overlap, which they do not."""


def create_app(store: Store, settings: AppSettings | None = None) -> FastAPI:
    """Build the application on an open store, which it closes when it is shut down.

    Args:
        store: the opened database.
        settings: limits and names; None takes the defaults.
    """
    settings = settings or AppSettings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        # Routes that are plain functions run in threads; more of them than the pool has connections only wait there.
        anyio.to_thread.current_default_thread_limiter().total_tokens = settings.threads
        app.state.closing = False
        yield
        app.state.closing = True
        store.close()

    app = FastAPI(
        title="Accord collection",
        version=__version__,
        description="Collecting preferences from people. Errors have one shape; see the schema ErrorBody.",
        openapi_url="/api/v1/openapi.json",
        # The pages of FastAPI load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        # A redirect to an address with a slash more would be made from the Host header.
        redirect_slashes=False,
        lifespan=lifespan,
    )
    state: dict[str, Any] = {
        "store": store,
        "settings": settings,
        "gate": Gate.of(settings),
        "assets": assets.Assets(reload=settings.reload_pages),
        "templates": pages.environment(reload=settings.reload_pages),
        "password_places": threading.BoundedSemaphore(settings.password_threads),
        "agreement": AgreementCache(),
        "closing": False,
    }
    for name, value in state.items():
        setattr(app.state, name, value)
    answers.install(app)
    for part in PARTS:
        app.include_router(part.router)
    app.add_middleware(Guard, settings=settings, addresses=TokenBuckets(settings.per_address))
    return app
