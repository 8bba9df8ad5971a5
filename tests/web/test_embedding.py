"""The examples of docs/embedding.md: a page of another origin has a chat, in Chromium."""

import asyncio
import socket
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import pytest
from playwright.async_api import Browser, ConsoleMessage, Page, expect

from service.model.offline.app import OfflineModel
from tests.documents import DOCS, code
from tests.running import KEYS, LiveService, running
from tests.service.watching import shown
from tests.sizes import PROVE
from tests.web.page import PATIENCE_MS, Opened
from tests.web.runtimes import NODE

pytestmark = pytest.mark.slow

PAGE: Final = DOCS / "embedding.md"

SIGNING: Final = DOCS / "api.md"

ADDRESS: Final = "http://127.0.0.1:8400"

QUESTION: Final = "Add a wish list"


Language = Literal["py", "ts"]


@dataclass(frozen=True)
class Shop:
    """The shop's origin, and the service that allows it."""

    port: int
    live: LiveService

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def service(self) -> str:
        return str(self.live.client.base_url).rstrip("/")

    def addressed(self, text: str) -> str:
        """An example with the address of the running service in place of that of the page."""
        assert ADDRESS in text
        return text.replace(ADDRESS, self.service)


@pytest.fixture(scope="module")
async def shop(shared_url: str) -> AsyncIterator[Shop]:
    """A service that allows the pages of one free port, with the user of the shop."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = int(unused.getsockname()[1])
    origins = (f"http://127.0.0.1:{port}",)
    async with running(shared_url, OfflineModel(pace=0.001), origins=origins) as live:
        await live.project("shop", "ada")
        await live.credit("ada")
        yield Shop(port, live)


@asynccontextmanager
async def serving(shop: Shop, folder: Path, language: Language = "py") -> AsyncGenerator[None]:
    """Run the server of the page."""
    (folder / "public").mkdir()
    (folder / "public" / "index.html").write_text(shop.addressed(code(PAGE, "html")))
    if language == "py":
        program, names = sys.executable, ("sign.py", "shop.py")
        signing = code(SIGNING, "py")
    else:
        program, names = str(NODE), ("sign.mts", "shop.mts")
        signing = code(SIGNING, "ts").replace("function sign", "export function sign")
    for name, text in zip(names, (signing, code(PAGE, language)), strict=True):
        (folder / name).write_text(text)
    environment = {
        "THROUGHLINE": shop.service,
        "KEY_ID": "k1",
        "SECRET": KEYS["k1"].secret.get_secret_value(),
        "PORT": str(shop.port),
    }
    null = asyncio.subprocess.DEVNULL  # the Python server writes a line for each request
    process = await asyncio.create_subprocess_exec(
        program, names[1], cwd=folder, env=environment, stderr=null
    )
    try:
        async with asyncio.timeout(20):
            while not await is_open(shop.port):  # noqa: ASYNC110 - the examples print no line
                await asyncio.sleep(0.02)
        yield
    finally:
        process.kill()
        await process.wait()


async def is_open(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionError:
        return False
    writer.close()
    return True


@dataclass
class Seen:
    """A page of the shop, with what went wrong in it."""

    page: Page
    problems: list[str] = field(default_factory=list[str])

    def note(self, message: ConsoleMessage) -> None:
        """Keep an error or a warning of the console."""
        if message.type in ("error", "warning"):
            self.problems.append(message.text)


@asynccontextmanager
async def visitor(browser: Browser, shop: Shop) -> AsyncGenerator[Seen]:
    """A new browser profile."""
    context = await browser.new_context(locale="en-GB")
    context.set_default_timeout(PATIENCE_MS)
    await context.grant_permissions(["clipboard-read", "clipboard-write"], origin=shop.origin)
    try:
        seen = Seen(await context.new_page())
        seen.page.on("console", seen.note)
        seen.page.on("pageerror", lambda error: seen.problems.append(str(error)))
        yield seen
    finally:
        await context.close()


@pytest.mark.parametrize("language", ["py", "ts"] if PROVE else ["ts"])
async def test_a_user_of_the_shop_asks_and_reads_the_reply(
    browser: Browser, shop: Shop, tmp_path: Path, language: Language
) -> None:
    async with serving(shop, tmp_path, language), visitor(browser, shop) as seen:
        await seen.page.goto(shop.origin)
        chat = Opened(seen.page, shop.origin, shop.live)
        await chat.ask(f"{QUESTION} ({language})")
        await chat.until_answered()
        await expect(seen.page.locator("throughline-plan")).to_contain_text("Model the data")
        await seen.page.reload()
        await chat.until_answered()
        assert seen.problems == []
    items = await shown(shop.live, "shop", userId="ada")
    asked = [each["userMessage"]["text"] for each in items if each["kind"] == "user_message"]
    assert asked.count(f"{QUESTION} ({language})") == 1
