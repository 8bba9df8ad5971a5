"""Events as they are stored: the one place that maps stored JSON keys to fields and back."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields
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


_MOST_SHAPES: Final = 64
"""How many sets of keys are remembered for an event type, at most. The service itself writes one
set of keys for each type."""

_made: Final = object.__new__
_set: Final = object.__setattr__


@dataclass(frozen=True, slots=True)
class _Form:
    """How an event type is stored: its field names by stored key, in the fields' order.

    `blank` has all fields in their order, with their defaults. `needed` are the stored keys of the
    fields without a default. `renamed` has each field whose stored key is not its name, after that
    key, and `readers` has the fields that JSON has no type for. `values` reads all fields of an
    event and is None where no field is renamed. `shapes` are the sets of keys that were checked.
    """

    kind: type[Event]
    keys: Mapping[str, str]
    blank: dict[str, Any]
    needed: frozenset[str]
    renamed: tuple[tuple[str, str], ...]
    readers: tuple[tuple[str, Callable[[Any], Any]], ...]
    values: Callable[[Event], tuple[Any, ...]] | None
    shapes: set[tuple[str, ...]] = field(default_factory=set[tuple[str, ...]])

    def require_keys(self, state: Mapping[str, Json]) -> None:
        """Raises TypeError unless the state has all keys that it needs and no unknown one."""
        if unknown := state.keys() - self.keys.keys():
            raise TypeError(f"{self.kind.__name__} has no stored key {_listed(unknown)}")
        if missing := self.needed - state.keys():
            raise TypeError(f"{self.kind.__name__} needs the stored key {_listed(missing)}")
        if len(self.shapes) < _MOST_SHAPES:
            self.shapes.add(tuple(state))


def _listed(keys: Iterable[str]) -> str:
    return ", ".join(map(repr, sorted(keys)))


def _form(kind: type[Event]) -> _Form:
    if "__slots__" in vars(kind):
        # `from_stored` sets the dict of an event. orjson crashes at slots that nobody has set.
        raise TypeError(f"{kind.__name__} has slots: declare the event without `slots=True`")
    keys = {str(each.metadata.get("stored_as", each.name)): each.name for each in fields(kind)}
    renamed = tuple((key, name) for key, name in keys.items() if key != name)
    return _Form(
        kind,
        keys=keys,
        blank={each.name: each.default for each in fields(kind)},
        needed=frozenset(
            key for key, each in zip(keys, fields(kind), strict=True) if each.default is MISSING
        ),
        renamed=renamed,
        readers=tuple((name, _READERS[name]) for name in keys.values() if name in _READERS),
        values=attrgetter(*keys.values()) if renamed else None,
    )


_FORMS: Final[Mapping[str, _Form]] = {name: _form(kind) for name, kind in EVENT_TYPES.items()}


def from_stored(name: str, state: Mapping[str, Json]) -> Event:
    """The event of type `name` from its stored JSON object.

    Raises KeyError for a type that is not in the vocabulary, TypeError for a key that the type
    does not have, and for one that it needs.

    The event gets its fields as one dict. The `__init__` of a frozen dataclass sets them one by
    one, which takes three times as long: a long session has a thousand events, a replay millions.
    Keys that were checked once are not checked again.
    """
    form = _FORMS[name]
    if tuple(state) not in form.shapes:
        form.require_keys(state)
    values = {**form.blank, **state}
    for key, field_name in form.renamed:
        if key in state:
            values[field_name] = values.pop(key)
    for field_name, read in form.readers:
        if values[field_name] is not None:
            values[field_name] = read(values[field_name])
    event: Event = _made(form.kind)
    _set(event, "__dict__", values)
    return event


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
