"""A replica of the database: a hot standby that answers reads while it keeps up with the log.

PostgreSQL copies its log of writes to the replica. So the replica is always behind, usually by less
than a millisecond. `Replica` looks every second whether the replica comes to the head of the log in
time. While it does not, the primary answers all reads.
"""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any, Final, TypeVar

import psycopg
import structlog
from psycopg_pool import PoolTimeout

import sql
from service.ops import metrics
from service.postgres.connections import Pool, service_transaction

SQL: Final = sql.statements("replica.sql")
LAG_SECONDS: Final = 1.0
"""How long the replica may need to come to a position, or to answer, before reads leave it."""

_LOOK_SECONDS: Final = 1.0
_LEFT_LOOK_SECONDS: Final = 5.0
"""How long until the next look: while reads go to the replica, and while they do not."""

_PAUSE_SECONDS: Final = 0.02
_AWAY: Final = (psycopg.Error, PoolTimeout, OSError)
T = TypeVar("T")
_log = structlog.stdlib.get_logger(__name__)


class ReplicaAway(Exception):
    """The replica does not answer. The primary must be asked."""


class Replica:
    """Owned by the service's loop; `run` is its one task.

    `pool` has the connections of reads. `own_pool` has the one connection of `run`, which never
    waits behind reads. `known_head` returns the position that the process knows the log to have
    come to, or None while it does not hear of what others append.
    """

    def __init__(self, pool: Pool, own_pool: Pool, known_head: Callable[[], int | None]) -> None:
        self.pool = pool
        self.known_head = known_head
        self.follows = False
        """Whether it answers and keeps up, so that reads go to it."""
        self._own_pool = own_pool
        self._is_away = asyncio.Event()
        self._doubted = asyncio.Event()
        self._left: set[asyncio.Future[Any]] = set()

    async def run(self) -> None:
        """Look at the replica, for ever: at once, again and again, and after each doubt."""
        while True:
            self._doubted.clear()
            began = monotonic()
            looking = asyncio.create_task(self._fault())
            done, _ = await asyncio.wait({looking}, timeout=2 * LAG_SECONDS)
            if not done:
                self._is_away.set()
                self._note("it does not answer")
            fault = await looking
            self._is_away.clear()
            metrics.REPLICA_LAG.set(monotonic() - began)
            self._note(fault)
            try:
                pause = _LOOK_SECONDS if self.follows else _LEFT_LOOK_SECONDS
                await asyncio.wait_for(self._doubted.wait(), pause)
            except TimeoutError:
                continue
            await asyncio.sleep(_PAUSE_SECONDS)

    def doubt(self) -> None:
        """Send no more reads to it before it was looked at: a read has failed there."""
        self.follows = False
        self._doubted.set()

    async def answer(self, work: Awaitable[T]) -> T:
        """The result of `work`, which reads from the replica.

        Raises ReplicaAway when the replica stops answering meanwhile. The work is left behind then:
        what waits for a frozen server cannot even be cancelled.
        """
        working = asyncio.ensure_future(work)
        gone = asyncio.create_task(self._is_away.wait())
        try:
            await asyncio.wait((working, gone), return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                return working.result()
            raise ReplicaAway
        finally:
            gone.cancel()
            if not working.done():
                self._left.add(working)
                working.add_done_callback(self._forget)
                working.cancel()

    def _forget(self, work: asyncio.Future[Any]) -> None:
        self._left.discard(work)
        if not work.cancelled():
            work.exception()  # nobody waits for it any more

    async def _fault(self) -> str | None:
        """Why reads must not go to the replica now; None where all is well."""
        target, deadline = self.known_head() or 0, monotonic() + LAG_SECONDS
        try:
            while True:
                is_replica, head = await self._state()
                if not is_replica:
                    return "it is no replica any more"
                if head >= target:
                    await self._require_connection()
                    return None
                if monotonic() >= deadline:
                    return "it is behind"
                await asyncio.sleep(_PAUSE_SECONDS)
        except _AWAY as error:
            return type(error).__name__

    async def _require_connection(self) -> None:
        """Raises PoolTimeout where reads would still wait for their first connection."""
        if not self.follows:
            async with service_transaction(self.pool):
                pass

    async def _state(self) -> tuple[bool, int]:
        """Whether it is a replica, and the head of its log."""
        async with service_transaction(self._own_pool) as connection:
            found = await connection.execute(SQL["state"])
        row = await found.fetchone()
        assert row is not None
        return bool(row[0]), int(row[1])

    def _note(self, fault: str | None) -> None:
        """Send reads there or not, and log where that has changed."""
        follows = fault is None
        if follows and not self.follows:
            _log.info("reads_go_to_the_replica")
        elif self.follows and not follows:
            _log.warning("reads_leave_the_replica", reason=fault)
        self.follows = follows
        metrics.REPLICA_FOLLOWS.set(follows)
