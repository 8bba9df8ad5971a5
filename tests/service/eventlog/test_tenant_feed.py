"""A tenant's part of the log, in pages."""

from service.eventlog.heavy_reads import HeavyReads
from service.eventlog.tenant_feed import STEP, Selection, TenantFeed
from service.postgres import connections
from tests.service.eventlog.logs import acquired, event, running_log


async def test_a_page_is_one_transaction(url: str) -> None:
    async with running_log(url) as log, connections.pool(url) as pool:
        await log.writer.append([event() for _ in range(2 * STEP + 50)])
        await log.writer.append([event(tenant="t2")])
        feed = TenantFeed(pool, Selection(tenant_id="t1"), HeavyReads())
        pages = [page async for page in feed.whole(0)]
        assert [len(page) for page in pages] == [STEP, STEP, 50]
        assert acquired(pool) == 3
        last = await feed.page(2 * STEP, STEP)
        assert (last.upto, last.has_more) == (2 * STEP + 51, False), "up to the head of the log"
        assert (await feed.page(last.upto, STEP)).upto == last.upto
