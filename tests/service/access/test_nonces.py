"""The nonces of writes, which are stored without waiting for the disk."""

import asyncio

import psycopg

from service.postgres import connections
from service.postgres.embedded import embedded
from tests.running import running
from tests.service.eventlog.test_histories import fill, new_folder
from tests.service.eventlog.test_log_under_fire import kill

WRITES = 5
SETTINGS = {"wal_writer_delay": "10s"}
"""With its default, PostgreSQL writes a commit that nobody waits for to the disk after 0.2
seconds."""


async def test_no_answered_write_loses_its_nonce_in_a_crash() -> None:
    with new_folder() as folder, embedded(folder / "postgres", settings=SETTINGS) as server:
        await fill(server)
        async with running(server.url) as live:
            for _ in range(WRITES):
                await live.credit()
            kill(server)
            async with asyncio.timeout(60):
                assert await stored(server.url) == WRITES


async def stored(url: str) -> int:
    """The number of nonces in the table, as soon as the database is back."""
    while True:
        try:
            async with await connections.connect(url) as connection:
                found = await connection.execute("select count(*) from app.nonce")
                return int((await found.fetchone() or (0,))[0])
        except psycopg.OperationalError:
            await asyncio.sleep(0.05)
