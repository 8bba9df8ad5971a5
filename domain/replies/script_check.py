"""Checks while a reply streams whether it is in the language that was asked for.

The check knows Arabic alone, which has its own script: it counts letters. Code, paths, addresses
and identifiers are the same in every language, so their letters are not counted.
"""

import re
from copy import copy
from dataclasses import dataclass, replace
from typing import Final

REMINDER: Final = """\
Your last answer was not in Arabic. Answer again, and write every natural-language value in \
Arabic. All keys, and values that come from a closed set of words, stay in English. Leave code, \
file paths and identifiers as they are, and use Western digits (0-9)."""
"""The paragraph that the model gets before it is asked again."""

PROSE: Final = frozenset(
    {
        *("answer", "relatedTopics", "markdown"),
        *("summary", "overview", "title", "description", "reason", "risks", "alternatives"),
        *("rootCause", "approach", "testingStrategy", "preventionTips", "buildPrompt"),
        *("impact", "recommendations"),
        *("analysis", "changes"),
    }
)
"""The names in the contracts of a reply whose strings are natural language."""

DECIDING_LETTERS: Final = 200
FEWEST_LETTERS: Final = 20
LEAST_PERCENT: Final = 30
READ_LIMIT: Final = 20_000  # characters; the check ignores the text after them

_WORD_LIMIT: Final = 500  # characters; longer text without a space is read in pieces of this size

_ARABIC: Final = "\u0600-\u06ff\u0750-\u077f\u08a0-\u08ff\ufb50-\ufdff\ufe70-\ufeff"
_arabic: Final = re.compile(f"[{_ARABIC}]").match

_piece: Final = re.compile(
    "|".join((r"\s", *(f"{each}{{1,{_WORD_LIMIT}}}" for each in ("`", "~", r"[^\s`~]"))))
).match
_list_marker: Final = re.compile(r"[>*+-]+|\d{1,9}[.)]").fullmatch
_ADDRESS: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s<>()\[\]\"'،؛]+")
# Arabic letters are excluded, because they may follow a name without a space.
_CHUNK: Final = re.compile(rf"(?:[^\W{_ARABIC}]|[-./\\:@#$%&=?])+")
_is_technical: Final = re.compile(r"[_/\\@]|\.\w|::\w|[a-z][A-Z]").search


def is_prose(path: str) -> bool:
    """Whether the value at `path`, a JSON Pointer below the response, is natural language.

    False for code, paths, names, numbers and words of closed sets, and for names that the contracts
    do not know.
    """
    names = (part for part in reversed(path.split("/")) if not part.isdecimal())
    return next(names, "") in PROSE


class ScriptCheck:
    """Reads the prose of one reply as it comes. The verdict does not depend on where text is cut.

    For a `language` other than `ar` every reply is right.
    """

    def __init__(self, language: str) -> None:
        self._verdict = None if language == "ar" else False
        self._reader = _Reader()
        self._seen = 0  # characters
        self._rest = ""  # the last piece, which the next text may continue

    @property
    def is_decided(self) -> bool:
        """Whether the verdict is final."""
        return self._verdict is not None

    @property
    def is_wrong(self) -> bool:
        """Whether the reply is in another script; False until DECIDING_LETTERS letters came."""
        return self._verdict is True

    def is_wrong_at_end(self) -> bool:
        """Whether a reply that has ended was in another script; False if it had too few letters."""
        if self._verdict is not None:
            return self._verdict
        reader = copy(self._reader)
        reader.end(self._rest)
        return reader.letters >= FEWEST_LETTERS and reader.is_foreign

    def feed(self, text: str) -> None:
        """Read more text. Returns at once after the verdict and after READ_LIMIT characters."""
        if self._verdict is not None:
            return
        text = text[: READ_LIMIT - self._seen]
        self._seen += len(text)
        self._rest = self._read(self._rest + text)
        if self._verdict is None and self._seen == READ_LIMIT:
            self._verdict = False

    def _read(self, text: str) -> str:
        """Read the whole pieces; returns the rest, which is read again with the next text."""
        position = 0
        while self._verdict is None and (found := _piece(text, position)):
            piece, position = found[0], found.end()
            if position == len(text) and not piece.isspace() and len(piece) < _WORD_LIMIT:
                return piece
            self._reader.feed(piece)
            if self._reader.letters >= DECIDING_LETTERS:
                self._verdict = self._reader.is_foreign
        return ""


@dataclass(frozen=True, slots=True)
class _Code:
    """Open code, which the backticks `run` began. A fence is new until its first line ends."""

    run: str
    is_fence: bool
    is_new: bool = True


class _Reader:
    """Counts the letters of Markdown, piece by piece: a space, a run of marks, or a word.

    Text after a backtick waits for the next backtick: without one, the first is a plain character.
    """

    def __init__(self) -> None:
        self.letters = 0
        self._arabic = 0
        self._doubtful = (0, 0)
        self._code: _Code | None = None
        self._is_line_start = True
        self._is_blank = True

    @property
    def is_foreign(self) -> bool:
        return self._arabic * 100 < self.letters * LEAST_PERCENT

    def feed(self, piece: str) -> None:
        if piece == "\n":
            self._end_line()
        elif not piece.isspace():
            if piece[0] in "`~":
                self._mark(piece)
            elif not (self._is_line_start and _list_marker(piece)):
                self._count(piece)
                self._is_line_start = False
            self._is_blank = False

    def end(self, piece: str) -> None:
        """Read the last piece, which may be empty."""
        if piece:
            self.feed(piece)
        self._end_paragraph()

    def _end_line(self) -> None:
        if self._is_blank:
            self._end_paragraph()
        if self._code and self._code.is_fence:
            self._code = replace(self._code, is_new=False)
        self._is_line_start = self._is_blank = True

    def _end_paragraph(self) -> None:
        """A code span that is still open at the end of a paragraph is plain text."""
        if self._code and not self._code.is_fence:
            letters, arabic = self._doubtful
            self.letters += letters
            self._arabic += arabic
            self._begin(None)

    def _begin(self, code: _Code | None) -> None:
        self._code = code
        self._doubtful = (0, 0)

    def _mark(self, run: str) -> None:
        may_be_fence, self._is_line_start = self._is_line_start and len(run) >= 3, False
        code = self._code
        if code is None:
            if may_be_fence or run[0] == "`":
                self._begin(_Code(run, may_be_fence))
        elif not code.is_fence or (code.is_new and run[0] == code.run[0] == "`"):
            # The first line of a fence has no backtick, so this is a code span.
            self._code = replace(code, is_fence=False)
            if run == code.run:
                self._begin(None)
        elif may_be_fence and run.startswith(code.run):
            self._begin(None)

    def _count(self, word: str) -> None:
        prose = _CHUNK.sub(_untechnical, _ADDRESS.sub(" ", word))
        letters = [character for character in prose if character.isalpha()]
        arabic = sum(1 for letter in letters if _arabic(letter))
        if self._code is None:
            self.letters += len(letters)
            self._arabic += arabic
        elif not self._code.is_fence:
            self._doubtful = (self._doubtful[0] + len(letters), self._doubtful[1] + arabic)


def _untechnical(chunk: re.Match[str]) -> str:
    return " " if _is_technical(chunk[0]) else chunk[0]
