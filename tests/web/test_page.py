"""The page as people use it: a real browser, the real service, the offline model."""

import os
import re
from collections.abc import AsyncIterator
from functools import partial
from operator import ne
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.async_api import Browser, Page, expect

from service.model.offline.app import OfflineModel
from service.wire import position_of
from tests.running import LiveService, running
from tests.service.conftest import _no_model_is_slow, _no_server_has_stopped
from tests.sizes import PROVE
from tests.web.page import PATIENCE_MS, Opened, signed_in
from tests.web.runtimes import chromium

__all__ = ["_no_model_is_slow", "_no_server_has_stopped"]

DOCS: Final = Path(__file__).parents[2] / "docs"
PICTURES: Final = "THROUGHLINE_SCREENSHOTS" in os.environ
PLACES: Final = ("", "/timeline", "/prompts", "/runs", "/usage", "/log")
expect.set_options(timeout=PATIENCE_MS)


SLIDE: Final = """
async positions => {
    const slider = document.querySelector(".scrubber input");
    const found = [];
    for (const position of positions) {
        slider.value = position;
        slider.dispatchEvent(new Event("input"));
        await new Promise(resolve => requestAnimationFrame(resolve));
        found.push(document.querySelectorAll("throughline-timeline li").length);
    }
    return found;
}
"""
"""Move the slider from frame to frame; returns the rows that each frame showed."""


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    """One Chromium for the module."""
    async with chromium() as started:
        yield started


@pytest.fixture(scope="module")
async def live(shared_url: str) -> AsyncIterator[LiveService]:
    """A service for all tests: each one has a project of its own."""
    async with running(shared_url, OfflineModel(pace=0.001)) as started:
        yield started


async def project(live: LiveService, project_id: str, *users: str) -> str:
    """A project of its own for a test, whose users have AI seconds; returns where it is shown."""
    await live.project(project_id, *users or ("u1",))
    for user in users or ("u1",):
        await live.credit(user)
    return f"#/projects/{project_id}"


async def posted(live: LiveService, path: str, **body: Any) -> Any:
    """Post as the user u1."""
    answer = await live.client.post(path, json={"userId": "u1"} | body)
    assert answer.is_success, answer.text
    return answer.json()


async def said(
    live: LiveService, project_id: str, message: str, *, user: str = "u1", **session: Any
) -> str:
    """Say something in a new session; returns its id when the reply has ended."""
    body = {"projectId": project_id, "mode": "plan"} | session
    opened = await posted(live, "/v1/sessions", userId=user, **body)
    path = f"/v1/sessions/{opened['sessionId']}/messages"
    await posted(live, path, userId=user, message=message)
    return str(opened["sessionId"])


async def test_a_link_signs_in_and_a_reply_outlives_a_reload(
    browser: Browser, live: LiveService
) -> None:
    place = await project(live, "reload")
    async with signed_in(browser, live) as opened:
        page = opened.page
        assert "code" not in page.url
        await opened.go(place)
        await opened.ask("Add a login page [[offline: hang after=40 times=1]]")
        await expect(page.locator("throughline-plan")).to_contain_text("Model the data")
        assert "#/sessions/" in page.url
        await expect(opened.session("Add a login page").locator(".dot")).to_be_visible()
        reserved = page.locator(".meter")
        await expect(reserved).to_have_attribute("data-reserved", "60")

        await page.reload()
        await expect(page.locator("throughline-plan")).to_contain_text("Model the data")
        await opened.button("Stop").click()
        await expect(page.locator(".notice")).to_contain_text("cancelled")
        await expect(reserved).to_have_attribute("data-reserved", "0")
        await expect(opened.session("Add a login page").locator(".dot")).to_be_hidden()
        await expect(page.locator(".item")).to_have_count(3)


