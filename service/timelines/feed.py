"""Live timelines: the read model is read once for all watchers of a project.

The live log announces commits of this and of other processes. The items are rows of the read model,
so a stream shows the same items as the pages. The watchers of a project share a ring of its newest
items, and each watcher keeps a cursor alone: a slow watcher needs no memory. A watcher that is
behind the ring reads the table until it has reached the ring. No item beyond the read model's
checkpoint is read, so no item appears later at or below a position that a watcher has passed.
"""

import asyncio
from bisect import bisect_right
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final

import orjson
import structlog

from domain.events import ERASURES, MemberRemoved, ProjectErasureRequested, SessionMode
from projections import timeline
from projections.projection import reached
from projections.timeline import TIMELINE, Shown, TimelinePage, TimelineRow
from service import wire
from service.eventlog.live import POLL, LiveLog
from service.eventlog.store import DATABASE_AWAY, EventStore, Recorded
from service.postgres.connections import Pool, tenant_transaction
from service.timelines import items

RING: Final = 100
RING_BYTES: Final = 1 << 20
"""The most items, and bytes, that the ring of a watched project keeps."""

STEP: Final = 20
"""The most items that a watcher reads at a time, from the ring or from the table."""

READERS: Final = 4
"""The most watchers that read the table at a time, so that requests have the other connections."""

BEHIND_SECONDS: Final = 0.1
"""How often the checkpoint is polled while the read model is behind."""

_SHOWN: Final = frozenset(kind.__name__ for kind in TIMELINE.handles)
_ERASURES: Final = frozenset(kind.__name__ for kind in ERASURES)
_REMOVED: Final = MemberRemoved.__name__
_CLOSED: Final = ProjectErasureRequested.__name__
_log = structlog.stdlib.get_logger(__name__)

Key = tuple[str, str]
"""A tenant and its project."""


@dataclass(frozen=True, slots=True)
class Item:
    """A row of the timeline as a stream event: its name and JSON, and the fields of the filter."""

    position: int
    mode: SessionMode
    is_visible: bool
    is_live: bool
    event: str
    json: bytes


class Watch:
    """A watcher of a project. `is_over` is true once the membership of its user has ended."""

    def __init__(self, user_id: str | None) -> None:
        self.user_id = user_id
        self.is_over = False


class Feed:
    """The newest items of a project: the ring has all items after `_floor` up to `reached`."""

    def __init__(self, wanted: int) -> None:
        self.watches: set[Watch] = set()
        self.wanted = wanted
        self.reached = -1
        self.news = asyncio.Event()
        self.erasures = 0
        self._items: list[Item] = []
        self._bytes = 0
        self._floor = 0

    @property
    def is_behind(self) -> bool:
        """Whether the log has positions of the project that the ring has not reached."""
        return self.reached < self.wanted

    def after(self, position: int) -> list[Item] | None:
        """The next items after a position; None when the ring does not go back that far."""
        if position < self._floor:
            return None
        start = bisect_right(self._items, position, key=attrgetter("position"))
        return self._items[start : start + STEP]

    def begin(self, items: Sequence[Item], reached: int, *, floor: int) -> None:
        """Start the ring with all items after `floor`."""
        self._floor = floor
        self.extend(items, reached)

    def extend(self, items: Sequence[Item], reached: int) -> None:
        """Add the next items, all up to `reached`. The oldest items leave a full ring."""
        self._items += items
        self._bytes += sum(len(item.json) for item in items)
        gone = 0
        while len(self._items) - gone > RING or self._bytes > RING_BYTES:
            self._bytes -= len(self._items[gone].json)
            gone += 1
        if gone:
            self._floor = self._items[gone - 1].position
            del self._items[:gone]
        self.reached = reached
        self.notify()

    def dismiss(self, user_id: str) -> None:
        """End the watches of a user that was removed."""
        for watch in self.watches:
            watch.is_over = watch.is_over or watch.user_id == user_id
        self.notify()

    def forget(self) -> None:
        """Empty the ring after an erasure. This also invalidates the read in flight."""
        self.erasures += 1
        self._items.clear()
        self._bytes = 0
        self._floor = self.reached
        self.notify()

    def close(self) -> None:
        """End all watches: the project is erased."""
        for watch in self.watches:
            watch.is_over = True
        self.notify()

    def notify(self) -> None:
        """Wake the watchers that wait."""
        self.news.set()
        self.news = asyncio.Event()


