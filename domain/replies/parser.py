"""The model's text as it comes, read into operations."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, NoReturn

from domain.replies.contracts import ATOMIC, MAIN_TEXT
from domain.replies.json_tokens import (
    DIGITS,
    HALF_ESCAPE,
    NUMBER_LIMIT,
    PLAIN,
    REPLACEMENT,
    SPACE,
    SPECIAL,
    UNSTORABLE,
    WORDS,
    meaning,
    number,
)
from domain.replies.operations import Operation, Scalar

DEPTH_LIMIT: Final = 32  # containers open at once, the envelope among them

TEXT_LIMIT: Final = 1 << 20  # characters of a whole answer

_ENVELOPE: Final = frozenset({"intent", "response"})

# Some models put JSON into a code fence. White space is bounded, so that little text has to wait.
_FENCE: Final = re.compile(r"```(?:json)?[ \t\n\r]{0,16}(?={)").match

_HALF_FENCE: Final = re.compile(r"(?:`{1,2}|```(?:j|js|jso|json)?[ \t\n\r]{0,16})\Z").match

_FENCE_END: Final = "```"


class Malformed(ValueError):
    """The text is no answer. `position` counts characters from 0; `kind` never quotes the text."""

    def __init__(self, kind: str, position: int) -> None:
        super().__init__(f"{kind} at character {position}")
        self.kind = kind
        self.position = position


@dataclass(slots=True)
class _Container:
    """An open object or array. Its path is None outside of the response."""

    path: str | None
    keys: set[str] | None  # of an object; None for an array
    size: int = 0  # of an array: its items before the current item


class ReplyParser:
    """Reads one answer as it comes.

    An answer that begins with `{`, or with a code fence right before it, is an envelope, unless
    `is_prose` says that there is no contract. Any other answer is prose: the text of the intent
    "general" from its first visible character on. More members of the envelope than `intent` and
    `response` are read and ignored.

    `intent` is the model's string, None until it is read. It may be an unknown intent. `complete`
    is true when the envelope is closed with both members, or when prose has ended. An answer that
    breaks off is never complete, but not malformed; an envelope that is closed without both members
    is malformed.
    """

    def __init__(self, *, is_prose: bool = False) -> None:
        self.intent: str | None = None
        self.prose = False
        self.complete = False
        self._may_be_envelope = not is_prose
        self._failure: Malformed | None = None

        # `_read` characters are finished. `_rest` is half a token after them, which waits for more
        # text: of an escape, a number, a word or a fence, so it is short.
        self._read = 0
        self._rest = ""
        self._state: Callable[[str, int], int] = self._start
        self._member = self._value  # the state after the next colon
        self._verbatim = False  # in a string and in prose, where white space counts
        self._fenced = False
        self._open: list[_Container] = []

        # The value at `_path` is the current or next one; None is outside of the response. A
        # `_flowing` string becomes appends as it comes, and `_begun` is true after the first. Any
        # other string, an `_atomic` one among them, becomes one set at its end. `_pieces` are the
        # parts of the string that no operation has yet, and `_ended` handles the string's end.
        self._path: str | None = None
        self._atomic = False
        self._flowing = False
        self._begun = False
        self._pieces: list[str] = []
        self._ended: Callable[[str, int], None] = self._whole
        self._ops: list[Operation] = []

    def feed(self, text: str) -> list[Operation]:
        """The operations that `text` adds. They wait until the intent is known.

        Raises Malformed, and again at every later call. Earlier operations stay valid.
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
        """The operations that the end of the text adds: the start of a fence is prose after all."""
        if self._rest and self._state == self._start:
            self._prose(self._rest, 0)
        self.complete = self._failure is None and (self.complete or self.prose)
        return self._release()

    def _advance(self, text: str) -> int:
        """Read all whole tokens; returns the position after them."""
        position, end = 0, len(text)
        while position < end:
            if not self._verbatim and (space := SPACE(text, position)):
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

    # States: each reads a token at `position` and returns the position after the token. It returns
    # `position` for half a token, which waits for more text.

    def _start(self, text: str, position: int) -> int:
        if not self._may_be_envelope:
            return self._prose(text, position)
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
        self._pieces.append(UNSTORABLE.sub(REPLACEMENT, text[position:]))
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
        return self._word(text, position) if first in WORDS else self._number(text, position)

    def _word(self, text: str, position: int) -> int:
        word, value = WORDS[text[position]]
        read = text[position : position + len(word)]
        if read == word:
            self._set(value)
            return position + len(word)
        if not word.startswith(read):
            self._fail("no value", position)
        return position

    def _number(self, text: str, position: int) -> int:
        if not (token := DIGITS(text, position)):
            self._fail("no value", position)
        if token.end() - position > NUMBER_LIMIT:
            self._fail("too long a number", position)
        if token.end() == len(text):
            return position
        if (value := number(token[0])) is None:
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
        if plain := PLAIN(text, position):
            self._pieces.append(plain[0])
            return plain.end()
        return self._unquote(position) if text[position] == '"' else self._special(text, position)

    def _special(self, text: str, position: int) -> int:
        if text[position] < " ":
            self._fail("a control character", position)
        if HALF_ESCAPE(text, position):
            return position
        if not (special := SPECIAL(text, position)):
            self._fail("no escape", position)
        self._pieces.append(meaning(special))
        return special.end()

    # Steps: changes of the stack, the path and the operations.

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

    # Ends of strings; `_named` is the end of a key.

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
