"""The adapters for the AI SDK and for assistant-ui, and clients of other authors.

`make test` reads what the adapters give. `make prove` runs them in the real packages.
"""

import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from itertools import repeat
from pathlib import Path
from typing import Any

import anyio.to_thread
import orjson
import pytest

from service.model.offline.app import OfflineModel
from tests.running import LiveService, running
from tests.service import law
from tests.service.watching import shown
from tests.sizes import PROVE, chance
from tests.web.network import BadNetwork
from tests.web.runtimes import CLIENT, NODE, NPM, node

FOLDER = Path(__file__).parent / "adapters"

CHUNKS = """
async ({ token, message }) => {
  const client = new throughline.Throughline({ url: address, token })
  const { sessionId } = await client.openSession({ projectId: 'p1', mode: 'plan' })
  const { ThroughlineChatTransport } = await import(`${folder}/adapters/usechat.js`)
  const { throughlineAdapter } = await import(`${folder}/adapters/assistant-ui.js`)
  const transport = new ThroughlineChatTransport(client)
  const messages = [{ parts: [{ type: 'text', text: message }] }]
  const chunks = []
  const sent = await transport.sendMessages({ chatId: sessionId, messages })
  for await (const each of sent) chunks.push(each)
  const idle = await transport.reconnectToStream({ chatId: sessionId })
  const { signal } = new AbortController()
  const asked = { messages: [{ content: messages[0].parts }], abortSignal: signal }
  const results = []
  for await (const each of throughlineAdapter(client, { sessionId }).run(asked)) results.push(each)
  return { chunks, idle, results }
}
"""


@pytest.fixture
async def live(url: str) -> AsyncIterator[LiveService]:
    """A service whose replies take a moment."""
    async with running(url, OfflineModel(pace=0.005)) as started:
        await started.project()
        await started.credit()
        yield started


def token(live: LiveService) -> str:
    """A token of u1."""
    return live.service.browser_tokens.mint("k1", user_id="u1", project_id="p1", seconds=600)[0]


async def test_the_adapters_give_the_text_as_it_grows_and_the_whole_reply(
    live: LiveService,
) -> None:
    async with node(str(live.client.base_url).rstrip("/")) as js:
        await js.run(f"async () => {{ globalThis.folder = {CLIENT.as_uri()!r} }}")
        asked = {
            "token": token(live),
            "message": "Good morning [[offline: broken_contract times=1]]",
        }
        found = await js.run(CHUNKS, asked)
    chunks, results = found["chunks"], found["results"]
    final = next(each["data"] for each in chunks if each["type"] == "data-reply")
    assert chunks[0] == {"type": "start", "messageId": final["messageId"]}
    assert [each["type"] for each in chunks[-3:]] == ["text-end", "data-reply", "finish"]
    parts: dict[str, str] = {}
    for each in chunks:
        if each["type"] == "text-delta":
            parts[each["id"]] = parts.get(each["id"], "") + each["delta"]
    assert parts[chunks[-3]["id"]] == final["data"]["markdown"]
    assert found["idle"] is None
    texts = [each["content"][0]["text"] for each in results]
    envelope = results[-1]["metadata"]["custom"]["envelope"]
    assert len(texts) > 2
    assert texts[-1] == envelope["data"]["markdown"]
    assert results[-1]["status"]["type"] == "complete"


if PROVE:

    async def test_the_adapters_work_in_the_real_packages(
        live: LiveService, tmp_path: Path
    ) -> None:
        folder = tmp_path / "adapters"
        shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("node_modules"))
        await _lines(*NPM, "ci", "--ignore-scripts", "--loglevel=error", cwd=folder)
        network = BadNetwork(str(live.client.base_url))
        cut = chance("adapters")
        network.cut_streams(cut.randrange(1, 2_000) for _ in repeat(None, 40))
        async with network.serving() as address:
            output = await _lines(
                *(NODE, "adapters.js", CLIENT.as_uri(), address, token(live)), cwd=folder
            )
        found = json.loads(output.splitlines()[-1])
        said = found["data"]["data"]["markdown"]
        assert found["useChat"] == {
            "status": "ready",
            "texts": ["Good morning", said],
            "isChat": True,
        }
        text, summary, resumed, sent = found["resumed"]
        assert (text, resumed) == (summary, sent)
        assert found["idle"] == ["ready", 0]
        assert found["assistant"] == ["assistant", "complete", said]
        items = {item["id"] for item in await shown(live)}
        assert found["custom"] in items
        await _each_once(live, found)


async def _each_once(live: LiveService, found: Any) -> None:
    """Check that the clients of other authors have read every event of the reply once."""
    reply_id = orjson.loads(found["fetchEventSource"][0][1])["messageId"]
    whole = await live.join(reply_id)
    law.lawful(whole)
    for name in ("fetchEventSource", "eventSource", "parser"):
        read = [(event, orjson.loads(data), at) for event, data, at in found[name]]
        assert read == whole, name


async def _lines(*command: str | Path, cwd: Path) -> str:
    """The output of a program, which must end with exit code 0."""
    ended = await anyio.to_thread.run_sync(
        lambda: subprocess.run(command, cwd=cwd, capture_output=True, timeout=300)
    )
    assert ended.returncode == 0, ended.stderr.decode()
    return ended.stdout.decode()
