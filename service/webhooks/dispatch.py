"""The deliveries of a process: a task for each webhook, so a slow receiver delays no other
receiver.

A webhook belongs to one process at a time, by the lease of the process. Its events are sent in
order, one after the other. An event is sent until it is taken or given up.
"""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import Final

import aiohttp
import structlog

from service.eventlog.cloudevents import cloud_event
from service.eventlog.errors import DATABASE_AWAY, Overloaded
from service.eventlog.heavy_reads import HeavyReads
from service.eventlog.live import LiveLog
from service.eventlog.store import Recorded
from service.eventlog.tenant_feed import Selection, TenantFeed
from service.model.client import trusted_certificates
from service.ops import metrics
from service.postgres.connections import Pool
from service.webhooks.sending import GONE, Outcome, send, session
from service.webhooks.store import MOST_DEAD_LETTERS, Claimed, Deliveries

PAUSES: Final = (1.0, 5.0, 30.0, 120.0, 600.0, 1_800.0, 3_600.0)
"""The seconds after each try that failed; after one more try the event is given up."""

_LOOK_SECONDS: Final = 1.0
_FRESH_SECONDS: Final = 5.0
"""How long the events of a page are sent before they are read anew."""

_log = structlog.stdlib.get_logger(__name__)


class _Changed(Exception):
    """The tenant has changed the webhook, or another process delivers it now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where the events come from. `private`: a receiver may also have an address that is not
    public."""

    pool: Pool
    live_log: LiveLog
    heavy_reads: HeavyReads
    private: bool
    pauses: Sequence[float] = PAUSES

    def feed(self, webhook: Claimed) -> TenantFeed:
        """The events of a webhook."""
        types = None if webhook.types is None else tuple(webhook.types)
        selection = Selection(tenant_id=webhook.tenant_id, types=types)
        return TenantFeed(self.pool, selection, self.heavy_reads)


