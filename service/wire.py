"""JSON on the wire: the base classes of bodies, queries and answers."""

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from domain.metering import MICRO_USD


def clean(text: str) -> str:
    """The text. Raises ValueError for what PostgreSQL cannot store: NUL, half a surrogate pair."""
    if "\0" in text:
        raise ValueError("must not hold a NUL character")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("must not hold half a surrogate pair")
    return text


def without_control_characters(text: str) -> str:
    """The text. Raises ValueError for control characters, which have no place in an id."""
    if any(character < " " or "\x7f" <= character <= "\x9f" for character in text):
        raise ValueError("must not hold a control character")
    return text


Text = Annotated[str, AfterValidator(clean)]


Id = Annotated[
    Text,
    AfterValidator(without_control_characters),
    Field(min_length=1, max_length=255),
]


def _in_a_path(text: str) -> str:
    if text in (".", ".."):
        raise ValueError("must not be . or .., which clients take out of a path")
    return text


PathId = Annotated[Id, AfterValidator(_in_a_path)]
"""An id that a client chooses and that stands in paths."""


Cursor = Annotated[str, Field(max_length=64)]


Moment = Annotated[str, Field(min_length=1, max_length=64)]
"""A moment of the past: a cursor, a position, or a time as in RFC 3339."""


Locale = Annotated[str, Field(pattern=r"^[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8}){0,3}$")]


class Wire(BaseModel):
    """A JSON object with exactly these members; types are not converted."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        extra="forbid",
        strict=True,
        frozen=True,
    )


class Query(BaseModel):
    """Query parameters: text by nature, so numbers and booleans are read from it.

    Those named in `repeated` may be given more than once and are read as lists.
    """

    repeated: ClassVar[frozenset[str]] = frozenset()

    model_config = ConfigDict(
        alias_generator=to_camel, validate_by_name=True, validate_by_alias=True, extra="forbid"
    )


PAGE_BYTES: Final = 4 * 1024 * 1024
"""The texts and data of a page, at most, unless its first item alone is larger."""


def fitting(sizes: Iterable[int]) -> int:
    """How many of the first items go into one page, by the bytes of each; at least one."""
    total = count = 0
    for size in sizes:
        total += size
        if count and total > PAGE_BYTES:
            break
        count += 1
    return count


BEGINNING: Final = "0.00000000"
"""The cursor before the first event of every log."""

_CURSOR: Final = re.compile(r"(0|[1-9][0-9]{0,17})\.[0-9a-f]{8}", re.ASCII)


def cursor(position: int, append_id: bytes) -> str:
    """The name of an event for clients, as `app.cursor_of` makes it in the database: the position,
    and the last eight hex digits of the append id."""
    return f"{position}.{append_id[-4:].hex()}"


def position_of(cursor: str) -> int:
    """The position in a cursor. Raises ValueError for what is none."""
    found = _CURSOR.fullmatch(cursor)
    if found is None:
        raise ValueError("not a cursor")
    return int(found[1])


LOG_POSITION: Final = "X-Log-Position"
"""The header with the position of the log that an answer holds for, or that a write has come to."""


def dumped(answer: BaseModel) -> dict[str, Any]:
    """The answer as JSON values, without absent members."""
    return answer.model_dump(mode="json", by_alias=True, exclude_none=True)


def usd(amount: Decimal) -> str:
    """An amount of USD, exact to a millionth."""
    return str(amount.quantize(MICRO_USD))
