"""A reader that takes nothing of its answer is cut, whatever the kind of the answer."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator

import pytest

from service.http import connection_limits
from service.model.offline.app import Fault, OfflineModel
from service.wire import BEGINNING
from tests.running import LiveService, running
from tests.service.http.raw import request
from tests.service.watching import append_each, said, until

REPLY = ('{"intent":"general","response":{"markdown":"', *["x" * 10_000] * 60, '"}}')
"""Longer than the buffers of the connection and of the server."""

LINES = [("Accept", "application/x-ndjson")]
STREAM = [("Accept", "text/event-stream")]
KINDS = {
    "a page of events": ("/v1/events?limit=1000", []),
    "lines of events": ("/v1/events", LINES),
    "a stream of events": ("/v1/events", STREAM),
    "a page of the timeline": ("/v1/project/p1/timeline?limit=200", []),
    "a live timeline": ("/v1/project/p1/timeline/stream?after={origin}", []),
    "a reply": ("/v1/chat-plan/replies/{reply}?userId=u1", []),
    "the stream of a reply": ("/v1/chat-plan/replies/{reply}/stream?userId=u1", []),
}


@pytest.fixture
async def live(url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[LiveService]:
    """A service with small buffers, which cuts soon."""
    monkeypatch.setattr(connection_limits, "WRITE_SECONDS", 0.2)
    model = OfflineModel(script=[Fault("raw", pieces=REPLY)])
    async with running(url, model) as service:
        await service.project()
        await service.credit()
        for each in service.server.servers[0].sockets:
            with socket.socket(fileno=os.dup(each.fileno())) as listening:
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
        await append_each(service, (said("x" * 100_000) for _ in range(10)))
        yield service


async def deaf(live: LiveService, target: str, headers: list[tuple[str, str]]) -> socket.socket:
    """A connection that has sent a request and reads nothing."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, ("127.0.0.1", live.client.base_url.port))
    await loop.sock_sendall(sock, request("GET", target, headers=headers))
    return sock


def connections(live: LiveService) -> set[object]:
    return set(live.server.server_state.connections)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_reader_that_takes_nothing_is_cut(live: LiveService, kind: str) -> None:
    reply_id = (await live.chat("Hello")).json()["messageId"]
    target, headers = KINDS[kind]
    before = connections(live)
    with await deaf(live, target.format(origin=BEGINNING, reply=reply_id), headers) as sock:
        await until(lambda: connections(live) - before)
        (ours,) = connections(live) - before
        await until(lambda: ours not in connections(live))
        received = 0
        while piece := await asyncio.get_running_loop().sock_recv(sock, 65_536):
            received += len(piece)
    assert received < 300_000, "the rest of the answer is dropped"


async def test_a_slow_reader_gets_its_whole_answer(live: LiveService) -> None:
    """It takes a little in each period of the watch."""
    loop = asyncio.get_running_loop()
    received = b""
    with await deaf(live, "/v1/events?limit=1000", [("Connection", "close")]) as sock:
        while piece := await loop.sock_recv(sock, 65_536):
            received += piece
            await asyncio.sleep(connection_limits.WRITE_SECONDS / 100)
    assert received.endswith(b'"hasMore":false}')


async def test_a_watch_goes_on_while_the_reader_takes_some(
    live: LiveService, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    rung = asyncio.Event()
    on_timer = connection_limits.WriteWatch._on_timer

    def ringing(watch: connection_limits.WriteWatch) -> None:
        on_timer(watch)
        rung.set()

    monkeypatch.setattr(connection_limits.WriteWatch, "_on_timer", ringing)
    with await deaf(live, "/v1/events?limit=1000", []) as sock:
        for _ in range(3):
            received = 0
            while received < 20_000:
                received += len(await loop.sock_recv(sock, 65_536))
            rung.clear()
            await rung.wait()
        assert await loop.sock_recv(sock, 65_536), "the connection is not cut"
