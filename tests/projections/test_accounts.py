"""Seconds as they are shown: the balance, the ledger, and that no lie is ever shown of them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from decimal import Decimal
from itertools import count
from typing import Any, Final

import orjson
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from domain.deciders import account as accounts
from domain.deciders import session as sessions
from domain.deciders.account import Account
from domain.deciders.session import Session
from domain.errors import BalanceInsufficient, SessionSpent
from domain.events import Event, ReplyCompleted, ReplyFailed
from domain.metering import Usage, cost_of
from domain.stored_events import from_stored
from projections.accounts import AccountRow, account
from projections.consumption import ledger
from projections.projection import Connection, set_aside, status
from service.eventlog.store import NewEvent
from service.postgres import connections
from tests import sizes
from tests.projections.actions.append import new_events
from tests.projections.fold import rows
from tests.projections.generated import Log, background, live, owning, writing

LIVES: Final = sizes.size(12, 300)
NEWEST: Final = 2**63 - 1


@pytest.fixture
async def log(url: str) -> AsyncIterator[Log]:
    async with writing(url) as opened:
        yield opened


@pytest.fixture
async def reader(url: str) -> AsyncIterator[Connection]:
    async with await connections.connect(url) as connection:
        yield connection


async def post(
    log: Log, name: str, /, tenant_id: str = "t1", user: str = "u1", **values: Any
) -> None:
    """Append an event to a user's account with no decider in between: whatever it says."""
    plain: dict[str, Any] = {
        "user_id": user,
        "reservation_id": "h1",
        "project_id": "p1",
        "session_id": "s1",
        "message_id": "r1",
        "operation": "plan_fix",
        "seconds": 0,
        "held_seconds": 0,
        "model": "claude",
        "credit_id": "c1",
        "kind": "paid",
        "reason": "",
        "prices": "2026-11",
    }
    state = {key: value for key, value in (plain | values).items() if key in KEYS[name]}
    from_stored(name, state)  # well-formed, at least
    stream_id = f"account-{tenant_id}-{user}"
    version = len(await log.store.stream(tenant_id, stream_id)) + 1
    await log.append([[NewEvent(tenant_id, stream_id, version, name, orjson.dumps(state))]])


_COMMON: Final = {"user_id", "reservation_id"}
KEYS: Final[dict[str, set[str]]] = {
    "TimeCredited": {"user_id", "credit_id", "seconds", "kind", "reason"},
    "TimeReserved": _COMMON | {"session_id", "message_id", "seconds"},
    "ReservationReleased": _COMMON | {"held_seconds", "reason"},
    "TimeConsumed": _COMMON
    | {"project_id", "session_id", "message_id", "operation", "seconds", "held_seconds", "model"}
    | {"input_tokens", "output_tokens", "cost_usd", "prices"},
}


async def balance(reader: Connection, tenant_id: str = "t1", user: str = "u1") -> AccountRow:
    return await account(reader, tenant_id=tenant_id, user_id=user)


# the balance -------------------------------------------------------------------------------------


async def test_an_account_that_was_never_credited_is_empty(reader: Connection) -> None:
    assert await balance(reader) == AccountRow(user_id="u1")


async def test_a_balance_follows_every_event(log: Log, reader: Connection) -> None:
    steps: tuple[tuple[str, dict[str, Any], tuple[int, int, int, int, int]], ...] = (
        ("TimeCredited", {"seconds": 100}, (100, 0, 0, 0, 100)),
        ("TimeCredited", {"seconds": 20, "kind": "bonus"}, (120, 20, 0, 0, 120)),
        ("TimeReserved", {"seconds": 60}, (120, 20, 0, 60, 60)),
        ("TimeReserved", {"seconds": 10}, (120, 20, 0, 70, 50)),
        ("TimeConsumed", {"seconds": 45, "held_seconds": 70}, (120, 20, 45, 0, 75)),
        ("TimeReserved", {"seconds": 75, "reservation_id": "h2"}, (120, 20, 45, 75, 0)),
        ("ReservationReleased", {"held_seconds": 75, "reservation_id": "h2"}, (120, 20, 45, 0, 75)),
    )
    for kind, values, expected in steps:
        await post(log, kind, **values)
        found = await balance(reader)
        assert found == AccountRow(
            user_id="u1",
            credited_seconds=expected[0],
            bonus_seconds=expected[1],
            consumed_seconds=expected[2],
            reserved_seconds=expected[3],
            available_seconds=expected[4],
        ), kind


