"""Read-only access to the source of a project, and to nothing outside of its folder.

A path is opened from a descriptor of the project's folder, a component at a time, and no link is
followed. The checks look at the open descriptor, so no file can be swapped between check and read.
Files with secrets are refused to every caller. All calls block: make them in a thread.
"""

import os
import stat
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from service.concurrency.lru import LRU
from service.source.results import MOST_CHARACTERS, Excerpt, Found, Listing, Match, SourceRefused
from service.source.secrets import holds_a_secret, is_secret_name
from service.source.walk import OPEN, Parts, Structure, Walk, is_plain, mark

LARGEST_FILE: Final = 1 << 20
LONGEST_PATH: Final = 1_000
MOST_LISTED: Final = 2_000
MOST_LINES: Final = 400
MOST_FOUND: Final = 50
MOST_SEARCHED: Final = 5_000
SEARCHED_BYTES: Final = 50 << 20
SEARCH_SECONDS: Final = 5.0
LONGEST_SNIPPET: Final = 200
MOST_CACHED: Final = 64

SETTLED_NS: Final = 2_000_000_000
"""How old the last change of a folder must be before its time is reliable: two changes within one
tick of the file system's clock have the same time."""


class Sources:
    """The projects' folders, each below its tenant's folder. Any thread may use it.

    `walks` counts the walks through projects that were not in the cache.
    """

    def __init__(self, folder: Path | None) -> None:
        self.walks = 0
        self._folder = folder
        self._lock = threading.Lock()
        self._known: LRU[Parts, Structure] = LRU(MOST_CACHED)

    def of(self, tenant_id: str, source_root: str | None) -> "Source | None":
        """A project's source. None without a folder, or for one outside of the tenant's folder."""
        if self._folder is None or not source_root:
            return None
        try:
            (tenant,) = _parts(tenant_id)
            source = Source(self, self._folder, (tenant, *_parts(source_root)))
            with source.opened(()):
                return source
        except (SourceRefused, ValueError):
            return None

    def known(self, root: Parts) -> Structure | None:
        """The structure of the last walk, from the cache."""
        with self._lock:
            return self._known.get(root)

    def walked(self, root: Parts, structure: Structure, *, is_settled: bool) -> None:
        """Cache a walk if it `is_settled`: then the folders' times show every later change."""
        with self._lock:
            self.walks += 1
            self._known.pop(root)
            if is_settled:
                self._known.put(root, structure)


