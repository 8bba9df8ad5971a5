"""A verification finds every kind of fault of a log and of a read model, and none in a good log."""

from typing import Any, Final

import orjson
import pytest

from domain.events import EVENT_TYPES, PromptErased
from projections import PROJECTIONS
from projections.projection import Connection
from service.eventlog.stream_ids import ACCOUNT, DECIDERS, PROJECT, Decider
from service.eventlog.transactions import decode
from service.replay import verification
from service.replay.verification import FIRST, checks
from tests.projections.actions.append import new_events
from tests.projections.generated import World, background, owning, writing
from tests.service.eventlog.logs import event

TEXTS: Final = """
    create function app.texts(bytea) returns bytea language sql as
    $$ select replace(convert_from($1, 'UTF8'), '""', '"kept"')::bytea $$
"""
DAMAGE: Final = (
    (
        "delete from app.event where stream_id = 'gone'",
        "positions",
        "positions between are missing",
    ),
    (
        "update app.event set version = 9 where stream_id = 'odd' and version = 2",
        "versions",
        "version 9 of odd follows version 1",
    ),
    (
        "update app.event set version = 4 where stream_id = 'late'",
        "versions",
        "version 4 of late follows version None",
    ),
    (
        "update app.event set append_id = (select append_id from app.event where position = 1)"
        " where stream_id = 'split'",
        "appends",
        "positions 1 to {split} are not one append",
    ),
    (
        "update app.event set state = app.texts(state) where position ="
        " (select min(event.position) from app.event join app.event as erased"
        " using (tenant_id, stream_id) where erased.type = 'SessionDeleted'"
        " and event.type = 'UserMessagePosted')",
        "erasures",
        "has texts that the event at",
    ),
    (
        "update app.event set state = '{\"user_id\": 1}' where position = 1",
        "events",
        "cannot be read (TypeError)",
    ),
    (
        "update app.event set state = 'no JSON' where position = 2",
        "events",
        "cannot be read (JSONDecodeError)",
    ),
    (
        "update app.event set project_id = 'other' where position = 3",
        "events",
        "and stored with other",
    ),
    (
        "update app.event set schema_version = 9 where position = 4",
        "events",
        "has the schema version 9, unknown here",
    ),
    (
        "update app.event set stream_id = 'session-x', version = 1 where stream_id = 'prompt-x'",
        "events",
        "PromptErased does not belong to the stream session-x",
    ),
    (
        "update app.snapshot set state ="
        " replace(convert_from(state, 'UTF8'), '\"credited\":', '\"credited\":1')::bytea",
        "snapshots",
        "{account}: the snapshot at version {version} differs from the log",
    ),
    (
        "update app.snapshot set text_version = text_version + 1 where type like 'project/%'",
        "snapshots",
        "{project}: the snapshot at version {at} differs from the log",
    ),
    (
        "update app.accounts set bonus_seconds = bonus_seconds + 1",
        "read model accounts",
        "{accounts} rows differ from the log",
    ),
)
"""Each damage with the check that finds it, and what the check says of it."""


def test_every_type_has_a_stream() -> None:
    assert DECIDERS.keys() == EVENT_TYPES.keys()


async def fill(url: str) -> None:
    """A generated log, with events of another application in it."""
    async with writing(url) as log:
        await log.append(World(9).appends(250))
        others = [event("odd", n, state=b"\xff") for n in (0, 1, 2)]
        await log.append([others, [event("gone")], [event("late")], [event("split")]])
        erased = PromptErased(prompt_id="x")
        await log.append([new_events("t1", "prompt-x", 0, [erased], "p")])


async def keep_snapshot(connection: Connection, decider: Decider[Any, Any]) -> tuple[str, int]:
    """Keep a snapshot of the longest stream of a kind; returns the stream and its version."""
    found = await connection.execute(
        "select tenant_id, stream_id, max(version) from app.event where stream_id like %s"
        " group by tenant_id, stream_id order by count(*) desc limit 1",
        [f"{decider.kind}-%"],
    )
    tenant_id, stream_id, version = await found.fetchone() or ("", "", 0)
    events = await connection.execute(
        "select version, type, state from app.event where tenant_id = %s and stream_id = %s"
        " order by version",
        [tenant_id, stream_id],
    )
    assert decider.snapshots is not None
    rows = await events.fetchall()
    state = decider.fold([decode(*each[1:]) for each in rows], decider.initial)
    texts = [at for at, kind, _ in rows if kind in decider.snapshots.texts]
    await connection.execute(
        "insert into app.snapshot (tenant_id, stream_id, version, type, state, text_version)"
        " values (%s, %s, %s, %s, %s, %s)",
        [
            tenant_id,
            stream_id,
            version,
            decider.snapshots.form,
            orjson.dumps(decider.snapshots.bare(state)),
            max(texts, default=None),
        ],
    )
    return stream_id, version


async def found(connection: Connection) -> dict[str, tuple[str, ...]]:
    """What each check found."""
    return {each.name: each.faults async for each in checks(connection, lambda _: _no_progress)}


def _no_progress(_at: int, _end: int) -> None:
    pass


async def test_every_kind_of_fault_is_found_and_a_good_log_has_none(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "STEP", 3)  # so that streams are folded in several steps
    await fill(url)
    names = {"positions", "versions", "appends", "erasures", "events", "snapshots"}
    names |= {f"read model {each.name}" for each in PROJECTIONS}
    async with owning(url) as connection:
        await background(connection)
        account, version = await keep_snapshot(connection, ACCOUNT)
        project, at = await keep_snapshot(connection, PROJECT)
        good = await found(connection)
        assert good == dict.fromkeys(names, ())
        await connection.execute("alter table app.event disable trigger user")
        await connection.execute(TEXTS.encode())
        numbers = await connection.execute(
            "select (select position from app.event where stream_id = 'split'),"
            " (select count(*) from app.accounts)"
        )
        split, accounts = await numbers.fetchone() or (0, 0)
        for damage, _, _ in DAMAGE:
            done = await connection.execute(damage.encode())
            assert done.rowcount >= 1, damage
        faults = await found(connection)
    for damage, check, said in DAMAGE:
        wanted = said.format(
            split=split, accounts=accounts, account=account, version=version, project=project, at=at
        )
        assert any(wanted in fault for fault in faults[check]), (damage, faults[check])
    assert all(len(each) <= FIRST for each in faults.values())
