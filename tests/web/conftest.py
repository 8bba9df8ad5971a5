"""The setup of the tests of the web client.

`make test` runs a small set of them. `make prove` also collects those of the folder `whole`.
"""

from collections.abc import AsyncGenerator, AsyncIterator

import pytest
from playwright.async_api import Browser

from service.model.offline.app import OfflineModel
from tests.running import LiveService, running
from tests.service.conftest import _no_model_is_slow, _no_server_has_stopped
from tests.sizes import PROVE
from tests.web.gallery import Gallery, watched
from tests.web.runtimes import chromium

__all__ = ["_no_model_is_slow", "_no_server_has_stopped"]

collect_ignore = [] if PROVE else ["whole"]


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    """One Chromium for the module."""
    async with chromium() as started:
        yield started


@pytest.fixture(scope="module")
async def live(shared_url: str) -> AsyncIterator[LiveService]:
    """A service for the tests of the page: each test has a project of its own."""
    async with running(shared_url, OfflineModel(pace=0.001)) as started:
        yield started


@pytest.fixture(scope="module")
async def opened(browser: Browser, shared: LiveService) -> Gallery:
    """A page for the tests of the elements: most of the time of a test is the start of a page."""
    page = await browser.new_page()
    gallery = watched(page, str(shared.client.base_url).rstrip("/"))
    await gallery.open()
    return gallery


@pytest.fixture
async def gallery(opened: Gallery) -> AsyncGenerator[Gallery]:
    """The page, in English and 1200 pixels wide. Every error, every report of the policy and every
    foreign request fails the test."""
    opened.problems.clear()
    await opened.page.set_viewport_size({"width": 1200, "height": 900})
    if opened.query:
        await opened.open()
    yield opened
    assert opened.problems == []
