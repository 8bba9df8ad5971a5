"""Serves the files of the web client.

The files are read once, when the process starts. So a page never gets its parts from two versions,
and a path is looked up in a table and never in the file system.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

FOLDER: Final = Path(__file__).parent / "client"
PAGE: Final = "index.html"
MEDIA_TYPES: Final[Mapping[str, str]] = MappingProxyType(
    {
        ".css": "text/css; charset=utf-8",
        ".html": "text/html; charset=utf-8",
        ".js": "text/javascript; charset=utf-8",
        ".json": "application/json",
        ".svg": "image/svg+xml",
    }
)
"""The media types of the files by suffix. A file with another suffix is not served."""

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
"""What the page may do: load its own files, call its own service, and make no script of a text."""


@dataclass(frozen=True, slots=True)
class File:
    """A file as it is served."""

    content: bytes
    media_type: str
    tag: str


def client_files(folder: Path = FOLDER) -> Mapping[str, File]:
    """The files of the client by their path in the folder, with `/` between its parts."""
    return MappingProxyType(dict(_read(folder)))


def _read(folder: Path) -> Iterator[tuple[str, File]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and (media_type := MEDIA_TYPES.get(path.suffix)) is not None:
            content = path.read_bytes()
            tag = f'"{sha256(content).hexdigest()[:32]}"'
            yield path.relative_to(folder).as_posix(), File(content, media_type, tag)


FILES: Final = client_files()


async def page(request: Request) -> Response:
    """The page."""
    return _answer(request, PAGE)


async def part(request: Request) -> Response:
    """A file that the page loads."""
    return _answer(request, request.path_params["path"])


def _answer(request: Request, path: str) -> Response:
    """The file, or 304 for a browser that has it. Raises HTTPException for an unknown path."""
    file = FILES.get(path)
    if file is None:
        raise HTTPException(404)
    headers = {
        "ETag": file.tag,
        "Cache-Control": "no-cache",
        "Content-Security-Policy": POLICY,
    }
    known = request.headers.get("if-none-match", "")
    if file.tag in (each.strip().removeprefix("W/") for each in known.split(",")):
        return Response(status_code=304, headers=headers)
    return Response(file.content, media_type=file.media_type, headers=headers)
