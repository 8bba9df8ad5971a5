"""Texts of clients and models are neither in the service's log lines nor in problems.

The test puts a marked word into every kind of input, and searches the log lines of the service,
at their most detailed level, for the word.
"""

import asyncio
import re
import signal
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

import httpx
import pytest

from service.access import signatures
from service.app import OPERATIONS
from tests.running import KEYS
from tests.service.http.raw import PATIENCE_SECONDS
from tests.service.replicas import Replica, prepare, replicas

T = TypeVar("T")
CANARY = "zq7canary"
CHAT = "/v1/chat-plan"
TIMELINE = "/v1/project/p0/timeline"
FAULTS = (
    *(f"status code={code}" for code in (400, 401, 402, 403, 404, 413, 429, 500, 529)),
    *("slow seconds=9", "slow_first seconds=9", "hang after=3", "cut_before", "cut after=5"),
    *("eof after=5", "error_event after=5 type=api_error", "bad_json after=5", "html"),
    *("refusal after=5", "max_tokens", "broken_contract", "prose", "fenced", "wrong_language"),
    *(
        "nul",
        "odd",
        "no_usage",
        "tool name=read_file path=zq7canary.py",
        "zq7canary makes=no sense",
    ),
)
AT_ONCE = 8
"""Fewer than the database connections of a process, so that no message waits for a connection."""

SECONDS = {
    "THROUGHLINE_LOG_LEVEL": "debug",
    "THROUGHLINE_FIRST_TEXT_SECONDS": "2",
    "THROUGHLINE_NEXT_TEXT_SECONDS": "2",
}


def batched(values: Iterable[T], size: int) -> Iterator[list[T]]:
    """The values in lists of this size; the last list may be shorter."""
    left = iter(values)
    while some := list(islice(left, size)):
        yield some


def found_in(text: str, words: Iterable[str]) -> list[str]:
    """The lines that hold one of the words."""
    known = [word.lower() for word in words]
    return [line for line in text.splitlines() if any(word in line.lower() for word in known)]


