"""The web client in Chromium: over every bad network, in two tabs, offline, at another origin."""

from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.async_api import Browser

from tests.running import running
from tests.service.watching import append, said, until
from tests.web.faults import ASK, FAULTS, FOLLOW, FOLLOWED, LARGE, Ground, grounds
from tests.web.network import BadNetwork
from tests.web.runtimes import Tab, opened
from tests.web.test_client_browser import FEW, Make, another_tab, ground_in, make

__all__ = ["make"]


@pytest.mark.parametrize("name", [name for name in FAULTS | LARGE if name not in FEW])
async def test_a_client_in_chromium_bears(
    name: str, browser: Browser, make: Make, shared_url: str
) -> None:
    async with ground_in(browser, make, shared_url) as ground:
        await (FAULTS | LARGE)[name](ground)


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


async def test_a_feed_tells_that_the_device_is_offline_and_comes_back(
    browser: Browser, make: Make, shared_url: str
) -> None:
    async with ground_in(browser, make, shared_url) as ground:
        assert isinstance(ground.js, Tab)
        await ground.js.run(FOLLOW)
        context = ground.js.page.context
        await context.set_offline(True)
        await ground.js.run("async () => await once(feed, () => feed.connection === 'offline')")
        await append(ground.live, [said("meanwhile", project_id=ground.project)])
        await context.set_offline(False)
        await ground.js.run("async () => await once(feed, () => feed.connection === 'open')")
        await ground.timeline_is((await ground.js.run(FOLLOWED, {"count": 1}))["state"])


SHOW = """
async ({ state }) => {
  TIMES.rest = 0
  Object.defineProperty(document, 'visibilityState', { value: state, configurable: true })
  document.dispatchEvent(new Event('visibilitychange'))
}
"""


async def test_a_feed_rests_while_nobody_sees_its_tab(
    browser: Browser, make: Make, shared_url: str
) -> None:
    async with ground_in(browser, make, shared_url) as ground:
        await ground.js.run(FOLLOW)
        await ground.js.run(SHOW, {"state": "hidden"})
        await until(lambda: ground.network.open == 0)
        await append(ground.live, [said("meanwhile", project_id=ground.project)])
        await ground.js.run(SHOW, {"state": "visible"})
        end = await ground.js.run(FOLLOWED, {"count": 1})
        await ground.timeline_is(end["state"])
        assert end["connections"] == ["open"]


async def test_the_outbox_is_bounded_and_belongs_to_its_user(
    browser: Browser, make: Make, shared_url: str
) -> None:
    async with ground_in(browser, make, shared_url) as ground:
        ground.network.go_down()
        for n in range(22):
            await ground.js.run(ASK, {"message": f"Message {n}"})
        unsent = "async () => client.unsent().map(each => each.body.message)"
        assert await ground.js.run(unsent) == [f"Message {n}" for n in range(20)]
        await ground.js.run(
            "async () => { for (const { key } of client.unsent().slice(1)) client.discard(key) }"
        )
        assert await ground.js.run(unsent) == ["Message 0"]
        other = "() => new throughline.Throughline({ userId: 'another', renew }).unsent()"
        assert await ground.js.run(other) == []


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


async def test_a_page_of_another_origin_uses_the_client(browser: Browser, shared_url: str) -> None:
    """The page and its files come from one origin, and the service is at another one."""
    async with grounds(shared_url) as make_page:
        _, pages = make_page()
        async with pages.serving() as own, running(shared_url, origins=[own]) as live:
            network = BadNetwork(str(live.client.base_url))
            async with network.serving() as address:
                context = await browser.new_context()
                tab = await opened(await context.new_page(), own)
                ground = Ground(live, network, tab, shared_url)
                await ground.begin()
                pages.pages |= network.pages
                await tab.run(ELSEWHERE, {"address": address})
                await tab.run(FOLLOW)
                network.sever()
                network.cut_streams([500, 1_000])
                await tab.run(ASK, {"message": "Good morning"})
                await ground.ended()
                await ground.timeline_is((await tab.run(FOLLOWED, {"count": 3}))["state"])
                await context.close()


ELSEWHERE = """
async ({ address }) => {
  client = new throughline.Throughline({ url: address, userId, renew })
}
"""
