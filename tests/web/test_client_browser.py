"""The web client in Chromium, over a bad network: as in Node, and what only browsers have."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from playwright.async_api import Browser

from tests.running import LiveService
from tests.web.faults import ASK, BEGIN, FAULTS, LARGE, Ground, grounds
from tests.web.network import BadNetwork
from tests.web.runtimes import Tab, opened

pytestmark = pytest.mark.slow

RESEND = """
async () => {
  const kept = client.unsent().map(each => each.body.message)
  globalThis.replies = client.resend()
  return { kept, finals: await Promise.all(replies.map(reply => reply.done)) }
}
"""


Make = Callable[[], tuple[LiveService, BadNetwork]]


@pytest.fixture(scope="module")
async def make(shared_url: str) -> AsyncIterator[Make]:
    """A service for all faults."""
    async with grounds(shared_url) as made:
        yield made


@asynccontextmanager
async def ground_in(browser: Browser, make: Make, url: str) -> AsyncGenerator[Ground]:
    """A page with a client, and a storage of its own."""
    live, network = make()
    async with network.serving() as address:
        context = await browser.new_context()
        try:
            tab = await opened(await context.new_page(), address)
            ground = Ground(live, network, tab, url)
            await ground.begin()
            yield ground
        finally:
            await context.close()


async def another_tab(ground: Ground) -> Ground:
    """Another page of the same user and browser."""
    assert isinstance(ground.js, Tab)
    page = await ground.js.page.context.new_page()
    tab = await opened(page, ground.js.page.url.removesuffix("/test"))
    await tab.run(BEGIN, {"userId": ground.user, "project": ground.project})
    return replace(ground, js=tab)


FEW = ("streams are cut", "feeds are cut")
"""The faults of `make test`: there Node bears them all, in less time."""


@pytest.mark.parametrize("name", FEW)
async def test_a_client_in_chromium_bears(
    name: str, browser: Browser, make: Make, shared_url: str
) -> None:
    async with ground_in(browser, make, shared_url) as ground:
        await (FAULTS | LARGE)[name](ground)


async def test_a_message_typed_offline_outlives_its_page_and_is_sent_once(
    browser: Browser, make: Make, shared_url: str
) -> None:
    async with ground_in(browser, make, shared_url) as ground:
        assert isinstance(ground.js, Tab)
        first, second = await another_tab(ground), await another_tab(ground)
        context = ground.js.page.context
        await context.set_offline(True)
        await ground.js.run(ASK, {"message": "Add a login page"})
        await ground.js.run("async () => await once(reply, () => reply.connection === 'offline')")
        await ground.js.page.close()
        await context.set_offline(False)
        found = await asyncio.gather(first.js.run(RESEND), second.js.run(RESEND))
        assert [each["kept"] for each in found] == [["Add a login page"]] * 2
        assert found[0]["finals"] == found[1]["finals"]
        await ground.has_messages(1)
        assert await first.js.run("async () => client.unsent()") == []
