"""Static files under an address that changes with their content, read once and served from memory.

One hash covers all files, so that ES modules can import each other by relative paths. What is not in the table does
not exist: no path is ever joined to a directory.
"""

from __future__ import annotations

import hashlib
from importlib import resources
from importlib.resources.abc import Traversable

from fastapi import APIRouter, Request
from fastapi.responses import Response

from accord.collect.app.answers import ApiError

TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
    ".txt": "text/plain; charset=utf-8",
    ".png": "image/png",
}
"""Kinds of file that are served."""

FOREVER = "public, max-age=31536000, immutable"


class Assets:
    """The static files of the app."""

    def __init__(self, *, reload: bool = False) -> None:
        """Read them; `reload` reads them again for each request."""
        self._reload = reload
        self._files = _read()
        self._digest = _digest(self._files)

    def files(self) -> dict[str, bytes]:
        """Name -> content."""
        if self._reload:
            self._files = _read()
            self._digest = _digest(self._files)
        return self._files

    @property
    def digest(self) -> str:
        """First 16 hexadecimal digits of the hash over all names and contents."""
        self.files()
        return self._digest

    def url(self, name: str) -> str:
        """Address of a file.

        Raises:
            KeyError: there is no such file.
        """
        if name not in self.files():
            raise KeyError(f"no static file '{name}'")
        return f"/static/{self._digest}/{name}"


def _read() -> dict[str, bytes]:
    found: dict[str, bytes] = {}

    def walk(folder: Traversable, prefix: str) -> None:
        for entry in folder.iterdir():
            name = prefix + entry.name
            if entry.is_dir():
                walk(entry, f"{name}/")
            elif any(name.endswith(suffix) for suffix in TYPES):
                found[name] = entry.read_bytes()

    static = resources.files("accord.collect.app") / "static"
    if static.is_dir():
        walk(static, "")
    return found


def _digest(files: dict[str, bytes]) -> str:
    total = hashlib.sha256()
    for name in sorted(files):
        total.update(f"{name}\0{len(files[name])}\0".encode() + files[name])
    return total.hexdigest()[:16]


router = APIRouter()


@router.get("/static/{digest}/{name:path}", include_in_schema=False)
async def static_file(digest: str, name: str, request: Request) -> Response:
    """One static file; its address never means another content, so browsers may keep it."""
    assets: Assets = request.app.state.assets
    content = assets.files().get(name)
    if content is None or digest != assets.digest:
        raise ApiError(404, "there is no such file", code="not_found", fix="load the page again")
    suffix = "." + name.rsplit(".", 1)[-1]
    return Response(content, media_type=TYPES[suffix], headers={"Cache-Control": FOREVER})
