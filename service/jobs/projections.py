"""Keeps the read models up to the log, and shows in metrics how far each of them is."""

import asyncio

from projections.projection import catch_up, status
from service.concurrency.retry import retrying
from service.eventlog.errors import DATABASE_AWAY
from service.eventlog.live import POLL
from service.ops import metrics
from service.postgres.connections import Connect


async def keep_projections(connect: Connect) -> None:
    """Bring read models that are behind up to the log, for ever.

    An append passes by a read model that has halted or is being swapped. That model is behind until
    it catches up here.
    """

    async def keep() -> None:
        async with await connect() as connection:
            while True:
                if await catch_up(connection):
                    await asyncio.sleep(POLL)
                for each in await status(connection):
                    metrics.LAG.labels(each.name).set(each.head - each.position)
                    metrics.HALTED.labels(each.name).set(each.state == "halted")
                    metrics.SET_ASIDE.labels(each.name).set(each.set_aside)
                    metrics.HEAD.set(each.head)

    await retrying(keep, DATABASE_AWAY, event="projections_lost_their_connection", pauses=(POLL,))
