"""The server accepts connections as they come, and leaves none without an answer."""

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


async def test_a_request_on_its_way_is_answered_by_a_server_that_retires(url: str) -> None:
    async with running(url) as run:
        port = urlsplit(run.server.url).port
        before = len(run.server.server_state.connections)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(ROUNDS):
            await asyncio.sleep(0)
        assert len(run.server.server_state.connections) == before + 1
        retiring = asyncio.create_task(run.server.retire())
        await asyncio.sleep(0)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n")
        answer = (await reader.read()).lower()
        assert answer.startswith(b"http/1.1 200 ")
        assert b"\r\nconnection: close\r\n" in answer
        await retiring
        assert run.server.should_exit
        writer.close()
