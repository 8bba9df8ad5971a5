"""The timeline's pages: newest first, and by position to either side without a gap or a repeat."""

from collections.abc import AsyncIterator
from typing import Any, Final, cast

import pytest

from domain.events import (
    Event,
    ReplyCompleted,
    ReplyFailed,
    SessionOpened,
    SessionRenamed,
    SystemMessagePosted,
    UserMessagePosted,
)
from projections.projection import Connection
from projections.timeline import TIMELINE, Shown, TimelinePage, TimelineRow, page
from service.postgres import connections
from tests.projections.actions.append import new_events
from tests.projections.generated import Log, World, owning, writing
from tests.projections.test_every_projection import explained
from tests.sizes import size

MANY: Final = size(20_000, 300_000)


@pytest.fixture
async def log(url: str) -> AsyncIterator[Log]:
    async with writing(url) as opened:
        yield opened


@pytest.fixture
async def reader(url: str) -> AsyncIterator[Connection]:
    async with await connections.connect(url) as connection:
        yield connection


async def post(
    log: Log, *events: Event, tenant_id: str = "t1", project_id: str = "p1", session_id: str = "s1"
) -> None:
    stream_id = f"session-{session_id}"
    known = await log.store.stream(tenant_id, stream_id)
    await log.append([new_events(tenant_id, stream_id, len(known), events, project_id)])


def said(n: int) -> UserMessagePosted:
    return UserMessagePosted(
        session_id="s1", message_id=f"m{n}", user_id="u1", text=f"No. {n}", locale="en"
    )


OPENED: Final = SessionOpened(session_id="s1", project_id="p1", user_id="u1")
REPLY: Final = ReplyCompleted(
    session_id="s1",
    reply_id="r1",
    in_reply_to="m1",
    subtype="partial",
    mode="fix",
    data={"rootCause": "A typo"},
    duration_ms=1_500,
    billed_seconds=2,
    model="claude",
    tokens_used=30,
    version_id="v1",
    first_text_ms=400,
)


HIDDEN_TOO: Final = Shown(with_hidden=True)
PLANNED: Final = Shown(mode="plan")


def ids(found: TimelinePage) -> list[str]:
    return [row.item_id for row in found.rows]


# what a row shows --------------------------------------------------------------------------------


async def shown(reader: Connection, **choice: Any) -> dict[str, Any]:
    (row,) = (await page(reader, tenant_id="t1", project_id="p1", limit=10, **choice)).rows
    assert isinstance(row, TimelineRow)
    assert row.cursor.startswith(f"{row.position}.")
    drawn = {"recorded_at", "cursor"}
    return {name: getattr(row, name) for name in TimelineRow.__slots__ if name not in drawn}


PLAIN: Final[dict[str, Any]] = {
    "position": 1,
    "mode": "plan",
    "is_visible": True,
    "is_live": False,
    "session_id": "s1",
    "user_id": None,
    "chat_mode": None,
    "in_reply_to": None,
    "locale": None,
    "source": None,
    "session_mode": None,
    "text": None,
    "data": None,
    "subtype": None,
    "tokens_used": None,
    "duration_ms": None,
    "first_text_ms": None,
    "billed_seconds": None,
    "reason": None,
    "version_id": None,
    "build_id": None,
    "converted_from_session_id": None,
    "build": None,
    "run": None,
    "request": None,
    "is_convertible": False,
}


