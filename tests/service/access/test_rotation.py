"""A caller's secret is replaced in the steps of the operations page, and no request is refused."""

import re
import secrets
import time
from typing import Any

import httpx
import orjson

from service.access import signatures
from service.settings import Settings
from tests.documents import DOCS
from tests.running import running

OLD, NEW = "the-old-secret-of-k1", "the-new-secret-of-k1"


class SignedWith(httpx.Auth):
    """Signs the requests of a caller with one secret."""

    requires_request_body = True

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def auth_flow(self, request: httpx.Request) -> Any:
        """Add the header."""
        path, _, query = request.url.raw_path.partition(b"?")
        moment, nonce = int(time.time()), secrets.token_hex(8)
        v1 = signatures.sign(
            self._secret,
            method=request.method,
            path=path,
            query=query,
            time=moment,
            nonce=nonce,
            key_id="k1",
            body=request.content,
        )
        request.headers[signatures.HEADER] = f"t={moment},kid=k1,n={nonce},v1={v1}"
        yield request


def documented() -> list[dict[str, Any]]:
    """The keys of each step, as the page writes them."""
    page = (DOCS / "operations.md").read_text()
    section = page.partition("\n## Rotating keys\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"^```json\n(.*?)^```$", section, re.M | re.S)
    return [Settings(hmac_keys=orjson.loads(each)).hmac_keys for each in blocks]


async def test_a_secret_is_replaced_in_the_steps_of_the_operations_page(url: str) -> None:
    first, second, third = documented()
    async with (
        running(url, hmac_keys=first) as one,
        running(url, hmac_keys=second) as two,
        running(url, hmac_keys=third) as three,
    ):
        servers = (one.client, two.client, three.client)

        async def answers(secret: str) -> list[int]:
            path = "/v1/projects"
            return [(await each.get(path, auth=SignedWith(secret))).status_code for each in servers]

        async def token(client: httpx.AsyncClient, secret: str) -> str:
            body = {"userId": "u1"}
            answer = await client.post("/v1/tokens", json=body, auth=SignedWith(secret))
            return str(answer.json()["token"])

        async def read_with(token: str) -> list[int]:
            headers = {"Authorization": f"Bearer {token}"}
            return [
                (await each.get("/v1/projects", headers=headers, auth=None)).status_code
                for each in servers
            ]

        assert await answers(OLD) == [200, 200, 401]
        assert await answers(NEW) == [200, 200, 200]
        assert await read_with(await token(one.client, OLD)) == [200, 200, 401]
        assert await read_with(await token(two.client, OLD)) == [200, 200, 200]