async def test_a_plan_becomes_a_build_which_locks_the_project_until_it_ends(
    browser: Browser, live: LiveService
) -> None:
    place = await project(live, "build")
    async with signed_in(browser, live) as opened:
        page = opened.page
        await opened.go(place)
        await opened.ask("Add a wish list")
        await opened.until_answered()
        await opened.button("Build this").click()
        await expect(page.locator("throughline-build")).to_contain_text("queued")
        await expect(page.locator(".why")).to_contain_text("became a build")
        (build,) = (
            await live.client.get("/v1/builds", params={"projectId": "build", "userId": "u1"})
        ).json()["builds"]
        path = f"/v1/builds/{build['buildId']}"
        await live.client.post(f"{path}/claim", json={"workerId": "w1"})
        at = {"at": "2026-11-22T10:00:00Z", "phase": "development"}
        report = {"eventId": "1", "type": "progress", "title": "Writing the page"} | at
        await live.client.post(f"{path}/events", json={"events": [report]})
        await expect(page.locator("throughline-build")).to_contain_text("Writing the page")

        await opened.go(place)
        await expect(page.locator(".why")).to_contain_text("being built")
        await page.go_back()
        await opened.button("Cancel build").click()
        await expect(page.locator("throughline-build")).to_contain_text("cancelled")
        await opened.go(place)
        await expect(page.locator(".why")).to_be_hidden()


async def test_a_session_is_renamed_starred_archived_and_erased(
    browser: Browser, live: LiveService
) -> None:
    place = await project(live, "list")
    await said(live, "list", "The first one")
    await said(live, "list", "The second one")
    async with signed_in(browser, live) as opened:
        page = opened.page
        await opened.go(place)
        await opened.choose("The first one", "Rename")
        await page.keyboard.type("My plan")
        await page.keyboard.press("Enter")
        await expect(opened.session("My plan")).to_be_visible()
        await opened.choose("My plan", "Tags")
        await page.keyboard.type("shop, to do")
        await page.keyboard.press("Enter")
        await expect(opened.session("My plan").locator("bdi.chip")).to_have_text(["shop", "to do"])
        await opened.choose("My plan", "Tags")
        await page.keyboard.press("Delete")
        await page.keyboard.press("Enter")
        await expect(opened.session("My plan").locator("bdi.chip")).to_have_count(0)
        await opened.choose("My plan", "Star")
        await page.get_by_role("button", name="Starred").click()
        await expect(page.locator(".session")).to_have_count(1)
        await page.get_by_role("button", name="Starred").click()

        await opened.choose("My plan", "Archive")
        await expect(opened.session("My plan")).to_be_hidden()
        await opened.button("Undo").click()
        await expect(opened.session("My plan")).to_be_visible()

        await opened.session("The second one").locator("a").click()
        await opened.choose("The second one", "Delete")
        await expect(page.get_by_role("dialog")).to_contain_text("the bill stays")
        await opened.button("Keep").click()
        await opened.choose("The second one", "Delete")
        await opened.button("Delete for ever").click()
        await expect(opened.session("The second one")).to_be_hidden()
        await expect(page.locator(".hello")).to_be_visible()
        assert page.url.endswith(place)


async def test_a_search_leads_to_its_message_which_is_asked_again_in_a_fork(
    browser: Browser, live: LiveService
) -> None:
    place = await project(live, "search")
    session = await said(live, "search", "How do we ship green tea?")
    await posted(live, f"/v1/sessions/{session}/messages", message="And by sea?")
    async with signed_in(browser, live) as opened:
        page = opened.page
        await opened.go(place)
        await page.keyboard.press("/")
        await page.keyboard.type("sea")
        await expect(page.locator(".found mark").first).to_have_text("sea")
        await page.locator(".found a").first.click()
        await expect(page.locator(".item[data-marked]")).to_contain_text("And by sea?")
        await page.keyboard.press("Escape")

        message = page.locator(".item[data-kind=user_message]", has_text="And by sea?")
        await message.hover()
        await message.get_by_role("button", name="Edit and ask again").click()
        box = page.get_by_role("textbox", name="Message")
        await expect(box).to_have_value("And by sea?")
        await opened.ask("And by train?")
        await expect(page.locator(".top")).to_contain_text("Plan")
        await expect(page.locator(".item", has_text="And by train?")).to_be_visible()
        await opened.until_answered()
        await expect(page.locator(".item", has_text="green tea?").first).to_be_visible()
        await expect(page.locator(".item", has_text="And by sea?")).to_have_count(0)
        assert session not in page.url


