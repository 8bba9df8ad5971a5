"""A request that is too much is refused before anything is stored, and what runs goes on."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import astuple, replace

import pytest
from structlog.testing import capture_logs

from service.access import overload
from service.access.overload import REFUSALS_A_SECOND, SAMPLE_SECONDS, Bounds, Capacity
from service.postgres import connections
from tests.running import PATIENT, Event, LiveService, problem, running
from tests.service import law
from tests.service.http.raw import Connection, request
from tests.service.watching import until

REFUSED = 500
REPLIES = Bounds(lag=0.001, waiting=40, stored=0.25)
CAPACITY = Capacity(replies=REPLIES, others=PATIENT.others, seconds=10)
"""A lag of 1 ms is too much. So the tests need little load until messages are refused."""


@pytest.fixture
async def run(url: str) -> AsyncIterator[LiveService]:
    """The service with the project p1, whose owner u1 has credit."""
    async with running(url, capacity=CAPACITY) as service:
        await service.project()
        await service.credit()
        yield service


async def refused(run: LiveService) -> str:
    """Post a message that is refused as one too many, and stores nothing; returns Retry-After."""
    head = await run.service.store.head()
    answer = await run.chat("Hello")
    assert problem(answer) == (503, "overloaded")
    assert answer.json()["stored"] == "nothing"
    assert await run.service.store.head() == head
    return answer.headers["Retry-After"]


async def answered(run: LiveService) -> None:
    """Post a message until it is not refused: a busy machine has some lag at any time."""
    async with asyncio.timeout(30):
        while True:
            answer = await run.chat("Hello")
            if answer.status_code == 200:
                return
            assert problem(answer) == (503, "overloaded")
            await asyncio.sleep(0.05)


async def streamed(run: LiveService) -> list[Event]:
    """The events of the reply to a message that is posted until it is not refused."""
    async with asyncio.timeout(30):
        while True:
            with suppress(AssertionError):
                return await run.stream("Good morning")
            await asyncio.sleep(0.05)


@asynccontextmanager
async def busy() -> AsyncGenerator[None]:
    """The loop has so much to do that each task waits for its turn."""

    async def work() -> None:
        while True:
            time.sleep(0.6 * SAMPLE_SECONDS)  # noqa: ASYNC251 - this is the load
            await asyncio.sleep(0)

    working = asyncio.create_task(work())
    yield
    working.cancel()


async def test_messages_are_refused_while_the_loop_is_behind_and_a_running_reply_goes_on(
    url: str,
) -> None:
    model = law.GatedModel()
    async with running(url, model, capacity=CAPACITY) as run:
        await run.project()
        await run.credit()
        streaming = asyncio.create_task(streamed(run))
        async with asyncio.timeout(30):
            await model.asked.wait()
        async with busy():
            await until(lambda: run.service.overload.lag > REPLIES.lag)
            assert await refused(run) == "1"
            assert (await run.account())["reservedSeconds"] > 0, "others are answered"
        model.go.set()
        assert law.lawful(await streaming)["subtype"] == "success"
        await until(lambda: run.service.overload.lag < REPLIES.lag)
        await answered(run)


async def test_the_refusals_of_a_second_are_one_line_in_the_log(run: LiveService) -> None:
    with capture_logs() as lines:
        async with busy():
            await until(lambda: run.service.overload.lag > REPLIES.lag)
            for _ in range(3):
                await refused(run)
            await until(lambda: [each for each in lines if each["event"] == "overloaded"])
    told = [each for each in lines if each["event"] == "overloaded"]
    assert {each["log_level"] for each in told} == {"warning"}
    assert 1 <= sum(each["refused"] for each in told) <= 3
    said = [each for each in lines if each["event"] == "request" and each["status"] == 503]
    assert [each["log_level"] for each in said] == ["debug"] * 3


async def test_messages_are_refused_while_too_many_requests_wait_for_a_connection(
    run: LiveService,
) -> None:
    pool = run.service.pool
    held = [await pool.getconn() for _ in range(connections.POOL_SIZE)]
    waiting = [asyncio.create_task(pool.getconn()) for _ in range(REPLIES.waiting + 1)]
    await until(lambda: pool.get_stats()["requests_waiting"] > REPLIES.waiting)
    answer = await run.chat("Hello")
    assert problem(answer) == (503, "overloaded")
    for connection in held:
        await pool.putconn(connection)
    for each in waiting:
        await pool.putconn(await each)
    await answered(run)


async def test_messages_are_refused_while_appends_wait_for_the_database(
    run: LiveService, url: str
) -> None:
    writer = run.service.overload._queues[0]
    async with await connections.connect(url, as_service=False) as owner, owner.transaction():
        await owner.execute("lock table app.event in share mode")
        crediting = asyncio.create_task(run.credit())
        await until(lambda: writer.waited_seconds > REPLIES.stored)
        await refused(run)
    await crediting
    await answered(run)


async def test_other_requests_are_refused_later_than_messages(run: LiveService) -> None:
    for stricter, other in zip(
        astuple(overload.CAPACITY.replies), astuple(overload.CAPACITY.others), strict=True
    ):
        assert stricter < other
    async with busy():
        await until(lambda: run.service.overload.lag > REPLIES.lag)
        await refused(run)
        await run.credit()


async def test_a_message_that_waits_too_long_for_its_admission_is_refused(url: str) -> None:
    hasty = replace(PATIENT, seconds=0.05)
    async with running(url, capacity=hasty) as run:
        await run.project()
        await run.credit()
        for n in range(overload.ADMITTED_AT_ONCE):
            await run.service.overload.admit(f"r{n}")
        await refused(run)
        run.service.overload.admitted("r0")
        await answered(run)


async def test_messages_whose_bodies_do_not_come_keep_no_other_message_waiting(url: str) -> None:
    hasty = replace(PATIENT, seconds=0.05)
    async with running(url, capacity=hasty) as run, AsyncExitStack() as stack:
        await run.project()
        await run.credit()
        body = [("Content-Length", "100"), ("Expect", "100-continue")]
        for _ in range(overload.ADMITTED_AT_ONCE):
            slow = await Connection.open(run)
            stack.callback(slow.writer.close)
            await slow.send(request("POST", "/v1/chat-plan", headers=body))
            assert b"100 Continue" in await slow.until(b"\r\n\r\n")
        assert (await run.chat("Hello")).status_code == 200


async def test_many_refused_requests_come_back_spread_over_more_seconds(run: LiveService) -> None:
    async with busy():
        await until(lambda: run.service.overload.lag > REPLIES.lag)
        measured = run.service.overload
        for _ in range(REFUSED):
            measured._refusal("a refused request")
        await until(lambda: measured.retry_seconds > REFUSED / REFUSALS_A_SECOND)
        assert int(await refused(run)) > 1
