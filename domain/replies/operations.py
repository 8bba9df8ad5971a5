"""A reply as operations: what each piece of streamed text adds to the reply's data.

A model answers with one JSON document, `{"intent": "...", "response": {...}}`, a few characters at
a time. `ReplyParser` reads each character once and turns it into operations on the response.
`fold` turns the operations into the response:

    fold(every operation)     ==  the document's response
    fold(the first of them)   is  a prefix of it: strings, arrays and objects that stop early

A path is a JSON Pointer (RFC 6901) below the response; the response itself is "".
"""

from collections.abc import Iterable
from copy import deepcopy
from itertools import groupby
from typing import Literal, TypeAlias, TypedDict

from domain.events import Json

Scalar: TypeAlias = str | int | float | bool | None


class Open(TypedDict):
    """Create an empty object or array at `path`."""

    op: Literal["open"]
    path: str
    kind: Literal["object", "array"]


class Append(TypedDict):
    """Append `text`, never empty, to the string at `path`. The first append creates the string."""

    op: Literal["append"]
    path: str
    text: str


class Set(TypedDict):
    """Set the whole `value` at `path`: a number, a boolean, null, "", a word of a closed set."""

    op: Literal["set"]
    path: str
    value: Scalar


Operation: TypeAlias = Open | Append | Set


# folding operations ------------------------------------------------------------------------------


class Misfit(ValueError):
    """An operation does not fit the document. Names its kind and path, never its text."""

    def __init__(self, op: str, path: str) -> None:
        super().__init__(f"cannot {op} at {path!r}")


def fold(ops: Iterable[Operation], start: Json = None) -> Json:
    """The document after `ops`, from `start`, which is not changed. None is an empty start.

    Raises Misfit for an operation that does not fit: no value is ever replaced, an array grows at
    its end, and only a string can be appended to. For example, an open of an object at "" and a set
    of 1 at "/a" make {"a": 1}.
    """
    # The document is the member "" of a holder, because "/a/b" splits into "", "a" and "b".
    holder: dict[str, Json] = {} if start is None else {"": deepcopy(start)}
    for (op, path), run in groupby(ops, lambda each: (each["op"], each["path"])):
        # A run of appends to a string is joined once: one by one would copy the string each time.
        if op == "append":
            _grow(holder, path, "".join(each["text"] for each in run if each["op"] == "append"))
        else:
            for each in run:
                _place(holder, each)
    return holder.get("")


def _place(holder: dict[str, Json], op: Operation) -> None:
    parent, key = _parent(holder, op["op"], op["path"])
    if _holds(parent, key):
        raise Misfit(op["op"], op["path"])
    if op["op"] == "open":
        _add(parent, key, {} if op["kind"] == "object" else [])
    elif op["op"] == "set":
        _add(parent, key, op["value"])


def _grow(holder: dict[str, Json], path: str, text: str) -> None:
    parent, key = _parent(holder, "append", path)
    if not _holds(parent, key):
        _add(parent, key, text)
    elif isinstance(parent[key], str):
        parent[key] += text
    else:
        raise Misfit("append", path)


def _parent(holder: dict[str, Json], op: str, path: str) -> tuple[Json, str | int]:
    """The container `path` points into, and the key or the index there."""
    parent: Json = holder
    *above, last = path.split("/")
    try:
        for token in above:
            parent = parent[_key(parent, token)]
        key = _key(parent, last)
    except (LookupError, TypeError, ValueError):
        raise Misfit(op, path) from None
    if parent is holder and key != "":
        raise Misfit(op, path)
    return parent, key


def _key(parent: Json, token: str) -> str | int:
    """What a token of a pointer means in `parent`: a key, or an index up to the array's length."""
    if isinstance(parent, dict):
        return token.replace("~1", "/").replace("~0", "~")
    index, size = int(token), len(parent)
    if not isinstance(parent, list) or str(index) != token or not 0 <= index <= size:
        raise IndexError
    return index


def _holds(parent: Json, key: str | int) -> bool:
    return key in parent if isinstance(key, str) else key < len(parent)


def _add(parent: Json, key: str | int, value: Json) -> None:
    if isinstance(key, str):
        parent[key] = value
    else:
        parent.append(value)