class Dispatcher:
    """Delivers the webhooks of this process. Owned by the service's loop."""

    def __init__(self, source: Source, deliveries: Deliveries) -> None:
        self._source = source
        self._deliveries = deliveries
        self._changed = asyncio.Event()
        self._tasks: dict[tuple[str, str], tuple[Claimed, asyncio.Task[None]]] = {}
        self._stops: dict[tuple[str, str], asyncio.Event] = {}

    def on_changed(self) -> None:
        """Read the webhooks again now, because a webhook was changed here."""
        self._changed.set()

    async def run(self) -> None:
        """Deliver for ever. Each second it sees what other processes changed."""
        try:
            while True:
                try:
                    self._arrange(await self._deliveries.claim())
                except DATABASE_AWAY as error:
                    _log.warning("webhooks_wait", error=type(error).__name__)
                # Before Python 3.12 `wait_for` drops a cancellation that comes with the event.
                try:
                    async with asyncio.timeout(_LOOK_SECONDS):
                        await self._changed.wait()
                except TimeoutError:
                    continue
                self._changed.clear()
        finally:
            tasks = [task for _, task in self._tasks.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _arrange(self, claimed: Sequence[Claimed]) -> None:
        """Stop the tasks of webhooks that were changed or removed. Start a task for each webhook
        that has none."""
        known = {(each.tenant_id, each.webhook_id): each for each in claimed}
        for key, (webhook, task) in list(self._tasks.items()):
            if task.done():
                del self._tasks[key], self._stops[key]
            elif key not in known or known[key].version != webhook.version:
                self._stops[key].set()
        for key, webhook in known.items():
            if key not in self._tasks:
                stop = self._stops[key] = asyncio.Event()
                task = asyncio.create_task(self._deliver_to(webhook, stop))
                self._tasks[key] = (webhook, task)

    async def _deliver_to(self, webhook: Claimed, stop: asyncio.Event) -> None:
        try:
            async with session(trusted_certificates(), private=self._source.private) as http:
                await _Worker(self._source, self._deliveries, webhook, stop, http).run()
        except _Changed:
            self._changed.set()
        except (*DATABASE_AWAY, Overloaded) as error:
            _log.warning("webhook_waits", error=type(error).__name__)
        except Exception as error:  # noqa: BLE001 - one webhook must not end the others
            _log.error("webhook_failed", error=type(error).__name__)


class _Worker:
    """Delivers to one webhook as it is now. A change of the webhook ends it."""

    def __init__(
        self,
        source: Source,
        deliveries: Deliveries,
        webhook: Claimed,
        stop: asyncio.Event,
        http: aiohttp.ClientSession,
    ) -> None:
        self._source = source
        self._deliveries = deliveries
        self._webhook = webhook
        self._stop = stop
        self._http = http
        self._tries = webhook.tries

    async def run(self) -> None:
        """Deliver for ever. Raises _Changed."""
        webhook = self._webhook
        feed = self._source.feed(webhook)
        await self._redeliver(feed)
        if webhook.next_try_at is not None:
            await self._pause((webhook.next_try_at - datetime.now(UTC)).total_seconds())
        position, prev = webhook.position, await feed.last(webhook.position)
        while True:
            position, prev = await self._deliver_after(feed, position, prev)

    async def _deliver_after(
        self, feed: TenantFeed, position: int, prev: str | None
    ) -> tuple[int, str | None]:
        """Deliver the events after a position, until they must be read anew: an erasure may have
        taken their texts meanwhile. Returns the position and the cursor of the last event."""
        async with aclosing(feed.live(self._source.live_log, position)) as pages:
            async for events in pages:
                self._require_same()
                read_at = monotonic()
                for event in events:
                    is_old = monotonic() - read_at > _FRESH_SECONDS
                    if is_old or not await self._deliver(event, prev):
                        return position, prev
                    position, prev = event.position, event.cursor
        return position, prev

    async def _deliver(self, event: Recorded, prev: str | None) -> bool:
        """Send an event once. Returns False where it is to be sent once more, after a pause."""
        self._require_same()
        outcome = await self._send(event, prev)
        if outcome.error is None:
            metrics.WEBHOOKS.labels("delivered").inc()
            await self._write("took", position=event.position)
            self._tries = 0
            return True
        is_last = self._tries == len(self._source.pauses)
        metrics.WEBHOOKS.labels("dead" if is_last else "failed").inc()
        if outcome.status == GONE:
            await self._write("disable", error=outcome.error)
            raise _Changed
        if is_last:
            await self._write(
                "give_up",
                position=event.position,
                type=event.type,
                error=outcome.error,
                most=MOST_DEAD_LETTERS,
            )
            self._tries = 0
            return True
        seconds = max(self._source.pauses[self._tries], outcome.retry_after)
        await self._write("failed", error=outcome.error, seconds=seconds)
        self._tries += 1
        await self._pause(seconds)
        return False

    async def _redeliver(self, feed: TenantFeed) -> None:
        """Send the events once more that the tenant wants again."""
        for position in await self._deliveries.wanted(self._webhook):
            self._require_same()
            page = await feed.page(position - 1, 1)
            error: str | None = "the webhook does not take this type any more"
            if page.events and page.events[0].position == position:
                prev = await feed.last(position - 1)
                error = (await self._send(page.events[0], prev)).error
                metrics.WEBHOOKS.labels("dead" if error else "delivered").inc()
            await self._write("redelivered", position=position, error=error)

    async def _send(self, event: Recorded, prev: str | None) -> Outcome:
        webhook = self._webhook
        body = cloud_event(event, prev)
        message_id = f"evt_{event.cursor.replace('.', '_')}"
        return await send(self._http, webhook.url, webhook.secrets, message_id, body)

    async def _write(self, statement: str, **asked: object) -> None:
        if not await self._deliveries.write(statement, self._webhook, **asked):
            raise _Changed

    async def _pause(self, seconds: float) -> None:
        """Wait for some seconds. Raises _Changed as soon as the webhook has changed."""
        try:
            async with asyncio.timeout(max(seconds, 0.0)):
                await self._stop.wait()
        except TimeoutError:
            return
        raise _Changed

    def _require_same(self) -> None:
        if self._stop.is_set():
            raise _Changed
