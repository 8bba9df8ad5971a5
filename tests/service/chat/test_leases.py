"""When a process may take another process for dead, from its own lease."""

from service.chat import leases
from service.chat.leases import Lease, LeaseTimes
from service.postgres import connections

TIMES = LeaseTimes(lasts=10.0, stable_after=3.0)


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        """Return the time, in seconds."""
        return self.now


async def test_a_process_judges_others_only_while_its_own_lease_is_renewed_in_time(
    url: str,
) -> None:
    clock = Clock()
    async with connections.pool(url) as pool:
        acquired = await leases.acquire(pool, TIMES)
        lease = Lease(pool, acquired.lease_id, acquired._until, TIMES, clock)

        async def may_judge_at(now: float) -> bool:
            clock.now = now
            return lease.stable_until is not None

        assert not await may_judge_at(2.9), "it has just started"
        assert await may_judge_at(3.0)
        assert not await may_judge_at(5.0), "half of the lease's time has passed"
        await lease._renew()
        assert not await may_judge_at(7.9), "the others need the time to renew theirs"
        assert await may_judge_at(8.0)
        clock.now = 9.0
        await lease._renew()
        assert await may_judge_at(9.1), "the renewal was in time"


async def test_the_lease_of_a_process_that_has_ended_is_given_back_for_it(url: str) -> None:
    async with connections.pool(url) as pool:
        ended, alive = await leases.acquire(pool, TIMES), await leases.acquire(pool, TIMES)
        async with await connections.connect(url) as parent:
            await leases.release_of_ended(parent, ended.lease_id)
            left = await (await parent.execute("select epoch from app.lease")).fetchall()
        assert left == [(alive.lease_id,)]
