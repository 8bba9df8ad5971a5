"""Serves the files of the web client.

The files are read once, when the process starts. So a path is looked up in a table and never in the
file system. Script and style are served without comments and indentation, which a browser does not
need. Each line stays on its number, so an error in a browser names the line of the source.

The page loads its files from addresses with the version of the client, such as
`/client/v-<version>/page.js`. A browser keeps such a file for ever, because another version has
other addresses. Without the version, as other pages load the files, a browser asks each time
whether its copy is still the same.
"""

import gzip
import posixpath
import re
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
ENTRY: Final = "page.js"
"""The module that the page begins with."""

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

ASKED_EACH_TIME: Final = "no-cache"
KEPT: Final = "public, max-age=31536000, immutable"
_COMMENT: Final = re.compile(r"/\*.*?\*/", re.S)
_MARGIN: Final = re.compile(r"^[ \t]*(?://.*)?|[ \t]+// .*$|[ \t]+$", re.M)
"""Indentation, comments to the end of the line, and spaces there. They are found without a parser:
a test compares each file with its source, token by token."""
_IMPORTED: Final = re.compile(r"^(?:import|export)\b[^'\n]*'(\.[^'\n]+)'$", re.M)
_VERSIONED: Final = re.compile(r"v-([0-9a-f]{16})/(.+)")


@dataclass(frozen=True, slots=True)
class File:
    """A file as it is served: as it is, and packed for a browser that takes gzip."""

    content: bytes
    packed: bytes
    media_type: str
    tag: str


def client_files(folder: Path = FOLDER) -> Mapping[str, File]:
    """The files of the client by their path in the folder, with `/` between its parts."""
    return MappingProxyType(dict(_read(folder)))


def _read(folder: Path) -> Iterator[tuple[str, File]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and (media_type := MEDIA_TYPES.get(path.suffix)) is not None:
            content = path.read_bytes()
            if path.suffix in (".css", ".js"):
                content = _small(content.decode()).encode()
            yield path.relative_to(folder).as_posix(), _file(content, media_type)


def _small(source: str) -> str:
    """Script or style without comments and indentation, each line on its number."""
    return _MARGIN.sub("", _COMMENT.sub(lambda found: "\n" * found[0].count("\n"), source))


def _file(content: bytes, media_type: str) -> File:
    packed = gzip.compress(content, mtime=0)
    return File(content, packed, media_type, sha256(content).hexdigest()[:32])


def version_of(files: Mapping[str, File]) -> str:
    """The version of the client, which changes with each of its files."""
    named = "".join(f"{path} {file.tag}\n" for path, file in files.items())
    return sha256(named.encode()).hexdigest()[:16]


def modules_of(files: Mapping[str, File], entry: str = ENTRY) -> tuple[str, ...]:
    """A module with all modules that it imports, directly or through others, when it is loaded."""
    found = {entry: None}
    waiting = [entry]
    while waiting:
        importer = waiting.pop()
        for name in _IMPORTED.findall(files[importer].content.decode()):
            path = posixpath.normpath(posixpath.join(posixpath.dirname(importer), name))
            if path not in found:
                found[path] = None
                waiting.append(path)
    return tuple(found)


def _page(files: Mapping[str, File]) -> File:
    """The page, which names all modules at once: a browser need not read one to find the next."""
    base = f"/client/v-{version_of(files)}/"
    named = files[PAGE].content.decode().replace("/client/", base)
    preloads = "".join(
        f'<link rel="modulepreload" href="{base}{path}">\n' for path in modules_of(files)
    )
    return _file(named.replace("</head>", f"{preloads}</head>").encode(), files[PAGE].media_type)


FILES: Final = client_files()
VERSION: Final = version_of(FILES)
_PAGE: Final = _page(FILES)


async def page(request: Request) -> Response:
    """The page."""
    return _answer(request, _PAGE, ASKED_EACH_TIME)


async def part(request: Request) -> Response:
    """A file that the page loads. Raises HTTPException for an unknown path.

    While the processes of a service are restarted one by one, a page asks for files of another
    version than this process has. The page gets the file, and the browser does not keep it.
    """
    path = request.path_params["path"]
    named = _VERSIONED.fullmatch(path)
    file = FILES.get(path if named is None else named[2])
    if file is None:
        raise HTTPException(404)
    is_kept = named is not None and named[1] == VERSION
    return _answer(request, file, KEPT if is_kept else ASKED_EACH_TIME)


def _answer(request: Request, file: File, keeping: str) -> Response:
    """The file, or 304 for a browser that has it."""
    is_packed = _takes_gzip(request.headers.get("accept-encoding", ""))
    tag = f'"{file.tag}-gzip"' if is_packed else f'"{file.tag}"'
    headers = {
        "ETag": tag,
        "Cache-Control": keeping,
        "Vary": "Accept-Encoding",
        "Content-Security-Policy": POLICY,
    }
    known = request.headers.get("if-none-match", "")
    if tag in (each.strip().removeprefix("W/") for each in known.split(",")):
        return Response(status_code=304, headers=headers)
    if is_packed:
        headers["Content-Encoding"] = "gzip"
    content = file.packed if is_packed else file.content
    return Response(content, media_type=file.media_type, headers=headers)


def _takes_gzip(accepted: str) -> bool:
    """Whether the header Accept-Encoding names gzip, and not with the weight zero."""
    for each in accepted.lower().split(","):
        name, _, weight = each.partition(";")
        if name.strip() == "gzip":
            return not re.fullmatch(r"\s*q=0(\.0*)?\s*", weight)
    return False
