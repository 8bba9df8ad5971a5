"""Logs as life would write them: every event comes out of a real decider, by a seeded choice.

Both tenants use the same ids for their users, projects, sessions and reservations, so whatever
forgets the tenant mixes them up.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from psycopg import sql as compose
from psycopg.rows import dict_row

from domain.errors import Refused
from projections import PROJECTIONS
from projections.projection import Connection, catch_up_one
from service.eventlog.live import LiveLog
from service.eventlog.store import EventStore, NewEvent, Recorded
from service.eventlog.writer import Writer
from service.postgres import connections
from tests.projections.actions.append import Append
from tests.projections.actions.builds import Builds
from tests.projections.actions.projects import Projects
from tests.projections.actions.prompts import Prompts
from tests.projections.actions.replies import Replies
from tests.projections.actions.runs import Runs
from tests.projections.actions.sessions import Sessions
from tests.projections.actions.values import TENANTS
from tests.projections.fold import Row, key_of

IN_BACKGROUND: Final = {each.name for each in PROJECTIONS if not each.is_inline}
"""The read models that appends leave to the background."""


class World(Projects, Replies, Sessions, Builds, Runs, Prompts):
    """What has happened so far, and what may happen next."""

    def appends(self, events: int) -> list[tuple[NewEvent, ...]]:
        """The next appends, of at least so many events together."""
        made: list[tuple[NewEvent, ...]] = []
        possible = self._of_projects() | self._of_replies() | self._of_sessions()
        possible |= self._of_builds() | self._of_runs() | self._of_prompts()
        actions, weights = list(possible), list(possible.values())
        while sum(map(len, made)) < events:
            (action,) = self._random.choices(actions, weights)
            append = Append(self._streams, self._random.choice(TENANTS))
            try:
                action(append)
            except Refused:
                continue
            if append.events:
                self._streams |= append.streams
                made.append(tuple(append.events))
        return made


# The log in a database ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Log:
    """A database's log, to write and to read."""

    writer: Writer
    store: EventStore

    async def append(self, appends: Iterable[Sequence[NewEvent]]) -> None:
        """Append all of them, in this order, many a commit."""
        await asyncio.gather(*(self.writer.append(each) for each in appends))

    async def events(self) -> list[Recorded]:
        """Everything in it."""
        return [event async for page in self.store.replay() for event in page]


@asynccontextmanager
async def writing(url: str) -> AsyncGenerator[Log, None]:
    """The log of a database with a writer of its own, read models carried along."""
    async with connections.pool(url) as pool:
        store = EventStore(pool)
        writer = Writer(lambda: connections.connect(url), LiveLog(store))
        task = asyncio.create_task(writer.run())
        try:
            yield Log(writer, store)
        finally:
            writer.close()
            await task


@asynccontextmanager
async def owning(url: str) -> AsyncGenerator[Connection, None]:
    """A connection as the database's owner."""
    async with await connections.connect(url, as_service=False) as connection:
        yield connection


async def background(connection: Connection) -> None:
    """Bring the read models that appends leave to the background up to the log."""
    for name in IN_BACKGROUND:
        while not await catch_up_one(connection, name):
            pass


async def live(
    connection: Connection, name: str, schema: str = "app", *, tenant_id: str | None = None
) -> list[Row]:
    """The rows of a read model as they are, by key."""
    if schema == "app" and name in IN_BACKGROUND:
        await background(connection)
    query = compose.SQL(
        "select * from {} where %(tenant)s::text is null or tenant_id = %(tenant)s order by {}"
    ).format(
        compose.Identifier(schema, name),
        compose.SQL(", ").join(map(compose.Identifier, key_of(name))),
    )
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(query, {"tenant": tenant_id})
        return await cursor.fetchall()
