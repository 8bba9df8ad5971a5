"""The same work again, until it succeeds or time is up."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from structlog.testing import capture_logs

from service.concurrency.retry import retrying


class Away(Exception):
    """The text of this error quotes a secret."""


def failing(times: int, error: type[Exception] = Away) -> Callable[[], Awaitable[str]]:
    failures = iter(range(times))

    async def work() -> str:
        if next(failures, None) is not None:
            raise error("secret")
        return "done"

    return work


async def test_work_is_repeated_until_it_succeeds_and_each_failure_is_logged() -> None:
    with capture_logs() as logged:
        assert await retrying(failing(3), (Away,), event="work_waits", pauses=(0.0,)) == "done"
    assert [entry["event"] for entry in logged] == ["work_waits"] * 3
    assert "secret" not in str(logged)


async def test_another_error_is_raised_at_once() -> None:
    with pytest.raises(KeyError):
        await retrying(failing(1, KeyError), (Away,), event="work_waits", pauses=(60.0,))


async def test_the_time_of_retries_is_bounded() -> None:
    with pytest.raises(TimeoutError):
        await retrying(failing(9), (Away,), event="work_waits", pauses=(60.0,), seconds=0.01)


async def test_a_cancelled_retry_ends() -> None:
    task = asyncio.create_task(retrying(failing(9), (Away,), event="work_waits", pauses=(60.0,)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
