"""The vocabulary: names, and that what is stored is what is read, now and later."""

from collections.abc import Mapping
from copy import copy
from dataclasses import MISSING, dataclass, fields, replace
from decimal import Decimal
from types import NoneType
from typing import Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.events import (
    EVENT_TYPES,
    AccountEvent,
    BuildEvent,
    Event,
    PlaceEvent,
    ProjectEvent,
    PromptEvent,
    RequestEvent,
    RunEvent,
    SessionEvent,
    SessionExpired,
)
from domain.stored_events import _form, from_stored, stored_keys, to_stored
from scripts import first_day

FIRST_DAY: dict[str, dict[str, Any]] = orjson.loads(first_day.FILE.read_bytes())
"""The least that was ever stored of each type. `make schema` adds a new type. A line of a type that
was ever released stays as it is, for that is the law."""

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda values: st.lists(values, max_size=4) | st.dictionaries(TEXTS, values, max_size=4),
    max_leaves=8,
)
MICROS = st.integers(0, 10**15).map(lambda micros: Decimal(micros).scaleb(-6))


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Whatever a field of this type may hold."""
    if kind is Any:
        return JSON
    if get_origin(kind) is Literal:
        return st.sampled_from(get_args(kind))
    if get_origin(kind) is Mapping:
        return st.dictionaries(TEXTS, TEXTS, max_size=4)
    if get_origin(kind) is tuple:
        return st.lists(TEXTS, max_size=4).map(tuple)
    if members := get_args(kind):
        return st.one_of([values(member) for member in members])
    strategies: dict[Any, st.SearchStrategy[Any]] = {
        str: TEXTS,
        int: st.integers(0, 2**53),
        bool: st.booleans(),
        Decimal: MICROS,
        NoneType: st.none(),
    }
    return strategies[kind]


def events(kind: type[Event]) -> st.SearchStrategy[Event]:
    hints = get_type_hints(kind)
    return st.builds(kind, **{field.name: values(hints[field.name]) for field in fields(kind)})


@given(st.sampled_from(sorted(EVENT_TYPES)).flatmap(lambda name: events(EVENT_TYPES[name])))
def test_an_event_is_read_as_it_was_stored(event: Event) -> None:
    stored = written(event)
    read = from_stored(type(event).__name__, orjson.loads(stored))
    assert read == event
    assert [type(value) for value in flat(read)] == [type(value) for value in flat(event)]
    assert written(read) == stored


def written(event: Event) -> bytes:
    return orjson.dumps(to_stored(event), default=str)


def flat(event: Event) -> list[Any]:
    return [getattr(event, field.name) for field in fields(event)]


@pytest.mark.parametrize("name", EVENT_TYPES)
def test_the_stored_keys_are_the_fields_under_their_stored_names(name: str) -> None:
    kind = EVENT_TYPES[name]
    event = from_stored(name, FIRST_DAY[name])
    assert list(orjson.loads(written(event))) == list(stored_keys(kind))
    assert list(stored_keys(kind).values()) == [field.name for field in fields(kind)]
    assert "schema_version" not in stored_keys(kind)


def test_an_event_with_slots_is_refused() -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class SessionRested(SessionExpired):
        note: str

    with pytest.raises(TypeError, match="SessionRested has slots"):
        _form(SessionRested)


def test_only_four_fields_are_stored_under_another_name() -> None:
    renamed = {
        (key, field)
        for kind in EVENT_TYPES.values()
        for key, field in stored_keys(kind).items()
        if key != field
    }
    assert renamed == {
        ("message_id", "reply_id"),
        ("epoch", "lease_id"),
        ("held_seconds", "reserved_seconds"),
        ("place", "offset"),
    }


def test_an_event_is_written_byte_for_byte_as_before_its_fields_were_renamed() -> None:
    event = from_stored("ReplyStarted", {**FIRST_DAY["ReplyStarted"], "epoch": 7})
    assert written(event) == (
        b'{"session_id":"s","message_id":"r","in_reply_to":"m","model":"x",'
        b'"reservation_id":"h","epoch":7}'
    )


def test_the_name_of_a_renamed_field_is_no_stored_key() -> None:
    state = dict(FIRST_DAY["ReplyCancelRequested"])
    state["reply_id"] = state.pop("message_id")
    with pytest.raises(TypeError):
        from_stored("ReplyCancelRequested", state)


@pytest.mark.parametrize("name", EVENT_TYPES)
def test_an_event_of_the_first_day_is_read_today(name: str) -> None:
    event = from_stored(name, FIRST_DAY[name])
    keys = stored_keys(EVENT_TYPES[name])
    assert {key: getattr(event, keys[key]) for key in FIRST_DAY[name]} == FIRST_DAY[name]


@pytest.mark.parametrize("name", EVENT_TYPES)
def test_a_field_that_came_later_is_optional(name: str) -> None:
    needed = {
        field.name
        for field in fields(EVENT_TYPES[name])
        if field.default is MISSING and field.default_factory is MISSING
    }
    assert needed == {stored_keys(EVENT_TYPES[name])[key] for key in FIRST_DAY[name]}


def test_no_type_was_ever_taken_out_and_each_new_one_is_written_down() -> None:
    assert set(FIRST_DAY) == set(EVENT_TYPES), "run make schema"


def test_a_new_type_is_written_down_and_no_other_line_changes() -> None:
    text = first_day.FILE.read_text()
    assert first_day.with_new_types(text) == text
    first, *lines = text.splitlines(keepends=True)
    assert '"ProjectRegistered"' in lines[0]
    without = first + "".join(lines[1:])
    added = orjson.loads(first_day.with_new_types(without))
    assert list(added)[:-1] == list(FIRST_DAY)[1:]
    assert added["ProjectRegistered"] == {"project_id": "x", "name": "x"}


@pytest.mark.parametrize("name", EVENT_TYPES)
def test_what_is_written_down_of_a_type_can_be_read(name: str) -> None:
    from_stored(name, first_day.least(EVENT_TYPES[name]))


def test_money_is_stored_as_a_decimal_and_not_as_a_float() -> None:
    state = {**FIRST_DAY["TimeConsumed"], "cost_usd": "0.000001"}
    event = from_stored("TimeConsumed", state)
    assert b'"cost_usd":"0.000001"' in written(event)
    assert from_stored("TimeConsumed", FIRST_DAY["TimeConsumed"]) == from_stored(
        "TimeConsumed", {**FIRST_DAY["TimeConsumed"], "cost_usd": None}
    )


def test_a_type_that_is_not_in_the_vocabulary_is_not_read() -> None:
    with pytest.raises(KeyError):
        from_stored("SessionForgotten", {})


def test_a_key_that_the_type_does_not_have_is_not_read() -> None:
    with pytest.raises(TypeError):
        from_stored("SessionArchived", {"session_id": "s", "mood": "good"})


def test_a_key_that_the_type_needs_cannot_be_left_out() -> None:
    state = dict(FIRST_DAY["ReplyStarted"])
    del state["message_id"]
    with pytest.raises(TypeError, match="'message_id'"):
        from_stored("ReplyStarted", state)


def test_reading_an_event_does_not_change_what_was_given() -> None:
    state = {**FIRST_DAY["ReplyStarted"], "epoch": 7}
    before = dict(state)
    from_stored("ReplyStarted", state)
    assert state == before


@pytest.mark.parametrize("name", EVENT_TYPES)
def test_an_event_that_was_read_is_like_one_that_was_made(name: str) -> None:
    kind = EVENT_TYPES[name]
    state = FIRST_DAY[name]
    read = from_stored(name, state)
    made = kind(**{stored_keys(kind)[key]: value for key, value in state.items()})
    assert read == made
    assert repr(read) == repr(made)
    assert vars(read) == vars(made)
    assert replace(read) == copy(read) == made


def test_an_event_never_changes() -> None:
    event = from_stored("SessionArchived", {"session_id": "s"})
    with pytest.raises(AttributeError):
        event.session_id = "t"  # type: ignore[misc, union-attr]


STREAMS = (
    ProjectEvent,
    SessionEvent,
    PlaceEvent,
    PromptEvent,
    BuildEvent,
    RunEvent,
    AccountEvent,
    RequestEvent,
)


def test_each_type_belongs_to_one_stream_and_is_known_by_its_name() -> None:
    kinds = [kind for union in STREAMS for kind in (get_args(union) or (union,))]
    assert len(kinds) == len(set(kinds)) == len(EVENT_TYPES)
    assert {name: kind.__name__ for name, kind in EVENT_TYPES.items()} == {
        name: name for name in EVENT_TYPES
    }
    assert set(kinds) == set(get_args(Event))


@pytest.mark.parametrize("name", EVENT_TYPES)
def test_an_event_is_a_fact_in_the_past_tense(name: str) -> None:
    assert name.endswith("ed")
    assert name.isidentifier()
    assert "_" not in name


@pytest.mark.parametrize("name", EVENT_TYPES)
def test_an_event_has_the_first_schema_version(name: str) -> None:
    """A changed meaning is a new name, so no version but the first is known."""
    assert EVENT_TYPES[name].schema_version == 1
    assert get_type_hints(EVENT_TYPES[name])["schema_version"] == ClassVar[int]


@pytest.mark.parametrize("name", EVENT_TYPES)
def test_no_field_is_a_float(name: str) -> None:
    hints = get_type_hints(EVENT_TYPES[name])
    assert all(float not in (hint, *get_args(hint)) for hint in hints.values())
    money = [hint for field, hint in hints.items() if field.endswith("_usd")]
    assert all(hint in (Decimal, Union[Decimal, None]) for hint in money)  # noqa: UP007
