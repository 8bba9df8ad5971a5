"""The relay to NATS JetStream: each event is in the stream once, in order, whatever is killed."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import orjson
import pytest
from nats.js.api import RawStreamMsg

from service.eventlog.cloudevents import cloud_event
from service.eventlog.store import Recorded
from service.eventlog.tenant_feed import chained
from service.replay.delivery import CheckpointFile, CheckpointRefused
from service.replay.jetstream import Address, Feed, NatsMissing, StreamRefused, Subjects
from service.replay.reading import EventFilter
from service.replay.relay import WINDOW, Relay
from service.wire import position_of
from tests.service.eventlog.logs import Log, event, everything, running_log
from tests.service.replay.nats_server import NatsServer, nats_server
from tests.sizes import chance, size

SUBJECTS: Final = Subjects(template="throughline.{tenant}.{type}")
STREAM: Final = "THROUGHLINE"
THROUGHLINE: Final = Path(sys.executable).parent / "throughline"


@pytest.fixture
async def nats(tmp_path: Path) -> AsyncIterator[NatsServer]:
    async with nats_server(tmp_path / "nats") as started:
        yield started


@pytest.fixture
async def log(url: str) -> AsyncIterator[Log]:
    async with running_log(url) as started:
        yield started


class Running:
    """A relay in this process, and what it reached."""

    def __init__(self, relay: asyncio.Task[None]) -> None:
        self.task = relay
        self.reached: list[int] = []
        self.moved = asyncio.Event()

    def on_reached(self, position: int) -> None:
        self.reached.append(position)
        self.moved.set()

    async def until(self, position: int) -> None:
        """Wait until the relay has reached a position. Raises what ended the relay."""
        while not self.reached or self.reached[-1] < position:
            moved = asyncio.create_task(self.moved.wait())
            await asyncio.wait((self.task, moved), return_when=asyncio.FIRST_COMPLETED)
            moved.cancel()
            if self.task.done():
                await self.task
            self.moved.clear()


@asynccontextmanager
async def relaying(
    log: Log, nats: NatsServer, folder: Path, tenant: str | None = None, stream: str = STREAM
) -> AsyncGenerator[Running]:
    at = Address(url=nats.url, stream=stream)
    selection = "all tenants" if tenant is None else f"tenant {tenant}"
    feed = Feed(selection=selection, subjects=SUBJECTS)
    running: list[Running] = []
    relay = Relay(
        log.store,
        log.live_log,
        EventFilter(tenant_id=tenant),
        at,
        feed,
        CheckpointFile(folder / "checkpoint", url=at.described, selection=selection),
        lambda position: running[0].on_reached(position),
    )
    running.append(Running(asyncio.create_task(relay.run())))
    try:
        yield running[0]
    finally:
        running[0].task.cancel()
        await asyncio.wait((running[0].task,))


async def append(log: Log, count: int, **members: Any) -> int:
    """Append events, each with an append of its own; returns the last position."""
    await asyncio.gather(*(log.writer.append([event(**members)]) for _ in range(count)))
    return await log.store.head()


def ids(messages: Sequence[RawStreamMsg]) -> list[int]:
    return [position_of((message.headers or {})["Nats-Msg-Id"]) for message in messages]


async def publish(log: Log, nats: NatsServer, folder: Path, count: int) -> int:
    """Append so many events and let a relay publish all that is new. Returns the head."""
    head = await append(log, count)
    async with relaying(log, nats, folder) as relay:
        await relay.until(head)
    return head


async def test_the_log_is_published_in_order_while_it_grows(
    log: Log, nats: NatsServer, tmp_path: Path
) -> None:
    head = await append(log, 2 * WINDOW + 5)
    async with relaying(log, nats, tmp_path) as relay:
        await relay.until(head)
        head = await append(log, 7, tenant="a.b c", kind="Y")
        await relay.until(head)
    messages = await nats.messages()
    assert ids(messages) == list(range(1, head + 1))
    events = await everything(log.store)
    assert [message.data for message in messages] == [
        cloud_event(each, prev) for each, prev in chained(events, None)
    ]
    last = messages[-1]
    assert last.subject == "throughline.a%2Eb%20c.Y"
    assert (last.headers or {})["Content-Type"] == "application/cloudevents+json"
    assert (last.headers or {})["Throughline-Cursor"] == events[-1].cursor


async def test_a_relay_of_one_tenant_publishes_the_events_of_this_tenant_alone(
    log: Log, nats: NatsServer, tmp_path: Path
) -> None:
    await append(log, 3)
    head = await append(log, 2, tenant="t2")
    async with relaying(log, nats, tmp_path, "t2") as relay:
        await relay.until(head)
    first, second = await nats.messages()
    assert ids([first, second]) == [4, 5]
    assert orjson.loads(first.data or b"")["prev"] is None
    assert orjson.loads(second.data or b"")["prev"].startswith("4.")


async def test_the_stream_says_where_a_relay_goes_on_and_not_an_older_checkpoint(
    log: Log, nats: NatsServer, tmp_path: Path
) -> None:
    head = await publish(log, nats, tmp_path, 5)
    old = (tmp_path / "checkpoint").read_bytes()
    head = await append(log, 5)
    async with relaying(log, nats, tmp_path) as relay:
        await relay.until(head)
        assert relay.reached[0] == 5
    (tmp_path / "checkpoint").write_bytes(old)
    head = await append(log, 1)
    async with relaying(log, nats, tmp_path) as relay:
        await relay.until(head)
        assert relay.reached[0] == 10, "the stream knows better"
    assert ids(await nats.messages()) == list(range(1, head + 1))


async def test_a_stream_that_drops_what_was_taken_goes_on_after_the_checkpoint(
    log: Log, nats: NatsServer, tmp_path: Path
) -> None:
    await publish(log, nats, tmp_path, 5)
    old = (tmp_path / "checkpoint").read_bytes()
    await publish(log, nats, tmp_path, 3)
    async with nats.client() as client:
        await client.jetstream().purge_stream(STREAM)
    (tmp_path / "checkpoint").write_bytes(old)
    await publish(log, nats, tmp_path, 2)
    assert ids(await nats.messages()) == [9, 10], "the stream knew 6 to 8 by their ids"


async def test_a_stream_without_its_last_message_needs_a_checkpoint(
    log: Log, nats: NatsServer, tmp_path: Path
) -> None:
    await publish(log, nats, tmp_path, 5)
    async with nats.client() as client:
        await client.jetstream().purge_stream(STREAM)
    (tmp_path / "checkpoint").unlink()
    async with relaying(log, nats, tmp_path) as relay:
        with pytest.raises(StreamRefused, match="no longer has its last message"):
            await relay.until(6)


async def test_two_relays_at_once_publish_each_event_once(
    log: Log, nats: NatsServer, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    async with (
        relaying(log, nats, tmp_path) as one,
        relaying(log, nats, tmp_path / "other") as other,
    ):
        for _ in range(5):
            head = await append(log, 50)
            await asyncio.gather(one.until(head), other.until(head))
    assert ids(await nats.messages()) == list(range(1, head + 1))


# Kills -------------------------------------------------------------------------------------------


async def test_killed_servers_lose_and_repeat_nothing(
    log: Log, nats: NatsServer, tmp_path: Path
) -> None:
    """The server is killed while events are on their way, at a random moment of a window."""
    choice = chance("nats kills")
    async with relaying(log, nats, tmp_path) as relay:
        for _ in range(size(1, 10)):
            reached = len(relay.reached)
            head = await append(log, 4 * WINDOW)
            while len(relay.reached) < reached + choice.randint(1, 3):
                await relay.until(relay.reached[-1] + 1 if relay.reached else 1)
            await nats.kill()
            await append(log, 20)
            await nats.start()
            head = await append(log, 20)
            await relay.until(head)
    assert ids(await nats.messages()) == list(range(1, head + 1))


async def test_killed_relays_lose_and_repeat_nothing(
    url: str, log: Log, nats: NatsServer, tmp_path: Path
) -> None:
    """The command is killed while it publishes. The next one goes on."""
    choice = chance("relay kills")
    async with nats.client() as client:
        arrived = await client.subscribe("throughline.>", pending_msgs_limit=0)
        for _ in range(size(1, 10)):
            head = await append(log, 4 * WINDOW)
            process = start(url, nats, tmp_path)
            for _ in range(choice.randint(1, 3 * WINDOW)):
                await arrived.next_msg(timeout=30)
            process.send_signal(signal.SIGKILL)
            process.wait()
        process = start(url, nats, tmp_path)
        head = await append(log, 1)  # which the relays before did not live to publish
        seen = 0
        while seen < head:
            message = await arrived.next_msg(timeout=30)
            seen = position_of((message.headers or {})["Nats-Msg-Id"])
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
    assert ids(await nats.messages()) == list(range(1, head + 1))


def start(url: str, nats: NatsServer, folder: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [THROUGHLINE, "relay", nats.url],
        cwd=folder,
        env={**os.environ, "THROUGHLINE_DATABASE_URL": url},
        stderr=subprocess.DEVNULL,
        # A shell's job in the background ignores Ctrl-C, and so do its children.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )


# Refusals ----------------------------------------------------------------------------------------


async def refused(log: Log, nats: NatsServer, folder: Path, **members: Any) -> str:
    """What a relay says that cannot go on."""
    async with relaying(log, nats, folder, **members) as relay:
        with pytest.raises((StreamRefused, CheckpointRefused)) as caught:
            await relay.until(1_000)
    return str(caught.value)


async def test_a_stream_of_others_is_refused(log: Log, nats: NatsServer, tmp_path: Path) -> None:
    await publish(log, nats, tmp_path, 2)
    (tmp_path / "checkpoint").unlink()
    assert "has other events: all tenants" in await refused(log, nats, tmp_path, tenant="t1")
    async with nats.client() as client:
        context = client.jetstream()
        headers = {"Throughline-Cursor": "2.ffffffff", "Throughline-Selection": "all tenants"}
        await context.publish("throughline.t1.X", b"{}", headers=headers)
        assert "events of another log" in await refused(log, nats, tmp_path)
        await context.publish("throughline.t1.X", b"{}")
        assert "is not of a relay" in await refused(log, nats, tmp_path)
    said = await refused(log, nats, tmp_path, stream="OTHER")
    assert "subjects overlap with an existing stream" in said


async def test_a_checkpoint_of_another_stream_is_refused(
    log: Log, nats: NatsServer, tmp_path: Path
) -> None:
    await publish(log, nats, tmp_path, 2)
    assert "to another URL" in await refused(log, nats, tmp_path, stream="OTHER")


async def test_an_event_that_nats_cannot_take_ends_the_relay_and_is_named(
    log: Log, nats: NatsServer, tmp_path: Path
) -> None:
    await append(log, 2)
    await append(log, 1, state=b'"' + b"x" * (1 << 20) + b'"')
    assert "The event at position 3 has" in await refused(log, nats, tmp_path)
    assert ids(await nats.messages()) == [1, 2]


async def test_a_wrong_password_ends_the_relay(log: Log, tmp_path: Path) -> None:
    async with nats_server(tmp_path / "nats", "--user", "u", "--pass", "p") as nats:
        nats.url = nats.url.replace("//", "//u:wrong@")
        said = await refused(log, nats, tmp_path)
    assert "check the user and the password" in said
    assert "wrong" not in said


def test_an_address_is_described_without_its_password() -> None:
    at = Address(url="nats://ada:se%40cret@host:4222", stream="S")
    assert at.described == "nats://host:4222/S"


@pytest.mark.parametrize(
    ("template", "pattern"),
    [("throughline.{tenant}.{type}", "throughline.*.*"), ("a.b", "a.b"), ("x-{type}", "*")],
)
def test_a_stream_is_created_for_all_of_its_subjects(template: str, pattern: str) -> None:
    assert Subjects(template=template).pattern == pattern


@pytest.mark.parametrize("template", ["", "a..b", "a.*", "a.>", "{user}", "a b", "{tenant}.", "{"])
def test_a_text_that_is_no_subject_is_refused(template: str) -> None:
    with pytest.raises(ValueError, match="is no subject"):
        Subjects(template=template)


def test_what_a_subject_may_not_have_is_written_as_in_a_url() -> None:
    """Two tenants never have the same subject, and no tenant's id reaches into another subject."""
    tenants = ["a.b", "a b", "*", ">", "a%2Eb", "~", "é"]
    written = {Subjects(template="{tenant}").of(recorded(tenant)) for tenant in tenants}
    assert written == {"a%2Eb", "a%20b", "%2A", "%3E", "a%252Eb", "%7E", "%C3%A9"}


def recorded(tenant_id: str) -> Recorded:
    return Recorded(
        1, tenant_id, "s", 1, "X", 1, None, b"{}", "{}", datetime(2026, 1, 1, tzinfo=UTC), b""
    )


async def test_a_missing_library_is_named(
    log: Log, nats: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nats.aio.client", None)
    async with relaying(log, nats, tmp_path) as relay:
        with pytest.raises(NatsMissing, match=r"pip install nats-py"):
            await relay.until(1)
