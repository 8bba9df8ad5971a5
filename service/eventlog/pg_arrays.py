"""PostgreSQL arrays in the binary format, for the one statement that is sent for every append.

psycopg can send lists as arrays; it looks at every element to find the array's type. Here the type
is known, which halves what an append costs in Python. The format is the format of `array_recv`: the
number of dimensions, whether there are nulls, the element's type, then size and lower bound, then
each element behind its length in bytes, -1 for null.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Any, Final

import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import Dumper
from psycopg.pq import Format

_HEADER: Final = Struct("!iiIii")
_LENGTH: Final = Struct("!i").pack
_INT2: Final = Struct("!ih").pack
_INT4: Final = Struct("!ii").pack
_NULL: Final = _LENGTH(-1)


@dataclass(frozen=True, slots=True)
class Array:
    """An encoded one-dimensional array, ready to be sent as a parameter."""

    oid: int
    data: bytes


def text(values: Sequence[str | None]) -> Array:
    """A `text[]`. Most columns repeat few values: each value is encoded once."""
    sized = {each: _sized(each) for each in set(values)}
    return _array(1009, 25, len(values), [sized[each] for each in values])


def bytea(values: Sequence[bytes | None]) -> Array:
    """A `bytea[]`."""
    elements = [_NULL if each is None else _LENGTH(len(each)) + each for each in values]
    return _array(1001, 17, len(values), elements)


def uuid(values: Sequence[bytes]) -> Array:
    """A `uuid[]`, of 16 bytes each."""
    return _array(2951, 2950, len(values), [b"\0\0\0\x10" + each for each in values])


def int2(values: Sequence[int]) -> Array:
    """An `int2[]`."""
    packed = {each: _INT2(2, each) for each in set(values)}
    return _array(1005, 21, len(values), [packed[each] for each in values])


def int4(values: Sequence[int]) -> Array:
    """An `int4[]`."""
    return _array(1007, 23, len(values), [_INT4(4, each) for each in values])


def _sized(value: str | None) -> bytes:
    if value is None:
        return _NULL
    encoded = value.encode()
    return _LENGTH(len(encoded)) + encoded


def _array(oid: int, element_oid: int, size: int, elements: Iterable[bytes]) -> Array:
    return Array(oid, _HEADER.pack(1, 1, element_oid, size, 1) + b"".join(elements))


class _ArrayDumper(Dumper):
    """Sends the array as it is, under its own type."""

    format = Format.BINARY

    def get_key(self, obj: Array, format: Any) -> Any:  # noqa: A002, ARG002
        return (self.cls, obj.oid)

    def upgrade(self, obj: Array, format: Any) -> Dumper:  # noqa: A002, ARG002
        dumper = _ArrayDumper(self.cls)
        dumper.oid = obj.oid
        return dumper

    def dump(self, obj: Array) -> Buffer:
        return obj.data


def register(connection: psycopg.AsyncConnection[Any]) -> None:
    """Register the arrays as parameter types of a connection."""
    connection.adapters.register_dumper(Array, _ArrayDumper)
