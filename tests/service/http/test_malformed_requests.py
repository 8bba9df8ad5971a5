"""Thousands of malformed requests: each connection ends, and nothing breaks."""

import asyncio
import random
from collections.abc import Callable, Iterator

import pytest

from service.http import connection_limits, operation
from tests import sizes
from tests.running import LiveService, running
from tests.service.http import raw
from tests.service.http.raw import Connection, request, statuses_in

REQUESTS = sizes.size(300, 20_000)
AT_ONCE = 50
"""With more, some would wait for a database connection until a 503 on a busy machine."""

CREDITS = "/v1/billing/credits"
CREDIT = b'{"userId":"u1","seconds":1,"kind":"bonus"}'
Mutation = Callable[[random.Random, bytes], bytes]


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the wait for the rest of a request short."""
    for name in ("HEAD_SECONDS", "BODY_SECONDS", "LINGER_SECONDS"):
        monkeypatch.setattr(connection_limits, name, 0.2)


# Requests ----------------------------------------------------------------------------------------


def valid(chance: random.Random) -> bytes:
    """A valid request."""
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(CREDIT), CREDIT)
    signed = request("POST", CREDITS, CREDIT)
    by_chunks = signed.replace(
        b"Content-Length: %d" % len(CREDIT), b"Transfer-Encoding: chunked"
    ).replace(CREDIT, chunked)
    return chance.choice(
        (
            request("GET", "/v1/project/p1/timeline?userId=u1&limit=3"),
            request("GET", "/healthz"),
            request("GET", "/openapi.json", headers=[("Accept-Encoding", "gzip")]),
            request("DELETE", "/v1/projects/p1/members/u1"),
            signed,
            by_chunks,
        )
    )


def noise(chance: random.Random, _: bytes) -> bytes:
    return chance.randbytes(chance.randrange(400))


def flipped(chance: random.Random, asked: bytes) -> bytes:
    changed = bytearray(asked)
    for _ in range(chance.randint(1, 8)):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def cut(chance: random.Random, asked: bytes) -> bytes:
    begin, end = sorted(chance.randrange(len(asked) + 1) for _ in range(2))
    return chance.choice((asked[:end], asked[begin:], asked[:begin] + asked[end:]))


def doubled(chance: random.Random, asked: bytes) -> bytes:
    begin, end = sorted(chance.randrange(len(asked) + 1) for _ in range(2))
    return asked[:end] + asked[begin:end] * chance.randint(1, 30) + asked[end:]


def inserted(chance: random.Random, asked: bytes) -> bytes:
    at = chance.randrange(len(asked) + 1)
    return asked[:at] + chance.choice(INSERTED) * chance.choice((1, 1, 1, 40)) + asked[at:]


def with_header(chance: random.Random, asked: bytes) -> bytes:
    line, rest = asked.split(b"\r\n", 1)
    more = (chance.choice(HEADERS) for _ in range(chance.randint(1, 3)))
    return b"\r\n".join((line, *more, rest))


def with_target(chance: random.Random, asked: bytes) -> bytes:
    method, _, rest = asked.split(b" ", 2)
    return b" ".join((method, chance.choice(TARGETS), rest))


def with_method(chance: random.Random, asked: bytes) -> bytes:
    _, rest = asked.split(b" ", 1)
    return chance.choice(METHODS) + b" " + rest


def with_version(chance: random.Random, asked: bytes) -> bytes:
    versions = (b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2", b"HTTP/1.10", b"HTP/1.1", b"", b"http/1.1")
    return asked.replace(b"HTTP/1.1", chance.choice(versions), 1)


def signed_again(chance: random.Random, _: bytes) -> bytes:
    """A valid signature over an invalid target or body."""
    method = chance.choice(("GET", "PUT", "DELETE", "POST"))
    path = chance.choice(("/v1/projects/{}/members/{}", "/v1/billing/accounts/{}", "/v1/{}"))
    target = path.format(*(chance.choice(PARTS) for _ in range(2))) + chance.choice(QUERIES)
    body = chance.choice((b"", chance.randbytes(40), inserted(chance, CREDIT), cut(chance, CREDIT)))
    return request(method if not body else "POST", target if not body else CREDITS, body)


MUTATIONS: tuple[Mutation, ...] = (
    *(noise, flipped, cut, doubled, inserted, with_header, with_target, with_method),
    *(with_version, signed_again),
)
INSERTED = (b"\0", b"\r", b"\n", b"\r\n", b" ", b"\t", b"\x7f", b"\xff\xfe", b"%00", b"%", b"\x1b")
HEADERS = (
    *(b"Content-Length: %s" % each for each in (b"0", b"5", b"-1", b"+4", b"0x10", b"1, 2", b"")),
    *(b"Content-Length: 18446744073709551616", b"Content-Length: 99999999", b"Content-Length : 4"),
    *(b"Transfer-Encoding: %s" % each for each in (b"chunked", b"identity", b"gzip, chunked")),
    *(b"Transfer-Encoding:\x0bchunked", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x"),
    *(b" folded: over", b": nameless", b"no colon", b"X: a\0b", b"X: \xff\xfe", b"\xc3\xa9: x"),
    *(b"Expect: 100-continue", b"Connection: close", b"Connection: upgrade\r\nUpgrade: websocket"),
    *(b"Connection: upgrade\r\nUpgrade: h2c", b"Host: a\r\nHost: b", b"Cookie: throughline=x"),
    *(b"Authorization: Bearer \xff", b"Idempotency-Key: \x80", b"X-Min-Position: \xb2"),
    *(b"X-HMAC-Signature: t=\xb2,kid=k1,n=1,v1=0", b"Content-Type: \xff", b"Last-Event-ID: \xff"),
)
TARGETS = (
    *(b"http://throughline/healthz", b"https://a:b@c:1/v1/events?x", b"//healthz", b"*", b"a:443"),
    *(
        b"/%",
        b"/%ff%fe",
        b"/\xff",
        b"/../../etc/passwd",
        b"/healthz#x",
        b"/v1/events?%00",
        b"?",
        b"",
    ),
    *(b"/" + b"a/" * 3_000, b"/v1/" + b"\0", b"/healthz?" + b"&" * 8_000, b"http://[::1", b"\\"),
)
METHODS = (b"PRI", b"CONNECT", b"OPTIONS", b"HEAD", b"TRACE", b"get", b"G\0T", b"X" * 9_000, b"")
PARTS = ("p1", "%00", "%FF", "..", "%2F", "\xe9", "a" * 300, "%F0%9F%98%80", "~")
QUERIES = ("", "?", "?userId=%00", "?limit=\xb2", "?a=1&a=2", "?userId=%ED%A0%80", "?before=.")


def mutated(chance: random.Random) -> bytes:
    """A request that is wrong in one to three ways, alone or between other requests."""
    asked = valid(chance)
    for mutate in chance.choices(MUTATIONS, k=chance.choice((1, 1, 1, 2, 3))):
        # Some mutations need a request line and more.
        asked = mutate(chance, asked) if asked.count(b" ") > 1 and b"\r\n" in asked else asked
    if chance.random() < 0.2:
        asked = chance.choice((valid(chance) + asked, asked + valid(chance)))
    return asked


# The check ---------------------------------------------------------------------------------------


async def ends(live: LiveService, asked: bytes, pieces: int) -> Iterator[str]:
    """The faults of a connection on which these bytes were sent."""
    connection = await Connection.open(live)
    size = len(asked) // pieces + 1
    await connection.send(*(asked[at : at + size] for at in range(0, len(asked), size)))
    try:
        received = await connection.rest()
    except TimeoutError:
        return iter(["it hangs"])
    return (str(status) for status in statuses_in(received) if status >= 500)


async def storm(live: LiveService, count: int, chance: random.Random) -> list[tuple[bytes, str]]:
    """Send `count` malformed requests; the requests with a fault, and their faults."""
    found = list[tuple[bytes, str]]()
    for begin in range(0, count, AT_ONCE):
        asked = [mutated(chance) for _ in range(min(AT_ONCE, count - begin))]
        ending = await asyncio.gather(
            *(ends(live, each, chance.choice((1, 1, 2, 7))) for each in asked)
        )
        found += [
            (each, fault) for each, faults in zip(asked, ending, strict=True) for fault in faults
        ]
    return found


def logged(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> list[str]:
    """The exceptions in the log."""
    ours = [line for line in capfd.readouterr().out.splitlines() if "request_failed" in line]
    found = ours + [each.getMessage() for each in caplog.records if each.exc_info]
    caplog.clear()
    return found


async def test_no_malformed_request_breaks_the_service(
    url: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    async with running(url) as live:
        await live.project()
        assert await storm(live, REQUESTS, sizes.chance("storm")) == []
        assert logged(caplog, capfd) == []
        assert (await live.client.get("/healthz")).json() == {"status": "ok"}
        assert (await live.client.get("/v1/billing/accounts/u1")).is_success


async def test_the_check_finds_a_broken_service(
    url: str,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same check of two services: one fails at some bodies, the other waits for heads."""
    async with running(url) as live:
        await live.project()
        with monkeypatch.context() as broken:
            broken.setattr(operation, "LARGEST_BODY", None)
            assert {fault for _, fault in await storm(live, 250, random.Random(1))} == {"500"}
            assert logged(caplog, capfd)
        monkeypatch.setattr(raw, "PATIENCE_SECONDS", 2.0)
        monkeypatch.setattr(connection_limits, "HEAD_SECONDS", 60.0)
        assert {fault for _, fault in await storm(live, 250, random.Random(1))} == {"it hangs"}
