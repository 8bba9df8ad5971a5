"""What a user has typed, opened and reached on the page stays while other things change."""

import asyncio

from playwright.async_api import Browser, Page, Route, expect

from service.model.offline.app import OfflineModel
from tests.running import LiveService, running
from tests.web.page import posted, project, said, signed_in

ANSWERED, MESSAGES = 55, 165
SCROLL_UP = "log => { log.scrollTop = 0 }"
DEFINED = "() => customElements.whenDefined('throughline-event-log').then(() => true)"


async def held(page: Page, addresses: str) -> asyncio.Event:
    """Hold the requests of the page to these addresses; returns what lets them go."""
    may_go = asyncio.Event()

    async def hold(route: Route) -> None:
        await may_go.wait()
        await route.continue_()

    await page.route(addresses, hold)
    return may_go


async def building(live: LiveService, project_id: str) -> str:
    """A build that a worker has claimed; returns its path."""
    build = await posted(live, "/v1/builds", projectId=project_id, message="Build a shop")
    path = f"/v1/builds/{build['buildId']}"
    answer = await live.client.post(f"{path}/claim", json={"workerId": "w1"})
    assert answer.is_success, answer.text
    return path


async def report(live: LiveService, path: str, *numbers: int) -> str:
    """Report steps of these numbers; returns the position of the log."""
    at = {"at": "2026-11-22T10:00:00Z", "phase": "development", "type": "progress"}
    events = [{"eventId": f"{n}", "title": f"Step {n}"} | at for n in numbers]
    answer = await live.client.post(f"{path}/events", json={"events": events})
    assert answer.is_success, answer.text
    return answer.headers["X-Log-Position"]


async def test_what_is_open_beside_stays_while_a_build_goes_on(
    browser: Browser, live: LiveService
) -> None:
    place = await project(live, "goes-on")
    path = await building(live, "goes-on")
    await report(live, path, 1)
    async with signed_in(browser, live) as opened:
        panel = opened.page.locator(".panel")
        await opened.go(f"{place}?panel=build:{path.rpartition('/')[2]}")
        await panel.locator("summary").click()
        await report(live, path, 2)
        await expect(panel.locator(".log li").last).to_contain_text("Step 2")
        await expect(panel.locator(".log li").last).to_be_visible()

        await opened.page.context.set_offline(True)
        await expect(panel.get_by_role("alert")).to_be_visible()
        await opened.page.context.set_offline(False)
        await report(live, path, 3)
        await expect(panel.locator("throughline-build")).to_contain_text("Step 3")
        opened.problems.clear()


async def test_a_panel_has_all_reports_up_to_its_moment(
    browser: Browser, live: LiveService
) -> None:
    place = await project(live, "reports")
    path = await building(live, "reports")
    at = await report(live, path, 1)
    await report(live, path, *range(2, 252))
    async with signed_in(browser, live) as opened:
        reports = opened.page.locator(".panel summary", has_text="report")
        address = f"{place}?panel=build:{path.rpartition('/')[2]}"
        await opened.go(address)
        await expect(reports).to_have_text("251 reports")
        await opened.go(f"{address}&at={at}")
        await expect(reports).to_have_text("1 report")


async def test_a_text_that_was_not_sent_stays_when_the_project_changes(
    browser: Browser, live: LiveService
) -> None:
    place = await project(live, "typed")
    prompt = await posted(
        live, "/v1/prompts", projectId="typed", name="Greeter", text="Greet {{name}}."
    )
    async with signed_in(browser, live) as opened:
        page = opened.page
        await opened.go(f"{place}/prompts")
        field = page.locator(".page").get_by_label("Name")
        await field.fill("Farewell")
        await page.locator(".top h1").focus()
        for message in ("The first one", "The second one"):
            await said(live, "typed", message)
            await expect(opened.session(message)).to_be_visible()
        await expect(field).to_have_value("Farewell")

        await opened.go(f"{place}?panel=prompt:{prompt['promptId']}")
        value = page.locator(".panel").get_by_label("name", exact=True)
        await value.fill("Zoe")
        await opened.ask("Add a login page")
        await opened.until_answered()
        await expect(value).to_have_value("Zoe")


