"""Walks the files of a project, and marks its folders to notice later changes."""

import os
from dataclasses import dataclass
from typing import Final

from service.source.secrets import is_secret_name

Parts = tuple[str, ...]

MOST_ENTRIES: Final = 20_000
DEEPEST: Final = 40
LEFT_OUT: Final = frozenset(
    {"node_modules", "__pycache__", ".venv", "venv", ".mypy_cache", ".tox", "dist", "target"}
    | {".next", ".ruff_cache", ".pytest_cache"}
)
"""Folders that are left out, because their files are not the project's own."""

OPEN: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Structure:
    """The files of a project, and its folders with the marks of their last change."""

    files: tuple[Parts, ...]
    folders: dict[Parts, tuple[int, int, int]]
    is_cut: bool


class Walk:
    """One walk through a project's folders."""

    def __init__(self) -> None:
        self.files: list[Parts] = []
        self.folders: dict[Parts, tuple[int, int, int]] = {}
        self.is_cut = False
        self._entries = 0

    def into(self, folder: int, parts: Parts) -> None:
        """Collect the files of a folder and of the folders below it. Links are left out."""
        # The mark comes before the read, so that a change during the read is noticed later.
        self.folders[parts] = mark(folder)
        with os.scandir(folder) as entries:
            for entry in entries:
                self._entries += 1
                if self._entries > MOST_ENTRIES:
                    self.is_cut = True
                    return
                self._visit(folder, (*parts, entry.name), entry)

    def _visit(self, folder: int, parts: Parts, entry: os.DirEntry[str]) -> None:
        if is_secret_name(parts[-1:]) or not is_plain(entry.name):
            return
        if entry.is_file(follow_symlinks=False):
            self.files.append(parts)
        elif entry.is_dir(follow_symlinks=False) and entry.name not in LEFT_OUT:
            if len(parts) >= DEEPEST:
                self.is_cut = True
                return
            try:
                below = os.open(entry.name, OPEN | os.O_DIRECTORY, dir_fd=folder)
            except OSError:
                return
            try:
                self.into(below, parts)
            finally:
                os.close(below)


def mark(folder: int) -> tuple[int, int, int]:
    """A value that changes when the folder is replaced, or gains or loses an entry."""
    found = os.fstat(folder)
    return found.st_dev, found.st_ino, found.st_mtime_ns


def is_plain(part: str) -> bool:
    """Whether this is the name of an entry of a folder, and valid Unicode."""
    if part in ("", ".", "..") or "\0" in part or "\\" in part:
        return False
    return not any("\ud800" <= character <= "\udfff" for character in part)
