"""The end of tasks that run until they are cancelled."""

import asyncio
from collections.abc import Iterable
from typing import Final

CANCEL_AGAIN_SECONDS: Final = 2.0
"""How long a task may take to end after its cancellation."""


async def cancelled(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel tasks until all have ended.

    The client libraries of the database and of NATS use `wait_for`. Before Python 3.12 this
    function drops a cancellation that comes at the same time as its event.
    """
    running = set(tasks)
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=CANCEL_AGAIN_SECONDS)
