"""Timelines as they grow: one read of the read model for all watchers of a project or a session.

The live log says what was committed, here or elsewhere. The items are the read model's own rows, so
watchers see what the pages show. The subject of a watcher is a project, or one session of it. The
watchers of a subject share a ring of its newest items, and each holds a cursor and nothing else: a
slow watcher costs no memory, and a watcher that has fallen out of the ring reads the table until it
is back in it. Nothing is read beyond the read model's checkpoint, so no item can appear later at or
below a position that was passed.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Generator, Iterable, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Final, TypeAlias

import orjson
import structlog

from domain.events import (
    ERASURES,
    MemberRemoved,
    ProjectErasureRequested,
    PromptErasureRequested,
    TimelineMode,
)
from projections.projection import reached
from projections.sessions import Part
from projections.timeline import (
    TIMELINE,
    PageRead,
    Shown,
    TimelinePage,
    TimelineRow,
    messages_read,
    page_read,
)
from service.concurrency.retry import retrying
from service.concurrency.ring import Ring
from service.eventlog.errors import DATABASE_AWAY
from service.eventlog.live import POLL, LiveLog, pass_on
from service.eventlog.store import EventStore, Recorded
from service.eventlog.stream_ids import session_stream
from service.postgres.connections import Connection, Pool, tenant_transaction
from service.timelines import items

RING: Final = 100
RING_BYTES: Final = 1 << 20
"""The most items, and bytes, that the ring of a watched subject keeps."""

STEP: Final = 20
"""Items that a watcher gets at a time, from the ring or from the table."""

READERS: Final = 4
"""The most watchers that read the table at a time, so that requests have the other connections."""

AT_ONCE: Final = 20
"""Subjects of a tenant whose next items are read in one round trip."""

BEHIND_SECONDS: Final = 0.1
"""How often the checkpoint is read while the read model is behind the subjects that are watched."""

FAILED_SECONDS: Final = 5.0
"""The seconds until the next read, after a read of a subject has failed. Other subjects go on."""

_IDLE_SECONDS: Final = 60.0

_SHOWN: Final = frozenset(kind.__name__ for kind in TIMELINE.handles)
_REMOVALS: Final = frozenset(kind.__name__ for kind in (*ERASURES, PromptErasureRequested))
"""The events that take items out of a timeline. A closed prompt takes out its versions."""

_REMOVED: Final = MemberRemoved.__name__
_CLOSED: Final = ProjectErasureRequested.__name__
_log = structlog.stdlib.get_logger(__name__)
_EVERYTHING: Final = Shown(with_hidden=True, with_live=True)
Key: TypeAlias = tuple[str, str, str]
"""A tenant, its project, and the stream of a session of it; that is empty for the whole project."""


@dataclass(frozen=True, slots=True)
class Project:
    """What is watched: the items of a project that all its members see."""

    tenant_id: str
    project_id: str

    @property
    def key(self) -> Key:
        """The name of the subject."""
        return self.tenant_id, self.project_id, ""

    def read(self, shown: Shown, *, limit: int, after: int | None) -> PageRead:
        """The newest items, or the next ones after a position."""
        return page_read(self.tenant_id, self.project_id, shown, limit=limit, after=after)


@dataclass(frozen=True, slots=True)
class Session:
    """What is watched: the messages of a session, and its erasure. `parts` are the session itself
    and the sessions that it was forked from."""

    tenant_id: str
    project_id: str
    parts: tuple[Part, ...]

    @property
    def key(self) -> Key:
        """The name of the subject."""
        return self.tenant_id, self.project_id, str(session_stream(self.parts[0].session_id))

    def read(self, _: Shown, *, limit: int, after: int | None) -> PageRead:
        """The newest messages, or the next ones after a position."""
        return messages_read(self.tenant_id, self.parts, limit=limit, after=after, with_live=True)


Subject: TypeAlias = Project | Session


@dataclass(frozen=True, slots=True)
class Item:
    """A row of the timeline as a stream event, and the fields of the filter."""

    position: int
    cursor: str
    mode: TimelineMode
    is_visible: bool
    is_live: bool
    event: items.StreamEvent


class Watch:
    """A watcher of a subject. `is_over` is true once the membership of its user has ended."""

    def __init__(self, user_id: str | None) -> None:
        self.user_id = user_id
        self.is_over = False


class Feed:
    """The newest items of a subject: all of those above the ring's floor, up to `reached`."""

    def __init__(self, subject: Subject, wanted: int) -> None:
        self.subject = subject
        self.watches: set[Watch] = set()
        self.wanted = wanted
        self.reached = -1
        self.erasures = 0
        self.failed_until = 0.0
        self.ring: Ring[Item] = Ring(RING, RING_BYTES)

    @property
    def is_behind(self) -> bool:
        """Whether the log has positions of the subject that the ring has not reached."""
        return self.reached < self.wanted

    def lacks(self, upto: int) -> bool:
        """The subject is watched, and was not read up to this position."""
        return bool(self.watches) and self.is_behind and self.reached < upto

    def begin(self, items: Sequence[Item], reached: int, *, floor: int) -> None:
        """Begin the ring with all items above `floor`."""
        self.ring.restart(floor)
        self.extend(items, reached)

    def extend(self, items: Sequence[Item], reached: int) -> None:
        """Add the next items, which are all items up to `reached`."""
        self.reached = reached
        self.ring.extend(
            [item.position for item in items], items, [len(item.event.json) for item in items]
        )

    def dismiss(self, user_id: str) -> None:
        """End the watches of a user who is no member any more."""
        for watch in self.watches:
            watch.is_over = watch.is_over or watch.user_id == user_id
        self.ring.wake()

    def forget(self) -> None:
        """Drop all items, because some were erased. It also invalidates the read in flight."""
        self.erasures += 1
        self.ring.restart(self.reached)

    def close(self) -> None:
        """End all watches: the project is erased."""
        for watch in self.watches:
            watch.is_over = True
        self.ring.wake()


