"""Ids that PostgreSQL cannot store, and ids that are too long, are refused wherever they come in.

The tests put each bad text into each id of each operation, over HTTP.
"""

import re
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from itertools import count, islice
from typing import Any

import httpx
import orjson
import pytest

from service.app import OPERATIONS
from service.http.operation import AnyOperation
from tests.running import LiveService, problem
from tests.service.access.test_browser_tokens import signed
from tests.service.access.test_tenants import BODIES
from tests.sizes import size

HALF_A_PAIR = "half a surrogate pair"
BAD_TEXTS = ("\0", "u\0 1", "\x01", "u\n1", "\x7f", "x" * 256)
EACH = size(3, 7)
"""How many bad texts come into each place. Neighbouring places get different texts."""
ID = "u1"
_places = count()


def bad_texts(*more: str) -> list[str]:
    """The bad texts for the next place."""
    texts, first = (*BAD_TEXTS, *more), EACH * next(_places)
    return [texts[n % len(texts)] for n in range(first, first + min(EACH, len(texts)))]


def with_each_id_replaced(value: Any, text: str) -> Iterator[Any]:
    """Copies of a body, each with the text in the place of one id."""
    if isinstance(value, dict):
        for name, each in value.items():
            if name.endswith("Id") and isinstance(each, str):
                yield value | {name: text}
            else:
                for changed in with_each_id_replaced(each, text):
                    yield value | {name: changed}
    elif isinstance(value, list):
        for changed in with_each_id_replaced(value[0], text):
            yield [changed, *value[1:]]


def example(operation: AnyOperation) -> Any:
    """A body of the operation with ids; None where it has no body."""
    text = orjson.dumps(BODIES.get(operation.name)).decode()
    return orjson.loads(text.replace('"?"', f'"{ID}"'))


def bodies(operation: AnyOperation) -> Iterator[bytes]:
    """The bodies of an operation with one bad id each."""
    places = sum(1 for _ in with_each_id_replaced(example(operation), ""))
    for place in range(places):
        for text in bad_texts(HALF_A_PAIR):
            body = next(islice(with_each_id_replaced(example(operation), text), place, None))
            yield orjson.dumps(body).replace(HALF_A_PAIR.encode(), rb"u\ud800")


def paths(operation: AnyOperation) -> Iterator[str]:
    """The paths of an operation with one bad id each, in percent-encoding."""
    names = re.findall(r"{(\w+)}", operation.path)
    for bad in names:
        for text in bad_texts():
            quoted = "".join(f"%{each:02X}" for each in text.encode())
            path = operation.path.replace(f"{{{bad}}}", quoted)
            yield re.sub(r"{\w+}", ID, path)


def queries(operation: AnyOperation) -> Iterator[dict[str, str]]:
    """The queries of an operation with one bad text each."""
    for name, field in getattr(operation.query, "model_fields", {}).items():
        for text in bad_texts():
            yield {field.alias or name: text}


async def lives(shared: LiveService) -> None:
    """The service answers, and it stores the entries of its audit."""
    answer = await shared.client.post(
        "/v1/billing/credits", json={"userId": "u1", "seconds": 1, "kind": "paid"}
    )
    assert answer.status_code == 201, answer.text


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: each.name)
async def test_a_bad_id_is_refused_in_every_place(
    shared: LiveService, operation: AnyOperation
) -> None:
    plain = re.sub(r"{\w+}", ID, operation.path)
    json = {"Content-Type": "application/json"}
    for body in bodies(operation):
        answer = await shared.client.request(operation.method, plain, content=body, headers=json)
        assert answer.status_code in (400, 422), (body, answer.text)
    for path in paths(operation):
        answer = await shared.client.request(operation.method, path, json=example(operation))
        assert answer.status_code in (404, 422), (path, answer.text)
    for query in queries(operation):
        answer = await shared.client.request(
            operation.method, plain, params=query, json=example(operation)
        )
        assert 400 <= answer.status_code < 500, (query, answer.text)
    await lives(shared)


BAD_HEADERS = (b"\x01", b"\x7f", b"\xff\xfe", b"x" * 300, b"9" * 300, b"\xed\xa0\x80", b"\\ud800")


@pytest.mark.parametrize(
    "name",
    ["Idempotency-Key", "X-Request-Id", "Last-Event-ID", "X-Min-Position", "User-Agent", "Accept"],
)
async def test_a_bad_header_does_not_fail_the_service(shared: LiveService, name: str) -> None:
    credit = {"userId": "u1", "seconds": 1, "kind": "paid"}
    for text in BAD_HEADERS:
        headers = [(name.encode(), text)]
        for answer in (
            await shared.client.post("/v1/billing/credits", json=credit, headers=headers),
            await shared.client.get("/v1/project/p1/timeline", headers=headers),
        ):
            assert answer.status_code < 500, (text, answer.text)
        answer = await shared.client.get("/v1/audit?limit=1")
        assert answer.json()["items"][0]["requestId"] != text.decode("latin-1")
    await lives(shared)


DEEP = urlsafe_b64encode(b'{"kid":' + b"[" * 1_450).decode() + ".e30.e30"
"""A header that is nested too deeply for a parser of JSON."""

BAD_CLAIMS: tuple[dict[str, Any], ...] = (
    *({name: text} for name in ("sub", "prj") for text in (*BAD_TEXTS, "u\ud800", "", 1, ["u1"])),
    *({"exp": value} for value in (1e400, 10**300, "9999999999", [1], None)),
    {"head": {"kid": "\ud800"}},
)


async def test_a_browser_token_with_a_bad_claim_is_refused(shared: LiveService) -> None:
    for claims in (*BAD_CLAIMS, None):
        token = DEEP if claims is None else signed(**claims)
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(base_url=shared.client.base_url, headers=headers) as browser:
            answer = await browser.get("/v1/project/p1/timeline")
            assert problem(answer) == (401, "not_authenticated"), claims
    await lives(shared)


async def test_a_token_that_no_browser_could_send_is_not_minted(shared: LiveService) -> None:
    user = "\u0639" * 255
    await shared.project("p9", user)
    answer = await shared.client.post("/v1/tokens", json={"userId": user, "projectId": "p9"})
    assert problem(answer) == (422, "token_too_long")
