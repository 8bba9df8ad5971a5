"""Decisions: one append for all streams, the memory of states, and the cost in transactions."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, cast

import pytest
from psycopg.rows import RowMaker

from domain.deciders import account, project, session
from domain.errors import BalanceInsufficient
from domain.events import ReplyCompleted, ReplyStarted, SessionEvent, SessionOpened
from projections.read import SLICE, Read
from service.eventlog import transactions as module
from service.eventlog.store import SQL, EventStore
from service.eventlog.stream_ids import (
    Decider,
    StreamId,
    account_stream,
    project_stream,
    request_stream,
    session_stream,
)
from service.eventlog.transactions import (
    IdempotencyKey,
    RequestContext,
    Transaction,
    Transactions,
)
from service.postgres import connections
from tests.projections.test_every_projection import explained, nodes
from tests.running import running
from tests.service.eventlog.logs import Log, acquired, event, running_log
from tests.service.watching import until

PLAN = {"summary": "s", "plan": {"overview": "o" * 100_000}}
NAMED = RequestContext(named=IdempotencyKey(key="k", fingerprint="f"))


@pytest.fixture
async def log(url: str) -> AsyncIterator[Log]:
    async with running_log(url) as running:
        yield running


async def credit(transaction: Transaction, user: str = "u1", seconds: int = 60) -> dict[str, str]:
    decision = partial(
        account.credit, user_id=user, credit_id="c", seconds=seconds, kind="paid", reason=None
    )
    await transaction.decide(account_stream("t1", user), decision)
    return {"credit": "c"}


async def plan(transaction: Transaction, session_id: str) -> None:
    """Append the events of a session with one complete plan."""
    stream = session_stream(session_id, "p1")
    transaction.begin(stream)
    events: tuple[SessionEvent, ...] = (
        SessionOpened(session_id=session_id, project_id="p1", user_id="u1"),
        ReplyStarted(
            session_id=session_id,
            reply_id="r",
            in_reply_to="m",
            model="x",
            reservation_id="h",
        ),
        ReplyCompleted(
            session_id=session_id,
            reply_id="r",
            in_reply_to="m",
            subtype="success",
            mode="feature",
            data=PLAN,
            duration_ms=1,
            billed_seconds=1,
            model="x",
        ),
    )
    transaction.append(stream, events)


async def test_a_decision_sees_what_was_decided_before_in_its_transaction(log: Log) -> None:
    transactions = Transactions(log.store, log.writer)

    async def work(transaction: Transaction) -> int:
        await credit(transaction)
        await credit(transaction)
        return (await transaction.load(account_stream("t1", "u1"))).available

    available, appended = await transactions.transact("t1", work)
    assert (available, appended and appended.first_position) == (120, 1)
    assert [each.version for each in await log.store.stream("t1", "account-t1-u1")] == [1, 2]


async def test_events_of_a_session_need_their_project(log: Log) -> None:
    opening = partial(session.open_session, session_id="s", project_id="p1", user_id="u1")

    async def work(transaction: Transaction) -> None:
        await transaction.decide(session_stream("s"), opening)

    with pytest.raises(ValueError, match="belong to a project"):
        await Transactions(log.store, log.writer).transact("t1", work)
    assert await log.store.head() == 0


async def test_an_outdated_state_is_read_again_and_refuses_by_what_the_log_has(log: Log) -> None:
    ours, theirs = (Transactions(log.store, log.writer) for _ in range(2))
    reserving = partial(
        account.reserve, user_id="u1", session_id="s", reply_id="r", seconds=60, at=None
    )

    async def reserve(transaction: Transaction, reservation_id: str) -> None:
        decision = partial(reserving, reservation_id=reservation_id)
        await transaction.decide(account_stream("t1", "u1", "p1"), decision)

    await ours.transact("t1", credit)
    await theirs.transact("t1", partial(reserve, reservation_id="h1"))
    with pytest.raises(BalanceInsufficient):
        await ours.transact("t1", partial(reserve, reservation_id="h2"))
    await theirs.transact("t1", credit)
    await ours.transact("t1", partial(reserve, reservation_id="h2"))
    assert (await theirs.current("t1", account_stream("t1", "u1"))).available == 0


# Turns -------------------------------------------------------------------------------------------


async def test_a_long_stream_is_read_in_slices_between_which_other_tasks_run(log: Log) -> None:
    """The number of rows made and events folded in one turn of the loop is bounded."""
    turn = 0

    async def count() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    folded: Counter[int] = Counter()

    def fold(events: Iterable[Any], state: int) -> int:
        for _ in events:
            folded[turn] += 1
            state += 1
        return state

    def rows(_: object) -> RowMaker[int]:
        def made(_: object) -> int:
            folded[turn] += 1
            return 1

        return made

    many = 3 * SLICE + 1
    state = b'{"session_id":"s"}'
    events = [event("long-s", n, kind="SessionArchived", state=state) for n in range(1, many + 1)]
    for n in range(0, many, 500):
        await log.writer.append(events[n : n + 500])
    counting = asyncio.create_task(count())
    transactions = Transactions(log.store, log.writer)
    assert await transactions.current("t1", StreamId(Decider("long", Any, 0, fold), "s")) == many
    assert max(folded.values()) <= SLICE
    folded.clear()
    read: Read[int] = Read(b"select generate_series(1, 3001)", rows)
    assert len(await connections.tenant_rows(log.store._pool, "t1", read)) == many
    assert max(folded.values()) <= SLICE
    counting.cancel()


# Memory ------------------------------------------------------------------------------------------


async def test_the_memory_of_states_is_bounded_in_bytes(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MEMORY_BYTES", 1_000_000)
    transactions = Transactions(log.store, log.writer)
    for n in range(20):
        await transactions.transact("t1", partial(plan, session_id=f"s{n}"))
    remembered = [
        known
        for n in range(20)
        if (known := transactions.remembered("t1", session_stream(f"s{n}"))) is not None
    ]
    assert [each.state.plan for each in remembered] == [PLAN] * 9
    assert remembered[-1].stream.id == "s19", "only the most recently used states are kept"


async def test_a_request_is_not_remembered(log: Log) -> None:
    transactions = Transactions(log.store, log.writer)
    await transactions.transact("t1", credit, cause=NAMED)
    assert transactions.remembered("t1", account_stream("t1", "u1")) is not None
    assert transactions.remembered("t1", request_stream("k")) is None
    done, appended = await transactions.transact("t1", credit, cause=NAMED)
    assert (done, appended and appended.first_position) == ({"credit": "c"}, 1)
    assert await log.store.head() == 2


async def test_an_erased_stream_is_forgotten_by_every_process(url: str) -> None:
    async with running(url) as one, running(url) as two:
        await one.project()
        await one.credit()
        session_id = (await two.chat("Add a quillwort page")).json()["sessionId"]
        stream, key = session_stream(session_id), {"userId": "u1"}
        known = two.service.transactions.remembered("t1", stream)
        assert known is not None
        assert known.state.plans, "the control: the state has a title"
        await one.client.delete(f"/v1/chat-plan/session/{session_id}", params=key)
        await until(lambda: two.service.transactions.remembered("t1", stream) is None)
        known = one.service.transactions.remembered("t1", stream)
        assert known is None or not known.state.plans


# Snapshots ---------------------------------------------------------------------------------------


async def credited(transactions: Transactions, times: int) -> None:
    for _ in range(times):
        await transactions.transact("t1", credit)


async def test_a_cold_process_reads_an_account_from_its_newest_snapshot(
    url: str, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SNAPSHOT_EVERY", 10)
    stream = account_stream("t1", "u1")
    await credited(Transactions(log.store, log.writer), 25)
    read = (await Transactions(log.store, log.writer).read("t1", [stream]))[str(stream)]
    assert ([each.version for each in read.events], read.known.version) == ([*range(21, 26)], 25)
    assert read.known.state.credited == 25 * 60
    async with await connections.connect(url, as_service=False) as owner:
        await owner.execute("update app.snapshot set type = 'account/0'")
        read = (await Transactions(log.store, log.writer).read("t1", [stream]))[str(stream)]
        assert len(read.events) == 25, "a snapshot of another form is not read"


MANY = 25
"""The messages of a project that gets a snapshot after every ten events. Two more events begin the
project."""


async def register(transaction: Transaction) -> None:
    decision = partial(
        project.register,
        project_id="p1",
        name="Quillwort",
        framework="React",
        source_root=None,
        members={"u1": "owner"},
    )
    await transaction.decide(project_stream("p1"), decision)


async def admit(transaction: Transaction, number: int) -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC) + number * timedelta(minutes=10)
    decision = partial(project.admit_message, user_id="u1", reply_id=f"r{number}", at=at)
    await transaction.decide(project_stream("p1"), decision)


async def rename(transaction: Transaction) -> None:
    described = project.Description(name="Spikemoss")
    decision = partial(project.describe, description=described, revisions=None)
    await transaction.decide(project_stream("p1"), decision)


async def close(transaction: Transaction) -> None:
    await transaction.decide(project_stream("p1"), project.request_erasure)


async def erase(transaction: Transaction) -> None:
    await transaction.decide(project_stream("p1"), project.erase)


async def long_project(transactions: Transactions) -> project.Project:
    """A project with MANY messages; returns its state as the transactions remember it."""
    await transactions.transact("t1", register)
    for n in range(MANY):
        await transactions.transact("t1", partial(admit, number=n))
    known = transactions.remembered("t1", project_stream("p1"))
    assert known is not None
    assert (known.version, known.state.description.name) == (2 + MANY, "Quillwort")
    return cast(project.Project, known.state)


async def rows_of(log: Log) -> list[tuple[int, str]]:
    """The versions and types of what a cold process reads of the project."""
    rows = await log.store.streams("t1", {"project-p1": 0}, forms={"project-p1": project.SNAPSHOT})
    return [(each.version, each.type) for each in rows["project-p1"]]


async def snapshots(url: str) -> list[tuple[int, str]]:
    """The versions and states of all snapshots that there are."""
    async with await connections.connect(url, as_service=False) as owner:
        found = await owner.execute(
            "select version, convert_from(state, 'UTF8') from app.snapshot order by version"
        )
        return await found.fetchall()


async def test_a_cold_process_reads_a_project_from_its_newest_snapshot(
    url: str, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SNAPSHOT_EVERY", 10)
    state = await long_project(Transactions(log.store, log.writer))
    admitted = [(version, "MessageAdmitted") for version in range(21, 2 + MANY + 1)]
    assert await rows_of(log) == [(20, "project/1"), (1, "ProjectRegistered"), *admitted]
    cold = Transactions(log.store, log.writer)
    assert await cold.current("t1", project_stream("p1")) == state, "with its texts and members"
    assert [version for version, _ in await snapshots(url)] == [20], "the newest is kept alone"
    assert "Quillwort" not in str(await snapshots(url))
    await cold.transact("t1", rename)
    await cold.transact("t1", partial(admit, number=MANY))
    await cold.transact("t1", partial(admit, number=MANY + 1))
    assert await rows_of(log) == [(30, "project/1"), (28, "ProjectDescribed")]
    cold = Transactions(log.store, log.writer)
    state = await cold.current("t1", project_stream("p1"))
    assert state.description == project.Description(name="Spikemoss")


@pytest.mark.parametrize("planning", ["force_custom_plan", "force_generic_plan"])
async def test_a_read_passes_only_through_the_events_that_it_returns(
    url: str, log: Log, monkeypatch: pytest.MonkeyPatch, planning: str
) -> None:
    """Also in the role of a tenant, which may not use an index for every condition."""
    monkeypatch.setattr(module, "SNAPSHOT_EVERY", 10)
    transactions = Transactions(log.store, log.writer)
    await long_project(transactions)
    await credited(transactions, 25)
    asked: dict[str, Any] = {"stream_id": ["project-p1", "account-t1-u1"], "after": [0, 22]}
    asked["form"] = [project.SNAPSHOT, account.SNAPSHOT]
    async with await connections.connect(url, as_service=False) as owner:
        await owner.execute("set enable_seqscan = off")
        await owner.execute(f"set plan_cache_mode = {planning}".encode())
        plan = await explained(owner, SQL["streams"].decode(), options="analyze, ", **asked)
    assert plan["Actual Rows"] == 1 + 1 + 7 + 3, "the snapshot, the texts, the events of both"
    assert [node for node in nodes(plan) if node.get("Rows Removed by Filter")] == []


async def test_no_snapshot_has_a_text_that_an_erasure_removes_even_if_it_is_kept_late(
    url: str, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process may fold a project before its erasure, and keep the snapshot after it."""
    late = Transactions(log.store, log.writer)
    await long_project(late)
    others = Transactions(log.store, log.writer)
    await others.transact("t1", close)
    await others.transact("t1", erase)
    monkeypatch.setattr(module, "SNAPSHOT_EVERY", 10)
    known = late.remembered("t1", project_stream("p1"))
    assert known is not None
    assert known.state.description.name == "Quillwort", "the control: it remembers the texts"
    await late._keep("t1", known, after=0)
    assert [version for version, _ in await snapshots(url)] == [2 + MANY]
    assert "Quillwort" not in str(await snapshots(url))
    cold = await Transactions(log.store, log.writer).current("t1", project_stream("p1"))
    assert cold == project.Project(project_id="p1", is_erasing=True, is_erased=True)
    assert (await rows_of(log))[1:] == [
        (1, "ProjectRegistered"),
        (28, "ProjectErasureRequested"),
        (29, "ProjectErased"),
    ]


