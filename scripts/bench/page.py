"""The page in Chromium: what it loads, when it shows something, and how it bears much.

The project has 10,000 items, all in one session. Each figure is of the page as a user has it: the
user signed in by a link, and the files come from the running service. A start is warm where the
browser has the files already, and only asks whether they are still the same.
"""

import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from statistics import median
from typing import Final
from urllib.parse import urlsplit

import httpx
import uvloop
from playwright.async_api import CDPSession, Page, async_playwright

from projections import PROJECTIONS
from projections.projection import install
from scripts.bench import sessions, streams
from scripts.bench.streams import Figure, Target
from scripts.bench.wire_model import StampingModel
from service.postgres import connections, migrations
from service.web import static

ITEMS: Final = 10_000
BEFORE: Final = 2
"""The events before the session: the project and its member."""
STARTS: Final = 7
MOVES: Final = 15
PACE: Final = 0.01
PARAGRAPH: Final = 60
"""The stamps in a paragraph of the long reply, which are about 1,000 characters."""

WATCH: Final = """
globalThis.longestTask = 0;
new PerformanceObserver(list => {
    for (const each of list.getEntries()) longestTask = Math.max(longestTask, each.duration);
}).observe({ type: "longtask" });
globalThis.firstItem = new Promise(resolve => {
    new MutationObserver((_, watching) => {
        if (!document.querySelector("throughline-chat .item")) return;
        resolve(performance.now());
        watching.disconnect();
    }).observe(document, { childList: true, subtree: true });
});
"""
"""Runs before the page: when the first item of a conversation is shown, and the longest task."""

_PROJECT: Final = b"""
insert into app.event (
    position, version, schema_version, append_id, recorded_at,
    tenant_id, stream_id, type, project_id, state, metadata
)
select
    n, n, 1, gen_random_uuid(), now(), 'bench', 'project-talk', type, 'talk',
    convert_to(state, 'UTF8'), '{}'
from (
    values (1, 'ProjectRegistered', '{"project_id": "talk", "name": "Talk"}'),
        (2, 'MemberAdded', '{"project_id": "talk", "user_id": "u", "role": "owner"}')
) as event (n, type, state)
"""

LOADED: Final = """
() => Promise.all(performance.getEntriesByType("resource")
    .filter(each => /\\.(js|css)$/.test(each.name))
    .map(async each => (await (await fetch(each.name)).arrayBuffer()).byteLength))
"""
"""The bytes of each file of script or style, without compression."""

SCROLL: Final = """
async items => {
    const list = document.querySelector("throughline-timeline");
    const frame = () => new Promise(resolve => requestAnimationFrame(resolve));
    let most = 0;
    for (let last = 0; last < items; await frame()) {
        list.scrollTop = list.scrollHeight;
        const rows = [...list.querySelectorAll("li")];
        most = Math.max(most, rows.length);
        last = Math.max(0, ...rows.map(each => Number(each.getAttribute("aria-posinset"))));
    }
    return most;
}
"""
"""Scroll to the oldest item; returns the most rows that were in the document in any frame."""

MOVE: Final = """
async ([position, number]) => {
    const slider = document.querySelector(".scrubber input");
    const isThere = () => {
        const row = document.querySelector("throughline-timeline li[aria-posinset='1'] a");
        const message = new URLSearchParams(row?.hash.split("?")[1]).get("message");
        return message === `long-m${number}` || message === `long-r${number}`;
    };
    const began = performance.now();
    slider.value = position;
    slider.dispatchEvent(new Event("input"));
    while (!isThere()) await new Promise(resolve => requestAnimationFrame(resolve));
    return performance.now() - began;
}
"""
"""Move the slider; returns after how many ms the timeline shows that moment's newest item."""

WRITTEN: Final = """
() => JSON.stringify(document.querySelector("throughline-chat .item:last-child throughline-plan")
    ?.data ?? null).match(/<\\d+>/g)?.length ?? 0
"""
"""The number of stamps in the reply that is shown."""


@dataclass(frozen=True, slots=True)
class Bench:
    """The page, the developer tools beside it, and the address of the service."""

    page: Page
    tools: CDPSession
    url: str

    async def go(self, place: str) -> None:
        """Load the page at a place, such as `sessions/long`."""
        await self.page.goto("about:blank")
        await self.page.goto(f"{self.url}/#/{place}")

    async def heap(self) -> int:
        """The bytes of the page's objects that are still in use."""
        await self.tools.send("HeapProfiler.collectGarbage")
        return int((await self.tools.send("Runtime.getHeapUsage"))["usedSize"])


