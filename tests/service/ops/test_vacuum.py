"""The metric of dead rows shows the table that waits most for a vacuum."""

from service.jobs.vacuum import dead_rows_ratio
from service.ops import metrics
from service.postgres import connections
from tests.running import running
from tests.service.watching import until

MANY = b"""
    insert into app.nonce (key_id, nonce, used_at)
    select 'k', 'n' || n, now() from generate_series(1, 20000) as n
"""


async def test_the_ratio_counts_dead_rows_until_a_vacuum_removes_them(url: str) -> None:
    async with await connections.connect(url, as_service=False) as owner:
        await owner.execute("alter table app.nonce set (autovacuum_enabled = off)")
        await owner.execute(MANY)
        await owner.execute("delete from app.nonce")
        await owner.execute("select pg_stat_force_next_flush()")
        async with await connections.connect(url) as service:
            assert await dead_rows_ratio(service) == 2.0, "20,000 of 10,000"
            await owner.execute("vacuum app.nonce")
            await owner.execute("select pg_stat_force_next_flush()")
            assert await dead_rows_ratio(service) < 0.1


async def test_a_service_shows_the_ratio(url: str) -> None:
    metrics.DEAD_ROWS.set(-1)
    async with running(url):
        await until(lambda: metrics.DEAD_ROWS._value.get() >= 0)