async def test_an_account_is_one_user_s_of_one_tenant(log: Log, reader: Connection) -> None:
    await post(log, "TimeCredited", seconds=100)
    await post(log, "TimeCredited", seconds=7, tenant_id="t2")
    assert (await balance(reader)).credited_seconds == 100
    assert (await balance(reader, tenant_id="t2")).credited_seconds == 7
    assert await balance(reader, user="u2") == AccountRow(user_id="u2")


# the second wall ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "values", "law"),
    [
        ("TimeReserved", {"seconds": 101}, "available_is_not_negative"),
        ("TimeConsumed", {"seconds": 101}, "available_is_not_negative"),
        ("ReservationReleased", {"held_seconds": 1}, "reserved_is_not_negative"),
        ("TimeConsumed", {"seconds": 0, "held_seconds": 1}, "reserved_is_not_negative"),
        ("TimeCredited", {"seconds": -101}, "available_is_not_negative"),
    ],
)
async def test_an_event_that_breaks_the_law_sets_its_account_aside_rather_than_showing_it(
    url: str, log: Log, reader: Connection, kind: str, values: dict[str, Any], law: str
) -> None:
    await post(log, "TimeCredited", seconds=100)
    await post(log, kind, **values)
    await post(log, "TimeCredited", seconds=50, user="u2")
    assert await balance(reader) == AccountRow(
        user_id="u1", credited_seconds=100, available_seconds=100
    )
    assert (await balance(reader, user="u2")).credited_seconds == 50
    await background(reader)
    assert {each.state for each in await status(reader)} == {"live"}
    (aside,) = [each for each in await set_aside(reader) if each.projection == "accounts"]
    assert (aside.stream_id, aside.position) == ("account-t1-u1", 2)
    assert law in aside.reason


async def test_a_reservation_that_is_billed_twice_is_in_the_ledger_once(
    log: Log, reader: Connection
) -> None:
    await post(log, "TimeCredited", seconds=100)
    await post(log, "TimeReserved", seconds=10)
    await post(log, "TimeConsumed", seconds=5, held_seconds=10)
    await post(log, "TimeConsumed", seconds=5, held_seconds=0)
    found = await ledger(reader, tenant_id="t1", user_id="u1", before=NEWEST, limit=10)
    assert [row.billed_seconds for row in found] == [5]
    (aside,) = [each for each in await set_aside(reader) if each.projection == "consumption"]
    assert aside.position == 4
    assert "reservation_is_billed_once" in aside.reason


# the ledger --------------------------------------------------------------------------------------


async def test_the_ledger_is_read_newest_first_page_by_page(log: Log, reader: Connection) -> None:
    await post(log, "TimeCredited", seconds=100)
    for n in range(1, 8):
        await post(log, "TimeReserved", seconds=n, reservation_id=f"h{n}")
        await post(log, "TimeConsumed", seconds=n, held_seconds=n, reservation_id=f"h{n}")
        await post(log, "TimeConsumed", reservation_id=f"h{n}", tenant_id="t2")
    seen: list[int] = []
    before = NEWEST
    for size in (3, 3, 1, 0):
        page = await ledger(reader, tenant_id="t1", user_id="u1", before=before, limit=3)
        assert len(page) == size
        seen += [row.billed_seconds for row in page]
        before = page[-1].position if page else 0
    assert seen == [7, 6, 5, 4, 3, 2, 1]
    assert await ledger(reader, tenant_id="t1", user_id="u2", before=NEWEST, limit=3) == []


async def test_the_ledger_keeps_money_exact_and_what_is_unknown_unknown(
    log: Log, reader: Connection
) -> None:
    await post(log, "TimeConsumed", cost_usd="12345.678901", input_tokens=0, output_tokens=3)
    await post(log, "TimeConsumed", cost_usd=None, reservation_id="h2")
    unknown, known = await ledger(reader, tenant_id="t1", user_id="u1", before=NEWEST, limit=3)
    assert str(known.cost_usd) == "12345.678901"
    assert type(known.cost_usd) is Decimal
    assert (known.input_tokens, known.output_tokens) == (0, 3)
    assert (known.cache_read_tokens, known.cache_write_tokens) == (None, None)
    assert (known.operation_type, known.prices, known.model) == ("plan_fix", "2026-11", "claude")
    assert known.recorded_at <= datetime.now(UTC)
    assert (unknown.cost_usd, unknown.input_tokens, unknown.output_tokens) == (None, None, None)