async def test_a_prompt_is_written_run_and_improved(browser: Browser, live: LiveService) -> None:
    place = await project(live, "prompt")
    async with signed_in(browser, live) as opened:
        page = opened.page
        await opened.go(f"{place}/prompts")
        await page.get_by_label("Name").fill("Greeter")
        await page.get_by_label("Text").fill("Greet {{name}}.")
        await opened.button("Create the prompt").click()
        start = page.locator(".panel form button.main")
        await expect(start).to_be_disabled()
        await expect(start).to_contain_text("Without a value")
        await page.get_by_label("name", exact=True).fill("Zoe")
        await start.click()
        await opened.ask("Three of them, please.")
        await opened.until_answered()
        await expect(page.locator(".top")).to_contain_text("Private")
        await expect(page.locator(".group h3")).to_have_text("Greeter")

        version = (await live.client.get("/v1/projects/prompt/prompts?userId=u1")).json()
        number = f"{version['prompts'][0]['promptId']}.1"
        context = {"promptVersionId": number}
        idea = await said(live, "prompt", "It is too loud.", mode="idea", context=context)
        await opened.go(f"#/sessions/{idea}")
        await opened.button("Make it a version").click()
        await expect(page.locator(".panel throughline-prompt-diff")).to_be_visible()
        await expect(page.locator(".panel select")).to_contain_text("Version 2")


async def test_the_past_is_shown_whole_and_the_way_back_leads_to_now(
    browser: Browser, live: LiveService
) -> None:
    await project(live, "past", "u9")
    (first,) = [await posted(live, "/v1/sessions", userId="u9", projectId="past", mode="plan")]
    path = f"/v1/sessions/{first['sessionId']}"
    for message in ("The first message", "The second message"):
        await posted(live, f"{path}/messages", userId="u9", message=message)
    async with signed_in(browser, live, "u9") as opened:
        page = opened.page
        await opened.go(f"#/sessions/{first['sessionId']}")
        last = page.locator(".item", has_text="The second message").first
        await expect(last).to_be_visible()
        seconds = page.locator(".meter")
        spent = await seconds.get_attribute("data-available")
        for _ in range(2):
            before = page.url
            await page.keyboard.press("[")
            await page.wait_for_url(partial(ne, before))
        await expect(page.locator("html[data-past]")).to_have_count(1)
        await expect(page.locator(".bar")).to_contain_text("You see")
        await expect(last).to_be_hidden()
        await expect(page.locator(".item", has_text="The first message").first).to_be_visible()
        await expect(seconds).not_to_have_attribute("data-available", spent or "")
        await page.reload()
        await expect(page.locator("html[data-past]")).to_have_count(1)
        slider = page.locator(".scrubber input")
        place = int(await slider.input_value()) + 1
        for key in "[]":
            await slider.fill(str(place))
            await page.wait_for_url(re.compile(rf"[?&]at={place}(&|$)"))
            before = page.url
            await page.keyboard.press(key)
            await page.wait_for_url(partial(ne, before))
        await opened.button("Back to now").click()
        await expect(last).to_be_visible()
        await expect(seconds).to_have_attribute("data-available", spent or "")


