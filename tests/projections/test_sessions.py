"""The sessions as they are read: which one is active, and what it was billed."""

from collections.abc import AsyncIterator
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

import pytest

from domain.events import (
    Event,
    ReplyCompleted,
    ReplyFailed,
    ReplyStarted,
    SessionArchived,
    SessionConverted,
    SessionDeleted,
    SessionEvent,
    SessionExpired,
    SessionModeChanged,
    SessionOpened,
    SessionRenamed,
    SystemMessagePosted,
    TimeConsumed,
    TimeCredited,
    TimeReserved,
    UserMessagePosted,
)
from domain.modes import MODES
from projections.projection import Connection
from projections.sessions import SESSIONS, SessionRow, active_session, session
from service.postgres import connections
from tests.projections.actions.append import new_events
from tests.projections.generated import Log, owning, writing
from tests.projections.test_every_projection import explained, nodes


@pytest.fixture
async def log(url: str) -> AsyncIterator[Log]:
    async with writing(url) as opened:
        yield opened


@pytest.fixture
async def reader(url: str) -> AsyncIterator[Connection]:
    async with await connections.connect(url) as connection:
        yield connection


async def post(log: Log, *events: Event, tenant_id: str = "t1") -> datetime:
    """Append to the stream of the events' session, or of its user's account; answers when."""
    stream_id = f"session-{getattr(events[0], 'session_id', '')}"
    if isinstance(events[0], TimeCredited | TimeReserved | TimeConsumed):
        stream_id = f"account-{tenant_id}-u1"
    version = len(await log.store.stream(tenant_id, stream_id))
    appended = await log.writer.append(new_events(tenant_id, stream_id, version, events, "p1"))
    return appended.recorded_at


def opened(session_id: str = "s1", project_id: str = "p1", user_id: str = "u1") -> SessionOpened:
    return SessionOpened(session_id=session_id, project_id=project_id, user_id=user_id)


def said(message_id: str = "m1", session_id: str = "s1") -> UserMessagePosted:
    return UserMessagePosted(
        session_id=session_id, message_id=message_id, user_id="u1", text="Why?", locale="en"
    )


def consumed(reservation_id: str, **values: Any) -> TimeConsumed:
    plain: dict[str, Any] = {
        "user_id": "u1",
        "reservation_id": reservation_id,
        "project_id": "p1",
        "session_id": "s1",
        "reply_id": "r1",
        "operation": "plan_fix",
        "seconds": 7,
        "reserved_seconds": 10,
        "model": "claude",
        "prices": "2026-11",
    }
    return TimeConsumed(**plain | values)


def reserved(reservation_id: str) -> TimeReserved:
    return TimeReserved(
        user_id="u1", reservation_id=reservation_id, session_id="s1", reply_id="r1", seconds=10
    )


CREDITED: Final = TimeCredited(user_id="u1", credit_id="c1", seconds=1_000, kind="paid")
COMPLETED: Final = ReplyCompleted(
    session_id="s1",
    reply_id="r1",
    in_reply_to="m1",
    subtype="success",
    mode="general",
    data={},
    duration_ms=1,
    billed_seconds=7,
    model="claude",
)
FAILED: Final = ReplyFailed(
    session_id="s1", reply_id="r1", in_reply_to="m1", code="model_error", duration_ms=1
)
STARTED: Final = ReplyStarted(
    session_id="s1", reply_id="r1", in_reply_to="m1", model="claude", reservation_id="h1"
)
SYSTEM: Final = SystemMessagePosted(
    session_id="s1", message_id="y1", template="welcome", variables={}
)


async def row(reader: Connection, session_id: str = "s1") -> SessionRow:
    found = await session(reader, tenant_id="t1", session_id=session_id)
    assert found is not None
    return found


async def active(reader: Connection, **choice: str) -> str | None:
    asked = {"tenant_id": "t1", "project_id": "p1", "user_id": "u1"} | choice
    return await active_session(reader, **asked, idle_seconds=60)


