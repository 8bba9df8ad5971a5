"""Whether a reply is in the language it was asked for, seen while it streams.

Only Arabic is looked for: it has a script of its own, so counting letters is enough. What is the
same in every language is not counted: code, paths, addresses and identifiers.
"""

import re
from copy import copy
from dataclasses import dataclass, replace
from typing import Final

REMINDER: Final = """\
Your last answer was not in Arabic. Answer again, and write every natural-language value in \
Arabic. All keys, and values that come from a closed set of words, stay in English. Leave code, \
file paths and identifiers as they are, and use Western digits (0-9)."""
"""What the model is told before it is asked again: one paragraph."""

PROSE: Final = frozenset(
    {
        *("answer", "relatedTopics", "markdown"),
        *("summary", "overview", "title", "description", "reason", "risks", "alternatives"),
        *("rootCause", "approach", "testingStrategy", "preventionTips", "buildPrompt"),
        *("impact", "recommendations"),
    }
)
"""The names in the contracts of a reply whose strings are natural language."""

DECIDING_LETTERS: Final = 200
FEWEST_LETTERS: Final = 20
LEAST_PERCENT: Final = 30
LOOK_LIMIT: Final = 20_000  # characters, after which nothing is decided any more

_WORD_LIMIT: Final = 500  # characters: text without any space is read in such pieces

_ARABIC: Final = "\u0600-\u06ff\u0750-\u077f\u08a0-\u08ff\ufb50-\ufdff\ufe70-\ufeff"
_arabic: Final = re.compile(f"[{_ARABIC}]").match

_piece: Final = re.compile(
    "|".join((r"\s", *(f"{each}{{1,{_WORD_LIMIT}}}" for each in ("`", "~", r"[^\s`~]"))))
).match
_list_marker: Final = re.compile(r"[>*+-]+|\d{1,9}[.)]").fullmatch
_ADDRESS: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s<>()\[\]\"'،؛]+")
# No Arabic in it, for that may be attached to a name without a space.
_CHUNK: Final = re.compile(rf"(?:[^\W{_ARABIC}]|[-./\\:@#$%&=?])+")
_is_technical: Final = re.compile(r"[_/\\@]|\.\w|::\w|[a-z][A-Z]").search


def is_prose(path: str) -> bool:
    """Whether natural language stands at `path`, a JSON Pointer below a reply's response.

    False for what holds code, paths, names, numbers or closed words, and for names that the
    contracts do not know.
    """
    names = (part for part in reversed(path.split("/")) if not part.isdecimal())
    return next(names, "") in PROSE


class ScriptCheck:
    """Reads the prose of one reply as it comes; wherever it is cut, the verdict is the same.

    `language` is such as `ar`; every other language than that is taken to be right.
    """

    def __init__(self, language: str) -> None:
        self._verdict = None if language == "ar" else False
        self._reader = _Reader()
        self._seen = 0  # characters
        self._rest = ""  # a piece at the end, which may go on

    @property
    def is_decided(self) -> bool:
        """What follows changes nothing any more."""
        return self._verdict is not None

    @property
    def is_wrong(self) -> bool:
        """It is in another script; known once DECIDING_LETTERS letters were read, never before."""
        return self._verdict is True

    def is_wrong_at_end(self) -> bool:
        """The same of a reply that has ended, if it had letters enough to say so."""
        if self._verdict is not None:
            return self._verdict
        reader = copy(self._reader)
        reader.end(self._rest)
        return reader.letters >= FEWEST_LETTERS and reader.is_foreign

    def feed(self, text: str) -> None:
        """Read on. Costs nothing once it is decided, or once LOOK_LIMIT characters were read."""
        if self._verdict is not None:
            return
        text = text[: LOOK_LIMIT - self._seen]
        self._seen += len(text)
        self._rest = self._read(self._rest + text)
        if self._verdict is None and self._seen == LOOK_LIMIT:
            self._verdict = False

    def _read(self, text: str) -> str:
        """Read what is whole; the rest, which is read again with what follows."""
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
    """Code that is open: `run` began it. A fence is new until the end of its first line."""

    run: str
    is_fence: bool
    is_new: bool = True


class _Reader:
    """Counts the letters of Markdown, piece by piece: a space, a run of marks, or a word.

    What follows a backtick is in doubt until the next one: a backtick alone is a character.
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
        """The text ends with `piece`, or with nothing."""
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
        """A span that is open here was none."""
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
            # No backtick stands in the first line of a fence, so that is a span, too.
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
