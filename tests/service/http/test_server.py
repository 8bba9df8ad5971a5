"""The server accepts connections as they come, and leaves none without an answer."""

import asyncio
import signal
from contextlib import ExitStack, suppress
from socket import create_connection
from urllib.parse import urlsplit

import orjson
import uvloop

from tests.running import LiveService, events_of, running
from tests.service import law
from tests.service.http.raw import Connection, answers, request
from tests.service.replicas import Reader

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


async def test_a_request_on_its_way_is_answered_by_a_server_that_stops(url: str) -> None:
    async with running(url) as run:
        connection = await Connection.open(run)
        await stopped_listening(run)
        await connection.send(request("GET", "/healthz"))
        (answer,) = answers(await connection.rest())
        assert answer.status == 200
        assert ("connection", "close") in answer.headers


async def test_a_message_on_its_way_gets_its_reply_from_a_server_that_stops(url: str) -> None:
    async with running(url, grace_seconds=10.0) as run:
        await run.project()
        await run.credit()
        connection, body = await asked(run, "Good morning")
        await stopped_listening(run)
        await connection.send(body)
        (answer,) = answers(await connection.rest())
        final = law.lawful(events_of(answer.body.decode()))
        assert final["subtype"] == "success"


async def test_a_message_is_refused_when_there_is_no_time_left_for_its_reply(url: str) -> None:
    async with running(url, grace_seconds=0.3) as run:
        await run.project()
        await run.project("p2")
        await run.credit()
        connection, body = await asked(run, "Good morning", project_id="p2")
        reader = Reader()
        hanging = asyncio.create_task(reader.ask(run, "Good morning [[offline: hang after=8]]"))
        await reader.until("chunk")
        await stopped_listening(run)
        await hanging
        assert law.lawful(reader.events)["reason"] == "stopping"
        await connection.send(body)
        (answer,) = answers(await connection.rest())
        assert (answer.status, answer.problem["code"]) == (503, "stopping")
        assert answer.problem["stored"] == "nothing"
    assert [event["project_id"] for _, event in await law.logged(url, "SessionOpened")] == ["p1"]


async def asked(run: LiveService, message: str, project_id: str = "p1") -> tuple[Connection, bytes]:
    """A connection that waits for the rest of a message, and that rest, the body.

    The service has read the head, because it asks for the body.
    """
    body = orjson.dumps({"userId": "u1", "projectId": project_id, "message": message})
    headers = (("Accept", "text/event-stream"), ("Expect", "100-continue"))
    whole = request("POST", "/v1/chat-plan", body, headers)
    connection = await Connection.open(run)
    await connection.send(whole.removesuffix(body))
    await connection.until(b"HTTP/1.1 100 Continue\r\n\r\n")
    return connection, body


async def stopped_listening(run: LiveService) -> None:
    """Stop the server, and wait until nobody can connect any more."""
    run.server.handle_exit(signal.SIGTERM, None)
    with suppress(ConnectionRefusedError):
        while True:
            _, writer = await asyncio.open_connection("127.0.0.1", run.client.base_url.port)
            writer.close()
            await writer.wait_closed()
