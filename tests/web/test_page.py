"""The page as people use it: a real browser, the real service, the offline model.

One story of each kind; `make prove` also runs those of `tests/web/whole`.
"""

import os
import re
from functools import partial
from operator import ne
from typing import Final

import pytest
from playwright.async_api import Browser, expect

from tests.documents import DOCS
from tests.running import LiveService
from tests.web.page import Opened, posted, project, said, signed_in

pytestmark = pytest.mark.slow

PICTURES: Final = "THROUGHLINE_SCREENSHOTS" in os.environ


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
