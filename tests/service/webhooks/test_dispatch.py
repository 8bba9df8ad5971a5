"""Deliveries: each event arrives in order, whatever is killed, and no receiver holds another."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import pytest
from prometheus_client import REGISTRY

from service.chat import leases
from service.chat.leases import LeaseTimes
from service.eventlog.heavy_reads import HeavyReads
from service.eventlog.store import NewEvent
from service.postgres import connections
from service.postgres.connections import Pool, service_transaction, tenant_transaction
from service.webhooks.dispatch import Dispatcher, Source
from service.webhooks.store import (
    MOST_DEAD_LETTERS,
    MOST_WEBHOOKS,
    SQL,
    DeadLetterRow,
    Deliveries,
    WebhookRow,
    Webhooks,
    dead_letters,
    webhooks_of,
)
from service.wire import position_of
from tests.projections.trouble import until_waiting
from tests.service.eventlog.logs import Log, event, running_log
from tests.service.webhooks.receiver import CUT, Receiver, receiving
from tests.sizes import chance, size

TENANT = "t1"
QUICK = (0.001, 0.001)
QUICK_LEASE: Final = LeaseTimes(
    lasts=1.0, renewed_every=0.2, stable_after=0.2, database_stable_after=0.0
)
OUTCOMES: Final = ("delivered", "failed", "dead")
SAME: Final[dict[str, Any]] = {
    **dict.fromkeys(("url", "types", "description", "is_enabled")),
    "rotate": False,
}
"""A change that leaves everything as it is."""


@pytest.fixture
async def log(url: str) -> AsyncIterator[Log]:
    async with running_log(url) as started:
        yield started


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as started:
        yield started


@asynccontextmanager
async def dispatching(
    url: str, log: Log, pauses: Sequence[float] = QUICK, *, release: bool = True
) -> AsyncGenerator[Dispatcher]:
    """A process that delivers. Without `release` it ends as if it was killed."""
    async with connections.pool(url) as pool:
        lease = await leases.acquire(pool, QUICK_LEASE)
        source = Source(
            pool=pool,
            live_log=log.live_log,
            heavy_reads=HeavyReads(),
            private=True,
            pauses=pauses,
        )
        dispatcher = Dispatcher(source, Deliveries(pool, lease))
        running = asyncio.create_task(dispatcher.run())
        renewing = asyncio.create_task(lease.run())
        try:
            yield dispatcher
        finally:
            for task in (running, renewing):
                task.cancel()
            await asyncio.wait((running, renewing))
            if release:
                await lease.release()


async def add(pool: Pool, receiver: Receiver, types: list[str] | None = None) -> str:
    added = await Webhooks(pool).add(TENANT, url=receiver.url, types=types, description=None)
    assert added is not None
    return added[0]


async def append(log: Log, count: int, **members: Any) -> int:
    """Append events, each with an append of its own; returns the last position."""
    await asyncio.gather(*(log.writer.append([event(**members)]) for _ in range(count)))
    return await log.store.head()


async def row(pool: Pool, webhook_id: str) -> WebhookRow:
    async with tenant_transaction(pool, TENANT) as connection:
        (found,) = await webhooks_of(connection, TENANT, webhook_id)
    return found


async def eventually(pool: Pool, webhook_id: str, condition: Callable[[WebhookRow], bool]) -> None:
    """Wait until the row of a webhook is as the condition says."""
    async with asyncio.timeout(20):
        while not condition(await row(pool, webhook_id)):
            """Another task writes the row."""


async def letters(pool: Pool, webhook_id: str) -> list[DeadLetterRow]:
    async with tenant_transaction(pool, TENANT) as connection:
        return await dead_letters(connection, TENANT, webhook_id)


def counted() -> Counter[str]:
    """The tries to deliver in this process, by what became of them."""
    name = "throughline_webhook_deliveries_total"
    found = {each: REGISTRY.get_sample_value(name, {"outcome": each}) for each in OUTCOMES}
    return Counter({each: int(value or 0) for each, value in found.items()})


async def test_events_arrive_in_order_and_name_the_event_before_them(
    url: str, pool: Pool, log: Log, receiver: Receiver
) -> None:
    before = await append(log, 2)
    await add(pool, receiver)
    await append(log, 150)
    await append(log, 3, tenant="t2")
    head = await append(log, 1)
    async with dispatching(url, log):
        await receiver.until_position(head)
    expected = [*range(before + 1, before + 151), head]
    assert receiver.positions() == expected
    prevs = [position_of(each.event["prev"]) for each in receiver.deliveries]
    assert prevs == [before, *expected[:-1]]
    assert receiver.connections == 1


async def test_types_choose_the_events(url: str, pool: Pool, log: Log, receiver: Receiver) -> None:
    await add(pool, receiver, ["Y"])
    async with dispatching(url, log):
        await append(log, 3)
        first = await append(log, 1, kind="Y")
        await append(log, 3)
        last = await append(log, 1, kind="Y")
        await receiver.until_position(last)
    assert receiver.positions() == [first, last]


async def test_an_event_is_sent_until_it_is_taken_with_one_id(
    url: str, pool: Pool, log: Log, receiver: Receiver
) -> None:
    webhook_id = await add(pool, receiver)
    receiver.answers = [(503, {}), (CUT, {}), (204, {}), (302, {"Location": receiver.url})]
    await append(log, 2)
    async with dispatching(url, log):
        await receiver.until(5)
        assert receiver.positions() == [1, 1, 1, 2, 2]
        ids = [each.headers["webhook-id"] for each in receiver.deliveries]
        assert len(set(ids)) == 2
        await eventually(pool, webhook_id, lambda found: found.position >= 2)
    assert await letters(pool, webhook_id) == []


async def test_a_later_try_does_not_send_what_was_erased_meanwhile(
    url: str, pool: Pool, log: Log, receiver: Receiver
) -> None:
    await add(pool, receiver)
    for version in (1, 2):
        said = NewEvent(TENANT, "session-1", version, "UserMessagePosted", b'{"text":"quillwort"}')
        await log.writer.append([said])
    receiver.answers = [(503, {})]
    receiver.blocked.clear()
    async with dispatching(url, log):
        await receiver.until_held()
        erased = NewEvent(TENANT, "session-1", 3, "SessionDeleted", b'{"session_id":"1"}')
        await log.writer.append([erased])
        receiver.blocked.set()
        await receiver.until_position(3)
    assert receiver.positions() == [1, 1, 2, 3]
    assert [b"quillwort" in each.body for each in receiver.deliveries] == [True, *[False] * 3]


async def test_an_event_is_given_up_after_its_tries_and_can_be_sent_once_more(
    url: str, pool: Pool, log: Log, receiver: Receiver
) -> None:
    webhook_id = await add(pool, receiver)
    receiver.answers = [(500, {})] * 3
    before = counted()
    await append(log, 2)
    async with dispatching(url, log) as dispatcher:
        await receiver.until(4)
        assert receiver.positions() == [1, 1, 1, 2]
        await eventually(pool, webhook_id, lambda found: found.position == 2)
        (letter,) = await letters(pool, webhook_id)
        assert (letter.position, letter.error) == (1, "the receiver answered 500")
        receiver.answers = [(400, {})]
        for count in (5, 6):
            assert await Webhooks(pool).redeliver(TENANT, webhook_id) == 1
            dispatcher.on_changed()
            await receiver.until(count)
            async with asyncio.timeout(20):
                while any(each.is_wanted for each in await letters(pool, webhook_id)):
                    """The answer has arrived, and is not written yet."""
        assert receiver.positions()[4:] == [1, 1]
        assert await letters(pool, webhook_id) == []
    assert counted() - before == {"failed": 2, "dead": 2, "delivered": 2}


async def test_a_retry_after_is_kept_and_survives_the_process(
    url: str, pool: Pool, log: Log, receiver: Receiver
) -> None:
    webhook_id = await add(pool, receiver)
    receiver.answers = [(429, {"Retry-After": "1800"})]
    await append(log, 1)
    async with dispatching(url, log):
        await receiver.until(1)
        await eventually(pool, webhook_id, lambda found: found.tries > 0)
    found = await row(pool, webhook_id)
    assert found.next_try_at is not None
    assert (found.next_try_at - found.created_at).total_seconds() > 1700
    async with dispatching(url, log) as dispatcher:
        await Webhooks(pool).change(TENANT, webhook_id, **SAME | {"is_enabled": True})
        dispatcher.on_changed()
        await receiver.until(2)
    assert receiver.positions() == [1, 1]


async def test_an_old_secret_signs_until_it_expires(
    url: str, pool: Pool, log: Log, receiver: Receiver
) -> None:
    webhook_id = await add(pool, receiver)
    await Webhooks(pool).change(TENANT, webhook_id, **SAME | {"rotate": True})

    async def signatures() -> int:
        await receiver.until_position(await append(log, 1))
        return len(receiver.deliveries[-1].headers["webhook-signature"].split(" "))

    async with dispatching(url, log) as dispatcher:
        assert await signatures() == 2
        async with service_transaction(pool) as connection:
            await connection.execute("update app.webhook set old_secret_until = now()")
        dispatcher.on_changed()
        async with asyncio.timeout(20):
            while await signatures() > 1:
                """An event may be on its way while the dispatcher reads the webhook again."""


async def test_a_receiver_that_is_gone_for_ever_is_sent_nothing_more(
    url: str, pool: Pool, log: Log, receiver: Receiver
) -> None:
    webhook_id = await add(pool, receiver)
    receiver.answers = [(410, {})]
    await append(log, 2)
    async with dispatching(url, log):
        await eventually(pool, webhook_id, lambda found: not found.is_enabled)
    assert receiver.positions() == [1]


async def test_an_answer_of_the_old_receiver_does_not_disable_a_webhook_that_was_changed(
    url: str, pool: Pool, log: Log, receiver: Receiver
) -> None:
    webhook_id = await add(pool, receiver)
    receiver.answers = [(410, {})]
    receiver.blocked.clear()
    async with dispatching(url, log), receiving() as other:
        await append(log, 1)
        await receiver.until_held()
        await Webhooks(pool).change(TENANT, webhook_id, **SAME | {"url": other.url})
        receiver.blocked.set()
        await other.until(1)
    assert (await row(pool, webhook_id)).is_enabled


async def test_an_old_try_does_not_answer_a_new_wish_for_what_was_not_taken(
    url: str, pool: Pool, log: Log, receiver: Receiver
) -> None:
    """The tenant asks again while the event is sent once more to a receiver that refuses."""
    webhook_id = await add(pool, receiver)
    receiver.answers = [(500, {}), (500, {})]
    head = await append(log, 1)
    async with dispatching(url, log, ()) as dispatcher:
        await eventually(pool, webhook_id, lambda found: found.position >= head)
        receiver.blocked.clear()
        assert await Webhooks(pool).redeliver(TENANT, webhook_id) == 1
        dispatcher.on_changed()
        await receiver.until_held()
        assert await Webhooks(pool).redeliver(TENANT, webhook_id) == 1
        receiver.blocked.set()
        async with asyncio.timeout(20):
            while await letters(pool, webhook_id):
                """The event is sent once more, and taken."""
    assert receiver.positions() == [1, 1, 1]


async def test_requests_that_come_together_add_no_more_webhooks_than_a_tenant_may_have(
    url: str, pool: Pool, receiver: Receiver
) -> None:
    for _ in range(MOST_WEBHOOKS - 1):
        await add(pool, receiver)
    async with (
        await connections.connect(url, as_service=False) as observer,
        await connections.connect(url, as_service=False) as owner,
    ):
        async with owner.transaction():
            await owner.execute(SQL["lock"], {"tenant_id": TENANT})
            asked: dict[str, Any] = {"url": receiver.url, "types": None, "description": None}
            adding = [asyncio.create_task(Webhooks(pool).add(TENANT, **asked)) for _ in range(2)]
            assert await until_waiting(observer, 2)
        added = await asyncio.gather(*adding)
    assert sorted(each is not None for each in added) == [False, True]


async def test_the_list_of_what_was_not_taken_keeps_the_newest(
    url: str, pool: Pool, log: Log, receiver: Receiver
) -> None:
    webhook_id = await add(pool, receiver)
    head = await append(log, MOST_DEAD_LETTERS + 3)
    receiver.answers = [(500, {})] * head
    async with dispatching(url, log, ()):
        await eventually(pool, webhook_id, lambda found: found.position >= head)
    found = [each.position for each in await letters(pool, webhook_id)]
    assert found == list(range(head, 3, -1))


async def test_a_slow_receiver_and_a_dead_receiver_hold_nobody(
    url: str, pool: Pool, log: Log, receiver: Receiver
) -> None:
    async with receiving() as slow, receiving() as dead:
        for each in (slow, dead, receiver):
            await add(pool, each)
        slow.blocked.clear()
        await dead.kill()
        async with dispatching(url, log, (3_600.0,)):
            head = await append(log, 200)
            await receiver.until_position(head)
        assert slow.deliveries == dead.deliveries == []
    assert receiver.positions() == list(range(1, head + 1))


# Kills -------------------------------------------------------------------------------------------


def once(positions: Sequence[int]) -> list[int]:
    """The positions as a receiver has them that knows an event by its id."""
    return list(dict.fromkeys(positions))


async def test_of_two_processes_one_delivers_and_the_other_takes_over(
    url: str, pool: Pool, log: Log, receiver: Receiver
) -> None:
    await add(pool, receiver)
    async with dispatching(url, log), AsyncExitStack() as stack:
        await stack.enter_async_context(dispatching(url, log))
        await receiver.until_position(await append(log, 20))
        await stack.aclose()
        head = await append(log, 20)
        await receiver.until_position(head)
    assert receiver.positions() == list(range(1, head + 1))


async def test_a_lease_that_expired_while_the_database_stood_still_is_not_taken_at_once(
    pool: Pool, receiver: Receiver
) -> None:
    await add(pool, receiver)
    first, second = [await leases.acquire(pool, LeaseTimes()) for _ in range(2)]
    assert await Deliveries(pool, first).claim()
    async with service_transaction(pool) as connection:
        await connection.execute("update app.lease set until = now() - interval '1 second'")
    assert await Deliveries(pool, second).claim() == [], "nobody had the time to renew a lease"
    await first.release()
    assert await Deliveries(pool, second).claim(), "a lease that was released is free at once"


async def test_killed_processes_lose_nothing(
    url: str, pool: Pool, log: Log, receiver: Receiver
) -> None:
    """The process ends at a random event; its lease ends by itself, and another one goes on."""
    choice = chance("webhook processes")
    await add(pool, receiver)
    head = 0
    for _ in range(size(1, 10)):
        head = await append(log, 30)
        async with dispatching(url, log, release=False):
            await receiver.until(len(receiver.deliveries) + choice.randint(1, 25))
    async with dispatching(url, log):
        await receiver.until_position(head)
    assert once(receiver.positions()) == list(range(1, head + 1))
    assert len(receiver.deliveries) <= head + size(1, 10), "one event again for each kill, at most"


async def test_killed_receivers_lose_nothing(
    url: str, pool: Pool, log: Log, receiver: Receiver
) -> None:
    choice = chance("webhook receivers")
    await add(pool, receiver)
    head = 0
    async with dispatching(url, log, (0.01,) * 1_000):
        for _ in range(size(2, 10)):
            head = await append(log, 30)
            await receiver.until(len(receiver.deliveries) + choice.randint(1, 25))
            await receiver.kill()
            await append(log, 5)
            await receiver.start()
        head = await append(log, 1)
        await receiver.until_position(head)
    assert once(receiver.positions()) == list(range(1, head + 1))
