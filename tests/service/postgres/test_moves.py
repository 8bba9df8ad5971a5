"""Connections to a server that stands still are dropped when another server is the primary."""

import asyncio
from functools import partial

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from service.postgres import connections, moves
from service.postgres.moves import answered
from tests.service.cutter import Cutter


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moves, "SILENT_SECONDS", 0.05)


async def test_what_waits_for_a_former_primary_gets_an_error(url: str) -> None:
    async with Cutter(url) as former, Cutter(url) as primary:
        hosts = [conninfo_to_dict(each.url)["host"] for each in (former, primary)]
        both = make_conninfo(url, host=",".join(map(str, hosts)), port="5432,5432")
        connect = partial(connections.connect, both)
        async with connections.pool(both) as pool, await connect() as connection:
            async with pool.connection() as pooled:
                assert connection.info.host == pooled.info.host == hosts[0]
                former.mute = former.refuse = True
                waiting = asyncio.create_task(pooled.execute("select 1"))
                asked = connection.execute("select 1")
                with pytest.raises(psycopg.OperationalError):
                    await answered(asked, connection, connect)
                with pytest.raises(psycopg.OperationalError):
                    await waiting
            async with pool.connection() as pooled:
                assert pooled.info.host == hosts[1]


async def test_a_slow_answer_of_the_primary_itself_is_awaited(url: str) -> None:
    connect = partial(connections.connect, url)
    async with await connect() as connection:
        asked = connection.execute("select 7, pg_sleep(0.2)")
        answer = await answered(asked, connection, connect)
        assert await answer.fetchone() == (7, "")


async def test_a_cancelled_caller_waits_until_its_connection_is_free(url: str) -> None:
    is_waiting, has_ended = asyncio.Event(), asyncio.Event()

    async def connect() -> connections.OwnConnection:
        is_waiting.set()
        return await connections.connect(url)

    async with await connections.connect(url) as connection:

        async def work() -> None:
            try:
                await connection.execute("select pg_sleep(60)")
            finally:
                has_ended.set()

        waiting = asyncio.create_task(answered(work(), connection, connect))
        await is_waiting.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert has_ended.is_set()
