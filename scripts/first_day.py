"""Write the least that is stored of each new event type into `tests/domain/first_day.json`."""

import json
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

from domain.events import EVENT_TYPES, Event
from domain.stored_events import stored_keys

FILE: Final = Path(__file__).parent.parent / "tests" / "domain" / "first_day.json"


def least(kind: type[Event]) -> dict[str, Any]:
    """A value for each stored key without which an event of this type cannot be read."""
    hints = get_type_hints(kind)
    optional = {
        each.name
        for each in fields(kind)
        if each.default is not MISSING or each.default_factory is not MISSING
    }
    needed = {key: name for key, name in stored_keys(kind).items() if name not in optional}
    return {key: _value(hints[name]) for key, name in needed.items()}


def _value(hint: Any) -> Any:
    if get_origin(hint) is Literal:
        return get_args(hint)[0]
    if get_origin(hint) is Mapping:
        return {}
    return {str: "x", int: 1, bool: True}.get(hint)


def with_new_types(text: str) -> str:
    """The text of the file with a line for each type that has none. Other lines stay."""
    known: dict[str, Any] = json.loads(text)
    new = {name: least(kind) for name, kind in EVENT_TYPES.items() if name not in known}
    lines = [f"  {json.dumps(name)}: {json.dumps(row)}" for name, row in (known | new).items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main() -> None:
    """Write the file anew."""
    FILE.write_text(with_new_types(FILE.read_text()))


if __name__ == "__main__":
    main()
