"""The limits of a connection, and the security headers of every answer."""

import asyncio
import resource
from collections import Counter
from collections.abc import AsyncIterator, Callable

import pytest

from service.http import connection_limits, operation
from service.http.connection_limits import LARGEST_HEADERS, LONGEST_LINE, MOST_HEADERS
from service.model.offline.app import OfflineModel
from service.ops import shared_metrics
from tests.running import LiveService, events_of, running
from tests.service import law
from tests.service.http.raw import Answer, Connection, answers, exchange, request
from tests.service.watching import until

SLOW = 200
CREDIT = b'{"userId":"u1","seconds":1,"kind":"bonus"}'
CREDITS = "/v1/billing/credits"
END = b"Connection: close\r\n\r\n"
HOST = b"Host: throughline\r\n"
HEALTH = b"GET /healthz HTTP/1.1\r\n" + HOST


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """The loop that `throughline serve` runs on; the other tests run on the standard one."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="module")
async def live(shared_url: str) -> AsyncIterator[LiveService]:
    async with running(shared_url, OfflineModel(pace=0.02)) as service:
        await service.project()
        await service.credit()
        yield service


@pytest.fixture
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the time-outs short."""
    monkeypatch.setattr(connection_limits, "HEAD_SECONDS", 0.3)
    monkeypatch.setattr(connection_limits, "BODY_SECONDS", 0.3)
    monkeypatch.setattr(connection_limits, "LINGER_SECONDS", 0.3)


def refused(found: list[Answer], status: int, code: str) -> None:
    """The connection has one answer, a problem, and then ends."""
    assert [each.status for each in found] == [status]
    problem = found[0].problem
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["type"] == f"urn:throughline:problem:{code}"
    assert problem["title"]
    assert problem["detail"]
    headers = dict(found[0].headers)
    assert headers["x-request-id"]
    assert headers["connection"] == "close"


# How large ---------------------------------------------------------------------------------------


def line_of(length: int) -> bytes:
    """A request line of this number of bytes, without its end of line."""
    rest = len(b"GET / HTTP/1.1")
    return b"GET /" + b"x" * (length - rest) + b" HTTP/1.1"


async def test_a_request_line_has_its_limit_to_the_byte(live: LiveService) -> None:
    longest = await exchange(live, line_of(LONGEST_LINE) + b"\r\n" + HOST + END)
    assert [each.status for each in longest] == [404]
    refused(await exchange(live, line_of(LONGEST_LINE + 1) + b"\r\n" + END), 414, "uri_too_long")


async def test_a_request_line_that_comes_in_pieces_has_the_same_limit(live: LiveService) -> None:
    line = line_of(LONGEST_LINE * 4)
    pieces = (line[at : at + 1_000] for at in range(0, len(line), 1_000))
    refused(await exchange(live, *pieces), 414, "uri_too_long")


async def test_headers_have_their_limit_to_the_byte(live: LiveService) -> None:
    rest = len(HOST) + len(END) - 2 + len(b"X: \r\n")
    for length, status in ((LARGEST_HEADERS - rest, 200), (LARGEST_HEADERS - rest + 1, 431)):
        found = await exchange(live, HEALTH + b"X: " + b"x" * length + b"\r\n" + END)
        assert [each.status for each in found] == [status]
    refused(found, 431, "headers_too_large")


async def test_the_number_of_headers_is_limited(live: LiveService) -> None:
    for count, status in ((MOST_HEADERS, 200), (MOST_HEADERS + 1, 431)):
        found = await exchange(live, HEALTH + b"X: x\r\n" * (count - 2) + END)
        assert [each.status for each in found] == [status]
    refused(found, 431, "headers_too_large")