async def test_a_snapshot_of_an_erased_project_is_the_erased_project(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    await long_project(Transactions(log.store, log.writer))
    monkeypatch.setattr(module, "SNAPSHOT_EVERY", 29)
    for end in (close, erase):
        await Transactions(log.store, log.writer).transact("t1", end)
    assert await rows_of(log) == [(29, "project/1"), (1, "ProjectRegistered")]
    cold = await Transactions(log.store, log.writer).current("t1", project_stream("p1"))
    assert cold == project.Project(project_id="p1", is_erasing=True, is_erased=True)


async def test_a_cold_process_keeps_a_snapshot_of_a_long_account(
    url: str, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also a log from before snapshots is read from its beginning only once."""
    stream = account_stream("t1", "u1")
    await credited(Transactions(log.store, log.writer), 12)
    monkeypatch.setattr(module, "SNAPSHOT_EVERY", 10)
    lengths: list[int] = []
    for _ in range(2):
        read = await Transactions(log.store, log.writer).read("t1", [stream])
        lengths.append(len(read[str(stream)].events))
        assert read[str(stream)].known.state.credited == 12 * 60
    assert lengths == [12, 0]
    await credited(Transactions(log.store, log.writer), 1)
    other = await Transactions(log.store, log.writer).read("t2", [stream])
    assert other[str(stream)].known.state == account.INITIAL, "snapshots are of one tenant"


# Costs -------------------------------------------------------------------------------------------


async def reads(pool: connections.Pool, transactions: Transactions, cause: RequestContext) -> int:
    """The number of read transactions of a credit."""
    before = acquired(pool)
    await transactions.transact("t1", credit, cause=cause)
    return acquired(pool) - before


async def test_a_named_request_reads_its_stream_once_and_with_what_it_decides_on(
    url: str, log: Log
) -> None:
    async with connections.pool(url) as pool:
        transactions = Transactions(EventStore(pool), log.writer)
        assert await reads(pool, transactions, NAMED) == 1, "account and request"
        again = RequestContext(named=IdempotencyKey(key="k2", fingerprint="f"))
        assert await reads(pool, transactions, again) == 1, "the request alone"
        assert await reads(pool, transactions, RequestContext()) == 0, "all states are remembered"
        assert await reads(pool, transactions, NAMED) == 1, "the earlier request is found"


async def test_several_streams_are_recalled_in_one_transaction(url: str, log: Log) -> None:
    users, projects, sessions = (
        account_stream("t1", "u1"),
        project_stream("p1"),
        session_stream("s1"),
    )

    async def work(transaction: Transaction) -> tuple[object, object, object]:
        await transaction.recall(users, projects, sessions)
        return (
            await transaction.load(users),
            await transaction.load(projects),
            await transaction.load(sessions),
        )

    others = Transactions(log.store, log.writer)
    await others.transact("t1", credit)
    await others.transact("t1", partial(plan, session_id="s1"))
    async with connections.pool(url) as pool:
        transactions = Transactions(EventStore(pool), log.writer)
        states, appended = await transactions.transact("t1", work)
        assert acquired(pool) == 1
    assert appended is None
    assert states == (
        await others.current("t1", users),
        project.INITIAL,
        await others.current("t1", sessions),
    )
