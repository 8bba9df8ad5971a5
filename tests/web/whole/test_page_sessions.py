"""What people do with sessions, prompts and time on the page."""

import re
from typing import Final

from playwright.async_api import Browser, expect

from service.wire import position_of
from tests.running import LiveService
from tests.web.page import posted, project, said, signed_in

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
        said_by_user = page.locator(".item[data-kind=user_message]")
        await expect(said_by_user.filter(has_text="And by train?")).to_be_visible()
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


async def test_what_a_person_wrote_is_never_markup(browser: Browser, live: LiveService) -> None:
    place = await project(live, "markup")
    name = "<img src=x onerror=alert(1)><b>bold</b>"
    await said(live, "markup", name, name=name)
    async with signed_in(browser, live) as opened:
        await opened.go(place)
        await opened.session("<b>bold</b>").locator("a").click()
        await expect(opened.page.locator(".item .said")).to_have_text(name)
        assert await opened.page.locator("img").count() == 0


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
