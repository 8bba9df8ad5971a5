"""A real browser over connections that break: its EventSource reconnects by itself."""

import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from playwright.async_api import Page, async_playwright

from service.model.offline.app import OfflineModel
from tests.documents import code
from tests.running import Event, LiveService, running
from tests.service import law
from tests.service.replies.test_client_examples import PAGE
from tests.web.network import BadNetwork

pytestmark = pytest.mark.slow

WATCH = """
path => new Promise((resolve, reject) => {
    const source = new EventSource(path);
    const events = [];
    const names = ["accepted", "intent", "notice", "chunk", "reset", "snapshot", "final"];
    for (const name of names) source.addEventListener(name, event => {
        events.push([event.type, event.data, event.lastEventId]);
    });
    source.onerror = () => { if (source.readyState === EventSource.CLOSED) resolve(events); };
})
"""
"""Collects the events of an EventSource until a 204 makes it stop."""

ASK = """
body => new Promise((resolve, reject) => {
    const names = [];
    ask(body, (name, reply) => {
        names.push(name);
        if (name === "final") resolve([names, reply]);
    }).catch(reject);
})
"""


@asynccontextmanager
async def browser(address: str) -> AsyncGenerator[Page]:
    """A page of the network's origin, in headless Chromium."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = await chromium.new_page()
        await page.goto(f"{address}/")
        yield page
        await chromium.close()


@asynccontextmanager
async def behind_a_bad_network(
    url: str, cuts: int
) -> AsyncGenerator[tuple[LiveService, BadNetwork]]:
    """A service behind a network that signs, serves the documented client, and cuts streams."""
    async with running(url, OfflineModel(pace=0.02)) as live:
        await live.project()
        await live.credit()
        network = BadNetwork(str(live.client.base_url), signs=True)
        network.cut_streams(700 * n for n in range(1, cuts + 1))
        network.pages |= {"/": _client, "/favicon.ico": _client}
        yield live, network


async def _client() -> tuple[str, bytes]:
    """A page with the documented client."""
    page = f"<!doctype html><title>Throughline</title><script>{code(PAGE, 'js')}</script>"
    return "text/html", page.encode()


async def test_an_event_source_that_reconnects_by_itself_gets_every_event_once(url: str) -> None:
    async with behind_a_bad_network(url, cuts=3) as (live, network), network.serving() as address:
        events: list[Event] = []
        async with browser(address) as page:
            async for event in law.read_stream(live, "أضف حقل بحث 🧵", locale="ar"):
                events.append(event)
                if len(events) == 1:
                    reply_id = event[1]["messageId"]
                    path = f"/v1/chat-plan/replies/{reply_id}/stream?userId=u1"
                    await page.evaluate(f"() => {{ window.watching = ({WATCH})('{path}') }}")
            got: list[Any] = await page.evaluate("() => window.watching")
        assert [(name, orjson.loads(data), at) for name, data, at in got] == events
        assert network.statuses == [200, 200, 200, 200, 204]
        await law.ended_as_shown(live, url, law.lawful(events))


async def test_the_documented_browser_client_shows_the_reply(url: str) -> None:
    async with behind_a_bad_network(url, cuts=2) as (live, network), network.serving() as address:
        async with browser(address) as page:
            body = {"userId": "u1", "projectId": "p1", "message": "Add a login page"}
            names, reply = await page.evaluate(ASK, body)
        answer = await live.client.get("/v1/project/p1/timeline", params={"userId": "u1"})
        newest = answer.json()["items"][0]
        assert reply == newest["aiResponse"]["data"]
        assert set(names) == {"chunk", "final"}
        whole = await live.join(newest["id"])
        assert names.count("chunk") == [name for name, _, _ in whole].count("chunk")
        await law.ended_as_shown(live, url, law.lawful(whole))