@pytest.mark.parametrize(
    ("event", "row"),
    [
        (
            said(1),
            {
                "item_id": "m1",
                "kind": "user_message",
                "user_id": "u1",
                "text": "No. 1",
                "locale": "en",
            },
        ),
        (
            REPLY,
            {
                "item_id": "r1",
                "kind": "reply",
                "chat_mode": "fix",
                "in_reply_to": "m1",
                "locale": "en",
                "data": {"rootCause": "A typo"},
                "subtype": "partial",
                "tokens_used": 30,
                "duration_ms": 1_500,
                "first_text_ms": 400,
                "billed_seconds": 2,
                "version_id": "v1",
            },
        ),
        (
            ReplyFailed(
                session_id="s1",
                reply_id="r1",
                in_reply_to="m1",
                code="model_error",
                duration_ms=900,
                locale="ar-EG",
            ),
            {
                "item_id": "r1",
                "kind": "reply",
                "data": {"code": "model_error"},
                "subtype": "error",
                "duration_ms": 900,
                "in_reply_to": "m1",
                "locale": "ar-EG",
                "billed_seconds": 0,
            },
        ),
        (
            SystemMessagePosted(
                session_id="s1", message_id="y1", template="welcome", variables={"name": "Ann"}
            ),
            {
                "item_id": "y1",
                "kind": "system_message",
                "data": {
                    "type": "message",
                    "template": "welcome",
                    "contractVersion": "1.0",
                    "variables": {"name": "Ann"},
                },
            },
        ),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_a_message_is_an_item(
    log: Log, reader: Connection, event: Event, row: dict[str, Any]
) -> None:
    await post(log, event)
    assert await shown(reader) == PLAIN | row


@pytest.mark.parametrize(
    ("event", "row"),
    [
        (
            OPENED,
            {
                "kind": "session",
                "user_id": "u1",
                "session_mode": "plan",
                "data": {"event": "SessionOpened"},
            },
        ),
        (
            SessionRenamed(session_id="s1", name="Login"),
            {"kind": "session", "data": {"event": "SessionRenamed", "name": "Login"}},
        ),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_changes_of_a_session_are_shown_on_request(
    log: Log, reader: Connection, event: Event, row: dict[str, Any]
) -> None:
    await post(log, event)
    assert (await page(reader, tenant_id="t1", project_id="p1", limit=10)).rows == []
    hidden = {"item_id": "1", "is_visible": False}
    assert await shown(reader, shown=HIDDEN_TOO) == PLAIN | hidden | row


async def test_hidden_messages_of_the_service_are_shown_on_request(
    log: Log, reader: Connection
) -> None:
    unseen = SystemMessagePosted(
        session_id="s1", message_id="y1", template="note", variables={}, visible=False
    )
    await post(log, unseen, said(1))
    found = await page(reader, tenant_id="t1", project_id="p1", limit=10)
    assert ids(found) == ["m1"]
    found = await page(reader, tenant_id="t1", project_id="p1", limit=10, shown=HIDDEN_TOO)
    assert ids(found) == ["m1", "y1"]


# pages -------------------------------------------------------------------------------------------


async def test_an_empty_timeline_is_an_empty_page(reader: Connection) -> None:
    places: tuple[dict[str, Any], ...] = ({}, {"before": 5}, {"after": 5})
    for place in places:
        found = await page(reader, tenant_id="t1", project_id="p1", limit=10, **place)
        assert found == TimelinePage(rows=[], has_more=False)


async def test_the_newest_come_first(log: Log, reader: Connection) -> None:
    await post(log, *(said(n) for n in range(1, 8)))
    found = await page(reader, tenant_id="t1", project_id="p1", limit=3)
    assert ids(found) == ["m7", "m6", "m5"]
    assert found.has_more


@pytest.mark.parametrize(
    ("offset", "expected", "has_more"),
    [
        (0, ["m7", "m6", "m5"], True),
        (3, ["m4", "m3", "m2"], True),
        (4, ["m3", "m2", "m1"], False),
        (6, ["m1"], False),
        (7, [], False),
    ],
)
async def test_an_offset_passes_over_the_newest(
    log: Log, reader: Connection, offset: int, expected: list[str], has_more: bool
) -> None:
    await post(log, *(said(n) for n in range(1, 8)))
    found = await page(reader, tenant_id="t1", project_id="p1", limit=3, offset=offset)
    assert (ids(found), found.has_more) == (expected, has_more)


@pytest.mark.parametrize(
    ("place", "expected", "has_more"),
    [
        ({"before": 8}, ["m7", "m6", "m5"], True),
        ({"before": 5}, ["m4", "m3", "m2"], True),
        ({"before": 4}, ["m3", "m2", "m1"], False),
        ({"before": 1}, [], False),
        ({"after": 0}, ["m3", "m2", "m1"], True),
        ({"after": 3}, ["m6", "m5", "m4"], True),
        ({"after": 4}, ["m7", "m6", "m5"], False),
        ({"after": 7}, [], False),
    ],
)
async def test_a_position_has_what_is_next_to_it_on_either_side(
    log: Log, reader: Connection, place: dict[str, Any], expected: list[str], has_more: bool
) -> None:
    """Newest first in both directions; `has_more` is about the direction that was asked for."""
    await post(log, *(said(n) for n in range(1, 8)))
    found = await page(reader, tenant_id="t1", project_id="p1", limit=3, **place)
    assert (ids(found), found.has_more) == (expected, has_more)


@pytest.mark.parametrize("with_hidden", [False, True])
@pytest.mark.parametrize("mode", [None, "plan"])
async def test_pages_walk_the_whole_timeline_without_gap_or_repeat(
    log: Log, reader: Connection, with_hidden: bool, mode: Any
) -> None:
    await log.append(World(33).appends(2_400))
    asked: dict[str, Any] = {
        "tenant_id": "t1",
        "project_id": "shop",
        "shown": Shown(mode=mode, with_hidden=with_hidden),
    }
    whole = (await page(reader, limit=10_000, **asked)).rows
    assert len(whole) > 20
    assert [row.position for row in whole] == sorted((r.position for r in whole), reverse=True)
    for limit in (1, 3, 7, 50):
        assert await walked_back(reader, limit, asked) == whole
        assert await walked_forth(reader, limit, asked) == whole
        assert await leafed_through(reader, limit, asked) == whole


async def walked_back(reader: Connection, limit: int, asked: dict[str, Any]) -> list[TimelineRow]:
    """The rows of pages of this size, each before the last row of the page before."""
    rows: list[TimelineRow] = []
    found = await page(reader, limit=limit, **asked)
    while found.has_more:
        assert len(found.rows) == limit
        rows += found.rows
        found = await page(reader, limit=limit, before=rows[-1].position, **asked)
    return rows + found.rows


async def walked_forth(reader: Connection, limit: int, asked: dict[str, Any]) -> list[TimelineRow]:
    """The rows of pages of this size from the first item on, newest first."""
    rows: list[TimelineRow] = []
    found = await page(reader, limit=limit, after=0, **asked)
    while found.has_more:
        assert len(found.rows) == limit
        rows = found.rows + rows
        found = await page(reader, limit=limit, after=rows[0].position, **asked)
    return found.rows + rows


async def leafed_through(
    reader: Connection, limit: int, asked: dict[str, Any]
) -> list[TimelineRow]:
    """The rows of pages of this size by offset."""
    rows: list[TimelineRow] = []
    found = await page(reader, limit=limit, **asked)
    while found.has_more:
        rows += found.rows
        found = await page(reader, limit=limit, offset=len(rows), **asked)
    return rows + found.rows


async def test_later_items_do_not_shift_a_page_by_position(log: Log, reader: Connection) -> None:
    await post(log, *(said(n) for n in range(1, 8)))
    first = await page(reader, tenant_id="t1", project_id="p1", limit=3)
    await post(log, said(8), said(9))
    second = await page(
        reader, tenant_id="t1", project_id="p1", limit=3, before=first.rows[-1].position
    )
    assert ids(first) + ids(second) == ["m7", "m6", "m5", "m4", "m3", "m2"]
    newer = await page(
        reader, tenant_id="t1", project_id="p1", limit=3, after=first.rows[0].position
    )
    assert (ids(newer), newer.has_more) == (["m9", "m8"], False)


async def test_other_tenants_and_projects_are_not_seen(log: Log, reader: Connection) -> None:
    await post(log, said(1))
    await post(log, said(2), tenant_id="t2")
    await post(log, said(3), project_id="p2", session_id="s2")
    for place in ({}, {"before": 100}, {"after": 0}, {"shown": PLANNED}):
        asked: Any = {"limit": 10} | place
        assert ids(await page(reader, tenant_id="t1", project_id="p1", **asked)) == ["m1"]
        assert ids(await page(reader, tenant_id="t2", project_id="p1", **asked)) == ["m2"]
        assert ids(await page(reader, tenant_id="t1", project_id="p2", **asked)) == ["m3"]
        assert ids(await page(reader, tenant_id="t3", project_id="p1", **asked)) == []


async def test_a_mode_has_its_own_pages(url: str, log: Log, reader: Connection) -> None:
    """What is built is written by another hand; here its rows are put in as they would be."""
    await post(log, *(said(n) for n in range(1, 8)))
    async with owning(url) as owner:
        await owner.execute("update app.timeline set mode = 'build' where position % 2 = 0")
    for mode, expected in (("plan", ["m7", "m5", "m3", "m1"]), ("build", ["m6", "m4", "m2"])):
        asked: Any = {"tenant_id": "t1", "project_id": "p1", "shown": Shown(mode=cast(Any, mode))}
        assert ids(await page(reader, limit=10, **asked)) == expected
        assert ids(await page(reader, limit=2, before=5, **asked)) == [
            each for each in expected if each < "m5"
        ]
        found = await page(reader, limit=1, after=1, **asked)
        assert (ids(found), found.has_more) == ([[e for e in expected if e > "m1"][-1]], True)


# what a page costs -------------------------------------------------------------------------------

FILL: Final = """
insert into app.timeline (
    position, tenant_id, project_id, mode, item_id, kind, is_visible, is_live, session_id,
    text, recorded_at
)
select
    n, 't1', 'p' || n % 2, 'plan', 'm' || n, 'user_message', n % 10 > 1, false, 's1',
    repeat('x', 300), now()
from generate_series({first}, {last}) as n
"""
PLACES: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "newest": ("page", {}),
    "newest of a mode": ("page", {"mode": "plan"}),
    "in the middle": ("page", {"before": MANY // 2}),
    "oldest": ("page_after", {"after": 0}),
    "after the middle": ("page_after", {"mode": "plan", "after": MANY // 2}),
}


async def buffers(owner: Connection, name: str, place: dict[str, Any]) -> int:
    """How many blocks a page takes to read, counted by the server."""
    plan = await explained(
        owner, TIMELINE.statements[name].decode(), options="analyze, buffers, ", **place
    )
    return int(plan["Shared Hit Blocks"]) + int(plan["Shared Read Blocks"])


async def test_a_page_costs_the_same_wherever_it_lies_and_however_many_there_are(url: str) -> None:
    async with owning(url) as owner:
        await owner.execute(FILL.format(first=1, last=100).encode())
        await owner.execute("vacuum analyze app.timeline")
        few = {at: await buffers(owner, name, {}) for at, (name, _) in PLACES.items()}
        await owner.execute(FILL.format(first=101, last=MANY).encode())
        await owner.execute("vacuum analyze app.timeline")
        many = {at: await buffers(owner, *asked) for at, asked in PLACES.items()}
    for at in PLACES:
        assert many[at] <= 3 * few[at], (at, few, many)
