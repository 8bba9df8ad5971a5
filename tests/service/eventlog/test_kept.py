"""An append is acknowledged when a standby has the append, however the wait for the standby ended.

PostgreSQL commits on its own disk first and then waits for the standby. Where this wait is
interrupted, the commit is visible to everybody, and no other server has it.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final
from uuid import UUID, uuid4

import psutil
import psycopg
import pytest

from domain.events import TimeCredited
from service.access import signatures
from service.access.authentication import Authenticator, Unauthenticated
from service.eventlog.errors import OutcomeUnknown
from service.eventlog.live import LiveLog
from service.eventlog.store import EventStore
from service.eventlog.stream_ids import account_stream
from service.eventlog.transactions import (
    IdempotencyKey,
    RequestContext,
    Transaction,
    Transactions,
)
from service.eventlog.writer import Appended, Writer
from service.postgres import connections, migrations
from service.postgres.embedded import Server
from tests.running import KEYS
from tests.service.eventlog.logs import Log, event, listeners, running_log
from tests.service.eventlog.test_log_under_fire import own_server
from tests.service.replicas import prepare, replicas

CREDITED: Final = TimeCredited(user_id="ada", credit_id="one", seconds=1, kind="paid")
PAYING: Final = RequestContext(named=IdempotencyKey(key="the key", fingerprint="the same"))


@pytest.fixture(scope="module")
def primary() -> Iterator[Server]:
    """A server of which a test may kill processes."""
    with own_server() as running:
        asyncio.run(migrations.migrate(running.url))
        yield running


@asynccontextmanager
async def no_standby(primary: Server) -> AsyncGenerator[None]:
    """During the block the primary waits for a standby. At the end of the block a standby comes,
    which has all commits."""
    await _configure(primary, "alter system set synchronous_standby_names = 'nobody'")
    try:
        await _until_commits_wait(primary)
        yield
    finally:
        await _configure(primary, "alter system reset synchronous_standby_names")


async def _until_commits_wait(primary: Server) -> None:
    """Commit until a commit waits: then all processes of the server know the setting."""
    commit = "select pg_logical_emit_message(true, 'a commit', '')"
    async with await connections.connect(primary.url, as_service=False) as owner:
        waiting = asyncio.create_task(until_a_commit_waits(primary.url))
        while not waiting.done():
            committing = asyncio.create_task(owner.execute(commit.encode()))
            await asyncio.wait((waiting, committing), return_when=asyncio.FIRST_COMPLETED)
        await interrupt(primary.url, await waiting, "cancel")
        await committing


async def _configure(primary: Server, statement: str) -> None:
    async with await connections.connect(primary.url, as_service=False) as owner:
        await owner.execute(statement.encode())
        await owner.execute("select pg_reload_conf()")


async def until_a_commit_waits(url: str, *, but: int = 0, of: str = "") -> int:
    """Wait until a commit waits for the standby, of another process of the server than `but` and of
    a statement with the text `of`. Returns the process."""
    waiting = """
        select pid from pg_stat_activity
        where wait_event = 'SyncRep' and pid <> %s and strpos(query, %s) > 0
    """
    async with asyncio.timeout(30):
        while True:
            with suppress(psycopg.OperationalError):  # the server is coming back
                async with await connections.connect(url, as_service=False) as observer:
                    while True:
                        row = await (await observer.execute(waiting, (but, of))).fetchone()
                        if row is not None:
                            return int(row[0])


async def interrupt(url: str, pid: int, how: str) -> None:
    """Interrupt the wait of this process of the server. Everybody sees its commit then."""
    if how == "crashed":
        psutil.Process(pid).kill()
        return
    async with await connections.connect(url, as_service=False) as owner:
        await owner.execute(f"select pg_{how}_backend(%s)".encode(), (pid,))


async def is_stored(primary: Server, append_id: UUID) -> bool:
    """Whether everybody sees the append."""
    async with await connections.connect(primary.url, as_service=False) as observer:
        found = await observer.execute("select from app.event where append_id = %s", (append_id,))
        return found.rowcount > 0


async def require_waits(primary: Server, work: asyncio.Task[Any], *, but: int) -> None:
    """The work has another commit, which waits for the standby, and the work does not end
    before."""
    waiting = asyncio.create_task(until_a_commit_waits(primary.url, but=but))
    await asyncio.wait((waiting, work), return_when=asyncio.FIRST_COMPLETED)
    assert not work.done()
    await waiting


@pytest.mark.parametrize("how", ["cancel", "terminate", "crashed"])
async def test_an_append_that_no_standby_has_is_not_acknowledged(primary: Server, how: str) -> None:
    """An operator interrupts the wait, or the server crashes and comes back."""
    append_id = uuid4()
    async with running_log(primary.url) as log:
        await log.writer.append([event()])
        async with no_standby(primary):
            append = log.writer.append([event()], append_id=append_id, patience=60)
            appending = asyncio.create_task(append)
            pid = await until_a_commit_waits(primary.url)
            await interrupt(primary.url, pid, how)
            await require_waits(primary, appending, but=pid)
            assert await is_stored(primary, append_id)
        assert (await appending).last_position == await log.store.head()


async def test_a_request_that_no_standby_has_is_not_answered_from_the_log(primary: Server) -> None:
    """A second process finds the append of the first process, and waits for the standby as well."""
    async with running_log(primary.url) as log, running_log(primary.url) as other:
        async with no_standby(primary):
            first = asyncio.create_task(_pay(log))
            pid = await until_a_commit_waits(primary.url)
            log.writing.cancel()
            with pytest.raises(OutcomeUnknown):
                await first
            await interrupt(primary.url, pid, "cancel")
            again = asyncio.create_task(_pay(other))
            await require_waits(primary, again, but=pid)
        result, found = await again
        assert result == {"paid": 1}
        assert found is not None
        assert found.last_position == await other.store.head()


async def test_a_process_that_stops_does_not_interrupt_the_wait(primary: Server) -> None:
    """An append that waits for the standby is invisible until the standby has the append."""
    append_id = uuid4()
    async with running_log(primary.url) as log:
        async with no_standby(primary):
            appending = asyncio.create_task(log.writer.append([event()], append_id=append_id))
            pid = await until_a_commit_waits(primary.url)
            log.writing.cancel()
            with pytest.raises(OutcomeUnknown):
                await appending
            await asyncio.wait((log.writing,))
            assert not await is_stored(primary, append_id)
            assert await until_a_commit_waits(primary.url) == pid
        await log.live_log.wait(await log.store.head(), seconds=10)
        assert await is_stored(primary, append_id)


async def test_a_signature_is_used_up_without_a_standby(primary: Server) -> None:
    """A request without a standby ends with an honest refusal: it does not wait for its nonce."""
    asked: dict[str, Any] = {"method": "POST", "path": b"/v1/projects", "query": b"", "body": b""}
    secret = KEYS["k1"].secret.get_secret_value()
    header = signatures.header(secret, key_id="k1", **asked)
    async with connections.pool(primary.url) as pool, no_standby(primary):
        known = Authenticator(KEYS, pool)
        signature = known.read(header)
        async with asyncio.timeout(10):
            await known.verify(signature, **asked)
            with pytest.raises(Unauthenticated):
                await known.verify(signature, **asked)


async def test_a_former_primary_that_lacks_an_event_does_not_stop_the_process(
    primary: Server, url: str
) -> None:
    """The process connects to the former primary, which still runs and has no standby."""
    addresses = [url]

    async def connect() -> connections.OwnConnection:
        return await connections.connect(addresses[-1])

    async with connections.pool(url) as pool:
        live_log = LiveLog(EventStore(pool))
        writer = Writer(connect, live_log)
        tasks = [asyncio.create_task(work) for work in (writer.run(), live_log.run(connect))]
        for _ in range(100):  # more events than the other server has
            await writer.append([event()])
        await live_log.listening.wait()
        async with no_standby(primary):
            addresses.append(primary.url)
            async with await connections.connect(url, as_service=False) as owner:
                await listeners(owner, end=True)
            pid = await until_a_commit_waits(primary.url)
            addresses.pop()
            await interrupt(primary.url, pid, "terminate")
            async with running_log(url) as other:
                appended = await other.writer.append([event()])
            assert await live_log.wait(appended.last_position, seconds=10)
        assert not any(task.done() for task in tasks)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def test_a_process_that_knows_a_lost_event_stops_with_a_failure(url: str) -> None:
    """Nobody asked the process to stop: a supervisor of processes starts a failed process again."""
    async with replicas(url) as services:
        process = await services.start()
        await prepare(process, "p1")
        async with await connections.connect(url, as_service=False) as owner:
            await owner.execute("set session_replication_role = replica")
            await owner.execute("delete from app.event")
        async with asyncio.timeout(60):
            assert await process.wait() == 1


async def _pay(log: Log) -> tuple[Any, Appended | None]:
    """A named request that pays one second."""

    async def work(transaction: Transaction) -> Any:
        await transaction.decide(account_stream("t1", "ada"), lambda _: [CREDITED])
        return {"paid": 1}

    return await Transactions(log.store, log.writer).transact("t1", work, cause=PAYING)
