"""SQL reads stored JSON by key names. Every name in SQL is compared with the events' fields."""

import re
from collections.abc import Mapping
from dataclasses import MISSING, fields
from decimal import Decimal
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest

import sql
from domain.events import (
    ERASABLE,
    ERASURES,
    EVENT_TYPES,
    MaterialErased,
    ProjectErasureRequested,
    PromptErased,
    PromptErasureRequested,
    RunErased,
    SessionDeleted,
)
from domain.stored_events import stored_keys
from projections import PROJECTIONS
from projections.projection import Projection
from scripts import masking

SET_ASIDE = {
    "ReplyCancelRequested": "the end of the reply says why it came",
    "MessageAdmitted": "it is counted; the message itself is shown",
    "SessionPlaced": "the session itself is shown",
    "RunDiscussed": "the material itself is shown",
    "ImprovementAccepted": "the version that it became is shown, with its source",
    "RequestCompleted": "a repeated request is answered from its own stream",
}
"""The types that no read model shows, with the reason."""

REMOVING = (
    SessionDeleted,
    MaterialErased,
    ProjectErasureRequested,
    PromptErasureRequested,
    PromptErased,
    RunErased,
)
"""The types that remove many rows together."""

RECORD = re.compile(r"jsonb?_to_record\(.*?\) as state \((.*?)\)\n", re.DOTALL)
COLUMN = re.compile(r"\s*(\w+) (\w+)\s*")


def apply_of(projection: Projection) -> str:
    text = projection.statements["apply"].decode()
    return re.sub(r"--.*", "", text)


def record_columns(projection: Projection) -> set[tuple[str, str]]:
    """The keys that the projection's rules read from stored JSON, with their SQL types."""
    records = RECORD.findall(apply_of(projection))
    assert len(records) == apply_of(projection).count("_to_record(")
    found: set[tuple[str, str]] = set()
    for record in records:
        for column in record.split(","):
            match = COLUMN.fullmatch(column)
            assert match is not None, column
            found.add((match[1], match[2]))
    return found


def handled(projection: Projection) -> list[str]:
    return [kind.__name__ for kind in projection.handles]


def sql_types(hint: Any) -> set[str]:
    """The SQL types as which a field of this Python type may be read."""
    if hint is Any or get_origin(hint) is Mapping:
        return {"jsonb", "json"}
    if get_origin(hint) is Literal:
        return {"text"}
    if get_origin(hint) is tuple:
        return {"jsonb", "json"}
    if members := [member for member in get_args(hint) if member is not NoneType]:
        return set.intersection(*map(sql_types, members))
    plain: dict[Any, set[str]] = {
        str: {"text"},
        int: {"integer", "bigint"},
        bool: {"boolean"},
        Decimal: {"numeric"},
    }
    return plain[hint]


ids = pytest.mark.parametrize("projection", PROJECTIONS, ids=lambda projection: projection.name)


@ids
def test_a_read_model_handles_exactly_the_types_that_its_rules_name(
    projection: Projection,
) -> None:
    quoted = set(re.findall(r"'(\w+)'", apply_of(projection)))
    named = {name for name in quoted if name[:1].isupper() and not name.startswith("UTF")}
    assert named <= set(EVENT_TYPES), "a name without an event"
    assert named == set(handled(projection))
    assert len(handled(projection)) == len(set(handled(projection)))


def test_every_type_is_shown_somewhere_or_set_aside_for_a_reason() -> None:
    shown = {name for projection in PROJECTIONS for name in handled(projection)}
    assert shown | set(SET_ASIDE) == set(EVENT_TYPES)
    assert not shown & set(SET_ASIDE)


@ids
def test_every_key_that_is_read_is_a_field_of_a_type_that_is_handled(
    projection: Projection,
) -> None:
    known = {key for kind in projection.handles for key in stored_keys(kind)}
    assert {key for key, _ in record_columns(projection)} <= known


@ids
def test_every_key_is_read_as_its_field_s_type(projection: Projection) -> None:
    for key, sql_type in record_columns(projection):
        for kind in projection.handles:
            if field := stored_keys(kind).get(key):
                assert sql_type in sql_types(get_type_hints(kind)[field]), (kind, key)


@ids
def test_every_key_that_is_used_is_declared(projection: Projection) -> None:
    used = set(re.findall(r"\bstate\.(\w+)", apply_of(projection)))
    used -= {"state"}
    declared = {key for key, _ in record_columns(projection)}
    assert used - declared == ({"is_removed"} & used)
    bare = re.findall(r"\b(\w+)\b", RECORD.sub("", apply_of(projection)))
    assert declared <= set(bare), "declared and not used"