class Feeds:
    """The feeds of all watched subjects. Owned by the service's loop; `run` is its one task.

    `_of_project` has the keys of the feeds of each project, which an event of the project may end.
    """

    def __init__(self, pool: Pool, store: EventStore, live_log: LiveLog) -> None:
        self._pool = pool
        self._store = store
        self._live_log = live_log
        self._feeds: dict[Key, Feed] = {}
        self._of_project: defaultdict[tuple[str, str], set[Key]] = defaultdict(set)
        self._followed = 0
        self._is_watched = asyncio.Event()
        self._is_wanted = asyncio.Event()
        self._readers = asyncio.Semaphore(READERS)
        self.readings = 0
        """The number of pages that were read from the table."""

    async def run(self) -> None:
        """Follow the log while a subject is watched, and fill the rings."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen())
            tasks.create_task(self._read())

    # Watching ------------------------------------------------------------------------------------

    async def follow(
        self, subject: Subject, after: int, shown: Shown, user_id: str | None = None
    ) -> AsyncGenerator[list[Item]]:
        """The items after a position, in order and without end: stored items, then new items.

        With a `user_id` the stream ends when that user is removed from the project.
        """
        with self._watching(subject, user_id) as (feed, watch):
            while not watch.is_over:
                items = feed.ring.after(after, STEP)
                if items is None:
                    items, after = await self._stored(subject, after, shown)
                elif items:
                    after = items[-1].position
                else:
                    await feed.ring.wait(_IDLE_SECONDS)
                    continue
                found = [
                    each
                    for each in items
                    if shown.includes(each.mode, is_visible=each.is_visible, is_live=each.is_live)
                ]
                if found:
                    yield found

    @contextmanager
    def _watching(self, subject: Subject, user_id: str | None) -> Generator[tuple[Feed, Watch]]:
        """The subject's feed, which exists while it has a watcher."""
        key = subject.key
        if key not in self._feeds:
            self._feeds[key] = Feed(subject, self._followed)
            self._of_project[key[:2]].add(key)
        feed = self._feeds[key]
        watch = Watch(user_id)
        feed.watches.add(watch)
        self._is_watched.set()
        self._is_wanted.set()
        try:
            yield feed, watch
        finally:
            feed.watches.remove(watch)
            if not feed.watches:
                del self._feeds[key]
                self._of_project[key[:2]].remove(key)
                if not self._of_project[key[:2]]:
                    del self._of_project[key[:2]]
            if not self._feeds:
                self._is_watched.clear()

    async def _stored(self, subject: Subject, after: int, shown: Shown) -> tuple[list[Item], int]:
        """The table's items after a position, and how far they go; waits while it is away."""
        tenant_id = subject.tenant_id

        async def read() -> tuple[int, TimelinePage]:
            page = subject.read(shown, limit=STEP, after=after)
            self.readings += 1
            async with self._readers, tenant_transaction(self._pool, tenant_id) as connection:
                upto = await reached(connection, TIMELINE.name)
                await page.send(connection)
                return upto, await page.page(connection)

        upto, page = await retrying(read, DATABASE_AWAY, event="watcher_waits", pauses=(POLL,))
        items = self._items(page, upto)
        return items, items[-1].position if page.has_more and items else max(after, upto)

    # Following -----------------------------------------------------------------------------------

    async def _listen(self) -> None:
        """Follow the live log while a subject is watched."""
        while True:
            await self._is_watched.wait()
            self._followed = await retrying(
                self._store.head, DATABASE_AWAY, event="feeds_wait", pauses=(POLL,)
            )
            for feed in self._feeds.values():
                feed.wanted = max(feed.wanted, self._followed)
            self._is_wanted.set()
            async with aclosing(self._live_log.follow(self._followed)) as pages:
                async for page in pages:
                    pass_on(page, self._note)
                    if not self._feeds:
                        break

    def _note(self, page: Iterable[Recorded]) -> None:
        """Note the subjects that have new events."""
        for event in page:
            self._followed = event.position
            project = (event.tenant_id, event.project_id or "")
            if project not in self._of_project:
                continue
            if event.type in _SHOWN:
                self._want(project, event)
            for feed in [self._feeds[key] for key in self._of_project[project]]:
                if event.type in _REMOVALS:  # also of a session that another one was forked from
                    feed.forget()
                elif event.type == _REMOVED:
                    feed.dismiss(orjson.loads(event.state)["user_id"])
                elif event.type == _CLOSED:
                    feed.close()

    def _want(self, project: tuple[str, str], event: Recorded) -> None:
        """Have the project read up to the event, and the session of the event if it is watched."""
        for key in ((*project, ""), (*project, event.stream_id)):
            if (feed := self._feeds.get(key)) is not None:
                feed.wanted = event.position
                self._is_wanted.set()

    async def _read(self) -> None:
        """Fill the rings up to the head of the log, or to the read model's checkpoint before it."""
        while True:
            await self._is_wanted.wait()
            self._is_wanted.clear()
            await retrying(self._read_on, DATABASE_AWAY, event="feeds_wait", pauses=(POLL,))
            if any(feed.is_behind for feed in self._feeds.values()):
                await asyncio.sleep(BEHIND_SECONDS)
                self._is_wanted.set()

    async def _read_on(self) -> None:
        """Read the next items of all subjects that are behind, a tenant a transaction."""
        now = asyncio.get_running_loop().time()
        tenants: defaultdict[str, list[Feed]] = defaultdict(list)
        for feed in self._feeds.values():
            if feed.is_behind and feed.failed_until <= now:
                tenants[feed.subject.tenant_id].append(feed)
        for tenant_id, feeds in tenants.items():
            await self._advance_tenant(tenant_id, feeds)

    async def _advance_tenant(self, tenant_id: str, feeds: list[Feed]) -> None:
        """Bring a tenant's subjects up to the checkpoint. If that fails, do it one by one, and let
        the subject that fails wait."""
        try:
            async with tenant_transaction(self._pool, tenant_id) as connection:
                upto = await reached(connection, TIMELINE.name)
                for n in range(0, len(feeds), AT_ONCE):
                    await self._advance(connection, feeds[n : n + AT_ONCE], upto)
        except DATABASE_AWAY:
            raise
        except Exception as error:  # noqa: BLE001 - what is in one subject must not stop the others
            if len(feeds) > 1:
                for each in feeds:
                    await self._advance_tenant(tenant_id, [each])
                return
            _log.error("feed_failed", error=type(error).__name__, tenant_id=tenant_id)
            feeds[0].failed_until = asyncio.get_running_loop().time() + FAILED_SECONDS

    async def _advance(self, connection: Connection, feeds: list[Feed], upto: int) -> None:
        """Bring some subjects of a tenant up to the checkpoint; their pages share round trips."""
        while behind := [feed for feed in feeds if feed.lacks(upto)]:
            reads: list[tuple[Feed, int, PageRead]] = []
            for feed in behind:
                after = None if feed.reached < 0 else feed.reached
                page = feed.subject.read(_EVERYTHING, limit=RING, after=after)
                reads.append((feed, feed.erasures, page))
                self.readings += 1
                await page.send(connection)
            for feed, erasures, page in reads:
                self._extend(feed, erasures, await page.page(connection), upto)

    def _extend(self, feed: Feed, erasures: int, page: TimelinePage, upto: int) -> None:
        """Put the rows into the subject's ring; the first ones are the newest."""
        if feed.erasures != erasures:
            return
        items = self._items(page, upto)
        if feed.reached < 0:
            feed.begin(items, upto, floor=_floor(items, upto) if page.has_more else 0)
        else:
            feed.extend(items, items[-1].position if page.has_more and items else upto)

    # The table -----------------------------------------------------------------------------------

    def _items(self, page: TimelinePage, upto: int) -> list[Item]:
        """The rows up to the checkpoint as items, oldest first."""
        return [self._item(row) for row in reversed(page.rows) if row.position <= upto]

    def _item(self, row: TimelineRow) -> Item:
        """The stream event of a row."""
        event = items.stream_event(row)
        return Item(row.position, row.cursor, row.mode, row.is_visible, row.is_live, event)


def _floor(items: Sequence[Item], upto: int) -> int:
    """The position after which `items` has all items up to `upto`."""
    return items[0].position - 1 if items else upto
