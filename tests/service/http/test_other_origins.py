"""Calls by pages of other origins: with a token where a setting allows it, never with a cookie."""

import asyncio
import shutil
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from playwright.async_api import Page, async_playwright

from tests.running import LiveService, running
from tests.service.access.test_browser_sessions import LIST, TIMELINE, TOKEN, link
from tests.service.access.test_browser_tokens import browser, mint

SHOP = "https://shop.example.com"


@pytest.fixture(scope="module")
async def allowing(shared: LiveService, shared_url: str) -> AsyncIterator[LiveService]:
    """A second server of the shared database, with the setting."""
    async with running(shared_url, origins=(SHOP,)) as started:
        yield started


async def preflight(live: LiveService, origin: str, method: str = "POST") -> httpx.Response:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "authorization,content-type,idempotency-key",
    }
    async with browser(live) as client:
        return await client.options("/v1/chat-plan", headers=headers)


async def test_a_page_of_an_allowed_origin_calls_with_a_token(allowing: LiveService) -> None:
    asked = await preflight(allowing, SHOP)
    assert asked.status_code == 200
    assert asked.headers["access-control-allow-origin"] == SHOP
    assert {"GET", "POST", "PATCH", "DELETE"} <= {
        each.strip() for each in asked.headers["access-control-allow-methods"].split(",")
    }
    async with browser(allowing, await mint(allowing)) as client:
        for path, status in ((TIMELINE, 200), ("/v1/project/none/timeline", 404)):
            answer = await client.get(path, headers={"Origin": SHOP})
            assert answer.status_code == status
            assert answer.headers["access-control-allow-origin"] == SHOP
            assert "Origin" in answer.headers["vary"]
            assert "access-control-allow-credentials" not in answer.headers
            shown = answer.headers["access-control-expose-headers"]
            assert {"X-Log-Position", "Retry-After", "ETag"} <= {*shown.split(", ")}


@pytest.mark.parametrize("origin", ["https://attacker.example", f"{SHOP}.attacker.example", "null"])
async def test_any_other_origin_is_told_nothing(allowing: LiveService, origin: str) -> None:
    asked = await preflight(allowing, origin)
    assert asked.status_code == 400
    assert "access-control-allow-origin" not in asked.headers
    async with browser(allowing, await mint(allowing)) as client:
        answer = await client.get(TIMELINE, headers={"Origin": origin})
        assert "access-control-allow-origin" not in answer.headers


async def test_without_the_setting_no_other_origin_may_call(shared: LiveService) -> None:
    assert (await preflight(shared, SHOP)).status_code == 405


# A real browser -----------------------------------------------------------------------------------

POST = """
([path, body]) => fetch(path, {
    method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(body),
}).then(async answer => [answer.status, await answer.json()])
"""

WITH_COOKIE = """
([url, mode]) => fetch(url, {
    method: "POST", mode, credentials: "include", body: new Blob(["{}"]),
}).then(answer => answer.type, error => error.name)
"""

WITH_TOKEN = """
([url, token]) => fetch(url, {headers: {Authorization: `Bearer ${token}`}})
    .then(answer => [answer.status, answer.headers.get("X-Log-Position")])
"""


@asynccontextmanager
async def another_origin() -> AsyncGenerator[str]:
    """A page on another port: another origin, and the same site, so that cookies are sent."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n"
        writer.write(head + b"<!doctype html><title>Shop</title>")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@asynccontextmanager
async def chromium() -> AsyncGenerator[Page]:
    program = shutil.which("chromium") or shutil.which("google-chrome")
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield await started.new_page()
        await started.close()


@pytest.mark.slow
async def test_in_a_browser_the_cookie_serves_the_own_page_alone(
    url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    async with another_origin() as shop, running(url, origins=(shop,)) as live, chromium() as page:
        await live.project()
        own, code = str(live.client.base_url), await link(live)
        async with page.expect_response(f"{own}{LIST}") as redeeming:
            await page.goto(f"{own}/?code={code}")
        assert (await (await redeeming.value).json())["userId"] == "u1"
        assert code not in page.url, "nor in the address bar"
        assert code not in await page.evaluate("JSON.stringify([history.state, {...localStorage}])")
        assert await page.evaluate("document.cookie") == "", "no script reads it"
        status, renewed = await page.evaluate(POST, [TOKEN, {}])
        assert (status, renewed["userId"]) == (200, "u1")
        await page.goto(f"{shop}/")
        for mode in ("cors", "no-cors"):
            assert await page.evaluate(WITH_COOKIE, [own + TOKEN, mode]) == "TypeError"
        read = await page.evaluate(WITH_TOKEN, [own + TIMELINE, renewed["token"]])
        assert read == [200, str(live.service.live_log.head)]
    written = "".join(capfd.readouterr())
    refused = [line for line in written.splitlines() if "renewToken" in line and "=403" in line]
    assert len(refused) == 2, "the service refuses what such a page asks for"
    assert "redeemLink" in written, "the control"
    assert code not in written
    assert renewed["token"] not in written