@pytest.mark.parametrize(
    "beginning",
    [
        pytest.param(lambda: HEALTH + b"X: ", id="a header's value"),
        pytest.param(lambda: HEALTH + b"X", id="a header's name"),
        pytest.param(lambda: chunked(b"1;a="), id="the extension of a chunk"),
        pytest.param(lambda: chunked(b"0\r\nX: "), id="a header after the body"),
    ],
)
async def test_an_endless_part_of_a_request_is_not_kept_in_memory(
    live: LiveService, beginning: Callable[[], bytes]
) -> None:
    pieces = (b"x" * 4_096 for _ in range(10 * LARGEST_HEADERS // 4_096))
    refused(await exchange(live, beginning(), *pieces), 431, "headers_too_large")


def chunked(body: bytes) -> bytes:
    """A request signed now, with the beginning of a body in chunks."""
    return request("POST", CREDITS, headers=[("Transfer-Encoding", "chunked")]) + body


async def test_a_header_after_the_body_is_no_header_of_the_request(live: LiveService) -> None:
    head = f"POST {CREDITS} HTTP/1.1\r\n".encode()
    head += HOST + b"Transfer-Encoding: chunked\r\n"
    chunks = b"%x\r\n%s\r\n0\r\n" % (len(CREDIT), CREDIT)
    first, second = (request("POST", CREDITS, CREDIT).split(b"\r\n")[2] for _ in range(2))
    taken = await exchange(live, head + first + b"\r\n" + END + chunks + b"\r\n")
    late = await exchange(live, head + END + chunks + second + b"\r\n\r\n")
    assert [each.status for each in (*taken, *late)] == [201, 401]


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"GET /healthz HTTP/0.9\r\n" + HOST, id="version 0.9"),
        pytest.param(b"GET /healthz HTTP/2.0\r\n" + HOST, id="version 2.0"),
        pytest.param(b"GET /healthz HTTP/1.1\r\n", id="no Host"),
        pytest.param(HEALTH + HOST, id="two Hosts"),
        pytest.param(HEALTH + b"Transfer-Encoding: gzip, chunked\r\n", id="two codings"),
        pytest.param(HEALTH + b"Transfer-Encoding: chunked\r\n" * 2, id="a coding twice"),
        pytest.param(
            b"GET /healthz HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n",
            id="chunks in version 1.0",
        ),
    ],
)
async def test_a_head_that_servers_may_understand_differently_is_refused(
    live: LiveService, head: bytes
) -> None:
    refused(await exchange(live, head + b"\r\n"), 400, "not_http")


async def test_version_1_0_needs_no_host(live: LiveService) -> None:
    found = await exchange(live, b"GET /healthz HTTP/1.0\r\n\r\n")
    assert [each.status for each in found] == [200]


async def test_a_body_behind_an_upgrade_is_not_read_as_a_request(live: LiveService) -> None:
    hidden = HEALTH + END
    upgrade = [("Connection", "Upgrade"), ("Upgrade", "h2c")]
    found = await exchange(live, request("POST", CREDITS, hidden, upgrade), hidden)
    assert [each.status for each in found] == [401]
    websocket = [("Connection", "Upgrade"), ("Upgrade", "websocket")]
    found = await exchange(live, request("GET", "/healthz", headers=websocket), hidden)
    assert [each.status for each in found] == [200]


@pytest.mark.usefixtures("_hurry")
async def test_the_rest_of_a_body_that_was_refused_is_read_and_dropped(live: LiveService) -> None:
    most = operation.LARGEST_BODY
    found = await exchange(live, request("POST", CREDITS, b"x" * most * 4), HEALTH + END)
    assert [each.status for each in found] == [413, 200]
    head = request("POST", CREDITS, b"x" * most * 4)[: -most * 2]
    assert [each.status for each in await exchange(live, head)] == [413]


# How slow ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_hurry")
@pytest.mark.parametrize("beginning", [b"G", b"GET /heal", HEALTH, HEALTH + b"X: "])
async def test_a_head_that_is_not_whole_in_time_is_refused(
    live: LiveService, beginning: bytes
) -> None:
    refused(await exchange(live, beginning), 408, "head_too_slow")


@pytest.mark.usefixtures("_hurry")
async def test_a_second_head_has_the_same_time(live: LiveService) -> None:
    first, *second = await exchange(live, HEALTH + b"\r\n" + HEALTH)
    assert first.status == 200
    refused(second, 408, "head_too_slow")


