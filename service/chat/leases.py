"""Leases: a process shows that it is alive by renewing its lease until it stops or dies."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from typing import Final

import structlog

import sql
from service.eventlog.errors import DATABASE_AWAY
from service.postgres.connections import Connection, Pool, service_transaction

SQL: Final = sql.statements("leases.sql")
_RETRY_SECONDS: Final = 0.5

_log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseTimes:
    """In seconds. All processes of a database have the same."""

    lasts: float = 10.0
    """A process that does not renew its lease for so long is dead to the others."""
    renewed_every: float = 3.0
    stable_after: float = 3.0
    """How long after its start, and after a gap in its own renewals, a process takes no other
    process for dead: the others need the time to renew their leases, too."""
    database_stable_after: float = 5.0
    """How long after the start of the database no process is taken for dead: perhaps the
    database was away, and not the process."""


TIMES: Final = LeaseTimes()


class Lease:
    """This process's lease. Owned by the service's loop; `run` is its one task.

    `_until` is the end of the lease by the clock of the database. `_renewed_at` and `_stable_at`
    are times of this process's clock.
    """

    def __init__(
        self,
        pool: Pool,
        lease_id: int,
        until: datetime,
        times: LeaseTimes,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.lease_id = lease_id
        self.times = times
        self._pool = pool
        self._until = until
        self._clock = clock
        self._renewed_at = clock()
        self._stable_at = self._renewed_at + times.stable_after

    @property
    def stable_until(self) -> datetime | None:
        """When the lease ends; None if this process may not take other processes for dead.

        The process may do so when its own lease was renewed in time for a while: then the other
        processes could renew their leases as well.
        """
        now = self._clock()
        return self._until if now >= self._stable_at and not self._is_late(now) else None

    def _is_late(self, now: float) -> bool:
        """Whether half of the lease's time has passed without a renewal. If the database stands
        still for less than that, no lease expires that was renewed in time before."""
        return now - self._renewed_at >= self.times.lasts / 2

    async def run(self) -> None:
        """Renew the lease for ever. A process that was frozen for a day ends: its lease is gone."""
        while True:
            try:
                await self._renew()
                await asyncio.sleep(self.times.renewed_every)
            except DATABASE_AWAY as error:
                _log.warning("lease_not_renewed", error=type(error).__name__)
                await asyncio.sleep(_RETRY_SECONDS)

    async def _renew(self) -> None:
        async with service_transaction(self._pool) as connection:
            renewed = await connection.execute(
                SQL["renew"], {"lease_id": self.lease_id, "seconds": self.times.lasts}
            )
            await connection.execute(SQL["purge"])
        row = await renewed.fetchone()
        if row is None:
            raise RuntimeError("the lease of this process is gone")
        (self._until,) = row
        now = self._clock()
        if self._is_late(now):
            self._stable_at = now + self.times.stable_after
        self._renewed_at = now

    async def release(self) -> None:
        """Give it back: any process may take over at once what was written under it."""
        try:
            async with service_transaction(self._pool) as connection:
                await connection.execute(SQL["release"], {"lease_id": self.lease_id})
        except DATABASE_AWAY as error:
            _log.warning("lease_not_released", error=type(error).__name__)


async def release_of_ended(connection: Connection, lease_id: int) -> None:
    """Give back the lease of another process. The caller knows that this process has ended, so
    nobody has to wait until the lease expires."""
    await connection.execute(SQL["release"], {"lease_id": lease_id})


async def acquire(pool: Pool, times: LeaseTimes) -> Lease:
    """A new lease for this process."""
    async with service_transaction(pool) as connection:
        found = await connection.execute(SQL["acquire"], {"seconds": times.lasts})
        row = await found.fetchone()
    assert row is not None
    lease_id, until = row
    return Lease(pool, lease_id, until, times)
