"""Read-only eyes on the source of a project, which see nothing outside of it.

A path is walked from a descriptor of the project's folder, a component at a time, and no link is
followed: what is checked is what is open, so nothing can be swapped in between. Files that hold
secrets are not there for anybody. Nothing is written. All of this blocks: call it in a thread.
"""

import os
import stat
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from service.concurrency.lru import LRU
from service.source.secrets import holds_a_key, is_secret_name

Code = Literal["not_found", "outside", "secret", "not_a_file", "too_large", "binary"]
Parts = tuple[str, ...]

LARGEST_FILE: Final = 1 << 20
LONGEST_PATH: Final = 1_000
MOST_LISTED: Final = 2_000
MOST_LINES: Final = 400
MOST_CHARACTERS: Final = 16 * 1024
MOST_FOUND: Final = 50
MOST_SEARCHED: Final = 5_000
SEARCHED_BYTES: Final = 50 << 20
SEARCH_SECONDS: Final = 5.0
LONGEST_SNIPPET: Final = 200
MOST_ENTRIES: Final = 20_000
DEEPEST: Final = 40
MOST_CACHED: Final = 64

LEFT_OUT: Final = frozenset(
    {"node_modules", "__pycache__", ".venv", "venv", ".mypy_cache", ".tox", "dist", "target"}
    | {".next", ".ruff_cache", ".pytest_cache"}
)
"""Folders that are not walked: what is in them is not the project's own."""

SETTLED_NS: Final = 2_000_000_000
"""How old a folder's last change must be for its time to tell: two changes within one tick of the
file system's clock look like one."""

_MESSAGES: Final[dict[Code, str]] = {
    "not_found": "There is no such file or folder in the project.",
    "outside": "Give a path inside the project, such as src/app.py.",
    "secret": "Files that may hold secrets are not shown.",
    "not_a_file": "This is no regular file.",
    "too_large": "This file is too large to be shown.",
    "binary": "This file holds no text.",
}
_OPEN: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


class SourceRefused(Exception):
    """This cannot be looked at; `code` says why, the message says it to a model."""

    def __init__(self, code: Code) -> None:
        super().__init__(_MESSAGES[code])
        self.code = code


@dataclass(frozen=True, slots=True)
class Listing:
    """Paths in the project, in order; `is_cut` when there were more."""

    paths: tuple[str, ...]
    is_cut: bool

    @property
    def text(self) -> str:
        """One path a line."""
        return _joined(self.paths or ("No files.",), is_cut=self.is_cut)


@dataclass(frozen=True, slots=True)
class Excerpt:
    """Lines of a file from the line `first` on, of `total`."""

    lines: tuple[str, ...]
    first: int
    total: int

    @property
    def text(self) -> str:
        """The lines with their numbers."""
        numbered = [f"{n}\t{line}" for n, line in enumerate(self.lines, self.first)]
        is_cut = self.first + len(self.lines) <= self.total
        return _joined(numbered or (f"The file has {self.total} lines.",), is_cut=is_cut)


@dataclass(frozen=True, slots=True)
class Match:
    """A line that holds what was searched for."""

    file: str
    line: int
    snippet: str


@dataclass(frozen=True, slots=True)
class Found:
    """What a search came upon; `is_cut` when it ended before all was searched."""

    matches: tuple[Match, ...]
    is_cut: bool

    @property
    def text(self) -> str:
        """One place a line: path, line number, text."""
        lines = [f"{each.file}:{each.line}: {each.snippet}" for each in self.matches]
        return _joined(lines or ("Nothing was found.",), is_cut=self.is_cut)


@dataclass(frozen=True, slots=True)
class _Structure:
    """The files of a project, and its folders with what tells that they have changed."""

    files: tuple[Parts, ...]
    folders: dict[Parts, tuple[int, int, int]]
    is_cut: bool