async def test_the_time_of_a_head_is_counted_from_its_first_byte(
    live: LiveService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_limits, "HEAD_SECONDS", 60.0)
    connection = await Connection.open(live)
    await connection.send(b"\r\n")
    assert (await live.client.get("/healthz")).is_success
    monkeypatch.setattr(connection_limits, "HEAD_SECONDS", 0.1)
    await connection.send(b"G")
    refused(answers(await connection.rest()), 408, "head_too_slow")


@pytest.mark.usefixtures("_hurry")
@pytest.mark.parametrize("before", [b"", HEALTH + b"\r\n"])
async def test_a_connection_without_a_head_is_closed(live: LiveService, before: bytes) -> None:
    """Any number of empty lines is not a head."""
    connection = await Connection.open(live)
    await connection.send(before)
    reading = asyncio.create_task(connection.rest())
    while not reading.done():
        await connection.send(b"\r\n")
        assert (await live.client.get("/healthz")).is_success
    assert [each.status for each in answers(await reading)] == [200] * bool(before)


@pytest.mark.usefixtures("_hurry")
@pytest.mark.parametrize(
    ("header", "beginning"),
    [
        (("Content-Length", "100"), b"{"),
        (("Content-Length", "100"), b""),
        (("Transfer-Encoding", "chunked"), b"1\r\n{\r\n"),
        (("Transfer-Encoding", "chunked"), b"5\r\n{"),
    ],
)
async def test_a_body_that_is_not_whole_in_time_is_refused(
    live: LiveService, header: tuple[str, str], beginning: bytes
) -> None:
    head = request("POST", CREDITS, headers=[header])
    refused(await exchange(live, head, beginning), 408, "body_too_slow")


@pytest.mark.usefixtures("_hurry")
async def test_a_stream_takes_longer_than_any_request_may(live: LiveService) -> None:
    """The bytes after the request: nothing, half a head, or bytes that are not HTTP."""
    body = b'{"userId":"u1","projectId":"p1","message":"%d"}'
    accept = [("Accept", "text/event-stream")]
    for number, behind in enumerate((b"", HEALTH, b"\0\0\0")):
        asked = request("POST", "/v1/chat-plan", body % number, accept)
        connection = await Connection.open(live)
        await connection.send(asked)
        begun = await connection.until(b"event: accepted")
        await connection.send(behind)
        stream, *others = answers(begun + await connection.rest())
        law.lawful(events_of(stream.body.decode()))
        assert [each.status for each in others] == ([408] if behind == HEALTH else [])


