"""The tokens of JSON text that comes in pieces, and their values."""

import math
import re
from typing import Final

NUMBER_LIMIT: Final = 40  # characters of one number

# The integers that jsonb, orjson and JSON readers with 64-bit integers store without loss.
_INTEGERS: Final = range(-(1 << 63), 1 << 63)

# PostgreSQL's jsonb refuses NUL, and half a surrogate pair cannot be written as UTF-8. Such a
# character of the model is replaced, so that its reply is not lost.
REPLACEMENT: Final = "\ufffd"

UNSTORABLE: Final = re.compile(r"[\x00\ud800-\udfff]")

SPACE: Final = re.compile(r"[ \t\n\r]+").match

PLAIN: Final = re.compile(r'[^"\\\x00-\x1f\ud800-\udfff]+').match

DIGITS: Final = re.compile(rf"[-+.0-9eE]{{1,{NUMBER_LIMIT + 1}}}").match

_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?").fullmatch

# One escape, or half a surrogate pair that came as a character.
SPECIAL: Final = re.compile(
    r"""\\(?: (["\\/bfnrt])
            | u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})
            | u([0-9a-fA-F]{4}) )
        | [\ud800-\udfff]""",
    re.VERBOSE,
).match

# An escape that the end of the text cuts, or a first surrogate whose second may follow.
HALF_ESCAPE: Final = re.compile(
    r"""\\(?: u[0-9a-fA-F]{0,3}
            | u[dD][89abAB][0-9a-fA-F]{2} (?:\\ (?:u (?:[dD] (?:[c-fC-F][0-9a-fA-F]?)? )? )? )?
        )?\Z""",
    re.VERBOSE,
).match

_MEANING: Final = dict(zip('"\\/bfnrt', '"\\/\b\f\n\r\t', strict=True))

WORDS: Final = {"t": ("true", True), "f": ("false", False), "n": ("null", None)}


def number(token: str) -> int | float | None:
    """The value of a JSON number. None for malformed numbers, and for numbers that a store cannot
    keep."""
    if not (match := _NUMBER(token)):
        return None
    if match.lastindex is None:
        whole = int(token)
        return whole if whole in _INTEGERS else None
    value = float(token)
    return value if math.isfinite(value) else None


def meaning(special: re.Match[str]) -> str:
    """The character that an escape means; REPLACEMENT for an unstorable one."""
    letter, high, low, unit = special.groups()
    if letter:
        return _MEANING[letter]
    if high:
        return chr(0x10000 + ((int(high, 16) - 0xD800) << 10) + int(low, 16) - 0xDC00)
    return UNSTORABLE.sub(REPLACEMENT, chr(int(unit, 16)) if unit else special[0])