class Feeds:
    """The feeds of all watched projects. Owned by the service's loop; `run` is its one task."""

    def __init__(self, pool: Pool, store: EventStore, live_log: LiveLog, log_epoch: str) -> None:
        self._pool = pool
        self._store = store
        self._live_log = live_log
        self._log_epoch = log_epoch
        self._feeds: dict[Key, Feed] = {}
        self._followed = 0
        self._is_watched = asyncio.Event()
        self._is_wanted = asyncio.Event()
        self._readers = asyncio.Semaphore(READERS)
        self.readings = 0
        """The number of pages that were read from the table."""

    async def run(self) -> None:
        """Follow the log while a project is watched, and fill the rings."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen())
            tasks.create_task(self._read())

    # Watching ------------------------------------------------------------------------------------

    async def follow(
        self, key: Key, after: int, shown: Shown, user_id: str | None = None
    ) -> AsyncGenerator[list[Item]]:
        """The items after a position, in order and without end: stored items, then new items.

        With a `user_id` the stream ends when that user is removed from the project.
        """
        with self._watching(key, user_id) as (feed, watch):
            while not watch.is_over:
                items = feed.after(after)
                if items is None:
                    items, after = await self._stored(key, after, shown)
                elif items:
                    after = items[-1].position
                else:
                    await feed.news.wait()
                    continue
                found = [
                    each
                    for each in items
                    if shown.includes(each.mode, is_visible=each.is_visible, is_live=each.is_live)
                ]
                if found:
                    yield found

    @contextmanager
    def _watching(self, key: Key, user_id: str | None) -> Generator[tuple[Feed, Watch]]:
        """The project's feed, which exists while it has a watcher."""
        if key not in self._feeds:
            self._feeds[key] = Feed(self._followed)
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
            if not self._feeds:
                self._is_watched.clear()

    async def _stored(self, key: Key, after: int, shown: Shown) -> tuple[list[Item], int]:
        """The next items in the table after a position, and the position that the read has reached.

        Without items while the database is away.
        """
        try:
            async with self._readers, tenant_transaction(self._pool, key[0]) as connection:
                upto = await reached(connection, TIMELINE.name)
                page = await self._page(connection, key, shown, limit=STEP, after=after)
        except DATABASE_AWAY as error:
            _log.warning("watcher_waits", error=type(error).__name__)
            await asyncio.sleep(POLL)
            return [], after
        items = self._items(page, upto)
        return items, items[-1].position if page.has_more and items else max(after, upto)

    # Following -----------------------------------------------------------------------------------

    async def _listen(self) -> None:
        """Follow the live log while a project is watched."""
        while True:
            await self._is_watched.wait()
            try:
                self._followed = await self._store.head()
            except DATABASE_AWAY as error:
                _log.warning("feeds_wait", error=type(error).__name__)
                await asyncio.sleep(POLL)
                continue
            for feed in self._feeds.values():
                feed.wanted = max(feed.wanted, self._followed)
            self._is_wanted.set()
            async with aclosing(self._live_log.follow(self._followed)) as pages:
                async for page in pages:
                    self._note(page)
                    if not self._feeds:
                        break

    def _note(self, page: Sequence[Recorded]) -> None:
        """Note the projects that have new events."""
        for event in page:
            self._followed = event.position
            feed = self._feeds.get((event.tenant_id, event.project_id or ""))
            if feed is None:
                continue
            if event.type in _ERASURES:
                feed.forget()
            if event.type in _SHOWN:
                feed.wanted = event.position
                self._is_wanted.set()
            elif event.type == _REMOVED:
                feed.dismiss(orjson.loads(event.state)["user_id"])
            elif event.type == _CLOSED:
                feed.close()

    async def _read(self) -> None:
        """Fill the rings up to the head of the log, or to the read model's checkpoint before it."""
        while True:
            await self._is_wanted.wait()
            self._is_wanted.clear()
            try:
                await self._read_on()
            except DATABASE_AWAY as error:
                _log.warning("feeds_wait", error=type(error).__name__)
                await asyncio.sleep(POLL)
            if any(feed.is_behind for feed in self._feeds.values()):
                await asyncio.sleep(BEHIND_SECONDS)
                self._is_wanted.set()

    async def _read_on(self) -> None:
        behind = [(key, feed) for key, feed in self._feeds.items() if feed.is_behind]
        for key, feed in behind:
            async with tenant_transaction(self._pool, key[0]) as connection:
                upto = await reached(connection, TIMELINE.name)
                while feed.watches and feed.is_behind and feed.reached < upto:
                    await self._advance(connection, key, feed, upto)

    async def _advance(self, connection: Any, key: Key, feed: Feed, upto: int) -> None:
        """Read the next items of a project into its ring; for a new ring, the newest items."""
        whole, erasures = Shown(with_hidden=True, with_live=True), feed.erasures
        after = None if feed.reached < 0 else feed.reached
        page = await self._page(connection, key, whole, limit=RING, after=after)
        if feed.erasures != erasures:
            return
        if after is None:
            items = self._items(page, upto)
            feed.begin(items, upto, floor=_floor(items, upto) if page.has_more else 0)
        else:
            items = self._items(page, upto)
            feed.extend(items, items[-1].position if page.has_more and items else upto)

    # The table -----------------------------------------------------------------------------------

    async def _page(
        self, connection: Any, key: Key, shown: Shown, *, limit: int, after: int | None = None
    ) -> TimelinePage:
        self.readings += 1
        tenant_id, project_id = key
        return await timeline.page(
            connection,
            tenant_id=tenant_id,
            project_id=project_id,
            shown=shown,
            limit=limit,
            after=after,
        )

    def _items(self, page: TimelinePage, upto: int) -> list[Item]:
        """The rows up to the checkpoint as items, oldest first."""
        return [self._item(row) for row in reversed(page.rows) if row.position <= upto]

    def _item(self, row: TimelineRow) -> Item:
        """The stream event of a row. For a change of a build it has the item that asked for it."""
        if row.kind == "lock":
            event, data = "lock", row.data
        elif row.kind == "erasure":
            event, data = "erased", row.data
        else:
            event, data = (
                "item",
                wire.dumped(items.item(row.request or row, self._log_epoch)),
            )
        return Item(row.position, row.mode, row.is_visible, row.is_live, event, orjson.dumps(data))


def _floor(items: Sequence[Item], upto: int) -> int:
    """The position after which `items` has all items up to `upto`."""
    return items[0].position - 1 if items else upto