async def test_the_slider_moves_what_is_loaded_without_a_request(
    browser: Browser, live: LiveService
) -> None:
    """At most one request is under way, and the last one is for the last moment."""
    place = await project(live, "slide")
    session = (await posted(live, "/v1/sessions", projectId="slide", mode="what_if"))["sessionId"]
    for number in range(8):
        path = f"/v1/sessions/{session}/messages"
        await posted(live, path, message=f"Message {number}", reply=False)
    async with signed_in(browser, live) as opened:
        page = opened.page
        await opened.go(f"{place}/timeline")
        rows = page.locator("throughline-timeline li")
        await expect(rows).to_have_count(8)
        await expect(opened.session("Message 0")).to_be_visible()
        asked = list[str]()
        page.on("request", lambda request: asked.append(request.url))
        path = "/v1/project/slide/timeline?userId=u1"
        items = (await live.client.get(path)).json()["items"]
        positions = [position_of(each["cursor"]) for each in items]
        moves = [*positions[:0:-1], positions[5]]
        assert await page.evaluate(SLIDE, moves) == [1, 2, 3, 4, 5, 6, 7, 3]
        await expect(opened.session("Message 0")).to_contain_text("3")
        await page.wait_for_url(re.compile("at="))
        moments = [re.findall("asOf=([^&]+)", each)[0] for each in asked]
        assert not [each for each in asked if "/timeline" in each]
        assert len(moments) < 8
        assert moments[-1] == page.url.partition("at=")[2]

        await live.client.delete(f"/v1/sessions/{session}", params={"userId": "u1"})
        await expect(rows).to_have_count(0)


async def more_of_the_shop(live: LiveService) -> None:
    """Other sessions, for a picture: saved runs, an idea, an analysis, one of another member."""
    ada = {"userId": "ada", "projectId": "shop"}
    prompt = await posted(
        live, "/v1/prompts", **ada, name="Greeter", text="Greet {{name}} {{how}}."
    )
    version = f"{prompt['promptId']}.1"
    for name in ("Zoe", "Max"):
        values = {"name": name, "how": "warmly"}
        run = {"mode": "prompt", "promptVersionId": version, "values": values, "name": name}
        await said(live, "shop", "Three of them, please.", user="ada", **run)
    about = {"context": {"promptVersionId": version}}
    await said(live, "shop", "The greeting is too loud.", user="ada", mode="idea", **about)
    await said(live, "shop", "How healthy is this project?", user="ada", mode="analysis")
    await said(live, "shop", "Why is the cart slow?", user="zoe")
    starred = await said(live, "shop", "How do we ship tea?", user="ada")
    await live.client.patch(f"/v1/sessions/{starred}", json={"userId": "ada", "starred": True})


async def shop(live: LiveService) -> str:
    """A project with a build that runs; returns its session."""
    ada = {"userId": "ada", "projectId": "shop"}
    members = [{"userId": user, "role": "owner"} for user in ("ada", "zoe")]
    body = {"projectId": "shop", "name": "Shop", "members": members}
    await live.client.post("/v1/projects", json=body)
    for user in ("ada", "zoe"):
        await live.credit(user, 3_600)
    if PICTURES:
        await more_of_the_shop(live)
    session = await said(live, "shop", "Add a login page", user="ada")
    path = "/v1/chat-plan/convert-to-build"
    build = f"/v1/builds/{(await posted(live, path, **ada, sessionId=session))['buildId']}"
    await live.client.post(f"{build}/claim", json={"workerId": "w1"})
    report = {"phase": "development", "type": "progress", "title": "Writing src/routes.py"}
    events = [report | {"eventId": "1", "at": "2026-11-22T10:00:00Z"}]
    await live.client.post(f"{build}/events", json={"events": events})
    return session


async def picture(opened: Opened, name: str) -> None:
    """Write a picture of the page for the documents, where THROUGHLINE_SCREENSHOTS asks for it."""
    if PICTURES:
        await opened.page.screenshot(path=DOCS / name)