async def test_a_refused_message_is_given_back_to_its_own_conversation(
    browser: Browser, live: LiveService
) -> None:
    await live.project("refused", "poor")
    async with signed_in(browser, live, "poor") as opened:
        page = opened.page
        may_go = await held(page, "**/messages")
        await opened.go("#/projects/refused")
        box = page.get_by_role("textbox", name="Message")
        await opened.ask("Add a login page")
        await page.wait_for_url("**/#/sessions/*")
        session = page.url.partition("#")[2]
        await box.fill("And a logout page")
        may_go.set()
        await expect(box).to_have_value("Add a login page\n\nAnd a logout page")

        may_go.clear()
        await page.keyboard.press("Enter")
        await opened.go("#/projects/refused")
        await box.fill("Another plan")
        may_go.set()
        await expect(page.locator(".toast").last).to_be_visible()
        await expect(box).to_have_value("Another plan")
        await opened.go(f"#{session}")
        await expect(box).to_have_value("Add a login page\n\nAnd a logout page")
        opened.problems.clear()


async def test_the_past_of_a_long_conversation_stays_the_past_when_it_is_scrolled(
    browser: Browser, url: str
) -> None:
    """A page of the past has 200 items, and the live one 50."""
    async with running(url, OfflineModel(pace=0), user_messages=MESSAGES) as live:
        await project(live, "scrolled")
        session = await posted(live, "/v1/sessions", projectId="scrolled", mode="what_if")
        path = f"/v1/sessions/{session['sessionId']}/messages"
        for number in range(MESSAGES):
            await posted(live, path, message=f"Message {number}.", reply=number < ANSWERED)
        newest = (await live.client.get(f"{path}?userId=u1&limit=10")).json()["messages"]
        at = newest[0]["cursor"]
        async with signed_in(browser, live) as opened:
            items, log = opened.page.locator(".item"), opened.page.locator(".log")
            await opened.go(f"#/sessions/{session['sessionId']}")
            await expect(items.last).to_contain_text("Message 164.")
            await opened.go(f"#/sessions/{session['sessionId']}?at={at}")
            await expect(items).to_have_count(200)
            await log.evaluate(SCROLL_UP)
            await expect(items.first).to_contain_text("Message 0.")
            await expect(items.last).to_contain_text("Message 155.")
            await expect(items).to_have_count(211)


async def test_the_log_waits_for_what_it_shows(browser: Browser, live: LiveService) -> None:
    place = await project(live, "waits")
    await said(live, "waits", "Add a login page")
    async with signed_in(browser, live) as opened:
        page = opened.page
        await opened.go(f"{place}/log")
        may_go = await held(page, "**/timeline?*")
        await page.reload()
        await page.evaluate(DEFINED)
        may_go.set()
        await expect(page.locator("throughline-event-log li").first).to_be_visible()


async def test_a_name_that_is_being_typed_stays_when_something_new_is_said(
    browser: Browser, live: LiveService
) -> None:
    await project(live, "renamed")
    session = await said(live, "renamed", "The first one")
    async with signed_in(browser, live) as opened:
        page = opened.page
        await opened.go(f"#/sessions/{session}")
        await opened.until_answered()
        await page.locator(".top").get_by_role("button", name="Actions for this session").click()
        await page.get_by_role("menuitem", name="Rename", exact=True).click()
        await page.keyboard.type("My")
        await said(live, "renamed", "The second one")
        await expect(page.locator(".session[data-unread]")).to_be_visible()
        await page.keyboard.type(" plan")
        await page.keyboard.press("Enter")
        await expect(opened.session("My plan")).to_be_visible()
        await expect(page.locator(".top h1")).to_have_text("My plan")


async def test_older_rows_that_are_refused_are_asked_for_once(
    browser: Browser, live: LiveService
) -> None:
    place = await project(live, "older")
    session = await posted(live, "/v1/sessions", projectId="older", mode="what_if")
    path = f"/v1/sessions/{session['sessionId']}/messages"
    for number in range(60):
        await posted(live, path, message=f"Message {number}.", reply=False)
    asked = 0

    async def refuse(route: Route) -> None:
        nonlocal asked
        asked += 1
        await route.fulfill(status=404, json={"code": "not_found", "detail": "It is gone."})

    async with signed_in(browser, live) as opened:
        page = opened.page
        await page.route("**/timeline?*before=*", refuse)
        await opened.go(f"{place}/timeline")
        await expect(page.get_by_role("alert")).to_contain_text("It is gone.")
        for _ in range(10):
            await page.evaluate("fetch('/healthz').then(answer => answer.text())")
        assert asked == 1
        await page.unroute("**/timeline?*before=*")
        await opened.button("Try again").click()
        await expect(page.get_by_role("alert")).to_be_hidden()
        opened.problems.clear()