# one session -------------------------------------------------------------------------------------


async def test_a_new_session_has_nothing_yet(log: Log, reader: Connection) -> None:
    at = await post(log, opened())
    (first,) = await log.store.range(after=0)
    assert await row(reader) == SessionRow(
        session_id="s1",
        project_id="p1",
        user_id="u1",
        private_to="",
        name="",
        description="",
        tags=[],
        is_starred=False,
        mode="plan",
        status="active",
        context={},
        model=None,
        max_tokens=None,
        settings=None,
        prompt_id=None,
        prompt_version_id=None,
        prompt_number=None,
        prompt_name=None,
        prompt_newest=None,
        answers=None,
        forked_from_session_id=None,
        forked_from_message_id=None,
        forked_at=None,
        first_words="",
        last_words=None,
        message_count=0,
        item_count=0,
        tokens_used=0,
        ai_seconds=0,
        cost_usd=Decimal(0),
        build_id=None,
        opened_at=at,
        last_active_at=at,
        active_position=1,
        cursor=first.cursor,
    )


async def test_messages_of_the_user_are_counted_and_no_others(log: Log, reader: Connection) -> None:
    await post(log, opened(), said("m1"), STARTED, COMPLETED, SYSTEM, said("m2"))
    assert (await row(reader)).message_count == 2


@pytest.mark.parametrize("event", [said(), COMPLETED, FAILED], ids=lambda e: type(e).__name__)
async def test_a_message_keeps_a_session_active(
    log: Log, reader: Connection, event: SessionEvent
) -> None:
    await post(log, opened())
    at = await post(log, event)
    assert (await row(reader)).last_active_at == at


@pytest.mark.parametrize(
    "event",
    [
        STARTED,
        SYSTEM,
        SessionRenamed(session_id="s1", name="n"),
        SessionModeChanged(session_id="s1", mode="build"),
    ],
    ids=lambda e: type(e).__name__,
)
async def test_nothing_else_does(log: Log, reader: Connection, event: SessionEvent) -> None:
    at = await post(log, opened())
    await post(log, event)
    assert (await row(reader)).last_active_at == at


async def test_name_and_mode_are_the_last_ones_given(log: Log, reader: Connection) -> None:
    await post(
        log,
        opened(),
        SessionRenamed(session_id="s1", name="Login"),
        SessionModeChanged(session_id="s1", mode="build"),
        SessionRenamed(session_id="s1", name="Sign in"),
    )
    found = await row(reader)
    assert (found.name, found.mode) == ("Sign in", "build")


@pytest.mark.parametrize(
    ("event", "status"),
    [
        (SessionConverted(session_id="s1", build_id="b", prompt="go"), "converted"),
        (SessionArchived(session_id="s1"), "archived"),
        (SessionExpired(session_id="s1"), "expired"),
    ],
)
async def test_an_end_is_a_status(
    log: Log, reader: Connection, event: SessionEvent, status: str
) -> None:
    await post(log, opened(), event)
    assert (await row(reader)).status == status


async def test_a_deleted_session_is_not_shown(log: Log, reader: Connection) -> None:
    await post(log, opened(), SessionDeleted(session_id="s1"))
    assert await session(reader, tenant_id="t1", session_id="s1") is None


async def test_another_tenant_s_session_is_not_shown(log: Log, reader: Connection) -> None:
    await post(log, opened())
    assert await session(reader, tenant_id="t2", session_id="s1") is None
    assert await session(reader, tenant_id="t1", session_id="s2") is None


# what it was billed ------------------------------------------------------------------------------


async def test_a_session_s_bill_is_the_sum_of_its_settlements(log: Log, reader: Connection) -> None:
    await post(log, opened())
    await post(log, CREDITED, reserved("h1"), reserved("h2"), reserved("h3"))
    known = {"input_tokens": 1, "output_tokens": 2, "cache_read_tokens": 3}
    await post(log, consumed("h1", cost_usd=Decimal("0.000001"), cache_write_tokens=4, **known))
    await post(log, consumed("h2", cost_usd=Decimal("1.25"), seconds=3, **known))
    found = await row(reader)
    assert (found.ai_seconds, found.tokens_used) == (10, 16)
    assert str(found.cost_usd) == "1.250001"