async def test_another_language_turns_the_page_round(browser: Browser, live: LiveService) -> None:
    session = await shop(live)
    async with signed_in(browser, live, "ada") as opened:
        page = opened.page
        await opened.go(f"#/sessions/{session}")
        reply = await page.locator(".item[data-kind=reply]").get_attribute("data-id")
        await opened.go(f"#/sessions/{session}?panel=plan:{reply}")
        await expect(page.locator(".panel throughline-plan")).to_contain_text("Model the data")
        await expect(page.locator("throughline-build")).to_contain_text("Writing src/routes.py")
        await picture(opened, "client.png")
        side = page.locator(".side")
        for language, label in (("fr", "Chronologie"), ("es", "Cronología"), ("ar", "الخط الزمني")):
            await opened.set("locale", language)
            await expect(side).to_contain_text(label)
        await expect(page.locator("html")).to_have_attribute("dir", "rtl")
        box = await side.bounding_box()
        assert box is not None
        assert box["x"] > 1000
        await expect(page.locator(".item").first).to_contain_text("مرحبًا")
        assert await opened.overflow() <= 0
        await picture(opened, "client-rtl.png")
        await page.reload()
        await expect(page.locator("html")).to_have_attribute("lang", "ar")


async def test_a_narrow_screen_has_a_drawer_and_a_sheet(
    browser: Browser, live: LiveService
) -> None:
    place = await project(live, "narrow")
    await said(live, "narrow", "Add a login page")
    async with signed_in(browser, live, viewport={"width": 360, "height": 740}) as opened:
        page = opened.page
        await opened.go(place)
        await expect(page.locator(".side")).to_be_hidden()
        await page.locator(".top .narrow").click()
        await opened.session("Add a login page").locator("a").click()
        await expect(page.locator(".side")).to_be_hidden()
        await expect(page.locator(".item")).to_have_count(3)
        assert await opened.overflow() <= 0
        await page.locator("[data-action=panel]").click()
        await expect(page.locator(".panel throughline-plan")).to_contain_text("Model the data")
        assert await opened.overflow() <= 0
        await page.keyboard.press("Escape")
        await expect(page.locator(".panel")).to_be_hidden()


