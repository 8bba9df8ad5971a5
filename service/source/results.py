"""The results of tools on a project's source, each as data and as text for the model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

Code = Literal["not_found", "outside", "secret", "not_a_file", "too_large", "binary"]

MOST_CHARACTERS: Final = 16 * 1024
_MESSAGES: Final[dict[Code, str]] = {
    "not_found": "There is no such file or folder in the project.",
    "outside": "Give a path inside the project, such as src/app.py.",
    "secret": "Files that may hold secrets are not shown.",
    "not_a_file": "This is no regular file.",
    "too_large": "This file is too large to be shown.",
    "binary": "This file holds no text.",
}


class SourceRefused(Exception):
    """The path cannot be read. `code` is the reason, the message explains it to the model."""

    def __init__(self, code: Code) -> None:
        super().__init__(_MESSAGES[code])
        self.code = code


@dataclass(frozen=True, slots=True)
class Listing:
    """Paths in the project, sorted. `is_cut` is true when paths are left out."""

    paths: tuple[str, ...]
    is_cut: bool

    @property
    def text(self) -> str:
        """The paths, one in each line."""
        return _joined(self.paths or ("No files.",), is_cut=self.is_cut)


@dataclass(frozen=True, slots=True)
class Excerpt:
    """Lines of a file from line `first` on. The file has `total` lines."""

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
    """A line that contains the text of the search."""

    file: str
    line: int
    snippet: str


@dataclass(frozen=True, slots=True)
class Found:
    """The matches of a search. `is_cut` is true when the search ended early."""

    matches: tuple[Match, ...]
    is_cut: bool

    @property
    def text(self) -> str:
        """The matches, one in each line: path, line number, text."""
        lines = [f"{each.file}:{each.line}: {each.snippet}" for each in self.matches]
        return _joined(lines or ("Nothing was found.",), is_cut=self.is_cut)


def _joined(lines: Sequence[str], *, is_cut: bool) -> str:
    """The lines as one text, with a note when lines are left out."""
    shown: list[str] = []
    room = MOST_CHARACTERS
    for line in lines:
        room -= len(line) + 1
        if room < 0:
            is_cut = True
            break
        shown.append(line)
    return "\n".join((*shown, "(There is more.)") if is_cut else shown)
