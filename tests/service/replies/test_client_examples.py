"""The clients of docs/streaming.md, run unchanged over connections that break."""

import time
from typing import Any
from urllib.parse import quote

import anyio.to_thread
import httpx
from httpx_sse import connect_sse

from service.model.offline.app import OfflineModel
from tests.documents import DOCS, code
from tests.running import running
from tests.service import law
from tests.web.network import BadNetwork

PAGE = DOCS / "streaming.md"


async def test_the_python_client_reads_a_reply_over_connections_that_break(url: str) -> None:
    names: dict[str, Any] = {"httpx": httpx, "connect_sse": connect_sse, "time": time}
    names["quote"] = quote
    exec(compile(code(PAGE, "python"), PAGE, "exec"), names)  # noqa: S102 - our own page

    async with running(url, OfflineModel(pace=0.02)) as live:
        await live.project()
        await live.credit()
        network = BadNetwork(str(live.client.base_url), signs=True)
        network.cut_streams([700, 1_400, 2_100])
        async with network.serving() as address:

            def ask() -> list[law.Event]:
                with httpx.Client(base_url=address, timeout=30) as client:
                    said = {"userId": "u1", "projectId": "p1", "message": "Good morning"}
                    return [(name, data, "") for name, data in names["ask"](client, **said)]

            read = await anyio.to_thread.run_sync(ask)
        reply_id = read[0][1]["messageId"]
        whole = await live.join(reply_id)
        assert read == [(name, data, "") for name, data, _ in whole]
        assert [line.split(" ")[0] for line in network.requests] == ["POST", "GET", "GET", "GET"]
        await law.ended_as_shown(live, url, law.lawful(whole))
