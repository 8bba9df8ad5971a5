"""Tasks that must end."""

import asyncio
from typing import Final

AGAIN_SECONDS: Final = 2.0
"""How long a task may take to end after its cancellation, before it is cancelled again."""


async def cancelled(*tasks: asyncio.Task[None]) -> None:
    """Cancel tasks until all have ended. Before Python 3.12 `wait_for` loses a cancellation that
    comes at the same time as the result that it waits for. The database's client library uses
    `wait_for`."""
    running = set(tasks)
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=AGAIN_SECONDS)
