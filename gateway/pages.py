"""The page's files, read once from the package: no template, no build step, no other host.

The policy allows nothing but our own files, so that an event's text can never become a script. Every file is checked by
its hash with each use (a 304 costs less than a stale page after an upgrade).
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import NamedTuple

from aiohttp import web

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SECURITY = {
    "Server": "headrace",
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}


class File(NamedTuple):
    """One file as it is served."""

    body: bytes
    content_type: str
    etag: str


def read_files() -> dict[str, File]:
    """Every file of gateway/static that has a known type, by its URL path."""
    found: dict[str, File] = {}
    for entry in files("gateway").joinpath("static").iterdir():
        content_type = next((kind for suffix, kind in _TYPES.items() if entry.name.endswith(suffix)), None)
        if content_type is not None:
            body = entry.read_bytes()
            etag = f'"{hashlib.sha256(body).hexdigest()[:20]}"'
            found[_path_of(entry.name)] = File(body, content_type, etag)
    return found


def _path_of(name: str) -> str:
    """Pages stand at the top, what they are made of below /static."""
    stem, _, suffix = name.rpartition(".")
    if suffix != "html":
        return f"/static/{name}"
    return "/" if stem == "index" else f"/{stem}"


def add_pages(app: web.Application) -> None:
    """Route GET /, the other pages and /static/… on `app`."""
    for path, file in read_files().items():
        app.router.add_get(path, _serve(file))


def _serve(file: File) -> Callable[[web.Request], Awaitable[web.Response]]:
    headers = {"ETag": file.etag, "Cache-Control": "no-cache", "Content-Type": file.content_type}

    async def serve(request: web.Request) -> web.Response:
        if file.etag in request.headers.get("If-None-Match", ""):
            return web.Response(status=304, headers={"ETag": file.etag, "Cache-Control": "no-cache"})
        return web.Response(body=file.body, headers=headers)

    return serve
