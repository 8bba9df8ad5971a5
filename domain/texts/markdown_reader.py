"""Reads Markdown line by line: which lines are code, and what is open at the end."""

import re
from dataclasses import dataclass
from typing import Final

_MARKER: Final = r"(?:[-+*]|\d{1,9}[.)])"
_ITEM: Final = re.compile(rf"( *{_MARKER})(?= |$)( *)")
_RULE: Final = re.compile(r"[ \t]*([-_*])[ \t]*(?:\1[ \t]*){2,}")
_FENCE: Final = re.compile(
    rf"(?P<prefix>[ \t>]*(?:{_MARKER}[ \t>]+)*)(?P<run>`{{3,}}(?=[^`]*$)|~{{3,}})"
)
_FENCE_END: Final = re.compile(r"[ \t>]*(?P<run>`{3,}|~{3,})[ \t]*")
_RAW: Final = re.compile(r" {0,3}<(!--|(?:pre|script|style|textarea)(?=[\s>]|$))", re.IGNORECASE)
_HASHES: Final = re.compile(r"( {0,3})(#{1,6})(?=[ \t]|$)")
_UNDERLINE: Final = re.compile(r"( {0,3})(=+|-+)[ \t]*")


@dataclass(frozen=True, slots=True)
class _Fence:
    """An open code fence. `column` is the column of the list item around it, 0 without one."""

    prefix: str
    run: str
    column: int

    @property
    def end(self) -> str:
        """The line that closes the fence."""
        return re.sub(r"[^ \t>]", " ", self.prefix) + self.run

    @property
    def is_quoted(self) -> bool:
        return ">" in self.prefix

    def is_left_by(self, line: str) -> bool:
        """Whether the line lies outside of the quote or list item that contains the fence."""
        if not line.strip():
            return False
        return not line.lstrip().startswith(">") if self.is_quoted else _indent(line) < self.column

    def is_closed_by(self, line: str) -> bool:
        found = _FENCE_END.fullmatch(line)
        if not found or not found["run"].startswith(self.run):
            return False
        return self.is_quoted or (">" not in line and _indent(line) - self.column <= 3)


class MarkdownReader:
    """Reads Markdown line by line, to know which lines are code and what is open.

    The end of a list or a quote also ends a fence in it, so the reader follows lists and quotes. It
    is not a full parser: it is good enough for the Markdown of people and models, cut off anywhere.
    """

    def __init__(self) -> None:
        self._fence: _Fence | None = None
        self._raw = ""  # the end of the open raw HTML; "" without any
        self._columns: list[int] = []  # of the open list items, from outer to inner
        self._after_blank = True

    def read(self, text: str) -> str:
        """The line that closes what the text leaves open, or ""."""
        for line in text.split("\n"):
            self.is_code(line)
        return self._fence.end if self._fence else self._raw

    def is_code(self, line: str) -> bool:
        """Whether the next line belongs to code or raw HTML, its first and last line included."""
        if self._fence and self._fence.is_left_by(line):
            self._fence, self._after_blank = None, True
        if self._fence:
            if self._fence.is_closed_by(line):
                self._fence = None
            return True
        if not self._raw:
            self._begin(line)
        was_raw = bool(self._raw)
        if self._raw and self._raw in line.lower():
            self._raw = ""
        return was_raw or self._fence is not None

    def _begin(self, line: str) -> None:
        fence, raw = _FENCE.match(line), _RAW.match(line)
        self._track_lists(line, is_block=bool(fence or raw or _HASHES.match(line)))
        column = self._columns[-1] if self._columns else 0
        if fence and (fence["prefix"].strip() or _indent(line) - column <= 3):
            self._fence = _Fence(fence["prefix"], fence["run"], column)
        elif raw and not column:
            self._raw = "-->" if raw[1] == "!--" else f"</{raw[1].lower()}>"

    def _track_lists(self, line: str, *, is_block: bool) -> None:
        """A line further left ends an item, unless the line continues the item's paragraph."""
        if not line.strip():
            self._after_blank = True
            return
        indent, wide = _indent(line), line.expandtabs(4)
        item = None if _RULE.fullmatch(line) else _ITEM.match(wide)
        if item or is_block or self._after_blank:
            while self._columns and indent < self._columns[-1]:
                self._columns.pop()
        self._after_blank = False
        while item:
            # Text that is indented further is a code block in the item.
            is_far = len(item[2]) > 4 or item.end() == len(wide)
            self._columns.append(item.end(1) + 1 if is_far else item.end())
            item = None if is_far else _ITEM.match(wide, item.end())


def _indent(line: str) -> int:
    """The width of the white space at the start of the line, in columns."""
    wide = line.expandtabs(4)
    return len(wide) - len(wide.lstrip(" "))


def lowered(text: str, levels: int) -> str:
    """The Markdown with its headings `levels` deeper. Underlined headings become text."""
    reader, lines = MarkdownReader(), list[str]()
    before = ""
    for line in text.split("\n"):
        if reader.is_code(line):
            shown, before = line, ""
        else:
            shown = _HASHES.sub(lambda found: _lower(found, levels), line, count=1)
            if before.strip() and _UNDERLINE.fullmatch(line):
                shown = _UNDERLINE.sub(r"\1\\\2", line)
            before = line
        lines.append(shown)
    return "\n".join(lines)


def _lower(found: re.Match[str], levels: int) -> str:
    return found[1] + "#" * min(6, len(found[2]) + levels)
