"""The service behind PgBouncer in transaction mode, which gives each transaction any session."""

import asyncio
from collections.abc import Callable, Iterator

import pytest

from service.postgres import connections
from service.postgres.addresses import AddressRefused, require_same, require_session
from service.postgres.connections import Pool, tenant_transaction
from service.postgres.embedded import Server
from tests import routes
from tests.pooler import Pooler, pooler
from tests.routes import Route
from tests.running import running


@pytest.fixture(scope="module")
def pgbouncer(server: Server) -> Iterator[Pooler]:
    with pooler(server, size=2) as started:
        yield started


@pytest.fixture
def through(pgbouncer: Pooler, url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The test's database; services reach it through the pooler."""
    monkeypatch.setattr(routes, "route", lambda url: Route(pgbouncer.url(url), url))
    return url


async def test_a_conversation_and_forty_reads_at_once_share_two_sessions(through: str) -> None:
    async with running(through) as service:
        await service.project()
        await service.credit()
        events = await service.stream("Good morning")
        assert events[-1][0] == "final"
        reply_id = events[0][1]["messageId"]
        assert (await service.join(reply_id))[-1] == events[-1]
        paths = (
            "/v1/project/p1/timeline",
            "/v1/projects/p1/sessions",
            "/v1/billing/accounts/u1",
            "/v1/projects/p1",
        )
        answers = await asyncio.gather(*(service.client.get(path) for path in paths * 10))
        assert [answer.status_code for answer in answers] == [200] * 40
        assert len({answer.text for answer in answers}) == len(paths)


async def test_one_process_hears_of_a_reply_that_another_process_writes(through: str) -> None:
    async with running(through) as writing, running(through) as reading:
        await writing.project()
        await writing.credit()
        asked = asyncio.create_task(writing.stream("Good morning"))
        after = reading.service.live_log.head
        async with asyncio.timeout(30):
            async for page in reading.service.live_log.follow(after):
                if any(event.type == "ReplyCompleted" for event in page):
                    break
        joined = await reading.join((await asked)[0][1]["messageId"])
    assert joined[-1] == (await asked)[-1]


async def test_tenants_that_share_a_session_do_not_see_each_other(
    pgbouncer: Pooler, url: str
) -> None:
    tenant = b"select current_setting('throughline.tenant', true), pg_backend_pid()"

    async def seen(pool: Pool, name: str) -> tuple[str, int]:
        async with tenant_transaction(pool, name) as connection:
            found = await connection.execute(tenant)
        row = await found.fetchone()
        assert row is not None
        return str(row[0]), int(row[1])

    async with connections.pool(pgbouncer.url(url), is_direct=False) as pool:
        names = [f"t{number % 5}" for number in range(50)]
        rows = await asyncio.gather(*(seen(pool, name) for name in names))
    assert [name for name, _ in rows] == names
    assert len({session for _, session in rows}) <= 2


async def test_a_cancelled_read_closes_its_connection_and_asks_the_pooler_for_nothing(
    pgbouncer: Pooler, url: str
) -> None:
    async def read(pool: Pool) -> None:
        async with tenant_transaction(pool, "t1") as connection:
            await connection.execute("select pg_advisory_xact_lock(1)")

    waits = "select count(*) > 0 from pg_locks where locktype = 'advisory' and not granted"
    async with (
        await connections.connect(url) as owner,
        connections.pool(pgbouncer.url(url), is_direct=False) as pool,
    ):
        await owner.execute("select pg_advisory_lock(1)")
        reading = asyncio.create_task(read(pool))
        while await (await owner.execute(waits)).fetchone() == (False,):
            assert not reading.done()
        reading.cancel()
        await asyncio.wait([reading])
        await owner.execute("select pg_advisory_unlock(1)")
        await read(pool)
    assert "cancel request" not in pgbouncer.log


async def test_an_address_that_shares_sessions_is_refused_where_a_session_is_needed(
    pgbouncer: Pooler, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.postgres.addresses._NEWS_SECONDS", 0.2)
    await require_session(url, "THROUGHLINE_DATABASE_DIRECT_URL")
    with pytest.raises(AddressRefused) as refused:
        await require_session(pgbouncer.url(url), "THROUGHLINE_DATABASE_URL")
    assert str(refused.value) == (
        "THROUGHLINE_DATABASE_URL leads through a connection pooler that shares sessions, where"
        " LISTEN does not work. Set THROUGHLINE_DATABASE_DIRECT_URL to the address of PostgreSQL"
        " itself."
    )


async def test_two_addresses_must_be_of_one_database(
    pgbouncer: Pooler, url: str, new_database: Callable[[], str]
) -> None:
    await require_same(pgbouncer.url(url), url)
    with pytest.raises(AddressRefused, match="do not lead to the same database"):
        await require_same(pgbouncer.url(new_database()), url)