class Source:
    """One project's source."""

    def __init__(self, sources: Sources, folder: Path, root: Parts) -> None:
        self._sources = sources
        self._folder = folder
        self._root = root

    # Reading -------------------------------------------------------------------------------------

    def list_files(self, path: str = "") -> Listing:
        """The files below a folder. Raises SourceRefused."""
        below = self._folder_parts(path)
        structure = self._structure()
        paths = ["/".join(each) for each in structure.files if each[: len(below)] == below]
        is_cut = structure.is_cut or len(paths) > MOST_LISTED
        return Listing(tuple(paths[:MOST_LISTED]), is_cut)

    def read_file(self, path: str, first_line: int = 1, lines: int = 200) -> Excerpt:
        """Lines of a file, as many as fit. Raises SourceRefused."""
        text = _lines(self._text(_parts(path)))
        first = max(first_line, 1)
        shown: list[str] = []
        room = MOST_CHARACTERS
        for line in text[first - 1 : first - 1 + min(max(lines, 1), MOST_LINES)]:
            room -= len(line) + 8
            if room < 0:
                break
            shown.append(line)
        return Excerpt(tuple(shown), first, len(text))

    def search_files(self, text: str, path: str = "") -> Found:
        """The lines that contain a text, in any case of letters. Raises SourceRefused."""
        below, wanted = self._folder_parts(path), text.casefold()
        structure = self._structure()
        matches: list[Match] = []
        budget, due = SEARCHED_BYTES, time.monotonic() + SEARCH_SECONDS
        files = [each for each in structure.files if each[: len(below)] == below]
        for parts in files[:MOST_SEARCHED]:
            if not wanted or budget <= 0 or time.monotonic() > due:
                return Found(tuple(matches), is_cut=bool(wanted))
            try:
                content = self._text(parts)
            except SourceRefused:
                continue
            budget -= len(content)
            for number, line in enumerate(_lines(content), 1):
                if wanted in line.casefold():
                    match = Match("/".join(parts), number, line.strip()[:LONGEST_SNIPPET])
                    matches.append(match)
                    if len(matches) == MOST_FOUND:
                        return Found(tuple(matches), is_cut=True)
        return Found(tuple(matches), structure.is_cut or len(files) > MOST_SEARCHED)

    def holds(self, file: str, line: int, snippet: str) -> bool:
        """Whether the text is in this line of the file, or begins there. White space is ignored."""
        try:
            text = _lines(self._text(_parts(file)))
        except SourceRefused:
            return False
        said = [" ".join(each.split()) for each in snippet.strip().splitlines()]
        there = [" ".join(each.split()) for each in text[max(line - 1, 0) : line - 1 + len(said)]]
        if not any(said) or line < 1 or len(there) < len(said):
            return False
        return all(each in found for each, found in zip(said, there, strict=True))

    def has(self, path: str) -> bool:
        """Whether the project has this file or folder. True for each name of a secret: nobody is
        told whether a secret exists."""
        try:
            parts = _parts(path)
            if is_secret_name(parts):
                return True
            with self.opened(parts[:-1]) as folder:
                found = os.stat(parts[-1], dir_fd=folder, follow_symlinks=False)
        except (SourceRefused, OSError, ValueError):
            return False
        return stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)

    # Opening -------------------------------------------------------------------------------------

    @contextmanager
    def opened(self, parts: Parts) -> Generator[int]:
        """An open descriptor of a folder of the project. Raises SourceRefused."""
        try:
            folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            raise SourceRefused("not_found") from None
        try:
            for part in (*self._root, *parts):
                folder = _stepped(folder, part)
            yield folder
        finally:
            os.close(folder)

    def _text(self, parts: Parts) -> str:
        """The whole text of a file. Raises SourceRefused."""
        if not parts:
            raise SourceRefused("not_a_file")
        if is_secret_name(parts):
            raise SourceRefused("secret")
        with self.opened(parts[:-1]) as folder:
            content = _content(folder, parts[-1])
        if b"\0" in content:
            raise SourceRefused("binary")
        try:
            text = content.decode()
        except UnicodeDecodeError:
            raise SourceRefused("binary") from None
        if holds_a_secret(text):
            raise SourceRefused("secret")
        return text

    def _folder_parts(self, path: str) -> Parts:
        parts = _parts(path) if path.strip("./") else ()
        if is_secret_name(parts):
            raise SourceRefused("secret")
        with self.opened(parts):
            return parts

    # The structure -------------------------------------------------------------------------------

    def _structure(self) -> Structure:
        """The project's files, from the cache while no folder has changed, or else from a walk."""
        known = self._sources.known(self._root)
        if known is not None and self._is_unchanged(known):
            return known
        began = time.time_ns()
        walk = Walk()
        with self.opened(()) as folder:
            walk.into(folder, ())
        structure = Structure(tuple(sorted(walk.files)), walk.folders, walk.is_cut)
        newest = max(mtime for _, _, mtime in walk.folders.values())
        self._sources.walked(self._root, structure, is_settled=newest < began - SETTLED_NS)
        return structure

    def _is_unchanged(self, known: Structure) -> bool:
        try:
            for parts, expected in known.folders.items():
                with self.opened(parts) as folder:
                    if mark(folder) != expected:
                        return False
        except SourceRefused:
            return False
        return True


def _stepped(folder: int, part: str) -> int:
    """A descriptor of the folder's child. Closes the folder's descriptor."""
    try:
        below = os.open(part, OPEN | os.O_DIRECTORY, dir_fd=folder)
    except OSError:
        raise SourceRefused("not_found") from None
    os.close(folder)
    return below


def _content(folder: int, name: str) -> bytes:
    """The bytes of a regular file. Opening does not wait, even for a pipe or a device."""
    try:
        file = os.open(name, OPEN | os.O_NONBLOCK, dir_fd=folder)
    except OSError:
        raise SourceRefused("not_found") from None
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise SourceRefused("not_a_file")
        content = b""
        while chunk := os.read(file, LARGEST_FILE + 1 - len(content)):
            content += chunk
        if len(content) > LARGEST_FILE:
            raise SourceRefused("too_large")
        return content
    except OSError:
        raise SourceRefused("not_found") from None
    finally:
        os.close(file)


def _lines(text: str) -> list[str]:
    """The lines as editors count them; `str.splitlines` knows more line ends."""
    return text.replace("\r\n", "\n").removesuffix("\n").split("\n")


def _parts(path: str) -> Parts:
    """The components of a relative path. Raises SourceRefused."""
    trimmed = path.removeprefix("./").rstrip("/")
    parts = tuple(trimmed.split("/"))
    if len(path) > LONGEST_PATH or not all(map(is_plain, parts)):
        raise SourceRefused("outside")
    return parts
