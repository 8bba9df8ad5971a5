"""How long a stream may be read: until its token expires, or its reader's membership ends."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable
from contextlib import contextmanager
from typing import Any, Final

import orjson

from domain.events import MemberRemoved, ProjectErasureRequested
from projections.projects import project_read
from service.concurrency.lru import LRU
from service.concurrency.retry import retrying
from service.eventlog.errors import DATABASE_AWAY
from service.eventlog.live import POLL
from service.eventlog.store import Recorded
from service.postgres.connections import Pool, tenant_rows

RENEW_SECONDS: Final = 60.0
"""How long before its token expires a stream asks for another; at most half the token's life."""

MOST_ENDED: Final = 10_000
"""Removals and erasures that are remembered, for streams that begin at the same moment."""

OnExpiring = Callable[[float], Awaitable[None]]
"""Called once before the token of a stream expires, with the expiry in Unix seconds."""

Permit = Callable[[OnExpiring], Coroutine[Any, Any, str]]
"""Waits until access to the stream ends; returns the reason: `removed` or `expired`."""

Member = tuple[str, str, str]
"""A tenant, its project, and a user."""


class StreamAccess:
    """Ends access when a member leaves. Owned by the service's loop."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._waiting: defaultdict[Member, set[asyncio.Event]] = defaultdict(set)
        self._ended: LRU[tuple[str, ...], int] = LRU(MOST_ENDED)
        """The last positions at which members were removed and projects closed."""

    def on_events(self, events: Iterable[Recorded]) -> None:
        """End the streams of members that were removed, and of projects that are erased."""
        for event in events:
            if event.type == MemberRemoved.__name__:
                state = orjson.loads(event.state)
                member = (event.tenant_id, state["project_id"], state["user_id"])
                self._ended.put(member, event.position)
                self._end(member)
            elif event.type == ProjectErasureRequested.__name__:
                project_of = (event.tenant_id, event.project_id or "")
                self._ended.put(project_of, event.position)
                for member in [each for each in self._waiting if each[:2] == project_of]:
                    self._end(member)

    def _end(self, member: Member) -> None:
        for left in self._waiting.get(member, ()):
            left.set()

    def permit(
        self, member: Member, expires_at: float | None, member_at: int | None = None
    ) -> Permit:
        """The permit of a member, until `expires_at` (Unix seconds) for a caller with a token.

        `member_at` is the position of an append of this process that was decided on the membership.
        """

        async def ended(on_expiring: OnExpiring) -> str:
            with self._listening(member) as left:
                if not await self._is_member(member, member_at):
                    return "removed"
                if expires_at is None:
                    await left.wait()
                    return "removed"
                rest = expires_at - time.time()
                if await _happens(left, max(rest - RENEW_SECONDS, rest / 2)):
                    return "removed"
                await on_expiring(expires_at)
                return "removed" if await _happens(left, expires_at - time.time()) else "expired"

        return ended

    @contextmanager
    def _listening(self, member: Member) -> Generator[asyncio.Event]:
        left = asyncio.Event()
        self._waiting[member].add(left)
        try:
            yield left
        finally:
            self._waiting[member].remove(left)
            if not self._waiting[member]:
                del self._waiting[member]

    async def _is_member(self, member: Member, member_at: int | None) -> bool:
        """Check again after subscribing, so that a removal in between is not missed.

        Waits while the database is away.
        """
        tenant_id, project_id, user_id = member
        if member_at is not None:
            ends = (self._ended.get(key) or 0 for key in (member, (tenant_id, project_id)))
            return max(ends) < member_at

        async def find() -> bool:
            read = project_read(tenant_id=tenant_id, project_id=project_id, user_id=user_id)
            return bool(await tenant_rows(self._pool, tenant_id, read))

        return await retrying(find, DATABASE_AWAY, event="permit_waits", pauses=(POLL,))


async def _happens(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False