async def swipe(page: Page, start: int, end: int) -> None:
    """Draw a finger over the screen."""
    tools = await page.context.new_cdp_session(page)
    for kind, x in (("touchStart", start), ("touchMove", (start + end) // 2), ("touchMove", end)):
        points = [{"x": x, "y": 300}]
        await tools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    await tools.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


async def test_a_swipe_opens_and_closes_the_drawer(browser: Browser, live: LiveService) -> None:
    place = await project(live, "swipe")
    window: dict[str, Any] = {"viewport": {"width": 360, "height": 740}, "has_touch": True}
    async with signed_in(browser, live, **window) as opened:
        await opened.go(place)
        side = opened.page.locator(".side")
        for language, outwards in (("en", (10, 200)), ("ar", (350, 160))):
            if language == "ar":
                await opened.page.evaluate("localStorage.setItem('throughline.locale', 'ar')")
                await opened.page.reload()
            await expect(opened.page.locator("throughline-chat")).to_be_visible()
            await swipe(opened.page, 120, 240)
            await expect(side).to_be_hidden()
            await swipe(opened.page, *outwards)
            await expect(side).to_be_visible()
            await swipe(opened.page, *outwards[::-1])
            await expect(side).to_be_hidden()


async def test_a_message_is_copied(browser: Browser, live: LiveService) -> None:
    await project(live, "copy")
    session = await said(live, "copy", "Add a login page")
    async with signed_in(
        browser, live, permissions=["clipboard-read", "clipboard-write"]
    ) as opened:
        page = opened.page
        await opened.go(f"#/sessions/{session}")
        await opened.until_answered()
        for kind, text in (("user_message", "Add a login page"), ("reply", "## ")):
            row = page.locator(f".item[data-kind={kind}]")
            await row.hover()
            await row.locator("[data-action=copy]").click()
            await page.locator(".toast", has_text="Copied").wait_for()
            assert text in await page.evaluate("navigator.clipboard.readText()")
            await page.evaluate("document.querySelector('.toast').remove()")


async def test_high_contrast_keeps_everything_readable(browser: Browser, live: LiveService) -> None:
    session = await filled(live, "contrast", "u1")
    async with signed_in(browser, live, bypass_csp=True) as opened:
        page = opened.page
        await opened.go(f"#/sessions/{session}")
        await opened.until_answered()
        line = "getComputedStyle(document.querySelector('.side')).borderInlineEndColor"
        plain = await page.evaluate(line)
        assert await opened.violations() == []
        await page.emulate_media(contrast="more")
        assert await page.evaluate(line) != plain
        assert await opened.violations() == []
        await page.emulate_media(contrast="no-preference", forced_colors="active")
        assert await page.evaluate("matchMedia('(forced-colors: active)').matches")
        assert await opened.violations() == []
        chosen = page.locator(".session [aria-current=page]")
        assert await chosen.evaluate("each => getComputedStyle(each).outlineStyle") == "solid"
        button = page.locator("throughline-chat [data-action=build]")
        assert await button.evaluate("each => getComputedStyle(each).borderStyle") == "solid"


async def test_the_keyboard_alone_does_everything(browser: Browser, live: LiveService) -> None:
    place = await project(live, "keys")
    await said(live, "keys", "An older plan")
    async with signed_in(browser, live) as opened:
        page, press = opened.page, opened.page.keyboard.press
        await opened.go(place)
        await page.locator(".session").wait_for()
        await press("?")
        await expect(page.get_by_role("dialog")).to_contain_text("Go back in time")
        await press("Escape")
        await press("n")
        await page.keyboard.type("Add a login page")
        await press("Enter")
        await opened.until_answered()
        heard = page.locator("throughline-chat > [role=status]")
        await expect(heard).to_have_text(re.compile("The reply is there.*A plan for"))
        await press("Escape")
        await press("Escape")
        await press("j")
        focused = "document.activeElement.closest('article')?.dataset.kind"
        assert await page.evaluate(focused) == "system_message"
        await press("j")
        await press("j")
        assert await page.evaluate(focused) == "reply"
        await press("b")
        assert await page.evaluate("document.activeElement.textContent") == "Build this"
        await press("Enter")
        await expect(page.locator("throughline-build")).to_contain_text("queued")


async def test_a_draft_outlives_a_reload_and_signing_out_ends_the_session_of_the_browser(
    browser: Browser, live: LiveService
) -> None:
    await project(live, "out", "u8")
    async with signed_in(browser, live, "u8") as opened:
        door = opened.page.get_by_role("heading", name="Sign in to Throughline")
        draft = opened.page.get_by_role("textbox", name="Message")
        await draft.fill("Half a thought")
        await opened.page.reload()
        await expect(draft).to_have_value("Half a thought")
        await opened.button("Sign out").click()
        await expect(door).to_be_visible()
        assert await opened.page.evaluate("sessionStorage.length") == 0, "the draft is kept"
        await opened.page.reload()
        await expect(door).to_be_visible()
        assert all("401" in each for each in opened.problems)
        opened.problems.clear()


async def test_what_a_person_wrote_is_never_markup(browser: Browser, live: LiveService) -> None:
    place = await project(live, "markup")
    name = "<img src=x onerror=alert(1)><b>bold</b>"
    await said(live, "markup", name, name=name)
    async with signed_in(browser, live) as opened:
        await opened.go(place)
        await opened.session("<b>bold</b>").locator("a").click()
        await expect(opened.page.locator(".item .said")).to_have_text(name)
        assert await opened.page.locator("img").count() == 0


async def test_a_lost_network_is_told_and_the_message_is_sent_once(
    browser: Browser, live: LiveService
) -> None:
    place = await project(live, "offline")
    session = await said(live, "offline", "The first message")
    async with signed_in(browser, live) as opened:
        page = opened.page
        await opened.go(f"#/sessions/{session}")
        await opened.until_answered()
        await page.context.set_offline(True)
        await opened.ask("Written without a network")
        await expect(page.locator(".bar")).to_be_visible()
        await page.context.set_offline(False)
        await expect(page.locator(".item[data-kind=reply]")).to_have_count(2)
        await opened.until_answered()
        await expect(page.locator(".bar")).to_be_hidden()
        opened.problems[:] = [each for each in opened.problems if "DISCONNECTED" not in each]
        assert place
        path = f"/v1/sessions/{session}/messages?userId=u1"
        items = (await live.client.get(path)).json()["messages"]
        assert [each["kind"] for each in items].count("user_message") == 2


async def test_a_long_timeline_has_few_rows_in_the_document(
    browser: Browser, live: LiveService
) -> None:
    place = await project(live, "long")
    opened_session = await posted(live, "/v1/sessions", projectId="long", mode="what_if")
    path = f"/v1/sessions/{opened_session['sessionId']}/messages"
    for number in range(60):
        await posted(live, path, message=f"Message {number}", reply=False)
    async with signed_in(browser, live, viewport={"width": 1440, "height": 500}) as opened:
        page = opened.page
        await opened.go(f"{place}/timeline")
        await expect(page.locator("throughline-timeline")).to_contain_text("Message 59")
        await page.keyboard.press("j")
        await page.keyboard.press("j")
        assert "Message 58" in await page.evaluate("document.activeElement.textContent")
        for _ in range(4):
            await page.evaluate("document.querySelector('throughline-timeline').scrollTop = 1e9")
            await page.wait_for_timeout(0)
        await expect(page.locator("throughline-timeline")).to_contain_text("Message 0")
        # The window has ten rows; twenty more stand on each side of it.
        assert await page.locator("throughline-timeline li").count() < 55


async def filled(live: LiveService, project_id: str, user: str) -> str:
    """A project with something in each place; returns a session with a plan."""
    await project(live, project_id, user)
    session = await said(live, project_id, "Add a login page", user=user)
    prompt = await posted(
        live, "/v1/prompts", projectId=project_id, name="Greeter", text="Greet {{name}}."
    )
    path = f"/v1/prompts/{prompt['promptId']}/versions"
    await posted(live, path, text="Greet {{name}} briefly.", note="brief")
    run = await posted(live, "/v1/runs", projectId=project_id, title="Compare two greetings")
    at = {"at": "2026-11-22T10:00:00Z"}
    candidate = {"candidateId": "a", "scores": {"found": 0.75}, "title": "The short one"}
    events = [
        {"eventId": "1", "type": "candidate"} | candidate | at,
        {"eventId": "2", "type": "succeeded", "title": "Done", "summary": "It is better."} | at,
    ]
    answer = await live.client.post(f"/v1/runs/{run['runId']}/events", json={"events": events})
    assert answer.is_success, answer.text
    return session


@pytest.mark.parametrize("theme", ["light", "dark", "contrast"] if PROVE else ["dark"])
async def test_axe_finds_nothing(browser: Browser, live: LiveService, theme: str) -> None:
    session = await filled(live, f"axe-{theme}", "u1")
    widths = (360, 1440) if PROVE else (1440,)
    for width in widths:
        window = {"width": width, "height": 900}
        async with signed_in(browser, live, viewport=window, bypass_csp=True) as opened:
            await opened.page.evaluate(
                "theme => localStorage.setItem('throughline.theme', theme)", theme
            )
            await opened.page.reload()
            await axe_in_all_places(opened, f"axe-{theme}", session)


async def axe_in_all_places(opened: Opened, project_id: str, session: str) -> None:
    """No violation in any place of a project."""
    page = opened.page
    places = PLACES if PROVE else ("", "/timeline", "/prompts")
    for place in places:
        await opened.go(f"#/projects/{project_id}{place}")
        await expect(page.locator("main .grey")).to_have_count(0)
        assert await opened.violations() == [], place
    await opened.go(f"#/sessions/{session}")
    await opened.until_answered()
    reply = await page.locator(".item[data-kind=reply]").get_attribute("data-id")
    await opened.go(f"#/sessions/{session}?panel=plan:{reply}")
    await expect(page.locator(".panel throughline-plan")).to_contain_text("Model the data")
    assert await opened.violations() == []