# all of it, at every step ------------------------------------------------------------------------


class Books:
    """A tenant's events as they were decided, and where its streams stand."""

    def __init__(self, tenant_id: str) -> None:
        self.tenant_id = tenant_id
        self.transactions: dict[str, list[Event]] = {}
        self.pending: list[NewEvent] = []

    def decide(self, stream_id: str, decided: tuple[Event, ...]) -> None:
        known = self.transactions.setdefault(stream_id, [])
        self.pending += new_events(self.tenant_id, stream_id, len(known), decided, "p1")
        known += decided

    def account(self, user: str) -> Account:
        return accounts.fold(self.transactions.get(f"account-{self.tenant_id}-{user}", []))  # type: ignore[arg-type]

    def session(self, session_id: str) -> Session:
        return sessions.fold(self.transactions.get(f"session-{session_id}", []))  # type: ignore[arg-type]


def machine(run: Callable[[Any], Any], log: Log, reader: Connection) -> type[RuleBasedStateMachine]:
    """A life of users and their sessions in this database; each example is a tenant's."""
    tenants = count(1)

    class Life(RuleBasedStateMachine):
        running = Bundle("running")

        @initialize(seconds=st.integers(0, 300))
        def begin(self, seconds: int) -> None:
            self.books = Books(f"t{next(tenants)}")
            self.numbers = count(1)
            for user in ("u1", "u2"):
                self.give(user, seconds)
            self.append()

        def give(self, user: str, seconds: int) -> None:
            self.books.decide(
                f"account-{self.books.tenant_id}-{user}",
                accounts.credit(
                    self.books.account(user),
                    user_id=user,
                    credit_id=f"c{next(self.numbers)}",
                    seconds=seconds,
                    kind="bonus",
                    reason=None,
                ),
            )

        def append(self) -> None:
            pending, self.books.pending = self.books.pending, []
            run(log.append([pending]))

        @rule(user=st.sampled_from(["u1", "u2"]), seconds=st.integers(0, 200))
        def credit(self, user: str, seconds: int) -> None:
            self.give(user, seconds)
            self.append()

        @rule(
            target=running,
            user=st.sampled_from(["u1", "u2"]),
            number=st.integers(1, 2),
            seconds=st.integers(0, 120),
        )
        def ask(self, user: str, number: int, seconds: int) -> Any:
            """A message, its reservation and the start of its reply: one append, two streams."""
            n, session_id = next(self.numbers), f"s-{user}-{number}"
            try:
                asked = self.asked(user, session_id, n)
                held = accounts.reserve(
                    self.books.account(user),
                    user_id=user,
                    reservation_id=f"h{n}",
                    session_id=session_id,
                    reply_id=f"r{n}",
                    seconds=seconds,
                )
            except (BalanceInsufficient, SessionSpent):
                return multiple()
            self.books.decide(f"account-{self.books.tenant_id}-{user}", held)
            self.books.decide(f"session-{session_id}", asked)
            self.append()
            return (user, session_id, n)

        def asked(self, user: str, session_id: str, n: int) -> tuple[Event, ...]:
            """The session's events for a message and its reply. Raises SessionSpent."""
            state = self.books.session(session_id)
            opened: sessions.Decided = ()
            if state.status == "new":
                opened = sessions.open_session(
                    state, session_id=session_id, project_id="p1", user_id=user
                )
                state = sessions.fold(opened)
            posted = sessions.post_message(
                state, message_id=f"m{n}", text="Why?", locale="en", chat_mode=None
            )
            started = sessions.start_reply(
                state,
                reply_id=f"r{n}",
                in_reply_to=f"m{n}",
                model="claude-opus-4",
                reservation_id=f"h{n}",
                lease_id=0,
                may_wait=True,
            )
            return (*opened, *posted, *started)

        @rule(
            reply=consumes(running),
            seconds=st.integers(0, 200),
            tokens=st.none() | st.integers(0, 10**6),
        )
        def settle(self, reply: tuple[str, str, int], seconds: int, tokens: int | None) -> None:
            user, session_id, n = reply
            usage = Usage(input_tokens=tokens, output_tokens=7)
            settled = accounts.settle(
                self.books.account(user),
                user_id=user,
                reservation_id=f"h{n}",
                project_id="p1",
                session_id=session_id,
                reply_id=f"r{n}",
                operation="plan_consultation",
                seconds=seconds,
                model="claude-opus-4",
                cost=cost_of("claude-opus-4", usage),
            )
            self.books.decide(f"account-{self.books.tenant_id}-{user}", settled)
            self.books.decide(
                f"session-{session_id}",
                sessions.complete_reply(
                    self.books.session(session_id),
                    ReplyCompleted(
                        session_id=session_id,
                        reply_id=f"r{n}",
                        in_reply_to=f"m{n}",
                        subtype="success",
                        mode="general",
                        data={"markdown": "So."},
                        duration_ms=seconds * 1_000,
                        billed_seconds=seconds,
                        model="claude-opus-4",
                        reason=None,
                        warnings=(),
                        tokens_used=usage.total,
                        cache_hits=None,
                        frames=0,
                    ),
                ),
            )
            self.append()

        @rule(reply=consumes(running))
        def fail(self, reply: tuple[str, str, int]) -> None:
            user, session_id, n = reply
            self.books.decide(
                f"account-{self.books.tenant_id}-{user}",
                accounts.release(
                    self.books.account(user),
                    user_id=user,
                    reservation_id=f"h{n}",
                    reason="model_error",
                ),
            )
            self.books.decide(
                f"session-{session_id}",
                sessions.fail_reply(
                    self.books.session(session_id),
                    ReplyFailed(
                        session_id=session_id,
                        reply_id=f"r{n}",
                        in_reply_to=f"m{n}",
                        code="model_error",
                        duration_ms=1,
                        retry_after_seconds=None,
                        tokens_used=None,
                        cache_hits=None,
                        frames=0,
                    ),
                ),
            )
            self.append()

        @invariant()
        def what_is_shown_is_what_was_decided(self) -> None:
            run(self.compare())

        async def compare(self) -> None:
            tenant_id = self.books.tenant_id
            events = await log.store.range(after=0, tenant_id=tenant_id)
            assert len(events) == sum(map(len, self.books.transactions.values()))
            tables = {
                name: await live(reader, name, tenant_id=tenant_id)
                for name in ("accounts", "consumption", "sessions")
            }
            assert tables == {name: rows(name, events) for name in tables}
            await self.compare_states(tables)
            self.compare_sums(tables)

        async def compare_states(self, tables: dict[str, list[dict[str, Any]]]) -> None:
            for user in ("u1", "u2"):
                state = self.books.account(user)
                shown = await account(reader, tenant_id=self.books.tenant_id, user_id=user)
                assert shown.available_seconds == state.available >= 0
                assert shown.reserved_seconds == state.reserved
                assert shown.consumed_seconds == state.consumed
            for row in tables["sessions"]:
                state_of = self.books.session(row["session_id"])
                assert row["message_count"] == state_of.message_count

        def compare_sums(self, tables: dict[str, list[dict[str, Any]]]) -> None:
            billed = sum(row["billed_seconds"] for row in tables["consumption"])
            assert billed == sum(row["ai_seconds"] for row in tables["sessions"])
            assert billed == sum(row["consumed_seconds"] for row in tables["accounts"])
            costs = sum(row["cost_usd"] or 0 for row in tables["consumption"])
            assert costs == sum(row["cost_usd"] for row in tables["sessions"])

    return Life


def test_ledger_sessions_and_balance_agree_at_every_step(url: str) -> None:
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        log = runner.run(stack.enter_async_context(writing(url)))
        reader = runner.run(stack.enter_async_context(owning(url)))
        try:
            run_state_machine_as_test(
                machine(runner.run, log, reader),
                settings=settings(
                    max_examples=LIVES,
                    stateful_step_count=12,
                ),
            )
        finally:
            runner.run(stack.aclose())
