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
    code, written = await run(command, "http://127.0.0.1:9", "Hello")
    assert code == 1
    assert "http://127.0.0.1:9 does not answer" in written
