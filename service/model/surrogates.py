"""Characters that the provider splits: half of a surrogate pair in one delta, half in the next.

JSON writes such a character as two escapes. The provider sends each half as the end or the
beginning of a text of its own, and the SDK reads each text by itself.
"""

import re
from typing import Final

from domain.replies.json_tokens import REPLACEMENT

_SURROGATE: Final = re.compile("[\ud800-\udfff]").search
_HIGH_HALF: Final = re.compile("[\ud800-\udbff]\\Z").search


class Pairs:
    """Joins the halves in a text that comes in pieces. `_half` waits for the next piece."""

    def __init__(self) -> None:
        self._half = ""

    def join(self, piece: str) -> str:
        """The piece with whole characters alone, without a half at its end; a half that has no
        other half is replaced."""
        if not piece:
            return ""
        text, self._half = self._half + piece, ""
        if text.isascii() or not _SURROGATE(text):
            return text
        if _HIGH_HALF(text):
            text, self._half = text[:-1], text[-1]
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

    def end(self) -> str:
        """What is left at the end of the text: the replacement of a half, or nothing."""
        half, self._half = self._half, ""
        return REPLACEMENT if half else ""