async def every_fault(replica: Replica) -> None:
    """Post a message for each fault of a model, and a message without a fault."""

    async def ask(number: int, fault: str) -> None:
        said = f"{CANARY} [[offline: {fault}]]" if fault else CANARY
        body = {"userId": "u1", "projectId": f"p{number}", "message": said}
        headers = {"Accept": "text/event-stream", "Idempotency-Key": f"{CANARY}-{number}"}
        answer = await replica.client.post(CHAT, json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        assert "event: final" in answer.text

    for some in batched(enumerate((*FAULTS, "")), AT_ONCE):
        await asyncio.gather(*(ask(number, fault) for number, fault in some))


async def refusals(replica: Replica) -> list[httpx.Response]:
    """The answers to invalid requests, each with the word in another place."""
    signed, plain = replica.client, httpx.AsyncClient(base_url=replica.client.base_url)
    good = {"userId": "u1", "projectId": "p0", "message": CANARY}
    bearer = {"Authorization": f"Bearer {CANARY}"}
    bodies: tuple[dict[str, Any], ...] = (
        good | {"more": CANARY},
        good | {CANARY: 1},
        good | {"chatMode": CANARY},
        good | {"locale": f"{CANARY}!"},
        good | {"userId": CANARY},
        good | {"projectId": CANARY},
        good | {"sessionId": CANARY},
        good | {"message": [CANARY]},
        {"message": CANARY * 50_000},
    )
    async with plain:
        return [
            *[await signed.post(CHAT, json=body) for body in bodies],
            await signed.post(CHAT, content=f'{{"message": "{CANARY}'),
            await signed.post(CHAT, content=CANARY),
            await signed.post(CHAT, content=CANARY, headers={"Content-Type": CANARY}),
            await signed.post(CHAT, json=good, headers={"Idempotency-Key": f"{CANARY} x"}),
            await signed.post(CHAT, json=good, headers={"Idempotency-Key": f"{CANARY}-0"}),
            await signed.get(f"/{CANARY}"),
            await signed.put(f"/v1/chat-plan?{CANARY}={CANARY}"),
            await signed.put(f"/v1/projects/p0/members/{CANARY}", json={"role": CANARY}),
            await signed.get(f"/v1/project/{CANARY}/timeline?userId={CANARY}"),
            await signed.get(f"{CHAT}/replies/{CANARY}/stream?userId={CANARY}"),
            await signed.get(f"{TIMELINE}?limit={CANARY}"),
            await signed.get(f"{TIMELINE}?before={CANARY}&{CANARY}=1"),
            await signed.get(f"{TIMELINE}?before={CANARY}"),
            await signed.get(f"{TIMELINE}?before={CANARY}.1"),
            await signed.get(f"{TIMELINE}", headers={"X-Min-Position": CANARY}),
            await signed.get(f"/v1/events?types={CANARY}"),
            await signed.get(f"/v1/messages/{CANARY}%00"),
            await plain.get(f"{TIMELINE}?ticket={CANARY}&userId=u1"),
            await plain.get(TIMELINE, headers=bearer),
            await plain.post(CHAT, json=good, headers=bearer),
            await plain.get(TIMELINE, headers={"Cookie": f"throughline={CANARY}"}),
            await plain.get(TIMELINE, headers={signatures.HEADER: CANARY}),
            await plain.get(
                TIMELINE, headers={signatures.HEADER: f"t=1,kid={CANARY},n={CANARY},v1={CANARY}"}
            ),
            await plain.get("/" + CANARY * 2_000),
            await plain.get("/healthz", headers={CANARY: CANARY * 5_000}),
            await plain.request(CANARY.upper(), "/healthz"),
        ]


async def every_route(replica: Replica) -> list[httpx.Response]:
    """The answers of every route to requests with the word wherever a client can put a text."""
    answers: list[httpx.Response] = []
    for each in OPERATIONS:
        path = re.sub(r"{\w+}", CANARY, each.path)
        body = (
            None if each.method == "GET" else {"userId": CANARY, CANARY: CANARY, "message": CANARY}
        )
        asked = {"userId": CANARY, "limit": CANARY, CANARY: CANARY}
        for query in (asked, {"userId": CANARY}):
            answer = await replica.client.request(each.method, path, params=query, json=body)
            answers.append(answer)
    return answers


async def noise(replica: Replica) -> None:
    """Send bytes that are not HTTP, and requests that break off."""
    for sent in (
        f"{CANARY}\r\n\r\n",
        f"GET /{CANARY} HTTP/1.1\r\n{CANARY}: {CANARY}\0\r\n\r\n",
        f"GET /{CANARY} HTTP/1.1\r\nUpgrade: {CANARY}\r\nConnection: upgrade\r\n\r\n{CANARY}",
        f"POST {CHAT} HTTP/1.1\r\nContent-Length: 99\r\n\r\n{CANARY}",
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", replica.client.base_url.port)
        writer.write(sent.encode())
        writer.write_eof()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await reader.read()
        writer.close()
        await writer.wait_closed()


async def a_browser(replica: Replica) -> str:
    """Send a valid token in each way; returns the token."""
    asked = {"userId": "u1", "projectId": "p0"}
    token = str((await replica.client.post("/v1/tokens", json=asked)).json()["token"])
    async with httpx.AsyncClient(base_url=replica.client.base_url) as plain:
        for how in (
            {"headers": {"Authorization": f"Bearer {token}"}},
            {"headers": {"Cookie": f"throughline={token}"}},
            {"params": {"ticket": token}},
        ):
            assert (await plain.get(TIMELINE, **how)).is_success  # type: ignore[arg-type]
    return token


async def test_no_text_of_a_request_is_logged_or_repeated_in_a_problem(
    url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    async with replicas(url, None, **SECONDS) as several:
        replica = await several.start()
        await prepare(replica, *(f"p{number}" for number in range(len(FAULTS) + 1)))
        await every_fault(replica)
        problems = await refusals(replica)
        everywhere = await every_route(replica)
        await noise(replica)
        token = await a_browser(replica)
        last = await replica.client.get("/healthz")
        replica.send(signal.SIGTERM)
        assert await replica.wait() == 0
    written = capfd.readouterr().err
    assert len(found_in(written, [last.headers["x-request-id"]])) == 1, "the search finds nothing"
    secrets = [key.secret.get_secret_value() for key in KEYS.values()]
    assert found_in(written, [CANARY, token, *secrets]) == []
    texts = [each.text.replace(f'"pointer":"/{CANARY}"', "") for each in problems]
    assert [str(each.url) for each in problems if each.is_success] == []
    assert found_in("\n".join(texts), [CANARY, *secrets]) == []
    refused = [each for each in everywhere if not each.is_success]
    assert len(refused) > len(OPERATIONS), "each route refuses one of its two requests at least"
    texts = [each.text.replace(f'"pointer":"/{CANARY}"', "") for each in refused]
    assert found_in("\n".join(texts), [CANARY, *secrets]) == []
