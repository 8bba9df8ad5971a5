"""The server accepts connections as they come, also while its loop is busy."""

import asyncio
from contextlib import ExitStack
from socket import create_connection
from urllib.parse import urlsplit

import uvloop

from tests.running import running

WAITING = 50
ROUNDS = 10
"""The loop's rounds in which all waiting connections are accepted. Uvloop accepts one a round."""


def test_connections_that_wait_are_accepted_in_a_few_rounds_of_the_loop(url: str) -> None:
    async def accepted() -> int:
        async with running(url) as run:
            port = urlsplit(run.server.url).port
            before = len(run.server.server_state.connections)
            with ExitStack() as clients:
                for _ in range(WAITING):
                    clients.enter_context(create_connection(("127.0.0.1", port)))
                for _ in range(ROUNDS):
                    await asyncio.sleep(0)
                return len(run.server.server_state.connections) - before

    assert uvloop.run(accepted()) == WAITING
