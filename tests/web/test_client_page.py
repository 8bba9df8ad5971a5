"""The examples of docs/client.md, run unchanged: in Chromium, and in Node."""

import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import anyio.to_thread
import orjson
import pytest
from playwright.async_api import Browser

from service.model.offline.app import OfflineModel
from tests.documents import DOCS, code
from tests.running import LiveService, running
from tests.service.watching import shown
from tests.web.network import BadNetwork
from tests.web.runtimes import CLIENT, NODE

pytestmark = pytest.mark.slow

PAGE = DOCS / "client.md"


@pytest.fixture(scope="module")
async def shop(shared_url: str) -> AsyncIterator[LiveService]:
    """A service with the project and the user of the page."""
    async with running(shared_url, OfflineModel(pace=0.002)) as live:
        await live.project("shop", "ada")
        await live.credit("ada")
        yield live


def token(live: LiveService) -> str:
    """A token for the user of the page."""
    minted, _ = live.service.browser_tokens.mint(
        "k1", user_id="ada", project_id="shop", seconds=300
    )
    return minted


async def test_the_examples_for_browsers_work_in_their_order(
    browser: Browser, shop: LiveService
) -> None:
    blocks = re.findall(r"^```js\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    script = "\n".join([*blocks, "globalThis.isDone = true"])

    async def page() -> tuple[str, bytes]:
        return "text/html", f'<!doctype html><script type="module">{script}</script>'.encode()

    async def renewed() -> tuple[str, bytes]:
        return "application/json", orjson.dumps({"token": token(shop)})

    network = BadNetwork(str(shop.client.base_url))
    network.pages |= {"/examples": page, "/your/server/token": renewed}
    async with network.serving() as address:
        tab = await browser.new_page()
        errors, lines = list[str](), list[str]()
        tab.on("pageerror", lambda error: errors.append(str(error)))
        tab.on("console", lambda message: lines.append(message.text))
        await tab.goto(f"{address}/examples")
        await tab.wait_for_function("globalThis.isDone")
        assert errors == []
    output = "\n".join(lines)
    for line in ("success", "The connection is open", "404 session_not_found"):
        assert line in output
    (session_id,) = {item["sessionId"] for item in await shown(shop, "shop", userId="ada")}
    session = (await shop.client.get(f"/v1/sessions/{session_id}?userId=ada")).json()
    assert (session["name"], session["starred"]) == ("Wish list", True)


async def test_the_example_for_node_works(shop: LiveService, tmp_path: Path) -> None:
    shutil.copytree(CLIENT, tmp_path / "client")
    (tmp_path / "example.mjs").write_text(code(PAGE, "mjs"))
    environment = {"THROUGHLINE_URL": str(shop.client.base_url), "TOKEN": token(shop)}
    ended = await anyio.to_thread.run_sync(
        lambda: subprocess.run(
            (NODE, "example.mjs"), cwd=tmp_path, env=environment, capture_output=True, timeout=60
        )
    )
    assert (ended.returncode, ended.stderr.decode()) == (0, "")
    names = ended.stdout.decode().split("\n")
    assert names[0] == "accepted"
    assert "final" in names
    assert "answer" in ended.stdout.decode()