async def fill(url: str) -> None:
    """A project with many items."""
    await migrations.migrate(url)
    async with await connections.connect(url, as_service=False) as owner:
        await owner.execute(_PROJECT)
        asked = {"after": BEFORE, "session": "long", "exchanges": ITEMS // 2}
        await owner.execute(sessions.EXCHANGES, asked)
        await install(owner, PROJECTIONS)
        await owner.execute("vacuum analyze")


async def prepare(target: Target) -> str:
    """The user's credit; returns a link that signs the user in."""

    async with httpx.AsyncClient(base_url=target.url, auth=sessions.Signed()) as client:
        credit = {"userId": "u", "seconds": 10**7, "kind": "paid"}
        (await client.post("/v1/billing/credits", json=credit)).raise_for_status()
        answer = await client.post("/v1/links", json={"userId": "u"})
        return str(answer.raise_for_status().json()["url"])


@asynccontextmanager
async def chromium(link: str) -> AsyncGenerator[Bench]:
    """The page of the user, without a window."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        context = await started.new_context(viewport={"width": 1440, "height": 900})
        await context.add_init_script(WATCH)
        page = await context.new_page()
        await page.goto(link)
        await page.locator("throughline-session-list").wait_for(state="attached")
        parts = urlsplit(link)
        yield Bench(page, await context.new_cdp_session(page), f"{parts.scheme}://{parts.netloc}")
        await started.close()


async def loaded(bench: Bench) -> Figure:
    """The bytes of script and style that the page loads, without those of texts."""
    await bench.go("projects/talk")
    await bench.page.locator("throughline-chat").wait_for()
    sizes = await bench.page.evaluate(LOADED)
    detail = f"{len(sizes)} files; {all_parts() / 1_000:.0f} kB with all that is opened later"
    return Figure("page: script and style, kB", sum(sizes) / 1_000, 150, detail)


def all_parts() -> int:
    """The bytes of script and style of the page with all that can be opened in it."""
    others = ("adapters/", "gallery/")
    return sum(
        len(file.content)
        for path, file in static.FILES.items()
        if path.endswith((".css", ".js")) and not path.startswith(others)
    )


async def warm_start(bench: Bench) -> Figure:
    """The time from the navigation to the first item of a conversation."""
    times: list[float] = []
    for _ in range(STARTS):
        await bench.go("sessions/long")
        times.append(float(await bench.page.evaluate("() => firstItem")) / 1_000)
    slowest = f"slowest {max(times):.2f} s"
    return Figure("page: first item after a warm start, s at p50", median(times), 0.5, slowest)


async def long_timeline(bench: Bench) -> list[Figure]:
    """The rows in the document while the timeline is scrolled, and moves through its time."""
    await bench.go("projects/talk/timeline")
    await bench.page.locator("throughline-timeline li").first.wait_for()
    rows = await bench.page.evaluate(SCROLL, ITEMS)
    moves: list[float] = []
    for n in range(MOVES, 0, -1):
        number = 1 + ITEMS * n // (MOVES + 1)
        moves.append(float(await bench.page.evaluate(MOVE, [BEFORE + number, number])))
    return [
        Figure(f"page: rows in the document, {ITEMS:,} items scrolled", rows, 200),
        Figure(
            f"page: to an earlier moment of {ITEMS:,} items, ms at p50",
            median(moves),
            100,
            f"slowest {max(moves):.0f} ms",
        ),
    ]


async def long_reply(bench: Bench, model: StampingModel) -> list[Figure]:
    """A reply of many chunks: the longest task of the page, and what its memory grew by."""
    await bench.go("projects/talk")
    await bench.page.get_by_role("textbox", name="Message").fill("Go on")
    before = await bench.heap()
    await bench.page.evaluate("() => { longestTask = 0 }")
    await bench.page.keyboard.press("Enter")
    seconds = model.deltas * model.pace
    again = bench.page.get_by_role("button", name="Ask again", exact=True)
    await again.wait_for(timeout=(seconds + 60) * 1_000)
    longest = float(await bench.page.evaluate("longestTask"))
    written = int(await bench.page.evaluate(WRITTEN))
    grown = (await bench.heap() - before) / 1_000_000
    what = f"page: {1 / model.pace:.0f} chunks/s for {seconds:.0f} s"
    return [
        Figure(f"{what}, missing at the end", model.deltas - written, 0),
        Figure(f"{what}, longest task in ms", longest, 50, "0: no task of 50 ms"),
        Figure(f"{what}, growth of the heap in MB", grown, 16),
    ]


async def measure(url: str, seconds: float) -> list[Figure]:
    """Measure on an empty database."""
    await fill(url)
    model = StampingModel(deltas=round(seconds / PACE), pace=PACE, paragraph=PARAGRAPH)
    async with (
        model.serving() as model_url,
        streams.service(url, model_url) as target,
        chromium(await prepare(target)) as bench,
    ):
        return [
            await loaded(bench),
            await warm_start(bench),
            *await long_timeline(bench),
            *await long_reply(bench, model),
        ]


def run(seconds: float) -> list[Figure]:
    """Measure on a PostgreSQL of its own; the long reply takes this number of seconds."""
    with streams.new_databases() as new_database:
        return uvloop.run(measure(new_database(), seconds))