@ids
def test_a_row_s_identity_is_in_every_type_that_makes_or_changes_it(
    projection: Projection,
) -> None:
    """The rules find a row by keys of each event's JSON, so these keys must not be optional."""
    table = projection.statements["table"].decode()
    match = re.search(r"primary key \((.*?)\)|(\w+) +bigint +not null primary key", table)
    assert match is not None
    keys = {key.strip() for key in (match[1] or match[2]).split(",")}
    recorded = {key for key, _ in record_columns(projection)}
    keys -= {"tenant_id", "position", "project_id"} - recorded  # the log's own columns
    keys -= {"private_to"}  # by the first event of the stream
    assert keys <= recorded
    for kind in projection.handles:
        needed = {field.name for field in fields(kind) if field.default is MISSING}
        filled = {stored_keys(kind).get(key, key) for key in keys}
        assert filled <= needed or kind in REMOVING, kind


def test_every_read_model_has_a_table_and_rules() -> None:
    for projection in PROJECTIONS:
        assert {"table", "apply"} <= set(projection.statements)
        assert bool(projection.views) == ("view" in projection.statements)
        assert f"create table {projection.name} (" in projection.statements["table"].decode()
        assert f"function apply_{projection.name}(" in projection.statements["apply"].decode()
    names = [projection.name for projection in PROJECTIONS]
    files = Path(sql.__path__[0], "projections").glob("*.sql")
    assert sorted(names) == sorted(file.stem for file in files), "see projections/__init__.py"


# erasure -----------------------------------------------------------------------------------------

IDS_AND_WORDS = {
    *("project_id", "session_id", "user_id", "message_id", "in_reply_to", "reservation_id"),
    *("build_id", "converted_from_session_id", "worker_id", "event_id", "version_id"),
    *("locale", "model", "at", "modified_at", "template", "type", "contract_version"),
    *("reason", "code", "warnings", "viewed_version_id", "viewed_build_id"),
    *("share_id", "token_digest", "expires_at", "run_id", "step_id", "candidate_id", "prompt_id"),
    *("prompt_version_id", "forked_from_session_id", "forked_from_message_id", "kind"),
    *("source_session_id", "source_message_id"),
}
"""Stored keys of string fields that are not text: ids, times, and words from lists of ours."""


def may_be_written(hint: Any) -> bool:
    """Whether a field of this type can hold a text of a user."""
    if hint is Any or hint is str or get_origin(hint) in (Mapping, tuple):
        return not get_args(hint) or any(may_be_written(each) for each in get_args(hint)[:1])
    if get_origin(hint) is Literal:
        return False
    return any(may_be_written(each) for each in get_args(hint))


def test_every_string_field_of_an_erasable_stream_is_marked_as_text_or_known_not_to_be() -> None:
    strings: set[str] = set()
    for kind in ERASABLE:
        marked, plain = get_type_hints(kind, include_extras=True), get_type_hints(kind)
        for key, field in stored_keys(kind).items():
            if may_be_written(plain[field]):
                strings.add(key)
                assert masking.is_text(marked[field]) != (key in IDS_AND_WORDS), (kind, key)
            else:
                assert not masking.is_text(marked[field]), (kind, key)
    assert set(masking.blanks()) == strings - IDS_AND_WORDS
    assert "text" in strings, "the control"
    assert strings >= IDS_AND_WORDS, "named, but no field"


def function(name: str) -> str:
    return next(each.text for each in sql.functions() if each.name == name).decode()


def test_the_database_masks_exactly_the_marked_fields() -> None:
    rows = re.findall(r"\('(\w+)', '(.*?)'\)", function("masked"))
    assert dict(rows) == masking.blanks(), "run make schema"
    assert len(rows) == len(dict(rows))
    assert masking.masked(function("masked")) == function("masked"), "run make schema"
    assert masking.masked("values\n  old\n  ) as text_field") != "values\n  old\n  ) as text_field"


def test_the_database_knows_the_events_that_erase_their_stream() -> None:
    match = re.search(r"select array\[(.*?)\]", function("erasures"), re.DOTALL)
    assert match is not None
    assert re.findall(r"'(\w+)'", match[1]) == [kind.__name__ for kind in ERASURES]
    assert set(ERASURES) <= set(ERASABLE)
