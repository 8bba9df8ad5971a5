"""The polls of workers that wait for a build or a run, and how they learn that it was queued."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterable
from typing import Final

from domain.events import BuildQueued, RunQueued
from service.eventlog.errors import Overloaded
from service.eventlog.store import Recorded

MOST_WAITING: Final = 100
"""The most polls of one tenant that wait in one process."""


class Polls:
    """Polls for builds, or for runs: for what events of one type queue.

    Owned by the service's loop. `on_events` gets what is committed, here or elsewhere.
    """

    def __init__(self, queued: type[BuildQueued | RunQueued]) -> None:
        self._queued = queued.__name__
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._is_stopping = False

    async def rounds(self, tenant_id: str, seconds: float) -> AsyncGenerator[None]:
        """Yield at once, and again whenever the tenant queues something within `seconds`.

        Raises Overloaded when too many polls of the tenant wait.
        """
        if not seconds:
            yield
            return
        if len(self._waiting[tenant_id]) >= MOST_WAITING:
            raise Overloaded("too many polls wait for a build or a run")
        is_queued = asyncio.Event()
        self._waiting[tenant_id].add(is_queued)
        clock = asyncio.get_running_loop().time
        deadline = clock() + seconds
        try:
            while True:
                # Before the read: what is queued during the read is not missed.
                is_queued.clear()
                yield
                if self._is_stopping or not await _is_set(is_queued, deadline - clock()):
                    return
        finally:
            self._leave(tenant_id, is_queued)

    def on_events(self, events: Iterable[Recorded]) -> None:
        """Wake the polls of each tenant that has queued something."""
        for event in events:
            if event.type == self._queued:
                for each in self._waiting.get(event.tenant_id, ()):
                    each.set()

    def stop(self) -> None:
        """Let all polls end, because the server stops."""
        self._is_stopping = True
        for waiting in self._waiting.values():
            for each in waiting:
                each.set()

    def _leave(self, tenant_id: str, is_queued: asyncio.Event) -> None:
        self._waiting[tenant_id].remove(is_queued)
        if not self._waiting[tenant_id]:
            del self._waiting[tenant_id]


async def _is_set(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
