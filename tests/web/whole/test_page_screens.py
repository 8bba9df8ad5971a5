"""The page under fingers, in every theme and width, and for those that need high contrast."""

from typing import Any, Final

import pytest
from playwright.async_api import Browser, Page, expect

from tests.running import LiveService
from tests.web.page import Opened, filled, project, signed_in

PLACES: Final = ("", "/timeline", "/prompts", "/runs", "/usage", "/log")


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


@pytest.mark.parametrize("theme", ["light", "dark", "contrast"])
async def test_axe_finds_nothing(browser: Browser, live: LiveService, theme: str) -> None:
    session = await filled(live, f"axe-{theme}", "u1")
    for width in (360, 1440):
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
    for place in PLACES:
        await opened.go(f"#/projects/{project_id}{place}")
        await expect(page.locator("main .grey")).to_have_count(0)
        assert await opened.violations() == [], place
    await opened.go(f"#/sessions/{session}")
    await opened.until_answered()
    reply = await page.locator(".item[data-kind=reply]").get_attribute("data-id")
    await opened.go(f"#/sessions/{session}?panel=plan:{reply}")
    await expect(page.locator(".panel throughline-plan")).to_contain_text("Model the data")
    assert await opened.violations() == []
