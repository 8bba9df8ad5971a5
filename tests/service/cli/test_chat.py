"""`throughline chat`: one message from a terminal, over a network that breaks."""

from functools import partial
from importlib import import_module
from typing import Final

import anyio.to_thread
import orjson
import pytest

from domain.texts import markdown
from service.model.offline.app import OfflineModel
from tests.running import KEYS, LiveService, running
from tests.service.cli.conftest import Command
from tests.web.network import BadNetwork

MODULE: Final = import_module("service.cli.chat")
"""The package has the command under the name of its module."""

SETTINGS: Final = {
    "THROUGHLINE_HMAC_KEYS": orjson.dumps(
        {
            "k1": {
                "secret": KEYS["k1"].secret.get_secret_value(),
                "tenant": "t1",
                "scopes": sorted(KEYS["k1"].scopes),
            }
        }
    ).decode()
}
WHO: Final = ("--user", "u1", "--project", "p1")


@pytest.fixture(autouse=True)
def _little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODULE, "PAUSE_SECONDS", 0.01)


async def run(command: Command, url: str, message: str, *options: str) -> tuple[int, str]:
    """Run the command beside the service, which has the loop of the test."""
    words = ("chat", message, *WHO, "--url", url, *options)
    return await anyio.to_thread.run_sync(partial(command, *words, **SETTINGS))


async def ready(live: LiveService) -> None:
    await live.project()
    await live.credit()


async def test_a_reply_is_printed_once_though_its_connections_break(
    url: str, command: Command
) -> None:
    async with running(url, OfflineModel(pace=0.002)) as live:
        await ready(live)
        network = BadNetwork(str(live.client.base_url))
        network.cut_streams(after=[40, 700, 900, 2_000])
        async with network.serving() as address:
            code, written = await run(command, address, "Add a login page")
        page = (await live.client.get("/v1/project/p1/timeline?userId=u1")).json()
        account = await live.account()
    assert code == 0, written
    sent = [line for line in network.requests if line.startswith("POST /v1/chat-plan")]
    assert len(sent) == 5, "the same message was sent over each new connection"
    (reply,) = [each["aiResponse"] for each in page["items"] if each["kind"] == "reply"]
    assert markdown.reply("feature", reply["data"]) in written
    assert f"Billed: {account['consumedSeconds']} s of 60 s reserved." in written
    assert "Next: " in written


async def test_a_refusal_says_why(url: str, command: Command) -> None:
    async with running(url) as live:
        await live.project()
        code, written = await run(command, str(live.client.base_url), "Add a login page")
    assert code == 1
    assert "throughline: The service refuses: " in written


async def test_a_reply_that_is_not_whole_ends_with_code_1(url: str, command: Command) -> None:
    async with running(url) as live:
        await ready(live)
        address = str(live.client.base_url)
        code, written = await run(command, address, "Hello [[offline: status code=400]]")
    assert code == 1
    assert "The reply is not whole: " in written


async def test_a_service_that_stays_away_is_named(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MODULE, "PATIENCE_SECONDS", 0.0)
    network = BadNetwork("http://127.0.0.1:9", is_down=True)
    async with network.serving() as address:
        code, written = await run(command, address, "Hello")
    assert code == 1
    assert f"{address} does not answer. Is the service there?" in written


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "127.0.0.1:9", "http://[::1"])
async def test_an_address_where_nothing_listens_is_told_at_once(
    command: Command, address: str
) -> None:
    code, written = await run(command, address, "Hello")
    assert code == 1
    assert f"throughline: {address} does not answer: " in written
    code, written = await linked(command, address)
    assert code == 1
    assert f"throughline: {address} does not answer: " in written


@pytest.mark.parametrize("status", ["200 OK", "301 Moved Permanently", "404 Not Found"])
async def test_another_program_is_told_at_once(command: Command, status: str) -> None:
    network = BadNetwork("http://127.0.0.1:9")
    for beginning in ("POST /v1/chat-plan", "POST /v1/links"):
        network.next_answers(beginning, a_page(status))
    async with network.serving() as address:
        code, written = await run(command, address, "Hello")
        said = f"throughline: {address} answers {status[:3]}, but not as Throughline does."
        assert code == 1
        assert said in written
        code, written = await linked(command, address)
        assert code == 1
        assert said in written


async def linked(command: Command, url: str) -> tuple[int, str]:
    """Ask for a link for a browser."""
    words = ("link", "--user", "u1", "--url", url)
    return await anyio.to_thread.run_sync(partial(command, *words, **SETTINGS))


def a_page(status: str) -> bytes:
    """An answer of a program that is not this service."""
    page = b"<h1>Welcome</h1>"
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/html\r\nContent-Length: {len(page)}\r\n"
    return head.encode() + b"Connection: close\r\n\r\n" + page