async def test_many_slow_senders_delay_no_other_client(
    live: LiveService, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Long enough for the heads of the other clients, which share this loop with the slow ones.
    monkeypatch.setattr(connection_limits, "HEAD_SECONDS", 2.0)

    async def begun() -> Connection:
        """A connection with its first byte. The service closes an empty connection silently."""
        connection = await Connection.open(live)
        await connection.send(HEALTH[:1])
        return connection

    slow = [await begun() for _ in range(SLOW)]
    reading = [asyncio.create_task(each.rest()) for each in slow]
    chats = asyncio.gather(*(live.chat(f"Hello {n}", onBusy="enqueue") for n in range(3)))
    sent = 1
    while not all(task.done() for task in reading):
        byte = HEALTH[sent : sent + 1] or b"x"
        await asyncio.gather(*(each.send(byte) for each in slow))
        # A connection of its own: the service closes an idle connection soon in this test.
        health = await live.client.get("/healthz", headers={"Connection": "close"})
        assert health.is_success
        sent += 1
    assert [each.json()["subtype"] for each in await chats] == ["success"] * 3
    for task in reading:
        refused(answers(await task), 408, "head_too_slow")


async def test_connections_beyond_the_limit_are_refused(
    live: LiveService, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = len(live.server.server_state.connections)
    monkeypatch.setattr(connection_limits, "most_connections", lambda: used + 2)
    first, second = [await Connection.open(live) for _ in range(2)]
    refused(answers(await (await Connection.open(live)).rest()), 503, "overloaded")
    await first.send(HEALTH + END)
    assert [each.status for each in answers(await first.rest())] == [200]
    await until(lambda: len(live.server.server_state.connections) < used + 2)
    assert [each.status for each in await exchange(live, HEALTH + END)] == [200]
    second.writer.close()


def test_connections_leave_descriptors_for_the_database() -> None:
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    reserved = descriptors - connection_limits.most_connections()
    assert reserved == min(connection_limits.RESERVED_DESCRIPTORS, descriptors // 2)


async def settled(live: LiveService) -> None:
    """Wait until the service handles no request."""
    while tasks := set(live.server.server_state.tasks):
        await asyncio.wait(tasks)


def failures(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> list[str]:
    """The exceptions in the log."""
    ours = [line for line in capfd.readouterr().out.splitlines() if "request_failed" in line]
    return ours + [each.getMessage() for each in caplog.records if each.exc_info]


async def test_a_body_that_breaks_off_before_it_was_asked_for_is_refused_once(
    live: LiveService, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    waits = [("Expect", "100-continue"), ("Transfer-Encoding", "chunked")]
    found = await exchange(live, request("POST", CREDITS, headers=waits) + b"no size\r\n")
    refused(found, 400, "not_http")
    await settled(live)
    assert failures(caplog, capfd) == []


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(lambda: b"", id="nothing"),
        pytest.param(lambda: HEALTH, id="half a head"),
        pytest.param(lambda: HEALTH + b"\r\n", id="a request"),
        pytest.param(lambda: request("POST", CREDITS, CREDIT)[:-1], id="a body that lacks a byte"),
        pytest.param(lambda: chunked(b"5\r\n{"), id="half a chunk"),
    ],
)
async def test_a_connection_whose_client_stops_sending_is_closed(
    live: LiveService,
    sent: Callable[[], bytes],
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The client may get an answer. The service closes the connection and logs no exception."""
    connection = await Connection.open(live)
    await connection.send(sent())
    connection.writer.write_eof()
    assert {each.status for each in answers(await connection.rest())} <= {200}
    await settled(live)
    assert failures(caplog, capfd) == []


# Security headers --------------------------------------------------------------------------------

ALWAYS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
}


def assert_headers(answer: Answer, status: int, cache_control: str = "no-store") -> None:
    """The answer has each of the headers once."""
    assert answer.status == status
    counted = Counter(name for name, _ in answer.headers)
    expected = ALWAYS | {"cache-control": cache_control}
    assert {name: dict(answer.headers).get(name) for name in expected} == expected
    assert {name: counted[name] for name in (*expected, "x-request-id")} == dict.fromkeys(
        (*expected, "x-request-id"), 1
    )


async def test_every_answer_has_the_headers_once(
    live: LiveService, monkeypatch: pytest.MonkeyPatch
) -> None:
    close = [("Connection", "close")]
    chat = b'{"userId":"u1","projectId":"p1","message":"Hello"}'
    token = b'{"userId":"u1","projectId":"p1"}'
    for asked, status in (
        (request("GET", "/healthz", headers=close), 200),
        (request("POST", CREDITS, CREDIT, close), 201),
        (request("POST", "/v1/tokens", token, close), 201),
        (request("POST", CREDITS, b"{", close), 400),
        (request("POST", CREDITS, CREDIT, close)[:-1] + b" ", 401),
        (request("GET", "/nothing", headers=close), 404),
        (request("GET", CREDITS, headers=close), 405),
        (b"nonsense\r\n\r\n", 400),
        (line_of(LONGEST_LINE * 2), 414),
    ):
        (answer,) = await exchange(live, asked)
        assert_headers(answer, status)
    (answer,) = await exchange(live, request("GET", "/openapi.json", headers=close))
    assert_headers(answer, 200, "no-cache")
    stream = request("POST", "/v1/chat-plan", chat, [*close, ("Accept", "text/event-stream")])
    (answer,) = await exchange(live, stream)
    assert_headers(answer, 200, "no-cache, no-store, no-transform")
    monkeypatch.setattr(shared_metrics, "page", lambda: 1 / 0)
    (answer,) = await exchange(live, request("GET", "/metrics", headers=close))
    assert_headers(answer, 500)