class Sources:
    """The projects' folders, each below its tenant's. May be used by many threads.

    `walks` counts how often a project was walked, and not known already.
    """

    def __init__(self, folder: Path | None) -> None:
        self.walks = 0
        self._folder = folder
        self._lock = threading.Lock()
        self._known: LRU[Parts, _Structure] = LRU(MOST_CACHED)

    def of(self, tenant_id: str, source_root: str | None) -> "Source | None":
        """A project's source; None where there is none, or where it is not below its tenant's."""
        if self._folder is None or not source_root:
            return None
        try:
            (tenant,) = _parts(tenant_id)
            source = Source(self, self._folder, (tenant, *_parts(source_root)))
            with source.opened(()):
                return source
        except (SourceRefused, ValueError):
            return None

    def known(self, root: Parts) -> _Structure | None:
        """The structure as it was walked last."""
        with self._lock:
            return self._known.get(root)

    def walked(self, root: Parts, structure: _Structure, *, is_settled: bool) -> None:
        """Keep what was walked, if its times tell of every later change."""
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

    # Looking -------------------------------------------------------------------------------------

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
        """The lines that hold a text, whatever its case. Raises SourceRefused."""
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
        """Whether this text stands in this line of a file, or begins there."""
        try:
            text = _lines(self._text(_parts(file)))
        except SourceRefused:
            return False
        said = [" ".join(each.split()) for each in snippet.strip().splitlines()]
        there = [" ".join(each.split()) for each in text[max(line - 1, 0) : line - 1 + len(said)]]
        if not any(said) or line < 1 or len(there) < len(said):
            return False
        return all(each in found for each, found in zip(said, there, strict=True))

    # Opening -------------------------------------------------------------------------------------

    @contextmanager
    def opened(self, parts: Parts) -> Generator[int]:
        """A descriptor of a folder of the project. Raises SourceRefused."""
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
        """The text of a file, whole. Raises SourceRefused."""
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
        if holds_a_key(text):
            raise SourceRefused("secret")
        return text

    def _folder_parts(self, path: str) -> Parts:
        parts = _parts(path) if path.strip("./") else ()
        if is_secret_name(parts):
            raise SourceRefused("secret")
        with self.opened(parts):
            return parts

    # The structure -------------------------------------------------------------------------------

    def _structure(self) -> _Structure:
        """The project's files: as they were walked before, as long as no folder has changed."""
        known = self._sources.known(self._root)
        if known is not None and self._is_unchanged(known):
            return known
        began = time.time_ns()
        walk = _Walk()
        with self.opened(()) as folder:
            walk.into(folder, ())
        structure = _Structure(tuple(sorted(walk.files)), walk.folders, walk.is_cut)
        newest = max(mtime for _, _, mtime in walk.folders.values())
        self._sources.walked(self._root, structure, is_settled=newest < began - SETTLED_NS)
        return structure

    def _is_unchanged(self, known: _Structure) -> bool:
        try:
            for parts, mark in known.folders.items():
                with self.opened(parts) as folder:
                    if _mark(folder) != mark:
                        return False
        except SourceRefused:
            return False
        return True


class _Walk:
    """One walk through a project's folders."""

    def __init__(self) -> None:
        self.files: list[Parts] = []
        self.folders: dict[Parts, tuple[int, int, int]] = {}
        self.is_cut = False
        self._entries = 0

    def into(self, folder: int, parts: Parts) -> None:
        """Take up what is in a folder, and in those below it. Links are not there."""
        # Before it is read: a change while it is read is seen later.
        self.folders[parts] = _mark(folder)
        with os.scandir(folder) as entries:
            for entry in entries:
                self._entries += 1
                if self._entries > MOST_ENTRIES:
                    self.is_cut = True
                    return
                self._visit(folder, (*parts, entry.name), entry)

    def _visit(self, folder: int, parts: Parts, entry: os.DirEntry[str]) -> None:
        if is_secret_name(parts[-1:]) or not _is_plain(entry.name):
            return
        if entry.is_file(follow_symlinks=False):
            self.files.append(parts)
        elif entry.is_dir(follow_symlinks=False) and entry.name not in LEFT_OUT:
            if len(parts) >= DEEPEST:
                self.is_cut = True
                return
            try:
                below = os.open(entry.name, _OPEN | os.O_DIRECTORY, dir_fd=folder)
            except OSError:
                return
            try:
                self.into(below, parts)
            finally:
                os.close(below)


def _mark(folder: int) -> tuple[int, int, int]:
    """What is another one when the folder is, or has gained or lost something."""
    found = os.fstat(folder)
    return found.st_dev, found.st_ino, found.st_mtime_ns


def _stepped(folder: int, part: str) -> int:
    """One folder further down; the descriptor that was given is closed."""
    try:
        below = os.open(part, _OPEN | os.O_DIRECTORY, dir_fd=folder)
    except OSError:
        raise SourceRefused("not_found") from None
    os.close(folder)
    return below


def _content(folder: int, name: str) -> bytes:
    """The bytes of a regular file. Opening never waits, whatever it is."""
    try:
        file = os.open(name, _OPEN | os.O_NONBLOCK, dir_fd=folder)
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
    """The lines as editors count them: Python's own `splitlines` knows more ends than these."""
    return text.replace("\r\n", "\n").removesuffix("\n").split("\n")


def _parts(path: str) -> Parts:
    """The components of a path inside of something. Raises SourceRefused."""
    trimmed = path.removeprefix("./").rstrip("/")
    parts = tuple(trimmed.split("/"))
    if len(path) > LONGEST_PATH or not all(map(_is_plain, parts)):
        raise SourceRefused("outside")
    return parts


def _is_plain(part: str) -> bool:
    """Whether this names one thing in a folder, and could be sent as text."""
    if part in ("", ".", "..") or "\0" in part or "\\" in part:
        return False
    return not any("\ud800" <= character <= "\udfff" for character in part)


def _joined(lines: Sequence[str], *, is_cut: bool) -> str:
    """The lines as one text, with a word on what is missing."""
    shown: list[str] = []
    room = MOST_CHARACTERS
    for line in lines:
        room -= len(line) + 1
        if room < 0:
            is_cut = True
            break
        shown.append(line)
    return "\n".join((*shown, "(There is more.)") if is_cut else shown)
