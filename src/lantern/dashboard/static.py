"""Files of the dashboard: read once, compressed once, kept by browsers for a year.

Their address holds the digest of all of them, so that a new version is a new address.
"""

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources

from starlette.requests import Request
from starlette.responses import Response

from lantern.dashboard.nav import HOME

KINDS = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "woff2": "font/woff2",
}
_YEAR = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class File:
    """A file as it goes out; `packed` None: it is compressed already."""

    kind: str
    plain: bytes
    packed: bytes | None


@cache
def files() -> dict[str, File]:
    """Every file by its path below static/."""
    root = resources.files("lantern.dashboard") / "static"
    found: dict[str, File] = {}
    for folder in ("", "vendor"):
        place = root / folder if folder else root
        for entry in place.iterdir():
            if entry.is_file() and (kind := KINDS.get(entry.name.rpartition(".")[2])):
                data = entry.read_bytes()
                packed = None if kind == "font/woff2" else gzip.compress(data, 9, mtime=0)
                found[f"{folder}/{entry.name}".lstrip("/")] = File(kind, data, packed)
    return found


@cache
def digest() -> str:
    """A few characters that stand for all files."""
    whole = hashlib.sha256()
    for name, file in sorted(files().items()):
        whole.update(name.encode() + b"\0" + file.plain)
    return whole.hexdigest()[:12]


def url(name: str) -> str:
    """The address of a file. KeyError for one that is not there."""
    _ = files()[name]
    return f"{HOME}/static/{digest()}/{name}"


async def serve(request: Request) -> Response:
    """A file, compressed for those who take it; 404 for another version's."""
    file = files().get(request.path_params["name"])
    if file is None:
        return Response("not found", 404, media_type="text/plain")
    headers = {"x-content-type-options": "nosniff", "vary": "accept-encoding"}
    same = request.path_params["digest"] == digest()
    headers["cache-control"] = _YEAR if same else "no-cache"
    if file.packed is not None and "gzip" in request.headers.get("accept-encoding", ""):
        headers["content-encoding"] = "gzip"
        return Response(file.packed, headers=headers, media_type=file.kind)
    return Response(file.plain, headers=headers, media_type=file.kind)
