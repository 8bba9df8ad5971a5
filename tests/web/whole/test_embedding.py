"""What docs/embedding.md says beside its examples: no token, a link, a policy, another origin."""

import re
from pathlib import Path
from typing import Final

import httpx
from playwright.async_api import Browser, expect

from tests.documents import code
from tests.web.page import Opened
from tests.web.test_embedding import PAGE, QUESTION, Shop, serving, shop, visitor

__all__ = ["shop"]


ACCENT: Final = "getComputedStyle(document.documentElement).getPropertyValue('--tl-accent')"


async def test_a_server_that_gives_no_token_is_told_and_asked_again(
    browser: Browser, shop: Shop, tmp_path: Path
) -> None:
    async with serving(shop, tmp_path), visitor(browser, shop) as seen:
        await seen.page.route("**/token", lambda route: route.abort())
        await seen.page.goto(shop.origin)
        again = seen.page.get_by_role("button", name="Try again")
        await expect(again).to_be_visible()
        await expect(seen.page.get_by_role("alert")).to_contain_text("Failed to fetch")
        assert [each for each in seen.problems if "ERR_FAILED" not in each] == []
        await seen.page.unroute("**/token")
        await again.click()
        await expect(again).to_be_hidden()
        await seen.page.locator("[data-price]", has_text="left").wait_for()


async def test_the_link_of_a_shared_plan_leads_to_the_service(
    browser: Browser, shop: Shop, tmp_path: Path
) -> None:
    async with serving(shop, tmp_path), visitor(browser, shop) as seen:
        await seen.page.goto(shop.origin)
        chat = Opened(seen.page, shop.origin, shop.live)
        await chat.ask(QUESTION)
        await chat.until_answered()
        await chat.button("Share").click()
        await seen.page.locator(".toast").wait_for()
        link = await seen.page.evaluate("navigator.clipboard.readText()")
    async with httpx.AsyncClient() as anyone:
        answer = await anyone.get(link)
    assert answer.status_code == 200
    assert link.startswith(f"{shop.service}/v1/shares/")


async def test_the_policy_of_the_page_suffices(
    browser: Browser, shop: Shop, tmp_path: Path
) -> None:
    """Script and style are files of the shop, as the page says."""
    name, policy = shop.addressed(code(PAGE, "http")).strip().split(": ", 1)
    html = shop.addressed(code(PAGE, "html"))
    script = re.compile(r'<script type="module">(.*?)</script>', re.S)
    style = re.compile("<style>(.*?)</style>", re.S)
    page = script.sub('<script type="module" src="/shop.js"></script>', html)
    page = style.sub('<link rel="stylesheet" href="/shop.css">', page)
    page = page.replace("<title>", f'<meta http-equiv="{name}" content="{policy}">\n<title>')
    async with serving(shop, tmp_path), visitor(browser, shop) as seen:
        for path, text in (
            ("index.html", page),
            ("shop.js", "".join(script.findall(html))),
            ("shop.css", "".join(style.findall(html))),
        ):
            (tmp_path / "public" / path).write_text(text)
        await seen.page.goto(shop.origin)
        chat = Opened(seen.page, shop.origin, shop.live)
        await chat.ask(QUESTION)
        await chat.until_answered()
        assert seen.problems == []
        await seen.page.evaluate("document.body.setAttribute('style', 'color: red')")
        assert any("Content Security Policy" in each for each in seen.problems), "the control"


async def test_a_page_of_an_origin_that_the_setting_does_not_name_loads_nothing(
    browser: Browser, shop: Shop, tmp_path: Path
) -> None:
    async with serving(shop, tmp_path), visitor(browser, shop) as seen:
        await seen.page.goto(f"http://localhost:{shop.port}")
        assert await seen.page.evaluate("customElements.get('throughline-chat') === undefined")
        assert await seen.page.evaluate(ACCENT) == ""
        blocked = [each for each in seen.problems if "blocked by CORS policy" in each]
        for path in ("page.css", "elements/chat.js", "texts.js", "throughline.js"):
            assert any(f"/client/{path}" in each for each in blocked)
