"""Events as they are stored: the one place that maps stored JSON keys to fields and back."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from operator import attrgetter
from typing import Any, Final

from domain.events import EVENT_TYPES, Event, Json

_READERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "cost_usd": Decimal,
    "warnings": tuple,
    "context": tuple,
    "tags": tuple,
    "findings": tuple,
    "placeholders": tuple,
}
"""How a stored value becomes the field's type, where JSON has no such type."""


@dataclass(frozen=True, slots=True)
class _Form:
    """How an event type is stored: its field names by stored key, in the fields' order.

    `values` reads all fields of an event and is None where no field has another key. `readers` are
    the fields that JSON has no type for.
    """

    kind: type[Event]
    keys: Mapping[str, str]
    readers: tuple[tuple[str, Callable[[Any], Any]], ...]
    values: Callable[[Event], tuple[Any, ...]] | None


def _form(kind: type[Event]) -> _Form:
    keys = {str(each.metadata.get("stored_as", each.name)): each.name for each in fields(kind)}
    is_renamed = any(key != name for key, name in keys.items())
    return _Form(
        kind,
        keys=keys,
        readers=tuple((name, _READERS[name]) for name in keys.values() if name in _READERS),
        values=attrgetter(*keys.values()) if is_renamed else None,
    )


_FORMS: Final[Mapping[str, _Form]] = {name: _form(kind) for name, kind in EVENT_TYPES.items()}


def from_stored(name: str, state: Mapping[str, Json]) -> Event:
    """The event of type `name` from its stored JSON object.

    Raises KeyError for a type that is not in the vocabulary, TypeError for a key that the type
    does not have.
    """
    form = _FORMS[name]
    if form.values is None and not form.readers:
        return form.kind(**state)
    try:
        values = {form.keys[key]: value for key, value in state.items()}
    except KeyError as error:
        raise TypeError(f"{name} has no stored key {error}") from None
    for field_name, read in form.readers:
        if (value := values.get(field_name)) is not None:
            values[field_name] = read(value)
    return form.kind(**values)


def to_stored(event: Event) -> Event | dict[str, Any]:
    """What `orjson` writes as the event's stored JSON object, with its keys in the fields' order.

    That is the event itself, unless a field of its type is stored under another key.
    """
    form = _FORMS[type(event).__name__]
    if form.values is None:
        return event
    return dict(zip(form.keys, form.values(event), strict=True))


def stored_keys(kind: type[Event]) -> Mapping[str, str]:
    """The stored JSON keys of an event type, each with the field it fills, in the fields' order."""
    return _FORMS[kind.__name__].keys
