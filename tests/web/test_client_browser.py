"""The web client in Chromium, over a bad network: as in Node, and what only browsers have."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.async_api import Browser

from tests.running import LiveService
from tests.service.conftest import _no_model_is_slow, _no_server_has_stopped
from tests.sizes import PROVE
from tests.web.faults import ASK, BEGIN, FAULTS, FOLLOW, FOLLOWED, LARGE, Ground, grounds
from tests.web.network import BadNetwork
from tests.web.runtimes import Tab, chromium, opened

__all__ = ["_no_model_is_slow", "_no_server_has_stopped"]

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


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    """One Chromium for the module."""
    async with chromium() as started:
        yield started


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


FEW = ("streams are cut", "the clock is fast by ten minutes", "a server stops", "feeds are cut")
"""The faults of `make test`: there Node bears them all, in less time."""


@pytest.mark.parametrize("name", FAULTS | LARGE if PROVE else FEW)
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


async def test_a_message_typed_offline_is_sent_when_the_network_is_back(
    browser: Browser, make: Make, shared_url: str
) -> None:
    async with ground_in(browser, make, shared_url) as ground:
        assert isinstance(ground.js, Tab)
        await ground.js.run("async () => { TIMES.pause = TIMES.longestPause = 3_600_000 }")
        await ground.js.page.context.set_offline(True)
        await ground.js.run(ASK, {"message": "Add a login page"})
        await ground.js.run("async () => await once(reply, () => reply.connection === 'offline')")
        await ground.js.page.context.set_offline(False)
        await ground.ended()


async def test_two_tabs_show_the_same(browser: Browser, make: Make, shared_url: str) -> None:
    async with ground_in(browser, make, shared_url) as one:
        two = await another_tab(one)
        for each in (one, two):
            await each.js.run(FOLLOW)
        await one.js.run(ASK, {"message": "Good morning"})
        await two.js.run(
            "async () => await once(feed, () => Object.values(feed.state.replies)"
            "[0]?.status === 'streaming')"
        )
        await one.ended()
        states = [(await each.js.run(FOLLOWED, {"count": 3}))["state"] for each in (one, two)]
        assert states[0] == states[1]
        await one.timeline_is(states[0])


SIGN_IN = """
async ({ code }) => {
  const body = JSON.stringify({ code })
  const headers = { 'Content-Type': 'application/json' }
  const answer = await fetch('/v1/browser-sessions', { method: 'POST', headers, body })
  globalThis.client = new throughline.Throughline()
  return [answer.status, await client.userId()]
}
"""


async def test_a_page_that_is_signed_in_gets_its_tokens_by_itself(
    browser: Browser, make: Make, shared_url: str
) -> None:
    async with ground_in(browser, make, shared_url) as ground:
        answer = await ground.live.client.post("/v1/links", json={"userId": ground.user})
        (code,) = parse_qs(urlsplit(answer.json()["url"]).query)["code"]
        assert await ground.js.run(SIGN_IN, {"code": code}) == [201, ground.user]
        await ground.js.run(ASK, {"message": "Good morning"})
        await ground.ended()
        (browser_session,) = (await ground.js.run(LIST))["browserSessions"]
        assert browser_session["current"]
        await ground.js.run(SIGN_OUT, {"id": browser_session["browserSessionId"]})
        assert await ground.js.run(AFTERWARDS) == [401, "signed_out"]


LIST = "async () => await client.get('/v1/browser-sessions')"
SIGN_OUT = "async ({ id }) => await client.delete(`/v1/browser-sessions/${id}`)"
AFTERWARDS = """
async () => await new throughline.Throughline().projects()
  .then(() => null, error => [error.status, error.code])
"""