async def test_an_unknown_number_adds_nothing(log: Log, reader: Connection) -> None:
    await post(log, opened())
    await post(log, CREDITED, reserved("h1"), consumed("h1", output_tokens=5))
    found = await row(reader)
    assert (found.ai_seconds, found.tokens_used, found.cost_usd) == (7, 5, Decimal(0))


async def test_a_reply_by_itself_bills_nothing(log: Log, reader: Connection) -> None:
    await post(log, opened(), said(), STARTED, COMPLETED)
    assert (await row(reader)).ai_seconds == 0


# the active one ----------------------------------------------------------------------------------


async def test_a_user_has_no_active_session_at_first(reader: Connection) -> None:
    assert await active(reader) is None


async def test_the_session_with_the_newest_event_is_active(log: Log, reader: Connection) -> None:
    await post(log, opened("s1"))
    await post(log, opened("s2"))
    assert await active(reader) == "s2"
    await post(log, said())
    assert await active(reader) == "s1"


@pytest.mark.parametrize(
    "event",
    [
        SessionConverted(session_id="s2", build_id="b", prompt="go"),
        SessionArchived(session_id="s2"),
        SessionExpired(session_id="s2"),
        SessionDeleted(session_id="s2"),
    ],
    ids=lambda e: type(e).__name__,
)
async def test_a_session_that_has_ended_is_not_active(
    log: Log, reader: Connection, event: SessionEvent
) -> None:
    await post(log, opened("s1"))
    await post(log, opened("s2"), event)
    assert await active(reader) == "s1"


async def test_a_full_session_is_not_active(log: Log, reader: Connection) -> None:
    await post(log, opened("s1"), *(said(f"m{n}") for n in range(MODES["plan"].most_messages - 1)))
    assert await active(reader) == "s1"
    await post(log, said("last"))
    assert await active(reader) is None


@pytest.mark.parametrize("choice", [{"tenant_id": "t2"}, {"project_id": "p2"}, {"user_id": "u2"}])
async def test_an_active_session_is_its_user_s_own(
    log: Log, reader: Connection, choice: dict[str, str]
) -> None:
    await post(log, opened())
    assert await active(reader) == "s1"
    assert await active(reader, **choice) is None


# A large past ------------------------------------------------------------------------------------

PAST: Final = """
    insert into app.sessions (
        tenant_id, session_id, project_id, user_id, mode, status, opened_at, last_active_at,
        active_position, last_position
    )
    select
        't1', 's' || n, 'p1', 'u1', case when n % 2 = 0 then 'plan' else 'setup' end,
        case when n % 20 = 0 then 'expired' when n % 2 = 0 then 'deleted' else 'active' end,
        now() - interval '1 day', now() - interval '1 day', n, n
    from generate_series(1, 4000) as n
"""
"""Sessions of one user in one project. The sessions of mode setup are active, and the sessions of
mode plan are expired or deleted."""


@pytest.mark.parametrize("planning", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize("name", ["active", "idle"])
async def test_a_search_does_not_pass_through_a_large_past(
    url: str, name: str, planning: str
) -> None:
    """The service searches for the active session of mode plan, and for sessions to expire."""
    async with owning(url) as owner:
        await owner.execute(PAST.encode())
        await owner.execute("vacuum analyze app.sessions")
        await owner.execute(f"set plan_cache_mode = {planning}".encode())
        statement = SESSIONS.statements[name].decode()
        plan = await explained(owner, statement, options="analyze, ", limit=100)
        passed = [
            node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
            for node in nodes(plan)
            if node.get("Relation Name") == "sessions"
        ]
        assert max(passed) == 0, plan
