"""The model's text as it comes, read into operations."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, NoReturn

from domain.operations import Operation, Scalar
from domain.reply_contracts import ATOMIC, MAIN_TEXT

DEPTH_LIMIT: Final = 32  # containers open at once, the envelope among them


NUMBER_LIMIT: Final = 40  # characters of one number


TEXT_LIMIT: Final = 1 << 20  # characters of a whole answer


_ENVELOPE: Final = frozenset({"intent", "response"})


# What jsonb, orjson and a JSON reader with 64-bit integers all hold without loss.
_INTEGERS: Final = range(-(1 << 63), 1 << 63)


# PostgreSQL's jsonb refuses NUL, and half a surrogate pair cannot be written as UTF-8. A model that
# slips one in has still answered: the one character is lost, not the reply.
REPLACEMENT: Final = "\ufffd"


_UNSTORABLE: Final = re.compile(r"[\x00\ud800-\udfff]")


_SPACE: Final = re.compile(r"[ \t\n\r]+").match


_PLAIN: Final = re.compile(r'[^"\\\x00-\x1f\ud800-\udfff]+').match


_DIGITS: Final = re.compile(rf"[-+.0-9eE]{{1,{NUMBER_LIMIT + 1}}}").match


_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?").fullmatch


# One escape, or half a surrogate pair that came as a character.
_SPECIAL: Final = re.compile(
    r"""\\(?: (["\\/bfnrt])
            | u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})
            | u([0-9a-fA-F]{4}) )
        | [\ud800-\udfff]""",
    re.VERBOSE,
).match


# An escape that is cut, or a pair's first half at a cut: the second may follow.
_HALF_ESCAPE: Final = re.compile(
    r"""\\(?: u[0-9a-fA-F]{0,3}
            | u[dD][89abAB][0-9a-fA-F]{2} (?:\\ (?:u (?:[dD] (?:[c-fC-F][0-9a-fA-F]?)? )? )? )?
        )?\Z""",
    re.VERBOSE,
).match


_MEANING: Final = dict(zip('"\\/bfnrt', '"\\/\b\f\n\r\t', strict=True))


# Some models fence their JSON. White space is bounded, so that little text is held while in doubt.
_FENCE: Final = re.compile(r"```(?:json)?[ \t\n\r]{0,16}(?={)").match


_HALF_FENCE: Final = re.compile(r"(?:`{1,2}|```(?:j|js|jso|json)?[ \t\n\r]{0,16})\Z").match


_FENCE_END: Final = "```"


_WORDS: Final = {"t": ("true", True), "f": ("false", False), "n": ("null", None)}


class Malformed(ValueError):
    """The text is no answer. `position` counts characters from 0, `kind` never quotes the text."""

    def __init__(self, kind: str, position: int) -> None:
        super().__init__(f"{kind} at character {position}")
        self.kind = kind
        self.position = position


@dataclass(slots=True)
class _Container:
    """An object or array that is open. Without a path it lies outside the response."""

    path: str | None
    keys: set[str] | None  # None: it is an array
    size: int = 0  # of an array, the item that is read not counted


class ReplyParser:
    """Reads one answer as it comes.

    An answer that begins with anything but `{`, or a fence right around it, is prose: from its
    first visible character on it is the text of the intent "general". Beside its two members the
    envelope may hold more, which is read and ignored.

    `intent` is the string the model gave, known to us or not, None until it is read. `complete`
    tells that the envelope was closed with both members, or that prose ended. An answer that breaks
    off is not malformed, only never complete; an envelope closed without both members is malformed.
    """

    def __init__(self) -> None:
        self.intent: str | None = None
        self.prose = False
        self.complete = False
        self._failure: Malformed | None = None

        self._read = 0  # characters that are read for good
        self._rest = ""  # half a token after them: of an escape, number, word or fence, so short
        self._state: Callable[[str, int], int] = self._start
        self._member = self._value  # the state after a colon
        self._verbatim = False  # white space counts: in a string and in prose
        self._fenced = False
        self._open: list[_Container] = []

        self._path: str | None = None  # of the value that is read now or next
        self._atomic = False  # it is told whole
        self._flowing = False  # it is told in pieces
        self._begun = False  # one of them was told
        self._pieces: list[str] = []  # of the string that is read, untold so far
        self._ended: Callable[[str, int], None] = self._whole  # what to do with it
        self._ops: list[Operation] = []

    def feed(self, text: str) -> list[Operation]:
        """What `text` adds. Nothing until the intent is known, then also what was held back.

        Raises Malformed, and again at every later call. What was told before stays true.
        """
        if self._failure is not None:
            raise self._failure
        if self._rest:
            text = self._rest + text
        if self._read + len(text) > TEXT_LIMIT:
            self._fail("too long an answer", TEXT_LIMIT - self._read)
        end = self._advance(text)
        self._rest = text[end:]
        self._read += end
        return self._release()

    def close(self) -> list[Operation]:
        """What the end of the text adds: what began like a fence turns out to be prose."""
        if self._rest and self._state == self._start:
            self._prose(self._rest, 0)
        self.complete = self._failure is None and (self.complete or self.prose)
        return self._release()

    def _advance(self, text: str) -> int:
        """Read what can be understood so far; the position after it."""
        position, end = 0, len(text)
        while position < end:
            if not self._verbatim and (space := _SPACE(text, position)):
                position = space.end()
                continue
            reached = self._state(text, position)
            if reached == position:
                break
            position = reached
        return position

    def _release(self) -> list[Operation]:
        if self.intent is None:
            return []
        if self._flowing and self._pieces:
            self._append("".join(self._pieces))
            self._pieces.clear()
        finished, self._ops = self._ops, []
        return finished

    def _fail(self, kind: str, position: int) -> NoReturn:
        self._rest, self._pieces, self._ops = "", [], []
        self.complete = False
        self._failure = Malformed(kind, self._read + position)
        raise self._failure

    # States: each reads at `position`, where text is left, and returns the position after what it
    # read. `position` itself means half a token, which waits for more text.

    def _start(self, text: str, position: int) -> int:
        if text[position] == "{":
            return self._begin("object", position)
        if fence := _FENCE(text, position):
            self._fenced = True
            return fence.end()
        return position if _HALF_FENCE(text, position) else self._prose(text, position)

    def _prose(self, text: str, position: int) -> int:
        if not self.prose:
            self.prose, self.intent = True, "general"
            self._ops.append({"op": "open", "path": "", "kind": "object"})
            self._path, self._flowing = MAIN_TEXT["general"], True
            self._state, self._verbatim = self._prose, True
        self._pieces.append(_UNSTORABLE.sub(REPLACEMENT, text[position:]))
        return len(text)

    def _first_key(self, text: str, position: int) -> int:
        return self._end(position) if text[position] == "}" else self._key(text, position)

    def _key(self, text: str, position: int) -> int:
        if text[position] != '"':
            self._fail("no key", position)
        return self._quote(position, self._named)

    def _colon(self, text: str, position: int) -> int:
        if text[position] != ":":
            self._fail("no colon", position)
        self._state = self._member
        return position + 1

    def _intent(self, text: str, position: int) -> int:
        if text[position] != '"':
            self._fail("an intent that is no string", position)
        return self._quote(position, self._intended)

    def _response(self, text: str, position: int) -> int:
        if text[position] != "{":
            self._fail("a response that is no object", position)
        return self._begin("object", position)

    def _first_item(self, text: str, position: int) -> int:
        return self._end(position) if text[position] == "]" else self._value(text, position)

    def _value(self, text: str, position: int) -> int:
        first = text[position]
        if first == '"':
            self._flowing = self._path is not None and not self._atomic
            return self._quote(position, self._last if self._flowing else self._whole)
        if first == "{":
            return self._begin("object", position)
        if first == "[":
            return self._begin("array", position)
        return self._word(text, position) if first in _WORDS else self._number(text, position)

    def _word(self, text: str, position: int) -> int:
        word, value = _WORDS[text[position]]
        read = text[position : position + len(word)]
        if read == word:
            self._set(value)
            return position + len(word)
        if not word.startswith(read):
            self._fail("no value", position)
        return position

    def _number(self, text: str, position: int) -> int:
        if not (token := _DIGITS(text, position)):
            self._fail("no value", position)
        if token.end() - position > NUMBER_LIMIT:
            self._fail("too long a number", position)
        if token.end() == len(text):
            return position
        if (value := _number(token[0])) is None:
            self._fail("no value", position)
        self._set(value)
        return token.end()

    def _next(self, text: str, position: int) -> int:
        is_array = self._open[-1].keys is None
        if text[position] == ("]" if is_array else "}"):
            return self._end(position)
        if text[position] != ",":
            self._fail("no comma and no end", position)
        if is_array:
            self._open[-1].size += 1
            self._place_item(self._value)
        else:
            self._state = self._key
        return position + 1

    def _tail(self, text: str, position: int) -> int:
        read = text[position : position + len(_FENCE_END)]
        if self._fenced and read == _FENCE_END:
            self._fenced = False
            return position + len(read)
        if not (self._fenced and _FENCE_END.startswith(read)):
            self._fail("text after the end", position)
        return position

    def _string(self, text: str, position: int) -> int:
        if plain := _PLAIN(text, position):
            self._pieces.append(plain[0])
            return plain.end()
        return self._unquote(position) if text[position] == '"' else self._special(text, position)

    def _special(self, text: str, position: int) -> int:
        if text[position] < " ":
            self._fail("a control character", position)
        if _HALF_ESCAPE(text, position):
            return position
        if not (special := _SPECIAL(text, position)):
            self._fail("no escape", position)
        self._pieces.append(_meaning(special))
        return special.end()

    # Steps: what states do to the stack, the path and the operations.

    def _begin(self, kind: Literal["object", "array"], position: int) -> int:
        if len(self._open) == DEPTH_LIMIT:
            self._fail("too deep", position)
        if self._path is not None:
            self._ops.append({"op": "open", "path": self._path, "kind": kind})
        if kind == "object":
            self._open.append(_Container(self._path, set()))
            self._state = self._first_key
        else:
            self._open.append(_Container(self._path, None))
            self._place_item(self._first_item)
        return position + 1

    def _end(self, position: int) -> int:
        keys = self._open.pop().keys
        if self._open:
            self._state = self._next
        elif keys is not None and keys >= _ENVELOPE:
            self._state, self.complete = self._tail, True
        else:
            self._fail("an envelope without its members", position)
        return position + 1

    def _place_item(self, state: Callable[[str, int], int]) -> None:
        array = self._open[-1]
        self._path = None if array.path is None else f"{array.path}/{array.size}"
        self._atomic = False
        self._state = state

    def _named(self, key: str, position: int) -> None:
        container = self._open[-1]
        if container.keys is None or key in container.keys:
            self._fail("a key for the second time", position)
        container.keys.add(key)
        self._state = self._colon
        if len(self._open) == 1:
            self._place_in_envelope(key)
        else:
            self._place_member(container.path, key)

    def _place_in_envelope(self, key: str) -> None:
        self._path = "" if key == "response" else None
        special = {"intent": self._intent, "response": self._response}
        self._member = special.get(key, self._value)

    def _place_member(self, path: str | None, key: str) -> None:
        token = key.replace("~", "~0").replace("/", "~1")
        self._path = None if path is None else f"{path}/{token}"
        self._atomic = key in ATOMIC
        self._member = self._value

    def _quote(self, position: int, ended: Callable[[str, int], None]) -> int:
        self._state, self._verbatim = self._string, True
        self._ended, self._begun = ended, False
        return position + 1

    def _unquote(self, position: int) -> int:
        text = "".join(self._pieces)
        self._pieces.clear()
        self._verbatim = False
        self._ended(text, position)
        return position + 1

    # What the end of a string means; for a key it is `_named`.

    def _intended(self, text: str, _: int) -> None:
        self.intent = text
        self._state = self._next

    def _whole(self, text: str, _: int) -> None:
        self._set(text)

    def _last(self, text: str, _: int) -> None:
        self._flowing = False
        if text:
            self._append(text)
        elif not self._begun:
            self._set("")
        self._state = self._next

    def _append(self, text: str) -> None:
        if self._path is not None:
            self._ops.append({"op": "append", "path": self._path, "text": text})
            self._begun = True

    def _set(self, value: Scalar) -> None:
        if self._path is not None:
            self._ops.append({"op": "set", "path": self._path, "value": value})
        self._state = self._next


def _number(token: str) -> int | float | None:
    """What a JSON number means; None if it is none, or none that every store holds."""
    if not (match := _NUMBER(token)):
        return None
    if match.lastindex is None:
        whole = int(token)
        return whole if whole in _INTEGERS else None
    value = float(token)
    return value if math.isfinite(value) else None


def _meaning(special: re.Match[str]) -> str:
    """The character an escape stands for, or that stands in for half a pair."""
    letter, high, low, unit = special.groups()
    if letter:
        return _MEANING[letter]
    if high:
        return chr(0x10000 + ((int(high, 16) - 0xD800) << 10) + int(low, 16) - 0xDC00)
    return _UNSTORABLE.sub(REPLACEMENT, chr(int(unit, 16)) if unit else special[0])
