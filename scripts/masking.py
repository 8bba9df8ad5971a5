"""Write the fields that `domain/events.py` marks as text into `sql/functions/masked.sql`."""

import re
from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any, Final, get_args, get_origin, get_type_hints

from domain.events import ERASABLE, TEXT
from domain.stored_events import stored_keys

FILE: Final = Path(__file__).parent.parent / "sql" / "functions" / "masked.sql"
_ROWS: Final = re.compile(r"(?<=values\n)(.*?)(?=\n *\) as text_field)", re.DOTALL)


def blanks() -> dict[str, str]:
    """The stored keys that erasure masks, each with the JSON text that replaces its value.

    A key is masked in every event, so its blank must suit every type that has the key: null only
    where no type refuses it.
    """
    found: dict[str, set[str]] = {}
    for kind in ERASABLE:
        marked, plain = get_type_hints(kind, include_extras=True), get_type_hints(kind)
        for key, field in stored_keys(kind).items():
            if is_text(marked[field]):
                found.setdefault(key, set()).add(_blank(plain[field]))
    return {key: _common(found[key]) for key in sorted(found)}


def is_text(hint: Any) -> bool:
    """Whether a field of this type, or a part of the type, is marked as text."""
    if TEXT in getattr(hint, "__metadata__", ()):
        return True
    return any(is_text(part) for part in get_args(hint))


def _common(blanks: set[str]) -> str:
    (blank,) = blanks - {"null"} or {"null"}
    return blank


def _blank(hint: Any) -> str:
    if hint is Any or NoneType in get_args(hint):
        return "null"
    return {Mapping: "{}", tuple: "[]"}.get(get_origin(hint), '""')


def masked(text: str) -> str:
    """The text of `masked.sql` with a row for each marked key."""
    rows = ",\n".join(f"{' ' * 16}('{key}', '{blank}')" for key, blank in blanks().items())
    return _ROWS.sub(lambda _: rows, text)


def main() -> None:
    """Write the file."""
    FILE.write_text(masked(FILE.read_text()))


if __name__ == "__main__":
    main()
