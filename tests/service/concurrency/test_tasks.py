"""Tasks that must end."""

import asyncio
from contextlib import suppress

import pytest

from service.concurrency import tasks


async def loses_a_cancellation() -> None:
    with suppress(asyncio.CancelledError):
        await asyncio.Event().wait()
    await asyncio.Event().wait()


async def test_a_task_that_loses_its_cancellation_is_cancelled_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tasks, "AGAIN_SECONDS", 0.01)
    task = asyncio.create_task(loses_a_cancellation())
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await tasks.cancelled(task)
    assert task.cancelled()


async def test_tasks_that_have_ended_are_no_reason_to_wait() -> None:
    task = asyncio.create_task(asyncio.sleep(0))
    await task
    await tasks.cancelled()
    await tasks.cancelled(task)
    assert not task.cancelled()
