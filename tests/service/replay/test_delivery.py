"""A replay to another system: every event arrives, in order and signed, whatever goes wrong."""

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import orjson
import pytest

from service.access import signatures
from service.eventlog.store import Recorded
from service.postgres import connections
from service.replay.delivery import (
    BATCH_BYTES,
    BATCH_EVENTS,
    CheckpointFile,
    CheckpointRefused,
    Delivery,
    NotDelivered,
    Read,
    Target,
    client,
)
from service.replay.pace import Pace, factor_of
from service.replay.reading import EventFilter, due
from service.wire import position_of
from tests.service.eventlog import logs

SECRET: Final = "a-secret-of-sixteen-characters"
CHECK: Final = "0123abcd"
DROP: Final = 0
"""An answer that never comes: the receiver has the batch and closes the connection."""


class Receiver:
    """An HTTP server that takes batches, with an answer for each of the next requests."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.batches: list[list[dict[str, Any]]] = []
        self.requests = 0
        self.url = ""

    def receive(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        self.requests += 1
        status, headers = self.answers.pop(0) if self.answers else (204, {})
        assert handler.headers["Content-Type"] == "application/cloudevents-batch+json"
        self._require_signature(handler, body)
        if status in (204, DROP):
            self.batches.append(orjson.loads(body))
        if status == DROP:
            handler.connection.shutdown(socket.SHUT_RDWR)
            handler.close_connection = True
            return
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    def _require_signature(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        found = signatures.parse(handler.headers[signatures.HEADER])
        assert found is not None
        parts = urlsplit(handler.path)
        expected = signatures.sign(
            SECRET,
            method=handler.command,
            path=parts.path.encode(),
            query=parts.query.encode(),
            time=found.time,
            nonce=found.nonce,
            key_id=found.key_id,
            body=body,
        )
        assert found.key_id == "k1"
        if not signatures.matches(found, [expected]):
            self.batches.append([{"id": "the signature is of other bytes"}])

    def ids(self) -> list[int]:
        """The positions that arrived, in order."""
        return [position_of(each["id"]) for batch in self.batches for each in batch]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as started:
        yield started


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver on a port of its own."""
    found = Receiver()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            found.receive(self)

        def log_message(self, *_: object) -> None:
            """Write nothing to stderr."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        found.url = f"http://127.0.0.1:{server.server_port}/take%20it?from=a%2Fb"
        try:
            yield found
        finally:
            server.shutdown()
            thread.join()


def named(position: int) -> str:
    return f"{position}.{CHECK}"


def events(count: int, *, state: bytes = b"{}") -> list[Recorded]:
    begin, tail = datetime(2026, 11, 20, tzinfo=UTC), bytes.fromhex(CHECK)
    return [
        Recorded(n, "t", "s", n, "X", 1, None, state, "{}", begin + timedelta(minutes=n), tail)
        for n in range(1, count + 1)
    ]


def reading(found: Sequence[Recorded]) -> Read:
    """Reads of these events."""

    async def read(after: int) -> Sequence[Recorded]:
        return [event for event in found if event.position > after]

    return read


async def deliver(
    receiver: Receiver, found: Sequence[Recorded], file: CheckpointFile | None = None
) -> list[float]:
    """Send events; returns the pauses between the tries."""
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    async with client() as http:
        target = Target(url=receiver.url, key_id="k1", secret=SECRET)
        delivery = Delivery(http, target, pauses=(1.0, 2.0, 4.0), sleep=sleep)

        def on_taken(cursor: str, _: int) -> None:
            if file is not None:
                file.reach(cursor)

        assert await delivery.send_all(reading(found), 0, None, on_taken) == len(found)
    return pauses


async def test_every_event_arrives_once_in_order_and_signed(receiver: Receiver) -> None:
    assert await deliver(receiver, events(2 * BATCH_EVENTS + 5)) == []
    assert receiver.ids() == list(range(1, 2 * BATCH_EVENTS + 6))
    assert [len(batch) for batch in receiver.batches] == [BATCH_EVENTS, BATCH_EVENTS, 5]
    first, second, *_ = receiver.batches[0]
    assert (first["prev"], second["prev"]) == (None, named(1))
    assert second["source"] == "/tenants/t"


async def test_a_batch_is_bounded_by_bytes(receiver: Receiver) -> None:
    large = b'"' + b"x" * (BATCH_BYTES // 2) + b'"'
    await deliver(receiver, events(3, state=large))
    assert [len(batch) for batch in receiver.batches] == [1, 1, 1]


async def test_a_batch_is_sent_until_it_is_taken(receiver: Receiver) -> None:
    receiver.answers = [(503, {"Retry-After": "7"}), (429, {}), (DROP, {})]
    assert await deliver(receiver, events(3)) == [7.0, 2.0, 4.0]
    assert receiver.ids() == [1, 2, 3, 1, 2, 3], "the answer to the first copy was lost"


async def test_a_later_try_does_not_send_what_was_erased_meanwhile(receiver: Receiver) -> None:
    receiver.answers = [(503, {})]
    states = iter((b'{"text":"quillwort"}', b"{}"))

    async def read(after: int) -> Sequence[Recorded]:
        return [] if after else events(1, state=next(states))

    async with client() as http:
        target = Target(url=receiver.url, key_id="k1", secret=SECRET)
        delivery = Delivery(http, target, pauses=(0.0,))
        assert await delivery.send_all(read, 0, None, lambda *_: None) == 1
    assert receiver.requests == 2
    assert b"quillwort" not in orjson.dumps(receiver.batches)


async def test_a_replay_gives_up_after_its_tries_and_says_where(receiver: Receiver) -> None:
    receiver.answers = [(500, {})] * 4
    with pytest.raises(NotDelivered, match="up to position 3: it answered 500"):
        await deliver(receiver, events(3))
    assert receiver.requests == 4


@pytest.mark.parametrize("status", [400, 401, 302])
async def test_a_refusal_is_not_tried_again_and_no_redirect_is_followed(
    receiver: Receiver, status: int
) -> None:
    receiver.answers = [(status, {"Location": receiver.url})]
    with pytest.raises(NotDelivered, match=f"it answered {status}"):
        await deliver(receiver, events(3))
    assert receiver.requests == 1


async def test_a_receiver_that_is_away_is_told() -> None:
    with receiving() as gone:
        pass
    with pytest.raises(NotDelivered, match="ConnectError"):
        await deliver(gone, events(1))


async def test_a_cut_replay_goes_on_after_its_checkpoint(
    receiver: Receiver, tmp_path: Path
) -> None:
    found = events(3 * BATCH_EVENTS)
    receiver.answers = [(204, {}), (204, {}), (400, {})]
    file = checkpoint(tmp_path, receiver.url)
    assert file.cursor() is None
    with pytest.raises(NotDelivered):
        await deliver(receiver, found, file)
    assert checkpoint(tmp_path, receiver.url).cursor() == named(2 * BATCH_EVENTS)
    await deliver(receiver, found[2 * BATCH_EVENTS :], file)
    assert receiver.ids() == list(range(1, 3 * BATCH_EVENTS + 1))
    assert file.cursor() == named(3 * BATCH_EVENTS)


def checkpoint(folder: Path, url: str, *, selection: str = "all") -> CheckpointFile:
    return CheckpointFile(folder / "checkpoint", url=url, selection=selection)


def test_a_checkpoint_of_another_replay_is_refused(tmp_path: Path) -> None:
    checkpoint(tmp_path, "http://a").reach(named(5))
    assert checkpoint(tmp_path, "http://a").cursor() == named(5)
    for other, said in (
        (checkpoint(tmp_path, "http://b"), "to another URL"),
        (checkpoint(tmp_path, "http://a", selection="some"), "of other events"),
    ):
        with pytest.raises(CheckpointRefused, match=said):
            other.cursor()
    (tmp_path / "checkpoint").write_text("half of")
    with pytest.raises(CheckpointRefused, match="is no checkpoint"):
        checkpoint(tmp_path, "http://a").cursor()


async def test_a_checkpoint_of_an_event_that_the_log_lost_is_refused(
    url: str, tmp_path: Path
) -> None:
    file = checkpoint(tmp_path, "http://a")
    async with logs.running_log(url) as log, await connections.connect(url) as connection:
        assert await file.require_in(connection) is None
        await log.writer.append([logs.event()])
        (first,) = await log.store.range(after=0)
        file.reach(first.cursor)
        assert await file.require_in(connection) == first.cursor
        for lost in (named(1), named(2)):
            file.reach(lost)
            with pytest.raises(CheckpointRefused, match=f"does not have the event {lost}"):
                await file.require_in(connection)


# The pace ----------------------------------------------------------------------------------------


class Clock:
    """A clock that only a sleep moves."""

    def __init__(self) -> None:
        self.now = 100.0

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize(("speed", "due"), [("original", [0, 60, 120]), ("10x", [0, 6, 12])])
async def test_a_replay_keeps_the_pauses_of_the_original(speed: str, due: list[float]) -> None:
    clock = Clock()
    pace = Pace(factor_of(speed), clock=lambda: clock.now, sleep=clock.sleep)
    seen: list[float] = []
    for event in events(3):
        await pace.wait(event.recorded_at)
        seen.append(clock.now - 100)
    assert seen == due
    assert pace.seconds_until(events(1)[0].recorded_at) == 0, "a late event is due at once"


async def test_the_greatest_speed_never_waits() -> None:
    pace = Pace(factor_of("max"))
    assert [pace.seconds_until(event.recorded_at) for event in events(3)] == [0, 0, 0]


@pytest.mark.parametrize("speed", ["", "fast", "0x", "-1x", "10", "x"])
def test_an_unknown_speed_is_refused(speed: str) -> None:
    with pytest.raises(ValueError, match="is no speed"):
        factor_of(speed)


async def test_an_event_is_read_when_it_is_due(url: str) -> None:
    """An erasure while the replay waits takes the text of an event that was not due before."""
    clock = Clock()

    async def erase(seconds: float) -> None:
        if clock.now == 100.0:
            await log.writer.append([logs.event("session-1", 3, kind="SessionDeleted")])
        await clock.sleep(seconds)

    pace = Pace(0.001, clock=lambda: clock.now, sleep=erase)
    has_text: list[list[bool]] = []
    async with (
        logs.running_log(url) as log,
        await connections.connect(url, as_service=False) as owner,
    ):
        for version in (1, 2):
            text = b'{"text":"quillwort"}'
            said = logs.event("session-1", version, kind="UserMessagePosted", state=text)
            await log.writer.append([said])
        for after in (0, 1, 2):
            now = await due(owner, EventFilter(), pace, after=after, upto=2)
            has_text.append([b"quillwort" in each.event.state for each in now])
    assert has_text == [[True], [False], []]
